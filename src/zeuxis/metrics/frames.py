"""Metrics of predicted frames as OpenSTL's tables have them (Tan et al. 2023, arXiv 2306.11249): float `[0, 1]`,
`[B, T, C, H, W]`. For image sequences."""

from __future__ import annotations

import numpy as np

from zeuxis.metrics.distances import Features
from zeuxis.metrics.reconstruction import structural_similarity

WINDOW = 7
PEAK = 2.0  # scikit-image before 0.21 took the range of any floating-point picture to be -1 to 1, and so do the tables


def squared_errors(predicted: Features, true: Features) -> Features:
    """Of each frame, summed over channels and pixels, `[B, T]`."""
    return np.asarray(np.square(predicted.astype(np.float64) - true).sum(axis=(2, 3, 4)))


def absolute_errors(predicted: Features, true: Features) -> Features:
    """Of each frame, summed over channels and pixels, `[B, T]`."""
    return np.asarray(np.abs(predicted.astype(np.float64) - true).sum(axis=(2, 3, 4)))


def similarities(predicted: Features, true: Features) -> Features:
    """Structural similarity of each frame, `[B, T]`: uniform 7x7 window (the largest odd one that fits a smaller
    frame), unbiased variances, predictions clipped to [0, 1], and the peak of 2 that makes it comparable with the
    tables (and higher than with a peak of 1)."""
    own, original = (side.reshape(-1, *side.shape[2:]).astype(np.float64) for side in (predicted.clip(0, 1), true))
    window = min(WINDOW, (min(true.shape[3:]) - 1) // 2 * 2 + 1)
    pixels = window**2
    weights = np.full(window, 1 / window)
    found = structural_similarity(own, original, weights, peak=PEAK, bessel=pixels / (pixels - 1))
    return found.reshape(true.shape[:2])


def mean_squared_error(predicted: Features, true: Features) -> float:
    """Squared error summed over channels and pixels of a frame, averaged over sequences and frames."""
    return float(squared_errors(predicted, true).mean())


def mean_absolute_error(predicted: Features, true: Features) -> float:
    """Absolute error summed over channels and pixels of a frame, averaged over sequences and frames."""
    return float(absolute_errors(predicted, true).mean())


def frame_ssim(predicted: Features, true: Features) -> float:
    """Structural similarity averaged over frames and sequences."""
    return float(similarities(predicted, true).mean())


def best_of(futures: Features, true: Features) -> Features:
    """Mean squared error of the best of K futures `[K, B, T, C, H, W]`, chosen for each clip as a whole, `[B]`."""
    return np.asarray(np.stack([squared_errors(future, true).mean(axis=1) for future in futures]).min(axis=0))


def spread(futures: Features) -> Features:
    """How far the K futures `[K, B, T, C, H, W]` of a clip are from each other: squared difference of two of them,
    summed over a frame, averaged over pairs and frames, `[B]`. Nought where there is one future."""
    count = len(futures)
    around = np.square(futures - futures.mean(axis=0)).sum(axis=(0, 3, 4, 5)).mean(axis=1)  # [B]
    return np.asarray(2 * around / (count - 1))
