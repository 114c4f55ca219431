"""Reads the statistics and evaluations of a run and says, in plain words, when to go back to an earlier state.

What is usual is learned from the run itself: a rule compares the last rows with quantiles of the rows before them, or
an evaluation with the best so far, so that no threshold depends on the data, the network or the loss. A fault shows for
several rows or is gross: one unlucky row is not one. Knows no networks, files or devices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import fmean, median, quantiles
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

ROWS = 10  # rows of statistics that are judged together: 5% of a stage
KEPT = 100  # rows before them that say what is usual
KNOWN = 20  # at least so many of them
WARMUP_STEPS = 200  # what a network does in its first steps says nothing
MOST_ROLLBACKS = 3
HEALTHY = 2  # states that are kept to go back to

SKIPS_IN_A_ROW = 10  # steps that are not finite
DEAD, WON = 0.25, 0.98  # pair accuracy of a discriminator that is fooled by most, by next to nothing
NO_SIGNAL, TOO_MUCH_SIGNAL = 0.02, 50.0  # of the usual length of the generator's gradient
SPIKE = 20.0  # times the 95% quantile of the gradient's length
JUMP, LEAST_JUMP = 10.0, 0.25  # times how a part's weights usually change in length; as a logarithm, at least
COLLAPSED, FLAT = 0.2, 0.02  # diversity of samples: of the best so far, of the pictures'
COVERED = 0.5  # coverage, of the best so far
TWICE, NOTABLE, LOST = 2.0, 0.25, 0.5  # the metric: times its best; shares of all that was gained
BEYOND_CHANCE = 3.0  # standard errors of a difference


@dataclass
class History:
    """What the rules look at: the last rows by term, all evaluations by name, and steps in a row that were skipped.

    `roles` are a family's words for some of its terms (`Family.watch`).
    """

    roles: Mapping[str, str] = field(default_factory=dict)
    rows: dict[str, list[float]] = field(default_factory=dict)
    evaluations: dict[str, list[float]] = field(default_factory=dict)
    skipped_in_a_row: int = 0
    progress: float = 0.0

    def split(self, term: str, last: int = ROWS) -> tuple[list[float], list[float]]:
        """The last rows of a term, and those before them; nothing where too little is known."""
        values = self.rows.get(self.roles.get(term, term), [])
        return (values[-last:], values[:-last]) if len(values) >= last else ([], [])

    def ending(self, end: str) -> list[str]:
        """The terms whose name ends so."""
        return [term for term in self.rows if term.endswith(end)]


Judge = Callable[[History], str]


@dataclass(frozen=True)
class Rule:
    """One line of `RULES`: `judge` says what is wrong, or "". It is a fault when it is wrong `in_a_row` times, after
    `warmup` (a share of the stage; with any, `WARMUP_STEPS` at least). `tell` is for what an earlier state would not
    mend: it is said once."""

    judge: Judge
    at: Literal["statistics", "evaluation"]
    in_a_row: int = 1
    warmup: float = 0.05
    action: Literal["roll back", "tell"] = "roll back"


@dataclass(frozen=True)
class Finding:
    """A fault: the name of the rule, what is wrong in one clause, and what is to be done."""

    rule: str
    reason: str
    action: Literal["roll back", "tell", "stop"]


# -- the rules ---------------------------------------------------------------------------------------------------------
def not_finite(history: History) -> str:
    """Nothing is learned any more, and nothing tells that it will be."""
    count = history.skipped_in_a_row
    return f"the last {count} steps were not finite" if count >= SKIPS_IN_A_ROW else ""


def dead_discriminator(history: History) -> str:
    """Generated pictures pass for real ones more often than real ones do: it has stopped learning."""
    now, _ = history.split("pair accuracy")
    if not now or fmean(now) >= DEAD:
        return ""
    return f"the discriminator is right about {fmean(now):.0%} of pairs only: it no longer learns"


def won_discriminator(history: History) -> str:
    """It is always right, and the generator's gradient is of another order than before: there is nothing to follow."""
    accuracy, _ = history.split("pair accuracy")
    now, before = history.split("generator gradient")
    if not accuracy or len(before) < KNOWN or fmean(accuracy) <= WON:
        return ""
    usual = median(before)
    ratio = fmean(now) / usual if usual > 0 else math.inf
    if NO_SIGNAL <= ratio <= TOO_MUCH_SIGNAL:
        return ""
    return f"the discriminator is always right and the generator's gradient is {ratio:.2g} times its usual length"


