"""Where a run is and how long it is: its counters, its plan and its clock."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from zeuxis.config import TrainOptions
from zeuxis.families.base import Stage
from zeuxis.planning import Plan

STATUS_ROWS = 200  # rows of stats.jsonl over a stage
MARKS = 20  # times over a stage that a healthy state is kept to go back to
MOMENTS = 8  # of the last stage at which averages are kept for `tune-ema`
SNAPSHOT_SHARE = 0.1  # of a budget that samples, scores and model folders may take
# `make` and `timeout` pass a signal on that the whole process group was sent already: that is not a second one.
EXIT_SECONDS = 0.3  # what the process needs after its last file

COUNTERS = ("images_seen", "total_images", "stage", "stage_start", "rows", "marks", "averages", "snapshots",
            "snapshot_seconds", "snapshot_total", "snapshot_images")  # fmt: skip


class Pace:
    """Counts images through the stages of a run, and says what is due and how much time is left.

    `clock` gives seconds as `started` does, which is when the process began. Everything is in the resume state.
    """

    def __init__(
        self, options: TrainOptions, stages: Sequence[Stage], batch: int, total_images: int, started: float,
        clock: Callable[[], float],
    ) -> None:  # fmt: skip
        self.options, self.stages, self.batch, self.clock = options, stages, batch, clock
        self.started, self.elapsed_before = started, 0.0
        self.images_seen = self.stage = self.stage_start = 0
        self.total_images = total_images  # of all stages, where no clock bends their plans
        self.rows = self.marks = self.averages = self.snapshots = 0  # that were written in this stage
        self.snapshot_seconds = self.snapshot_total = 0.0  # of one, of all
        self.snapshot_images = -1  # where the last one was taken
        self.plan = self.plan_of()

    def to_json(self) -> dict[str, Any]:
        """Plain values for the resume state."""
        return {name: getattr(self, name) for name in COUNTERS} | {"plan": self.plan.to_json(), "elapsed": self.elapsed}

    def load(self, values: Mapping[str, Any]) -> None:
        """Takes over what `to_json` returned, from an earlier sitting."""
        for name in COUNTERS:
            setattr(self, name, values.get(name, getattr(self, name)))
        self.plan, self.elapsed_before = Plan(**values["plan"]), values["elapsed"]

    def go_back(self, values: Mapping[str, Any]) -> None:
        """Takes over what `to_json` returned earlier in this run; the time that has passed stays passed."""
        kept = self.elapsed_before, self.snapshot_seconds, self.snapshot_total
        self.load(values)
        self.elapsed_before, self.snapshot_seconds, self.snapshot_total = kept

    # -- where ---------------------------------------------------------------------------------------------------------
    @property
    def elapsed(self) -> float:
        """Seconds of all sittings together, each from its process's start."""
        return self.elapsed_before + self.clock() - self.started

    @property
    def in_stage(self) -> int:
        """Images seen in the present stage."""
        return self.images_seen - self.stage_start

    @property
    def steps(self) -> int:
        """Steps taken in the present stage."""
        return self.in_stage // self.batch

    @property
    def in_last_stage(self) -> bool:
        """Whether the model is whole: it can be sampled, scored and chosen."""
        return self.stage == len(self.stages) - 1

    @property
    def progress(self) -> float:
        """Share of the present stage that is done."""
        return self.plan.progress(self.in_stage)

    def due(self, times: int, done: int) -> bool:
        """Whether what happens `times` over a stage and has happened `done` times is due, by images seen."""
        return math.floor(self.progress * times) > done

    def next_stage(self) -> None:
        """The present stage is over."""
        self.stage, self.stage_start = self.stage + 1, self.images_seen
        self.rows = self.marks = self.averages = self.snapshots = 0
        self.plan = self.plan_of()

    # -- how long ------------------------------------------------------------------------------------------------------
    def plan_of(self) -> Plan:
        """The plan of the present stage, as long as its share of all images."""
        share = self.stages[self.stage].share
        return Plan(max(1, math.ceil(self.total_images * share / self.batch)) * self.batch)

    @property
    def _share_begun(self) -> float:
        """The share of the budget that the stages up to the present one have together."""
        return min(1.0, sum(stage.share for stage in self.stages[: self.stage + 1]))

    def seconds_to_train(self) -> float:
        """What the budget leaves for steps of this stage, after what is still to be written; infinite without one."""
        if self.options.budget is None:
            return math.inf
        ends = self.options.budget * self._share_begun
        return ends - self.elapsed - self._snapshot_reserve() - (EXIT_SECONDS if self.in_last_stage else 0.0)

    def seconds_left(self, images_per_second: float) -> float:
        """Until the present stage is over, at this rate."""
        steps = (self.plan.total_images - self.in_stage) / max(images_per_second, 1e-9)
        return steps + self._snapshot_reserve()

    def _snapshot_reserve(self) -> float:
        """Seconds that the snapshots to come take: within their share of a budget, and the last one in any case."""
        to_come = (self.options.snapshots - self.snapshots) * self.snapshot_seconds
        if self.options.budget is None:
            return to_come
        left = SNAPSHOT_SHARE * self.options.budget * self._share_begun - self.snapshot_total
        return min(to_come, max(self.snapshot_seconds, left))

    def snapshot_is_affordable(self) -> bool:
        """Whether one more snapshot, and the last one after it, fit into their share of the budget."""
        if self.options.budget is None or self.snapshots + 1 >= self.options.snapshots:
            return True
        allowed = SNAPSHOT_SHARE * self.options.budget * self._share_begun
        return self.snapshot_total + 2 * self.snapshot_seconds <= allowed

    def took_snapshot(self, seconds: float) -> None:
        """Notes what the snapshot that was just taken took."""
        self.snapshot_images, self.snapshot_seconds = self.images_seen, seconds
        self.snapshot_total += seconds

    def replan(self, images_per_second: float) -> None:
        """Bends the plan to what this machine does, so that schedules end when the budget does."""
        left = self.seconds_to_train()
        if left > 0 and math.isfinite(left):
            images = math.ceil(images_per_second * left / self.batch) * self.batch
            self.plan.replan(self.in_stage, self.in_stage + images)

    def extend(self) -> bool:
        """A finished run goes on in its last stage, towards a larger kimg or budget; False where it is not larger."""
        if self.options.kimg is not None:
            self.total_images = round(self.options.kimg * 1000)
        elif self.options.budget is not None:
            # What was spent of the new budget is the share of its schedules that is done.
            self.total_images = round(self.images_seen * max(1.0, self.options.budget / self.elapsed_before))
        plan = self.plan_of()
        if plan.total_images <= self.in_stage:
            return False
        self.plan = plan
        self.snapshots = math.floor(self.progress * self.options.snapshots)
        self.rows, self.marks = math.floor(self.progress * STATUS_ROWS), math.floor(self.progress * MARKS)
        self.averages = math.floor(self.progress * MOMENTS)
        return True

    def lengthen(self) -> bool:
        """Bends the plan of an unfinished run to another kimg; False where it is past that already."""
        assert self.options.kimg is not None
        self.total_images = round(self.options.kimg * 1000)
        plan = self.plan_of()
        if plan.total_images <= self.in_stage:
            return False
        self.plan.replan(self.in_stage, plan.total_images)
        return True
