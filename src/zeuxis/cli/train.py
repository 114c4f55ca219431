"""`zeuxis train`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from zeuxis.config import TrainOptions
    from zeuxis.data import Dataset
    from zeuxis.training import Outcome
    from zeuxis.transfer import Row


class Fit(StrEnum):
    """How pictures of another shape are brought to the resolution."""

    crop = "crop"
    pad = "pad"
    stretch = "stretch"


class Wrap(StrEnum):
    """Axes on which the edges continue into each other."""

    x = "x"
    y = "y"
    xy = "xy"


class Channels(StrEnum):
    """Grey, RGB or RGBA."""

    auto = "auto"
    grey = "1"
    rgb = "3"
    rgba = "4"


class Precision(StrEnum):
    """Number format of the training arithmetic."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"


class Kernels(StrEnum):
    """How convolutions are computed; graphs: on a CUDA GPU, whole steps are recorded and replayed."""

    auto = "auto"
    plain = "plain"
    patches = "patches"
    winograd = "winograd"
    graphs = "graphs"


def train(
    data: Annotated[str, typer.Argument(help="Folder, zip, .npz, idx file, digits or fashion-mnist.")],
    model: Annotated[str, typer.Option(help="FAMILY[/NETWORK[/PRESET]], such as gan, vae or dcgan/radford.")] = "gan",
    budget: Annotated[str | None, typer.Option(help="Time from start to exit: 90s, 10m, 1.5h.")] = None,
    kimg: Annotated[float | None, typer.Option(help="Length in thousands of images shown.")] = None,
    resolution: Annotated[str, typer.Option(help="auto, a side, or WIDTHxHEIGHT; multiples of 4.")] = "auto",
    fit: Annotated[Fit, typer.Option(help="For pictures of another shape.")] = Fit.crop,
    channels: Annotated[Channels, typer.Option(help="1 grey, 3 RGB, 4 RGBA.")] = Channels.auto,
    frames: Annotated[int, typer.Option(min=1, max=4096, help="Of a clip: leaf folders are clips.")] = 1,
    wrap: Annotated[Wrap | None, typer.Option(help="Edges that continue into each other.")] = None,
    batch: Annotated[int | None, typer.Option(help="Images per step; the preset's when not given.")] = None,
    micro_batch: Annotated[int | None, typer.Option(help="Images at once; gradients accumulate to a batch.")] = None,
    conditional: Annotated[bool, typer.Option("--conditional", help="Learn the classes.")] = False,
    semi_supervised: Annotated[
        bool, typer.Option("--semi-supervised", help="Learn to tell the classes apart from some labels.")
    ] = False,
    labels: Annotated[int | None, typer.Option(help="Hide the classes of all but so many training pictures.")] = None,
    init: Annotated[Path | None, typer.Option(help="Begin with the weights of this model or run.")] = None,
    mirror: Annotated[bool, typer.Option("--mirror", help="Flip pictures left to right at random.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps, ...")] = "auto",
    precision: Annotated[Precision, typer.Option(help="auto takes the faster by a timing.")] = Precision.auto,
    kernels: Annotated[Kernels, typer.Option(help="auto takes the faster by a timing.")] = Kernels.auto,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    snapshots: Annotated[int, typer.Option(help="How often samples are drawn and the model is judged.")] = 10,
    out: Annotated[Path, typer.Option(help="Where run folders go.")] = Path("runs"),
    resume: Annotated[
        Path | None, typer.Option(help="Go on with this run, also to a larger --kimg or --budget.")
    ] = None,
    setting: Annotated[list[str] | None, typer.Option("--set", help="key=value over the preset's settings.")] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Mirror statistics and samples there too.")
    ] = False,
    processes: Annotated[int, typer.Option(min=1, help="On this machine, together; torchrun for more machines.")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be trained and stop.")] = False,
) -> None:
    """Train a generator on pictures. The same command again goes on where an unfinished run stopped."""
    from rich.console import Console

    from zeuxis.cli import launch
    from zeuxis.cli.board import require_tensorboard
    from zeuxis.config import TrainOptions, parse, parse_duration, parse_resolution, parse_settings
    from zeuxis.distributed import join, leave

    console = Console()
    values: dict[str, Any] = {
        "model": model, "kimg": kimg, "budget": None if budget is None else parse_duration(budget), "batch": batch,
        "micro_batch": micro_batch, "conditional": conditional, "mirror": mirror, "device": device,
        "semi_supervised": semi_supervised, "labels": labels, "init": None if init is None else str(init.resolve()),
        "precision": precision.value, "kernels": kernels.value, "seed": seed, "snapshots": snapshots,
        "settings": parse_settings(setting or []),
        "data": {"resolution": parse_resolution(resolution), "fit": fit.value, "wrap": wrap.value if wrap else "",
                 "channels": "auto" if channels is Channels.auto else int(channels.value), "frames": frames},
    }  # fmt: skip
    options = parse(TrainOptions, values, "--")
    if resume is not None:
        options = resumed(options, resume)
    if tensorboard:
        require_tensorboard()
    if processes > 1 and not dry_run and not launch.started_by_us():
        check(console, data, options, processes)
        raise typer.Exit(launch.launch(processes))
    world = join(options.device)
    if not world.is_writer:
        console = Console(quiet=True)
    # What --dry-run prints is JSON alone; remarks on the data must not stand in it.
    dataset = open_data(Console(stderr=True) if dry_run else console, data, options)
    if dry_run:
        show_plan(console, options, dataset)
        return
    outcome = run(console, options, dataset, out, resume, tensorboard and world.is_writer)
    leave()
    if outcome.status == "interrupted":
        raise typer.Exit(130)


