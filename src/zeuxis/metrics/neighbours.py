"""Metrics of nearest neighbours: improved precision and recall (Kynkäänniemi et al. 2019, arXiv 1904.06991), density
and coverage (Naeem et al. 2020, arXiv 2002.09797)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.float64]
CHUNK = 1024


def squared_distances(a: Features, b: Features) -> Iterator[tuple[slice, Features]]:
    """Blocks of squared Euclidean distances between rows of `a` `[N, D]` and all of `b` `[M, D]`, never negative."""
    squares = np.square(b).sum(axis=1)
    for start in range(0, len(a), CHUNK):
        rows = a[start : start + CHUNK]
        block = np.square(rows).sum(axis=1)[:, None] + squares - 2 * rows @ b.T
        yield slice(start, start + len(rows)), np.maximum(block, 0)


def nearest(a: Features, b: Features) -> tuple[Features, NDArray[np.int64]]:
    """Squared distance of each row of `a` to its nearest row of `b`, and which that is, both `[N]`."""
    distance, index = np.empty(len(a)), np.empty(len(a), np.int64)
    for rows, block in squared_distances(a, b):
        index[rows] = block.argmin(axis=1)
        distance[rows] = block.min(axis=1)
    return distance, index


def kth_distance(features: Features, k: int) -> Features:
    """Squared distance of each row to its k-th nearest other row, `[N]`."""
    radii = np.empty(len(features))
    for rows, block in squared_distances(features, features):
        # Itself is at distance zero, so the k-th other is at place k; duplicates count as others.
        block[np.arange(block.shape[0]), np.arange(rows.start, rows.stop)] = -1.0
        radii[rows] = np.partition(block, k, axis=1)[:, k]
    return radii


def precision_recall(generated: Features, reference: Features, k: int = 3) -> tuple[float, float]:
    """Share of generated within a reference's k-neighbour ball, and the converse (Eq. 1 and 2 of the paper), 0 to 1."""
    radii, own_radii = kth_distance(reference, k), kth_distance(generated, k)
    precise, recalled = np.zeros(len(generated), bool), np.zeros(len(reference), bool)
    for rows, block in squared_distances(generated, reference):
        precise[rows] = (block <= radii).any(axis=1)
        recalled |= (block <= own_radii[rows, None]).any(axis=0)
    return float(precise.mean()), float(recalled.mean())


def density_coverage(generated: Features, reference: Features, k: int = 5) -> tuple[float, float]:
    """Mean number of reference balls around a generated picture over k, and the share of reference balls that hold a
    generated picture (Eq. 3 and 4 of the paper); density may exceed 1."""
    radii = kth_distance(reference, k)
    inside, covered = 0, np.zeros(len(reference), bool)
    for _, block in squared_distances(generated, reference):
        within = block <= radii
        inside += int(within.sum())
        covered |= within.any(axis=0)
    return inside / (k * len(generated)), float(covered.mean())


def precision_recall_metric(generated: Features, reference: Features) -> dict[str, float]:
    """`precision`, `recall`."""
    return dict(zip(("precision", "recall"), precision_recall(generated, reference), strict=True))


def density_coverage_metric(generated: Features, reference: Features) -> dict[str, float]:
    """`density`, `coverage`."""
    return dict(zip(("density", "coverage"), density_coverage(generated, reference), strict=True))
