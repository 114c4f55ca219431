"""Beginning with the weights of another model (`--init`): what fits by name and shape is taken over, and a table says
what that was. Knows no family: parts, names and shapes decide, and what pictures and classes both sides have.

Networks for another size have another number of levels. A level is an entry of a list of blocks (`ups.0`, `ups.1`), and
the lists of both sides are laid against each other from the first entry and from the last one; the way in which more
values fit is taken, and where both fit alike the one that counts levels from the smallest grid.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from zeuxis.checkpoint import StateStore, load_model
from zeuxis.config import ImageSpec
from zeuxis.errors import UserError

LEVEL = re.compile(r"^(.*?\.)?(\d+)(\..*)$")  # list, entry, what is in the entry
FROM_PICTURE = ("discriminator", "encoder")  # parts that read pictures: their last levels have the smallest grid
TO_PICTURE = ("generator", "decoder")  # parts that make them
Taken = Literal["loaded", "partly", "fresh"]


@dataclass(frozen=True)
class Source:
    """Weights to begin with: `{part: {name: value}}`, and what the pictures and classes were that they made."""

    path: str
    weights: dict[str, dict[str, Tensor]]
    spec: ImageSpec
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """What became of one tensor of the new model."""

    part: str
    name: str
    taken: Taken
    values: int
    note: str = ""


def read_source(path: str) -> Source:
    """A model folder or run: the averaged parts of the model, and from a run's newest state the parts that its model
    does not have (a discriminator). `UserError` where there is neither."""
    try:
        model = load_model(path)
    except UserError as error:
        raise UserError("--init", path, error.allowed, error.next_step) from None
    weights = {part: dict(network.state_dict()) for part, network in model.networks.items()}
    for name, value in _newest_state(Path(path)).items():
        kind, _, rest = name.partition(".")
        part, _, key = rest.partition(".")
        if kind == "network" and part not in model.networks:
            weights.setdefault(part, {})[key] = value
    return Source(str(path), weights, model.spec, model.classes)


def _newest_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a run's newest whole state; none where `path` is no run."""
    run = path.parent if (path.parent / "state").is_dir() and path.name == "model" else path
    found, _ = StateStore(run / "state").load_latest()
    return found[0] if found else {}


def take_over(networks: Mapping[str, nn.Module], source: Source, spec: ImageSpec, classes: Sequence[str]) -> list[Row]:
    """Puts what fits of `source` into `networks`, in place, and says what became of each of their tensors.

    `UserError` where nothing fits at all.
    """
    rows: list[Row] = []
    for part, network in networks.items():
        target = network.state_dict()
        fit = _Fit(part, source, target, spec, tuple(classes))
        names = _alignment(part, target, fit.weights)
        for name, value in target.items():
            new, taken, note = fit.value(value, names.get(name, name))
            if new is not None:
                with torch.no_grad():
                    value.copy_(new)
            rows.append(Row(part, name, taken, value.numel(), note))
    if not any(row.taken != "fresh" for row in rows):
        raise UserError("--init", source.path, "a model with something in common with the new one",
                        "choose the --model that it was trained with")  # fmt: skip
    return rows


