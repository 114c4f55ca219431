"""The layers that see the latent first: found by what flows through them, whatever the network is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from zeuxis.editing.spaces import Codes, Space
from zeuxis.errors import UserError
from zeuxis.nn.style import EqualLinear

LINEAR = (nn.Linear, EqualLinear)


@dataclass(frozen=True)
class LatentLayer:
    """A linear layer whose input's columns `first` to `first + size` are level `level` of the code."""

    layer: nn.Linear | EqualLinear
    level: int
    size: int


@torch.no_grad()
def latent_layers(space: Space) -> list[LatentLayer]:
    """Every linear layer that is given the code itself, a level of it, or the code beside or plus the class's
    embedding; `UserError` where a network has none (so that closed forms have nothing to work on).

    Two codes of one class are decoded; a layer whose input differs by exactly what the codes differ by sees the code.
    """
    codes = space.of_seeds([0, 0], 0 if space.model.classes else None)
    moved = codes.values.clone()
    moved[1] += torch.where(space.free, torch.randn(moved[1].shape, generator=_fixed()).to(moved), 0)
    levels = (moved.shape[1], -1) if space.levels > 1 else (1, -1)
    sizes = space.free.view(levels).sum(1).tolist()  # what is free stands first
    differences = (moved[1] - moved[0]).view(levels)
    found = []
    for layer, given in _inputs(space, codes.with_values(moved)):
        change = (given[1] - given[0]).flatten()
        for level, (wanted, size) in enumerate(zip(differences, sizes, strict=True)):
            fits = len(change) >= size and torch.allclose(change[:size], wanted[:size], atol=1e-4, rtol=1e-3)
            if fits and not (change[size:].abs() > 1e-4).any():
                found.append(LatentLayer(layer, level, size))
                break
    if not found:
        raise UserError("--method", "closed-form", "a network with a linear layer behind its latent",
                        f"{space.model.name} has none: try --method principal")  # fmt: skip
    return found


def _inputs(space: Space, codes: Codes) -> list[tuple[nn.Linear | EqualLinear, Tensor]]:
    """Linear layers and what they are given `[N, ...]` while codes are decoded."""
    seen: list[tuple[nn.Linear | EqualLinear, Tensor]] = []

    def note(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, LINEAR)
        seen.append((layer, inputs[0].detach().float()))

    handles = [
        layer.register_forward_pre_hook(note)
        for network in space.networks.values()
        for layer in network.modules()
        if isinstance(layer, LINEAR)
    ]
    try:
        space.decode(codes)
    finally:
        for handle in handles:
            handle.remove()
    return seen


@contextlib.contextmanager
def replaced(layers: Sequence[LatentLayer], outputs: Sequence[Tensor]) -> Iterator[None]:
    """Within the block, these layers give these outputs instead of their own: the richest space of a network."""

    handles = [
        entry.layer.register_forward_hook(lambda layer, inputs, own, given=given: given)
        for entry, given in zip(layers, outputs, strict=True)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def outputs_of(space: Space, layers: Sequence[LatentLayer], codes: Codes) -> list[Tensor]:
    """What the layers give while codes are decoded."""
    found: dict[nn.Module, Tensor] = {}
    handles = [
        entry.layer.register_forward_hook(lambda layer, inputs, own: found.__setitem__(layer, own.detach().clone()))
        for entry in layers
    ]
    try:
        space.decode(codes)
    finally:
        for handle in handles:
            handle.remove()
    return [found[entry.layer] for entry in layers]


def _fixed() -> torch.Generator:
    return torch.Generator().manual_seed(0)