def gradient_spike(history: History) -> str:
    """Three rows in a row far above what 95 of 100 were."""
    for term in history.ending("/gradient norm"):
        now, before = history.split(term, 3)
        if len(before) >= KNOWN and min(now) > SPIKE * (usual := quantiles(before, n=20)[-1]) > 0:
            times = min(now) / usual
            return f"the {term.removesuffix('/gradient norm')}'s gradient is {times:.0f} times as long as usual"
    return ""


def weight_jump(history: History) -> str:
    """The weights of a part change far faster than they did: steps have become far too large."""
    for term in history.ending("/weight norm"):
        now, before = history.split(term, 4)
        if len(before) < KNOWN or min(*now, *before) <= 0:
            continue
        usual = median(abs(math.log(later / earlier)) for earlier, later in zip(before, before[3:], strict=False))
        change = abs(math.log(now[-1] / now[0]))
        if change > max(LEAST_JUMP, JUMP * usual):
            times, part = change / max(usual, 1e-6), term.removesuffix("/weight norm")
            return f"the weights of the {part} change {times:.0f} times as fast as usual"
    return ""


def stands_still(history: History) -> str:
    """The weights of a part do not change at all, long before the learning rate has come to its end."""
    for term in history.ending("/weight norm"):
        now, before = history.split(term)
        if now and len({*now}) == 1 and len({*before}) > KNOWN and history.progress < 0.9:
            return f"the weights of the {term.removesuffix('/weight norm')} do not change any more"
    return ""


def collapse(history: History) -> str:
    """Samples of fixed seeds have become alike."""
    values = history.evaluations.get("diversity", [])
    if len(values) < 2 or max(values) < 0.1 or values[-1] >= COLLAPSED * max(values):
        return ""
    return f"samples have become alike: they differ {values[-1] / max(values):.2g} times as much as before"


def never_diverse(history: History) -> str:
    """Samples were alike from the start."""
    values = history.evaluations.get("diversity", [])
    if not values or max(values) >= FLAT:
        return ""
    return f"all samples are alike: they differ {values[-1]:.2g} times as much as the pictures"


def lost_coverage(history: History) -> str:
    """Samples lie near far fewer of the validation pictures than they did."""
    values = history.evaluations.get("coverage", [])
    if len(values) < 2 or max(values) < 0.1 or values[-1] >= COVERED * max(values):
        return ""
    return f"samples cover {values[-1]:.0%} of the validation pictures, and covered {max(values):.0%} before"


def twice_the_best(history: History) -> str:
    """The metric is twice its best; a small number is not judged by its noise but by all that was gained so far."""
    return _worse(history, TWICE, NOTABLE)


def most_is_lost(history: History) -> str:
    """One evaluation is enough where most of what was gained is lost."""
    return _worse(history, TWICE, LOST)


