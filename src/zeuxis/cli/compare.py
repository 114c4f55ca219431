"""`zeuxis compare`."""

from __future__ import annotations

import shlex
import time
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zeuxis.cli.train import Channels, Fit, Wrap

if TYPE_CHECKING:
    from zeuxis.compare.entries import Comparison
    from zeuxis.compare.subjects import Subject
    from zeuxis.config import TrainOptions
    from zeuxis.data import Dataset


def compare(
    context: typer.Context,
    what: Annotated[
        list[str],
        typer.Argument(metavar="RUN|NAME=PICTURES...", help="With --models, the DATA to train on comes first."),
    ],
    html: Annotated[Path, typer.Option(help="The page to write.")] = Path("report.html"),
    data: Annotated[str | None, typer.Option(help="The real pictures; the runs' own when not given.")] = None,
    models: Annotated[str, typer.Option(help="Comma-separated models to train: gan,vae,dcgan/radford.")] = "",
    budget: Annotated[str | None, typer.Option(help="Time for each model: 90s, 10m, 1.5h.")] = None,
    kimg: Annotated[float | None, typer.Option(help="Or thousands of images shown to each.")] = None,
    conditional: Annotated[bool, typer.Option("--conditional", help="Learn the classes.")] = False,
    mirror: Annotated[bool, typer.Option("--mirror", help="Flip pictures left to right at random.")] = False,
    resolution: Annotated[str, typer.Option(help="auto, a side, or WIDTHxHEIGHT; multiples of 4.")] = "auto",
    fit: Annotated[Fit, typer.Option(help="For pictures of another shape.")] = Fit.crop,
    channels: Annotated[Channels, typer.Option(help="1 grey, 3 RGB, 4 RGBA.")] = Channels.auto,
    wrap: Annotated[Wrap | None, typer.Option(help="Edges that continue into each other.")] = None,
    snapshots: Annotated[int, typer.Option(help="How often models are judged while they train.")] = 10,
    out: Annotated[Path, typer.Option(help="Where run folders go.")] = Path("runs"),
    metrics: Annotated[str, typer.Option(help="Comma-separated, as of `zeuxis evaluate`; all when not given.")] = "",
    num: Annotated[int, typer.Option(min=1, help="Pictures on each side, at most.")] = 10_000,
    features: Annotated[str, typer.Option(help="Comma-separated extractors.")] = "dataset",
    draws: Annotated[int, typer.Option(min=1, help="How often each model is sampled.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Of training, and the first of the sampling seeds.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps, ...")] = "auto",
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the numbers as JSON too.")
    ] = None,
) -> None:
    """Compare runs and any other tool's pictures on one page, or train models for the same time and compare them."""
    from rich.console import Console

    from zeuxis.cli.show import waiting
    from zeuxis.cli.train import open_data
    from zeuxis.compare.gather import Judging, check, write_page
    from zeuxis.compare.gather import compare as judge
    from zeuxis.compare.subjects import parse_subject, shared_data

    console = Console()
    subjects = [parse_subject(text) for text in (what[1:] if models else what)]
    judging = Judging(num, _names(metrics), _names(features) or ("dataset",), draws, seed, device)
    missing: list[str] = []
    if models:
        values = {"conditional": conditional, "mirror": mirror, "device": device, "seed": seed, "snapshots": snapshots}
        asked = _asked(models, budget, kimg, values, _data_values(resolution, fit, channels, wrap))
        dataset = open_data(console, what[0], asked[0])
        with waiting(console) as progress:
            check(judging, dataset, progress)
        _writable(html)
        trained, missing = train_all(console, dataset, asked, out)
        subjects = trained + subjects
    with waiting(console) as progress:
        if not models:
            progress("reading", 0, 0)
            dataset = shared_data(subjects, data, progress)
        comparison = judge(subjects, dataset, judging, command=repeated(context), missing=missing, progress=progress)
        progress("drawing the page", 0, 0)
        write_page(comparison, html)
    _finish(console, comparison, html, json_file)


def _finish(console: Any, comparison: Comparison, html: Path, json_file: Path | None) -> None:
    from zeuxis.compare.verdict import verdict
    from zeuxis.files import write_json

    if json_file is not None:
        write_json(json_file, comparison.to_json())
    console.print(verdict(comparison).headline, markup=False, highlight=False)
    console.print(f"page {html}", markup=False, highlight=False)


