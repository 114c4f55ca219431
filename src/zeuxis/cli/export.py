"""`zeuxis export`."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from zeuxis.cli.desk import ModelArgument


class Form(StrEnum):
    """One ONNX file, or a folder with a page that makes pictures in a browser."""

    onnx = "onnx"
    web = "web"


def export(
    model: ModelArgument,
    form: Annotated[Form, typer.Option("--format", help="What to write.")] = Form.onnx,
    out: Annotated[Path | None, typer.Option(help="The file or folder; model.onnx or web when not given.")] = None,
    runtime: Annotated[Path | None, typer.Option(help="For web: the folder of an installed onnxruntime-web.")] = None,
    truncation: Annotated[float | None, typer.Option(help="GAN: built into the ONNX file.")] = None,
    temperature: Annotated[float | None, typer.Option(help="VAE: built into the ONNX file.")] = None,
) -> None:
    """Write a generator for other programs; it is compared with PyTorch on 64 seeds before it is kept."""
    from rich.console import Console

    from zeuxis.checkpoint import load_model
    from zeuxis.cli.show import say
    from zeuxis.errors import UserError
    from zeuxis.export import export_onnx, export_step, export_web, is_token_model
    from zeuxis.sampling import render_options

    loaded, console = load_model(model), Console()
    place = out or Path("model.onnx" if form is Form.onnx else "web")
    options = render_options(loaded, truncation=truncation, temperature=temperature)
    try:
        with console.status("exporting"):
            if form is Form.onnx:
                place.parent.mkdir(parents=True, exist_ok=True)
                write = export_step if is_token_model(loaded) else partial(export_onnx, options=options)
                parity = write(loaded, place)
            else:
                parity = export_web(loaded, place, runtime=runtime)
    except OSError as error:
        raise UserError("--out", str(place), "a place that can be written", str(error.strerror)) from None
    batches = ", ".join(map(str, parity.batches))
    say(console, f"{place}: differs from PyTorch by at most {parity.largest:.2g} of 2 over {parity.seeds} seeds "
                 f"(batches {batches}); {parity.equal_pixels:.4%} of 8-bit values equal")  # fmt: skip
    if form is Form.web:
        say(console, f"try: python -m http.server --directory {place}")
