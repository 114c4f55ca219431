"""Do the 95% intervals hold what they should? For each metric, the share of cases whose interval contains the truth.

Kernel distance and extrapolated Fréchet distance: the value of samples ten times larger. Rates in excess of real ones:
the mean of many draws of both sides. The others, over three draws as for a model and from one draw as for foreign
pictures: the mean of many draws at equal N against the same reference.

Features are those of a fixed two-layer network of random weights on a mixture with as many modes, so that millions of
pictures can be drawn: one setting where generated and real are equal, one where they are near, one where they are far.
The setting `fashion` has the extractor's features of Fashion-MNIST instead: real pictures of one third of the training
split against blurred ones of another third, with the last third as training pictures.

Each case has a truth of its own, from pictures that no other case sees: one sample ten times larger is itself a draw,
and its luck would be that of all cases.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from timing import report
from zeuxis.data import open_dataset
from zeuxis.metrics import METRICS
from zeuxis.metrics.appearance import distribution_gap
from zeuxis.metrics.base import Estimate, Pair, Side, Training, combine
from zeuxis.metrics.classifier import classifier_score
from zeuxis.metrics.extractors import make_extractor

DIMENSION, MODES, LATENT = 24, 10, 8
SETTINGS = {"equal": (0.0, 1.0), "near": (0.15, 0.95), "far": (0.6, 0.7)}
BLUR = 0.5  # pixels, of what stands for generated pictures in the setting `fashion`
RESULTS = Path(__file__).parent / "results"
BOTH_SIDES = ("fd_inf", "kid", "copy_rate", "duplicate_rate")
FEATURE_METRICS = ("fd", "fd_inf", "kid", "pr", "dc", "diversity", "auth_pct", "c_t", "copy_rate", "duplicate_rate")


class World:
    """Features of real and of generated pictures, as many as are asked for."""

    def __init__(self, shift: float, spread: float) -> None:
        rng = np.random.default_rng(7)
        self.centres = rng.normal(0, 1.5, (MODES, LATENT))
        self.first = rng.normal(0, 1 / np.sqrt(LATENT), (LATENT, 48))
        self.second = rng.normal(0, 1 / np.sqrt(48), (48, DIMENSION))
        self.shift, self.spread = shift, spread

    def draw(self, rng: np.random.Generator, count: int, generated: bool) -> np.ndarray:
        """Features `[count, 24]`, not negative."""
        share = np.full(MODES, 1 / MODES)
        z = self.centres[rng.choice(MODES, count, p=share)]
        z = (
            z
            + (self.spread if generated else 1.0) * 0.6 * rng.normal(size=z.shape)
            + (self.shift if generated else 0.0)
        )
        return np.maximum(np.maximum(z @ self.first, 0) @ self.second, 0)

    def training(self, count: int) -> np.ndarray:
        """Features of real pictures that `draw` never gives."""
        return self.draw(np.random.default_rng(1), count, False)


class Fashion:
    """Features of real and of blurred pictures of Fashion-MNIST, drawn without replacement from thirds of its training
    split."""

    def __init__(self) -> None:
        dataset = open_dataset("fashion-mnist")
        pictures = dataset.train.take(np.random.default_rng(3).permutation(len(dataset.train)))
        third = len(pictures) // 3
        extractor = make_extractor("dataset", dataset)
        blurred = gaussian_filter(pictures[third : 2 * third].astype(np.float64), (0, 0, BLUR, BLUR))
        made = np.clip(np.rint(blurred), 0, 255).astype(np.uint8)
        parts = (pictures[:third], made, pictures[2 * third :])
        self.real, self.made, self.rest = (extractor(iter(np.array_split(part, 20))) for part in parts)

    def draw(self, rng: np.random.Generator, count: int, generated: bool) -> np.ndarray:
        """Features `[count, 128]`."""
        pool = self.made if generated else self.real
        return pool[rng.choice(len(pool), count, replace=False)]

    def training(self, count: int) -> np.ndarray:
        """Features of pictures that `draw` never gives."""
        return self.rest[:count]


def estimates(generated: np.ndarray, reference: Side, training: Training) -> dict[str, Estimate]:
    """All metrics of one draw."""
    pair = Pair(Side(generated), reference, training)
    found: dict[str, Estimate] = {}
    for name in FEATURE_METRICS:
        if name not in BOTH_SIDES:
            found |= found_by(name, pair)
    found["classifier_score"] = classifier_score(4 * generated[:, :MODES])
    found["sharpness_gap (any gap)"] = distribution_gap(generated[:, 0], reference.features[:, 0])
    return found


def truth_of_both_sides(world: World | Fashion, rng: np.random.Generator, count: int) -> dict[str, float]:
    """Values of samples ten times larger."""
    pair = Pair(Side(world.draw(rng, 10 * count, True)), Side(world.draw(rng, 10 * count, False)))
    return {key: estimate.value for name in ("fd_inf", "kid") for key, estimate in found_by(name, pair).items()}


def found_by(name: str, pair: Pair) -> dict[str, Estimate]:
    """A metric of the table."""
    function: Callable[[Pair], dict[str, Estimate]] | None = METRICS[name].function
    assert function is not None
    return function(pair)


def run(setting: str, count: int, cases: int, many: int) -> dict[str, dict[str, float]]:
    """Share of cases that hold the truth, by metric and kind of interval."""
    world = Fashion() if setting == "fashion" else World(*SETTINGS[setting])
    training = Training(world.training(4 * count))
    held: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    both = [_both_sides(world, case, count, training) for case in range(cases)]
    means = {key: float(np.mean([draw[key].value for own, _ in both for draw in own]))
             for key in ("copy_rate", "duplicate_rate")}  # fmt: skip
    for own, truths in both:
        for key, truth in {**truths, **means}.items():
            held[key]["three draws"].append(_holds([draw[key] for draw in own], truth))
            held[key]["one draw"].append(_holds([own[0][key]], truth))
    reference = Side(world.draw(np.random.default_rng(2), count, False))
    draws = [estimates(world.draw(np.random.default_rng(1000 + at), count, True), reference, training)
             for at in range(many)]  # fmt: skip
    for key in draws[0]:
        truth = float(np.mean([draw[key].value for draw in draws]))
        for case in range(cases):
            chosen = [draws[(3 * case + at) % many][key] for at in range(3)]
            held[key]["three draws"].append(_holds(chosen, truth))
            held[key]["one draw"].append(_holds(chosen[:1], truth))
    return {key: {kind: float(np.mean(flags)) for kind, flags in kinds.items()} for key, kinds in held.items()}


def _both_sides(
    world: World | Fashion, case: int, count: int, training: Training
) -> tuple[list[dict[str, Estimate]], dict[str, float]]:
    """Three draws of a case against real pictures of its own, and the values of samples ten times larger."""
    real = Side(world.draw(np.random.default_rng(50_000 + case), count, False))
    own = []
    for at in range(3):
        generated = world.draw(np.random.default_rng(90_000 + 3 * case + at), count, True)
        pair = Pair(Side(generated), real, training)
        own.append({key: value for name in BOTH_SIDES for key, value in found_by(name, pair).items()})
    return own, truth_of_both_sides(world, np.random.default_rng(700_000 + case), count)


def _holds(chosen: list[Estimate], truth: float) -> bool:
    interval = combine(chosen)[1]
    assert interval is not None
    slack = 1e-9 * max(1.0, abs(truth))  # a statistic that never changes has an interval without width
    return interval[0] - slack <= truth <= interval[1] + slack


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=400, help="pictures on each side")
    parser.add_argument("--cases", type=int, default=400)
    parser.add_argument("--settings", default=",".join((*SETTINGS, "fashion")))
    arguments = parser.parse_args()
    for setting in arguments.settings.split(","):
        found = run(setting, arguments.count, arguments.cases, 3 * arguments.cases)
        RESULTS.mkdir(exist_ok=True)
        document = {"count": arguments.count, "cases": arguments.cases, "held": found}
        outside = {key: kinds for key, kinds in found.items() if not all(0.895 <= v < 0.995 for v in kinds.values())}
        print("outside 90 to 99 of 100:", json.dumps(outside))
        (RESULTS / f"evaluation_intervals_{setting}.json").write_text(json.dumps(document, indent=2) + "\n")
        report("evaluation_intervals", setting=setting, count=arguments.count, cases=arguments.cases, held=found)


if __name__ == "__main__":
    main()
