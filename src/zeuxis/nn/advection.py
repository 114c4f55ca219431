"""Pictures moved by distributions over shifts, one per patch and axis: adaptive separable convolution (Niklaus et al.
2017, arXiv 1708.01692, section 3)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def advect(x: Tensor, down: Tensor, across: Tensor, patch: int, wrap: tuple[bool, bool]) -> Tensor:
    """`[N, C, H, W]` -> the same, first along y, then along x: out(p) = sum_t weight_t x(p + t - (T - 1) / 2).

    `down` and `across` are `[N, T, H / patch, W / patch]`, T odd, and sum to 1 over T. Past an edge are zeros, or on
    a wrapped axis the other side's pixels.
    """
    reach = down.shape[1] // 2
    for dim, weights in ((2, down), (3, across)):
        amounts = [0, 0, reach, reach] if dim == 2 else [reach, reach, 0, 0]
        padded = F.pad(x, amounts, mode="circular" if wrap[3 - dim] else "constant")
        wide = weights[:, :, None, :, None, :, None].expand(*[-1] * 6, patch).flatten(5)  # [N, T, 1, h, 1, W]
        x = _Slide.apply(padded, wide, dim, patch)
    return x


class _Slide(torch.autograd.Function):
    """One axis of `advect`. Every shift is read in place: unfolding them first takes three times as long."""

    @staticmethod
    def forward(ctx: Any, padded: Tensor, weights: Tensor, dim: int, patch: int) -> Tensor:
        ctx.save_for_backward(padded, weights)
        ctx.dim, ctx.patch = dim, patch
        views = _views(padded, weights.shape[1], dim, patch)
        out = weights[:, 0] * views[0]
        for tap, view in enumerate(views[1:], 1):
            out.addcmul_(weights[:, tap], view)
        return out.flatten(2, 3)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        padded, weights = ctx.saved_tensors
        of_padded, of_weights = torch.zeros_like(padded), torch.empty_like(weights)
        grad = grad.unflatten(2, (-1, ctx.patch))
        views = _views(padded, weights.shape[1], ctx.dim, ctx.patch)
        targets = _views(of_padded, weights.shape[1], ctx.dim, ctx.patch)
        for tap, (view, target) in enumerate(zip(views, targets, strict=True)):
            target.addcmul_(weights[:, tap], grad)
            torch.sum(grad * view, (1, 3), keepdim=True, out=of_weights[:, tap])
        return of_padded, of_weights, None, None


def _views(padded: Tensor, taps: int, dim: int, patch: int) -> list[Tensor]:
    """The picture at each shift, views `[N, C, h, patch, W]`."""
    length = padded.shape[dim] - taps + 1
    return [padded.narrow(dim, tap, length).unflatten(2, (-1, patch)) for tap in range(taps)]
