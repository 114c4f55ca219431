"""Averaged weights: the copy that is sampled, judged and shared."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from zeuxis.flat import FlatParameters


def decay(batch: int, half_life: float) -> float:
    """The factor that halves the weight of the past every `half_life` images, for a step of `batch` images."""
    return 0.5 ** (batch / half_life) if half_life > 0 else 0.0


class Average:
    """An exponential moving average of the networks of one phase; buffers (running statistics) are copied."""

    def __init__(self, networks: Mapping[str, nn.Module]) -> None:
        self.networks = {
            part: copy.deepcopy(network).eval().requires_grad_(False) for part, network in networks.items()
        }
        self.flat = FlatParameters(list(self.networks.values()))
        self._buffers = [
            pair
            for part in networks
            for pair in zip(self.networks[part].buffers(), networks[part].buffers(), strict=True)
        ]

    @torch.no_grad()
    def update(self, source: FlatParameters, factor: float, skipped: Tensor) -> None:
        """average = factor * average + (1 - factor) * source, left alone where `skipped` (a device scalar) is 1."""
        self.flat.values.lerp_(source.values, (1 - factor) * (1 - skipped))
        for mine, theirs in self._buffers:
            mine.copy_(theirs)
