"""Classification accuracy score (Ravuri & Vinyals 2019, arXiv 1905.10887): train on generated, test on real."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from zeuxis.config import ImageSpec
from zeuxis.data import Split
from zeuxis.metrics.base import Estimate
from zeuxis.metrics.networks import FeatureNet, visible
from zeuxis.metrics.recipe import train_network

PASSES, IMAGES = 10, (5_000, 40_000)  # shown in all: ten times the pictures, within these bounds
CHUNK = 256


def accuracy_score(
    pictures: NDArray[np.uint8], labels: NDArray[np.int64], test: Split, spec: ImageSpec, classes: int
) -> Estimate:
    """Share of labelled test pictures that a classifier (the `dataset` extractor's network and recipe, shorter) gets
    right after it saw only `pictures` uint8 `[N, C, H, W]` with `labels` `[N]`. No error: it would take other
    trainings; several draws give one."""
    images = min(max(IMAGES[0], PASSES * len(pictures)), IMAGES[1])
    net = train_network(lambda chosen: pictures[chosen], labels, len(pictures), spec, classes, images)
    return Estimate(float(correct(net, test).mean()))


@torch.inference_mode()
def correct(net: FeatureNet, test: Split) -> NDArray[np.bool_]:
    """Whether the network's first guess is right, for each labelled picture of `test`."""
    positions = np.flatnonzero(test.labels >= 0)
    parts = [
        net(visible(torch.from_numpy(test.take(positions[start : start + CHUNK])))).argmax(1).numpy()
        for start in range(0, len(positions), CHUNK)
    ]
    found: NDArray[np.bool_] = np.concatenate(parts) == test.labels[positions]
    return found
