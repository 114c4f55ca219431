"""Everything that a training changes, and what is done with it as a whole: it is saved, restored, gone back to."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from zeuxis.checkpoint import AverageStore, StateStore
from zeuxis.config import TrainOptions
from zeuxis.distributed import World
from zeuxis.errors import RunFault, StateError, UserError
from zeuxis.families.base import Family
from zeuxis.pace import MARKS, MOMENTS, Pace
from zeuxis.runs import RunFolder
from zeuxis.selection import Selection
from zeuxis.steps import Stepper, under
from zeuxis.tracking import Statistics
from zeuxis.watchdog import MOST_ROLLBACKS, Finding, Watchdog


class State:
    """Networks, counters, statistics and what the watchdog knows: all of it is in the resume state.

    `family` is the method as it is now: rollbacks make it steadier than it was `given`.
    """

    def __init__(
        self, folder: RunFolder, options: TrainOptions, family: Family, stepper: Stepper, pace: Pace,
        selection: Selection, world: World,
    ) -> None:  # fmt: skip
        self.folder, self.options, self.world = folder, options, world
        self.given = self.family = family
        self.stepper, self.pace, self.selection = stepper, pace, selection
        self.statistics = Statistics(stepper.device)
        self.watchdog = Watchdog(family.watch)
        self.terms: dict[str, float] = {}  # of the last row of statistics
        self.states, self.averages = StateStore(folder.path / "state"), AverageStore(folder.path / "ema")

    # -- saving and restoring -----------------------------------------------------------------------------------------
    def save(self, best: bool = False) -> None:
        """Writes a resume state; a full disk ends the run with the older states intact. `best` marks that of the best
        model."""
        if not self.world.is_writer:
            return
        tensors = self.stepper.state()
        tensors |= {f"statistics.{key}": value for key, value in self.statistics.state().items()}
        values = {**self.pace.to_json(), "watchdog": self.watchdog.to_json(), "best": self.selection.best,
                  "terms": self.terms, "names": self.statistics.names,
                  "micro_batch": self.stepper.micro_batch}  # fmt: skip
        with self.disk("resume state"):
            self.states.save(self.pace.images_seen, tensors, values, best, self.watchdog.healthy)

    def _take_over(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Networks, statistics and counters of a state; `StateError` where it is not one of this run."""
        try:
            self.stepper.load_state(tensors)
            self.statistics.load_state(under("statistics", tensors), values["names"])
            self.terms = values["terms"]
            # Memory may have made it smaller.
            self.stepper.micro_batch = min(self.stepper.micro_batch, values["micro_batch"])
        except (KeyError, TypeError, RuntimeError) as error:
            raise StateError(f"{self.states.folder} does not fit the config of this run: {error}") from None

    def restore(self) -> None:
        """Goes on from the newest whole state, from nothing where there is none; a finished run is extended."""
        found, notes = self.states.load_latest()
        finished = self.world.share(self.folder.finished)  # read by one: who extends the run takes the mark away
        for note in notes:
            self.folder.log(note)
        if found is not None:
            tensors, values = found
            self._take_over(tensors, values)
            try:
                self.pace.load(values)
                self.watchdog.load(values["watchdog"])
                self.selection.best = tuple(values["best"]) if values["best"] else None
            except (KeyError, TypeError) as error:
                raise StateError(f"{self.states.folder} does not fit this version of Zeuxis: {error!r}") from None
            self._steady()
            self.folder.log(f"resumed at {self.pace.images_seen} images")
            self._go_on(finished)
        elif notes:
            self.folder.log("no state is whole: starting again at 0 images")
        with self.disk("statistics"):
            self.folder.rewind(self.pace.images_seen, self.watchdog.rollbacks)
        if self.world.is_writer:
            self.averages.drop_after(self.pace.images_seen)
        self.world.wait()  # until all have read: the next states take the place of the older ones

    def _go_on(self, finished: bool) -> None:
        """Another --kimg or --budget than the run was begun with makes it longer."""
        if finished:
            if not self.pace.extend():
                raise UserError("--resume", str(self.folder.path), "a larger --kimg or --budget: this run is finished",
                                "or train anew without --resume")  # fmt: skip
            self.folder.reopen()
            return
        begun = self.folder.config["asked"]["options"].get("kimg")
        if self.options.kimg is None or self.options.kimg == begun:
            return
        if not self.pace.lengthen():
            shown = f"more than the {self.pace.images_seen / 1000:g} that were shown"
            raise UserError("--kimg", self.options.kimg, shown,
                            "leave --kimg out to go on as it was begun")  # fmt: skip
        self.folder.log(f"length changed to {self.pace.total_images} images")

    @contextlib.contextmanager
    def disk(self, what: str) -> Iterator[None]:
        """Within the block, a full or broken disk ends the run with one line (`RunFault`) that names `what`."""
        try:
            yield
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise RunFault(f"could not write the {what} at {self.pace.images_seen} images ({reason}); "
                           "older states are intact: "
                           "make room, then run the same command again") from None  # fmt: skip

    def finish(self, **more: str) -> None:
        with self.disk("mark of the end"):
            self.folder.finish({"images_seen": self.pace.images_seen, "seconds": self.pace.elapsed,
                                "best": self.selection.best, **more})  # fmt: skip

    # -- what the watchdog finds -----------------------------------------------------------------------------------
    def told(self, finding: Finding | None) -> Finding | None:
        """A fault to be mended; what can only be told is told."""
        if finding is None or finding.action == "roll back":
            return finding
        self._decided(finding, f"at {self.pace.images_seen} images {finding.reason}")
        return None

    def _decided(self, finding: Finding, sentence: str, **more: Any) -> None:
        """Every decision is a line of the log and a row of the statistics."""
        self.row(watchdog=finding.rule, action=finding.action, sentence=sentence, **more)
        self.folder.log(sentence)

    def mark(self) -> bool:
        """Whether the present state is to be kept as one to go back to."""
        self.pace.marks = math.floor(self.pace.progress * MARKS)
        return self.watchdog.mark(self.pace.images_seen)

    def _steady(self) -> None:
        """The method as it is after so many rollbacks."""
        self.family = self.stepper.family = self.given.steadied(self.watchdog.rollbacks)

    def mend(self, finding: Finding) -> bool:
        """Goes back to the last good state; False where the run is stopped instead, with its best model kept."""
        noticed, state = self.pace.images_seen, None
        target = self.watchdog.go_back()
        while target is not None and state is None:
            try:
                state = self.states.load(f"{target:012d}")
            except StateError as error:
                self.folder.log(f"{error}; going back further")
                target = self.watchdog.forget()
        if state is None or target is None:
            return self._give_up(finding)
        self.world.wait()  # until all have read
        if self.world.is_writer:
            self.states.drop_after(target)
            self.averages.drop_after(target)
        self._take_over(*state)
        self.pace.go_back(state[1])
        self.watchdog.return_to(state[1]["watchdog"])
        self._steady()
        with self.disk("statistics"):
            self.folder.rewind(self.pace.images_seen, self.watchdog.rollbacks)
        change = "the learning rate halved" + (" and the penalty doubled" if self.family.steadying else "")
        times = f"{self.watchdog.rollbacks} of at most {MOST_ROLLBACKS} times"
        sentence = (f"{finding.reason}, noticed at {noticed} images: went back to {self.pace.images_seen} images with "
                    f"{change} ({times})")  # fmt: skip
        self._decided(finding, sentence, noticed_at=noticed, rollbacks=self.watchdog.rollbacks)
        self.save()
        return True

    def _give_up(self, finding: Finding) -> bool:
        """Stops the run for good: with the best model so far, else with an error."""
        best, times = self.selection.best, self.watchdog.rollbacks
        sentence = (
            f"{finding.reason}, noticed at {self.pace.images_seen} images after going back {times} times: stopped"
        )
        if best is None:
            sentence += ", and no model was good enough to be kept: try a smaller training.learning_rate by --set, "
            sentence += "or --precision float32"
            self.folder.log(sentence)
            raise RunFault(sentence)
        sentence += f"; the best model so far is kept ({best[0]} {best[1]:.5g})"
        self._decided(Finding(finding.rule, finding.reason, "stop"), sentence)
        self.finish(stopped=sentence)
        return False

    def keep_averages(self) -> None:
        """In the last stage, the averages that others are made from after training."""
        self.pace.averages = math.floor(self.pace.progress * MOMENTS)
        tensors, count = self.stepper.power_averages()
        if tensors and self.pace.in_last_stage and self.world.is_writer:
            with self.disk("averages"):
                self.averages.save(self.pace.images_seen, tensors, count)

    def row(self, **more: Any) -> None:
        with self.disk("statistics"):
            self.folder.row("stats.jsonl", {"images_seen": self.pace.images_seen, "progress": self.pace.progress,
                                            "seconds": round(self.pace.elapsed, 3), **more})  # fmt: skip
