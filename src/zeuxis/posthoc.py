"""Averages of any length, chosen after training (Karras et al. 2024, arXiv 2312.02696, section 3.1 and appendix C).

During training two averages with a power profile are followed: theta_gamma(t) weighs what the weights were at time tau
by (gamma + 1) tau^gamma / t^(gamma + 1). Kept at some moments, they span others: the average of another gamma is the
combination of them whose profile is nearest, by least squares. A length is said as sigma_rel, the standard deviation
of the profile as a share of the training.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

FOLLOWED = (0.05, 0.10)  # sigma_rel of the two averages that are followed, as in the paper

Profile = tuple[float, float]  # (gamma, t): the average of exponent gamma, as it was at time t


def sigma_rel(gamma: float) -> float:
    """Length of the profile of exponent `gamma` (Eq. 126)."""
    return float(np.sqrt(gamma + 1) / (gamma + 2) / np.sqrt(gamma + 3))


@cache
def gamma_of(sigma: float) -> float:
    """The exponent whose profile has length `sigma`, above 0 and up to 0.28: the root of Eq. 127."""
    if not 0 < sigma <= 0.28:
        raise ValueError(f"sigma_rel {sigma} is not above 0 and up to 0.28")
    inverse = sigma**-2.0
    return float(np.roots([1, 7, 16 - inverse, 12 - inverse]).real.max())


def decay(gamma: float, step: int) -> float:
    """The factor of the past at step `step`, counted from 1 (Eq. 2 and 129): the first step takes the weights over."""
    return float((1 - 1 / step) ** (gamma + 1))


def inner_product(one: Profile, other: Profile) -> float:
    """The integral of the product of two profiles (Eq. 132 to 137), without overflow for large exponents."""
    (gamma_a, t_a), (gamma_b, t_b) = sorted((one, other), key=lambda profile: profile[1])  # t_a <= t_b
    return float((gamma_a + 1) * (gamma_b + 1) * (t_a / t_b) ** gamma_b / ((gamma_a + gamma_b + 1) * t_b))


def coefficients(kept: Sequence[Profile], wanted: Profile) -> NDArray[np.float64]:
    """What each kept average counts in the combination nearest to the `wanted` one, `[len(kept)]`; they sum to about
    1."""
    products = np.array([[inner_product(one, other) for other in kept] for one in kept])
    with_wanted = np.array([inner_product(one, wanted) for one in kept])
    # Scaled to profiles of length 1: late profiles are shorter and higher than early ones by orders of magnitude.
    scale = 1 / np.sqrt(np.diag(products))
    solved = np.linalg.lstsq(products * scale[:, None] * scale, with_wanted * scale, rcond=1e-12)[0]
    return solved * scale


def mismatch(kept: Sequence[Profile], wanted: Profile) -> float:
    """Distance of the nearest combination's profile from the `wanted` one, as a share of the latter's length."""
    x = coefficients(kept, wanted)
    products = np.array([[inner_product(one, other) for other in kept] for one in kept])
    crossed = np.array([inner_product(one, wanted) for one in kept])
    own = inner_product(wanted, wanted)
    return float(np.sqrt(max(0.0, x @ products @ x - 2 * x @ crossed + own) / own))
