"""What a run shows and shares at each snapshot: the sheet of fixed seeds, and the model folder with its card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from zeuxis.checkpoint import Model, save_model
from zeuxis.data import Dataset
from zeuxis.files import write_bytes
from zeuxis.film import strips
from zeuxis.images import Pixels, grid, save_png, sheet_scale, to_float, to_pixels
from zeuxis.sampling import Sampler, synthetic_mark

SHEET_ROWS = SHEET_COLUMNS = 8
MAX_CLASS_COLUMNS = 16
CLIP_ROWS = 8  # film strips on a sheet of clips


def sheet_layout(classes: int) -> tuple[int, int]:
    """Rows and columns of a sheet: one column per class where they fit, else eight by eight."""
    return (SHEET_ROWS, classes) if 1 < classes <= MAX_CLASS_COLUMNS else (SHEET_ROWS, SHEET_COLUMNS)


def sample_sheet(sampler: Sampler) -> Image.Image:
    """Pictures of the seeds 0, 1, ... on one sheet; a class-conditional model shows a class per column."""
    classes = len(sampler.model.drawn_classes)
    rows, columns = sheet_layout(classes) if sampler.model.spec.frames == 1 else (CLIP_ROWS, 1)
    if columns == classes:
        by_class = [
            np.concatenate(list(sampler(range(label, rows * columns, columns), label=label)))
            for label in range(classes)
        ]
        pixels = np.stack(by_class, axis=1).reshape(-1, *sampler.model.spec.shape)  # [rows * columns, C, H, W]
    else:
        pixels = np.concatenate(list(sampler(range(rows * columns))))
    return _sheet(pixels, columns)


def real_sheet(dataset: Dataset, by_class: bool) -> Image.Image:
    """Training pictures laid out like `sample_sheet`, to be looked at beside it."""
    rows, columns = sheet_layout(len(dataset.classes) if by_class else 0)
    if dataset.spec.frames > 1:
        rows, columns = CLIP_ROWS, 1
    split = dataset.train
    if by_class and columns == len(dataset.classes):
        chosen = [np.flatnonzero(split.labels == label)[:rows] for label in range(columns)]
        fewest = min(rows, *(len(positions) for positions in chosen))
        positions = np.stack([own[:fewest] for own in chosen], axis=1).reshape(-1) if fewest else np.arange(0)
    else:
        # Spread over the whole split: neighbours in a folder are often alike.
        positions = np.linspace(0, len(split) - 1, min(len(split), rows * columns)).astype(np.int64)
    return _sheet(split.take(positions), columns)


@torch.inference_mode()
def reconstruction_sheet(model: Model, dataset: Dataset, device: torch.device) -> Image.Image:
    """Rows of pictures, each above a row of their reconstructions: held-out pictures where there are any."""
    split = dataset.val if len(dataset.val) else dataset.train
    known = np.flatnonzero(split.labels >= 0) if model.classes else np.arange(len(split))
    count = min(len(known), SHEET_ROWS // 2 * SHEET_COLUMNS)
    positions = known[np.linspace(0, len(known) - 1, count).astype(np.int64)]
    originals = split.take(positions)
    labels = torch.from_numpy(split.labels[positions]).to(device) if model.classes else None
    images = to_float(torch.from_numpy(originals).to(device))
    again = to_pixels(model.family.reconstruct(model.networks, images, labels)).cpu().numpy()
    columns = min(SHEET_COLUMNS, max(1, count))
    rows = [side[start : start + columns] for start in range(0, count, columns) for side in (originals, again)]
    whole = [row for row in rows if len(row) == columns]
    return _sheet(np.concatenate(whole), columns)


def _sheet(pixels: Pixels, columns: int) -> Image.Image:
    """uint8 `[N, C, H, W]` -> one picture; clips `[N, T, C, H, W]` become film strips."""
    if pixels.ndim == 5:
        return strips(pixels)
    return grid(pixels.transpose(0, 2, 3, 1), columns, scale=sheet_scale(*pixels.shape[2:]))


def write_model(model: Model, sheet: Image.Image, folder: Path) -> str:
    """Replaces the model folder as a whole: weights, config, card and samples. Returns the SHA-256 of the weights."""

    def extras(place: Path, digest: str) -> None:
        save_png(sheet, place / "samples.png", {**synthetic_mark(model), "Model": f"{model.name} {digest[:16]}"})
        write_bytes(place / "README.md", card(model, digest).encode())

    return save_model(model, folder, extras)


def card(model: Model, digest: str) -> str:
    """The model card: what made the model, from what, and how to use it; front matter as model hubs read it."""
    about: dict[str, Any] = model.about
    parameters = sum(p.numel() for network in model.networks.values() for p in network.parameters())
    classes = ", ".join(name.replace("|", " ").replace("`", "'") for name in model.classes) or "none"
    rows = [
        ("model", model.name), ("pictures", str(model.spec)), ("classes", classes),
        ("parameters", f"{parameters:,}"),
        ("trained on", f"{about.get('data')} ({about.get('train_pictures'):,} pictures)"),
        ("data fingerprint", about.get("fingerprint")), ("images seen", f"{about.get('images_seen'):,}"),
        ("chosen by", about.get("chosen_by")), ("weights SHA-256", digest),
    ]  # fmt: skip
    table = "\n".join(f"| {key} | {value} |" for key, value in rows)
    return f"""---
library_name: zeuxis
tags: [zeuxis, image-generation, {model.family.name}]
---
# {model.name}

An image generator trained with Zeuxis from the pictures named below and nothing else. What it makes is synthetic, and
files written by Zeuxis say so in their PNG text.

![samples](samples.png)

| | |
|---|---|
{table}

```
zeuxis sample . --seeds 0-63
```

State here under which licence the training pictures were used and under which this model may be.
"""
