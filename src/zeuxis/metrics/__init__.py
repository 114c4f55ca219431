"""How generated pictures are judged: one pure file per metric over features `[N, D]`, and the table of all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from zeuxis.errors import UserError
from zeuxis.metrics import copy_rate, frechet, kernel, neighbours


@dataclass(frozen=True)
class Metric:
    """One line of the `METRICS` table.

    `function` takes float64 features of generated and of reference pictures, equal in number, and returns values by
    name; `needs_training` says that a third argument, features of training pictures, follows. the names of a `counted`
    metric carry the number of pictures (`fd10k_...`), as the field's do.
    """

    function: Callable[..., dict[str, float]]
    better: dict[str, Literal["lower", "higher"]]
    about: str
    group: Literal["distance", "fidelity and diversity", "memorisation", "likelihood", "appearance"]
    needs_training: bool = False
    counted: bool = False
    # Fewer pictures than this many times the number of features make the value unreliable.
    pictures_per_feature: float = 0.0


METRICS: dict[str, Metric] = {
    "fd": Metric(
        frechet.metric, {"fd": "lower"}, "Fréchet distance between Gaussians fitted to features", "distance",
        counted=True,
        pictures_per_feature=2.0,
    ),
    "kid": Metric(
        kernel.metric, {"kid": "lower"}, "kernel distance: unbiased squared maximum mean discrepancy", "distance",
        counted=True
    ),
    "pr": Metric(
        neighbours.precision_recall_metric, {"precision": "higher", "recall": "higher"},
        "improved precision and recall, k = 3", "fidelity and diversity",
    ),
    "dc": Metric(
        neighbours.density_coverage_metric, {"density": "higher", "coverage": "higher"}, "density and coverage, k = 5",
        "fidelity and diversity",
    ),
    "copy_rate": Metric(
        copy_rate.metric, {"copy_rate": "lower"},
        "share of pictures nearer to a training picture than held-out pictures are", "memorisation",
        needs_training=True,
    ),
}  # fmt: skip


def lookup(name: str) -> Metric:
    """The metric of a name; `UserError` listing all where there is none."""
    if name not in METRICS:
        raise UserError("--metrics", name, ", ".join(METRICS), "see docs/evaluation.md")
    return METRICS[name]
