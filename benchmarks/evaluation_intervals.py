"""Do the 95% intervals hold what they should? For each metric, the share of cases whose interval contains the truth.

Kernel distance and extrapolated Fréchet distance: the value of samples ten times larger. Rates in excess of real ones:
the mean of many draws of both sides. The others, over three draws as for a model and from one draw as for foreign
pictures: the mean of many draws at equal N against the same reference.

Features are those of a fixed two-layer network of random weights on a mixture with as many modes, so that millions of
pictures can be drawn: one setting where generated and real are equal, one where they are near, one where they are far.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np

from timing import report
from zeuxis.metrics import METRICS
from zeuxis.metrics.appearance import distribution_gap
from zeuxis.metrics.base import Estimate, Pair, Side, Training, combine
from zeuxis.metrics.classifier import classifier_score

DIMENSION, MODES, LATENT = 24, 10, 8
SETTINGS = {"equal": (0.0, 1.0), "near": (0.15, 0.95), "far": (0.6, 0.7)}
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


def estimates(generated: np.ndarray, reference: Side, training: Training) -> dict[str, Estimate]:
    """All metrics of one draw."""
    pair = Pair(Side(generated), reference, training)
    found: dict[str, Estimate] = {}
    for name in FEATURE_METRICS:
        function = METRICS[name].function
        assert function is not None
        found |= function(pair)
    found["classifier_score"] = classifier_score(4 * generated[:, :MODES])
    found["sharpness_gap (any gap)"] = distribution_gap(generated[:, 0], reference.features[:, 0])
    return found


def truth_of_both_sides(world: World, count: int) -> dict[str, float]:
    """Values of ten times as many pictures, and rates without chance."""
    rng = np.random.default_rng(12345)
    large = 10 * count
    pair = Pair(Side(world.draw(rng, large, True)), Side(world.draw(rng, large, False)))
    found: dict[str, float] = {}
    for name in ("fd_inf", "kid"):
        function: Callable[[Pair], dict[str, Estimate]] | None = METRICS[name].function
        assert function is not None
        found |= {key: estimate.value for key, estimate in function(pair).items()}
    return found


def run(setting: str, count: int, cases: int, many: int) -> dict[str, dict[str, float]]:
    """Share of cases that hold the truth, by metric and kind of interval."""
    world = World(*SETTINGS[setting])
    training = Training(world.draw(np.random.default_rng(1), 4 * count, False))
    reference = Side(world.draw(np.random.default_rng(2), count, False))
    draws = [estimates(world.draw(np.random.default_rng(1000 + at), count, True), reference, training)
             for at in range(many)]  # fmt: skip
    means = {key: float(np.mean([draw[key].value for draw in draws])) for key in draws[0]}
    held: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    truths = truth_of_both_sides(world, count)
    fresh = [(Side(world.draw(np.random.default_rng(50_000 + case), count, False)),
              [world.draw(np.random.default_rng(90_000 + 3 * case + at), count, True) for at in range(3)])
             for case in range(cases)]  # fmt: skip
    both = []
    for real, three in fresh:
        own = []
        for generated in three:
            pair, found = Pair(Side(generated), real, training), {}
            for name in BOTH_SIDES:
                function = METRICS[name].function
                assert function is not None
                found |= function(pair)
            own.append(found)
        both.append(own)
    for key in ("copy_rate", "duplicate_rate"):
        truths[key] = float(np.mean([draw[key].value for own in both for draw in own]))
    for own in both:
        for key, truth in truths.items():
            for kind, used in (("three draws", own), ("one draw", own[:1])):
                held[key][kind].append(_holds([draw[key] for draw in used], truth))
    for case in range(cases):
        chosen = [draws[(3 * case + at) % many] for at in range(3)]
        for key in means:
            if key not in truths:
                held[key]["three draws"].append(_holds([draw[key] for draw in chosen], means[key]))
                held[key]["one draw"].append(_holds([chosen[0][key]], means[key]))
    return {key: {kind: float(np.mean(flags)) for kind, flags in kinds.items()} for key, kinds in held.items()}


def _holds(chosen: list[Estimate], truth: float) -> bool:
    interval = combine(chosen)[1]
    assert interval is not None
    slack = 1e-9 * max(1.0, abs(truth))  # a statistic that never changes has an interval without width
    return interval[0] - slack <= truth <= interval[1] + slack


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=400, help="pictures on each side")
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--settings", default=",".join(SETTINGS))
    arguments = parser.parse_args()
    for setting in arguments.settings.split(","):
        found = run(setting, arguments.count, arguments.cases, 3 * arguments.cases)
        RESULTS.mkdir(exist_ok=True)
        document = {"count": arguments.count, "cases": arguments.cases, "held": found}
        (RESULTS / f"evaluation_intervals_{setting}.json").write_text(json.dumps(document, indent=2) + "\n")
        report("evaluation_intervals", setting=setting, count=arguments.count, cases=arguments.cases, held=found)


if __name__ == "__main__":
    main()
