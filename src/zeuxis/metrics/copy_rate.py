"""How many pictures are copies of training pictures, judged by what held-out pictures do by chance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zeuxis.metrics.neighbours import nearest

Features = NDArray[np.float64]
QUANTILE = 0.01


def copy_threshold(held_out: Features, training: Features) -> float:
    """The squared distance to the nearest training picture below which only 1% of the held-out pictures come."""
    return float(np.quantile(nearest(held_out, training)[0], QUANTILE))


def copy_rate(generated: Features, held_out: Features, training: Features) -> float:
    """Share of generated pictures as near to a training picture as only 1% of held-out ones are, minus that 1%.

    Zeuxis's own definition: 0 is what real new pictures have, 1 means that all are copies; slightly negative values
    are chance. Near-duplicates within the data raise the threshold and so hide copies: look at `zeuxis data check`.
    """
    threshold = copy_threshold(held_out, training)
    by_chance = float((nearest(held_out, training)[0] <= threshold).mean())
    return float((nearest(generated, training)[0] <= threshold).mean()) - by_chance


def metric(generated: Features, held_out: Features, training: Features) -> dict[str, float]:
    """`copy_rate`."""
    return {"copy_rate": copy_rate(generated, held_out, training)}
