"""Whether a generator that was trained behind augmentation makes augmented-looking pictures.

A small network learns to tell real pictures as they are from real pictures after each kind of change. How it then sorts
held-out real pictures of every sort is known; how it sorts the generated ones is a mixture of that, and the shares of
the mixture are what is asked for (least squares with shares that are not negative and sum to 1; the correction for
label shift of Lipton et al. 2018, arXiv 1802.03916). A fault that is none of the changes is sorted somewhere too, so
the shares of real pictures that were not learned from stand beside: that is what no leak looks like.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from zeuxis.augment import Kind, augment, draw
from zeuxis.config import ImageSpec
from zeuxis.data import Dataset, Split
from zeuxis.images import to_float, to_pixels
from zeuxis.metrics.extractors import split_positions
from zeuxis.metrics.networks import FeatureNet, visible
from zeuxis.metrics.recipe import train_network
from zeuxis.randomness import generator_for

TRAINING, HELD_OUT = 4000, 1000  # real pictures of each sort, at most
IMAGES = 30_000  # shown to the network in all
LEAST = 40  # held-out pictures
TOLD = 0.1  # how differently from real ones changed pictures must be sorted, to be told from them (total variation)
RESAMPLES = 50
CHUNK = 512
Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Leak:
    """The share of pictures that look changed, its standard error, the same of real pictures, and shares by kind;
    `untold` kinds cannot be told from what the data look like anyway."""

    share: float
    error: float
    floor: float
    kinds: dict[str, float]
    untold: tuple[str, ...]

    @property
    def note(self) -> str:
        """The kinds in words."""
        told = ", ".join(f"{kind} {share:.1%}" for kind, share in self.kinds.items())
        return told + (f"; cannot be told: {', '.join(self.untold)}" if self.untold else "")


def leak(generated: Pixels, dataset: Dataset, kinds: tuple[Kind, ...]) -> Leak | None:
    """How much of `kinds` is in pictures uint8 `[N, C, H, W]`; None where too few real pictures are held out."""
    if len(dataset.test) < LEAST or not kinds:
        return None
    net = _network(dataset, kinds)
    held_out = _spread(dataset.test, 2 * HELD_OUT)
    half = len(held_out) // 2
    sorts = [held_out[:half], *(changed(held_out[:half], kind, dataset.spec) for kind in kinds)]
    table = np.stack([_sorted(net, pictures).mean(0) for pictures in sorts], axis=1)  # [guess, sort]
    apart = 0.5 * np.abs(table[:, 1:] - table[:, :1]).sum(0)
    told = [index for index in range(len(kinds)) if apart[index] >= TOLD]
    columns = table[:, [0, *(index + 1 for index in told)]]
    found, real = _sorted(net, generated), _sorted(net, held_out[half:])
    shares = mixture(columns, found.mean(0))
    rng = np.random.default_rng(0)
    again = [
        1 - mixture(columns, found[rng.integers(len(found), size=len(found))].mean(0))[0] for _ in range(RESAMPLES)
    ]
    return Leak(
        float(1 - shares[0]), float(np.std(again)), float(1 - mixture(columns, real.mean(0))[0]),
        {kinds[index]: float(share) for index, share in zip(told, shares[1:], strict=True)},
        tuple(kind for index, kind in enumerate(kinds) if index not in told),
    )  # fmt: skip


def mixture(columns: Floats, seen: Floats) -> Floats:
    """Shares `[S]`, not negative, with sum 1, whose mixture of `columns` `[G, S]` is nearest to `seen` `[G]`."""
    from scipy.optimize import nnls  # takes half a second to load

    heavy = 100.0  # the sum is a row like the others, and much more important
    shares, _ = nnls(np.vstack([columns, np.full((1, columns.shape[1]), heavy)]), np.append(seen, heavy))
    return np.asarray(shares / shares.sum())


def changed(pictures: Pixels, kind: Kind, spec: ImageSpec) -> Pixels:
    """Each picture after one change, as augmentation makes it."""
    parts = []
    for start in range(0, len(pictures), CHUNK):
        images = to_float(torch.from_numpy(pictures[start : start + CHUNK]))
        draws = draw(len(images), generator_for("leak", kind, start))
        parts.append(to_pixels(augment(images, draws, 1.0, (kind,), spec)).numpy())
    return np.concatenate(parts)


def _network(dataset: Dataset, kinds: tuple[Kind, ...]) -> FeatureNet:
    pictures = _spread(dataset.train, TRAINING)
    sorts = np.concatenate([pictures, *(changed(pictures, kind, dataset.spec) for kind in kinds)])
    labels = np.repeat(np.arange(1 + len(kinds)), len(pictures))
    return train_network(lambda places: sorts[places], labels, len(sorts), dataset.spec, 1 + len(kinds), IMAGES)


def _spread(split: Split, most: int) -> Pixels:
    """Up to `most` pictures of a split."""
    return split.take(split_positions(len(split), min(most, len(split))))


@torch.inference_mode()
def _sorted(net: FeatureNet, pictures: Pixels) -> Floats:
    """What the network takes each picture for, probabilities `[N, sorts]`."""
    parts = [
        torch.softmax(net(visible(torch.from_numpy(pictures[start : start + CHUNK]))), dim=1).double().numpy()
        for start in range(0, len(pictures), CHUNK)
    ]
    return np.concatenate(parts)
