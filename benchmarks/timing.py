"""Fair timing: two things in turns, each warmed up, medians over the turns."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable


def seconds(function: Callable[[], object]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def in_turns(
    ours: Callable[[], object], peer: Callable[[], object], *, turns: int = 7, warm_up: int = 1
) -> tuple[float, float]:
    """Median seconds of each over `turns` alternations, after `warm_up` calls of both."""
    for _ in range(warm_up):
        ours()
        peer()
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(turns):
        times[0].append(seconds(ours))
        times[1].append(seconds(peer))
    return statistics.median(times[0]), statistics.median(times[1])


def report(name: str, **values: object) -> None:
    """One JSON line, as docs/benchmarks.md quotes it."""
    print(json.dumps({"benchmark": name, **values}))
