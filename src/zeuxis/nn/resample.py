"""Doubling and halving with binomial filters, the same on wrapped axes as on an endless picture.

With 3 taps, [1, 2, 1], pixel i of the coarse grid lies on pixel 2i of the fine one; with 4, [1, 3, 3, 1], between 2i
and 2i + 1. `upsample` is the transpose of `downsample`, times 4. Beyond an edge that does not wrap everything is zero,
as with zero-padded convolutions.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from zeuxis.nn.conv import wrap_pad
from zeuxis.recording import constant

Wrap = tuple[bool, bool]  # along x, along y
Taps = Literal[3, 4]
LINES = {3: (0.25, 0.5, 0.25), 4: (0.125, 0.375, 0.375, 0.125)}


def binomial(x: Tensor, taps: Taps = 3) -> Tensor:
    """The filter `[C, 1, taps, taps]` for each channel of `x`; its sum is 1."""
    line = constant(LINES[taps], x.device).to(x.dtype)
    return torch.outer(line, line).expand(x.shape[1], 1, taps, taps)


def upsample(x: Tensor, wrap: Wrap = (False, False), taps: Taps = 3) -> Tensor:
    """`[N, C, H, W]` -> `[N, C, 2H, 2W]`; with 3 taps pixel 2i is pixel i, pixel 2i + 1 the mean of i and i + 1."""
    height, width = x.shape[2] * 2, x.shape[3] * 2
    if any(wrap):  # one ring of the coarse grid is two rings of the fine one
        x = wrap_pad(x, 1, *wrap)
    y = F.conv_transpose2d(x, binomial(x, taps) * 4, None, 2, 1, 4 - taps, x.shape[1])
    return y[:, :, 2 : 2 + height, 2 : 2 + width] if any(wrap) else y


def downsample(x: Tensor, wrap: Wrap = (False, False), taps: Taps = 3) -> Tensor:
    """`[N, C, H, W]` with even sides -> `[N, C, H/2, W/2]`: the filter at every second pixel."""
    if any(wrap):
        return F.conv2d(wrap_pad(x, 1, *wrap), binomial(x, taps), None, 2, 0, 1, x.shape[1])
    return F.conv2d(x, binomial(x, taps), None, 2, 1, 1, x.shape[1])


def blur(x: Tensor, wrap: Wrap = (False, False)) -> Tensor:
    """`[N, C, H, W]` -> the same by [1, 2, 1] both ways: what alternates from pixel to pixel is gone."""
    if any(wrap):
        return F.conv2d(wrap_pad(x, 1, *wrap), binomial(x), None, 1, 0, 1, x.shape[1])
    return F.conv2d(x, binomial(x), None, 1, 1, 1, x.shape[1])


def space_to_depth(x: Tensor, patch: int) -> Tensor:
    """`[N, C, H, W]` -> `[N, patch * patch * C, H / patch, W / patch]`: each patch becomes one pixel."""
    count, channels, height, width = x.shape
    patches = x.reshape(count, channels, height // patch, patch, width // patch, patch)
    return patches.permute(0, 2, 4, 3, 5, 1).flatten(3).permute(0, 3, 1, 2)


def depth_to_space(x: Tensor, patch: int) -> Tensor:
    """The inverse of `space_to_depth`; channels come last in memory, which costs what follows half as much."""
    count, channels, height, width = x.shape
    patches = x.permute(0, 2, 3, 1).reshape(count, height, width, patch, patch, channels // patch**2)
    pixels = patches.permute(0, 1, 3, 2, 4, 5).reshape(count, height * patch, width * patch, -1)
    return pixels.permute(0, 3, 1, 2)