def _writable(page: Path) -> None:
    """Finds out before the training, not after it."""
    from zeuxis.errors import UserError

    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        if page.is_dir():
            raise IsADirectoryError(21, "it is a folder")
    except OSError as error:
        raise UserError("--html", str(page), "a file that can be written", str(error.strerror)) from None


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _data_values(resolution: str, fit: Fit, channels: Channels, wrap: Wrap | None) -> dict[str, Any]:
    from zeuxis.config import parse_resolution

    return {"resolution": parse_resolution(resolution), "fit": fit.value, "wrap": wrap.value if wrap else "",
            "channels": "auto" if channels is Channels.auto else int(channels.value)}  # fmt: skip


def _asked(
    models: str, budget: str | None, kimg: float | None, values: dict[str, Any], data: dict[str, Any]
) -> list[TrainOptions]:
    """What `zeuxis train` would be asked for, model by model; one length for all of them is a must."""
    from zeuxis.config import TrainOptions, parse, parse_duration
    from zeuxis.errors import UserError
    from zeuxis.families import resolve_name

    names = _names(models)
    full = [resolve_name(name, "--models") for name in names]
    for name, resolved in zip(names, full, strict=True):
        if full.count(resolved) > 1:
            raise UserError("--models", name, "each model once", f"{resolved} is named twice")
    if (budget is None) == (kimg is None):
        given = None if budget is None else f"{budget} and --kimg {kimg:g}"
        raise UserError("--budget", given, "the same time for each model, such as 10m", "or the same --kimg")
    length = {"kimg": kimg, "budget": None if budget is None else parse_duration(budget)}
    return [parse(TrainOptions, {**values, **length, "model": name, "data": data}, "compare") for name in names]


def train_all(console: Any, dataset: Dataset, asked: list[TrainOptions], out: Path) -> tuple[list[Subject], list[str]]:
    """Trains one after the other, each from its own start; finished ones are taken as they are, begun ones go on.

    A model whose run breaks does not end the comparison: it is left out with a sentence that says why.
    """
    from zeuxis.compare.subjects import finished_run, parse_subject
    from zeuxis.errors import RunFault, UserError

    subjects, missing = [], []
    for number, options in enumerate(asked, 1):
        run = finished_run(out, {"options": options.to_json(), "data": dataset.key})
        about = f"{options.model} ({number} of {len(asked)})"
        console.print(f"{about}: already trained in {run}" if run else f"{about}:", markup=False, highlight=False)
        try:
            run = run or _train(console, options, dataset, out)
        except RunFault as fault:
            console.print(f"{options.model} is left out: {fault}", markup=False, highlight=False)
            missing.append(f"{options.model} is not here, its training broke off: {fault}.")
            continue
        subjects.append(parse_subject(str(run)))
    if not subjects:
        raise UserError("--models", None, "at least one model whose training does not break off", "see the log above")
    return subjects, missing


def _train(console: Any, options: TrainOptions, dataset: Dataset, out: Path) -> Path:
    """One run by the loop of `zeuxis train`, with the memory it took noted; a signal ends the whole command."""
    from zeuxis.cli.show import RunDisplay
    from zeuxis.compare.record import note_peak
    from zeuxis.compare.usage import peak_bytes, reset_peak
    from zeuxis.metrics.selection import selection_score
    from zeuxis.planning import choose_device
    from zeuxis.training import start

    started, device = time.monotonic(), choose_device(options.device)
    counted = reset_peak(device)
    with RunDisplay(console) as display:
        training = start(options, dataset, out, listen=display, started=started)
        outcome = training.run(score=selection_score(dataset))
    if counted:
        note_peak(outcome.folder, peak_bytes(device))
    if outcome.status == "interrupted":
        raise typer.Exit(130)
    return outcome.folder


def repeated(context: typer.Context) -> str:
    """The command line as it would be typed again: what differs from the defaults."""
    words = ["zeuxis", "compare"]
    for param in context.command.params:
        value = context.params.get(param.name or "")
        flag = next((option for option in param.opts if option.startswith("--")), None)
        if flag is None:
            words += [str(each) for each in value or ()]
        elif value != param.get_default(context) and value is not None:
            text = value.value if isinstance(value, Enum) else str(value)
            words += [flag] if isinstance(value, bool) else [flag, text]
    return shlex.join(words)
