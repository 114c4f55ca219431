"""Cold processes: `zeuxis --help`, `zeuxis sample` of 16 pictures, and `zeuxis train` on cached data until its first
step.

Seconds depend on what else the machine does, so each is reported beside a process that does nothing else but what
cannot be avoided, in turns: `python -c pass` for --help, `python -c "import torch"` for the others; and beside the
processor time that it took, which on a machine at rest is about the same. "Cold" means a new process; files are in the
page cache after the warm-up turn.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from timing import Turns, report, seconds
from zeuxis.images import picture_of, save_png

PICTURES, SIDE = 4000, 32
ZEUXIS = [sys.executable, "-m", "zeuxis"]
TARGETS = {"zeuxis --help": (0.4, 0.2), "zeuxis sample, 16 pictures": (3.0, 2.0),
           "zeuxis train, cached, until the first step": (5.0, 3.0)}  # fmt: skip


def make_pictures(folder: Path) -> None:
    """Noise in colour: nothing here looks at what is in the pictures."""
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (PICTURES, SIDE, SIDE, 3), dtype=np.uint8)
    for number, picture in enumerate(pixels):
        save_png(picture_of(picture), folder / f"{number:05d}.png")


def processor_seconds() -> float:
    """Time that all processes started here and ended took of all cores."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def quiet(command: list[str], environment: dict[str, str]) -> None:
    """Runs a process to its end; its output is shown only where it fails."""
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}")


def first_step(model: str, data: Path, out: Path, environment: dict[str, str]) -> float:
    """Seconds from the start of a process to the end of its first training step: that writes the only row of
    statistics of a run that is one step long."""
    began = time.time()
    quiet([*ZEUXIS, "train", str(data), "--model", model, "--kimg", "0.001", "--snapshots", "1", "--out", str(out)],
          environment)  # fmt: skip
    (rows,) = out.glob("*/stats.jsonl")
    return rows.stat().st_mtime - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--model", default="gan")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        environment = {**os.environ, "ZEUXIS_CACHE": str(folder / "cache")}
        make_pictures(folder / "pictures")
        first_step(arguments.model, folder / "pictures", folder / "model", environment)  # fills the cache
        (run,) = (folder / "model").glob("0*")
        sample = [*ZEUXIS, "sample", str(run), "--seeds", "0-15", "--out", str(folder / "samples")]
        turn = 0

        def train() -> float:
            nonlocal turn
            turn += 1
            return first_step(arguments.model, folder / "pictures", folder / f"runs-{turn}", environment)

        def process(*command: str) -> Callable[[], float]:
            return lambda: seconds(lambda: quiet(list(command), environment))

        nothing, torch = process(sys.executable, "-c", "pass"), process(sys.executable, "-c", "import torch")
        rows = {
            "zeuxis --help": (process(*ZEUXIS, "--help"), nothing),
            "zeuxis sample, 16 pictures": (process(*sample), torch),
            "zeuxis train, cached, until the first step": (train, torch),
        }
        for name, (ours, reference) in rows.items():
            ours(), reference()  # the warm-up
            pairs, busy = [], []
            for _ in range(arguments.turns):
                before = processor_seconds()
                own = ours()
                busy.append(processor_seconds() - before)
                pairs.append((own, reference()))
            times = Turns([own for own, _ in pairs], [other for _, other in pairs])
            own, other = times.seconds
            least, stretch = TARGETS[name]
            report(
                name, seconds=round(own, 3), seconds_range=[round(min(times.ours), 3), round(max(times.ours), 3)],
                reference="python -c pass" if reference is nothing else 'python -c "import torch"',
                reference_seconds=round(other, 3), turns=len(pairs),
                processor_seconds=round(statistics.median(busy), 3),
                above_reference_seconds=round(statistics.median(a - b for a, b in pairs), 3),
                at_most_seconds=least, stretch_seconds=stretch,
            )  # fmt: skip


if __name__ == "__main__":
    main()
