"""The last steps of a generator: values in [-1, 1] that it can come back from, and colour under its alpha."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

BACK = 0.1  # the least slope on the way back


class _Bound(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = torch.tanh(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        slope = 1 - y.square()
        # Descent moves x against the gradient: the same sign as y means towards 0.
        return gradient * torch.where(y * gradient > 0, slope.clamp_min(BACK), slope)


def bounded(x: Tensor) -> Tensor:
    """tanh(x) of any shape, whose gradient is that of tanh for steps away from 0 and at least a tenth for steps back.

    Where most of the data is one of the ends (black or transparent), tanh lets a generator run so far into it that no
    gradient returns: wide networks then gave black pictures for a tenth of a training. Without any tanh, a
    discriminator tells pictures by an end that is never hit exactly.
    """
    if not (torch.is_grad_enabled() and x.requires_grad):
        return torch.tanh(x)
    y: Tensor = _Bound.apply(x)
    return y


def premultiplied(x: Tensor) -> Tensor:
    """Colour and alpha `[N, 4, H, W]` in [-1, 1] -> the same with the colour multiplied by alpha; others unchanged.

    A generator that makes the product itself lets it fall before alpha does: sprites had dark outlines on white.
    """
    if x.shape[1] != 4:
        return x
    colour, alpha = x.split([3, 1], dim=1)
    return torch.cat([(colour + 1) * (alpha + 1) / 2 - 1, alpha], dim=1)
