"""Euclidean distances between sets of features, in blocks: what metrics of neighbours, copies and diversity share."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

Features = NDArray[np.float64]
ROWS = 128  # rows of a block, which with 10,000 columns about stays in the processor's cache
SEARCH_ROWS, SEARCH_COLUMNS = 512, 2048  # the same for the search in float32


def moments(features: Features) -> tuple[Features, Features]:
    """Mean `[D]` and unbiased covariance `[D, D]` of features `[N, D]`, N at least 2."""
    return features.mean(axis=0), np.atleast_2d(np.cov(features, rowvar=False))


def squared_distances(a: Features, b: Features) -> Iterator[tuple[slice, Features]]:
    """Blocks of squared Euclidean distances between rows of `a` `[N, D]` and all of `b` `[M, D]`, float64, never
    negative."""
    for rows, block in _blocks(a, b):
        yield rows, block.numpy()


def _blocks(a: Features, b: Features) -> Iterator[tuple[slice, torch.Tensor]]:
    # About a common centre the squares are small, and so is what their difference loses.
    centre = b.mean(axis=0)
    left, right = (torch.from_numpy(np.ascontiguousarray(side - centre, np.float64)) for side in (a, b))
    squares = right.square().sum(1)
    for start in range(0, len(left), ROWS):
        rows = left[start : start + ROWS]
        block = torch.addmm(squares, rows, right.T, alpha=-2).add_(rows.square().sum(1, keepdim=True)).clamp_(min=0)
        yield slice(start, start + len(rows)), block


def own_neighbours(features: Features, count: int) -> tuple[Features, NDArray[np.int64]]:
    """Squared distances and places of the `count` nearest others of each row, nearest first; `[N, count]` each.

    Copies of a row count as others. Fewer than `count` others: the columns that lack one are infinite.
    """
    most = min(count, len(features) - 1)
    values = np.full((len(features), count), np.inf)
    places = np.zeros((len(features), count), np.int64)
    for rows, block in _blocks(features, features):
        block[torch.arange(block.shape[0]), torch.arange(rows.start, rows.stop)] = torch.inf
        near = torch.topk(block, most, largest=False, sorted=True)
        values[rows, :most], places[rows, :most] = near.values.numpy(), near.indices.numpy()
    return values, places


def nearest(a: Features, b: Features) -> tuple[Features, NDArray[np.int64]]:
    """Squared distance of each row of `a` `[N, D]` to its nearest row of `b`, and which that is, both `[N]`.

    Searched in float32, which may pick another of two that are equally near to six digits; the distance to the one
    picked is then computed in float64 from the difference, exact also for copies.
    """
    return _search(a, b, None)


def nearest_other(features: Features, places: NDArray[np.int64]) -> Features:
    """Squared distance of the rows at `places` to their nearest other row, `[n]`."""
    return _search(features[places], features, places)[0]


def _search(a: Features, b: Features, own: NDArray[np.int64] | None) -> tuple[Features, NDArray[np.int64]]:
    centre = b.mean(axis=0, dtype=np.float64)
    left, right = (torch.from_numpy((side - centre).astype(np.float32)) for side in (a, b))
    half_squares = right.square().sum(1).div_(2)
    best, index = torch.full((len(left),), torch.inf), torch.zeros(len(left), dtype=torch.long)
    memory = torch.empty(SEARCH_ROWS * SEARCH_COLUMNS)
    for column in range(0, len(right), SEARCH_COLUMNS):
        part, offsets = right[column : column + SEARCH_COLUMNS], half_squares[column : column + SEARCH_COLUMNS]
        for start in range(0, len(left), SEARCH_ROWS):
            rows = left[start : start + SEARCH_ROWS]
            # |x - y|^2 / 2 without the part that is the same for every y.
            block = memory[: len(rows) * len(part)].view(len(rows), len(part))
            torch.addmm(offsets, rows, part.T, alpha=-1, out=block)
            if own is not None:
                at = torch.from_numpy(own[start : start + SEARCH_ROWS] - column)
                inside = torch.nonzero((at >= 0) & (at < len(part)))[:, 0]
                block[inside, at[inside]] = torch.inf
            # Where the smallest lies is slow to find, and few blocks hold a nearer one.
            value = block.amin(dim=1)
            better = torch.nonzero(value < best[start : start + SEARCH_ROWS])[:, 0]
            index[start + better] = block[better].argmin(dim=1) + column
            best[start + better] = value[better]
    which = index.numpy()
    exact = np.empty(len(a))
    for start in range(0, len(a), SEARCH_ROWS):
        chunk = slice(start, start + SEARCH_ROWS)
        difference = a[chunk].astype(np.float64) - b[which[chunk]].astype(np.float64)
        exact[chunk] = np.square(difference).sum(axis=1)
    return exact, which


def pairwise_mean(features: Features) -> tuple[float, Features]:
    """Mean Euclidean distance of all pairs of different rows, and each row's own mean distance `[N]`."""
    count = len(features)
    means = np.empty(count)
    for rows, block in _blocks(features, features):
        block[torch.arange(block.shape[0]), torch.arange(rows.start, rows.stop)] = 0  # itself, without rounding
        means[rows] = block.sqrt_().sum(1).numpy() / (count - 1)
    return float(means.mean()), means
