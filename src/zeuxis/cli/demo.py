"""`zeuxis demo`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from zeuxis.data import Dataset

DEMO_KIMG = 300.0
SAMPLES = 1000


def demo(
    out: Annotated[Path, typer.Option(help="Where the run folder goes.")] = Path("runs"),
    kimg: Annotated[float, typer.Option(help="Length in thousands of images shown.")] = DEMO_KIMG,
) -> None:
    """Train on built-in handwritten digits, sample, judge, and show where the pictures are."""
    from rich.console import Console

    from zeuxis.cli.show import say
    from zeuxis.cli.train import open_data, run
    from zeuxis.config import TrainOptions, parse

    console = Console()
    options = parse(TrainOptions, {"model": "gan", "conditional": True, "kimg": kimg, "snapshots": 5}, "--")
    dataset = open_data(console, "digits", options)
    outcome = run(console, options, dataset, out, None)
    if outcome.status == "interrupted":
        raise typer.Exit(130)
    judge(console, outcome.folder / "model", dataset)
    say(console, f"samples        {outcome.folder / 'model' / 'samples.png'}")
    say(console, f"real pictures  {outcome.folder / 'reals.png'}")
    say(console, f"more           zeuxis sample {outcome.folder} --class 7")


def judge(console: Any, model_folder: Path, dataset: Dataset) -> None:
    """Prints the metrics of the model and how many of its digits can be read."""
    import numpy as np

    from zeuxis.checkpoint import load_model
    from zeuxis.cli.evaluate import metric_table
    from zeuxis.evaluation import evaluate
    from zeuxis.metrics.agreement import neighbour_agreement
    from zeuxis.sampling import Sampler

    sampler = Sampler(load_model(model_folder))
    with console.status("judging"):
        rows = evaluate(sampler(range(SAMPLES)), dataset, num=len(dataset.test))
        samples = np.concatenate(list(sampler(range(SAMPLES))))
        agreement = neighbour_agreement(samples, dataset.train.all(), dataset.train.labels)
    console.print(metric_table(rows))
    console.print(
        f"readable: the ten nearest real digits agree on the class of {agreement.share:.0%} of {SAMPLES} samples; "
        f"the rarest class has {agreement.class_shares.min():.0%}", markup=False, highlight=False,
    )  # fmt: skip
