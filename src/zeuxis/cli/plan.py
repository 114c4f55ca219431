"""`zeuxis plan`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zeuxis.cli.train import Channels, Fit, Precision, Wrap

if TYPE_CHECKING:
    from zeuxis.config import TrainOptions
    from zeuxis.data import Dataset
    from zeuxis.forecast import Forecast


def plan(
    data: Annotated[str, typer.Argument(help="Any form of DATA.")],
    model: Annotated[str, typer.Option(help="A family, network or preset; all of them when empty.")] = "",
    budget: Annotated[str | None, typer.Option(help="Time to train: 90s, 10m, 1.5h. Picks a preset for it.")] = None,
    kimg: Annotated[float | None, typer.Option(help="Length to plan for instead of each preset's own.")] = None,
    resolution: Annotated[str, typer.Option(help="auto, a side, or WIDTHxHEIGHT; multiples of 4.")] = "auto",
    fit: Annotated[Fit, typer.Option(help="For pictures of another shape.")] = Fit.crop,
    channels: Annotated[Channels, typer.Option(help="1 grey, 3 RGB, 4 RGBA.")] = Channels.auto,
    frames: Annotated[int, typer.Option(help="Frames of a clip; 1 for pictures.")] = 1,
    wrap: Annotated[Wrap | None, typer.Option(help="Edges that continue into each other.")] = None,
    batch: Annotated[int | None, typer.Option(help="Images per step; each preset's when not given.")] = None,
    conditional: Annotated[bool, typer.Option("--conditional", help="Learn the classes.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps, ...")] = "auto",
    precision: Annotated[Precision, typer.Option(help="auto takes the faster by a timing.")] = Precision.auto,
    snapshots: Annotated[int, typer.Option(help="How often samples are drawn and the model is judged.")] = 10,
    patience: Annotated[str, typer.Option(help="No new measurement is begun after this time.")] = "2m",
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure again what is known already.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON alone.")] = False,
) -> None:
    """Time a few steps of every preset on these pictures and this machine: speed, memory, finish; no training."""
    from rich.console import Console

    from zeuxis.cli import STARTED
    from zeuxis.cli.show import say, waiting
    from zeuxis.cli.train import open_data
    from zeuxis.config import TrainOptions, parse, parse_duration, parse_resolution
    from zeuxis.forecast import forecasts, matching
    from zeuxis.metrics.selection import selection_score

    values: dict[str, Any] = {
        "kimg": kimg, "budget": None if budget is None else parse_duration(budget), "batch": batch,
        "conditional": conditional, "device": device, "precision": precision.value, "snapshots": snapshots,
        "data": {"resolution": parse_resolution(resolution), "fit": fit.value, "wrap": wrap.value if wrap else "",
                 "channels": "auto" if channels is Channels.auto else int(channels.value), "frames": frames},
    }  # fmt: skip
    options = parse(TrainOptions, values, "--")
    names, seconds = matching(model), parse_duration(patience, "--patience")
    console = Console(stderr=as_json)
    dataset = open_data(console, data, options)
    with waiting(console) as progress:
        rows = forecasts(
            options, dataset, names, patience=seconds, startup=time.monotonic() - STARTED, fresh=fresh,
            score=selection_score(dataset), progress=progress,
        )  # fmt: skip
    if as_json:
        say(Console(), _document(options, dataset, rows))
        return
    console.print(_table(rows, options))
    for line in _remarks(rows, options, data):
        say(console, line)


def _picks(rows: list[Forecast], budget: float) -> dict[str, tuple[Forecast, str]]:
    """For each family the row to train and why, in the order of the table."""
    from zeuxis.forecast import picked

    families = dict.fromkeys(row.model.split("/")[0] for row in rows)
    found = {name: picked([row for row in rows if row.model.split("/")[0] == name], budget) for name in families}
    return {name: pick for name, pick in found.items() if pick is not None}


def _document(options: TrainOptions, dataset: Dataset, rows: list[Forecast]) -> str:
    import json

    picks = {} if options.budget is None else _picks(rows, options.budget)
    return json.dumps({
        "data": dataset.name, "spec": dataset.spec.to_json(), "train_pictures": len(dataset.train),
        "budget": options.budget, "presets": [row.to_json() for row in rows],
        "picks": {name: {"model": row.model, "reason": reason} for name, (row, reason) in picks.items()},
    }, indent=2, ensure_ascii=False)  # fmt: skip


def _table(rows: list[Forecast], options: TrainOptions) -> Any:
    from rich.table import Table
    from rich.text import Text

    from zeuxis.cli.show import clock

    table = Table(box=None, pad_edge=False)
    table.add_column("model", no_wrap=True)
    for heading in ("images/s", "memory", "length", "takes", *(["in budget"] if options.budget is not None else [])):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for row in rows:
        if not row.problem:
            cells = [f"{row.images_per_second:,.0f}", f"{row.peak_bytes / 1e6:,.0f} MB", f"{row.kimg:g} kimg",
                     clock(row.seconds)]  # fmt: skip
            if row.budget_kimg is not None:
                cells.append(f"{row.budget_kimg:,.4g} kimg")
            table.add_row(row.model, *cells, Text(_notes(row)))
    return table


def _notes(row: Forecast) -> str:
    notes = [row.arithmetic]  # number format and kernels, the fastest by a timing
    if row.micro_batch < row.batch:
        notes.append(f"{row.micro_batch} of {row.batch} pictures at once")
    if row.rough:
        notes.append("rough: timed on a part of a batch")
    return "; ".join(notes)


def _remarks(rows: list[Forecast], options: TrainOptions, data: str) -> list[str]:
    """What has no row and why, the picks with their commands, and whether something else kept the machine busy."""
    import os
    import shlex

    lines = []
    for problem in dict.fromkeys(row.problem for row in rows if row.problem):
        lines.append(f"{problem}: {', '.join(row.model for row in rows if row.problem == problem)}")
    for row, reason in [] if options.budget is None else _picks(rows, options.budget).values():
        name = shlex.quote(str(Path(data)) if Path(data).exists() else data)
        lines.append(f"{row.model}: {reason}")
        lines.append(f"  zeuxis train {name} --model {row.model} --budget {options.budget:g}s")
    busy = max((row.load for row in rows), default=0.0)
    if busy > 0.75 * (os.cpu_count() or 1):
        lines.append(f"other programs kept the machine busy while some of this was timed (load {busy:g}): "
                     "`zeuxis plan --fresh` measures again")  # fmt: skip
    return lines
