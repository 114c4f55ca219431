"""Metrics of nearest neighbours: improved precision and recall (Kynkäänniemi et al. 2019, arXiv 1904.06991), density
and coverage (Naeem et al. 2020, arXiv 2002.09797)."""

from __future__ import annotations

import numpy as np
import torch
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
    balls = _balls(pair, ks)
    return {
        name: estimate
        for k in ks
        for name, estimate in (
            (f"precision_k{k}", share(balls[k].inside > 0)),
            (f"recall_k{k}", balls[k].recall()),
        )
    }


def density_coverage_estimates(pair: Pair, k: int = DENSITY_K) -> dict[str, Estimate]:
    """`density_k5`, `coverage_k5`, with errors as above: exact for the first, by the jackknife for the second."""
    balls = _balls(pair, (k,))[k]
    inside, covering, count = balls.inside, balls.held.covering, len(pair.generated)
    lost = np.bincount(balls.held.owner[covering == 1], minlength=count) / len(pair.reference)
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


class _Cover:
    """How many generated pictures each reference picture counts, `[M]`, and one of them."""

    def __init__(self, references: int) -> None:
        self.covering, self.owner = np.zeros(references, np.int64), np.zeros(references, np.int64)

    def add(self, generated: NDArray[np.int64], reference: NDArray[np.int64]) -> None:
        self.covering += np.bincount(reference, minlength=len(self.covering))
        self.owner[reference] = generated


class _Balls:
    """Who lies in whose ball of k neighbours, from pairs of generated and reference pictures that are near enough.

    For the error of recall: leaving out picture j uncovers what only j's ball holds, and widens the balls of those that
    had j among their k nearest to their (k + 1)-th. Both are followed, so the jackknife is exact.
    """

    def __init__(self, pair: Pair, k: int) -> None:
        distances, places = pair.generated.own_neighbours
        self.reference_radii = pair.reference.own_neighbours[0][:, k - 1]
        self.radii, self.wider, self.near = distances[:, k - 1], distances[:, k], places[:, :k]
        self.count, references = len(pair.generated), len(pair.reference)
        self.inside = np.zeros(self.count, np.int64)  # of how many reference balls each generated picture is
        self.held, self.found = _Cover(references), _Cover(references)  # by reference balls, in generated balls
        self.gains: list[NDArray[np.int64]] = []  # (reference picture, generated picture whose absence covers it)

    def add(self, generated: NDArray[np.int64], reference: NDArray[np.int64], distance: Features) -> None:
        near = distance <= self.reference_radii[reference]
        self.inside += np.bincount(generated[near], minlength=self.count)
        self.held.add(generated[near], reference[near])
        within = distance <= self.radii[generated]
        self.found.add(generated[within], reference[within])
        # Only what no picture covers, or one, can come to depend on one picture.
        at = (distance <= self.wider[generated]) & ~within & (self.found.covering[reference] <= 1)
        neighbours = self.near[generated[at]]
        self.gains.append(np.repeat(reference[at], neighbours.shape[1]) * self.count + neighbours.reshape(-1))

    def recall(self) -> Estimate:
        """Share of reference pictures in any generated ball."""
        covering, references = self.found.covering, len(self.found.covering)
        gains = np.unique(np.concatenate(self.gains))
        reference, absent = gains // self.count, gains % self.count
        single = np.flatnonzero(covering == 1)
        kept = np.isin(single * self.count + self.found.owner[single], gains)
        lost = np.bincount(self.found.owner[single[~kept]], minlength=self.count).astype(np.float64)
        lost -= np.bincount(absent[covering[reference] == 0], minlength=self.count)
        return Estimate(float((covering > 0).mean()), jackknife_error(lost / references) * shrinkage(covering))


def _balls(pair: Pair, ks: tuple[int, ...]) -> dict[int, _Balls]:
    """The balls of every k, from one pass over all pairs, which is kept with the pair."""
    missing = [k for k in {*ks, *PRECISION_KS, DENSITY_K} if k not in pair.balls]
    if any(k in missing for k in ks):
        found = {k: _Balls(pair, k) for k in missing}
        own = torch.from_numpy(np.maximum.reduce([balls.reference_radii for balls in found.values()]))
        wide = torch.from_numpy(np.maximum.reduce([balls.wider for balls in found.values()]))
        for rows, block in squared_distances(pair.generated.features, pair.reference.features):
            near = torch.from_numpy(block)
            near_enough = torch.nonzero((near <= own) | (near <= wide[rows, None]))
            generated, reference = near_enough.T.numpy()
            distance = block[generated, reference]
            for balls in found.values():
                balls.add(generated + rows.start, reference, distance)
        pair.balls.update(found)
    return {k: pair.balls[k] for k in ks}
