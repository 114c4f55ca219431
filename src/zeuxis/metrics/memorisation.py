"""Whether a generator copies: authenticity (Alaa et al. 2022, arXiv 2102.08921) and the data-copying statistic C_T
(Meehan et al. 2020, arXiv 2004.05675)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zeuxis.metrics.base import Estimate, Pair, Training
from zeuxis.metrics.distances import Features, squared_distances
from zeuxis.metrics.neighbours import share

MOST_CELLS, PICTURES_PER_CELL, LEAST_PER_CELL = 20, 50, 5
KMEANS_PICTURES = 10_000


def authentic(distance: Features, which: NDArray[np.int64], training: Training) -> NDArray[np.bool_]:
    """Whether each picture is farther from its nearest training picture (`which`, at squared `distance`) than that one
    is from its own nearest other training picture (Eq. 9 of the paper), `[N]`."""
    found: NDArray[np.bool_] = distance > training.other_distances(which)
    return found


def auth_metric(pair: Pair) -> dict[str, Estimate]:
    """`auth_pct`: percent of authentic pictures. Compare with the floor: real pictures do not reach 100 either."""
    assert pair.training is not None
    found = share(authentic(*pair.to_training, pair.training))
    return {"auth_pct": Estimate(100 * found.value, None if found.error is None else 100 * found.error)}


def mann_whitney(generated: Features, held_out: Features) -> tuple[float, float]:
    """z-score of the Mann-Whitney U of two samples `[n]`, `[m]` (negative: `generated` is the smaller), and its
    standard error from the choice of `generated`, the other given. Ties count half."""
    from scipy.stats import rankdata  # takes a second to load, and training loads this module

    n, m = len(generated), len(held_out)
    ranks = rankdata(np.concatenate([generated, held_out]))[:n]
    u = ranks.sum() - n * (n + 1) / 2
    spread = np.sqrt(n * m * (n + m + 1) / 12)
    smaller = np.searchsorted(np.sort(held_out), generated) + np.searchsorted(np.sort(held_out), generated, "right")
    return float((u - n * m / 2) / spread), float((smaller / 2).std(ddof=1) * np.sqrt(n) / spread)


def data_copying(
    generated: Features, held_out: Features, generated_cells: NDArray[np.int64], held_out_cells: NDArray[np.int64]
) -> Estimate:
    """C_T (section 4.1 of the paper) from distances to the nearest training picture `[N]`, `[M]` and cells: the
    z-scores of all cells, weighted by held-out pictures. Well below 0: nearer to the training pictures
    than new ones are.

    Cells with fewer than five pictures of either kind are left out, as the paper's threshold does.
    """
    total, weighted, variance = 0, 0.0, 0.0
    for cell in np.unique(held_out_cells):
        own, other = generated[generated_cells == cell], held_out[held_out_cells == cell]
        if min(len(own), len(other)) < LEAST_PER_CELL:
            continue
        z, error = mann_whitney(own, other)
        total += len(other)
        weighted += len(other) * z
        variance += (len(other) * error) ** 2
    return Estimate(weighted / max(1, total), float(np.sqrt(variance)) / max(1, total))


def copying_metric(pair: Pair) -> dict[str, Estimate]:
    """`c_t`, with cells of k-means on the training pictures."""
    assert pair.training is not None
    training, least = pair.training, len(pair.reference)

    def centres() -> Features:
        from sklearn.cluster import MiniBatchKMeans

        features = training.features
        chosen = features[np.linspace(0, len(features) - 1, min(len(features), KMEANS_PICTURES)).astype(np.int64)]
        cells = int(np.clip(min(least, len(chosen)) // PICTURES_PER_CELL, 1, MOST_CELLS))
        found = MiniBatchKMeans(cells, random_state=0, n_init=1, batch_size=1024, max_iter=20).fit(chosen)
        return np.asarray(found.cluster_centers_, np.float64)

    means = training.once(f"centres for {least}", centres)
    sides = [_cells(side.features, means) for side in (pair.generated, pair.reference)]
    return {"c_t": data_copying(pair.to_training[0], pair.reference_to_training[0], *sides)}


def _cells(features: Features, means: Features) -> NDArray[np.int64]:
    parts = [block.argmin(axis=1) for _, block in squared_distances(features, means)]
    return np.concatenate(parts)
