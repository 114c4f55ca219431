"""`zeuxis project`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from zeuxis.cli.desk import ClassOption, DeviceOption, MarkOption, ModelArgument, OutOption, StepsOption


class Depth(StrEnum):
    """Where the picture is looked for: in the latent space, or also in what the first layers make of it."""

    latent = "latent"
    rich = "rich"


def project(
    model: ModelArgument,
    pictures: Annotated[list[Path], typer.Argument(help="Own pictures.")],
    steps: StepsOption = 200,
    restarts: Annotated[int, typer.Option(min=1, max=64, help="Starts of which the best is kept.")] = 4,
    depth: Annotated[Depth, typer.Option(help="rich is nearer; latent can be edited further.")] = Depth.rich,
    class_name: ClassOption = None,
    out: OutOption = Path("projected"),
    device: DeviceOption = "auto",
    mark: MarkOption = True,
) -> None:
    """Find own pictures in the model's world: the nearest picture it can make, its latent and the distance."""
    import numpy as np
    import torch

    from zeuxis.cli.desk import make_folder, open_desk, working, write_picture, write_sheet
    from zeuxis.cli.show import say
    from zeuxis.editing import project as nearest
    from zeuxis.editing import read_picture
    from zeuxis.files import write_json
    from zeuxis.images import to_float, to_pixels

    desk = open_desk(model, device, class_name)
    space = desk.space
    with working() as (console, progress):
        given = np.stack([read_picture(path, desk.model.spec) for path in pictures])
        classes = None if desk.label is None else torch.full((len(given),), desk.label, device=space.device)
        images = to_float(torch.from_numpy(given)).to(space.device)
        found = nearest(space, images, classes, encoder=desk.encoder(space), steps=steps,
                         restarts=restarts, rich=depth is Depth.rich, progress=progress)  # fmt: skip
        place, made = make_folder(out), to_pixels(found.images).cpu().numpy()
        for number, (path, picture) in enumerate(zip(pictures, made, strict=True)):
            write_picture(picture, place / f"{number:04d}-{path.stem[:80]}.png", desk, mark)
        codes, labels = found.codes.values.cpu().numpy(), found.codes.labels
        if labels is None:
            np.savez(place / "latents.npz", values=codes)
        else:
            np.savez(place / "latents.npz", values=codes, labels=labels.cpu().numpy())
        write_json(place / "distances.json", {
            "pictures": [path.name for path in pictures], "distance": [round(float(d), 6) for d in found.distance],
            "rmse": [round(float(np.sqrt(np.square((a.astype(float) - b) / 255).mean())), 6)
                     for a, b in zip(given, made, strict=True)],
        })  # fmt: skip
        pairs = np.stack([given, made], axis=1).reshape(-1, *given.shape[1:])
        sheet = write_sheet(
            pairs, 2 * max(1, round((len(given) / 2) ** 0.5)), place / "sheet.png", desk, mark, own=True
        )
    for path, distance in zip(pictures, found.distance, strict=True):
        say(console, f"{path}: distance {float(distance):.4f}")
    say(console, f"given and found side by side: {sheet}; latents: {place / 'latents.npz'}")
