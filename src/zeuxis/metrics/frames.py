"""Metrics of predicted frames as OpenSTL's tables have them (Tan et al. 2023, arXiv 2306.11249): float `[0, 1]`,
`[B, T, C, H, W]`. For image sequences."""

from __future__ import annotations

import numpy as np

from zeuxis.metrics.distances import Features
from zeuxis.metrics.reconstruction import structural_similarity

WINDOW = 7
PEAK = 2.0  # scikit-image before 0.21 took the range of any floating-point picture to be -1 to 1, and so do the tables


def mean_squared_error(predicted: Features, true: Features) -> float:
    """Squared error summed over channels and pixels of a frame, averaged over sequences and frames."""
    return float(np.square(predicted.astype(np.float64) - true).sum(axis=(2, 3, 4)).mean())


def mean_absolute_error(predicted: Features, true: Features) -> float:
    """Absolute error summed over channels and pixels of a frame, averaged over sequences and frames."""
    return float(np.abs(predicted.astype(np.float64) - true).sum(axis=(2, 3, 4)).mean())


def frame_ssim(predicted: Features, true: Features) -> float:
    """Structural similarity averaged over frames: uniform 7x7 window, unbiased variances, predictions clipped to
    [0, 1], and the peak of 2 that makes it comparable with the tables (and higher than with a peak of 1)."""
    own, original = (side.reshape(-1, *side.shape[2:]).astype(np.float64) for side in (predicted.clip(0, 1), true))
    pixels = WINDOW**2
    weights = np.full(WINDOW, 1 / WINDOW)
    return float(structural_similarity(own, original, weights, peak=PEAK, bessel=pixels / (pixels - 1)).mean())
