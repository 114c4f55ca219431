"""What is compared, as plain values: all that the page needs, so that drawing it reads no file and asks no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeuxis.evaluation import Row

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Curve:
    """One quantity over a training; all sequences are of one length, `seconds` counted over all sittings."""

    name: str
    images: Sequence[float]
    seconds: Sequence[float]
    values: Sequence[float]


@dataclass(frozen=True)
class Sheet:
    """Pictures to look at, uint8 `[n, C, H, W]`; with `rows`, as many names as there are equal rows of pictures."""

    pixels: Pixels
    seeds: tuple[int, ...] = ()
    rows: tuple[str, ...] = ()


@dataclass(frozen=True)
class Neighbours:
    """The samples nearest to the training pictures, nearest first, each beside what it is near to.

    `samples`, `training`, `held_out` are uint8 `[n, C, H, W]`; the distances `[n]` are Euclidean in feature space;
    `usual` is the middle distance of held-out pictures to the training pictures.
    """

    samples: Pixels
    training: Pixels
    held_out: Pixels
    to_training: Sequence[float]
    to_held_out: Sequence[float]
    usual: float
    extractor: str


@dataclass(frozen=True)
class Cost:
    """What a model takes; None where it was not recorded or does not apply.

    `train_seconds` and `images_seen` are of the whole run, `train_rate` and `sample_rate` in pictures a second,
    `peak_bytes` the most memory at once while training, `size_bytes` that of the weights' file.
    """

    train_seconds: float | None = None
    images_seen: int | None = None
    train_rate: float | None = None
    sample_rate: float | None = None
    peak_bytes: int | None = None
    size_bytes: int | None = None
    parameters: int | None = None
    device: str = ""
    precision: str = ""


@dataclass(frozen=True)
class Entry:
    """One generator, or one set of foreign pictures, with everything that was found out about it.

    `capabilities` is None for foreign pictures, of which nothing is known; `remarks` are whole sentences that limit
    what its numbers say; `commands` repeat it; `settings` are dotted keys.
    """

    name: str
    about: str
    rows: Sequence[Row]
    samples: Sheet
    neighbours: Neighbours | None
    cost: Cost = Cost()
    capabilities: frozenset[str] | None = None
    curves: Sequence[Curve] = ()
    losses: Sequence[Curve] = ()
    commands: Sequence[str] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    remarks: Sequence[str] = ()


@dataclass(frozen=True)
class DataFacts:
    """The data that everything is judged against: `total` pictures, of which `held_out` no training has seen."""

    name: str
    pictures: str
    total: int
    train: int
    held_out: int
    classes: tuple[str, ...]
    fingerprint: str


@dataclass(frozen=True)
class Comparison:
    """Everything on the page; `missing` are sentences about what could not be compared."""

    data: DataFacts
    entries: Sequence[Entry]
    reals: Sheet
    command: str
    made: str
    machine: str
    missing: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        """The numbers without the pictures, as plain JSON values."""
        return {
            "data": asdict(self.data), "command": self.command, "made": self.made, "machine": self.machine,
            "missing": list(self.missing), "entries": [_entry_json(entry) for entry in self.entries],
        }  # fmt: skip


def _entry_json(entry: Entry) -> dict[str, Any]:
    return {
        "name": entry.name, "about": entry.about, "rows": [row.to_json() for row in entry.rows],
        "cost": asdict(entry.cost), "commands": list(entry.commands), "settings": entry.settings,
        "capabilities": None if entry.capabilities is None else sorted(entry.capabilities),
        "remarks": list(entry.remarks),
    }  # fmt: skip
