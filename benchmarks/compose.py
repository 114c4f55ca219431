"""Is what `zeuxis compose` makes both coherent and faithful? Random collages of two held-out pictures each, beside
controls that are easily one of the two.

Each collage has one side of a picture beside the other side of another one (of the same class, where there are
classes), cut at a random place with a gap of a tenth of the frame between them. Coherent: Fréchet distance above that
of held-out pictures, over the raw collages' (first 64 principal components; kernel distance beside it). Faithful:
distance of the elements' features over that of the same part of a random picture. Both at most 0.5 at once is the aim.
The score comes from a network that nothing is optimised against.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from editing_common import Pixels, Scorer, arguments, bootstrap, prepare, spread
from timing import report
from zeuxis.data import Dataset
from zeuxis.editing import Encoder, Space
from zeuxis.editing.collage import Collage, compose_many
from zeuxis.images import grid, save_png, sheet_scale, to_float
from zeuxis.metrics.kernel import kernel_distance

GAP = 0.1  # of the side
CUT = 0.35, 0.65


def collages(dataset: Dataset, count: int) -> tuple[Pixels, np.ndarray]:
    """Pixels uint8 `[N, C, H, W]` and the elements' places bool `[N, 2, H, W]`."""
    rng = np.random.default_rng(0)
    split, labels = dataset.test, dataset.test.labels
    first = rng.integers(0, len(split), count)
    second = np.array([rng.choice(np.flatnonzero(labels == labels[one])) for one in first])
    height, width = dataset.spec.height, dataset.spec.width
    places = np.zeros((count, 2, height, width), bool)
    for place in places:
        across = rng.random() < 0.5
        side = width if across else height
        cut, gap = rng.uniform(*CUT) * side, GAP * side / 2
        line = np.arange(side)
        for part, inside in zip(place, (line < cut - gap, line >= cut + gap), strict=True):
            part |= inside[None, :] if across else inside[:, None]
    a, b = split.take(first), split.take(second)
    return np.where(places[:, :1], a, np.where(places[:, 1:], b, 0)), places


def nearest(made: Pixels, known: np.ndarray, training: Pixels) -> Pixels:
    """For each collage the training picture nearest to it where it is known."""
    bank = training.reshape(len(training), -1).astype(np.float32)
    squares, chosen = np.square(bank), []
    for picture, seen in zip(made, known, strict=True):
        mask = np.broadcast_to(seen, picture.shape).reshape(-1).astype(np.float32)
        target = picture.reshape(-1).astype(np.float32) * mask
        chosen.append(int((squares @ mask - 2 * (bank @ target)).argmin()))
    return training[chosen]


def blurred(made: Pixels) -> Pixels:
    """Smoothed by 1/14 of the side (2 pixels at 28)."""
    sigma = made.shape[2] / 14
    return gaussian_filter(made.astype(np.float32), (0, 0, sigma, sigma)).round().clip(0, 255).astype(np.uint8)


class Kept:
    """For each collage the elements' feature distance over that of the same part of a random picture; all else of the
    frame empty. What does not depend on the result is looked at once."""

    def __init__(self, scorer: Scorer, collage: Pixels, places: np.ndarray, strangers: Pixels) -> None:
        self.scorer = scorer
        self.seen = [places[:, part, None] for part in (0, 1)]
        self.wanted = [scorer(np.where(seen, collage, 0)) for seen in self.seen]
        self.random = sum(self.distances(strangers))

    def distances(self, pictures: Pixels) -> list[np.ndarray]:
        """`[N]` for each of the two elements."""
        return [np.linalg.norm(self.scorer(np.where(seen, pictures, 0)) - wanted, axis=1)
                for seen, wanted in zip(self.seen, self.wanted, strict=True)]  # fmt: skip

    def __call__(self, result: Pixels) -> np.ndarray:
        """The ratios `[N]`, over the mean of random pictures."""
        return np.asarray(sum(self.distances(result)) / np.mean(self.random))


def methods(
    space: Space, encoder: Encoder, dataset: Dataset, made: Pixels, known: np.ndarray, steps: int
) -> dict[str, Callable[[], Pixels]]:
    """What is compared: ours, then the controls."""

    def composed(steps: int, blend: str = "none") -> Pixels:
        laid = [Collage(picture, seen) for picture, seen in zip(made, known, strict=True)]
        return compose_many(space, laid, encoder=encoder, steps=steps, blend=blend)

    images = to_float(torch.from_numpy(made))
    bank = dataset.train.take(spread(len(dataset.train), 10_000))
    return {
        "compose": lambda: composed(steps),
        "compose, blend soft": lambda: composed(steps, "soft"),
        "compose, blend kept": lambda: composed(steps, "kept"),
        "raw collage": lambda: made,
        "nearest training picture": lambda: nearest(made, known, bank),
        "blurred collage": lambda: blurred(made),
        "encoder alone": lambda: space.pictures(encoder(images, torch.from_numpy(known[:, None]))),
        "random sample": lambda: space.pictures(space.of_seeds(range(len(made)))),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000, help="collages")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--sheet", type=Path, help="a PNG of the first collages and what each method makes of them")
    asked = arguments(parser)
    dataset, space, encoder = prepare(asked)
    scorer = Scorer(asked.features, dataset, 10_000)
    made, places = collages(dataset, asked.count)
    known = places.any(1)
    held_out = dataset.test.take(np.random.default_rng(1).integers(0, len(dataset.test), asked.count))
    strangers = dataset.test.take(np.random.default_rng(2).integers(0, len(dataset.test), asked.count))
    floor = scorer.frechet(scorer(held_out))
    raw = scorer.frechet(scorer(made))
    kept = Kept(scorer, made, places, strangers)
    rows = [made[:12]]
    for name, method in methods(space, encoder, dataset, made, known, asked.steps).items():
        started = time.perf_counter()
        result = method()
        seconds = time.perf_counter() - started
        features = scorer(result)
        faithful = kept(result)
        report(
            f"{name} on {dataset.name}", model=space.model.name, collages=asked.count, extractor=asked.features,
            fd_ratio=round((scorer.frechet(features) - floor) / (raw - floor), 4),
            elements_ratio=round(float(faithful.mean()), 4), elements_range=bootstrap(faithful),
            fd=round(scorer.frechet(features), 4), fd_held_out=round(floor, 4), fd_raw=round(raw, 4),
            kid=round(kernel_distance(features, scorer.reference[: 2 * asked.count]), 5),
            seconds_per_picture=round(seconds / asked.count, 4), steps=asked.steps,
        )  # fmt: skip
        rows.append(result[:12])
    if asked.sheet:
        sheet = np.concatenate(rows).transpose(0, 2, 3, 1)
        save_png(grid(sheet, len(made[:12]), scale=sheet_scale(*made.shape[2:])), asked.sheet)


if __name__ == "__main__":
    main()
