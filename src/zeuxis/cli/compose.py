"""`zeuxis compose`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zeuxis.cli.desk import ClassOption, DeviceOption, MarkOption, ModelArgument, OutOption, StepsOption

if TYPE_CHECKING:
    from zeuxis.editing.collage import Layout


class Blending(StrEnum):
    """How the elements and the model's picture become one."""

    none = "none"
    soft = "soft"
    kept = "kept"


def compose(
    model: ModelArgument,
    inputs: Annotated[
        list[Path] | None, typer.Argument(help="A layout (.json), or pictures with alpha from back to front.")
    ] = None,
    grid: Annotated[str | None, typer.Option(help="Or seeds on a grid, rows by slashes: 0,1/2,3.")] = None,
    seeds: Annotated[str, typer.Option(help="A variant for each: 0-3.")] = "0-3",
    blend: Annotated[
        Blending, typer.Option(help="none: the model's own picture; soft: elements fade in; kept: elements stay.")
    ] = Blending.none,
    class_name: ClassOption = None,
    steps: StepsOption = 100,
    out: OutOption = Path("composed"),
    device: DeviceOption = "auto",
    mark: MarkOption = True,
) -> None:
    """Make one picture out of elements of several, each kept where it was put."""
    import numpy as np

    from zeuxis.cli.desk import make_folder, open_desk, working, write_picture, write_sheet
    from zeuxis.cli.show import say
    from zeuxis.editing import collage
    from zeuxis.sampling import parse_seeds

    desk = open_desk(model, device, class_name)
    space, numbers = desk.space, list(parse_seeds(seeds))
    layout, folder = _layout(inputs or [], grid, desk.model.spec)
    laid = collage.lay_out(layout, space, folder, desk.label)
    with working() as (console, progress):
        made = collage.compose(space, laid, numbers, label=desk.label, encoder=desk.encoder(space), steps=steps,
                               blend=blend.value, progress=progress)  # fmt: skip
        place = make_folder(out)
        for seed, result in zip(numbers, made, strict=True):
            write_picture(result, place / f"seed{seed:06d}.png", desk, mark, seed, own=laid.composite)
        sheet = write_sheet(
            np.concatenate([laid.pixels[None], made]), 0, place / "sheet.png", desk, mark, laid.composite
        )
    say(console, f"{len(made)} pictures: {place}, {sheet} (the collage first)")


def _layout(inputs: list[Path], grid: str | None, spec: object) -> tuple[Layout, Path]:
    from zeuxis.config import ImageSpec
    from zeuxis.editing.collage import Element, Layout, grid_layout, read_layout
    from zeuxis.errors import UserError
    from zeuxis.sampling import parse_seeds

    if bool(inputs) == (grid is not None):
        raise UserError("LAYOUT", [str(path) for path in inputs], "a layout, pictures, or --grid 0,1/2,3",
                        "see docs/editing.md for a layout")  # fmt: skip
    if grid is not None:
        assert isinstance(spec, ImageSpec)
        return grid_layout([list(parse_seeds(row)) for row in grid.split("/")], spec), Path()
    if len(inputs) == 1 and inputs[0].suffix.lower() == ".json":
        return read_layout(inputs[0]), inputs[0].parent
    return Layout(elements=tuple(Element(picture=str(path)) for path in inputs)), Path()
