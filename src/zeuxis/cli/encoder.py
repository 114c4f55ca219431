"""`zeuxis encoder`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from zeuxis.cli.desk import DeviceOption, ModelArgument


def encoder(
    model: ModelArgument,
    data: Annotated[str | None, typer.Option(help="Real pictures to learn from too: any form of DATA.")] = None,
    budget: Annotated[str, typer.Option(help="Time at most: 90s, 10m.")] = "5m",
    kimg: Annotated[float, typer.Option(min=0.001, help="Length in thousands of pictures, at most.")] = 500.0,
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = 0,
    device: DeviceOption = "auto",
) -> None:
    """Teach a finished model to find its latents for pictures with holes: own pictures, masks and collages then go in.

    The encoder is kept in the model folder; project, inpaint, outpaint, compose, mix and interpolate use it.
    """
    from zeuxis.cli.desk import open_desk, working
    from zeuxis.cli.show import say
    from zeuxis.config import parse_duration
    from zeuxis.editing.encoder import EncoderConfig, save_encoder, train_encoder

    seconds = parse_duration(budget)
    desk = open_desk(model, device)
    space = desk.space
    with working() as (console, progress):
        reals = None if data is None else _reals(data, desk.model.spec, progress)
        made = train_encoder(space, kimg=kimg, budget=seconds, seed=seed, reals=reals, progress=progress)
        path = save_encoder(desk.folder, desk.model, made, EncoderConfig(), kimg)
    say(console, f"encoder: {path}")


def _reals(data: str, spec: Any, progress: Any) -> Any:
    """Draws training pictures of the data at the model's size."""
    import torch

    from zeuxis.config import DataOptions
    from zeuxis.data import open_dataset
    from zeuxis.images import to_float

    values = {"resolution": (spec.height, spec.width), "channels": spec.channels}
    split = open_dataset(data, DataOptions.model_validate(values), progress=progress).train

    def draw(generator: torch.Generator, count: int) -> torch.Tensor:
        positions = torch.randint(len(split), (count,), generator=generator)
        return to_float(torch.from_numpy(split.take(positions.numpy())))

    return draw
