"""THE loop: takes a family, a data set and callbacks; never subclassed. `start` opens a run, `Training.run` trains
it."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from zeuxis.checkpoint import Model, StateStore, weights_hash
from zeuxis.config import TrainOptions
from zeuxis.data import Dataset
from zeuxis.distributed import Clock, current
from zeuxis.errors import RunFault, StateError, UserError
from zeuxis.families.base import Family
from zeuxis.feed import Feed
from zeuxis.images import save_png
from zeuxis.metrics.model import classified_right
from zeuxis.planning import Plan, bind, choose_device, resolve
from zeuxis.randomness import generator_for, seed_of
from zeuxis.runs import RunFolder
from zeuxis.sampling import Sampler, synthetic_mark
from zeuxis.signals import stop_signals
from zeuxis.snapshot import real_sheet, reconstruction_sheet, sample_sheet, write_model
from zeuxis.steps import Stepper, average_factor
from zeuxis.tracking import Statistics

SKIPS_IN_A_ROW = 10  # that many non-finite steps without a good one between them end the run
LARGE_IN_A_ROW = 200  # that many steps above `skip_norm` without one below it end the run
STATUS_ROWS = 200  # rows of stats.jsonl over a stage
SNAPSHOT_SHARE = 0.1  # of a budget that samples, scores and model folders may take
REPLAN_SHARE, FIRST_LOOK_SECONDS = 0.02, 1.0  # of the budget between two looks at the clock; until the first at most
STATE_SECONDS = 60.0
CLASSIFIED_PICTURES = 2000  # validation pictures whose classes are guessed at a snapshot, at most
# `make` and `timeout` pass a signal on that the whole process group was sent already: that is not a second one.
EXIT_SECONDS = 0.3  # what the process needs after its last file

# (pictures uint8 [n, C, H, W] of the averaged networks from fixed seeds) -> (metric, value); lower is better.
Score = Callable[[Iterator[NDArray[np.uint8]]], tuple[str, float]]


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
    """How a sitting ended: `finished`, or `interrupted` with everything saved."""

    status: Literal["finished", "interrupted"]
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
    _, family = bind(options, dataset)
    if family.training.batch < world.size:
        raise UserError("--batch", family.training.batch, f"a picture for each of {world.size} processes at least",
                        "start fewer processes")  # fmt: skip
    run = _open(options, dataset, family, out, resume) if world.is_writer else None
    shared = world.share({"path": str(run.path), "data": dataset.key} if run else None)
    if shared["data"] != dataset.key:
        raise UserError("DATA", dataset.name, "the same pictures in every process", "copy them to every machine")
    run = run or RunFolder(Path(shared["path"]), None)
    try:
        return Training(options, dataset, family, run, listen, started)
    except BaseException:
        run.close()
        raise


def _open(options: TrainOptions, dataset: Dataset, family: Family, out: Path, resume: Path | None) -> RunFolder:
    """The run to go on with, or a new one."""
    asked = {"options": options.to_json(), "data": dataset.key}
    run = RunFolder.open(resume) if resume else RunFolder.find_unfinished(out, asked)
    if run is None:
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
        self.options, self.dataset, self.family, self.folder = options, dataset, family, run
        self.listen = listen or (lambda event: None)
        run.listen = lambda line: self.listen(Event("log", line))
        self.resolved: dict[str, Any] = run.config["resolved"]
        self.device = choose_device(self.resolved["device"])
        self.world = current()
        self.clock = Clock(self.world)
        self.feed = Feed(dataset, family.conditional, options, self.device, family.semi_supervised)
        self.states = StateStore(run.path / "state")
        self.stages = family.stages()
        torch.manual_seed(seed_of(options.seed, "initial weights"))
        networks = {part: network.to(self.device) for part, network in family.build().items()}
        arithmetic = self.resolved["precision"], self.resolved["kernels"]
        self.stepper = Stepper(family, networks, *arithmetic, options.micro_batch or 0)
        self.stepper.say = run.log
        self.statistics = Statistics(self.device)
        self.started, self.elapsed_before = self.world.share(time.monotonic() if started is None else started), 0.0
        # Counters, all of them in the resume state.
        self.images_seen = self.stage = self.stage_start = 0
        self.total_images: int = self.resolved["total_images"]  # of all stages, where no clock bends their plans
        self.rows = self.snapshots = self.rollbacks = 0
        self.snapshot_seconds = self.snapshot_total = 0.0  # of one, of all
        self.snapshot_images = -1  # where the last one was taken
        self.best: tuple[str, float] | None = None
        self.plan = self._plan_of()
        self.terms: dict[str, float] = {}
        self._restore()

    # -- time and length -------------------------------------------------------------------------------------------
    @property
    def elapsed(self) -> float:
        """Seconds of all sittings together, each from its process's start."""
        return self.elapsed_before + self.clock() - self.started

    @property
    def in_stage(self) -> int:
        """Images seen in the present stage."""
        return self.images_seen - self.stage_start

    @property
    def in_last_stage(self) -> bool:
        """Whether the model is whole: it can be sampled, scored and chosen."""
        return self.stage == len(self.stages) - 1

    def _plan_of(self) -> Plan:
        """The plan of the present stage, as long as its share of all images."""
        batch = self.family.training.batch
        return Plan(max(1, math.ceil(self.total_images * self.stages[self.stage].share / batch)) * batch)

    @property
    def _share_begun(self) -> float:
        """The share of the budget that the stages up to the present one have together."""
        return min(1.0, sum(stage.share for stage in self.stages[: self.stage + 1]))

    def _seconds_to_train(self) -> float:
        """What the budget leaves for steps of this stage, after what is still to be written; infinite without one."""
        if self.options.budget is None:
            return math.inf
        ends = self.options.budget * self._share_begun
        return ends - self.elapsed - self._snapshot_reserve() - (EXIT_SECONDS if self.in_last_stage else 0.0)

    def _snapshot_reserve(self) -> float:
        """Seconds that the snapshots to come take: within their share of a budget, and the last one in any case."""
        to_come = (self.options.snapshots - self.snapshots) * self.snapshot_seconds
        if self.options.budget is None:
            return to_come
        left = SNAPSHOT_SHARE * self.options.budget * self._share_begun - self.snapshot_total
        return min(to_come, max(self.snapshot_seconds, left))

    def _snapshot_is_affordable(self) -> bool:
        """Whether one more snapshot, and the last one after it, fit into their share of the budget."""
        if self.options.budget is None or self.snapshots + 1 >= self.options.snapshots:
            return True
        allowed = SNAPSHOT_SHARE * self.options.budget * self._share_begun
        return self.snapshot_total + 2 * self.snapshot_seconds <= allowed

    def _replan(self, images_per_second: float) -> None:
        """Bends the plan to what this machine does, so that schedules end when the budget does."""
        left = self._seconds_to_train()
        if left > 0 and math.isfinite(left):
            batch = self.family.training.batch
            self.plan.replan(self.in_stage, self.in_stage + math.ceil(images_per_second * left / batch) * batch)

    # -- state -----------------------------------------------------------------------------------------------------
    def save(self, best: bool = False) -> None:
        """Writes a resume state; a full disk ends the run with the older states intact."""
        if not self.world.is_writer:
            return
        tensors = self.stepper.state()
        tensors |= {f"statistics.{key}": value for key, value in self.statistics.state().items()}
        values = {key: getattr(self, key) for key in (*COUNTERS, "elapsed", "terms")}
        values |= {"plan": self.plan.to_json(), "names": self.statistics.names}
        values |= {"micro_batch": self.stepper.micro_batch}  # memory may have made it smaller
        with self._disk("resume state"):
            self.states.save(self.images_seen, tensors, values, best)

    def _restore(self) -> None:
        """Goes on from the newest whole state, from nothing where there is none; a finished run is extended."""
        found, notes = self.states.load_latest()
        finished = self.world.share(self.folder.finished)  # read by one: who extends the run takes the mark away
        for note in notes:
            self.folder.log(note)
        if found is not None:
            tensors, values = found
            try:
                self.stepper.load_state(tensors)
                sums = {
                    key.removeprefix("statistics."): value
                    for key, value in tensors.items()
                    if key.startswith("statistics.")
                }
                self.statistics.load_state(sums, values["names"])
                for key in COUNTERS:
                    setattr(self, key, values.get(key, getattr(self, key)))
                self.plan, self.elapsed_before, self.terms = Plan(**values["plan"]), values["elapsed"], values["terms"]
                self.best = tuple(values["best"]) if values["best"] else None
                self.stepper.micro_batch = min(self.stepper.micro_batch, values.get("micro_batch", 65536))
            except (KeyError, TypeError, RuntimeError) as error:
                raise StateError(f"{self.states.folder} does not fit the config of this run: {error}") from None
            self.folder.log(f"resumed at {self.images_seen} images")
            if finished:
                self._extend()
            else:
                self._lengthen()
        elif notes:
            self.folder.log("no state is whole: starting again at 0 images")
        with self._disk("statistics"):
            self.folder.rewind(self.images_seen)
        self.world.wait()  # until all have read: the next states take the place of the older ones

    def _extend(self) -> None:
        """A finished run goes on in its last stage, towards a larger --kimg or --budget."""
        if self.options.kimg is not None:
            self.total_images = round(self.options.kimg * 1000)
        elif self.options.budget is not None:
            # What was spent of the new budget is the share of its schedules that is done.
            self.total_images = round(self.images_seen * max(1.0, self.options.budget / self.elapsed_before))
        plan = self._plan_of()
        if plan.total_images <= self.in_stage:
            raise UserError("--resume", str(self.folder.path), "a larger --kimg or --budget: this run is finished",
                            "or train anew without --resume")  # fmt: skip
        self.plan = plan
        self.snapshots = math.floor(plan.progress(self.in_stage) * self.options.snapshots)
        self.rows = math.floor(plan.progress(self.in_stage) * STATUS_ROWS)
        self.folder.reopen()

    def _lengthen(self) -> None:
        """An unfinished run that was asked for another --kimg bends its plan to it; a budget bends it by itself."""
        begun = self.folder.config["asked"]["options"].get("kimg")
        if self.options.kimg is None or self.options.kimg == begun:
            return
        self.total_images = round(self.options.kimg * 1000)
        plan = self._plan_of()
        if plan.total_images <= self.in_stage:
            raise UserError("--kimg", self.options.kimg, f"more than the {self.images_seen / 1000:g} that were shown",
                            "leave --kimg out to go on as it was begun")  # fmt: skip
        self.plan.replan(self.in_stage, plan.total_images)
        self.folder.log(f"length changed to {self.total_images} images")

    @contextlib.contextmanager
    def _disk(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise RunFault(f"could not write the {what} at {self.images_seen} images ({reason}); "
                           "older states are intact: "
                           "make room, then run the same command again") from None  # fmt: skip

    # -- the loop --------------------------------------------------------------------------------------------------
    def run(self, score: Score | None = None, stop: Callable[[int], bool] | None = None) -> Outcome:
        """Trains to the end of the plan, or until a signal or `stop(images_seen)` says to save and leave."""
        with contextlib.closing(self.folder), contextlib.closing(self.feed), stop_signals() as signalled:
            self._begin()
            while True:
                self._open_codes()
                if not self._run_stage(
                    score, lambda: signalled.is_set() or (stop is not None and stop(self.images_seen))
                ):
                    self.save()
                    self.folder.log(f"interrupted at {self.images_seen} images, state saved; the same command goes on")
                    return Outcome("interrupted", self.folder.path, self.images_seen, self.best)
                if self.in_last_stage:
                    break
                self.stage, self.stage_start, self.snapshots, self.rows = self.stage + 1, self.images_seen, 0, 0
                self.plan = self._plan_of()
                self.folder.log(f"stage {self.stages[self.stage].name} begins at {self.images_seen} images")
                self.save()
            self.save()
            with self._disk("mark of the end"):
                self.folder.finish({"images_seen": self.images_seen, "seconds": self.elapsed, "best": self.best})
            self.folder.log(f"finished: {self.images_seen} images in {self.elapsed:.0f} s, "
                            f"{self.feed.waiting:.1%} of this sitting waiting for data")  # fmt: skip
            self.world.wait()
            return Outcome("finished", self.folder.path, self.images_seen, self.best)

    def _begin(self) -> None:
        if self.images_seen or not self.world.is_writer:
            return
        rates = self.resolved["images_per_second"]
        timed = ", ".join(f"{name} {rate:.0f} images/s" for name, rate in rates.items())
        self.folder.log(f"{self.resolved['model']} on {self.resolved['data']}: {len(self.feed.positions)} pictures "
                        f"{self.family.spec}, {self.resolved['device']}"
                        + (f", {self.world.size} processes" if self.world.size > 1 else ""))  # fmt: skip
        self.folder.log(f"{self.resolved['precision']} arithmetic, {self.resolved['kernels']} kernels (timed: {timed})")
        with self._disk("sheet of real pictures"):
            save_png(real_sheet(self.dataset, self.family.conditional), self.folder.path / "reals.png")

    def _open_codes(self) -> None:
        """Where the present stage trains on codes: makes them once, a resume takes the same file."""
        stage = self.stages[self.stage]
        self.feed.codes = None
        if not stage.codes:
            return
        if not self.world.is_writer:
            self.world.wait()  # one makes them
        moving = {part for later in self.stages[self.stage :] for phase in later.phases for part in phase.parts}
        with self.stepper.at_rest() as networks:
            still = {part: net for part, net in networks.items() if part not in {*moving, *self.family.fitted_parts}}
            file = self.folder.path / f"codes-{stage.name}-{weights_hash(still)[:16]}.npy"
            with self._disk("codes"):
                if self.feed.encode(lambda images, labels: self.family.codes(stage, networks, images, labels), file):
                    self.folder.log(f"codes of {len(self.feed.positions)} pictures for stage {stage.name}")
                    for other in self.folder.path.glob(f"codes-{stage.name}-*.npy"):
                        if other != file:
                            other.unlink()
        if self.world.is_writer:
            self.world.wait()

    def _run_stage(self, score: Score | None, leave: Callable[[], bool]) -> bool:
        """Steps until the plan of the present stage is fulfilled; False where it was left before."""
        family, stepper, size = self.family, self.stepper, self.family.training.batch
        stepping, images_before, looked = 0.0, self.images_seen, False  # of this sitting
        own = self.world.slice(size)
        last_state = last_plan = last_shown = self.elapsed
        # One step at least, however short the budget: what is called finished was trained.
        while (progress := self.plan.progress(self.in_stage)) < 1.0 and (
            self._seconds_to_train() > 0 or not self.in_stage
        ):
            if self.clock.tick(leave()):
                return False
            began = self.clock()
            batch = self.feed.batch(self.images_seen, size)
            average = average_factor(family.training, self.in_stage, self.plan.total_images)
            for phase in self.stages[self.stage].phases_at(self.in_stage // size):
                generator = generator_for(self.options.seed, self.rollbacks, phase.name, self.images_seen)
                # All processes draw the noise of the whole batch, and each keeps its slice.
                noise = {
                    key: value[own].to(self.device) for key, value in family.noise(size, generator, "train").items()
                }
                terms, skipped = stepper.step(phase, batch, noise, progress=progress, average=average, total=size)
                self.statistics.add(phase.name, terms, skipped)
            self.images_seen += size
            progress = self.plan.progress(self.in_stage)
            if math.floor(progress * STATUS_ROWS) > self.rows:
                self._status(progress)
            self.clock.tick()
            stepping += self.clock() - began
            rate, now = (self.images_seen - images_before) / stepping, self.elapsed
            # A stage's first look comes soon: what a stage before it took says nothing about this one.
            wait = min(REPLAN_SHARE * (self.options.budget or 0), math.inf if looked else FIRST_LOOK_SECONDS)
            if self.options.budget and now - last_plan > wait:
                looked = True
                self._replan(rate)
                last_plan = now
            if math.floor(progress * self.options.snapshots) > self.snapshots:
                if self._snapshot_is_affordable():
                    self._snapshot(score)
                else:
                    self.snapshots += 1
            if now - last_shown > 0.25:
                self._show(rate)
                last_shown = now
            if self.elapsed - last_state > min(STATE_SECONDS, 0.05 * (now + self._seconds_left(rate))):
                self.save()
                last_state = self.elapsed
        if self.snapshots < self.options.snapshots:  # the clock ended the stage before its last snapshot was due
            self.snapshots = self.options.snapshots - 1
            if self.snapshot_images != self.images_seen:
                self._snapshot(score)
            self.snapshots = self.options.snapshots
        return True

    def _seconds_left(self, rate: float) -> float:
        steps = (self.plan.total_images - self.in_stage) / max(rate, 1e-9)
        return steps + self._snapshot_reserve()

    def _show(self, rate: float) -> None:
        self.listen(Event("progress", images_seen=self.images_seen,
                          total_images=self.stage_start + self.plan.total_images,
                          images_per_second=rate, seconds_left=self._seconds_left(rate), terms=self.terms))  # fmt: skip

    def _status(self, progress: float) -> None:
        """Reads the statistics of the device, writes a row, and stops a run whose steps are no longer finite."""
        self.rows = math.floor(progress * STATUS_ROWS)
        self.terms = self.statistics.read()
        with self._disk("statistics"):
            self.folder.row("stats.jsonl", {"images_seen": self.images_seen, "progress": progress,
                                            "seconds": round(self.elapsed, 3),
                                            "waiting for data": round(self.feed.waiting, 4), **self.terms})  # fmt: skip
        in_a_row = self.statistics.skipped_in_a_row
        if in_a_row >= SKIPS_IN_A_ROW:
            message = (f"the last {in_a_row} steps were not finite and were skipped; "
                       f"stopped at {self.images_seen} images: "
                       "try a smaller training.learning_rate by --set, or --precision float32")  # fmt: skip
            self.folder.log(message)
            raise RunFault(message)
        in_a_row = self.statistics.too_large_in_a_row
        if in_a_row >= LARGE_IN_A_ROW:
            message = (f"the gradients of the last {in_a_row} steps were longer than training.skip_norm = "
                       f"{self.family.training.skip_norm:g} and the steps were skipped; "
                       f"stopped at {self.images_seen} images: set a larger training.skip_norm by --set")  # fmt: skip
            self.folder.log(message)
            raise RunFault(message)

    def _snapshot(self, score: Score | None) -> None:
        """Sheets, and in the last stage the score that chooses the model, and its folder where it is the best so far.

        Before the last stage there is nothing to sample: what can be shown are reconstructions.
        """
        began = time.monotonic()
        self.snapshots += 1
        self.snapshot_images = self.images_seen
        result, better = "", False
        if self.world.is_writer:
            result, better = self._take_snapshot(score)
        # The others wait, and hear what they would decide otherwise than the first one.
        said: dict[str, Any] = self.world.share({"seconds": time.monotonic() - began, "best": self.best})
        self.snapshot_seconds = said["seconds"]
        self.best = (said["best"][0], said["best"][1]) if said["best"] else None
        self.snapshot_total += self.snapshot_seconds
        if better:
            self.save(best=True)
        stage = "" if self.in_last_stage else f" in stage {self.stages[self.stage].name}"
        self.folder.log(f"snapshot at {self.images_seen} images{stage}{result}")

    def _take_snapshot(self, score: Score | None) -> tuple[str, bool]:
        """What `_choose` returns, with everything written."""
        result, better = "", False
        with self._disk("snapshot"):
            if self.in_last_stage:
                with self.stepper.at_rest() as networks:
                    self.family.fit(networks, self.feed.once, seed_of(self.options.seed, "fit", self.images_seen))
                result, better = self._choose(score)
                result += self._classified()
            if "reconstruct" in self.family.capabilities:
                sheet = reconstruction_sheet(self.model, self.dataset, self.device)
                save_png(sheet, self._sheet_file("reconstructions"), synthetic_mark(self.model))
        return result, better

    def _choose(self, score: Score | None) -> tuple[str, bool]:
        """Samples from fixed seeds and scores them; writes the model where it is the best so far. Returns what to say
        of it, and whether it was written."""
        model = self.model
        sampler = Sampler(model, self.device)
        sheet = sample_sheet(sampler)
        save_png(sheet, self._sheet_file("samples"), synthetic_mark(model))
        name, value = score(sampler(range(10**9))) if score else ("images seen", -float(self.images_seen))
        if score:
            self.folder.row("metrics.jsonl", {"images_seen": self.images_seen, "metric": name, "value": value,
                                              "seconds": round(self.elapsed, 3)})  # fmt: skip
        better = self.best is None or not math.isfinite(self.best[1]) or value < self.best[1]
        if better:
            self.best = (name, value)
            model.about["chosen_by"] = f"{name} {value:.5g}" if score else "last snapshot"
            write_model(model, sheet, self.folder.path / "model")
        return (f": {name} {value:.5g}{', the best so far' if better else ''}" if score else ""), better

    def _classified(self) -> str:
        """What to say of how many validation pictures the averaged networks put into the right class."""
        if "classify" not in self.family.capabilities:
            return ""
        right = classified_right(self.model, self.dataset.val, CLASSIFIED_PICTURES, self.device)
        if not len(right):
            return ""
        self.folder.row("metrics.jsonl", {"images_seen": self.images_seen, "metric": "accuracy_val",
                                          "value": right.mean(), "seconds": round(self.elapsed, 3)})  # fmt: skip
        return f"; {right.mean():.2%} of {len(right)} validation pictures are put into their class"

    def _sheet_file(self, what: str) -> Path:
        # Short runs have several in one kimg.
        return self.folder.path / f"{what}-{self.images_seen / 1000:010.3f}kimg.png"

    @property
    def model(self) -> Model:
        """The averaged networks as they are now."""
        classes = self.dataset.classes if self.family.classes else ()
        counts = tuple(int((self.dataset.train.labels == label).sum()) for label in range(len(classes)))
        about = {"data": self.dataset.name, "fingerprint": self.dataset.fingerprint, "images_seen": self.images_seen,
                 "train_pictures": len(self.feed.positions)}  # fmt: skip
        return Model(self.family, self.stepper.averaged, self.resolved["model"], classes, counts, "", about)


COUNTERS = ("images_seen", "total_images", "stage", "stage_start", "rows", "snapshots", "rollbacks", "snapshot_seconds",
            "snapshot_total", "snapshot_images", "best")  # fmt: skip
