"""Scan and cache of PNG files against a single-process Pillow loop that decodes the same files into one
array.

The loop only decodes. Zeuxis also hashes every file, checks it, finds copies and look-alikes, reports, cuts
the held-out split and writes the memory-mapped cache. Both read from the page cache, in turns; the medians
are compared.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from timing import report, seconds
from zeuxis.data import open_dataset

PER_FOLDER = 1000


def make_pictures(folder: Path, count: int, side: int) -> None:
    """Smooth colour fields with a little noise: they compress about as photographs do."""
    rng = np.random.default_rng(0)
    for index in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC)).astype(np.int16)
        noisy = (smooth + rng.integers(-4, 5, smooth.shape)).clip(0, 255).astype(np.uint8)
        place = folder / f"{index // PER_FOLDER:05d}"
        place.mkdir(exist_ok=True)
        Image.fromarray(noisy).save(place / f"{index:07d}.png")


def pillow_loop(folder: Path, count: int, side: int) -> np.ndarray:
    """The peer: what one writes without thinking about it."""
    pixels = np.empty((count, side, side, 3), np.uint8)
    for index, path in enumerate(sorted(folder.rglob("*.png"))):
        with Image.open(path) as picture:
            pixels[index] = np.asarray(picture.convert("RGB"))
    return pixels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=50_000)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--turns", type=int, default=5)
    arguments = parser.parse_args()
    count, side = arguments.count, arguments.side
    times: dict[str, list[float]] = {"loop": [], "zeuxis": [], "again": []}
    with tempfile.TemporaryDirectory() as temporary:
        pictures, cache = Path(temporary) / "pictures", Path(temporary) / "cache"
        pictures.mkdir()
        make_pictures(pictures, count, side)

        def ours() -> None:
            assert len(open_dataset(pictures, cache_dir=cache)) == count

        for turn in range(arguments.turns + 1):  # the first turn of both is the warm-up
            shutil.rmtree(cache, ignore_errors=True)
            taken = seconds(lambda: pillow_loop(pictures, count, side)), seconds(ours), seconds(ours)
            if turn:
                for name, value in zip(times, taken, strict=True):
                    times[name].append(value)
    loop, zeuxis, again = (statistics.median(values) for values in times.values())
    report(
        "scan_and_cache",
        pictures=count,
        side=side,
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        turns=arguments.turns,
        loop_seconds=round(loop, 3),
        zeuxis_seconds=round(zeuxis, 3),
        second_start_seconds=round(again, 3),
        ratio=round(loop / zeuxis, 3),
        ratios=[round(a / b, 3) for a, b in zip(times["loop"], times["zeuxis"], strict=True)],
    )


if __name__ == "__main__":
    main()
