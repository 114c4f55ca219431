"""Fréchet distance (Dowson & Landau 1982; Heusel et al. 2017, arXiv 1706.08500, Eq. 6), in any features, and its
extrapolation to infinitely many pictures (Chong & Forsyth 2020, arXiv 1911.07023)."""

from __future__ import annotations

import numpy as np

from zeuxis.metrics.base import Estimate, Pair
from zeuxis.metrics.distances import Features, moments

MOST_PARTS, PICTURES_PER_FEATURE = 5, 8
CLEARLY_APART = 4.0  # standard errors of equal distributions, beyond which a small value has a small error
SMALLEST_SHARE = 1e-10  # eigenvalues below this share of the largest are rounding


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


def standard_error(features: Features, own: tuple[Features, Features], other: tuple[Features, Features]) -> float:
    """Standard error of the distance that comes from the choice of `features` `[N, D]` with moments `own`.

    The influence of a picture x is the gradient of the distance in the moments, applied to x:
    (x - m)' (I - T) (x - m) + 2 (m - m_o)' (x - m), T = C^-1/2 (C^1/2 C_o C^1/2)^1/2 C^-1/2 the optimal map of one
    Gaussian to the other.
    """
    mean, covariance = own
    values, vectors = np.linalg.eigh(covariance)
    scale = np.sqrt(values.clip(max(float(values[-1]), 0.0) * SMALLEST_SHARE))
    seen = values > values[-1] * SMALLEST_SHARE
    root, inverse = (vectors * scale) @ vectors.T, (vectors[:, seen] / scale[seen]) @ vectors[:, seen].T
    inner_values, inner_vectors = np.linalg.eigh(root @ other[1] @ root)
    optimal = inverse @ ((inner_vectors * np.sqrt(inner_values.clip(0))) @ inner_vectors.T) @ inverse
    centred = features - mean
    influence = (centred @ (np.eye(len(mean)) - optimal) * centred).sum(axis=1) + 2 * centred @ (mean - other[0])
    return float(influence.std(ddof=1) / np.sqrt(len(features)))


def parts_for(count: int, dimension: int) -> int:
    """Into how many parts `count` pictures can be cut so that each has at least eight times as many as features."""
    return int(np.clip(count // (PICTURES_PER_FEATURE * dimension), 2, MOST_PARTS))


def extrapolated_distance(generated: Features, reference: Features) -> float:
    """The distance at infinitely many pictures on both sides, from features `[N, D]` whose rows are in random order.

    As the paper does, a line in 1/N is fitted and read at 0; but both sides shrink together (both have a finite-sample
    bias), and at N/k all k disjoint parts are averaged instead of one random subset: less noise from the same pictures.
    Distances at N, N/2, ..., N/k with k at most 5 and N/k at least 8 D (k = 2 always).
    """
    parts = parts_for(len(generated), generated.shape[1])
    inverse_sizes = np.arange(1, parts + 1)
    distances = [
        np.mean([frechet_distance(generated[at::cut], reference[at::cut]) for at in range(cut)])
        for cut in inverse_sizes
    ]
    return float(np.polyfit(inverse_sizes, distances, 1)[1])


def extrapolated_errors(generated: Features, reference: Features) -> tuple[float, float]:
    """Standard errors of the extrapolated distance from the choice of either side, at least those of equal
    distributions.

    Where the two are equal the influence of a picture is chance alone, and so is the error read from it: small just as
    often as large. Its square is averaged over disjoint parts, each of which sees another difference of means and
    covariances: at N/k pictures it is k^2 times what it is at N.
    """
    parts = parts_for(len(generated), generated.shape[1])
    squares = []
    for at in range(parts):
        sides = generated[at::parts], reference[at::parts]
        own, other = moments(sides[0]), moments(sides[1])
        squares.append((standard_error(sides[0], own, other) ** 2, standard_error(sides[1], other, own) ** 2))
    of_generated, of_reference = np.sqrt(np.mean(squares, axis=0)) / parts
    return float(of_generated), float(of_reference)


def metric(pair: Pair) -> dict[str, Estimate]:
    """`fd`."""
    value = between_gaussians(*pair.generated.moments, *pair.reference.moments)
    error = standard_error(pair.generated.features, pair.generated.moments, pair.reference.moments)
    return {"fd": Estimate(value, error)}


def extrapolated_metric(pair: Pair) -> dict[str, Estimate]:
    """`fd_inf`: estimates the distance of the two distributions, so both sides' choice of pictures counts."""
    generated, reference = pair.generated, pair.reference
    value = extrapolated_distance(generated.features, reference.features)
    error = standard_error(generated.features, generated.moments, reference.moments)
    reference_error = standard_error(reference.features, reference.moments, generated.moments)
    least, reference_least = extrapolated_errors(generated.features, reference.features)
    errors = max(error, least), max(reference_error, reference_least)
    chance = least**2 + reference_least**2
    apart = value > CLEARLY_APART * np.sqrt(chance) > 0
    stretch = float(np.sqrt(1 + chance / 2 / (errors[0] ** 2 + errors[1] ** 2))) if apart else 1.0
    return {"fd_inf": Estimate(value, *errors, stretch=stretch)}
