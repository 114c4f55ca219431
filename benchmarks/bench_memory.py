"""Anonymous memory while `dcgan` trains over a whole epoch of 1,000,000 cached pictures 32x32, against 10,000 pictures.

Each training is a process of its own on a set that an earlier process has cached; what is compared is the largest
`RssAnon` that Linux saw it have (pages that are not backed by a file: what a memory map of the cache cannot explain).
The networks are the smallest that dcgan has, so that an epoch of a million takes minutes; what grows with the number
of pictures does not depend on them.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from timing import report

SIDE, BATCH, LIMIT_MB = 32, 500, 300
SETTINGS = ["network.width=4", "network.max_width=4", "network.latent=4", "objective.loss=non-saturating",
            "objective.gamma=0", "objective.gamma_end=0"]  # fmt: skip


def make_pictures(path: Path, count: int) -> None:
    """Noise, uint8 `[count, 32, 32]`, written block by block."""
    rng = np.random.default_rng(0)
    with open(path, "wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (count, SIDE, SIDE)}
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, count, 10_000):
            file.write(rng.integers(0, 256, (min(10_000, count - start), SIDE, SIDE), dtype=np.uint8).tobytes())


def peak_of(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Runs a process to its end: its largest RssAnon in MB, looked at every 20 ms, and its seconds."""
    started, peak = time.perf_counter(), 0
    with tempfile.TemporaryFile("w+") as output:
        with subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT) as process:
            while process.poll() is None:
                peak = max(peak, anonymous(process.pid))
                time.sleep(0.02)
        if process.returncode:
            output.seek(0)
            sys.exit(f"{' '.join(command)} ended with {process.returncode}:\n{output.read()}")
    return peak / 1000, time.perf_counter() - started


def anonymous(pid: int) -> int:
    """RssAnon of a process in kB; 0 where it has just ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=1_000_000)
    parser.add_argument("--few", type=int, default=10_000)
    arguments = parser.parse_args()
    if not Path("/proc/self/status").exists():
        sys.exit("bench_memory: RssAnon is read from /proc, which only Linux has")
    peaks: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        environment = {**os.environ, "ZEUXIS_CACHE": str(folder / "cache")}
        for count in (arguments.few, arguments.pictures):
            data = folder / f"{count}.npy"
            make_pictures(data, count)
            zeuxis = [sys.executable, "-m", "zeuxis"]
            scan, _ = peak_of([*zeuxis, "data", "check", str(data)], environment)
            settings = [word for setting in SETTINGS for word in ("--set", setting)]
            train, seconds = peak_of(
                [*zeuxis, "train", str(data), "--model", "dcgan/tiny", "--batch", str(BATCH), "--kimg",
                 str(count / 1000), "--snapshots", "2", "--out", str(folder / "runs"), *settings], environment,
            )  # fmt: skip
            peaks.append((scan, train))
            report(f"anonymous memory, {count} pictures 32x32", scan_mb=round(scan), training_mb=round(train),
                   training_seconds=round(seconds, 1), images_shown=count, batch=BATCH)  # fmt: skip
            data.unlink()
    (few_scan, few_train), (many_scan, many_train) = peaks
    report(
        f"anonymous memory, dcgan, an epoch of {arguments.pictures} cached pictures 32x32 against {arguments.few}",
        more_mb=round(many_train - few_train), at_most_mb=LIMIT_MB, more_mb_scan=round(many_scan - few_scan),
    )  # fmt: skip


if __name__ == "__main__":
    main()
