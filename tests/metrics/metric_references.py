"""The metrics once more, written as plainly as their papers have them, in float64 and with other tools than the
package: loops, full matrices, scipy's general matrix root."""

from __future__ import annotations

import math

import numpy as np
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist


def features(count: int, dimension: int, seed: int, shift: float = 0.0, scale: float = 1.0) -> np.ndarray:
    """Correlated, not negative, as the features of a network are."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(dimension, dimension)) / math.sqrt(dimension)
    return np.maximum(rng.normal(shift, scale, (count, dimension)) @ mixing, 0)


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Heusel et al. 2017, Eq. 6."""
    mean_a, mean_b = a.mean(0), b.mean(0)
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = sqrtm(cov_a @ cov_b)
    return float(((mean_a - mean_b) ** 2).sum() + np.trace(cov_a + cov_b - 2 * np.real(root)))


def kernel(a: np.ndarray, b: np.ndarray) -> float:
    """Bińkowski et al. 2018, Eq. 4, as three loops over pairs."""

    def k(x: np.ndarray, y: np.ndarray) -> float:
        return (float(x @ y) / len(x) + 1) ** 3

    n, m = len(a), len(b)
    within = sum(k(a[i], a[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    other = sum(k(b[i], b[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return within + other - 2 * sum(k(x, y) for x in a for y in b) / (n * m)


def radii(a: np.ndarray, k: int) -> np.ndarray:
    """Distance to the k-th nearest other."""
    return np.sort(cdist(a, a), axis=1)[:, k]


def precision_recall(a: np.ndarray, b: np.ndarray, k: int) -> tuple[float, float]:
    """Kynkäänniemi et al. 2019, Eq. 1 and 2."""
    between = cdist(a, b)
    precise = [any(between[i, j] <= r for j, r in enumerate(radii(b, k))) for i in range(len(a))]
    recalled = [any(between[i, j] <= r for i, r in enumerate(radii(a, k))) for j in range(len(b))]
    return float(np.mean(precise)), float(np.mean(recalled))


def density_coverage(a: np.ndarray, b: np.ndarray, k: int) -> tuple[float, float]:
    """Naeem et al. 2020, Eq. 3 and 4."""
    within = cdist(a, b) <= radii(b, k)[None, :]
    return float(within.sum() / (k * len(a))), float(np.mean([within[:, j].any() for j in range(len(b))]))


def auth_pct(a: np.ndarray, training: np.ndarray) -> float:
    """Alaa et al. 2022, Eq. 9, in percent."""
    between, own = cdist(a, training), cdist(training, training)
    np.fill_diagonal(own, np.inf)
    authentic = [between[i].min() > own[between[i].argmin()].min() for i in range(len(a))]
    return 100 * float(np.mean(authentic))


def classifier_score(logits: np.ndarray) -> float:
    """Salimans et al. 2016, section 4."""
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    marginal = p.mean(0)
    return float(np.exp(np.mean([(row * np.log(row / marginal)).sum() for row in p])))


def ssim(a: np.ndarray, b: np.ndarray, window: np.ndarray, peak: float, bessel: float = 1.0) -> float:
    """Wang et al. 2004, Eq. 13, window by window; `[H, W]`."""
    size = len(window)
    values = []
    for top in range(a.shape[0] - size + 1):
        for left in range(a.shape[1] - size + 1):
            x, y = a[top : top + size, left : left + size], b[top : top + size, left : left + size]
            mx, my = (window * x).sum(), (window * y).sum()
            vx, vy = bessel * (window * (x - mx) ** 2).sum(), bessel * (window * (y - my) ** 2).sum()
            both = bessel * (window * (x - mx) * (y - my)).sum()
            c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
            values.append((2 * mx * my + c1) * (2 * both + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
    return float(np.mean(values))
