"""THE loop: takes a family, a data set and callbacks; never subclassed. `start` opens a run, `Training.run` trains
it."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from zeuxis.checkpoint import Model, StateStore, weights_hash
from zeuxis.config import TrainOptions
from zeuxis.data import Dataset
from zeuxis.distributed import Clock, alone, current
from zeuxis.errors import UserError
from zeuxis.families.base import Family
from zeuxis.feed import Feed, training_noise
from zeuxis.images import save_png
from zeuxis.memory import free_bytes, keep_large_blocks
from zeuxis.pace import MARKS, MOMENTS, STATUS_ROWS, Pace
from zeuxis.planning import bind, choose_device, recorded, resolve
from zeuxis.randomness import seed_of
from zeuxis.runs import RunFolder
from zeuxis.selection import Evaluation, Score, Selection
from zeuxis.signals import stop_signals
from zeuxis.snapshot import real_sheet
from zeuxis.state import State
from zeuxis.steps import Stepper, average_factor
from zeuxis.transfer import Row, read_source, summary, take_over
from zeuxis.watchdog import WARMUP_STEPS, Finding

REPLAN_SHARE, FIRST_LOOK_SECONDS = 0.02, 1.0  # of the budget between two looks at the clock; until the first at most
STATE_SECONDS = 60.0
POWER_STEPS = 2000  # a run of fewer steps follows no averages to be tuned after training


@dataclass(frozen=True)
class Event:
    """Something to show: a line of the log, or where the run is."""

    kind: Literal["log", "progress"]
    text: str = ""
    images_seen: int = 0
    total_images: int = 0
    images_per_second: float = 0.0
    seconds_left: float = math.nan
    terms: dict[str, float] | None = None


@dataclass(frozen=True)
class Outcome:
    """How a sitting ended: `finished`, `interrupted` with everything saved, or `stopped` by the watchdog with the best
    model kept."""

    status: Literal["finished", "interrupted", "stopped"]
    folder: Path
    images_seen: int
    best: tuple[str, float] | None


def start(
    options: TrainOptions, dataset: Dataset, out: Path, *, resume: Path | None = None,
    listen: Callable[[Event], None] | None = None, started: float | None = None,
) -> Training:  # fmt: skip
    """Opens `resume`, or the unfinished run of the same settings and data in `out`, else begins a new run.

    `started` is the `time.monotonic()` of the process's start, from which a budget counts.
    """
    world = current()
    keep_large_blocks()
    _, family = bind(options, dataset)
    if family.training.batch < world.size:
        raise UserError("--batch", family.training.batch, f"a picture for each of {world.size} processes at least",
                        "start fewer processes")  # fmt: skip
    run = None
    if world.is_writer:
        with alone():  # its steps for timing are its own
            run = _open(options, dataset, family, out, resume)
    shared = world.share({"path": str(run.path), "data": dataset.key} if run else None)
    if shared["data"] != dataset.key:
        raise UserError("DATA", dataset.name, "the same pictures in every process", "copy them to every machine")
    run = run or RunFolder(Path(shared["path"]), None)
    try:
        # What was chosen when the run began holds, wherever it goes on.
        return Training(options, dataset, recorded(run.config["resolved"]), run, listen, started)
    except BaseException:
        run.close()
        raise


def _open(options: TrainOptions, dataset: Dataset, family: Family, out: Path, resume: Path | None) -> RunFolder:
    """The run to go on with, or a new one."""
    asked = {"options": options.to_json(), "data": dataset.key}
    run = RunFolder.open(resume) if resume else RunFolder.find_unfinished(out, asked)
    if run is None:
        if options.init is not None:
            read_source(options.init)  # a mistake in it leaves no run behind
        config = {"asked": asked, "resolved": resolve(options, dataset)}
        run = RunFolder.create(out, f"{family.name}-{dataset.name}", config)
    if run.config["asked"]["data"] != dataset.key:
        run.close()
        raise UserError("--resume", str(run.path), "a run of the same data", "the data have changed: begin a new run")
    return run


class Training:
    """One run in this process: everything the loop changes, and the loop."""

    def __init__(
        self, options: TrainOptions, dataset: Dataset, family: Family, run: RunFolder,
        listen: Callable[[Event], None] | None = None, started: float | None = None,
    ) -> None:  # fmt: skip
        self.options, self.dataset, self.folder = options, dataset, run
        self.listen = listen or (lambda event: None)
        run.listen = lambda line: self.listen(Event("log", line))
        self.resolved: dict[str, Any] = run.config["resolved"]
        self.device = choose_device(self.resolved["device"])
        self.world = current()
        self.clock = Clock(self.world)
        self.feed = Feed(
            dataset, family.conditional, options, self.device, family.semi_supervised, family.watches_validation
        )
        if self.device.type != "cpu":
            self.feed.keep_on_device(free_bytes(self.device) // 4)
        self.stages = family.stages()
        torch.manual_seed(seed_of(options.seed, "initial weights"))
        networks = {part: network.to(self.device) for part, network in family.build().items()}
        self.transferred = self._begun_with(family, networks)
        arithmetic = self.resolved["precision"], self.resolved["kernels"]
        # Averages to tune afterwards cost two passes over the weights a step: not worth it for a short run.
        power = self.resolved["total_images"] >= POWER_STEPS * family.training.batch
        self.stepper = Stepper(family, networks, *arithmetic, options.micro_batch or 0, power)
        self.stepper.say = run.log
        began = self.world.share(time.monotonic() if started is None else started)
        self.pace = Pace(options, self.stages, family.training.batch, self.resolved["total_images"], began, self.clock)
        self.selection = Selection(run, dataset, self.device)
        self.state = State(run, options, family, self.stepper, self.pace, self.selection, self.world)
        self.statistics, self.watchdog = self.state.statistics, self.state.watchdog
        self.state.restore()

    def _begun_with(self, family: Family, networks: dict[str, nn.Module]) -> list[Row]:
        """Puts the weights of `--init` into new networks; says what became of each tensor, nothing without."""
        if self.options.init is None or StateStore(self.folder.path / "state").names():
            return []
        classes = self.dataset.classes if family.classes else ()
        rows = take_over(networks, read_source(self.options.init), family.spec, classes)
        self.folder.log(f"begun with {self.options.init}: {summary(rows)}")
        return rows

    @property
    def family(self) -> Family:
        """The method as it is now."""
        return self.state.family

    @property
    def images_seen(self) -> int:
        """Training images shown so far."""
        return self.pace.images_seen

    @property
    def elapsed(self) -> float:
        """Seconds of all sittings together, each from its process's start."""
        return self.pace.elapsed

    def save(self, best: bool = False) -> None:
        """Writes a resume state; `best` marks that of the best model."""
        self.state.save(best)

    # -- the loop --------------------------------------------------------------------------------------------------
    def run(self, score: Score | None = None, stop: Callable[[int], bool] | None = None) -> Outcome:
        """Trains to the end of the plan, or until a signal or `stop(images_seen)` says to save and leave."""
        with contextlib.closing(self.folder), contextlib.closing(self.feed), stop_signals() as signalled:
            self._begin(score)
            while True:
                self._open_codes()
                ended = self._run_stage(
                    score, lambda: signalled.is_set() or (stop is not None and stop(self.images_seen))
                )
                if ended == "left":
                    self.save()
                    self.folder.log(f"interrupted at {self.images_seen} images, state saved; the same command goes on")
                    return self._outcome("interrupted")
                if ended == "stopped":
                    return self._outcome("stopped")
                if self.pace.in_last_stage:
                    break
                self.pace.next_stage()
                self.folder.log(f"stage {self.stages[self.pace.stage].name} begins at {self.images_seen} images")
                self._begin_stage(score)
            self.save()
            self.state.finish()
            self.folder.log(f"finished: {self.images_seen} images in {self.elapsed:.0f} s, "
                            f"{self.feed.waiting:.1%} of this sitting waiting for data")  # fmt: skip
            self.world.wait()
            return self._outcome("finished")

    def _outcome(self, status: Literal["finished", "interrupted", "stopped"]) -> Outcome:
        return Outcome(status, self.folder.path, self.images_seen, self.selection.best)

    def _begin_stage(self, score: Score | None) -> None:
        """Tells the watchdog, and keeps the state to go back to."""
        self.watchdog.begin_stage(self.images_seen)
        began, known = time.monotonic(), {}
        if self.pace.in_last_stage and self.world.is_writer:
            with alone():
                known = self.selection.untrained(self.model, score)
        said: dict[str, Any] = self.world.share({"known": known, "seconds": time.monotonic() - began})
        self.watchdog.know(said["known"])
        self.pace.took_snapshot(said["seconds"])
        self.save()

    def _begin(self, score: Score | None) -> None:
        if self.images_seen:
            return
        self._begin_stage(score)
        if not self.world.is_writer:
            return
        rates = self.resolved["images_per_second"]
        timed = ", ".join(f"{name} {rate:.0f} images/s" for name, rate in rates.items())
        self.folder.log(f"{self.resolved['model']} on {self.resolved['data']}: {len(self.feed.positions)} pictures "
                        f"{self.family.spec}, {self.resolved['device']}"
                        + (f", {self.world.size} processes" if self.world.size > 1 else ""))  # fmt: skip
        for each in self.resolved.get("chosen", []):
            settings = ", ".join(f"{key} {value}" for key, value in each["settings"].items())
            self.folder.log(f"chosen: {settings}: {each['why']}")
        self.folder.log(f"{self.resolved['precision']} arithmetic, {self.resolved['kernels']} kernels (timed: {timed})")
        with self.state.disk("sheet of real pictures"):
            save_png(real_sheet(self.dataset, self.family.conditional), self.folder.path / "reals.png")

    def _open_codes(self) -> None:
        """Where the present stage trains on codes: makes them once, a resume takes the same file."""
        stage = self.stages[self.pace.stage]
        self.feed.codes = None
        if not stage.codes:
            return
        if not self.world.is_writer:
            self.world.wait()  # one makes them
        moving = {part for later in self.stages[self.pace.stage :] for phase in later.phases for part in phase.parts}
        with self.stepper.at_rest() as networks:
            still = {part: net for part, net in networks.items() if part not in {*moving, *self.family.fitted_parts}}
            file = self.folder.path / f"codes-{stage.name}-{weights_hash(still)[:16]}.npy"
            with self.state.disk("codes"):
                if self.feed.encode(lambda images, labels: self.family.codes(stage, networks, images, labels), file):
                    self.folder.log(f"codes of {len(self.feed.positions)} pictures for stage {stage.name}")
                    for other in self.folder.path.glob(f"codes-{stage.name}-*.npy"):
                        if other != file:
                            other.unlink()
        if self.world.is_writer:
            self.world.wait()

    def _run_stage(self, score: Score | None, leave: Callable[[], bool]) -> Literal["over", "left", "stopped"]:
        """Steps until the plan of the present stage is fulfilled, unless it is left or the watchdog stops it before."""
        pace, options, size = self.pace, self.options, self.family.training.batch
        stepping, shown, looked = 0.0, 0, False  # of this sitting
        last_state = last_plan = last_event = pace.elapsed
        # One step at least, however short the budget: what is called finished was trained.
        while pace.progress < 1.0 and (pace.seconds_to_train() > 0 or not pace.in_stage):
            if self.clock.tick(leave()):
                return "left"
            began = self.clock()
            self._step(size)
            finding = self._status() if pace.due(STATUS_ROWS, pace.rows) else None
            self.clock.tick()
            stepping, shown = stepping + self.clock() - began, shown + size
            rate, now = shown / stepping, pace.elapsed
            # A stage's first look comes soon: what a stage before it took says nothing about this one.
            wait = min(REPLAN_SHARE * (options.budget or 0), math.inf if looked else FIRST_LOOK_SECONDS)
            if options.budget and now - last_plan > wait:
                looked, last_plan = True, now
                pace.replan(rate)
            better = False
            if finding is None and pace.due(options.snapshots, pace.snapshots):
                pace.snapshots += 1
                if pace.snapshot_is_affordable():
                    better, finding = self._snapshot(score)
            if now - last_event > 0.25:
                self._show(rate)
                last_event = now
            if finding is not None:
                if not self.state.mend(finding):
                    return "stopped"
                continue
            # Before that nothing was judged, and there is the beginning to go back to.
            if pace.due(MOMENTS, pace.averages):
                self.state.keep_averages()
            marked = pace.steps >= WARMUP_STEPS and pace.due(MARKS, pace.marks) and self.state.mark()
            late = pace.elapsed - last_state > min(STATE_SECONDS, 0.05 * (now + pace.seconds_left(rate)))
            if better or marked or late:
                self.save(better)
                last_state = pace.elapsed
        if pace.snapshots < options.snapshots:  # the clock ended the stage before its last snapshot was due
            pace.snapshots = options.snapshots
            if pace.snapshot_images != self.images_seen:
                better, _ = self._snapshot(score)
                if better:
                    self.save(best=True)
        self.state.keep_averages()
        return "over"

    def _step(self, size: int) -> None:
        """One step of the loop: a batch of `size` pictures through all phases that are due."""
        pace, own = self.pace, self.world.slice(size)
        batch = self.feed.batch(self.images_seen, size)
        average = average_factor(self.family.training, pace.in_stage, pace.plan.total_images)
        progress = pace.progress
        for phase in self.stages[pace.stage].phases_at(pace.in_stage // size):
            # All processes draw the noise of the whole batch, and each keeps its slice.
            key = self.options.seed, self.watchdog.rollbacks, phase.name, self.images_seen
            drawn = training_noise(self.family, size, self.device, *key)
            noise = {name: value[own] for name, value in drawn.items()}
            terms, skipped = self.stepper.step(phase, batch, noise, progress=progress, average=average, total=size)
            self.statistics.add(phase.name, terms, skipped)
        pace.images_seen += size

    def _show(self, rate: float) -> None:
        self.listen(Event("progress", images_seen=self.images_seen,
                          total_images=self.pace.stage_start + self.pace.plan.total_images, images_per_second=rate,
                          seconds_left=self.pace.seconds_left(rate), terms=self.state.terms))  # fmt: skip

    def _status(self) -> Finding | None:
        """Reads the statistics of the device and writes a row; returns a fault that the watchdog sees in it."""
        self.pace.rows = math.floor(self.pace.progress * STATUS_ROWS)
        self.state.terms = self.statistics.read() | self.stepper.weight_norms(self.stages[self.pace.stage])
        self.state.row(**{"waiting for data": round(self.feed.waiting, 4)}, **self.state.terms)
        finding = self.watchdog.see_statistics(
            self.state.terms, self.statistics.skipped_in_a_row, self.pace.progress, self.pace.steps
        )
        return self.state.told(finding)

    def _snapshot(self, score: Score | None) -> tuple[bool, Finding | None]:
        """Sheets, and in the last stage the score that chooses the model; returns whether the model is the best so far
        and a fault that the watchdog sees.

        Before the last stage there is nothing to sample: what can be shown are reconstructions.
        """
        began, found = time.monotonic(), Evaluation()
        if self.world.is_writer:
            with self.state.disk("snapshot"), alone():
                if self.pace.in_last_stage:
                    with self.stepper.at_rest() as networks:
                        self.family.fit(networks, self.feed.once, seed_of(self.options.seed, "fit", self.images_seen))
                    found = self.selection.choose(self.model, score, self.elapsed)
                self.selection.show(self.model)
        # The others wait, and hear what they would decide otherwise than the first one.
        said: dict[str, Any] = self.world.share({"seconds": time.monotonic() - began, "best": self.selection.best,
                                                 "seen": found.seen, "better": found.better})  # fmt: skip
        self.selection.best = (said["best"][0], said["best"][1]) if said["best"] else None
        self.pace.took_snapshot(said["seconds"])
        stage = "" if self.pace.in_last_stage else f" in stage {self.stages[self.pace.stage].name}"
        self.folder.log(f"snapshot at {self.images_seen} images{stage}{found.said}")
        finding = None
        if said["seen"]:
            finding = self.watchdog.see_evaluation(said["seen"], self.pace.progress, self.pace.steps)
        return said["better"], self.state.told(finding)

    @property
    def model(self) -> Model:
        """The averaged networks as they are now."""
        classes = self.dataset.classes if self.family.classes else ()
        counts = tuple(int((self.dataset.train.labels == label).sum()) for label in range(len(classes)))
        about = {"data": self.dataset.name, "fingerprint": self.dataset.fingerprint, "images_seen": self.images_seen,
                 "train_pictures": len(self.feed.positions)}  # fmt: skip
        return Model(self.family, self.stepper.averaged, self.resolved["model"], classes, counts, "", about)
