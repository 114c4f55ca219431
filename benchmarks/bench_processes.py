"""Two processes on two cores against one process with two threads: training images per second of `zeuxis train`.

Both sides are `zeuxis train` on cached pictures, in turns, of the same global batch and as many images, both in float32
with plain kernels, so that they compute the same. The rate is of the steps alone, without start and snapshots. A ratio
of 1 means that the sums over processes cost nothing; wanted is 0.85.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from timing import Turns, report
from zeuxis.files import read_json_lines

# Models, and images in thousands that take about ten seconds.
MODELS = {"gan": 16.0, "dcgan/radford": 12.0, "vae/conv": 32.0}


def seconds_per_image(data: str, model: str, kimg: float, processes: int, extra: list[str]) -> float:
    """Of the steps between a quarter of the run and its end."""
    with tempfile.TemporaryDirectory() as temporary:
        command = [sys.executable, "-m", "zeuxis", "train", data, "--model", model, "--kimg", str(kimg)]
        command += ["--precision", "float32", "--kernels", "plain", "--snapshots", "1", "--out", temporary]
        command += ["--processes", str(processes), *extra]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}")
        (run,) = Path(temporary).iterdir()
        rows = [row for row in read_json_lines(run / "stats.jsonl") if 0.25 < row.get("progress", 0.0) < 0.99]
        first, last = rows[0], rows[-1]
    return (last["seconds"] - first["seconds"]) / (last["images_seen"] - first["images_seen"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--models", nargs="*", default=list(MODELS))
    parser.add_argument("--kimg", type=float, help="a length of each run, where the usual one is too short or long")
    parser.add_argument("--extra", nargs=argparse.REMAINDER, default=[], help="more options for `zeuxis train`")
    asked = parser.parse_args()
    for model in asked.models:
        kimg = asked.kimg or MODELS.get(model, 30.0)
        pairs = []
        for _ in range(asked.turns):
            sides = (asked.processes, 1)
            pairs.append([seconds_per_image(asked.data, model, kimg, count, asked.extra) for count in sides])
        turns = Turns([own for own, _ in pairs], [other for _, other in pairs])
        own, other = turns.seconds
        report(
            f"{asked.processes} processes against one, {model}, {asked.data}", **turns.to_json(), wanted_ratio=0.85,
            images_per_second=round(1 / own), images_per_second_of_one=round(1 / other),
        )  # fmt: skip


if __name__ == "__main__":
    main()
