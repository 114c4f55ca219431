"""From records to a report: which pictures are copies, small, odd or unusual, and what is suggested."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeuxis.config import ImageSpec
from zeuxis.data.decide import Shape
from zeuxis.data.listing import NO_SPLIT, SPLIT_NAMES, Listing
from zeuxis.data.records import Flag, Records, has
from zeuxis.data.report import MAX_EXAMPLES, Finding, Report

FLAGS = (
    ("animated", Flag.ANIMATED),
    ("CMYK", Flag.CMYK),
    ("16-bit", Flag.DEEP),
    ("palette", Flag.PALETTE),
    ("EXIF-rotated", Flag.ROTATED),
    ("with alpha", Flag.ALPHA),
    ("transparent", Flag.TRANSPARENT),
    ("grey", Flag.GREY),
)
SMALL = 0.5  # of the side that is trained on
ODD_ASPECT = 2.0  # times the median aspect
EXPLAINED = {
    "exact duplicates": "exact duplicates are kept; all copies of a picture are on one side of the split",
    "near duplicates": "near duplicates are kept; they may be on both sides of the split",
    "animated": "of animated files the first frame is used",
    "too small": "pictures less than half as large as what is read are enlarged",
}


def make_report(
    report: Report,
    listing: Listing,
    good: NDArray[np.int64],
    records: Records,
    copies: list[list[int]],
    near: NDArray[np.int64],
    labels: NDArray[np.int64],
    classes: tuple[str, ...],
    shape: Shape,
    why: str,
) -> None:
    """Fills `report`; `good` are places in the listing, everything after it has one entry per good
    picture."""

    def names(positions: Sequence[Any] | NDArray[Any]) -> list[str]:
        return [listing.name(int(good[position])) for position in positions[:MAX_EXAMPLES]]

    def together(groups: Any) -> list[str]:
        return [" = ".join(names(group[:4])) for group in groups[:MAX_EXAMPLES]]

    channels, height, width = shape
    found = report.findings
    found["exact duplicates"] = Finding(sum(len(group) - 1 for group in copies), together(copies))
    found["near duplicates"] = Finding(len(near), together(near))
    scale = np.minimum(records["width"] / width, records["height"] / height)
    aspect = np.log(records["width"] / records["height"])
    odd = np.abs(aspect - np.median(aspect)) > np.log(ODD_ASPECT)
    for key, which in (("too small", scale < SMALL), ("odd aspect", odd)):
        found[key] = Finding(int(which.sum()), names(np.flatnonzero(which)))
    for key, flag in FLAGS:
        which = has(records, flag)
        found[key] = Finding(int(which.sum()), names(np.flatnonzero(which)))
    report.notes += [text for key, text in EXPLAINED.items() if found[key].count]
    report.notes += _leaks(copies, listing.splits[good])
    for side in ("width", "height"):
        values = records[side]
        report.sizes[side] = [int(values.min()), int(np.median(values)), int(values.max())]
    report.classes = {name: int((labels == index).sum()) for index, name in enumerate(classes)}
    report.unlabelled = int((labels < 0).sum())
    codes = listing.splits[good]
    if (codes != NO_SPLIT).any():
        words = {code: name for name, code in reversed(SPLIT_NAMES.items())}
        report.splits = {words[int(code)]: int((codes == code).sum()) for code in np.unique(codes[codes != NO_SPLIT])}
    spec = ImageSpec(height=height, width=width, channels=channels)  # type: ignore[arg-type]
    report.suggested = {"height": height, "width": width, "channels": channels, "text": str(spec), "why": why}


def _leaks(copies: list[list[int]], splits: NDArray[np.int8]) -> list[str]:
    """A remark where the source's own splits share pictures."""
    crossing = sum(len({int(splits[position]) for position in group}) > 1 for group in copies)
    return [f"{crossing:,} pictures are in more than one of the source's own splits"] if crossing else []
