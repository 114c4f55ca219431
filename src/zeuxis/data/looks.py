"""What pictures look like in a few bytes: a difference hash, mean colours, whether they are grey. Whole
blocks at once."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from zeuxis.data.records import Flag, Records

HASH_SIDE = 8
GREY_TOLERANCE = 2  # levels by which the channels of a grey JPEG may differ


def describe(pixels: NDArray[np.uint8], records: Records) -> None:
    """Fills `look`, `mean` and, for colour, `GREY` of the records of uint8 `[N, C, H, W]` pictures with
    straight alpha."""
    channels, height, width = pixels.shape[1:]
    values = pixels[:, min(channels - 1, 1)].astype(np.float32)  # green is most of the luminance and needs no sum
    if channels == 4:
        values *= pixels[:, 3].astype(np.float32) / 255
    rows, columns = bins(height, HASH_SIDE), bins(width, HASH_SIDE + 1)
    small = rows @ (values.reshape(-1, width) @ columns.T).reshape(len(pixels), height, HASH_SIDE + 1)  # [N, 8, 9]
    bits = small[:, :, 1:] - small[:, :, :-1] > 1.0  # a level of difference, or noise would decide in flat areas
    records["look"] = np.packbits(bits.reshape(len(pixels), -1), axis=1).view("<u8")[:, 0]
    sparse = pixels[:, :, :: max(1, height // 16), :]
    means = sparse.sum((2, 3), dtype=np.uint32) // max(1, sparse.shape[2] * width)
    records["mean"][:, :3] = means[:, :3]
    records["mean"][:, 3] = means[:, 3] if channels == 4 else 255
    if channels > 1:
        grey = np.flatnonzero(is_grey(pixels[:, :, :: max(1, height // 8)]))  # most colour is found in a few rows
        grey = grey[is_grey(pixels[grey])]
        records["flags"][grey] |= np.uint16(Flag.GREY)


def is_grey(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which of uint8 `[N, C, H, W]` pictures have no visible colour, bool `[N]`."""
    if pixels.shape[1] == 1:
        return np.ones(len(pixels), bool)
    high, low = pixels[:, :3].max(1), pixels[:, :3].min(1)
    spread = high - low > GREY_TOLERANCE
    if pixels.shape[1] == 4:
        spread &= pixels[:, 3] > 0
    return ~spread.any((1, 2))


@lru_cache(maxsize=64)
def bins(length: int, count: int) -> NDArray[np.float32]:
    """`[count, length]` weights that average `length` values into `count` equal, possibly fractional,
    bins."""
    edges = np.linspace(0, length, count + 1)
    position = np.arange(length)
    overlap = np.minimum(edges[1:, None], position + 1) - np.maximum(edges[:-1, None], position)
    weights = np.clip(overlap, 0, None)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)
