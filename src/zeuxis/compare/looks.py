"""Pictures to look at: sheets from the same seeds, and samples beside their nearest real pictures."""

from __future__ import annotations

import time
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from zeuxis.compare.entries import Neighbours, Pixels, Sheet
from zeuxis.data import Dataset, Split
from zeuxis.metrics.distances import nearest
from zeuxis.metrics.extractors import Extractor, split_features, split_positions
from zeuxis.sampling import Sampler

SHOWN = 40  # pictures of a sheet without classes
PER_CLASS = 8
MOST_CLASSES = 16  # more do not fit as rows of a sheet
SUSPECTS = 8
SEARCHED = 2000  # samples among which the nearest to training pictures are looked for
MOST_TRAINING = 200_000
RATE_SECONDS = 1.0


def sample_sheet(sampler: Sampler, first: int = 0) -> Sheet:
    """Pictures of the seeds from `first` on; a class-conditional model shows a class per row and a seed per column."""
    classes = sampler.model.drawn_classes
    if 1 < len(classes) <= MOST_CLASSES:
        seeds = range(first, first + PER_CLASS)
        rows = [np.concatenate(list(sampler(seeds, label=label))) for label in range(len(classes))]
        return Sheet(np.concatenate(rows), tuple(seeds) * len(classes), classes)
    seeds = range(first, first + SHOWN)
    return Sheet(np.concatenate(list(sampler(seeds))), tuple(seeds))


def real_sheet(split: Split, classes: tuple[str, ...]) -> Sheet:
    """Real pictures laid out like `sample_sheet`; by class only where every class has enough of them."""
    if 1 < len(classes) <= MOST_CLASSES:
        rows = [np.flatnonzero(split.labels == label) for label in range(len(classes))]
        if all(len(row) >= PER_CLASS for row in rows):
            return Sheet(split.take(np.concatenate([row[:PER_CLASS] for row in rows])), (), classes)
    return Sheet(split.take(_spread(len(split), SHOWN)))


def suspects(samples: Pixels, dataset: Dataset, extractor: Extractor, held_out: int) -> Neighbours:
    """The samples that are nearest to a training picture, by how near the nearest held-out picture is.

    `samples` is uint8 `[N, C, H, W]`; `held_out` says how many pictures of the test split are looked at.
    """
    own = extractor([samples])
    training = split_features(extractor, dataset, "train", MOST_TRAINING)
    tested = split_features(extractor, dataset, "test", held_out)
    to_training, which_training = nearest(own, training)
    to_tested, which_tested = nearest(own, tested)
    usual = float(np.sqrt(np.median(nearest(tested, training)[0])))
    chosen = np.argsort(to_training / np.maximum(to_tested, 1e-12), kind="stable")[:SUSPECTS]
    # From features back to pictures.
    training_at = split_positions(len(dataset.train), len(training))[which_training[chosen]]
    tested_at = split_positions(len(dataset.test), len(tested))[which_tested[chosen]]
    return Neighbours(
        samples[chosen], dataset.train.take(training_at), dataset.test.take(tested_at),
        np.sqrt(to_training[chosen]).tolist(), np.sqrt(to_tested[chosen]).tolist(), usual, extractor.name,
    )  # fmt: skip


def _spread(length: int, count: int) -> NDArray[np.int64]:
    return np.linspace(0, length - 1, min(count, length)).astype(np.int64)


def sampling_rate(sampler: Sampler) -> float:
    """Pictures a second, with class and noise by seed as `zeuxis sample` makes them, after one chunk to warm up."""
    chunks = sampler(range(10**9))
    next(chunks)
    started, count = time.perf_counter(), 0
    for chunk in islice(chunks, 64):
        count += len(chunk)
        if time.perf_counter() - started > RATE_SECONDS:
            break
    return count / (time.perf_counter() - started)
