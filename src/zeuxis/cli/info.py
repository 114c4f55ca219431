"""`zeuxis info`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from zeuxis.checkpoint import Model


def info(
    what: Annotated[
        str | None, typer.Argument(help="A model, a run, data, or a model name such as dcgan/small.")
    ] = None,
) -> None:
    """Show what a model, a run, data or a preset is and can do; without an argument, every model name."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from zeuxis.errors import printable

    if what is None:
        table = Table("model name", "what it is for", title="models")
        for name, about in _presets():
            table.add_row(name, Text(about))
        Console().print(table)
        return
    table = Table(title=Text(what), show_header=False)
    table.add_column("")
    table.add_column("", overflow="fold")
    for row in _rows(what):
        table.add_row(*(Text(printable(cell)) for cell in row))  # names of classes and data come from strangers
    Console().print(table)


def _presets() -> list[tuple[str, str]]:
    from zeuxis.families import model_names

    return [(name, preset.about) for name, preset in model_names()]


def _rows(what: str) -> list[tuple[str, str]]:
    path = Path(what)
    if (path / "config.json").is_file() and ((path / "state").is_dir() or (path / "log.txt").is_file()):
        return _run_rows(path)
    if (path / "model.safetensors").is_file():
        return _model_rows(path)
    from zeuxis.data import is_data

    return _data_rows(what) if is_data(what) else _preset_rows(what)


def _run_rows(path: Path) -> list[tuple[str, str]]:
    import json

    from zeuxis.errors import UserError
    from zeuxis.files import read_json_lines

    try:
        resolved = json.loads((path / "config.json").read_text(encoding="utf-8"))["resolved"]
        rows = [
            (key.replace("_", " "), str(resolved[key]))
            for key in ("model", "data", "train_pictures", "device", "precision", "kernels")
            if key in resolved
        ]
        stats = read_json_lines(path / "stats.jsonl")
        if stats:
            rows.append(("images seen", f"{stats[-1]['images_seen']:,} ({stats[-1]['progress']:.0%} of the run)"))
        rows.append(("finished", "yes" if (path / "finished.json").exists() else "no"))
        rows += [
            (f"{row['metric']} at {row['images_seen']:,}", f"{row['value']:.5g}")
            for row in read_json_lines(path / "metrics.jsonl")
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError("RUN", str(path), "a run folder with a whole config.json", f"it is damaged: {error}") from None
    return rows


def _model_rows(path: Path) -> list[tuple[str, str]]:
    from zeuxis.checkpoint import load_model

    model = load_model(path)
    parameters = sum(p.numel() for network in model.networks.values() for p in network.parameters())
    can = ", ".join(sorted(model.family.capabilities)) or "sample only"
    rows = [("model", model.name), ("pictures", str(model.spec)), ("parameters", f"{parameters:,}"), ("can", can),
            ("sampling options", ", ".join(model.family.render_options)),
            ("classes", ", ".join(model.classes) or "none"),
            ("weights SHA-256", model.hash), *_kept_edits(path, model)]  # fmt: skip
    return (
        rows
        + [(key.replace("_", " "), str(value)) for key, value in model.about.items()]
        + _settings(model.family.settings)
    )


def _kept_edits(path: Path, model: Model) -> list[tuple[str, str]]:
    """What the verbs of editing have put into the model folder, and what of it was made for other weights."""
    from zeuxis.editing.shelf import SHELF, read_header

    rows = []
    for file in sorted((path / SHELF).glob("*.safetensors")):
        header = read_header(path, model, file.stem)
        about = "for editing" if header is None else str(header.get("from", "for editing"))
        rows.append((file.stem.replace("-", " ", 1), "made for other weights: not used" if header is None else about))
    return rows


def _preset_rows(name: str) -> list[tuple[str, str]]:
    from zeuxis.config import ImageSpec
    from zeuxis.families import clip_length, make_family, resolve_name

    full = resolve_name(name, "WHAT")
    spec = ImageSpec(height=32, width=32, frames=clip_length(full))
    return [("model", full), *_settings(make_family(full, spec).settings)]


def _settings(settings: dict[str, dict[str, Any]]) -> list[tuple[str, str]]:
    return [(f"--set {group}.{key}", str(value)) for group, values in settings.items() for key, value in values.items()]


def _data_rows(what: str) -> list[tuple[str, str]]:
    from zeuxis.data import open_dataset

    data = open_dataset(what)
    return [("data", data.name), ("pictures", str(data.spec)),
            ("train / val / test", f"{len(data.train)} / {len(data.val)} / {len(data.test)}"),
            ("classes", ", ".join(data.classes) or "none"), ("fingerprint", data.fingerprint)]  # fmt: skip
