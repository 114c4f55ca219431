"""Metrics of nearest neighbours: improved precision and recall (Kynkäänniemi et al. 2019, arXiv 1904.06991), density
and coverage (Naeem et al. 2020, arXiv 2002.09797)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zeuxis.metrics.base import Estimate, Pair, Side
from zeuxis.metrics.distances import Features, nearest, squared_distances

__all__ = ["density_coverage", "kth_distance", "nearest", "precision_recall", "squared_distances"]

PRECISION_KS, DENSITY_K = (3, 5), 5


def kth_distance(features: Features, k: int) -> Features:
    """Squared distance of each row to its k-th nearest other row, `[N]`; copies count as others."""
    return Side(features).own_neighbours[0][:, k - 1]


def precision_recall(generated: Features, reference: Features, k: int = 3) -> tuple[float, float]:
    """Share of generated within a reference's k-neighbour ball, and the converse (Eq. 1 and 2 of the paper), 0 to 1."""
    found = precision_recall_estimates(Pair(Side(generated), Side(reference)), (k,))
    return found[f"precision_k{k}"].value, found[f"recall_k{k}"].value


def density_coverage(generated: Features, reference: Features, k: int = 5) -> tuple[float, float]:
    """Mean number of reference balls around a generated picture over k, and the share of reference balls that hold a
    generated picture (Eq. 3 and 4 of the paper); density may exceed 1."""
    found = density_coverage_estimates(Pair(Side(generated), Side(reference)), k)
    return found[f"density_k{k}"].value, found[f"coverage_k{k}"].value


def precision_recall_estimates(pair: Pair, ks: tuple[int, ...] = PRECISION_KS) -> dict[str, Estimate]:
    """`precision_k3`, `recall_k3`, ... with the errors that come from the choice of the generated pictures."""
    generated, reference = pair.generated, pair.reference
    radii = {k: reference.own_neighbours[0][:, k - 1] for k in ks}
    recalls = {k: _Recall(generated, len(reference), k) for k in ks}
    precise = {k: np.zeros(len(generated), bool) for k in ks}
    for rows, block in squared_distances(generated.features, reference.features):
        for k in ks:
            precise[k][rows] = (block <= radii[k]).any(axis=1)
            recalls[k].add(rows, block)
    found = {}
    for k in ks:
        found[f"precision_k{k}"] = share(precise[k])
        found[f"recall_k{k}"] = recalls[k].estimate()
    return found


def density_coverage_estimates(pair: Pair, k: int = DENSITY_K) -> dict[str, Estimate]:
    """`density_k5`, `coverage_k5`, with errors as above: exact for the first, by the jackknife for the second."""
    generated, reference = pair.generated, pair.reference
    radii, count = reference.own_neighbours[0][:, k - 1], len(generated)
    inside = np.zeros(count)
    covering, owner = np.zeros(len(reference), np.int64), np.zeros(len(reference), np.int64)
    for rows, block in squared_distances(generated.features, reference.features):
        within = block <= radii
        inside[rows] = within.sum(axis=1)
        own = within.sum(axis=0)
        owner = np.where(own > 0, within.argmax(axis=0) + rows.start, owner)
        covering += own
    lost = np.bincount(owner[covering == 1], minlength=count) / len(reference)
    return {
        f"density_k{k}": Estimate(float(inside.mean() / k), float(inside.std(ddof=1) / k / np.sqrt(count))),
        f"coverage_k{k}": Estimate(float((covering > 0).mean()), jackknife_error(lost) * shrinkage(covering)),
    }


def share(hits: NDArray[np.bool_]) -> Estimate:
    """A share of pictures and its binomial error, counted with two hits and two misses more (Agresti & Coull 1998):
    no share is certain because it was 0 or 1 in a sample."""
    count = len(hits)
    padded = (float(hits.sum()) + 2) / (count + 4)
    return Estimate(float(hits.mean()), float(np.sqrt(padded * (1 - padded) / (count + 4))))


def jackknife_error(changes: Features) -> float:
    """Standard error of a statistic that falls by `changes` `[N]` (up to a constant) when one picture is left out."""
    count = len(changes)
    return float(np.sqrt((count - 1) / count * np.square(changes - changes.mean()).sum()))


def shrinkage(covering: NDArray[np.int64]) -> float:
    """By what the jackknife's error of a share of covered places is too large, from how often each is covered `[M]`.

    The jackknife sees a place covered once as about to fall: its variance goes by l exp(-l), for a mean cover of l,
    where that of the cover itself goes by exp(-l) (1 - exp(-l)). l is read from the places covered once and not at all.
    """
    mean = max(float((covering == 1).sum()), 0.5) / max(float((covering == 0).sum()), 0.5)
    return float(np.sqrt(-np.expm1(-mean) / mean))


class _Recall:
    """Which reference pictures lie in a generated picture's ball, and in whose alone: block by block.

    Leaving out picture j uncovers what only j's ball holds, and widens the balls of those that had j among their k
    nearest to their (k + 1)-th: both are followed, so the jackknife is exact.
    """

    def __init__(self, generated: Side, references: int, k: int) -> None:
        distances, places = generated.own_neighbours
        self.count, self.references = len(generated), references
        self.radii, self.wider, self.near = distances[:, k - 1], distances[:, k], places[:, :k]
        self.covering, self.owner = np.zeros(references, np.int64), np.zeros(references, np.int64)
        self.gains: list[NDArray[np.int64]] = []  # (reference picture, generated picture whose absence covers it)

    def add(self, rows: slice, block: Features) -> None:
        within = block <= self.radii[rows, None]
        own = within.sum(axis=0)
        self.owner = np.where(own > 0, within.argmax(axis=0) + rows.start, self.owner)
        self.covering += own
        open_ = np.flatnonzero(self.covering <= 1)  # only these can come to depend on one picture
        ball, place = np.nonzero((block[:, open_] <= self.wider[rows, None]) & ~within[:, open_])
        neighbours = self.near[rows][ball]
        reference = np.repeat(open_[place], neighbours.shape[1])
        self.gains.append(reference * self.count + neighbours.reshape(-1))

    def estimate(self) -> Estimate:
        gains = np.unique(np.concatenate(self.gains))
        reference, absent = gains // self.count, gains % self.count
        single = np.flatnonzero(self.covering == 1)
        kept = np.isin(single * self.count + self.owner[single], gains)
        lost = np.bincount(self.owner[single[~kept]], minlength=self.count).astype(np.float64)
        lost -= np.bincount(absent[self.covering[reference] == 0], minlength=self.count)
        return Estimate(
            float((self.covering > 0).mean()), jackknife_error(lost / self.references) * shrinkage(self.covering)
        )
