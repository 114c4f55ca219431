"""Kernel distance (Bińkowski et al. 2018, arXiv 1801.01401, Eq. 4, cubic polynomial kernel), in any features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from zeuxis.metrics.base import Estimate, Pair, Side
from zeuxis.metrics.distances import Features

ROWS = 128  # rows of a block, which with 10,000 columns about stays in the processor's cache
STANDS_OUT = 3.0  # standard errors of the distance of equal distributions


@dataclass(frozen=True)
class Sums:
    """Row sums `[N]`, column sums `[M]` and the sum of squares of a kernel matrix, and how many entries count."""

    rows: Features
    columns: Features
    squares: float
    pairs: int


def kernel_distance(generated: Features, reference: Features) -> float:
    """Unbiased squared maximum mean discrepancy of features `[N, D]` and `[M, D]` with k(x, y) = (x.y / D + 1)^3.

    Its expectation is 0 for equal distributions at any N, so a value may be slightly negative. All pairs at once
    (one subset of size N), in blocks that need little memory.
    """
    own, other = kernel_sums(generated, None), kernel_sums(reference, None)
    return _distance(own, other, kernel_sums(generated, reference))


def kernel_sums(a: Features, b: Features | None) -> Sums:
    """Sums of k over all pairs of rows of `a` and `b`; without `b` over all pairs of different rows of `a`, each
    computed once."""
    left = torch.from_numpy(np.ascontiguousarray(a))
    right = left if b is None else torch.from_numpy(np.ascontiguousarray(b))
    rows, columns = torch.zeros(len(left), dtype=torch.float64), torch.zeros(len(right), dtype=torch.float64)
    squares, one = 0.0, torch.ones((), dtype=torch.float64)
    for start in range(0, len(left), ROWS):
        stop = min(start + ROWS, len(left))
        first = start if b is None else 0  # below the diagonal is what was above it
        block = torch.addmm(one, left[start:stop], right[first:].T, alpha=1 / a.shape[1])
        block = block.square().mul_(block)
        if b is None:
            block[torch.arange(len(block)), torch.arange(len(block))] = 0
            beyond = block[:, len(block) :]
            rows[start:stop] += block.sum(1)
            rows[stop:] += beyond.sum(0)
            squares += float(beyond.flatten().dot(beyond.flatten())) if beyond.numel() else 0.0
        else:
            rows[start:stop] = block.sum(1)
            columns += block.sum(0)
        squares += float(block.flatten().dot(block.flatten()))
    pairs = len(left) * len(right) - (len(left) if b is None else 0)
    return Sums(rows.numpy(), (rows if b is None else columns).numpy(), squares, pairs)


def _distance(own: Sums, other: Sums, between: Sums) -> float:
    first, second, both = (float(sums.rows.sum()) / sums.pairs for sums in (own, other, between))
    return first + second - 2 * both


def _centred_variance(rows: Features, columns: Features, squares: float) -> float:
    """Variance of the kernel of a pair after what either alone explains, from row and column means and mean square."""
    grand = float(rows.mean())
    return max(0.0, squares - float(rows.var()) - float(columns.var()) - grand**2)


def distance_with_errors(own: Sums, other: Sums, between: Sums) -> Estimate:
    """The distance and its standard errors from both sides (Hoeffding's decomposition of a two-sample U-statistic).

    The first-order part of side X is var(g) / n with g(x) = 2 (mean k(x, X) - mean k(x, Y)). Estimated from the
    same pictures it also holds twice the second-order variance, 2 v_xx / n^2 + 2 v_xy / (n m) for each side; one of the
    two is taken off. Between equal distributions there is the second order alone, and the first is large just when the
    value is, by chance: it counts downwards only once the value stands out from that chance, and upwards always.
    """
    n, m = len(own.rows), len(other.rows)
    own_means, other_means = own.rows / (n - 1), other.rows / (m - 1)
    to_other, to_own = between.rows / m, between.columns / n
    v_xx = _centred_variance(own_means, own_means, own.squares / own.pairs)
    v_yy = _centred_variance(other_means, other_means, other.squares / other.pairs)
    v_xy = _centred_variance(to_other, to_own, between.squares / between.pairs)
    firsts, seconds = [], []
    for means, cross, size, other_size, within in (
        (own_means, to_other, n, m, v_xx), (other_means, to_own, m, n, v_yy),
    ):  # fmt: skip
        firsts.append(4 * float((means - cross).var(ddof=1)) / size)
        seconds.append(2 * within / size**2 + 2 * v_xy / (size * other_size))
    value, first, second = _distance(own, other, between), sum(firsts), sum(seconds)
    variances = seconds
    if value > STANDS_OUT * np.sqrt(second) and first > 2 * second:
        variances = [part * (1 - second / first) for part in firsts]
    stretch = float(np.sqrt(max(1.0, (first + second) / sum(variances)))) if sum(variances) else 1.0
    return Estimate(value, float(np.sqrt(variances[0])), float(np.sqrt(variances[1])), stretch=stretch)


def metric(pair: Pair) -> dict[str, Estimate]:
    """`kid`."""
    own, other = (_own_sums(side) for side in (pair.generated, pair.reference))
    return {"kid": distance_with_errors(own, other, kernel_sums(pair.generated.features, pair.reference.features))}


def _own_sums(side: Side) -> Sums:
    """The sums of a side with itself, which several references or draws ask for."""

    def compute() -> Features:
        sums = kernel_sums(side.features, None)
        return np.append(sums.rows, sums.squares)

    *rows, squares = side.once("kernel", compute)
    return Sums(np.array(rows), np.array(rows), float(squares), len(side) * (len(side) - 1))