class _Fit:
    """What a part of the source has for tensors of the new model."""

    def __init__(
        self, part: str, source: Source, target: Mapping[str, Tensor], spec: ImageSpec, classes: tuple[str, ...]
    ) -> None:
        self.part, self.weights, self.target = part, source.weights.get(part, {}), target
        self.channels = source.spec.channels, spec.channels
        self.classes = source.classes, classes
        both = [*self.weights.items(), *target.items()]
        self.embedded = {value.shape[1] for name, value in both if name.endswith("embed.weight")}

    def value(self, target: Tensor, name: str) -> tuple[Tensor | None, Taken, str]:
        """The new value of `target`, whether it is all from the source, and a note."""
        found = self.weights.get(name)
        if found is None or found.dim() != target.dim() or found.is_floating_point() != target.is_floating_point():
            return None, "fresh", "" if found is None else "another kind"
        found = found.to(target)
        if name.endswith("embed.weight") and found.shape[1:] == target.shape[1:]:
            return self._by_class(target, found, "classes")
        if found.shape == target.shape:
            return found, "loaded", ""
        differing = [axis for axis in range(target.dim()) if found.shape[axis] != target.shape[axis]]
        if len(differing) > 1:
            return None, "fresh", f"{list(found.shape)} there"
        axis = differing[0]
        old, new = found.shape[axis], target.shape[axis]
        if (old, new) == tuple(map(len, self.classes)):
            return self._by_class(target, found, "classes", axis)
        per_channel = new // self.channels[1]
        if self.channels[0] != self.channels[1] and (old, new) == tuple(per_channel * each for each in self.channels):
            stem = name.rpartition(".")[0]
            beside = self.weights.get(f"{stem}.weight", found)
            return self._by_channel(target, found, axis, beside.dim() == 4)
        # A class embedded beside the noise, or compared with the features: the rest is as it was.
        if abs(old - new) in self.embedded:
            return _overlap(target, found, axis), "partly", "without the classes"
        return None, "fresh", f"{list(found.shape)} there"

    def _by_class(self, target: Tensor, found: Tensor, what: str, axis: int = 0) -> tuple[Tensor | None, Taken, str]:
        """Rows of classes that both have, by name."""
        theirs, ours = self.classes
        shared = [name for name in ours if name in theirs]
        if not shared or len(theirs) != found.shape[axis] or len(ours) != target.shape[axis]:
            return None, "fresh", f"no {what} in common"
        value = target.clone()
        for name in shared:
            value.select(axis, ours.index(name)).copy_(found.select(axis, theirs.index(name)))
        everything = len(shared) == len(ours)
        return value, "loaded" if everything else "partly", f"{len(shared)} of {len(ours)} {what}"

    def _by_channel(self, target: Tensor, found: Tensor, axis: int, convolution: bool) -> tuple[Tensor, Taken, str]:
        """Grey to colour and back, and with or without alpha, along an axis of channels (of one pixel or several).

        In a GAN's convolutions the channels of one pixel come together (nn/resample.py), elsewhere the pixels of one
        channel.
        """
        old, new = self.channels
        together = convolution and self.part in ("generator", "discriminator")

        def by_channel(value: Tensor, count: int) -> Tensor:
            line = value.movedim(axis, 0)
            return line.unflatten(0, (-1, count)).transpose(0, 1) if together else line.unflatten(0, (count, -1))

        theirs, ours = by_channel(found, old), by_channel(target.clone(), new)
        colours_old, colours_new = min(old, 3), min(new, 3)
        # What reads pictures must see as much in three channels as in one; what makes them makes the same in each.
        reads = self.part in FROM_PICTURE or (self.part not in TO_PICTURE and axis == 1)
        if colours_old == colours_new:
            ours[:colours_new] = theirs[:colours_old]
        elif colours_new == 3:
            ours[:3] = theirs[:1] / (3 if reads else 1)
        else:
            ours[:1] = theirs[:3].sum(0, keepdim=True) / (1 if reads else 3)
        if new == 4:
            if old == 4:
                ours[3] = theirs[3]
            elif reads:
                ours[3] = 0  # pictures are judged as before, until alpha is found to matter
        names = {1: "grey", 3: "RGB", 4: "RGBA"}
        value = (ours.transpose(0, 1) if together else ours).flatten(0, 1).movedim(0, axis)
        return value, "partly", f"{names[old]} to {names[new]}"


def _overlap(target: Tensor, found: Tensor, axis: int) -> Tensor:
    """`target` with what `found` has of it; the axis is as long as the shorter of both."""
    count = min(target.shape[axis], found.shape[axis])
    value = target.clone()
    value.narrow(axis, 0, count).copy_(found.narrow(axis, 0, count))
    return value


def _alignment(part: str, target: Mapping[str, Tensor], source: Mapping[str, Tensor]) -> dict[str, str]:
    """For each name with a level, the name of the same level in the source."""
    ours, theirs = _levels(target), _levels(source)
    names: dict[str, str] = {}
    for stem, count in ours.items():
        shift = count - theirs.get(stem, count)
        if not shift:
            continue
        options: list[dict[str, str]] = [{}, {}]  # from the first entry, from the last one
        for name in target:
            if (match := LEVEL.match(name)) and (match[1] or "") == stem:
                for option, moved in zip(options, (0, shift), strict=True):
                    option[name] = f"{match[1] or ''}{int(match[2]) - moved}{match[3]}"
        fitting = [
            sum(value.numel() for name, value in target.items()
                if name in option and option[name] in source and source[option[name]].shape == value.shape)
            for option in options
        ]  # fmt: skip
        from_last = fitting[1] > fitting[0] or (fitting[1] == fitting[0] and part in FROM_PICTURE)
        names |= options[from_last]
    return names


def _levels(names: Mapping[str, Tensor]) -> dict[str, int]:
    """How many entries each outermost list among `names` has."""
    counts: dict[str, int] = {}
    for name in names:
        if match := LEVEL.match(name):
            stem = match[1] or ""
            counts[stem] = max(counts.get(stem, 0), int(match[2]) + 1)
    return counts


def summary(rows: Sequence[Row]) -> str:
    """One line for the log."""
    parts = []
    for part in dict.fromkeys(row.part for row in rows):
        own = [row for row in rows if row.part == part]
        total = sum(row.values for row in own)
        loaded, partly = (sum(row.values for row in own if row.taken == taken) for taken in ("loaded", "partly"))
        parts.append(f"{part} {loaded / max(1, total):.0%} loaded, {partly / max(1, total):.0%} partly")
    return "; ".join(parts)
