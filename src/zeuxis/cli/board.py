"""TensorBoard beside the run folder: mirrors what the loop writes there; the loop knows nothing of it."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zeuxis.errors import UserError

if TYPE_CHECKING:
    from zeuxis.training import Event

FOLDER = "tensorboard"
PLACES = ("images_seen", "progress", "seconds")  # where a row stands, not what it says


def require_tensorboard() -> None:
    """`UserError` where the extra is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        raise UserError(
            "--tensorboard", "on", "only with the extra `tensorboard`", "run pip install 'zeuxis[tensorboard]'"
        )


class Board:
    """A `listen` callback of the loop: rows of `stats.jsonl` and `metrics.jsonl` become scalars, sample sheets
    pictures, both over images seen.

    A sitting that goes on from a state hides what earlier sittings wrote beyond it. A full disk ends the mirroring,
    not the training.
    """

    def __init__(self, run: Path, images_seen: int, say: Callable[[str], None]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = run / FOLDER
        before = any(folder.glob("events.*"))
        self.run, self.say = run, say
        self.after = images_seen if before else -1  # rows up to here stand in the events already
        self.offsets = {"stats.jsonl": 0, "metrics.jsonl": 0}
        self.sheets: dict[Path, int] = {}
        self.writer: Any = SummaryWriter(str(folder), purge_step=images_seen + 1 if before else None)
        say(f"statistics for TensorBoard: tensorboard --logdir {folder}")

    def __call__(self, event: Event) -> None:
        if self.writer is None:
            return
        try:
            for file in self.offsets:
                self._rows(file)
            if event.kind == "log":  # a snapshot is a line of the log
                self._pictures()
        except OSError as error:
            self.say(f"TensorBoard gets no more: {error.strerror or error}; the training goes on")
            self.writer = None

    def close(self) -> None:
        """Writes what is still held back."""
        if self.writer is not None:
            self.writer.close()

    def _rows(self, file: str) -> None:
        path = self.run / file
        if not path.exists():
            return
        # A rollback took rows away: what is there was mirrored already.
        self.offsets[file] = min(self.offsets[file], size := path.stat().st_size)
        if size == self.offsets[file]:
            return
        with open(path, "rb") as stream:
            stream.seek(self.offsets[file])
            for line in stream:
                if not line.endswith(b"\n"):
                    break  # it comes whole the next time
                self.offsets[file] += len(line)
                self._row(json.loads(line))

    def _row(self, row: dict[str, Any]) -> None:
        step = row["images_seen"]
        if step <= self.after:
            return
        values = {f"metrics/{row['metric']}": row["value"]} if "metric" in row else row
        for name, value in values.items():
            if name not in PLACES and isinstance(value, (int, float)):  # what the watchdog says is words
                self.writer.add_scalar(name, value, step)

    def _pictures(self) -> None:
        import numpy as np
        from PIL import Image

        from zeuxis.images import from_picture

        for path in sorted(self.run.glob("samples-*kimg.png")):
            step = round(float(path.stem.split("-")[1].removesuffix("kimg")) * 1000)
            changed = path.stat().st_mtime_ns
            if step <= self.after or self.sheets.get(path) == changed:
                continue
            self.sheets[path] = changed
            with Image.open(path) as picture:
                self.writer.add_image("samples", np.asarray(from_picture(picture, 3)), step, dataformats="HWC")
