"""`zeuxis tune-ema`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def tune_ema(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run of 2,000 steps or more.")],
    data: Annotated[str, typer.Option(help="Where the run's pictures are now, if they were moved.")] = "",
    lengths: Annotated[str, typer.Option(help="Comma-separated sigma_rel to try; a usual set when empty.")] = "",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps, ...")] = "auto",
) -> None:
    """Choose how far back a trained model's weights are averaged, judged on validation pictures."""
    from rich.console import Console
    from rich.table import Table

    from zeuxis.cli.show import say
    from zeuxis.cli.train import open_data
    from zeuxis.config import TrainOptions, parse
    from zeuxis.errors import UserError
    from zeuxis.metrics.selection import selection_score
    from zeuxis.planning import choose_device
    from zeuxis.runs import RunFolder
    from zeuxis.tuning import LENGTHS, tune

    console = Console()
    folder = RunFolder.open(run, "RUN")
    config = folder.config
    folder.close()
    wanted = parse_lengths(lengths) or LENGTHS
    options = parse(TrainOptions, config["asked"]["options"], "RUN")
    source = data or config["resolved"].get("source") or ""
    if not source:
        raise UserError("--data", "", "the pictures that the run was trained on", "this run was trained on an array")
    dataset = open_data(console, source, options)
    score = selection_score(dataset)
    if score is None:
        raise UserError("DATA", dataset.name, "some validation pictures", "there is nothing to judge averages by")
    with console.status("") as status:
        tried = tune(run, dataset, score, lengths=wanted, device=choose_device(device), progress=status.update)
    table = Table("averaged over (sigma_rel)", tried[0].metric, "")
    for each in tried:
        length = "as it was" if each.length is None else f"{each.length:g}"
        table.add_row(length, f"{each.value:.5g}", "the model now" if each.chosen else "")
    console.print(table)
    kept = "the model stays as it was" if tried[0].chosen else f"model {run / 'model'}"
    say(console, kept)


def parse_lengths(text: str) -> tuple[float, ...]:
    """`0.03,0.1` as numbers; empty for nothing."""
    from zeuxis.errors import UserError

    try:
        found = tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        found = (-1.0,)
    if any(not 0.01 <= length <= 0.25 for length in found):
        raise UserError("--lengths", text, "numbers from 0.01 to 0.25, such as 0.03,0.1", "try --lengths 0.05,0.1")
    return found
