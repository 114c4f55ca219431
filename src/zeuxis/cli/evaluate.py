"""`zeuxis evaluate`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from zeuxis.checkpoint import Model
    from zeuxis.data import Dataset
    from zeuxis.evaluation import Row
    from zeuxis.images import Pixels

SHEET_PICTURES = 2000  # among which the ones nearest to training pictures are looked for


class Wrapped(StrEnum):
    """Axes on which the edges continue into each other."""

    x = "x"
    y = "y"
    xy = "xy"


def evaluate(
    what: Annotated[
        str, typer.Argument(metavar="MODEL|PICTURES", help="A model or run folder, or pictures in any form of DATA.")
    ],
    data: Annotated[str, typer.Option(help="The real pictures: any form of DATA.")],
    metrics: Annotated[str, typer.Option(help="Comma-separated, such as fd,kid,pr; all that apply when empty.")] = "",
    num: Annotated[
        int | None, typer.Option(min=1, help="Pictures on each side, at most: 10,000, or fewer where drawing is slow.")
    ] = None,
    features: Annotated[str, typer.Option(help="Extractors: dataset,efficientnet,inception.")] = "dataset",
    draws: Annotated[
        int | None, typer.Option(min=1, help="Independent sets of samples of a model: 3, or 1 where drawing is slow.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="First of the sampling seeds.")] = 0,
    wrap: Annotated[Wrapped | None, typer.Option(help="Edges of foreign pictures that should meet.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps, ...")] = "auto",
    processes: Annotated[int, typer.Option(min=1, help="That draw and look in turns; the table is the same.")] = 1,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the table as JSON too.")
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Draw pictures beside their nearest real ones.")
    ] = None,
) -> None:  # fmt: skip
    """Judge a model, or any tool's pictures, against held-out real pictures."""
    from rich.console import Console

    from zeuxis.checkpoint import CONFIG
    from zeuxis.cli import launch
    from zeuxis.cli.show import waiting
    from zeuxis.distributed import join, leave
    from zeuxis.errors import UserError

    if processes > 1 and not launch.started_by_us():
        raise typer.Exit(launch.launch(processes))
    world = join(device)
    console = Console(quiet=not world.is_writer)
    names, extractors = _names(metrics), _names(features) or ["dataset"]
    with waiting(console) as progress:
        progress("reading", 0, 0)
        if (Path(what) / CONFIG).is_file():
            from zeuxis.evaluation import usual_protocol

            model, dataset, rows, remarks = _of_model(
                what, data, num, draws, progress, metrics=names, features=extractors, seed=seed, device=device
            )
            if sheet is not None and model.family.context:
                raise UserError("--sheet", str(sheet), "pictures", "snapshots of a run show predicted frames")
            own = sheet is not None and world.is_writer
            pictures = _samples(model, seed, min(num or usual_protocol(model)[0], SHEET_PICTURES)) if own else None
        else:
            from zeuxis.evaluation import evaluate as judge

            num = num or 10_000
            dataset, judged, labels, remarks = _foreign(what, data, wrap.value if wrap else "", num, progress)
            chunks = _chunks(judged.train, labels[0])
            rows = judge(
                chunks, dataset, num=num, metrics=names, features=extractors, labels=labels[1], progress=progress
            )
            pictures = None if sheet is None else judged.train.take(labels[0][:SHEET_PICTURES])
        leave()
        if not world.is_writer:
            return
        if sheet is not None and pictures is not None:
            _write_sheet(sheet, pictures, dataset, extractors[0], progress)
    console.print(metric_table(rows))
    for remark in remarks:
        console.print(remark, markup=False, highlight=False)
    if sheet is not None:
        console.print(f"picture, nearest training, nearest held-out: {sheet}", markup=False, highlight=False)
    if json_file is not None:
        _write("--json", json_file, {"what": what, "data": data, "rows": [row.to_json() for row in rows]})


def _of_model(
    what: str, data: str, num: int | None, draws: int | None, progress: Any, *, device: str, **protocol: Any
) -> tuple[Model, Dataset, list[Row], list[str]]:  # fmt: skip
    """A model, the data at its size, the table, and remarks."""
    from zeuxis.checkpoint import load_model
    from zeuxis.evaluation import evaluate_model, usual_protocol
    from zeuxis.evaluation_frames import evaluate_clips
    from zeuxis.planning import choose_device

    model = load_model(what)
    dataset, remarks = data_of(model, data, progress)
    usual = usual_protocol(model)
    judge = evaluate_clips if model.family.context else evaluate_model
    rows = judge(
        model, dataset, num=num or usual[0], draws=draws or usual[1], device=str(choose_device(device)),
        progress=progress, **protocol,
    )  # fmt: skip
    return model, dataset, rows, remarks


