"""What `auto` means: the resolution and channels at which pictures of these sizes and colours are read."""

from __future__ import annotations

import math

import numpy as np

from zeuxis.config import MAX_SIDE, DataOptions
from zeuxis.data.records import Flag, Records, has

MIN_POWER, MAX_POWER = 32, 256  # sides chosen for mixed sizes are powers of two in this range
SAME_ASPECT = 0.02
TRANSPARENT_SHARE = 0.05

Shape = tuple[int, int, int]


def decide(records: Records, options: DataOptions) -> tuple[Shape, str]:
    """((C, H, W), the reason in words) for the records of the good pictures, at least one."""
    (height, width), size_reason = _size(records, options)
    channels, colour_reason = _channels(records, options)
    return (channels, height, width), f"{size_reason}; {colour_reason}"


def _size(records: Records, options: DataOptions) -> tuple[tuple[int, int], str]:
    if options.resolution != "auto":
        return options.resolution, "resolution as asked"
    widths, heights = records["width"].astype(np.int64), records["height"].astype(np.int64)
    width, height = int(np.median(widths)), int(np.median(heights))
    if (widths == width).all() and (heights == height).all():
        sides = _of_four(height), _of_four(width)
        if sides == (height, width):
            return sides, f"all pictures are {width}x{height}"
        return sides, f"all pictures are {width}x{height}, brought to multiples of 4"
    short = _power(int(np.median(np.minimum(widths, heights))))
    aspects = np.log(widths / heights)
    aspect = float(np.exp(np.median(aspects)))
    if np.abs(aspects - math.log(aspect)).max() > SAME_ASPECT:
        return (short, short), f"sizes differ, median {width}x{height}"
    # One aspect throughout: the longer side follows it.
    long = _of_four(round(short * max(aspect, 1 / aspect) / 4) * 4)
    sides = (short, long) if aspect >= 1 else (long, short)
    return sides, f"sizes differ in one aspect, median {width}x{height}"


def _channels(records: Records, options: DataOptions) -> tuple[int, str]:
    if options.channels != "auto":
        return options.channels, "channels as asked"
    transparent = float(has(records, Flag.TRANSPARENT).mean())
    if transparent >= TRANSPARENT_SHARE:
        return 4, f"{transparent:.0%} have transparency"
    if has(records, Flag.GREY).all():
        return 1, "all are grey"
    return (
        3,
        "in colour" if transparent == 0 else f"in colour, {transparent:.1%} with transparency over white",
    )


def _of_four(side: int) -> int:
    return min(MAX_SIDE, max(4, side // 4 * 4))


def _power(side: int) -> int:
    """The largest power of two in range that is not above `side`; a multiple of 4 below that range."""
    if side < MIN_POWER:
        return _of_four(side)
    return int(min(MAX_POWER, 2 ** (side.bit_length() - 1)))
