"""What networks over frames share: frames as patches, and what they are given at each step."""

from __future__ import annotations

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zeuxis.config import ImageSpec
from zeuxis.nn.advection import advect

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


class Blend(nn.Module):
    """Hidden states `[N, width, h, w]` and the given patches -> the next ones: new values, and a mask that says where
    the given ones stay (Finn et al. 2016, arXiv 1605.07157, section 4): what stands still need not be remembered."""

    STAY = 1.0  # of the mask's logit at first: most of it stays

    def __init__(self, width: int, spec: ImageSpec) -> None:
        super().__init__()
        self.planes = planes(spec)
        self.to_patches = nn.Conv2d(width, 2 * self.planes, 1)
        assert self.to_patches.bias is not None
        with torch.no_grad():
            self.to_patches.bias[self.planes :] = self.STAY

    def forward(self, hidden: Tensor, given: Tensor) -> Tensor:
        """Float32 `[N, P, h, w]`."""
        new, mask = self.to_patches(hidden).float().split(self.planes, dim=1)
        mask = torch.sigmoid(mask)
        return mask * given.float() + (1 - mask) * new


class Moves(nn.Module):
    """As `Blend`, with more to choose from at every pixel: the given frame as it is, new values, and the given frame
    moved in `moves` ways. A way is a distribution over shifts of up to `REACH` pixels for each patch: dynamic neural
    advection (Finn et al. 2016, arXiv 1605.07157, section 3.1) by separable kernels. What moves keeps its edges and
    need not be remembered."""

    REACH = 4

    def __init__(self, width: int, spec: ImageSpec, moves: int) -> None:
        super().__init__()
        self.moves, self.planes, self.wrap = moves, planes(spec), (spec.wrap_x, spec.wrap_y)
        self.to_patches = nn.Conv2d(width, (moves + 3) * self.planes, 1)
        self.to_kernels = nn.Conv2d(width, self.logits(moves), 1)

    @classmethod
    def logits(cls, moves: int) -> int:
        """How many numbers say where `moves` ways go: one for each pixel down and across."""
        return 2 * moves * (2 * cls.REACH + 1)

    def forward(self, hidden: Tensor, given: Tensor, way: Tensor | None = None) -> Tensor:
        """Float32 `[N, P, h, w]`; `way` `[N, logits]` is added everywhere to what hidden states say of the moves."""
        given = given.float()
        new, masks = self.to_patches(hidden).float().split([self.planes, (self.moves + 2) * self.planes], dim=1)
        masks = masks.unflatten(1, (self.moves + 2, self.planes)).softmax(1)
        sources = torch.cat([given[:, None], new[:, None], self.moved(hidden, given, way)], dim=1)
        return (masks * sources).sum(1)

    def moved(self, hidden: Tensor, given: Tensor, way: Tensor | None = None) -> Tensor:
        """`[N, moves, P, h, w]`."""
        logits = self.to_kernels(hidden).float()
        if way is not None:
            logits = logits + way.float()[:, :, None, None]
        kernels = logits.unflatten(1, (2, self.moves, -1)).softmax(3)  # [N, 2, moves, taps, h, w]
        down, across = kernels.transpose(0, 1).flatten(1, 2)  # each [N moves, taps, h, w]
        frames = to_frames(given).repeat_interleave(self.moves, dim=0)
        return to_patches(advect(frames, down, across, PATCH, self.wrap)).unflatten(0, (-1, self.moves))


def next_frame(width: int, spec: ImageSpec, moves: int) -> nn.Module:
    """What makes the next frame of hidden states and the given one."""
    return Moves(width, spec, moves) if moves else Blend(width, spec)
