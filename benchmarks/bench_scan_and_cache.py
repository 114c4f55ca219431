"""Scan and cache of PNG files against a single-process Pillow loop that decodes the same files into one
array.

The loop only decodes. Zeuxis also hashes every file, checks it, finds copies and look-alikes, reports, cuts
the held-out split and writes the memory-mapped cache. Both read from the page cache, in turns, with one turn
to warm up; the median of the ratios is what counts. A short look: `--count 5000 --turns 3`.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from timing import Turns, report, seconds
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
    again: list[float] = []
    with tempfile.TemporaryDirectory() as temporary:
        pictures, cache = Path(temporary) / "pictures", Path(temporary) / "cache"
        pictures.mkdir()
        make_pictures(pictures, count, side)

        def start() -> None:
            assert len(open_dataset(pictures, cache_dir=cache)) == count

        pairs = []
        for _ in range(arguments.turns + 1):
            shutil.rmtree(cache, ignore_errors=True)
            peer = seconds(lambda: pillow_loop(pictures, count, side))
            pairs.append((seconds(start), peer))
            again.append(seconds(start))
    turns = Turns([own for own, _ in pairs[1:]], [other for _, other in pairs[1:]])  # the first was the warm-up
    own, other = turns.seconds
    report(
        f"scan and cache of {count:,} PNGs {side}x{side} against a single-process Pillow loop", **turns.to_json(),
        ours_seconds=round(own, 2), peer_seconds=round(other, 2),
        second_start_seconds=round(statistics.median(again[1:]), 3),
    )  # fmt: skip


if __name__ == "__main__":
    main()
