"""What the benchmarks of editing share: a trained model with an encoder, and distances in features that nothing was
optimised against."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from zeuxis.checkpoint import find_model, load_model
from zeuxis.config import DataOptions, TrainOptions
from zeuxis.data import Dataset, open_dataset
from zeuxis.editing import Encoder, Space, load_encoder, save_encoder, space_of, train_encoder
from zeuxis.editing.encoder import EncoderConfig
from zeuxis.images import to_float
from zeuxis.metrics.distances import Features
from zeuxis.metrics.extractors import Extractor, make_extractor
from zeuxis.metrics.frechet import frechet_distance
from zeuxis.training import start

COMPONENTS = 64
Pixels = NDArray[np.uint8]  # [N, C, H, W]


def arguments(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Adds what every one of these scripts is told."""
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--resolution", type=int, default=0, help="a side; 0 takes the data's own")
    parser.add_argument("--model", default="gan", help="a model folder, or a model name to train")
    parser.add_argument("--budget", type=float, default=240, help="seconds of training, where a name was given")
    parser.add_argument("--encoder-budget", type=float, default=240, help="seconds of the encoder, where there is none")
    parser.add_argument("--features", default="efficientnet", help="the extractor that scores")
    return parser.parse_args()


def prepare(asked: argparse.Namespace) -> tuple[Dataset, Space, Encoder]:
    """The data, the model's space and its encoder, trained where they are not there yet."""
    given = Path(asked.model)
    if given.is_dir():
        spec = load_model(given).spec
        options = DataOptions.model_validate({"resolution": (spec.height, spec.width), "channels": spec.channels})
        dataset = open_dataset(asked.data, options)
    else:
        sides = (asked.resolution, asked.resolution) if asked.resolution else "auto"
        options = DataOptions.model_validate({"resolution": sides})
        dataset = open_dataset(asked.data, options)
        training = TrainOptions(model=asked.model, budget=asked.budget, snapshots=3, data=options)
        given = start(training, dataset, Path(tempfile.mkdtemp())).run().folder
    model, folder = load_model(given), find_model(given)
    space = space_of(model)
    encoder = load_encoder(folder, space)
    if encoder is None:

        def reals(generator: torch.Generator, count: int) -> torch.Tensor:
            positions = torch.randint(len(dataset.train), (count,), generator=generator)
            return to_float(torch.from_numpy(dataset.train.take(positions.numpy())))

        encoder = train_encoder(space, kimg=10_000, budget=asked.encoder_budget, reals=reals)
        save_encoder(folder, model, encoder, EncoderConfig(), 0)
    return dataset, space, encoder


class Scorer:
    """Features of an extractor, and their first principal components over training pictures."""

    def __init__(self, name: str, dataset: Dataset, count: int) -> None:
        self.extractor: Extractor = make_extractor(name, dataset)
        self.reference_pixels = dataset.train.take(spread(len(dataset.train), count))
        self.reference = self(self.reference_pixels)
        self.mean = self.reference.mean(0)
        self.axes = np.linalg.svd(self.reference - self.mean, full_matrices=False)[2][:COMPONENTS].T

    def __call__(self, pixels: Pixels) -> Features:
        """Features float64 `[N, D]`."""
        return self.extractor(pixels[at : at + 256] for at in range(0, len(pixels), 256))

    def frechet(self, features: Features) -> float:
        """Fréchet distance to the training pictures in the first 64 components."""
        return frechet_distance((features - self.mean) @ self.axes, (self.reference - self.mean) @ self.axes)


def spread(length: int, count: int, seed: int = 0) -> NDArray[np.int64]:
    """`count` different places, at random."""
    return np.random.default_rng(seed).permutation(length)[:count]


def bootstrap(values: Iterable[float], seed: int = 0) -> tuple[float, float]:
    """95% interval of the mean."""
    array = np.asarray(list(values))
    means = array[np.random.default_rng(seed).integers(0, len(array), (1000, len(array)))].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return round(float(low), 4), round(float(high), 4)
