"""Averaged weights: the copy that is sampled, judged and shared."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from zeuxis import posthoc
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
    def update(self, source: FlatParameters, factor: float | Tensor, skipped: Tensor) -> None:
        """average = factor * average + (1 - factor) * source, left alone where `skipped` (a device scalar) is 1."""
        self.flat.values.lerp_(source.values, (1 - factor) * (1 - skipped))
        for mine, theirs in self._buffers:
            mine.copy_(theirs)


class PowerAverages:
    """The two averages of power profile that averages of any length are made from after training (`posthoc.py`)."""

    def __init__(self, flat: FlatParameters) -> None:
        self.values = {sigma: torch.zeros_like(flat.gradient) for sigma in posthoc.FOLLOWED}
        self.count = 0  # updates so far

    @torch.no_grad()
    def update(self, source: FlatParameters, skipped: Tensor) -> None:
        """Takes the weights of one more step, left out where `skipped` (a device scalar) is 1."""
        self.count += 1
        for sigma, values in self.values.items():
            factor = posthoc.decay(posthoc.gamma_of(sigma), self.count)
            values.lerp_(source.values, (1 - factor) * (1 - skipped))

    def named(self, flat: FlatParameters, networks: Mapping[str, nn.Module]) -> dict[str, Tensor]:
        """The averages of `networks`, whose parameters are `flat`'s, by `SIGMA.PART.NAME`; and their buffers as they
        are, by `buffer.PART.NAME`."""
        names = {id(p): f"{part}.{key}" for part, net in networks.items() for key, p in net.named_parameters()}
        found = {f"{sigma}.{names[id(p)]}": view for sigma, values in self.values.items()
                 for p, view in zip(flat.parameters, flat.shaped(values), strict=True)}  # fmt: skip
        buffers = {f"buffer.{part}.{key}": b for part, net in networks.items() for key, b in net.named_buffers()}
        return found | buffers

    def state(self) -> dict[str, Tensor]:
        """Everything that `update` changes, by name."""
        return {"count": torch.tensor(self.count), **{str(sigma): values for sigma, values in self.values.items()}}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `state` returned."""
        self.count = int(state["count"])
        for sigma, values in self.values.items():
            values.copy_(state[str(sigma)])
