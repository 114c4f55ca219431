"""Diversity by pairwise distance (Zhu et al. 2017, arXiv 1711.11586, section 5.2, in any features)."""

from __future__ import annotations

import numpy as np

from zeuxis.metrics.base import Estimate, Pair


def metric(pair: Pair) -> dict[str, Estimate]:
    """`diversity`: mean distance of two generated pictures over that of two reference pictures; 1: as diverse.

    The error is that of a mean over pairs (a U-statistic), the reference given.
    """
    value, means = pair.generated.pairwise
    scale = max(pair.reference.pairwise[0], np.finfo(np.float64).tiny)
    return {"diversity": Estimate(value / scale, float(2 * means.std(ddof=1) / np.sqrt(len(means)) / scale))}
