"""`zeuxis inpaint` and `zeuxis outpaint`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zeuxis.cli.desk import ClassOption, DeviceOption, MarkOption, ModelArgument, OutOption, StepsOption

PictureArgument = Annotated[Path, typer.Argument(help="An own picture.")]
SeedsOption = Annotated[str, typer.Option(help="A filling for each: 0-7.")]


def inpaint(
    model: ModelArgument,
    picture: PictureArgument,
    mask: Annotated[Path | None, typer.Option(help="A picture: white (or transparent) is filled.")] = None,
    box: Annotated[str | None, typer.Option(help="Fill this box: x,y,width,height in the model's pixels.")] = None,
    seeds: SeedsOption = "0-7",
    class_name: ClassOption = None,
    steps: StepsOption = 120,
    out: OutOption = Path("inpainted"),
    device: DeviceOption = "auto",
    mark: MarkOption = True,
) -> None:
    """Fill a hole in a picture in several ways; what is outside of it stays as it is."""
    import numpy as np

    from zeuxis.cli.desk import make_folder, open_desk, working, write_picture, write_sheet
    from zeuxis.cli.show import say
    from zeuxis.editing import inpaint as fill
    from zeuxis.editing import parse_box, read_mask, read_picture
    from zeuxis.errors import UserError
    from zeuxis.sampling import parse_seeds

    if (mask is None) == (box is None):
        raise UserError("--mask", mask and str(mask), "either --mask PICTURE or --box x,y,width,height",
                        "say which part is to be filled")  # fmt: skip
    desk = open_desk(model, device, class_name)
    spec, numbers = desk.model.spec, list(parse_seeds(seeds))
    pixels = read_picture(picture, spec)
    hole = read_mask(mask, spec) if mask is not None else parse_box(str(box), spec.height, spec.width)
    if not hole.any():
        raise UserError("--mask", str(mask), "a mask with white (or transparent) parts", "it leaves nothing to fill")
    with working() as (console, progress):
        encoder = None if "complete" in desk.model.family.capabilities else desk.encoder(desk.space)
        filled = fill(desk.model, pixels, ~hole, numbers, label=desk.label, encoder=encoder, device=desk.device,
                      steps=steps, progress=progress)  # fmt: skip
        place = make_folder(out)
        for seed, result in zip(numbers, filled, strict=True):
            write_picture(result, place / f"seed{seed:06d}.png", desk, mark, seed, own=True)
        empty = np.where(hole, 0, pixels)[None]
        sheet = write_sheet(np.concatenate([pixels[None], empty, filled]), 0, place / "sheet.png", desk, mark, own=True)
    say(console, f"{len(filled)} fillings: {place}, {sheet} (the picture, its hole, the fillings)")


def outpaint(
    model: ModelArgument,
    picture: PictureArgument,
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT of the larger picture.")] = None,
    formats: Annotated[str, typer.Option(help="Or aspects, each as small as holds the picture: 1:1,16:9,9:16.")] = "",
    seeds: SeedsOption = "0-3",
    class_name: ClassOption = None,
    steps: StepsOption = 120,
    out: OutOption = Path("outpainted"),
    device: DeviceOption = "auto",
    mark: MarkOption = True,
) -> None:
    """Carry a picture on beyond its edges: a larger one, or a set of formats for one campaign."""
    from zeuxis.cli.desk import make_folder, open_desk, working, write_picture
    from zeuxis.cli.show import say
    from zeuxis.editing import open_picture, pixels_of
    from zeuxis.editing import outpaint as carry_on
    from zeuxis.editing.inpainting import parse_formats, parse_size
    from zeuxis.errors import UserError
    from zeuxis.sampling import parse_seeds

    if (size is None) == (not formats):
        raise UserError("--size", size, "either --size WIDTHxHEIGHT or --formats 1:1,16:9", "say how large it becomes")
    desk = open_desk(model, device, class_name)
    numbers = list(parse_seeds(seeds))
    pixels = pixels_of(open_picture(picture), desk.model.spec.channels)
    least = max(pixels.shape[1], desk.model.spec.height), max(pixels.shape[2], desk.model.spec.width)
    sizes = [parse_size(size)] if size else parse_formats(formats, *least)
    with working() as (console, progress):
        encoder = None if "complete" in desk.model.family.capabilities else desk.encoder(desk.space)
        place = None
        for height, width in sizes:
            made = carry_on(desk.model, pixels, height, width, numbers, label=desk.label, encoder=encoder,
                            device=desk.device, steps=steps, progress=progress)  # fmt: skip
            place = make_folder(out)
            for seed, result in zip(numbers, made, strict=True):
                write_picture(result, place / f"{width}x{height}-seed{seed:06d}.png", desk, mark, seed, own=True)
    say(console, f"{len(sizes) * len(numbers)} pictures: {place}")
