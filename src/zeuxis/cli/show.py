"""How the command line shows a run: log lines, and a bar with images/s, time left and losses."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)  # fmt: skip

if TYPE_CHECKING:
    from zeuxis.training import Event

SHOWN_TERMS = 4


def clock(seconds: float) -> str:
    """Seconds as 1:02:03 or 2:03."""
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def brief(terms: dict[str, float]) -> str:
    """The losses first, then the other terms, as many as fit on a line."""
    order = sorted(terms, key=lambda name: not name.endswith("/loss"))
    return "  ".join(f"{name} {terms[name]:.3g}" for name in order[:SHOWN_TERMS])


class RunDisplay:
    """A `listen` callback of the loop: a live bar on a terminal, plain lines elsewhere."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.progress = Progress(
            TextColumn("{task.fields[images]}"), BarColumn(bar_width=24), TaskProgressColumn(),
            TextColumn("{task.fields[speed]}"), TextColumn("[dim]{task.fields[losses]}"), console=console,
        )  # fmt: skip
        self.task = self.progress.add_task("train", total=1.0, images="", speed="", losses="")
        self._lines = 0

    def __enter__(self) -> RunDisplay:
        if self.console.is_terminal:
            self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.console.is_terminal:
            self.progress.stop()

    def __call__(self, event: Event) -> None:
        if event.kind == "log":
            self.console.print(event.text, markup=False, highlight=False)
            return
        images = f"{event.images_seen / 1000:.0f}/{event.total_images / 1000:.0f} kimg"
        speed = f"{event.images_per_second:.0f} images/s, {clock(event.seconds_left)} left"
        losses = brief(event.terms or {})
        share = event.images_seen / max(1, event.total_images)
        self.progress.update(self.task, completed=share, images=images, speed=speed, losses=losses)
        if not self.console.is_terminal and math.floor(share * 10) > self._lines:
            self._lines = math.floor(share * 10)
            self.console.print(f"{images}  {speed}  {losses}", markup=False, highlight=False)


@contextlib.contextmanager
def waiting(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """A line with what is being done, how far it is and the time left: the `progress` callback of long functions."""
    progress = Progress(
        TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeRemainingColumn(),
        console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip
    task = progress.add_task("", total=None)

    def show(what: str, done: int, total: int) -> None:
        if what != progress.tasks[0].description:
            progress.reset(task, description=what, total=total or None)
        progress.update(task, completed=done, total=total or None)

    with progress:
        yield show
