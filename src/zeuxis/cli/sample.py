"""`zeuxis sample`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

GRID_MOST = 256  # more pictures than that are no longer looked at on one sheet


class Format(StrEnum):
    """One PNG per seed (and a sheet), one sheet, one samples.npz, a sprite sheet with its JSON, or 3x3 repeats."""

    png = "png"
    grid = "grid"
    npz = "npz"
    atlas = "atlas"
    tiles = "tiles"


def sample(
    model: Annotated[Path, typer.Argument(help="A model folder, or a run folder.")],
    seeds: Annotated[str, typer.Option(help="Numbers and ranges: 0-63,100.")] = "0-63",
    class_name: Annotated[str | None, typer.Option("--class", help="Only this class, by name.")] = None,
    truncation: Annotated[float | None, typer.Option(help="GAN: below 1 is safer and less varied.")] = None,
    temperature: Annotated[
        float | None, typer.Option(help="VAE, autoregressive: below 1 is safer and less varied.")
    ] = None,
    top_k: Annotated[int | None, typer.Option(help="Tokens: draw of the k most probable.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Tokens: draw of the fewest of this probability.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Tokens: above 1 keeps nearer to the class.")] = None,
    prior: Annotated[str | None, typer.Option(help="VAE: fitted, or standard for the plain N(0, I).")] = None,
    edit: Annotated[
        list[str] | None, typer.Option(help="Move along a direction: NAME=1.5 (`zeuxis directions` finds them).")
    ] = None,
    pixel_art: Annotated[
        int | None, typer.Option(min=2, max=256, help="Bring all pictures to one palette of so many colours.")
    ] = None,
    enlarge: Annotated[int, typer.Option(min=1, max=64, help="Make each pixel so many pixels wide and high.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("samples"),
    form: Annotated[Format, typer.Option("--format", help="What to write.")] = Format.png,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps, ...")] = "auto",
    processes: Annotated[int, typer.Option(min=1, help="That draw in turns; the pictures are the same.")] = 1,
    mark: Annotated[bool, typer.Option("--mark/--no-mark", help="Note in each PNG that it is synthetic.")] = True,
) -> None:
    """Make pictures: the same seed gives the same picture."""
    from rich.console import Console

    from zeuxis.checkpoint import load_model
    from zeuxis.cli import launch
    from zeuxis.cli.show import say
    from zeuxis.distributed import join, leave
    from zeuxis.errors import UserError
    from zeuxis.planning import choose_device
    from zeuxis.sampling import (
        Sampler,
        class_index,
        count_seeds,
        parse_seeds,
        render_options,
        seeds_array,
        write_npz,
        write_pngs,
    )

    total = count_seeds(seeds)
    loaded = load_model(model)
    label = class_index(class_name, loaded.drawn_classes)
    options = render_options(
        loaded, truncation=truncation, temperature=temperature, top_k=top_k, top_p=top_p, guidance=guidance,
        prior=prior,
    )  # fmt: skip
    if processes > 1 and not launch.started_by_us():
        raise typer.Exit(launch.launch(processes))
    sampler = Sampler(loaded, choose_device(device), join(device))
    chunks = sampler(parse_seeds(seeds), label=label, options=options)
    if edit:
        from zeuxis.checkpoint import find_model
        from zeuxis.editing.directions import edited, load_directions, parse_edits
        from zeuxis.editing.spaces import space_of

        space = space_of(loaded, sampler.device, options)
        edits = parse_edits(edit, load_directions(find_model(model), space))
        chunks = edited(space, parse_seeds(seeds), edits, label)
    if not sampler.world.is_writer:  # one writes what all draw
        for _ in chunks:
            pass
        leave()
        return
    sprites = form in (Format.atlas, Format.tiles) or pixel_art is not None or enlarge > 1
    if sprites and (form is Format.npz or loaded.spec.frames > 1):
        raise UserError("--format", form.value, "pictures as png, grid, atlas or tiles", "leave the other options out")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError("--out", str(out), "a folder that can be written", str(error.strerror)) from None
    remark = ""
    if sprites:
        from zeuxis.cli.sprites import refined

        chunks = refined(chunks, total, pixel_art, enlarge)
    if form is Format.atlas:
        from zeuxis.cli.sprites import write_atlas

        written = write_atlas(chunks, list(parse_seeds(seeds)), loaded, out, mark=mark)
    elif form is Format.tiles:
        from zeuxis.cli.sprites import write_tiles

        written, remark = write_tiles(chunks, list(parse_seeds(seeds)), loaded, out, mark=mark)
    elif loaded.spec.frames > 1 and form is not Format.npz:
        from zeuxis.prediction import write_clips

        written = write_clips(chunks, parse_seeds(seeds), loaded, out, mark=mark, each=form is Format.png)
    elif form is Format.npz:
        written = [out / "samples.npz"]
        numbers = seeds_array(seeds)
        write_npz(chunks, numbers, sampler.label_array(numbers, label), loaded.spec, written[0])
    else:
        written = write_pngs(
            chunks, parse_seeds(seeds), loaded, out, mark=mark, each=form is Format.png, sheet_most=GRID_MOST
        )
    kind = "pictures" if loaded.spec.frames == 1 else "clips"
    say(Console(), f"{total} {kind}: {', '.join(str(path) for path in written)}")
    if remark:
        say(Console(), remark)
