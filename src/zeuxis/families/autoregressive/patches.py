"""What networks over frames share: frames as patches, and what they are given at each step."""

from __future__ import annotations

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from zeuxis.config import ImageSpec

PATCH = 4  # every side is a multiple of it: convolutions see a sixteenth of the places, each with 16 times the channels

Memory = list[tuple[Tensor, Tensor]]


class FrameNetwork(Protocol):
    """What a deterministic network over frames is: one step from a frame to the next. All frames are patches."""

    def __call__(self, patches: Tensor, memory: Any, labels: Tensor | None) -> tuple[Tensor, Any]:
        """Patches of a frame `[N, 16 C, h, w]` and what is remembered of those before (None at first) -> patches of the
        next frame and what is remembered now."""


def to_patches(frames: Tensor) -> Tensor:
    """`[..., C, H, W]` -> `[..., 16 C, H / 4, W / 4]`; `to_frames` is the inverse."""
    return F.pixel_unshuffle(frames, PATCH)


def to_frames(patches: Tensor) -> Tensor:
    """`[..., 16 C, h, w]` -> `[..., C, 4 h, 4 w]`."""
    return F.pixel_shuffle(patches, PATCH)


def planes(spec: ImageSpec) -> int:
    """Channels of the patches of a frame."""
    return spec.channels * PATCH**2


def grid_of(spec: ImageSpec) -> tuple[int, int]:
    """Patches down and across a frame."""
    return spec.height // PATCH, spec.width // PATCH


def feed(true: Tensor, predicted: Tensor, use: Tensor) -> Tensor:
    """Patches fed to the next step: the `true` ones where `use` `[N]`, else the `predicted`, kept in range."""
    return torch.where(use[:, None, None, None], true, predicted.clamp(-1, 1).to(true.dtype))
