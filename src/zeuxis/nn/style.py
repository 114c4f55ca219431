"""What makes a generator style-based: modulated convolution, latents by level, equalised learning rates, minibatch
standard deviation (Karras et al. 2017, arXiv 1710.10196; 2018, arXiv 1812.04948; 2020, arXiv 1912.04958)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zeuxis.nn import kernels
from zeuxis.nn.conv import wrap_pad
from zeuxis.nn.resample import binomial

Wrap = tuple[bool, bool]
LEAK = 0.2


def mix_levels(w: Tensor, other: Tensor, at: Tensor, probability: float) -> Tensor:
    """w `[N, L, W]` whose levels from a random one on are `other`'s: style mixing (Karras et al. 2018, section 3.1).

    `at` `[N]`, uniform in [0, 1), says which pictures are mixed (those below `probability`) and from which level 1 to
    L - 1 on; level 0 is always w's.
    """
    levels = w.shape[1]
    first = 1 + (at / max(probability, 1e-12) * (levels - 1)).floor()
    taken = (at < probability)[:, None] & (torch.arange(levels, device=w.device) >= first[:, None])  # [N, L]
    return torch.where(taken[:, :, None], other, w)


def scaled_leaky_relu(x: Tensor) -> Tensor:
    """Leaky ReLU times the square root of 2, which about keeps the variance of a normal input."""
    return F.leaky_relu(x, LEAK) * math.sqrt(2)


def minibatch_deviation(x: Tensor, group: int) -> Tensor:
    """`[N, C, H, W]` with one more channel: the standard deviation over each group of pictures, averaged over channels
    and places (Karras et al. 2017, section 3). Groups are neighbours, as many as the largest divisor of N up to
    `group`."""
    count, (height, width) = len(x), x.shape[2:]
    size = next(each for each in range(min(group, count), 0, -1) if count % each == 0)
    groups = x.float().unflatten(0, (-1, size))  # [N / size, size, C, H, W]
    deviation = (groups.var(dim=1, unbiased=False) + 1e-8).sqrt().mean(dim=(1, 2, 3))  # [N / size]
    plane = deviation.to(x.dtype).repeat_interleave(size)[:, None, None, None].expand(-1, 1, height, width)
    return torch.cat([x, plane], dim=1)


class EqualLinear(nn.Module):
    """A linear layer whose weights are N(0, 1 / rate^2) and scaled by rate / sqrt(inputs) at run time, so that all
    weights learn equally fast (Karras et al. 2017, section 4.1); `rate` is of the weights and the bias."""

    def __init__(self, inputs: int, outputs: int, *, bias: float = 0.0, rate: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / rate)
        self.bias = nn.Parameter(torch.full((outputs,), bias / rate))
        self.scale, self.rate = rate / math.sqrt(inputs), rate

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.scale, self.bias * self.rate)


class EqualConv2d(nn.Module):
    """A convolution with an equalised learning rate and zero padding (circular on wrapped axes) that keeps the sides,
    or halves them with `down`: then the [1, 3, 3, 1] filter comes first."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, bias: bool = True, down: bool = False,
        wrap: Wrap = (False, False),
    ) -> None:  # fmt: skip
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.scale = 1 / math.sqrt(inputs * kernel**2)
        self.down, self.wrap = down, wrap

    def forward(self, x: Tensor) -> Tensor:
        kernel, weight = self.weight.shape[2], self.weight * self.scale
        if not self.down:
            return convolve_same(x, weight, self.bias, self.wrap)
        blurred = F.conv2d(wrap_pad(x, kernel // 2 + 1, *self.wrap), binomial(x, 4), None, 1, 0, 1, x.shape[1])
        return kernels.convolve(blurred, weight, self.bias, 2, 0)


def convolve_same(x: Tensor, weight: Tensor, bias: Tensor | None, wrap: Wrap) -> Tensor:
    """Convolution with an odd kernel that keeps the sides."""
    margin = weight.shape[2] // 2
    if margin and any(wrap):
        return kernels.convolve(wrap_pad(x, margin, *wrap), weight, bias, 1, 0)
    return kernels.convolve(x, weight, bias, 1, margin)


class ModulatedConv2d(nn.Module):
    """A convolution whose input channels are scaled by a style, and whose output channels are brought back to unit
    variance (Karras et al. 2020, Eqs. 1 and 3).

    x `[N, C, H, W]` and w `[N, W]` -> `[N, K, H, W]`, or twice as large with `up`. Scaling activations instead of
    weights is the same and keeps one dense convolution for all pictures.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, style: int, demodulate: bool = True, up: bool = False,
        wrap: Wrap = (False, False),
    ) -> None:  # fmt: skip
        super().__init__()
        assert kernel == 3 or not up, "only 3x3 kernels double the sides"
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.affine = EqualLinear(style, inputs, bias=1.0)
        self.scale = 1 / math.sqrt(inputs * kernel**2)
        self.demodulate, self.up, self.wrap = demodulate, up, wrap

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        style = self.affine(w)  # [N, C]
        weight = self.weight * self.scale
        y = x * style[:, :, None, None].to(x.dtype)
        y = self._doubled(y, weight) if self.up else convolve_same(y, weight, None, self.wrap)
        if not self.demodulate:
            return y
        energy = weight.float().square().sum(dim=(2, 3))  # [K, C]
        with torch.autocast(x.device.type, enabled=False):
            norm = (style.float().square() @ energy.t() + 1e-8).rsqrt()  # [N, K]
        return y * norm[:, :, None, None].to(y.dtype)

    def _doubled(self, x: Tensor, weight: Tensor) -> Tensor:
        """Transposed convolution of stride 2, then the [1, 3, 3, 1] filter, times 4 for the zeros in between."""
        height, width = x.shape[2] * 2, x.shape[3] * 2
        x = wrap_pad(x, 1, *self.wrap)  # one ring more than is needed where nothing wraps
        y = kernels.transpose(x, weight.transpose(0, 1), None, 2, 0)  # [N, K, 2H + 5, 2W + 5]
        y = F.conv2d(y, binomial(y, 4) * 4, None, 1, 0, 1, y.shape[1])
        return y[:, :, 1 : 1 + height, 1 : 1 + width]
