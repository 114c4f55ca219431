"""The recurrence h_t = a_t h_(t-1) + b_t over a whole sequence without a step of Python for every t."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function


def scan(a: Tensor, b: Tensor) -> Tensor:
    """All h_t `[N, T, D]` of h_t = a_t * h_(t-1) + b_t with h_0 = b_0, elementwise; a and b `[N, T, D]`.

    The sequence is cut into about sqrt(T) pieces: all pieces go side by side through their own steps, then the end of
    each is carried into the next (the two-level form of the parallel prefix sum; Blelloch 1990; for this recurrence
    Martin & Cundy 2018, arXiv 1709.04057). No logarithm and no division, so any a will do.
    """
    out: Tensor = _Scan.apply(a, b)
    return out


def scan_by_steps(a: Tensor, b: Tensor) -> Tensor:
    """The same by a step of Python for every t: what `scan` is tested and timed against."""
    states: list[Tensor] = []
    for at, bt in zip(a.unbind(1), b.unbind(1), strict=True):
        states.append(at * states[-1] + bt if states else bt)
    return torch.stack(states, dim=1)


class _Scan(Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        states = _pieces(a, b)
        ctx.save_for_backward(a, states)
        return states

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """With g_t the gradient of h_t alone, the whole one is G_t = g_t + a_(t+1) G_(t+1): the same recurrence from
        the end."""
        a, states = ctx.saved_tensors
        of_b = _pieces(a, gradient, backwards=True)
        of_a = torch.empty_like(a)
        torch.mul(of_b[:, 1:], states[:, :-1], out=of_a[:, 1:])
        of_a[:, 0].zero_()
        return of_a, of_b


def _pieces(a: Tensor, b: Tensor, backwards: bool = False) -> Tensor:
    """The recurrence from the start, or (with a one step later) from the end. Every pass of memory counts: first the
    decay and the end of each piece from zero, kept in the cache; then, from the true starts, the states."""
    count, length, width = b.shape
    step = max(1, math.isqrt(length))
    whole = -(-length // step) * step
    shift = int(backwards)
    a, b = _padded(a, whole + shift)[:, shift:], _padded(b, whole)
    a, b = a.unflatten(1, (-1, step)), b.unflatten(1, (-1, step))  # [N, pieces, step, D]
    order = range(step - 1, -1, -1) if backwards else range(step)
    ends, decays = b[:, :, order[0]].clone(), a[:, :, order[0]].clone()
    for t in order[1:]:
        torch.addcmul(b[:, :, t], a[:, :, t], ends, out=ends)
        decays.mul_(a[:, :, t])
    pieces = range(ends.shape[1])
    starts = torch.empty_like(ends)
    carried = torch.zeros_like(ends[:, 0])
    for piece in reversed(pieces) if backwards else pieces:
        starts[:, piece] = carried
        carried = torch.addcmul(ends[:, piece], decays[:, piece], carried)
    states = torch.empty_like(b)
    before = starts
    for t in order:
        torch.addcmul(b[:, :, t], a[:, :, t], before, out=states[:, :, t])
        before = states[:, :, t]
    return states.view(count, whole, width)[:, :length]


def _padded(x: Tensor, length: int) -> Tensor:
    """`[N, T, D]` with zeros after its end, where it is shorter than `length`."""
    missing = length - x.shape[1]
    return torch.cat([x, x.new_zeros(x.shape[0], missing, x.shape[2])], dim=1) if missing > 0 else x