def check(console: Any, data: str, options: TrainOptions, processes: int) -> None:
    """Everything that a user can have got wrong, before processes are started; reads the data into the cache."""
    from zeuxis.errors import UserError
    from zeuxis.planning import bind, choose_device

    choose_device(options.device)
    _, family = bind(options, open_data(console, data, options))
    if family.training.batch < processes:
        allowed = f"1 to {family.training.batch}, the pictures of a batch"
        raise UserError("--processes", processes, allowed, "or a larger --batch")


def open_data(console: Any, data: str, options: TrainOptions) -> Dataset:
    """Opens the data with a progress line, and says what was skipped."""
    from rich.markup import escape

    from zeuxis.cli.show import say
    from zeuxis.data import open_dataset

    with console.status(f"reading {escape(data)}") as status:
        dataset = open_dataset(
            data, options.data, progress=lambda what, done, total: status.update(f"{what} {done}/{total}")
        )
    for line in dataset.report.skipped_lines():
        say(console, line)
    return dataset


def run(
    console: Any, options: TrainOptions, dataset: Dataset, out: Path, resume: Path | None, tensorboard: bool = False
) -> Outcome:
    """Trains with the display and the score that chooses the model."""
    from zeuxis.cli import STARTED
    from zeuxis.cli.board import Board
    from zeuxis.cli.show import RunDisplay, say
    from zeuxis.metrics.selection import selection_score
    from zeuxis.training import Event, start

    listeners: list[Callable[[Event], None]] = []

    def listen(event: Event) -> None:
        for listener in listeners:
            listener(event)

    with RunDisplay(console) as display, contextlib.ExitStack() as closing:
        listeners.append(display)
        training = start(options, dataset, out, resume=resume, listen=listen, started=STARTED)
        if training.transferred:
            console.print(transfer_table(training.transferred))
        if tensorboard:
            board = Board(training.folder.path, training.images_seen, lambda line: say(console, line))
            listeners.append(board)
            closing.callback(board.close)
        outcome = training.run(score=selection_score(dataset))
    model = outcome.folder / "model"
    say(console, f"run {outcome.folder}, " + (f"model {model}" if model.exists() else "no model yet"))
    return outcome


def resumed(options: TrainOptions, resume: Path) -> TrainOptions:
    """The options that a run was begun with; only a new --kimg or --budget is taken from the command."""
    import json

    from zeuxis.config import TrainOptions, parse
    from zeuxis.errors import UserError

    try:
        asked = json.loads((resume / "config.json").read_text(encoding="utf-8"))["asked"]["options"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            "--resume", str(resume), "a run folder with config.json", f"it cannot be read: {error}"
        ) from None
    longer = {key: getattr(options, key) for key in ("kimg", "budget") if getattr(options, key) is not None}
    if longer:
        asked |= {"kimg": None, "budget": None, **longer}
    return parse(TrainOptions, asked, "--resume")


def transfer_table(rows: list[Row]) -> Any:
    """What became of each module's tensors: a line for those of one module and one fate."""
    from rich.table import Table
    from rich.text import Text

    table = Table("part", "tensors", "taken", title="begun with other weights", title_justify="left")
    table.add_column("values", justify="right")
    table.add_column("", overflow="fold")
    groups: dict[tuple[str, str, str, str], int] = {}
    for row in rows:
        key = (row.part, row.name.rpartition(".")[0] or row.name, row.taken, row.note)
        groups[key] = groups.get(key, 0) + row.values
    for (part, module, taken, note), values in groups.items():
        table.add_row(part, Text(module), taken, f"{values:,}", Text(note))
    return table


def chosen_table(resolved: dict[str, Any]) -> Any:
    """What was chosen, and why."""
    from rich.table import Table
    from rich.text import Text

    table = Table("chosen", "value", title=Text(resolved["model"]), title_justify="left")
    table.add_column("why", overflow="fold")
    for each in resolved["chosen"]:
        for index, (key, value) in enumerate(each["settings"].items()):
            table.add_row(key, Text(str(value)), Text("" if index else each["why"]))
    return table


def show_plan(console: Any, options: TrainOptions, dataset: Dataset) -> None:
    """Prints everything that would be decided as JSON, and beside it, on standard error, what was chosen and why."""
    import json

    from rich.console import Console

    from zeuxis.cli.show import say
    from zeuxis.planning import resolve

    resolved = {"asked": options.to_json(), "resolved": resolve(options, dataset)}
    if resolved["resolved"]["chosen"]:
        Console(stderr=True).print(chosen_table(resolved["resolved"]))
    say(console, json.dumps(resolved, indent=2, ensure_ascii=False))
