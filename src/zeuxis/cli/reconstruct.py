"""`zeuxis reconstruct`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zeuxis.cli.desk import DeviceOption, MarkOption, OutOption

COLUMNS = 8


def reconstruct(
    model: Annotated[Path, typer.Argument(help="A model or run folder that can reconstruct (`zeuxis info` says).")],
    data: Annotated[str, typer.Argument(help="Pictures: any form of DATA.")],
    num: Annotated[int, typer.Option(min=1, max=10_000, help="Pictures, spread evenly over the held-out ones.")] = 32,
    out: OutOption = Path("reconstructed"),
    device: DeviceOption = "auto",
    mark: MarkOption = True,
) -> None:
    """Send pictures through a model and back: a sheet of rows of originals, each above its row of reconstructions."""
    import numpy as np
    import torch

    from zeuxis.cli.desk import make_folder, open_desk, working, write_picture, write_sheet
    from zeuxis.cli.evaluate import data_of
    from zeuxis.cli.show import say
    from zeuxis.errors import UserError
    from zeuxis.images import to_float, to_pixels
    from zeuxis.metrics.reconstruction import mean_of, psnr

    desk = open_desk(model, device)
    family = desk.model.family
    if "reconstruct" not in family.capabilities:
        raise UserError("MODEL", desk.model.name, "a model that can reconstruct: vae",
                        "`zeuxis project` finds a GAN's nearest picture")  # fmt: skip
    with working() as (console, progress):
        dataset, remarks = data_of(desk.model, data, progress)
        if desk.model.drawn_classes and desk.model.drawn_classes != dataset.classes:
            raise UserError("DATA", dataset.name, "data with the model's classes", "put them into folders by class")
        split = dataset.test if len(dataset.test) else dataset.train
        known = np.flatnonzero(split.labels >= 0) if desk.model.drawn_classes else np.arange(len(split))
        if not len(known):
            raise UserError("DATA", dataset.name, "pictures with a class", "put them into folders by class")
        positions = known[np.linspace(0, len(known) - 1, min(num, len(known))).astype(np.int64)]
        networks = {part: network.to(desk.device) for part, network in desk.model.networks.items()}
        parts = []
        for start in range(0, len(positions), 64):
            chosen = positions[start : start + 64]
            images = to_float(torch.from_numpy(split.take(chosen)).to(desk.device))
            labels = torch.from_numpy(split.labels[chosen]).to(desk.device) if desk.model.drawn_classes else None
            with torch.inference_mode():
                parts.append(to_pixels(family.reconstruct(networks, images, labels)).cpu().numpy())
            progress("reconstructing", start + len(chosen), len(positions))
        originals, again = split.take(positions), np.concatenate(parts)
        folder = make_folder(out)
        for index, picture in enumerate(again):
            write_picture(picture, folder / f"picture{index:05d}.png", desk, mark)
        columns = min(COLUMNS, len(again))
        whole = len(again) - len(again) % columns
        rows = [side[at : at + columns] for at in range(0, whole, columns) for side in (originals, again)]
        write_sheet(np.concatenate(rows), columns, folder / "grid.png", desk, mark, own=True)
        quality = mean_of(psnr(again, originals))
    for remark in remarks:
        say(console, remark)
    say(console, f"{len(again)} pictures, {quality.value:.1f} dB PSNR: {folder}, {folder / 'grid.png'}")
