"""`zeuxis data check`: what is in the data, before anything is trained on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from zeuxis.data import Report

app = typer.Typer(help="Look at pictures before training on them.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Look at pictures before training on them."""


@app.command()
def check(
    data: Annotated[
        str,
        typer.Argument(metavar="DATA", help="A folder, zip, npz, npy or idx file, digits or fashion-mnist."),
    ],
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the report as JSON.")] = None,
    sheet: Annotated[Path | None, typer.Option("--sheet", metavar="FILE", help="Write a contact sheet as PNG.")] = None,
    resolution: Annotated[str, typer.Option(help="auto, a side such as 64, or WIDTHxHEIGHT.")] = "auto",
    channels: Annotated[str, typer.Option(help="auto, 1 (grey), 3 (RGB) or 4 (RGBA).")] = "auto",
    fit: Annotated[str, typer.Option(help="How another shape is brought to it: crop, pad or stretch.")] = "crop",
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that decode; all cores unless given.")] = None,
) -> None:
    """Decodes every file; reports what is broken, doubled or odd, classes, and what would be trained on."""
    from rich.console import Console

    from zeuxis.config import DataOptions, parse, parse_resolution
    from zeuxis.data import scan

    settings: dict[str, Any] = {"resolution": parse_resolution(resolution), "fit": fit}
    settings["channels"] = int(channels) if channels.isdigit() else channels
    options = parse(DataOptions, settings, "data")
    console = Console()
    with console.status(f"reading {data}") as status:
        report = scan(data, options, workers, lambda what, done, total: status.update(f"{what} {done:,} of {total:,}"))
    show(console, report)
    if json_file is not None:
        _write_json(json_file, report)
        console.print(f"report: {json_file}", markup=False, highlight=False)
    if sheet is not None:
        _write_sheet(sheet, report)
        console.print(f"contact sheet: {sheet}", markup=False, highlight=False)
    if not report.pictures:
        raise typer.Exit(2)


def show(console: Any, report: Report) -> None:
    """Prints the table and every skipped file."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(report.name), show_lines=False)
    table.add_column("what", overflow="fold")
    table.add_column("number", justify="right")
    table.add_column("", overflow="fold")
    for row in report.rows():
        table.add_row(*(Text(cell) for cell in row))  # names of files may look like markup
    console.print(table)
    for line in report.skipped_lines(limit=len(report.skipped)):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _write_json(path: Path, report: Report) -> None:
    from zeuxis.errors import UserError
    from zeuxis.files import write_json

    try:
        write_json(path, report.to_json())
    except OSError as error:
        raise UserError("--json", str(path), "a file that can be written", str(error.strerror)) from None


def _write_sheet(path: Path, report: Report) -> None:
    from zeuxis.errors import UserError
    from zeuxis.images import save_png

    picture = report.sheet()
    if picture is None:
        raise UserError("--sheet", str(path), "data with at least one usable picture", "see the list of skipped files")
    try:
        save_png(picture, path)
    except OSError as error:
        raise UserError("--sheet", str(path), "a file that can be written", str(error.strerror)) from None
