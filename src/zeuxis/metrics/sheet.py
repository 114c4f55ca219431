"""The sheet that shows what numbers of memorisation mean: pictures beside the nearest training and held-out ones."""

from __future__ import annotations

import numpy as np
from PIL import Image

from zeuxis.data import Dataset
from zeuxis.images import Pixels, grid, sheet_scale
from zeuxis.metrics.distances import nearest
from zeuxis.metrics.extractors import Extractor, Progress, split_features, split_positions

ROWS, GROUPS = 12, 2  # a row of the sheet holds two groups of three
MOST_TRAINING = 200_000


def neighbour_sheet(
    pictures: Pixels, dataset: Dataset, extractor: Extractor, progress: Progress | None = None
) -> Image.Image:
    """Groups of three: a picture of `pictures` uint8 `[N, C, H, W]`, its nearest training picture, its nearest held-out
    one, in the extractor's features. The left half has the pictures that are nearest to training pictures, measured by
    how near the held-out ones are; the right half has pictures spread evenly over all."""
    features = extractor([pictures])
    found = {}
    for split, own in (("train", dataset.train), ("test", dataset.test)):
        count = min(MOST_TRAINING, len(own))
        distance, which = nearest(features, split_features(extractor, dataset, split, count, progress))
        found[split] = distance, split_positions(len(own), count)[which]
    closeness = found["train"][0] / np.maximum(found["test"][0], 1e-12)
    shown = min(ROWS, len(pictures))
    order = [np.argsort(closeness, kind="stable")[:shown], np.linspace(0, len(pictures) - 1, shown).astype(np.int64)]
    columns = [
        cell
        for chosen in order
        for cell in (
            pictures[chosen],
            dataset.train.take(found["train"][1][chosen]),
            dataset.test.take(found["test"][1][chosen]),
        )
    ]
    sheet = np.stack(columns, axis=1).reshape(-1, *pictures.shape[1:])
    return grid(sheet.transpose(0, 2, 3, 1), columns=3 * GROUPS, scale=sheet_scale(*pictures.shape[2:]))
