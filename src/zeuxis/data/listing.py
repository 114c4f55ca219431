"""What a source holds before anything is decoded: names, labels, splits, and how to reach each picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

NO_SPLIT, TRAIN, VAL, TEST = -1, 0, 1, 2
SPLIT_NAMES = {"train": TRAIN, "val": VAL, "valid": VAL, "validation": VAL, "test": TEST}


class Stacked(Protocol):
    """Pictures that are decoded already, `count` of `shape` = (H, W, C)."""

    count: int
    shape: tuple[int, int, int]

    def blocks(self, size: int) -> Iterator[NDArray[np.uint8]]:
        """uint8 `[n, H, W, C]`, n at most `size`, in order; may be called again."""
        ...


@dataclass
class Listing:
    """Everything known about a source without decoding: one place per file, in the order of names.

    `items` are what `decode.Job` wants (empty for `stacked` sources); `labels` int64, -1 without; `splits`
    int8, one of the constants above; `skipped` are files left out by name alone; `notes` are remarks for the
    report; `stacked` pictures follow after those of `items`; `documents` are the label files by path. Of clips, every
    place is a frame: `clips` int64 is which of `clip_names` it belongs to, `numbers` int64 its number there; after a
    pass over `stacked`, `broken` has the places in it that could not be decoded, with the reason.
    """

    kind: Literal["folder", "zip", "tar", "stacked"]
    root: str
    names: list[str]
    items: list[Any]
    sizes: NDArray[np.int64]
    labels: NDArray[np.int64]
    splits: NDArray[np.int8]
    classes: tuple[str, ...] = ()
    skipped: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    stacked: Stacked | None = None
    documents: dict[str, bytes] = field(default_factory=dict)
    clips: NDArray[np.int64] | None = None
    numbers: NDArray[np.int64] | None = None
    clip_names: list[str] = field(default_factory=list)
    broken: dict[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        """The name of a picture: its path in the source, or its number in an array."""
        return self.names[index] if self.names else f"picture {index}"


class Source(Protocol):
    """A form of DATA: a short name, a key that changes when the data change, and its listing.

    `count` and `bytes` say after `quick` roughly how many files there are to decode and how large they are in
    all.
    """

    name: str
    count: int
    bytes: int

    def quick(self) -> str:
        """A key from names, sizes and times alone (for arrays in memory: from the content)."""
        ...

    def listing(self) -> Listing:
        """Lists the source; `DataError` where it is not what it claims to be."""
        ...
