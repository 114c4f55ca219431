"""`zeuxis mix`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zeuxis.cli.desk import ClassOption, DeviceOption, MarkOption, ModelArgument, OutOption, StepsOption


def mix(
    model: ModelArgument,
    coarse: Annotated[str, typer.Option(help="Whose structure: seeds and own pictures, a row each.")] = "0-5",
    fine: Annotated[str, typer.Option(help="Whose detail: seeds and own pictures, a column each.")] = "10-15",
    at: Annotated[float, typer.Option(min=0, max=1, help="How much comes from the coarse side.")] = 0.5,
    class_name: ClassOption = None,
    steps: StepsOption = 200,
    out: OutOption = Path("mixed"),
    device: DeviceOption = "auto",
    mark: MarkOption = True,
) -> None:
    """Put the structure of one picture together with the detail of another: a sheet of all pairs."""
    import numpy as np

    from zeuxis.cli.desk import keys_of, make_folder, open_desk, working, write_picture, write_sheet
    from zeuxis.cli.show import say
    from zeuxis.editing import mix as mixed

    desk = open_desk(model, device, class_name)
    space = desk.space
    with working() as (console, progress):
        rows, own_rows = keys_of(desk, space, coarse, "--coarse", steps, progress)
        columns, own_columns = keys_of(desk, space, fine, "--fine", steps, progress)
        pixels = mixed(space, rows, columns, at)
        place, own = make_folder(out), own_rows or own_columns
        for number, picture in enumerate(pixels):
            row, column = divmod(number, len(columns))
            write_picture(picture, place / f"row{row:03d}-column{column:03d}.png", desk, mark, own=own)
        heads, left = space.pictures(columns), space.pictures(rows)
        table = [np.zeros_like(heads[:1]), heads]
        for row in range(len(rows)):
            table += [left[row : row + 1], pixels[row * len(columns) : (row + 1) * len(columns)]]
        sheet = write_sheet(np.concatenate(table), len(columns) + 1, place / "sheet.png", desk, mark, own)
    say(console, f"{len(pixels)} pictures: {place}, {sheet}")
