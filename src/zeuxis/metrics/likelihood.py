"""Likelihood of held-out pictures: nats per picture, and bits per dimension where the model has a density of pixels."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from zeuxis.images import to_float
from zeuxis.metrics.base import Estimate
from zeuxis.metrics.distances import Features

BIN = 2 / 255  # width of one 8-bit level on the [-1, 1] scale


def dequantise(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """uint8 `[N, C, H, W]` of 1 or 3 channels -> float `[-1, 1]` plus uniform noise of one level's width, centred.

    A density of such pictures bounds the probability of the levels from below: log P(x) >= E log p(x + u) + d log BIN
    (Theis, van den Oord, Bethge 2016, arXiv 1511.01844, section 3.1).
    """
    noise = torch.rand(pixels.shape, generator=generator).to(pixels.device) - 0.5
    return to_float(pixels) + noise * BIN


def negative_log_likelihood(log_likelihood: Features) -> Estimate:
    """Mean nats per picture from `[N]`; lower is better. The error is from the choice of the held-out pictures."""
    return Estimate(-float(log_likelihood.mean()), float(log_likelihood.std(ddof=1) / np.sqrt(len(log_likelihood))))


def bits_per_dimension(log_likelihood: Features, dimensions: int, *, discrete: bool) -> Estimate:
    """Mean bits per value from nats per picture `[N]`: of the levels themselves (`discrete`), or of a density on the
    [-1, 1] scale at dequantised pictures, which one level's width turns into a probability."""
    nats = log_likelihood if discrete else log_likelihood + dimensions * math.log(BIN)
    own = negative_log_likelihood(nats / (dimensions * math.log(2)))
    return Estimate(own.value, own.error)
