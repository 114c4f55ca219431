"""How likely a model finds each of one's own pictures, and how much of that is only that the picture is simple.

Likelihood alone ranks smooth pictures first, also ones of another kind than the model knows (Nalisnick et al. 2018,
arXiv 1810.09136). Bits under the model less those that a compressor needs tell unusual from detailed (Serra et al.
2019, arXiv 1909.11480, Eq. 3).
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, features

from zeuxis.checkpoint import Model
from zeuxis.data import Dataset
from zeuxis.data.listing import TEST, TRAIN, VAL
from zeuxis.errors import UserError
from zeuxis.images import Pixels, picture_of, to_float
from zeuxis.metrics.likelihood import BIN, dequantise
from zeuxis.randomness import generator_for

CHUNK = 64
SPLITS = {"train": TRAIN, "val": VAL, "test": TEST}
WARNING = (
    "a high likelihood does not mean that a picture is of the model's kind: smooth pictures of any kind get one "
    "(Nalisnick et al. 2018); `unusual` is corrected by how well the picture compresses"
)


@dataclass(frozen=True)
class Scored:
    """One picture: its file (or place), split and class; `nats` of log likelihood or its lower bound; `bits` per value
    (None where the model's likelihood is of no pixels); `compressed` bits per value by the best of PNG and lossless
    WebP; `unusual` is `bits` less `compressed`: higher is less like what the model knows."""

    name: str
    split: str
    position: int
    label: str
    nats: float
    bits: float | None
    compressed: float
    unusual: float | None


def score(
    model: Model, dataset: Dataset, *, split: str = "all", samples: int = 16, device: str | torch.device = "cpu",
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Scored]:  # fmt: skip
    """Every picture of a split (or of all) with its scores, most likely first. `samples` is K of the
    importance-weighted bound, where the model has a bound. `UserError` where it cannot, or lacks a class that it
    needs."""
    if "log_likelihood" not in model.family.capabilities:
        raise UserError("MODEL", model.name, "a model with a likelihood: vae, or autoregressive over pixels",
                        "`zeuxis info MODEL` says what it can")  # fmt: skip
    if model.drawn_classes and model.drawn_classes != dataset.classes:
        raise UserError("DATA", dataset.name, f"data with the model's classes: {', '.join(model.drawn_classes[:20])}",
                        "put the pictures into folders of these names")  # fmt: skip
    networks = {part: network.to(device) for part, network in model.networks.items()}
    rows: list[Scored] = []
    names = list(SPLITS) if split == "all" else [split]
    total = sum(len(getattr(dataset, name)) for name in names)
    for name in names:
        files = dataset.names(SPLITS[name])
        for positions, pixels, labels in _chunks(dataset, name, bool(model.drawn_classes)):
            nats = _nats(model, networks, torch.from_numpy(pixels).to(device), labels, samples)
            for position, own, picture in zip(positions, nats, pixels, strict=True):
                file = files[position] if files else f"{name}[{position}]"
                label = int(getattr(dataset, name).labels[position])
                rows.append(_row(model, file, name, int(position), dataset.classes[label] if label >= 0 else "",
                                 float(own), picture))  # fmt: skip
            if progress:
                progress("scoring", len(rows), total)
    if not rows:
        raise UserError("--split", split, "a split with pictures", "try --split all")
    return sorted(rows, key=lambda row: -row.nats)


def _chunks(
    dataset: Dataset, name: str, with_class: bool
) -> Iterator[tuple[NDArray[np.int64], Pixels, torch.Tensor | None]]:
    """Positions, pictures uint8 `[n, C, H, W]` and labels; of a class-conditional model only pictures with a class."""
    split = getattr(dataset, name)
    positions = np.flatnonzero(split.labels >= 0) if with_class else np.arange(len(split))
    for start in range(0, len(positions), CHUNK):
        chosen = positions[start : start + CHUNK]
        yield chosen, split.take(chosen), torch.from_numpy(split.labels[chosen]) if with_class else None


@torch.inference_mode()
def _nats(model: Model, networks: Any, pixels: torch.Tensor, labels: torch.Tensor | None, samples: int) -> Any:
    """Nats `[n]` of uint8 pictures; a density gets them dequantised, which bounds the probability of the levels."""
    generator = generator_for("score")
    continuous = model.family.likelihood_unit == "continuous" and pixels.shape[1] != 4
    images = dequantise(pixels, generator) if continuous else to_float(pixels)
    own = None if labels is None else labels.to(images.device)
    return model.family.log_likelihood(networks, images, own, generator, samples).double().cpu().numpy()


def _row(model: Model, file: str, split: str, position: int, label: str, nats: float, picture: Pixels) -> Scored:
    size, unit = picture.size, model.family.likelihood_unit
    compressed = 8 * compressed_bytes(picture.transpose(1, 2, 0)) / size
    shift = size * math.log(BIN) if unit == "continuous" else 0.0
    known = unit == "discrete" or (unit == "continuous" and picture.shape[0] != 4)
    bits = -(nats + shift) / (size * math.log(2)) if known else None
    return Scored(file, split, position, label, nats, bits, compressed, None if bits is None else bits - compressed)


def compressed_bytes(pixels: Pixels) -> int:
    """Bytes of a picture uint8 `[H, W, C]` in the smallest lossless form, less those of a picture of one pixel, which
    are all frame: PNG, or WebP where Pillow has it."""
    own, frame = _forms(picture_of(pixels)), _forms(picture_of(np.zeros_like(pixels[:1, :1])))
    return min(size - less for size, less in zip(own, frame, strict=True))


def _forms(picture: Image.Image) -> list[int]:
    """Bytes as PNG, and as WebP where there is one."""
    sizes = [_size(picture, format="PNG", optimize=True)]
    if features.check("webp"):
        colour = picture.convert("RGB") if picture.mode == "L" else picture
        sizes.append(_size(colour, format="WEBP", lossless=True, method=4, exact=True))
    return sizes


def _size(picture: Image.Image, **options: Any) -> int:
    buffer = io.BytesIO()
    picture.save(buffer, **options)
    return len(buffer.getvalue())


def extremes(rows: list[Scored], dataset: Dataset, count: int) -> Pixels:
    """The `count` most likely pictures and the `count` least likely, uint8 `[2 * count, C, H, W]`."""
    count = min(count, len(rows))
    chosen = [*rows[:count], *rows[len(rows) - count :]]
    return np.concatenate([getattr(dataset, row.split).take([row.position]) for row in chosen])


def write_csv(rows: list[Scored], path: Path) -> None:
    """One line for each picture, most likely first."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, fieldnames=list(asdict(rows[0])))
        table.writeheader()
        table.writerows(asdict(row) for row in rows)
