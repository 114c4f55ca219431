"""The Inception score's formula (Salimans et al. 2016, arXiv 1606.03498, section 4) with a classifier of the data's own
classes, so under another name: it does not compare with published Inception scores."""

from __future__ import annotations

import numpy as np

from zeuxis.metrics.base import Estimate, Pair
from zeuxis.metrics.distances import Features


def classifier_score(logits: Features) -> Estimate:
    """exp of the mean KL(p(y|x) || p(y)) over pictures with logits `[N, K]`, all in one split; 1 to K."""
    from scipy.special import log_softmax  # takes half a second to load

    log_p = log_softmax(logits, axis=1)
    p = np.exp(log_p)
    # Below float64's smallest number p log p is 0, not 0 times minus infinity.
    log_mean = np.log(np.maximum(p.mean(axis=0), np.finfo(np.float64).tiny))
    divergence = (p * (np.maximum(log_p, -745.0) - log_mean)).sum(axis=1)
    value = float(np.exp(divergence.mean()))
    return Estimate(value, value * float(divergence.std(ddof=1) / np.sqrt(len(logits))))


def metric(pair: Pair) -> dict[str, Estimate]:
    """`classifier_score`; the features are logits."""
    return {"classifier_score": classifier_score(pair.generated.features)}