def data_of(model: Model, data: str, progress: Any) -> tuple[Dataset, list[str]]:
    """The data at the model's own size, and a remark where it is not what the model was trained on."""
    from zeuxis.config import DataOptions
    from zeuxis.data import open_dataset

    spec = model.spec
    wrap = ("x" if spec.wrap_x else "") + ("y" if spec.wrap_y else "")
    options = DataOptions.model_validate(
        {"resolution": (spec.height, spec.width), "channels": spec.channels, "wrap": wrap, "frames": spec.frames}
    )
    dataset = open_dataset(data, options, progress=progress)
    other = model.about.get("fingerprint") not in (None, dataset.fingerprint)
    return dataset, ["the model was trained on other data than these"] if other else []


def _foreign(what: str, data: str, wrap: str, num: int, progress: Any) -> tuple[Dataset, Dataset, Any, list[str]]:
    """The data, the pictures to judge at its size, which of them (spread evenly, where there are more than enough) with
    their classes where these are the data's, and remarks."""
    from zeuxis.config import DataOptions
    from zeuxis.data import open_dataset
    from zeuxis.metrics.extractors import split_positions

    dataset = open_dataset(data, DataOptions.model_validate({"wrap": wrap}), progress=progress)
    spec = dataset.spec
    options = DataOptions.model_validate(
        {"resolution": (spec.height, spec.width), "channels": spec.channels, "wrap": wrap, "test_fraction": 0.0,
         "val_fraction": 0.0}
    )  # fmt: skip
    judged = open_dataset(what, options, progress=progress)
    pictures = judged.train
    places = split_positions(len(pictures), min(num, len(pictures)))
    classes = None
    if judged.classes and set(judged.classes) <= set(dataset.classes) and (pictures.labels >= 0).all():
        import numpy as np

        same = np.array([dataset.classes.index(name) for name in judged.classes])
        classes = same[pictures.labels[places]]
    return dataset, judged, (places, classes), judged.report.skipped_lines()


def _chunks(split: Any, places: Any) -> Iterator[Pixels]:
    for start in range(0, len(places), 256):
        yield split.take(places[start : start + 256])


def _samples(model: Model, seed: int, count: int) -> Pixels:
    import numpy as np

    from zeuxis.sampling import Sampler

    return np.concatenate(list(Sampler(model)(range(seed, seed + count))))


def _write_sheet(path: Path, pictures: Pixels, dataset: Dataset, extractor: str, progress: Any) -> None:
    from zeuxis.images import save_png
    from zeuxis.metrics.extractors import make_extractor
    from zeuxis.metrics.sheet import neighbour_sheet

    progress("nearest pictures", 0, 0)
    picture = neighbour_sheet(pictures, dataset, make_extractor(extractor, dataset), progress)
    _writing("--sheet", path, lambda: save_png(picture, path))


def _write(option: str, path: Path, document: dict[str, Any]) -> None:
    from zeuxis.files import write_json

    _writing(option, path, lambda: write_json(path, document))


def _writing(option: str, path: Path, write: Callable[[], None]) -> None:
    from zeuxis.errors import UserError

    try:
        write()
    except OSError as error:
        raise UserError(option, str(path), "a file that can be written", str(error.strerror)) from None


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def metric_table(rows: Sequence[Row]) -> Any:
    """The rows for the terminal: a table for each extractor and reference."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    first = rows[0]
    seeds = f", {len(first.seeds)} draws from seed {first.seeds[0]}" if first.seeds else ""
    what = f"{first.num:,} pictures against as many real ones{seeds}"
    if first.group == "prediction":
        what = f"predictions of {first.num:,} windows of held-out clips"
    parts: list[Any] = [Text(what)]
    for heading in dict.fromkeys(sorted(map(_heading, rows))):
        table = Table("metric", title=Text(heading), title_justify="left")
        table.add_column("value", justify="right")
        table.add_column("95% interval", justify="right")
        table.add_column("real", justify="right")
        table.add_column("", overflow="fold")
        for row in rows:
            if _heading(row) == heading:
                name = row.metric.removesuffix(f"_{row.extractor}") if row.extractor else row.metric
                interval = "" if row.interval is None else f"{row.interval[0]:.4g} to {row.interval[1]:.4g}"
                floor = "" if row.floor is None else f"{row.floor:.4g}"
                remark = f"{row.better} is better" + (f"; {row.note}" if row.note else "")
                table.add_row(*(Text(cell) for cell in (name, f"{row.value:.4g}", interval, floor, remark)))
        parts.append(table)
    return Group(*parts)


def _heading(row: Row) -> str:
    features = f"{row.extractor} {row.extractor_sha256[:12]}".strip() or "the model itself"
    return f"{features}, against {'held-out' if row.reference == 'test' else 'training'} pictures"
