"""How well pictures survive the way through a model and back: PSNR, SSIM, distance in features."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zeuxis.images import composite
from zeuxis.metrics.base import Estimate
from zeuxis.metrics.distances import Features

Pixels = NDArray[np.uint8]
LEAST_ERROR = 1 / 12  # squared levels: what rounding to whole levels alone makes; PSNR ends there, at 58.9 dB


def psnr(own: Pixels, original: Pixels) -> Features:
    """Peak signal-to-noise ratio in dB of each picture uint8 `[N, C, H, W]`, peak 255, `[N]`."""
    a, b = _views(own), _views(original)
    error = np.square(a - b).mean(axis=(1, 2, 3))
    return 10 * np.log10(255.0**2 / np.maximum(error, LEAST_ERROR))


def ssim(own: Pixels, original: Pixels) -> Features:
    """Structural similarity of each picture uint8 `[N, C, H, W]`, `[N]` (Wang et al. 2004, Eq. 13): Gaussian window
    11x11 of sigma 1.5, whole windows only, K1 = 0.01, K2 = 0.03, peak 255, mean over channels. Pictures smaller than
    the window get the largest odd one that fits."""
    a, b = _views(own), _views(original)
    window = min(11, (min(a.shape[2:]) - 1) // 2 * 2 + 1)
    at = np.arange(window) - window // 2
    weights = np.exp(-(at**2) / (2 * 1.5**2))
    return structural_similarity(a, b, weights / weights.sum(), peak=255.0, bessel=1.0)


def structural_similarity(a: Features, b: Features, weights: Features, *, peak: float, bessel: float) -> Features:
    """Mean SSIM of `[N, C, H, W]` under a separable window; `bessel` multiplies the variances."""
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    mean_a, mean_b = _smooth(a, weights), _smooth(b, weights)
    var_a, var_b = (bessel * (_smooth(x * x, weights) - mean * mean) for x, mean in ((a, mean_a), (b, mean_b)))
    both = bessel * (_smooth(a * b, weights) - mean_a * mean_b)
    above = (2 * mean_a * mean_b + c1) * (2 * both + c2)
    below = (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    similarity: Features = (above / below).mean(axis=(1, 2, 3))
    return similarity


def _smooth(values: Features, weights: Features) -> Features:
    """Weighted means over whole windows along the last two axes."""
    for axis in (2, 3):
        size = values.shape[axis] - len(weights) + 1
        parts = [weight * np.take(values, range(at, at + size), axis) for at, weight in enumerate(weights)]
        values = np.sum(parts, axis=0)
    return values


def _views(pixels: Pixels) -> Features:
    """As it is seen: RGBA on black and on white, side by side as channels."""
    if pixels.shape[1] != 4:
        return pixels.astype(np.float64)
    return np.concatenate([composite(pixels, grey) for grey in (0, 255)], axis=1).astype(np.float64)


def feature_distance(own: Features, original: Features, typical: float) -> Features:
    """Euclidean distance of features `[N, D]` of each picture and its original over `typical`, that of two different
    real pictures: 0 is equal, 1 is unrelated."""
    distance: Features = np.sqrt(np.square(own - original).sum(axis=1)) / typical
    return distance


def mean_of(values: Features) -> Estimate:
    """Mean over pictures with its error."""
    return Estimate(float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values))))
