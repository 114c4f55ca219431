"""Fréchet distance (Dowson & Landau 1982; Heusel et al. 2017, arXiv 1706.08500, Eq. 6), in any features."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.float64]


def moments(features: Features) -> tuple[Features, Features]:
    """Mean `[D]` and unbiased covariance `[D, D]` of features `[N, D]`, N at least 2."""
    return features.mean(axis=0), np.atleast_2d(np.cov(features, rowvar=False))


def between_gaussians(mean_a: Features, covariance_a: Features, mean_b: Features, covariance_b: Features) -> float:
    """|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a^1/2 C_b C_a^1/2)^1/2).

    The trace of the root is the sum of the roots of the eigenvalues of a symmetric matrix: exact for singular
    covariances too, where a general matrix square root is not.
    """
    values, vectors = np.linalg.eigh(covariance_a)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ covariance_b @ root).clip(0)).sum()
    distance = np.square(mean_a - mean_b).sum() + np.trace(covariance_a) + np.trace(covariance_b) - 2 * cross
    return float(max(0.0, distance))


def frechet_distance(generated: Features, reference: Features) -> float:
    """Distance between the Gaussians fitted to two sets of features `[N, D]`; 0 for equal sets.

    Biased upwards by an amount that falls with N: compare only at equal N, and only where N is well above D.
    """
    return between_gaussians(*moments(generated), *moments(reference))


def metric(generated: Features, reference: Features) -> dict[str, float]:
    """`fd`."""
    return {"fd": frechet_distance(generated, reference)}
