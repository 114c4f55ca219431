"""How many pictures are copies, of training pictures or of each other, beyond what real new pictures do by chance."""

from __future__ import annotations

import numpy as np

from zeuxis.metrics.base import Estimate, Pair, Side
from zeuxis.metrics.distances import Features, nearest
from zeuxis.metrics.neighbours import share

QUANTILE = 0.01
AROUND = (0.0, 0.03)  # quantiles between which the density of distances near the threshold is read


def excess_below(generated: Features, real: Features) -> Estimate:
    """Share of `generated` distances `[N]` as small as only 1% of the `real` ones `[M]` are, minus the share of the
    real ones themselves.

    0 is what real new pictures have, 1 means all; slightly negative values are chance. Both sides' choice of pictures
    makes the error: that of the threshold moves the first share as steeply as generated distances lie around it.
    """
    threshold, low, high = np.quantile(real, (QUANTILE, *AROUND))
    found, by_chance = share(generated <= threshold), share(real <= threshold)
    assert found.error is not None and by_chance.error is not None
    inside = float(((generated > low) & (generated <= high)).mean())
    return Estimate(found.value - by_chance.value, found.error, by_chance.error * inside / (AROUND[1] - AROUND[0]))


def copy_rate(generated: Features, held_out: Features, training: Features) -> float:
    """Share of generated pictures as near to a training picture as only 1% of held-out ones are, minus that 1%.

    Zeuxis's own definition. Near-duplicates within the data raise the threshold and so hide copies: look at
    `zeuxis data check`.
    """
    return excess_below(nearest(generated, training)[0], nearest(held_out, training)[0]).value


def metric(pair: Pair) -> dict[str, Estimate]:
    """`copy_rate`."""
    return {"copy_rate": excess_below(pair.to_training[0], pair.reference_to_training[0])}


def duplicate_metric(pair: Pair) -> dict[str, Estimate]:
    """`duplicate_rate`: the same share for the distance of each picture to its nearest other in the same set.

    Pictures that lie together count together: the errors are those of as many times fewer pictures as a picture that
    counts has in its group (the design effect of samples by cluster, Kish 1965, section 5.4).
    """
    sides = pair.generated, pair.reference
    own, real = (side.own_neighbours[0][:, 0] for side in sides)
    found = excess_below(own, real)
    assert found.error is not None and found.reference_error is not None
    threshold = np.quantile(real, QUANTILE)
    mine, others = (company(side, float(threshold)) ** 0.5 for side in sides)
    return {"duplicate_rate": Estimate(found.value, found.error * mine, found.reference_error * others)}


def company(side: Side, threshold: float) -> float:
    """How many pictures there are in the group of a picture whose nearest other is within `threshold` (squared
    distance), on average, itself included; at least 2, which is a pair. Groups are joined by nearest others."""
    from scipy.sparse import coo_array  # takes a second to load, and training loads this module
    from scipy.sparse.csgraph import connected_components

    distances, places = side.own_neighbours
    hits = np.flatnonzero(distances[:, 0] <= threshold)
    joined = coo_array((np.ones(len(hits)), (hits, places[hits, 0])), shape=(len(side), len(side)))
    sizes = np.bincount(connected_components(joined, directed=False)[1][hits])
    return max(2.0, float(np.square(sizes).sum() / max(1, sizes.sum())))
