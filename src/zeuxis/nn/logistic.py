"""Mixtures of discretised logistic distributions over the values of a pixel (Salimans et al. 2017, PixelCNN++, arXiv
1701.05517, section 2.1). Values are levels on the [-1, 1] scale: level k of L is 2k / (L - 1) - 1."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

LOG_SCALE_LEAST = -7.0  # a quarter of an 8-bit level: sharper changes nothing


def discretised_logistic(values: Tensor, means: Tensor, log_scales: Tensor, levels: int) -> Tensor:
    """log P(value) of one logistic each, in nats; all arguments broadcast. The outermost levels take the tails.

    With p and m the scaled distances to the upper and lower edge of a level, sigma(p) - sigma(m) is written as the
    product sigma(p) sigma(-m) (1 - exp(m - p)): no difference of nearly equal numbers, no case for the far tail.
    """
    half, inverse = 1 / (levels - 1), torch.exp(-log_scales)
    centred = values - means
    upper, lower = (centred + half) * inverse, (centred - half) * inverse
    width = torch.log(-torch.expm1(-2 * half * inverse))
    bottom, top = values < -1 + half, values > 1 - half
    inner = F.logsigmoid(upper) + F.logsigmoid(-lower) + width
    return torch.where(bottom, F.logsigmoid(upper), torch.where(top, F.logsigmoid(-lower), inner))


def mixture_log_prob(values: Tensor, logits: Tensor, means: Tensor, log_scales: Tensor, levels: int) -> Tensor:
    """log P of pixels `values` `[..., C]` under `logits` `[..., M]`, `means` and `log_scales` `[..., C, M]` -> nats
    `[...]`: one component is drawn for all channels of a pixel."""
    each = discretised_logistic(values[..., None], means, log_scales, levels)  # [..., C, M]
    return torch.logsumexp(each.sum(-2) + F.log_softmax(logits, dim=-1), dim=-1)


def quantised(values: Tensor, levels: int) -> Tensor:
    """Values on the [-1, 1] scale moved to the nearest level."""
    return ((values + 1) * ((levels - 1) / 2)).round().clamp(0, levels - 1) * (2 / (levels - 1)) - 1
