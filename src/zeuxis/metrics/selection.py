"""The score that chooses the model during training, from validation pictures and a network that never reports."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from zeuxis.data import Dataset
from zeuxis.metrics import kernel
from zeuxis.metrics.base import Pair, Side
from zeuxis.metrics.extractors import make_extractor, split_features
from zeuxis.metrics.neighbours import DENSITY_K, density_coverage_estimates

LEAST = 20  # pictures on each side: fewer say nothing
SELECTION_GENERATED, SELECTION_REFERENCE = 1000, 2000
SELECTION_FEATURES = "random"


def selection_score(
    dataset: Dataset,
) -> Callable[[Iterator[NDArray[np.uint8]]], tuple[str, float, dict[str, float]]] | None:
    """The in-training score that chooses the model: lower is better; None where no validation pictures are left.

    Kernel distance to validation pictures (cut from the training split; the test split stays untouched) in a network
    of fixed random weights, so that the extractors that report are never chosen by. Unbiased, so that few validation
    pictures do for it; all snapshots meet the same ones and the same seeds: their differences are steadier than each.
    Beside it, for the watchdog: `metric error`, the distance's standard error from the samples (the reference is the
    same each time), and `coverage`, the share of validation pictures that the samples come near to.
    """
    if len(dataset.val) < LEAST or dataset.spec.frames > 1:  # clips are judged by what follows their first frames
        return None
    extractor = make_extractor(SELECTION_FEATURES, dataset)
    reference = Side(split_features(extractor, dataset, "val", SELECTION_REFERENCE))

    def score(pictures: Iterator[NDArray[np.uint8]]) -> tuple[str, float, dict[str, float]]:
        pair = Pair(Side(extractor(first(pictures, SELECTION_GENERATED))), reference)
        covered = density_coverage_estimates(pair)[f"coverage_k{DENSITY_K}"].value
        distance = kernel.metric(pair)["kid"]
        more = {"metric error": distance.error or 0.0, "coverage": covered}
        return f"kid_val_{SELECTION_FEATURES}", distance.value, more

    return score


def first(chunks: Iterator[NDArray[np.uint8]], count: int) -> Iterator[NDArray[np.uint8]]:
    """The first `count` pictures of chunks `[n, C, H, W]`."""
    left = count
    while left > 0:
        for chunk in islice(chunks, 1):
            yield chunk[:left]
            left -= len(chunk)
