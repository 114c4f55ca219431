"""`zeuxis evaluate`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from zeuxis.data import Dataset
    from zeuxis.evaluation import Row


def evaluate(
    what: Annotated[
        str, typer.Argument(metavar="MODEL|PICTURES", help="A model or run folder, or pictures in any form of DATA.")
    ],
    data: Annotated[str, typer.Option(help="The real pictures: any form of DATA.")],
    metrics: Annotated[str, typer.Option(help="Comma-separated: fd,kid,pr,dc,copy_rate; all when not given.")] = "",
    num: Annotated[int, typer.Option(min=1, help="Pictures on each side, at most.")] = 10_000,
    features: Annotated[str, typer.Option(help="Comma-separated extractors: dataset,efficientnet,random.")] = "dataset",
    seed: Annotated[int, typer.Option(min=0, help="First of the sampling seeds.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps, ...")] = "auto",
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the table as JSON too.")
    ] = None,
) -> None:
    """Judge a model, or any tool's pictures, against held-out real pictures."""
    from rich.console import Console

    from zeuxis.cli.show import waiting
    from zeuxis.errors import UserError
    from zeuxis.evaluation import evaluate as judge
    from zeuxis.files import write_json

    console = Console()
    with waiting(console) as progress:
        progress("reading", 0, 0)
        pictures, dataset, first_seed, remarks = _sides(what, data, seed, device, progress)
        rows = judge(
            pictures, dataset, num=num, metrics=_names(metrics), features=_names(features),
            seeds=() if first_seed is None else (first_seed,),
            progress=progress,
        )  # fmt: skip
    console.print(metric_table(rows))
    for remark in remarks:
        console.print(remark, markup=False, highlight=False)
    if json_file is not None:
        try:
            write_json(json_file, {"what": what, "data": data, "rows": [row.to_json() for row in rows]})
        except OSError as error:
            raise UserError("--json", str(json_file), "a file that can be written", str(error.strerror)) from None


def _sides(
    what: str, data: str, seed: int, device: str, progress: Any
) -> tuple[Iterable[Any], Dataset, int | None, list[str]]:
    """The pictures to judge, the data at their size, the seed where there is one, and remarks for the reader."""
    from zeuxis.config import DataOptions
    from zeuxis.data import open_dataset

    path = Path(what)
    if (path / "config.json").is_file():
        from zeuxis.checkpoint import load_model
        from zeuxis.planning import choose_device
        from zeuxis.sampling import Sampler

        model = load_model(path)
        spec = model.spec
        options = DataOptions(resolution=(spec.height, spec.width), channels=spec.channels)
        dataset = open_dataset(data, options, progress=progress)
        other = model.about.get("fingerprint") not in (None, dataset.fingerprint)
        remarks = ["the model was trained on other data than these"] if other else []
        return Sampler(model, choose_device(device))(range(seed, seed + 10**9)), dataset, seed, remarks
    dataset = open_dataset(data, progress=progress)
    spec = dataset.spec
    options = DataOptions(
        resolution=(spec.height, spec.width), channels=spec.channels, test_fraction=0.0, val_fraction=0.0
    )
    judged = open_dataset(what, options, progress=progress)
    remarks = judged.report.skipped_lines()
    return judged.train.batches(256), dataset, None, remarks


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def metric_table(rows: Sequence[Row]) -> Any:
    """The rows as a table for the terminal, extractor by extractor."""
    from rich.table import Table
    from rich.text import Text

    first = rows[0]
    seeds = f", seeds from {first.seeds[0]}" if first.seeds else ""
    title = Text(f"{first.num:,} pictures against as many held-out real ones ({first.reference} split){seeds}")
    table = Table("metric", title=title, title_justify="left")
    table.add_column("value", justify="right")
    table.add_column("real", justify="right")
    table.add_column("", overflow="fold")
    shown = ""
    for row in rows:
        if row.extractor != shown:
            shown = row.extractor
            heading = Text(f"features: {row.extractor} {row.extractor_sha256[:12]}", style="italic")
            table.add_row(heading, end_section=False)
        floor = "" if row.floor is None else f"{row.floor:.4g}"
        remark = f"{row.better} is better" + (f"; {row.note}" if row.note else "")
        name = row.metric.removesuffix(f"_{row.extractor}")
        table.add_row(*(Text(cell) for cell in (name, f"{row.value:.4g}", floor, remark)))
    return table