def falls_back(history: History) -> str:
    """Between two evaluations the metric has doubled, past what it was in the first half of the run, and not by chance.
    A share of all that was gained would not show it late in a run, when the metric is small beside where it began."""
    values, errors = (history.evaluations.get(name, []) for name in ("metric", "metric error"))
    early = values[: len(values) // 2]
    if len(early) < 2 or len(errors) != len(values) or not all(map(math.isfinite, values)):
        return ""
    before, last = values[-2:]
    if last <= max(TWICE * before, min(early), before + BEYOND_CHANCE * math.hypot(*errors[-2:])):
        return ""
    return f"the metric went from {before:.4g} to {last:.4g}, past what it was in the first half of the run"


def _worse(history: History, times: float, share: float) -> str:
    *before, last = history.evaluations.get("metric", [math.nan])
    known = [value for value in before if math.isfinite(value)]
    untrained = history.evaluations.get("untrained", [])
    if len(known) < 2 or (min(known) >= known[0] and not untrained):  # nothing is known to have been gained yet
        return ""
    # What training gained is counted from its beginning: a GAN is near its best after a tenth, and wavers there.
    start, best = max([known[0], *untrained]), min(known)
    if math.isfinite(last) and last <= max(times * best, best + share * (start - best)):
        return ""
    return f"the metric is {last:.4g}, its best was {best:.4g}"


def posterior_collapse(history: History) -> str:
    """The latent code carries nothing: the decoder does without it."""
    now, _ = history.split("kl")
    if not now or fmean(now) >= 0.1:
        return ""
    return f"the code carries {fmean(now):.2g} nats a picture: the decoder does without it (try free bits or a warm-up)"


def dead_codes(history: History) -> str:
    """Of a codebook next to nothing is used."""
    now, _ = history.split("codes used")
    if not now or fmean(now) >= 0.05:
        return ""
    return f"{fmean(now):.1%} of the codebook is used"


RULES: dict[str, Rule] = {
    "not finite": Rule(not_finite, "statistics", warmup=0.0),
    "dead discriminator": Rule(dead_discriminator, "statistics", in_a_row=2),
    "discriminator wins": Rule(won_discriminator, "statistics", in_a_row=2),
    "gradient spike": Rule(gradient_spike, "statistics"),
    "weights jump": Rule(weight_jump, "statistics"),
    "stands still": Rule(stands_still, "statistics"),
    "collapse": Rule(collapse, "evaluation"),
    "no diversity": Rule(never_diverse, "evaluation", in_a_row=2, warmup=0.4, action="tell"),
    "lost coverage": Rule(lost_coverage, "evaluation"),
    "twice the best": Rule(twice_the_best, "evaluation", in_a_row=2),
    "most is lost": Rule(most_is_lost, "evaluation"),
    "falls back": Rule(falls_back, "evaluation"),
    "posterior collapse": Rule(posterior_collapse, "statistics", in_a_row=2, warmup=0.25, action="tell"),
    "dead codes": Rule(dead_codes, "statistics", in_a_row=2, warmup=0.25, action="tell"),
}


class Watchdog:
    """The rules with what they have seen; everything of it is in the resume state.

    `healthy` are the images seen of the states that can be gone back to, oldest first.
    """

    def __init__(self, roles: Mapping[str, str], rules: Mapping[str, Rule] = RULES) -> None:
        self.rules = rules
        self.history = History(roles)
        self.counts: dict[str, int] = {}  # rule -> how many times in a row it found something
        self.told: list[str] = []
        self.healthy: list[int] = []
        self.went_to = -1  # the state that was gone back to last
        self.rollbacks = 0

    def begin_stage(self, images_seen: int) -> None:
        """Another stage has other terms: forgets what was usual. Its beginning is a state to go back to."""
        self.history, self.counts, self.told = History(self.history.roles), {}, []
        self.healthy = [images_seen]

    def know(self, values: Mapping[str, float]) -> None:
        """Takes what is known before the first step: the metric of `untrained` networks."""
        for name, value in values.items():
            self.history.evaluations[name] = [value]

    def see_statistics(
        self, terms: Mapping[str, float], skipped_in_a_row: int, progress: float, steps: int
    ) -> Finding | None:
        """Takes a row of statistics at `progress` of the stage, after so many steps of it; returns what is wrong, if
        anything."""
        watched = {*self.history.roles.values()}
        for term, value in terms.items():
            if term in watched or term.endswith(("/gradient norm", "/weight norm")):
                self.history.rows[term] = [*self.history.rows.get(term, [])[-(KEPT + ROWS - 1) :], value]
        self.history.skipped_in_a_row = skipped_in_a_row
        return self._judge("statistics", progress, steps)

    def see_evaluation(self, values: Mapping[str, float], progress: float, steps: int) -> Finding | None:
        """Takes an evaluation: `metric` (lower is better) and `metric error`, `coverage` and `diversity` (of 1), as far
        as there are any."""
        for name, value in values.items():
            self.history.evaluations.setdefault(name, []).append(value)
        return self._judge("evaluation", progress, steps)

    def _judge(self, at: str, progress: float, steps: int) -> Finding | None:
        found: Finding | None = None
        self.history.progress = progress
        for name, rule in self.rules.items():
            if rule.at != at:
                continue
            early = progress < rule.warmup or (rule.warmup > 0 and steps < WARMUP_STEPS)
            reason = "" if early else rule.judge(self.history)
            self.counts[name] = self.counts.get(name, 0) + 1 if reason else 0
            if self.counts[name] < rule.in_a_row or (rule.action == "tell" and name in self.told):
                continue
            if rule.action == "tell":
                self.told.append(name)
            if found is None or (found.action == "tell" and rule.action == "roll back"):
                found = Finding(name, reason, rule.action)
        return found

    @property
    def suspicious(self) -> bool:
        """Whether a rule has found something that is not a fault yet, or the last step was skipped: such a state is not
        gone back to."""
        return self.history.skipped_in_a_row > 0 or any(
            count and self.rules[name].action == "roll back" for name, count in self.counts.items()
        )

    def mark(self, images_seen: int) -> bool:
        """Notes a state as one to go back to, unless something is suspicious; returns whether it was noted."""
        if self.suspicious:
            return False
        self.healthy = [*self.healthy, images_seen][-HEALTHY:]
        return True

    def go_back(self) -> int | None:
        """The state to go back to, or None where that was done often enough. What failed again before another state
        was noted is not trusted: then it is the one before."""
        if self.rollbacks >= MOST_ROLLBACKS or not self.healthy:
            return None
        if self.healthy[-1] == self.went_to and len(self.healthy) > 1:
            self.healthy = self.healthy[:-1]
        self.rollbacks, self.went_to = self.rollbacks + 1, self.healthy[-1]
        return self.went_to

    def forget(self) -> int | None:
        """The state that was to be gone back to cannot be read: the one before it, or None."""
        self.healthy = self.healthy[:-1]
        self.went_to = self.healthy[-1] if self.healthy else -1
        return self.healthy[-1] if self.healthy else None

    def return_to(self, values: Mapping[str, Any]) -> None:
        """Knows what was known at the state that was gone back to, and how often that has happened."""
        kept = self.healthy, self.went_to, self.rollbacks
        self.load(values)
        self.healthy, self.went_to, self.rollbacks = kept

    def to_json(self) -> dict[str, Any]:
        """Plain values for the resume state."""
        history = {"rows": self.history.rows, "evaluations": self.history.evaluations}
        return {"history": history, "counts": self.counts, "told": self.told, "healthy": self.healthy,
                "went_to": self.went_to, "rollbacks": self.rollbacks}  # fmt: skip

    def load(self, values: Mapping[str, Any]) -> None:
        """Takes over what `to_json` returned."""
        self.history = History(self.history.roles, **values["history"])
        self.counts, self.told = dict(values["counts"]), list(values["told"])
        self.healthy, self.went_to, self.rollbacks = list(values["healthy"]), values["went_to"], values["rollbacks"]


def diversity(samples: NDArray[np.uint8], pictures: NDArray[np.uint8]) -> float:
    """Mean squared distance of pairs of `samples` over that of `pictures` (uint8 arrays `[N, ...]`): 1 is as
    diverse."""
    return _spread(samples) / max(_spread(pictures), 1e-12)


def _spread(pictures: NDArray[np.uint8]) -> float:
    """Twice the sum of the variances of all values: the mean squared distance of independent pairs."""
    return float(2 * pictures.astype(np.float64).reshape(len(pictures), -1).var(axis=0, ddof=1).sum())
