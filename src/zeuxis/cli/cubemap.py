"""`zeuxis cubemap`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def cubemap(
    panorama: Annotated[Path, typer.Argument(help="A picture twice as wide as high, such as a sample of a model.")],
    side: Annotated[int, typer.Option(min=0, max=8192, help="Of each face; 0 takes half the panorama's height.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for the six faces.")] = Path("cubemap"),
) -> None:
    """Cut a 360-degree panorama into the six faces of a cube map: px, nx, py, ny, pz, nz."""
    from PIL import Image
    from rich.console import Console

    from zeuxis.cli.desk import make_folder
    from zeuxis.cli.show import say
    from zeuxis.editing.pictures import open_picture, pixels_of
    from zeuxis.editing.seams import FACES, cube_description, cube_faces
    from zeuxis.files import write_json
    from zeuxis.images import picture_of, save_png

    picture = open_picture(panorama, "PANORAMA")
    channels = 3 if picture.getchannel("A").getextrema() == (255, 255) else 4
    faces = cube_faces(pixels_of(picture, channels), side or max(1, picture.height // 2))
    place, marks = make_folder(out), {}
    with Image.open(panorama) as given:
        kept = getattr(given, "text", {})  # a mark of the panorama is one of its faces
        marks = {key: kept[key] for key in ("Software", "Synthetic", "Model", "Seed") if key in kept}
    for name, face in zip(FACES, faces, strict=True):
        save_png(picture_of(face.transpose(1, 2, 0)), place / f"{name}.png", marks)
    write_json(place / "cubemap.json", cube_description(faces.shape[2], {name: f"{name}.png" for name in FACES}))
    say(Console(), f"6 faces: {place}")
