"""Charts as SVG, drawn here: curves on one pair of axes, and a bar with its interval. Colours come from the page."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from zeuxis.compare.html import Html, tag
from zeuxis.compare.words import clock, counted

WIDTH, HEIGHT = 380, 220
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 12, 30
MANY = 30  # values from which a few may be outliers
BEND = 30.0  # largest over smallest value from which the scale bends near zero


@dataclass(frozen=True)
class Line:
    """One curve: `place` chooses the colour, `dash` the pattern (0 is solid)."""

    name: str
    place: int
    xs: Sequence[float]
    ys: Sequence[float]
    dash: int = 0


@dataclass(frozen=True)
class Top:
    """A second axis above: `there` grows with `xs`, the values of the axis below, and is written as time."""

    name: str
    xs: Sequence[float]
    there: Sequence[float]


@dataclass(frozen=True)
class Scale:
    """Values to the unit interval: linear, or bent (asinh) around zero where values span decades."""

    low: float
    high: float
    bend: float = 0.0

    def __call__(self, value: float) -> float:
        low, high, value = (self._bent(each) for each in (self.low, self.high, value))
        return min(max((value - low) / (high - low), 0.0), 1.0) if high > low else 0.5

    def _bent(self, value: float) -> float:
        return math.asinh(value / self.bend) if self.bend else value

    def ticks(self, count: int = 5) -> list[float]:
        """Round values inside the range."""
        if not self.bend:
            return ticks(self.low, self.high, count)
        decades = range(math.floor(math.log10(self.bend)), math.ceil(math.log10(max(abs(self.high), self.bend))) + 1)
        step = max(1, math.ceil(len(decades) / count))
        values = [0.0, *(10.0**decade for decade in decades[::-1][::step])]
        return [value for value in values if self.low <= value <= self.high and (not value or value >= self.bend)]


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """At most about `count` round values from `low` to `high`."""
    if not high > low:
        return [low]
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    return _multiples(low, high, next(power * each for each in (1, 2, 5, 10) if power * each >= rough * (1 - 1e-9)))


def time_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """As `ticks`, in seconds that are round as a clock has it."""
    steps = [unit * each for unit in (1, 60) for each in (1, 2, 5, 10, 15, 20, 30)]
    steps += [3600 * each for each in (1, 2, 3, 6, 12, 24)]
    rough = (high - low) / count
    return (
        ticks(low, high, count)
        if rough < 1 or rough > steps[-1]
        else _multiples(low, high, next(step for step in steps if step >= rough))
    )


def _multiples(low: float, high: float, step: float) -> list[float]:
    return [index * step for index in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def scale_for(values: Sequence[float], bendable: bool) -> Scale:
    """A scale that holds nearly all values: of many, the largest 3% are cut off at the upper edge."""
    ordered = sorted(values)
    top = len(ordered) - 1
    low, high = ordered[0], ordered[int(0.97 * top) if len(ordered) >= MANY else top]
    sizes = sorted(abs(value) for value in values if value)
    if bendable and sizes and sizes[-1] > BEND * sizes[len(sizes) // 10]:
        return Scale(min(low, 0.0), high, bend=max(sizes[len(sizes) // 10], sizes[-1] / 1e4))
    margin = 0.06 * (high - low) or abs(high) * 0.1 or 1.0
    return Scale(low - margin if low < 0 or low > 0.3 * high else 0.0, high + margin)


def curves(
    lines: Sequence[Line], *, title: str, x_name: str, x_text: Callable[[float], str] = counted,
    x_ticks: Callable[[float, float], list[float]] = ticks, bendable: bool = True, top: Top | None = None,
) -> Html:  # fmt: skip
    """Curves over one axis, with a description for those who do not see it; empty text where nothing can be drawn."""
    drawn = [line for line in lines if line.xs]
    if not drawn:
        return Html("")
    right = max(line.xs[-1] for line in drawn)
    across, above = Scale(0.0, right), TOP + (16 if top else 0)
    up = scale_for([value for line in drawn for value in line.ys], bendable)

    def at(x: float, y: float) -> tuple[float, float]:
        return LEFT + across(x) * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up(y) * (HEIGHT - above - BOTTOM)

    parts: list[Html] = []
    for value in up.ticks():
        _, y = at(0, value)
        parts.append(tag("line", class_="grid", x1=LEFT, x2=WIDTH - RIGHT, y1=f"{y:.1f}", y2=f"{y:.1f}"))
        parts.append(tag("text", counted(value), x=LEFT - 6, y=f"{y + 3.5:.1f}", text_anchor="end"))
    for value in x_ticks(0.0, right):
        x, _ = at(value, 0)
        anchor = "end" if x > WIDTH - RIGHT - 12 else "middle"
        parts.append(tag("text", x_text(value), x=f"{x:.1f}", y=HEIGHT - BOTTOM + 14, text_anchor=anchor))
    parts.append(tag("text", x_name, x=(LEFT + WIDTH - RIGHT) / 2, y=HEIGHT - 3, text_anchor="middle"))
    for value in time_ticks(0.0, top.there[-1]) if top else ():
        x, _ = at(float(np.interp(value, top.there, top.xs)) if top else 0.0, 0)
        parts.append(
            tag("text", clock(value), x=f"{x:.1f}", y=TOP + 4, text_anchor="end" if x > WIDTH - 24 else "middle")
        )
    for line in drawn:
        points = [at(x, y) for x, y in zip(line.xs, line.ys, strict=True)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(tag("polyline", points=path, class_=f"line c{line.place % 8} d{line.dash % 4}"))
        x, y = points[-1]
        parts.append(tag("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=2.6, class_=f"dot c{line.place % 8}"))
    ends = ", ".join(f"{line.name} ends at {counted(line.ys[-1])}" for line in drawn)
    label = f"{title} over {x_name}: {ends}"
    return tag("svg", tag("title", label), parts, class_="chart", viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img")


def bar(value: float, interval: tuple[float, float] | None, *, real: float, worst: float, place: int) -> Html:
    """How far a value is from that of real pictures, as a share of the worst one's way; the whisker is its interval."""

    def at(each: float) -> float:
        return 100 * min(max((each - real) / (worst - real), 0.0), 1.0) if worst != real else 0.0

    shapes = [tag("rect", class_="track", x=0, y=5, width=100, height=2)]
    shapes.append(tag("rect", class_=f"fill c{place % 8}", x=0, y=2, width=f"{max(at(value), 0.8):.2f}", height=8))
    if interval:
        ends = sorted(at(each) for each in interval)
        shapes.append(tag("line", class_="whisker", x1=f"{ends[0]:.2f}", x2=f"{ends[1]:.2f}", y1=6, y2=6))
    return tag("svg", shapes, class_="bar", viewBox="0 0 100 12", preserveAspectRatio="none", aria_hidden="true")


def strip(
    value: float, interval: tuple[float, float] | None, *, real: float | None, low: float, high: float, place: int
) -> Html:
    """A value with its interval on a line from `low` to `high`, and a dashed mark where real pictures are."""

    def at(each: float) -> str:
        return f"{2 + 96 * min(max((each - low) / (high - low), 0.0), 1.0) if high > low else 50:.2f}"

    shapes = [tag("line", class_="track", x1=0, x2=100, y1=13, y2=13)]
    if real is not None:
        shapes.append(tag("line", class_="real", x1=at(real), x2=at(real), y1=0, y2=26))
    if interval:
        shapes.append(tag("line", class_="whisker", x1=at(interval[0]), x2=at(interval[1]), y1=13, y2=13))
    shapes.append(tag("line", class_="value", x1=at(value), x2=at(value), y1=6, y2=20))
    return tag("svg", shapes, class_=f"c{place % 8}", viewBox="0 0 100 26", preserveAspectRatio="none",
               aria_hidden="true")  # fmt: skip
