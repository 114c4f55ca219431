"""How the command line shows a run: log lines, and a bar with images/s, time left and losses."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from zeuxis.training import Event

BAR_WIDTH = 24
LOSSES_WIDTH = 40  # characters that two losses need
PLAIN_WIDTH = 120  # of the terms on a line that is no terminal's


def clock(seconds: float) -> str:
    """Seconds as 1:02:03 or 2:03."""
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def say(console: Console, text: str) -> None:
    """One line as it is: no markup, and not folded where the terminal ends, so that a path in it can be copied."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def brief(terms: dict[str, float], width: int) -> str:
    """The losses first, then the other terms, as many as fit into `width` characters."""
    line = ""
    for name in sorted(terms, key=lambda name: not name.endswith("/loss")):
        more = f"{'  ' if line else ''}{name.removesuffix('/loss')} {terms[name]:.3g}"
        if len(line) + len(more) > width:
            break
        line += more
    return line


class RunDisplay:
    """A `listen` callback of the loop: a live bar on a terminal, plain lines elsewhere."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.event: Event | None = None
        self._live = Live(get_renderable=self.render, console=console, refresh_per_second=8, transient=True)
        self._tenths = 0

    def __enter__(self) -> RunDisplay:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.console.is_terminal:
            self._live.stop()

    def __call__(self, event: Event) -> None:
        if event.kind == "log":
            say(self.console, event.text)
            return
        self.event = event
        tenths = event.images_seen * 10 // max(1, event.total_images)
        if not self.console.is_terminal and tenths > self._tenths:
            self._tenths = tenths
            say(self.console, f"{_where(event)}  {brief(event.terms or {}, PLAIN_WIDTH)}")

    def render(self) -> RenderableType:
        """Bar, place, speed and time left; losses behind them, or below on a narrow terminal."""
        if self.event is None:
            return Text("preparing", no_wrap=True)
        where = _where(self.event)
        width = self.console.width - 1
        bar_width = max(4, min(BAR_WIDTH, width - len(where) - 1))
        bar = ProgressBar(total=max(1, self.event.total_images), completed=self.event.images_seen, width=bar_width)
        left = width - bar_width - len(where) - 3
        beside = left >= LOSSES_WIDTH
        losses = brief(self.event.terms or {}, left if beside else width)
        grid = Table.grid(padding=(0, 1))
        grid.add_row(bar, Text(f"{where}  {losses}" if beside else where, no_wrap=True, overflow="ellipsis"))
        return grid if beside else Group(grid, Text(losses, no_wrap=True, overflow="ellipsis"))


def _where(event: Event) -> str:
    kimg = f"{event.images_seen / 1000:.0f}/{event.total_images / 1000:.0f} kimg"
    return f"{kimg}  {event.images_per_second:.0f} images/s  {clock(event.seconds_left)} left"


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
