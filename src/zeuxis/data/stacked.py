"""Pictures that come as arrays, brought to the shape of the cache and described like files."""

from __future__ import annotations

import hashlib
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from zeuxis.data.looks import describe, is_grey
from zeuxis.data.records import Flag, Records, empty_records
from zeuxis.images import MODES, fit_to, from_picture, picture_of


def stacked_result(
    block: NDArray[np.uint8], shape: tuple[int, int, int], fit: Literal["crop", "pad", "stretch"]
) -> tuple[NDArray[np.uint8], Records]:
    """uint8 `[n, H, W, C]` -> uint8 `[n, *shape]` with `shape` = (C, H, W), and a record of each."""
    records = empty_records(len(block))
    block = np.ascontiguousarray(block)
    for index, picture in enumerate(block):
        digest = hashlib.blake2b(memoryview(picture).cast("B"), digest_size=16).digest()
        records["digest"][index] = np.frombuffer(digest, "<u8")
    height, width, channels = block.shape[1:]
    records["height"], records["width"], records["bytes"] = height, width, block[0].size if len(block) else 0
    records["flags"] = np.uint16(Flag.OK)
    if channels == 4:
        records["flags"] |= np.uint16(Flag.ALPHA)
        records["flags"][block[..., 3].min((1, 2)) < 255] |= np.uint16(Flag.TRANSPARENT)
    if shape[0] == 1:
        records["flags"][is_grey(block.transpose(0, 3, 1, 2))] |= np.uint16(Flag.GREY)
    if (channels, height, width) == shape:
        pixels = np.ascontiguousarray(block.transpose(0, 3, 1, 2))
    else:
        pixels = np.stack([_bring(picture, shape, fit) for picture in block])
    describe(pixels, records)
    return pixels, records


def _bring(
    picture: NDArray[np.uint8], shape: tuple[int, int, int], fit: Literal["crop", "pad", "stretch"]
) -> NDArray[np.uint8]:
    channels, height, width = shape
    made = fit_to(from_picture(picture_of(picture), channels), height, width, fit)
    assert made.mode == MODES[channels]
    return np.frombuffer(made.tobytes(), np.uint8).reshape(height, width, channels).transpose(2, 0, 1)
