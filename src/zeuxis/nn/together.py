"""What couples the pictures of a batch, over all processes that share it: sums, gathering and batch normalisation.

With one process each is what PyTorch has. The gradient of a loss over the whole batch flows back through all of them;
`total` and `gather` can be differentiated any number of times.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from zeuxis.distributed import current


def total(x: Tensor) -> Tensor:
    """The sum of `x` over all processes (equal shapes)."""
    return _Total.apply(x) if current().size > 1 else x


def batch_mean(x: Tensor) -> Tensor:
    """The mean over the first axis of the whole batch, `[N, ...]` -> `[...]`."""
    if current().size == 1:
        return x.mean(dim=0)
    count = total(torch.full((), float(len(x)), device=x.device))
    return total(x.sum(dim=0)) / count


def gather(x: Tensor) -> Tensor:
    """The pictures of all processes in the order of the batch, `[n, ...]` -> `[N, ...]`."""
    return _Gather.apply(x) if current().size > 1 else x


def own(x: Tensor, count: int) -> Tensor:
    """The rows of this process, of which it has `count`, out of what was gathered: the inverse of `gather`."""
    if current().size == 1:
        return x
    start = _start(count)
    return x[start : start + count]


def _start(count: int) -> int:
    """How many pictures the processes before this one have."""
    world = current()
    return int(world.stack(torch.tensor([count]))[: world.rank].sum())


class _Total(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return current().sum_(x.clone(memory_format=torch.contiguous_format))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _Total.apply(gradient)


class _Gather(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        world = current()
        counts = world.stack(torch.tensor([len(x)])).flatten().tolist()
        ctx.start, ctx.count = sum(counts[: world.rank]), len(x)
        most = torch.zeros(max(counts), *x.shape[1:], dtype=x.dtype, device=x.device)
        most[: len(x)] = x
        return torch.cat([part[:count] for part, count in zip(world.stack(most), counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _Total.apply(gradient)[ctx.start : ctx.start + ctx.count]


class BatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation (Ioffe & Szegedy 2015, arXiv 1502.03167) with the statistics of the whole batch, of which
    each process has a part. Keys and, with one process, arithmetic are those of PyTorch's."""

    def forward(self, input: Tensor) -> Tensor:
        """`[N, C, H, W]` -> the same."""
        if current().size == 1 or not self.training:
            return super().forward(input)
        y, mean, variance, count = _Normalise.apply(input, self.weight, self.bias, self.eps)
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            with torch.no_grad():
                self.num_batches_tracked.add_(1)
                share = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
                self.running_mean.lerp_(mean, share)
                self.running_var.lerp_(variance * (count / (count - 1)), share)
        return y


class _Normalise(Function):
    """Forward and backward of batch normalisation over all processes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> tuple[Tensor, ...]:
        variance, mean = torch.var_mean(x.float(), dim=(0, 2, 3), correction=0)
        count = torch.full((1,), float(x.numel() // x.shape[1]), device=x.device)
        parts = current().stack(torch.cat([mean, variance, count]))  # [size, 2 C + 1]
        channels = x.shape[1]
        means, variances, counts = parts[:, :channels], parts[:, channels:-1], parts[:, -1:]
        whole = counts.sum()
        # Chan, Golub, LeVeque 1979: no difference of large sums.
        mean = (counts * means).sum(0) / whole
        variance = (counts * (variances + (means - mean) ** 2)).sum(0) / whole
        ctx.save_for_backward(x, weight, mean, variance, whole)
        ctx.eps, ctx.has_bias = eps, bias is not None
        ctx.mark_non_differentiable(mean, variance, whole)
        return F.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps), mean, variance, whole

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, variance, whole = ctx.saved_tensors
        inverse = torch.rsqrt(variance + ctx.eps)
        shape = (1, -1, 1, 1)
        normal = (x.float() - mean.view(shape)) * inverse.view(shape)
        of_bias = gradient.float().sum(dim=(0, 2, 3))
        of_weight = (gradient.float() * normal).sum(dim=(0, 2, 3))
        sums = current().sum_(torch.cat([of_bias, of_weight])) / whole
        mean_gradient, mean_product = (part.view(shape) for part in sums.chunk(2))
        scale = (inverse if weight is None else inverse * weight).view(shape)
        of_x = ((gradient - mean_gradient - normal * mean_product) * scale).to(x.dtype)
        return of_x, None if weight is None else of_weight, of_bias if ctx.has_bias else None, None
