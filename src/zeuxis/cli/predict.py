"""`zeuxis predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def predict(
    model: Annotated[Path, typer.Argument(help="A model or run folder of a network over frames.")],
    given: Annotated[
        Path, typer.Option("--input", help="The frames before: a folder, GIF, .npy or video, or one picture.")
    ],
    frames: Annotated[int, typer.Option(min=1, max=4096, help="How many frames to predict.")] = 10,
    seeds: Annotated[str, typer.Option(help="Numbers and ranges: one future each.")] = "0",
    class_name: Annotated[str | None, typer.Option("--class", help="Of a class-conditional model.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Below 1: likelier and less varied futures.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for what is predicted.")] = Path("predicted"),
    video: Annotated[bool, typer.Option("--video", help="Write MP4 too (needs the extra `video`).")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps, ...")] = "auto",
    mark: Annotated[bool, typer.Option("--mark/--no-mark", help="Note in each file that it is synthetic.")] = True,
) -> None:
    """Predict the frames that follow: PNGs and a GIF per seed, and film strips of all on one sheet."""
    from rich.console import Console

    from zeuxis.checkpoint import load_model
    from zeuxis.cli.show import say
    from zeuxis.data.clips import read_clip
    from zeuxis.errors import UserError
    from zeuxis.planning import choose_device
    from zeuxis.prediction import Predictor, write_futures
    from zeuxis.sampling import class_index, count_seeds, parse_seeds, render_options

    total = count_seeds(seeds)
    loaded = load_model(model)
    predictor = Predictor(loaded, choose_device(device))
    label = class_index(class_name, loaded.classes)
    if loaded.classes and label is None:
        raise UserError("--class", class_name, ", ".join(loaded.classes), "say what the frames show")
    options = render_options(loaded, temperature=temperature)
    clip = read_clip(given, loaded.spec.shape)  # [T, C, H, W]
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError("--out", str(out), "a folder that can be written", str(error.strerror)) from None
    same = write_futures(predictor, clip, frames, list(parse_seeds(seeds)), label, options, out, mark=mark, video=video)
    console = Console()
    say(console, f"{frames} frames after {len(clip)}, {total} futures: {out}, {out / 'grid.png'}")
    if same:
        say(console, f"{loaded.name} knows one future: the seeds make no difference")
