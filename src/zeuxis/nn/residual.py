"""Residual blocks without normalisation, which start as the identity (Zhang, Dauphin, Ma 2019: Fixup, arXiv
1901.09321)."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from zeuxis.nn.conv import Conv2d

LEAK = 0.2
GAIN = math.sqrt(2 / (1 + LEAK**2))  # keeps the variance through a leaky ReLU


def fixup_gain(blocks: int, layers: int) -> float:
    """The gain of all but the last of `layers` layers in each of `blocks` residual blocks: L^(-1/(2m-2)) (Fixup,
    section 3)."""
    return float(GAIN * blocks ** (-1 / (2 * layers - 2)))


def scaled_normal_(layer: nn.Module, gain: float) -> None:
    """Weights of a convolution or linear layer N(0, gain^2 / inputs), bias zero; in place."""
    assert isinstance(layer, (nn.Conv2d, nn.Linear))
    nn.init.normal_(layer.weight, 0.0, gain / math.sqrt(layer.weight[0].numel()))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


class ResidualBlock(nn.Module):
    """x + conv3x3(act(conv3x3(act(x)))), dense, the last convolution zero at the start; `gain` is of the first."""

    def __init__(self, channels: int, *, gain: float, wrap: tuple[bool, bool] = (False, False)) -> None:
        super().__init__()
        self.first = Conv2d(channels, channels, 3, padding=1, wrap=wrap)
        self.last = Conv2d(channels, channels, 3, padding=1, wrap=wrap)
        scaled_normal_(self.first, gain)
        scaled_normal_(self.last, 0.0)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(F.leaky_relu(x, LEAK))
        return x + self.last(F.leaky_relu(y, LEAK))
