"""What `zeuxis plan` predicts against what then happens, for ten presets: speed, memory, finish.

Each preset is measured anew (`--fresh`) and then trained for as long as the plan says that `--seconds` take, one after
the other, so both meet the same machine. `within` says whether speed, peak memory and finish are each within 15%.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench_memory import anonymous
from timing import report
from zeuxis.files import read_json_lines

PRESETS = ("gan/dcgan/small", "gan/dcgan/radford", "gan/mlp/article", "vae/conv/small", "vae/mlp/article",
           "gan/resnet", "gan/r3gan", "vae/ladder", "autoregressive/pixelcnn", "gan/stylegan2")  # fmt: skip
MOST = 0.15


def plan(data: str, model: str, *more: str) -> dict[str, Any]:
    """The row of the preset that `model` stands for first."""
    command = [sys.executable, "-m", "zeuxis", "plan", data, "--model", model, "--json", "--snapshots", "2", *more]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    row: dict[str, Any] = json.loads(done.stdout)["presets"][0]
    return row


def train(data: str, model: str, kimg: float) -> tuple[float, float, int]:
    """Images per second of the steps, seconds from start to exit, and the largest anonymous memory in bytes."""
    with tempfile.TemporaryDirectory() as temporary:
        command = [sys.executable, "-m", "zeuxis", "train", data, "--model", model, "--kimg", str(kimg), "--snapshots",
                   "2", "--out", temporary]  # fmt: skip
        started, peak = time.monotonic(), 0
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            while process.poll() is None:
                peak = max(peak, anonymous(process.pid) * 1024)
                time.sleep(0.02)
        seconds = time.monotonic() - started
        if process.returncode:
            sys.exit(f"{' '.join(command)} ended with {process.returncode}")
        (run,) = Path(temporary).iterdir()
        rows = [row for row in read_json_lines(run / "stats.jsonl") if "progress" in row]
        # Between the snapshot in the middle and the one at the end, and before it: no pause lies within.
        half = [row for row in rows if 0.55 < row["progress"] < 0.98]
        rate = (half[-1]["images_seen"] - half[0]["images_seen"]) / (half[-1]["seconds"] - half[0]["seconds"])
    return rate, seconds, peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each training")
    parser.add_argument("presets", nargs="*", default=PRESETS)
    asked = parser.parse_args()
    good = 0
    for model in asked.presets:
        row = plan(asked.data, model, "--fresh")
        if row["problem"]:
            print(f"{model}: {row['problem']}", file=sys.stderr)
            continue
        kimg = max(1.0, round(row["images_per_second"] * asked.seconds / 1000, 1))
        row = plan(asked.data, model, "--kimg", str(kimg))  # what was measured is remembered
        rate, seconds, peak = train(asked.data, model, kimg)
        found = {"speed": rate / row["images_per_second"], "finish": seconds / row["seconds"],
                 "memory": peak / row["peak_bytes"]}  # fmt: skip
        within = {key: abs(value - 1) <= MOST for key, value in found.items()}
        good += all(within.values())
        report(
            f"plan of {row['model']}", predicted_images_per_second=round(row["images_per_second"], 1),
            images_per_second=round(rate, 1), predicted_seconds=round(row["seconds"], 1), seconds=round(seconds, 1),
            predicted_mb=round(row["peak_bytes"] / 1e6), mb=round(peak / 1e6),
            **{f"{key}_ratio": round(value, 3) for key, value in found.items()}, within=all(within.values()),
        )  # fmt: skip
    report("plans within 15% in speed, memory and finish", presets=len(asked.presets), good=good)


if __name__ == "__main__":
    main()
