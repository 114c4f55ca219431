"""`zeuxis score`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

COLUMNS = 8  # pictures in a row of the sheet


class Which(StrEnum):
    """Pictures of which split."""

    all = "all"
    train = "train"
    val = "val"
    test = "test"


def score(
    model: Annotated[Path, typer.Argument(help="A model or run folder with a likelihood (`zeuxis info` says).")],
    data: Annotated[str, typer.Argument(help="Pictures to rank: any form of DATA.")],
    split: Annotated[Which, typer.Option(help="Pictures of which split.")] = Which.all,
    samples: Annotated[int, typer.Option(min=1, max=100_000, help="K of a bound: more is tighter and slower.")] = 16,
    show: Annotated[int, typer.Option(min=1, max=64, help="Most and least likely pictures that are shown.")] = 8,
    out: Annotated[Path, typer.Option(help="Folder for the sheet and the tables.")] = Path("scores"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps, ...")] = "auto",
) -> None:
    """Rank pictures by how likely a model finds them, and by how unusual they are for it."""
    from dataclasses import asdict

    from rich.table import Table
    from rich.text import Text

    from zeuxis.checkpoint import load_model
    from zeuxis.cli.desk import make_folder, working
    from zeuxis.cli.evaluate import data_of
    from zeuxis.cli.show import say
    from zeuxis.errors import printable
    from zeuxis.files import write_json
    from zeuxis.images import SHEET_MARK, grid, save_png, sheet_scale
    from zeuxis.planning import choose_device
    from zeuxis.scoring import WARNING, extremes, write_csv
    from zeuxis.scoring import score as score_all

    with working() as (console, progress):
        loaded = load_model(model)
        dataset, remarks = data_of(loaded, data, progress)
        place = choose_device(device)
        rows = score_all(loaded, dataset, split=split.value, samples=samples, device=place, progress=progress)
        folder = make_folder(out)
        write_csv(rows, folder / "scores.csv")
        exact = loaded.family.exact_likelihood
        kind = "exact" if exact else f"lower bound, {samples} importance samples"
        write_json(folder / "scores.json", {"model": loaded.name, "weights": loaded.hash, "data": dataset.name,
                                            "likelihood": kind, "unit": loaded.family.likelihood_unit,
                                            "warning": WARNING, "pictures": [asdict(row) for row in rows]})  # fmt: skip
        pictures = extremes(rows, dataset, show)
        sheet = grid(pictures.transpose(0, 2, 3, 1), min(COLUMNS, show, len(rows)),
                     scale=sheet_scale(*pictures.shape[2:]))  # fmt: skip
        save_png(sheet, folder / "extremes.png", {SHEET_MARK: "Zeuxis"})
    table = Table("picture", "class", "nats", "bits per value", "compressed", "unusual",
                  title=Text(f"{loaded.name} on {dataset.name}: most and least likely ({kind})"))  # fmt: skip
    count = min(show, (len(rows) + 1) // 2)
    for row in [*rows[:count], *rows[max(count, len(rows) - count) :]]:
        numbers = ("" if value is None else f"{value:.3f}" for value in (row.bits, row.compressed, row.unusual))
        table.add_row(Text(printable(row.name)), Text(printable(row.label)), f"{row.nats:.1f}", *numbers)
    console.print(table)
    for line in (WARNING, *remarks, f"{len(rows)} pictures: {folder / 'scores.csv'}, {folder / 'scores.json'}, "
                                    f"{folder / 'extremes.png'} (most likely above, least likely below)"):  # fmt: skip
        say(console, line)
