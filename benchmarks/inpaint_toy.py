"""Are fillings draws from the model's own conditional distribution? On pictures so small that every filling can be
counted.

Pictures of 4x4 in black and white: each row repeats the one above with a few errors, drawn by the script.
Autoregressive networks with `complete` are trained on them. Then some pixels are given, on all sides of the hole. The
exact conditional distribution of the rest comes from the model's own likelihood of all 2^6 fillings, and the total
variation of its fillings to that is reported, beside that of as many draws from the exact distribution itself. What is
known must come back to the bit. Inpainting by optimisation or encoding makes no claim on this distribution and is left
out.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from pathlib import Path

import numpy as np
import torch

from timing import report
from zeuxis.checkpoint import Model, load_model
from zeuxis.config import DataOptions, TrainOptions
from zeuxis.data import open_dataset
from zeuxis.editing import inpaint
from zeuxis.images import to_float
from zeuxis.training import start

SIDE, HOLE = 4, ((1, 0), (1, 1), (1, 2), (1, 3), (2, 1), (2, 2))
ERRORS = 0.1


def pictures(count: int) -> np.ndarray:
    """uint8 `[N, 4, 4, 1]`, 0 and 255."""
    rng = np.random.default_rng(0)
    rows = [rng.random((count, SIDE)) < 0.5]
    for _ in range(SIDE - 1):
        rows.append(rows[-1] ^ (rng.random((count, SIDE)) < ERRORS))
    return (np.stack(rows, axis=1)[..., None] * 255).astype(np.uint8)


def trained(name: str, kimg: float, folder: Path) -> Model:
    everything = DataOptions(test_fraction=0.0, val_fraction=0.0)
    dataset = open_dataset(pictures(20_000), everything, cache_dir=folder / "cache")
    options = TrainOptions(model=name, kimg=kimg, snapshots=1, data=everything)
    return load_model(start(options, dataset, folder / name.replace("/", "-")).run().folder)


def likelihoods(model: Model, pixels: np.ndarray) -> torch.Tensor:
    """log p(x) in nats `[N]` of uint8 `[N, 1, 4, 4]`."""
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        images = to_float(torch.from_numpy(pixels))
        return model.family.log_likelihood(model.networks, images, None, generator).double()


def variation(found: np.ndarray, exact: np.ndarray) -> float:
    """Total variation of the counts of fillings `[K]` to probabilities `[K]`; what is no black-and-white filling (the
    rest to `found`'s sum of 1) counts in full."""
    return float((np.abs(found - exact).sum() + 1 - found.sum()) / 2)


def histogram(pixels: np.ndarray, fillings: np.ndarray) -> np.ndarray:
    """Share of pictures uint8 `[N, 4, 4]` that have each of fillings bool `[K, hole]`, in the hole."""
    values = np.stack([pixels[:, y, x] for y, x in HOLE], axis=1)
    clean = ((values == 0) | (values == 255)).all(1)
    numbers = ((values[clean] > 127) @ (2 ** np.arange(len(HOLE))[::-1])).astype(int)
    return np.bincount(numbers, minlength=len(fillings)) / len(pixels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=["autoregressive/pixelcnn/tiny"])
    parser.add_argument("--kimg", type=float, default=200)
    parser.add_argument("--fillings", type=int, default=4000)
    parser.add_argument("--particles", type=int, default=64, help="completions of which each filling is chosen")
    asked = parser.parse_args()
    fillings = np.array(list(itertools.product([False, True], repeat=len(HOLE))))
    known = np.ones((SIDE, SIDE), bool)
    for y, x in HOLE:
        known[y, x] = False
    picture = np.array([[0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1], [0, 1, 0, 1]], np.uint8) * 255
    for name in asked.models:
        with tempfile.TemporaryDirectory() as folder:
            model = trained(name, asked.kimg, Path(folder))
        every = np.repeat(picture[None], len(fillings), axis=0)
        for column, (y, x) in enumerate(HOLE):
            every[:, y, x] = 255 * fillings[:, column]
        exact = torch.softmax(likelihoods(model, every[:, None]), 0).numpy()
        made = inpaint(model, picture[None], known, range(asked.fillings), particles=asked.particles)[:, 0]
        rng = np.random.default_rng(0)
        drawn = np.bincount(rng.choice(len(exact), asked.fillings, p=exact / exact.sum()), minlength=len(exact))
        report(f"fillings of {name} on the toy", fillings=asked.fillings, particles=asked.particles,
               total_variation=round(variation(histogram(made, fillings), exact), 4),
               exact_draws=round(variation(drawn / asked.fillings, exact), 4),
               known_to_the_bit=bool((made[:, known] == picture[known]).all()),
               clean_share=round(float(histogram(made, fillings).sum()), 4))  # fmt: skip


if __name__ == "__main__":
    main()
