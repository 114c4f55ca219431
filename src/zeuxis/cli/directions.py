"""`zeuxis directions`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zeuxis.cli.desk import ClassOption, Desk, DeviceOption, MarkOption, ModelArgument, OutOption

if TYPE_CHECKING:
    from zeuxis.editing.directions import Direction
    from zeuxis.editing.spaces import Space


class Method(StrEnum):
    """From the weights alone, from samples, or from labels."""

    closed_form = "closed-form"
    principal = "principal"
    labels = "labels"


def directions(
    model: ModelArgument,
    method: Annotated[Method, typer.Option(help="How they are found.")] = Method.closed_form,
    labelled: Annotated[
        str | None, typer.Option(help="For labels: a folder with one sub-folder per label, or other DATA with classes.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=64, help="How many, the strongest first.")] = 8,
    index: Annotated[int | None, typer.Option(min=0, help="Only this one of them.")] = None,
    name: Annotated[str | None, typer.Option(help="Keep them under this name (NAME0, NAME1, ... if several).")] = None,
    seeds: Annotated[str, typer.Option(help="Pictures that the sheet shows moved.")] = "0-1",
    strengths: Annotated[str, typer.Option(help="Columns of the sheet.")] = "-3,-2,-1,0,1,2,3",
    class_name: ClassOption = None,
    out: OutOption = Path("directions"),
    device: DeviceOption = "auto",
    mark: MarkOption = True,
) -> None:
    """Find directions in which one thing changes; `zeuxis sample --edit NAME=1.5` moves along them."""
    from zeuxis.cli.desk import make_folder, open_desk, working, write_sheet
    from zeuxis.cli.show import say
    from zeuxis.editing.directions import save_direction, sweep
    from zeuxis.sampling import parse_seeds

    steps = _strengths(strengths)
    desk = open_desk(model, device, class_name)
    space = desk.space
    with working() as (console, progress):
        found = _find(desk, space, method, labelled, count, index, name, progress)
        codes = space.of_seeds(parse_seeds(seeds), desk.label)
        place = make_folder(out)
        sheet = write_sheet(sweep(space, codes, found, steps), len(steps), place / f"{method.value}.png", desk, mark)
        for direction in found:
            save_direction(desk.folder, desk.model, direction)
    for direction in found:
        say(console, f"{direction.name}: {direction.about}")
    say(console, f"{len(codes)} rows for each, strengths {', '.join(f'{step:g}' for step in steps)}: {sheet}")
    say(console, f"try: zeuxis sample {model} --edit {found[0].name}=1.5")


def _strengths(text: str) -> list[float]:
    from zeuxis.errors import UserError

    try:
        steps = [float(part) for part in text.split(",")]
    except ValueError:
        steps = [float("nan")]
    if not all(-10 <= step <= 10 for step in steps):
        raise UserError("--strengths", text, "numbers from -10 to 10", "try --strengths=-2,0,2")
    return steps


def _find(
    desk: Desk, space: Space, method: Method, labelled: str | None, count: int, index: int | None, name: str | None,
    progress: Any,
) -> list[Direction]:  # fmt: skip
    """Directions with their names."""
    from zeuxis.editing.directions import Direction, closed_form, principal, unit_of
    from zeuxis.errors import UserError

    if (labelled is not None) != (method is Method.labels):
        raise UserError("--labelled", labelled, "a folder of labelled pictures together with --method labels",
                        "give both or neither")  # fmt: skip
    if labelled is not None:
        return _from_labels(desk, space, labelled, name, progress)
    progress("directions", 0, 0)
    vectors = closed_form(space)[0] if method is Method.closed_form else principal(space)
    which = list(range(min(count, len(vectors)))) if index is None else [index]
    if which[-1] >= len(vectors):
        raise UserError("--index", index, f"0 to {len(vectors) - 1}", "the model has no more")
    stem = name or method.value
    return [
        Direction(stem if name and len(which) == 1 else f"{stem}{place}", unit_of(space, vectors[place]),
                  f"{method.value} {place}") for place in which
    ]  # fmt: skip


def _from_labels(desk: Desk, space: Space, labelled: str, name: str | None, progress: Any) -> list[Direction]:
    """One direction per label: from pictures without it to pictures with it."""
    import torch

    from zeuxis.config import DataOptions
    from zeuxis.data import open_dataset
    from zeuxis.editing.directions import LEAST_ACCURACY, Direction, boundary, unit_of
    from zeuxis.editing.projection import project
    from zeuxis.errors import UserError
    from zeuxis.images import to_float

    spec = desk.model.spec
    values = {"resolution": (spec.height, spec.width), "channels": spec.channels, "test_fraction": 0, "val_fraction": 0}
    split = (data := open_dataset(labelled, DataOptions.model_validate(values), progress=progress)).train
    if len(data.classes) < 2:
        raise UserError("--labelled", labelled, "two sub-folders or more", "one folder of pictures per label")
    positions = [place for place in range(len(split)) if split.labels[place] >= 0][:2000]
    images = to_float(torch.from_numpy(split.take(positions))).to(space.device)
    learned = desk.encoder(space)
    answers = learned is not None or space.encode(images[:1], None) is not None
    found = project(
        space, images, encoder=learned, steps=0 if answers else 100, restarts=1, rich=False, progress=progress
    )
    labels, directions, reasons = torch.from_numpy(split.labels[positions]), [], []
    for label, title in enumerate(data.classes[:2] if len(data.classes) == 2 else data.classes):
        if len(data.classes) == 2 and label == 0:
            continue  # its direction is the other's, backwards
        vector, accuracy = boundary(space, found.codes, labels == label)
        if accuracy < LEAST_ACCURACY:
            reasons.append(f"{title} {accuracy:.0%}")
            continue
        safe = "".join(char if char.isalnum() or char in "._-" else "-" for char in title) or f"label{label}"
        own = name if name and len(data.classes) == 2 else f"{name}-{safe}" if name else safe
        about = f"towards {title}, right on {accuracy:.0%} of held-out pictures"
        directions.append(Direction(own, unit_of(space, vector), about))
    if not directions:
        raise UserError("--labelled", labelled, f"labels told apart in {LEAST_ACCURACY:.0%} of held-out pictures",
                        "here: " + ", ".join(reasons) + "; give more pictures, or train an encoder first")  # fmt: skip
    return directions
