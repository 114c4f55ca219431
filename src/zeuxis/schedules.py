"""What changes with the progress of a run: of a number, or of a scalar tensor on the device where a step is recorded,
to be replayed with another progress each time."""

from __future__ import annotations

import math
from typing import overload

import torch
from torch import Tensor


@overload
def cosine(start: float, end: float, progress: float) -> float: ...
@overload
def cosine(start: float, end: float, progress: float | Tensor) -> float | Tensor: ...
def cosine(start: float, end: float, progress: float | Tensor) -> float | Tensor:
    """From `start` to `end` along half a cosine as `progress` goes from 0 to 1."""
    turned = torch.cos(math.pi * progress) if isinstance(progress, Tensor) else math.cos(math.pi * progress)
    return end + (start - end) * 0.5 * (1 + turned)


@overload
def ramp(progress: float, share: float) -> float: ...
@overload
def ramp(progress: float | Tensor, share: float) -> float | Tensor: ...
def ramp(progress: float | Tensor, share: float) -> float | Tensor:
    """From 0 to 1 in a straight line over the first `share` of the run, then 1; always 1 where `share` is 0."""
    if not share:
        return 1.0
    return (progress / share).clamp(max=1.0) if isinstance(progress, Tensor) else min(1.0, progress / share)
