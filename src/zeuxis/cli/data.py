"""`zeuxis data check`: what is in the data, before anything is trained on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zeuxis.cli.train import Channels, Fit

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
    channels: Annotated[Channels, typer.Option(help="1 grey, 3 RGB, 4 RGBA.")] = Channels.auto,
    fit: Annotated[Fit, typer.Option(help="For pictures of another shape.")] = Fit.crop,
    frames: Annotated[int, typer.Option(min=1, max=4096, help="Of a clip: leaf folders are clips.")] = 1,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that decode; all cores unless given.")] = None,
) -> None:
    """Decodes every file; reports what is broken, doubled or odd, classes, and what would be trained on."""
    from rich.console import Console
    from rich.text import Text

    from zeuxis.config import DataOptions, parse, parse_resolution
    from zeuxis.data import scan
    from zeuxis.errors import DataError, printable

    settings: dict[str, Any] = {"resolution": parse_resolution(resolution), "fit": fit.value, "frames": frames}
    settings["channels"] = "auto" if channels is Channels.auto else int(channels.value)
    options = parse(DataOptions, settings, "data")
    console = Console()
    with console.status(Text(printable(f"reading {data}"))) as status:
        report = scan(data, options, workers, lambda what, done, total: status.update(f"{what} {done:,} of {total:,}"))
    show(console, report)
    if json_file is not None:
        _write_json(json_file, report)
        console.print(printable(f"report: {json_file}"), markup=False, highlight=False, soft_wrap=True)
    if not report.pictures:
        got = f"{report.files} files, {len(report.skipped)} skipped, no usable picture"
        raise DataError("DATA", got, "at least one picture that can be decoded", "give another folder or file")
    if sheet is not None:
        _write_sheet(sheet, report)
        console.print(printable(f"contact sheet: {sheet}"), markup=False, highlight=False, soft_wrap=True)


def show(console: Any, report: Report) -> None:
    """Prints the table and every skipped file."""
    from rich.table import Table
    from rich.text import Text

    from zeuxis.errors import printable

    table = Table(title=Text(printable(report.name)), show_lines=False)
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
    assert picture is not None, "there are usable pictures"
    try:
        save_png(picture, path)
    except OSError as error:
        raise UserError("--sheet", str(path), "a file that can be written", str(error.strerror)) from None
