"""Convolutions that can wrap around: on a wrapped axis the left and right (top and bottom) edges continue into each
other."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from zeuxis.config import ImageSpec
from zeuxis.errors import UserError
from zeuxis.nn import kernels


def wrap_pad(x: Tensor, amount: int, wrap_x: bool, wrap_y: bool) -> Tensor:
    """`[N, C, H, W]` padded by `amount` on every side: circularly on wrapped axes, with zeros on the others."""
    x = F.pad(x, (amount, amount, 0, 0), mode="circular" if wrap_x else "constant")
    return F.pad(x, (0, 0, amount, amount), mode="circular" if wrap_y else "constant")


class Conv2d(nn.Conv2d):
    """`nn.Conv2d` with circular padding per axis; without a wrapped axis it is `nn.Conv2d` itself, with the same
    keys."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, padding: int = 0,
        bias: bool = True, wrap: tuple[bool, bool] = (False, False),
    ) -> None:  # fmt: skip
        super().__init__(in_channels, out_channels, kernel, stride, padding, bias=bias)
        self.amount, self.wrap = padding, wrap

    def forward(self, x: Tensor) -> Tensor:
        stride = int(self.stride[0])
        if not any(self.wrap):
            return kernels.convolve(x, self.weight, self.bias, stride, self.amount)
        return kernels.convolve(wrap_pad(x, self.amount, *self.wrap), self.weight, self.bias, stride, 0)


class UpConv2d(nn.ConvTranspose2d):
    """4x4 transposed convolution of stride 2 that doubles both sides, with circular padding per axis."""

    def __init__(
        self, in_channels: int, out_channels: int, *, bias: bool = True, wrap: tuple[bool, bool] = (False, False)
    ) -> None:
        super().__init__(in_channels, out_channels, 4, 2, 1, bias=bias)
        self.wrap = wrap

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        if not any(self.wrap):
            return kernels.transpose(x, self.weight, self.bias, 2, 1)
        # One ring of input reaches two rings of output: pad, convolve, cut the rings off again.
        y = kernels.transpose(wrap_pad(x, 1, *self.wrap), self.weight, self.bias, 2, 1)
        return y[:, :, 2:-2, 2:-2]


def halvings(spec: ImageSpec, least: int = 4) -> int:
    """How often both sides of a picture are halved until the shorter one is `least` to `2 * least - 1`."""
    return max(0, int(math.log2(min(spec.height, spec.width) / least)))


def base_sides(spec: ImageSpec, count: int) -> tuple[int, int]:
    """Height and width after `count` halvings, rounded up (the network's output is cropped back to the picture).

    A wrapped axis must halve exactly, else its edges would not meet: `UserError` naming the nearest size.
    """
    factor = 2**count
    for axis, side, wrapped in (("height", spec.height, spec.wrap_y), ("width", spec.width, spec.wrap_x)):
        if wrapped and side % factor:
            near = max(1, round(side / factor)) * factor
            raise UserError(
                "--wrap", f"{axis} {side}", f"multiples of {factor} on a wrapped axis", f"the nearest is {near}"
            )
    return math.ceil(spec.height / factor), math.ceil(spec.width / factor)
