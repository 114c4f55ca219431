"""Kernel distance (Bińkowski et al. 2018, arXiv 1801.01401, Eq. 4 with the cubic polynomial kernel), in any
features."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.float64]
CHUNK = 2048


def kernel_distance(generated: Features, reference: Features) -> float:
    """Unbiased squared maximum mean discrepancy of features `[N, D]` and `[M, D]` with k(x, y) = (x.y / D + 1)^3.

    Its expectation is 0 for equal distributions at any N, so a value may be slightly negative. All pairs at once
    (one subset of size N), in blocks that need little memory.
    """
    count, other = len(generated), len(reference)
    within = kernel_sum(generated, generated) - _diagonal(generated)
    within_reference = kernel_sum(reference, reference) - _diagonal(reference)
    between = kernel_sum(generated, reference)
    return float(
        within / (count * (count - 1)) + within_reference / (other * (other - 1)) - 2 * between / (count * other)
    )


def kernel_sum(a: Features, b: Features) -> float:
    """Sum of k over all pairs."""
    dimension = a.shape[1]
    return float(
        sum(((a[start : start + CHUNK] @ b.T / dimension + 1) ** 3).sum() for start in range(0, len(a), CHUNK))
    )


def _diagonal(a: Features) -> float:
    return float(((np.square(a).sum(axis=1) / a.shape[1] + 1) ** 3).sum())


def metric(generated: Features, reference: Features) -> dict[str, float]:
    """`kid`."""
    return {"kid": kernel_distance(generated, reference)}
