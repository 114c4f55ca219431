"""`zeuxis interpolate`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from zeuxis.cli.desk import ClassOption, DeviceOption, MarkOption, ModelArgument, StepsOption


class Form(StrEnum):
    """An animation, a video (extra `video`), or a folder of PNG frames."""

    gif = "gif"
    mp4 = "mp4"
    png = "png"


def interpolate(
    model: ModelArgument,
    keys: Annotated[str, typer.Option(help="Seeds and own pictures, two or more: 0,5,me.png.")] = "0,1,2,3",
    frames: Annotated[int, typer.Option(min=1, max=10_000, help="From each key to the next.")] = 24,
    loop: Annotated[bool, typer.Option("--loop", help="Come back to the first key.")] = False,
    straight: Annotated[bool, typer.Option("--straight", help="Straight lines instead of a smooth curve.")] = False,
    even: Annotated[bool, typer.Option("--even", help="Let the pictures change at an even speed.")] = False,
    rate: Annotated[float, typer.Option("--fps", min=0.5, max=100, help="Frames a second.")] = 24.0,
    scale: Annotated[int, typer.Option(min=0, max=64, help="Enlarge by whole pixels; 0 chooses.")] = 0,
    class_name: ClassOption = None,
    steps: StepsOption = 200,
    form: Annotated[Form, typer.Option("--format", help="What to write.")] = Form.gif,
    out: Annotated[Path, typer.Option(help="Folder for the frames or the animation.")] = Path("interpolation"),
    device: DeviceOption = "auto",
    mark: MarkOption = True,
) -> None:
    """Move from picture to picture: an animation through seeds and own pictures."""
    from zeuxis.cli.desk import keys_of, make_folder, open_desk, working, write_picture
    from zeuxis.cli.show import say
    from zeuxis.editing import interpolate as between
    from zeuxis.editing.animation import require_video, write_gif, write_mp4
    from zeuxis.images import sheet_scale
    from zeuxis.sampling import synthetic_mark

    if form is Form.mp4:
        require_video()
    desk = open_desk(model, device, class_name)
    space = desk.space
    with working() as (console, progress):
        codes, own = keys_of(desk, space, keys, "--keys", steps, progress)
        pixels = between(space, codes, frames, loop=loop, straight=straight, even=even)
        place = make_folder(out)
        large = pixels.repeat(scale or sheet_scale(*pixels.shape[2:]), 2).repeat(
            scale or sheet_scale(*pixels.shape[2:]), 3
        )
        note = synthetic_mark(desk.model, composite=own) if mark else {}
        if form is Form.png:
            for number, picture in enumerate(large):
                write_picture(picture, place / f"frame{number:05d}.png", desk, mark, own=own)
            written = place
        elif form is Form.gif:
            written = write_gif(large, place / "interpolation.gif", rate, note)
        else:
            written = write_mp4(large, place / "interpolation.mp4", rate, note)
    say(console, f"{len(pixels)} frames: {written}")
