"""Whether generated digits (or other small labelled pictures) can be read: do their nearest real neighbours agree?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zeuxis.metrics.distances import squared_distances

NEIGHBOURS = 10


@dataclass(frozen=True)
class Agreement:
    """`share` of pictures whose ten nearest real pictures are all of one class; `class_shares` `[classes]` of the class
    that most of the ten have, over all pictures."""

    share: float
    class_shares: NDArray[np.float64]


def neighbour_agreement(pictures: NDArray[np.uint8], real: NDArray[np.uint8], labels: NDArray[np.int64]) -> Agreement:
    """Agreement of the ten nearest (Euclidean, pixels) of `real` `[M, C, H, W]` with classes `labels` `[M]`."""
    rows, reference = (array.reshape(len(array), -1).astype(np.float64) for array in (pictures, real))
    classes = int(labels.max()) + 1
    votes = np.zeros((len(rows), classes), np.int64)
    for place, block in squared_distances(rows, reference):
        near = np.argpartition(block, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
        np.add.at(votes[place], (np.arange(len(near))[:, None], labels[near]), 1)
    shares = np.bincount(votes.argmax(axis=1), minlength=classes) / len(rows)
    return Agreement(float((votes.max(axis=1) == NEIGHBOURS).mean()), shares)
