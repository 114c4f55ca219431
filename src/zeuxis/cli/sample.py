"""`zeuxis sample`."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from zeuxis.checkpoint import Model
    from zeuxis.cli.sprites import Finish
    from zeuxis.families.base import RenderOptions
    from zeuxis.images import Pixels
    from zeuxis.sampling import Sampler

GRID_MOST = 256  # more pictures than that are no longer looked at on one sheet


class Format(StrEnum):
    """One PNG per seed (and a sheet), one sheet, one samples.npz, a sprite sheet with its JSON, or 3x3 repeats."""

    png = "png"
    grid = "grid"
    npz = "npz"
    atlas = "atlas"
    tiles = "tiles"


class Precision(StrEnum):
    """Number format of the products."""

    float32 = "float32"
    bfloat16 = "bfloat16"


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
    clean_edges: Annotated[
        bool | None, typer.Option("--clean-edges/--raw-edges", help="No outlines around sprites; atlas: clean.")
    ] = None,
    pixel_art: Annotated[
        int | None, typer.Option(min=2, max=256, help="Bring all pictures to one palette of so many colours.")
    ] = None,
    enlarge: Annotated[int, typer.Option(min=1, max=64, help="Make each pixel so many pixels wide and high.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("samples"),
    form: Annotated[Format, typer.Option("--format", help="What to write.")] = Format.png,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps, ...")] = "auto",
    precision: Annotated[
        Precision, typer.Option(help="bfloat16 is faster where the processor has it; its pictures are its own.")
    ] = Precision.float32,
    processes: Annotated[int, typer.Option(min=1, help="That draw in turns; the pictures are the same.")] = 1,
    mark: Annotated[bool, typer.Option("--mark/--no-mark", help="Note in each PNG that it is synthetic.")] = True,
) -> None:
    """Make pictures: the same seed gives the same picture."""
    from zeuxis.checkpoint import load_model
    from zeuxis.cli import launch
    from zeuxis.distributed import join, leave
    from zeuxis.errors import UserError
    from zeuxis.planning import choose_device
    from zeuxis.sampling import Sampler, class_index, count_seeds, parse_seeds, render_options

    count_seeds(seeds)  # a mistake in them shows before anything is loaded
    loaded = load_model(model)
    label = class_index(class_name, loaded.drawn_classes)
    options = render_options(
        loaded, truncation=truncation, temperature=temperature, top_k=top_k, top_p=top_p, guidance=guidance,
        prior=prior,
    )  # fmt: skip
    if processes > 1 and not launch.started_by_us():
        raise typer.Exit(launch.launch(processes))
    sampler = Sampler(loaded, choose_device(device), join(device), precision.value)
    chunks = sampler(parse_seeds(seeds), label=label, options=options)
    if edit:
        if precision is Precision.bfloat16:
            raise UserError("--precision", precision.value, "float32 with --edit", "leave it out")
        chunks = _edited(model, sampler, options, edit, parse_seeds(seeds), label)
    if not sampler.world.is_writer:  # one writes what all draw
        for _ in chunks:
            pass
        leave()
        return
    _save(sampler, chunks, seeds, label, form, out, _finish(loaded, form, clean_edges, pixel_art, enlarge), mark)


def _finish(model: Model, form: Format, clean_edges: bool | None, pixel_art: int | None, enlarge: int) -> Finish:
    """What is done to the pictures before they are written."""
    from zeuxis.cli.sprites import Finish
    from zeuxis.errors import UserError

    transparent = model.spec.channels == 4
    if clean_edges and not transparent:
        raise UserError("--clean-edges", model.name, "a model of pictures with transparency", "leave it out")
    clean = transparent and (form is Format.atlas if clean_edges is None else clean_edges)
    finish = Finish(clean, pixel_art, enlarge)
    sprites = finish != Finish() or form in (Format.atlas, Format.tiles)
    if sprites and (form is Format.npz or model.spec.frames > 1):
        raise UserError("--format", form.value, "pictures as png, grid, atlas or tiles", "leave the other options out")
    return finish


def _save(
    sampler: Sampler, chunks: Iterator[Pixels], seeds: str, label: int | None, form: Format, out: Path, finish: Finish,
    mark: bool,
) -> None:  # fmt: skip
    """Writes what was drawn and says where it is."""
    from rich.console import Console

    from zeuxis.cli.show import say
    from zeuxis.errors import UserError
    from zeuxis.sampling import count_seeds, seeds_array, write_npz

    model = sampler.model
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError("--out", str(out), "a folder that can be written", str(error.strerror)) from None
    written, remark = [out / "samples.npz"], ""
    if form is Format.npz:
        numbers = seeds_array(seeds)
        write_npz(chunks, numbers, sampler.label_array(numbers, label), model.spec, written[0])
    else:
        written, remark = _write(chunks, model, seeds, form, out, finish, mark)
    kind = "pictures" if model.spec.frames == 1 else "clips"
    say(Console(), f"{count_seeds(seeds)} {kind}: {', '.join(str(path) for path in written)}{remark}")


def _edited(
    model: Path, sampler: Sampler, options: RenderOptions, edits: list[str], seeds: Iterator[int], label: int | None
) -> Iterator[Pixels]:
    """The chunks of the seeds' pictures, moved along the directions that `--edit` names."""
    from zeuxis.checkpoint import find_model
    from zeuxis.editing.directions import edited, load_directions, parse_edits
    from zeuxis.editing.spaces import space_of

    space = space_of(sampler.model, sampler.device, options)
    return edited(space, seeds, parse_edits(edits, load_directions(find_model(model), space)), label)


def _write(
    chunks: Iterator[Pixels], model: Model, seeds: str, form: Format, out: Path, finish: Finish, mark: bool
) -> tuple[list[Path], str]:
    """Pictures or clips as PNG files and sheets: what to open, and a remark."""
    from zeuxis.cli.sprites import write_atlas, write_tiles
    from zeuxis.sampling import count_seeds, parse_seeds, write_pngs

    if model.spec.frames > 1:
        from zeuxis.prediction import write_clips

        return write_clips(chunks, parse_seeds(seeds), model, out, mark=mark, each=form is Format.png), ""
    chunks = finish(chunks, count_seeds(seeds))
    if form is Format.atlas:
        return write_atlas(chunks, list(parse_seeds(seeds)), model, out, mark=mark), ""
    if form is Format.tiles:
        return write_tiles(chunks, list(parse_seeds(seeds)), model, out, mark=mark)
    return write_pngs(
        chunks, parse_seeds(seeds), model, out, mark=mark, each=form is Format.png, sheet_most=GRID_MOST
    ), ""
