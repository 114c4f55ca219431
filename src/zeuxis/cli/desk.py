"""What the editing verbs share: opening a model with its encoder, keys that are seeds or pictures, marked files."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from zeuxis.checkpoint import Model
    from zeuxis.editing.encoder import Encoder
    from zeuxis.editing.spaces import Codes, Space
    from zeuxis.images import Pixels

ModelArgument = Annotated[Path, typer.Argument(help="A model folder, or a run folder.")]
ClassOption = Annotated[str | None, typer.Option("--class", help="Of this class, by name.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, mps, ...")]
MarkOption = Annotated[bool, typer.Option("--mark/--no-mark", help="Note in each file that it is synthetic.")]
OutOption = Annotated[Path, typer.Option(help="Folder for the pictures.")]
StepsOption = Annotated[int, typer.Option(min=0, max=10_000, help="Of optimisation; more is nearer and slower.")]


@dataclass(frozen=True)
class Desk:
    """A model on its device, ready to be edited."""

    model: Model
    folder: Path
    device: Any
    label: int | None

    @property
    def space(self) -> Space:
        """Its latent space; one line where it has none."""
        from zeuxis.editing import space_of

        return space_of(self.model, self.device)

    def encoder(self, space: Space) -> Encoder | None:
        """The learned encoder that lies in the model folder."""
        from zeuxis.editing import load_encoder

        return load_encoder(self.folder, space)


def open_desk(model: Path, device: str, class_name: str | None = None) -> Desk:
    """Loads a model."""
    from zeuxis.checkpoint import find_model, load_model
    from zeuxis.planning import choose_device
    from zeuxis.sampling import class_index

    loaded = load_model(model)
    return Desk(loaded, find_model(model), choose_device(device), class_index(class_name, loaded.drawn_classes))


def keys_of(
    desk: Desk, space: Space, text: str, option: str, steps: int, progress: Callable[[str, int, int], None]
) -> tuple[Codes, bool]:
    """Codes of keys such as `0,5,me.png`: seeds, ranges of seeds, and own pictures, which are projected first; and
    whether there are own pictures among them."""
    import torch

    from zeuxis.editing import Codes, project, read_picture
    from zeuxis.images import to_float
    from zeuxis.sampling import SEED, parse_seeds

    parts, own = [], False
    for item in (part.strip() for part in text.split(",")):
        if all(SEED.fullmatch(piece) for piece in item.split("-")):
            parts.append(space.of_seeds(parse_seeds(item), desk.label))
            continue
        images = to_float(torch.from_numpy(read_picture(Path(item), desk.model.spec, option=option)[None]))
        labels = None if desk.label is None else torch.tensor([desk.label], device=space.device)
        found = project(space, images.to(space.device), labels, encoder=desk.encoder(space), steps=steps, rich=False,
                        progress=progress)  # fmt: skip
        parts.append(found.codes)
        own = True
    return Codes.cat(parts), own


@contextlib.contextmanager
def working() -> Iterator[tuple[Any, Callable[[str, int, int], None]]]:
    """A console, and a line with what is being done and how far it is."""
    from rich.console import Console

    from zeuxis.cli.show import waiting

    console = Console()
    with waiting(console) as progress:
        yield console, progress


def make_folder(out: Path) -> Path:
    """The folder, made where it is not there."""
    from zeuxis.errors import UserError

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError("--out", str(out), "a folder that can be written", str(error.strerror)) from None
    return out


def write_picture(
    pixels: Pixels, path: Path, desk: Desk, mark: bool, seed: int | None = None, own: bool = False
) -> Path:
    """One picture uint8 `[C, H, W]` with its mark; `own` says that it holds parts of somebody's picture."""
    from zeuxis.images import picture_of, save_png
    from zeuxis.sampling import synthetic_mark

    note = synthetic_mark(desk.model, seed, composite=own) if mark else None
    save_png(picture_of(pixels.transpose(1, 2, 0)), path, note)
    return path


def write_sheet(pixels: Pixels, columns: int, path: Path, desk: Desk, mark: bool, own: bool = False) -> Path:
    """Pictures uint8 `[N, C, H, W]` on one sheet."""
    from zeuxis.images import SHEET_MARK, grid, save_png, sheet_scale
    from zeuxis.sampling import synthetic_mark

    note = {SHEET_MARK: "Zeuxis", **(synthetic_mark(desk.model, composite=own) if mark else {})}
    save_png(grid(pixels.transpose(0, 2, 3, 1), columns, scale=sheet_scale(*pixels.shape[2:])), path, note)
    return path
