"""What editing keeps beside a model: small safetensors files in its folder, bound to its weights by their hash."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as dump_tensors
from torch import Tensor

from zeuxis.checkpoint import Model
from zeuxis.errors import UserError
from zeuxis.files import write_bytes

SHELF_FORMAT = "1"
SHELF = "edits"
MOST_BYTES = 512 * 2**20
Shapes = Mapping[str, tuple[int, ...]]


def write_tensors(folder: Path, model: Model, name: str, tensors: Mapping[str, Tensor], about: dict[str, Any]) -> Path:
    """Writes `edits/NAME.safetensors` in the model folder; `about` is kept as JSON in its header."""
    path = folder / SHELF / f"{name}.safetensors"
    metadata = {"format_version": SHELF_FORMAT, "model": model.hash, "about": json.dumps(about)}
    content = dump_tensors({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, metadata)
    path.parent.mkdir(exist_ok=True)
    write_bytes(path, content)
    return path


def read_header(folder: Path, model: Model, name: str) -> dict[str, Any] | None:
    """What was written as `about`; None where there is no such file or it belongs to other weights."""
    path = folder / SHELF / f"{name}.safetensors"
    if not path.is_file():
        return None
    with _complaining(path):
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"it is larger than {MOST_BYTES} bytes")
        with safe_open(path, "pt") as file:
            metadata = dict(file.metadata() or {})
        if metadata.get("format_version") != SHELF_FORMAT or metadata.get("model") != model.hash:
            return None
        about = json.loads(metadata.get("about", "{}"))
        return about if isinstance(about, dict) else {}
    return None


def read_tensors(folder: Path, model: Model, name: str, shapes: Shapes) -> dict[str, Tensor] | None:
    """The tensors of `edits/NAME.safetensors`; None where there is none or it belongs to other weights.

    A stranger's file is checked before anything is allocated: names and shapes must be exactly `shapes`.
    """
    if read_header(folder, model, name) is None:
        return None
    path = folder / SHELF / f"{name}.safetensors"
    with _complaining(path):
        with safe_open(path, "pt") as file:
            own = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
            if own != dict(shapes):
                raise ValueError("its tensors are not those of this model")
            tensors = {key: file.get_tensor(key) for key in own}
        if not all(value.is_floating_point() and value.isfinite().all() for value in tensors.values()):
            raise ValueError("a value is no finite number")
        return tensors
    return None


@contextlib.contextmanager
def _complaining(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError, ValueError, TypeError) as error:
        raise UserError("MODEL", str(path), "a file written by `zeuxis directions` or `zeuxis encoder`",
                        f"remove it and make it anew: {error}") from None  # fmt: skip
