"""What a scan found, for people (rows, lines, a contact sheet) and for programs (JSON)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zeuxis.errors import printable
from zeuxis.images import grid, sheet_scale

if TYPE_CHECKING:
    from PIL import Image

MAX_EXAMPLES = 20
MAX_LINES = 50


@dataclass
class Finding:
    """How many pictures have a property, and the names of the first of them."""

    count: int
    examples: list[str] = field(default_factory=list)


@dataclass
class Report:
    """The result of a scan.

    `files` were seen, `pictures` can be used, `skipped` are (name, reason) of all others; `findings` are
    properties of usable pictures, which are kept (copies too); `classes` counts usable pictures by class
    name; `suggested` says which height, width and channels the data are read at and why. With `frames` above 1 a
    picture is a window of so many frames, and every frame counts as a file.
    """

    name: str
    files: int = 0
    pictures: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)
    findings: dict[str, Finding] = field(default_factory=dict)
    classes: dict[str, int] = field(default_factory=dict)
    unlabelled: int = 0
    splits: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, list[int]] = field(default_factory=dict)
    suggested: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    frames: int = 1
    preview: Callable[[int], NDArray[np.uint8]] | None = field(default=None, repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` of them is equal to this report."""
        values = {key: value for key, value in vars(self).items() if key not in ("preview", "findings", "skipped")}
        return {
            **values,
            "skipped": [{"name": name, "reason": reason} for name, reason in self.skipped],
            "findings": {key: vars(finding) for key, finding in self.findings.items()},
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Report:
        """The inverse of `to_json`."""
        findings = {key: Finding(**finding) for key, finding in values["findings"].items()}
        skipped = [(row["name"], row["reason"]) for row in values["skipped"]]
        return cls(**{**values, "findings": findings, "skipped": skipped})

    def rows(self) -> list[tuple[str, str, str]]:
        """(what, how many, remarks or examples) for a table, safe to print."""
        rows = [
            ("files" if self.frames == 1 else "frames and files", f"{self.files:,}", ""),
            ("usable pictures" if self.frames == 1 else f"windows of {self.frames} frames", f"{self.pictures:,}", ""),
            ("skipped", f"{len(self.skipped):,}", "listed below" if self.skipped else ""),
        ]
        rows += [(key, f"{f.count:,}", _some(f.examples, f.count)) for key, f in self.findings.items() if f.count]
        for side in ("width", "height"):
            if side in self.sizes:
                low, middle, high = self.sizes[side]
                rows.append((side, f"{middle}", f"from {low} to {high}" if low != high else "all the same"))
        rows += [(f"split {name}", f"{count:,}", "") for name, count in self.splits.items()]
        rows += [(f"class {name}", f"{count:,}", "") for name, count in self.classes.items()]
        if self.classes and self.unlabelled:
            rows.append(("without class", f"{self.unlabelled:,}", ""))
        if self.suggested:
            rows.append(("read as", self.suggested["text"], self.suggested["why"]))
        rows += [("note", "", note) for note in self.notes]
        return [(printable(what), number, printable(remark)) for what, number, remark in rows]

    def skipped_lines(self, limit: int = MAX_LINES) -> list[str]:
        """One line per skipped file, at most `limit`, then how many more."""
        lines = [printable(f"skipped {name}: {reason}") for name, reason in self.skipped[:limit]]
        if len(self.skipped) > limit:
            lines.append(f"skipped {len(self.skipped) - limit:,} more files; `zeuxis data check` lists them")
        return lines

    def sheet(self, count: int = 100) -> Image.Image | None:
        """A contact sheet of up to `count` pictures spread over the data, as they are trained on; None
        without any."""
        if self.preview is None or not self.pictures:
            return None
        pixels = self.preview(count)  # [n, C, H, W]
        return grid(pixels.transpose(0, 2, 3, 1), scale=sheet_scale(*pixels.shape[2:]))


def _some(names: list[str], count: int) -> str:
    shown = ", ".join(names[:3])
    return shown + (f" and {count - 3:,} more" if count > 3 else "")
