"""How generated pictures are judged: one pure file per metric over features `[N, D]`, and the table of all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from zeuxis.errors import UserError
from zeuxis.metrics import appearance, classifier, copy_rate, diversity, frechet, kernel, memorisation, neighbours
from zeuxis.metrics.base import Estimate, Pair

Group = Literal["distance", "fidelity and diversity", "memorisation", "likelihood", "appearance", "prediction"]
Better = Literal["lower", "higher"]
# What a metric is computed in: every chosen extractor, the first of them, one fixed extractor, or the model itself.
Inputs = Literal["features", "first", "pixels", "appearance", "classifier", "model"]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One line of the `METRICS` table.

    `function` returns estimates by name for a `Pair`; a name that does not apply to these pictures is left out. The
    names of a `counted` metric carry the number of pictures (`fd10k_...`), as the field's do.
    """

    function: Callable[[Pair], dict[str, Estimate]] | None
    values: dict[str, tuple[str, Better]]  # title and direction by name
    group: Group
    inputs: tuple[Inputs, ...] = ("features",)
    needs_training: bool = False  # nearest neighbours among the training pictures
    counted: bool = False
    beside_training: bool = False  # shown against training pictures too
    # What the floor is: real training pictures in place of the generated, the held-out ones themselves, or zero.
    floor: Literal["real", "held-out", "zero", "none"] = "real"
    # Fewer pictures than this many times the number of features, or than `least`, make the value unreliable.
    pictures_per_feature: float = 0.0
    least: int = 0
    bounds: tuple[float, float] | None = None  # an interval does not leave them


_SHARE = (0.0, 1.0)
METRICS: dict[str, Metric] = {
    "fd": Metric(
        function=frechet.metric, values={"fd": ("Fréchet distance", "lower")}, group="distance", counted=True,
        beside_training=True, pictures_per_feature=2.0, bounds=(0.0, float("inf")),
    ),
    "fd_inf": Metric(
        function=frechet.extrapolated_metric,
        values={"fd_inf": ("Fréchet distance extrapolated to infinitely many pictures", "lower")}, group="distance",
        beside_training=True, pictures_per_feature=16.0,
    ),
    "kid": Metric(
        function=kernel.metric, values={"kid": ("kernel distance (squared MMD, unbiased)", "lower")}, group="distance",
        counted=True, beside_training=True, least=100,
    ),
    "pr": Metric(
        function=neighbours.precision_recall_estimates,
        values={
            "precision_k3": ("precision (3 neighbours)", "higher"), "recall_k3": ("recall (3 neighbours)", "higher"),
            "precision_k5": ("precision (5 neighbours)", "higher"), "recall_k5": ("recall (5 neighbours)", "higher"),
        },
        group="fidelity and diversity", least=1000, bounds=_SHARE,
    ),
    "dc": Metric(
        function=neighbours.density_coverage_estimates,
        values={
            "density_k5": ("density (5 neighbours)", "higher"), "coverage_k5": ("coverage (5 neighbours)", "higher"),
        },
        group="fidelity and diversity", least=1000,
    ),
    "diversity": Metric(
        function=diversity.metric, values={"diversity": ("mean distance of two pictures, over the data's", "higher")},
        group="fidelity and diversity", least=100,
    ),
    "classifier_score": Metric(
        function=classifier.metric, inputs=("classifier",),
        values={"classifier_score": ("Inception score's formula with the data's own classifier", "higher")},
        group="fidelity and diversity", least=1000,
    ),
    "accuracy_score": Metric(
        function=None, inputs=("model",),
        values={"accuracy_score": ("accuracy on real pictures of a classifier trained on generated ones", "higher")},
        group="fidelity and diversity", bounds=_SHARE, least=1000,
    ),
    "classification": Metric(
        function=None, inputs=("model",), floor="none",
        values={"accuracy": ("accuracy of the model's own classes on held-out pictures", "higher")},
        group="fidelity and diversity", bounds=_SHARE,
    ),
    "copy_rate": Metric(
        function=copy_rate.metric, inputs=("first", "pixels"), needs_training=True, floor="zero",
        values={"copy_rate": ("copies of training pictures, share beyond chance", "lower")}, group="memorisation",
        least=1000,
    ),
    "duplicate_rate": Metric(
        function=copy_rate.duplicate_metric, inputs=("first",), least=1000,
        values={"duplicate_rate": ("copies of each other, share beyond chance", "lower")}, group="memorisation",
    ),
    "auth_pct": Metric(
        function=memorisation.auth_metric, inputs=("first",), needs_training=True, floor="held-out", least=1000,
        values={"auth_pct": ("percent of authentic pictures (AuthPct)", "higher")}, group="memorisation",
        bounds=(0.0, 100.0),
    ),
    "c_t": Metric(
        function=memorisation.copying_metric, inputs=("first",), needs_training=True, floor="zero", least=1000,
        values={"c_t": ("data-copying statistic C_T (below -3: copies)", "higher")}, group="memorisation",
    ),
    "leak": Metric(
        function=None, inputs=("model",),
        values={"augmentation_leak": ("share of pictures that look augmented", "lower")}, group="appearance",
        bounds=_SHARE,
    ),
    **{
        name: Metric(
            function=partial(appearance.gap, name=name), inputs=("appearance",),
            values={f"{name}_gap": (f"{title}: distance from the data's, in its standard deviations", "lower")},
            group="appearance", least=100, bounds=(0.0, float("inf")),
        )
        for name, title in (
            ("sharpness", "sharpness"), ("contrast", "contrast"), ("colour", "mean colour"),
            ("saturation", "saturation"), ("edges", "smoothness of transparent edges"),
            ("fringe", "halos and dust around transparent edges"),
        )
    },
    "seam": Metric(
        function=appearance.seam_metric, inputs=("appearance",), group="appearance",
        values={
            name: (f"step over the seam{axis}, over the step inside", "lower")
            for name, axis in (
                ("seam_ratio", ""), ("seam_ratio_x", " left to right"), ("seam_ratio_y", " top to bottom"),
            )
        },
    ),
    "likelihood": Metric(
        function=None, inputs=("model",), group="likelihood", floor="none",
        values={
            "nll": ("negative log likelihood, nats per picture", "lower"),
            "bpd": ("bits per dimension", "lower"),
        },
    ),
    "prediction": Metric(
        function=None, inputs=("model",), group="prediction", floor="none",
        values={
            "mse": ("squared error of predicted frames, summed over a frame", "lower"),
            "mae": ("absolute error of predicted frames, summed over a frame", "lower"),
            "frame_ssim": ("structural similarity of predicted frames", "higher"),
            "mse_mean": ("squared error of the mean of ten futures", "lower"),
            "mse_best": ("squared error of the best of ten futures", "lower"),
            "future_diversity": ("squared difference of two futures, summed over a frame", "higher"),
        },
    ),
    "reconstruction": Metric(
        function=None, inputs=("model",), group="fidelity and diversity", floor="none",
        values={
            "reconstruction_psnr": ("reconstruction, PSNR in dB", "higher"),
            "reconstruction_ssim": ("reconstruction, structural similarity", "higher"),
            "reconstruction_distance": ("reconstruction, distance in features (1: unrelated)", "lower"),
        },
    ),
}  # fmt: skip


def lookup(name: str) -> Metric:
    """The metric of a name; `UserError` listing all where there is none."""
    if name not in METRICS:
        raise UserError("--metrics", name, ", ".join(METRICS), "see docs/evaluation.md")
    return METRICS[name]
