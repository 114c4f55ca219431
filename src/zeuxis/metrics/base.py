"""What a metric is given and what it returns: sets of features with what is worth computing once, and estimates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeuxis.metrics import distances
from zeuxis.metrics.distances import Features
from zeuxis.metrics.store import stored

Z = 1.959964  # two-sided 95% of the normal distribution
SIDE_VERSION = 1  # part of the cache key of what is computed of features alone
KEPT_NEIGHBOURS = 6  # distances kept per picture: the largest k in use, and one more for the jackknife


@dataclass(frozen=True)
class Estimate:
    """A value and its standard errors.

    `error` comes from which pictures were generated. `reference_error` comes from which real pictures are at hand: it
    is given where the value estimates one of the whole distribution (kernel distance, extrapolated Fréchet distance,
    rates in excess of real ones), and None where the value is meant for these reference pictures at this N. A value
    that is, by chance, small comes with a small error where it is a square of what varies evenly: `stretch` is by what
    the interval reaches farther up than down.
    """

    value: float
    error: float | None = None
    reference_error: float | None = None
    note: str = ""
    stretch: float = 1.0


def combine(draws: Sequence[Estimate]) -> tuple[float, tuple[float, float] | None]:
    """Mean and 95% interval of the same metric over independent draws of a model (or one set of pictures).

    With a reference error: the normal interval of both errors, the first shrinking with the draws. Without: Student's
    t over the draws, which assumes nothing of the metric; one draw leans on its own error; None where there is none.
    """
    from scipy.special import stdtrit  # scipy takes half a second to load, and training loads this module

    values = np.array([draw.value for draw in draws])
    mean, count = float(values.mean()), len(draws)
    errors = [draw.error for draw in draws if draw.error is not None]
    references = [draw.reference_error for draw in draws if draw.reference_error is not None]
    if len(references) == count and len(errors) == count:
        half = Z * float(np.sqrt(np.mean(np.square(errors)) / count + np.mean(np.square(references))))
    elif count > 1:
        half = float(stdtrit(count - 1, 0.975) * values.std(ddof=1) / np.sqrt(count))
    elif errors:
        half = Z * errors[0]
    else:
        return mean, None
    return mean, (mean - half, mean + half * float(np.mean([draw.stretch for draw in draws])))


@dataclass(eq=False)
class Side:
    """Features float64 `[N, D]` of one set of pictures, with what several metrics need of them.

    `columns` says which columns hold what, where they are measured statistics and not learned features. `key` names
    features of the data in the cache: what is computed of them alone is then computed once for all judgements.
    """

    features: Features
    columns: dict[str, slice] = field(default_factory=dict)
    key: list[Any] | None = None
    _kept: dict[str, Features] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.features)

    def once(self, what: str, compute: Callable[[], Features]) -> Features:
        """The array of `compute`, a function of these features alone, which is called once."""
        if what not in self._kept:
            self._kept[what] = stored([SIDE_VERSION, *self.key, what], compute) if self.key else compute()
        return self._kept[what]

    @cached_property
    def moments(self) -> tuple[Features, Features]:
        """Mean `[D]` and unbiased covariance `[D, D]`."""
        return distances.moments(self.features)

    @cached_property
    def own_neighbours(self) -> tuple[Features, NDArray[np.int64]]:
        """Squared distances to, and places of, each picture's nearest others, nearest first: both `[N, 6]`."""
        found = self.once(
            "own neighbours", lambda: np.stack(distances.own_neighbours(self.features, KEPT_NEIGHBOURS)).astype(float)
        )
        return found[0], found[1].astype(np.int64)

    @cached_property
    def pairwise(self) -> tuple[float, Features]:
        """Mean distance of two different pictures, and each picture's mean distance to the others `[N]`."""
        means = self.once("pairwise", lambda: distances.pairwise_mean(self.features)[1])
        return float(means.mean()), means


@dataclass(eq=False)
class Training(Side):
    """Training pictures: many, so that only nearest neighbours among them are asked for; float32 will do."""

    _other: dict[int, float] = field(default_factory=dict)

    def other_distances(self, places: NDArray[np.int64]) -> Features:
        """Squared distance from each training picture at `places` `[n]` to its nearest other training picture."""
        missing = np.array([place for place in np.unique(places) if place not in self._other], np.int64)
        if len(missing):
            found = distances.nearest_other(self.features, missing)
            self._other.update(zip(missing.tolist(), found.tolist(), strict=True))
        return np.array([self._other[place] for place in places.tolist()])


@dataclass(eq=False)
class Pair:
    """Generated and reference pictures, equal in number, and the training pictures where a metric needs them."""

    generated: Side
    reference: Side
    training: Training | None = None
    # Nearest training picture of each reference picture, where it was computed before.
    held_out_nearest: tuple[Features, NDArray[np.int64]] | None = None
    balls: dict[int, Any] = field(default_factory=dict)  # what metrics of neighbours found, by k

    @cached_property
    def to_training(self) -> tuple[Features, NDArray[np.int64]]:
        """Squared distance of each generated picture to its nearest training picture, and which, `[N]`."""
        assert self.training is not None, "this metric needs the training pictures"
        return distances.nearest(self.generated.features, self.training.features)

    @cached_property
    def reference_to_training(self) -> tuple[Features, NDArray[np.int64]]:
        """The same for the reference pictures."""
        if self.held_out_nearest is not None:
            return self.held_out_nearest
        assert self.training is not None, "this metric needs the training pictures"
        return distances.nearest(self.reference.features, self.training.features)
