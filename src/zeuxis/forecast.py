"""What each preset would take on this machine: a few real steps of it, timed once and remembered, and the one to train
within a budget."""

from __future__ import annotations

import json
import math
import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from zeuxis.checkpoint import Model, Undrawn
from zeuxis.config import TrainOptions, fingerprint
from zeuxis.data import Dataset
from zeuxis.data.cache import cache_root
from zeuxis.errors import UserError
from zeuxis.families import FAMILIES, model_names, resolve_name
from zeuxis.families.base import Family, Stage
from zeuxis.feed import Feed, training_noise
from zeuxis.files import write_json
from zeuxis.memory import MemoryWatch, free_bytes, is_out_of_memory
from zeuxis.planning import Arithmetic, bind, choose_arithmetic, choose_device
from zeuxis.recording import WARM_UP
from zeuxis.sampling import Sampler
from zeuxis.steps import Stepper
from zeuxis.tracking import Statistics

FORMAT = 3  # of what is measured: a change makes older entries unknown
PRESET_SECONDS = 12.0  # that one preset may take about; a slower one is timed on fewer pictures, and said to be rough
PHASE_SECONDS = 0.5  # that each phase is timed for, two steps at least
PROBE_SHARE = 8  # the first step takes this part of a batch: it says whether a whole one fits, and how long it takes
MODEL_BYTES = 4 * 5  # of each parameter while it trains: weight, gradient, two moments, average
STATE_COPIES = 2  # of weights, averages and moments, while a resume state is written
SNAPSHOT_PICTURES = 64 + 1024  # drawn at each snapshot: the sheet and what the score judges, in whole chunks
SNAPSHOT_SHARE = 0.1  # of a budget that snapshots may take
TINY = "tiny"  # presets for tests, which nobody should be advised to train

Score = Callable[[Iterator[NDArray[np.uint8]]], object]  # what judges a snapshot; only its time counts


@dataclass(frozen=True)
class Measured:
    """What a few steps of a preset showed. `stage_rates` are images per second of each stage, `sample_seconds` the
    time of one picture, `codes_seconds` that of encoding one for a stage with codes, `peak_bytes` the memory of a whole
    training, `timing_seconds` what choosing number format and kernels took; `rough` where a whole batch would have
    taken too long or too much memory, and a part of it was scaled."""

    stage_rates: tuple[float, ...]
    sample_seconds: float
    codes_seconds: float
    peak_bytes: int
    parameters: int
    arithmetic: str
    micro_batch: int
    rough: bool
    load: float
    timing_seconds: float


@dataclass(frozen=True)
class Forecast:
    """One row of a plan. `seconds` is for the preset's own length of `kimg` (or the one asked for); `budget_kimg` what
    a budget allows (None without one); `problem` why it cannot be trained here, then everything else is zero."""

    model: str
    about: str
    problem: str = ""
    images_per_second: float = 0.0
    peak_bytes: int = 0
    parameters: int = 0
    batch: int = 0
    micro_batch: int = 0
    arithmetic: str = ""
    kimg: float = 0.0
    seconds: float = 0.0
    budget_kimg: float | None = None
    rough: bool = False
    load: float = 0.0

    @property
    def share(self) -> float:
        """The part of its own length that the budget allows."""
        return math.inf if self.budget_kimg is None else self.budget_kimg / self.kimg

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def matching(name: str) -> list[str]:
    """Every full model name that `name` (a family, network or preset, also in short form; empty: all) stands for."""
    full = [key for key, _ in model_names()]
    if not name:
        return full
    parts = name.split("/")
    first = 0 if parts[0] in FAMILIES else 1
    found = [key for key in full if key.split("/")[first : first + len(parts)] == parts]
    resolve_name(name)  # refuses what is unknown or not unique
    return found


def forecasts(
    options: TrainOptions, dataset: Dataset, names: list[str], *, patience: float = 120.0, startup: float = 0.0,
    score: Score | None = None, fresh: bool = False, progress: Callable[[str, int, int], None] | None = None,
) -> list[Forecast]:  # fmt: skip
    """A row for each of `names`, in order. No new measurement is begun after `patience` seconds, the first preset of
    each network first; what was measured before on this machine is read from the user's cache unless `fresh`.

    `startup` are the seconds from a process's start until its data are open; `score` is what judges snapshots.
    """
    began, abouts = time.monotonic(), {name: preset.about for name, preset in model_names()}
    positions = {name: [*FAMILIES[name.split("/")[0]].presets()[name.split("/")[1]]].index(name.split("/")[2])
                 for name in names}  # fmt: skip
    judged = _score_seconds(score, dataset) if score else 0.0
    rows: dict[str, Forecast] = {}
    for done, name in enumerate(sorted(names, key=positions.__getitem__)):
        if progress:
            progress(f"timing {name}", done, len(names))
        own = options.model_copy(update={"model": name})
        try:
            _, family = bind(own, dataset)
            late = time.monotonic() - began > patience and bool(rows)
            measured = measure_preset(own, family, dataset, fresh=fresh, only_known=late)
            rows[name] = _forecast(name, abouts[name], own, family, dataset, measured, startup, judged)
        except UserError as error:
            rows[name] = Forecast(name, abouts[name], f"not for these pictures: {error.option} is {error.allowed}")
        except (NotMeasuredError, NotImplementedError) as error:
            rows[name] = Forecast(name, abouts[name], str(error))
    return [rows[name] for name in names]


class NotMeasuredError(Exception):
    """A preset that could not be timed; the text is the reason as the user reads it."""


def picked(rows: list[Forecast], budget: float) -> tuple[Forecast, str] | None:
    """The row to train within `budget` seconds, with the reason in words; None where nothing can be trained.

    Of those that come to the end of their own length the one that computes most: it is what a larger preset buys.
    Where none does, the one that gets furthest.
    """
    fit = [row for row in rows if not row.problem and row.model.split("/")[-1] != TINY]
    whole = [row for row in fit if row.share >= 1]
    if whole:
        best = max(whole, key=lambda row: row.seconds)
        beyond = [row.model for row in fit if row.share < 1]
        reason = f"it comes to the end of its length ({best.kimg:g} kimg) in {_words(best.seconds)} of {_words(budget)}"
        if len(whole) > 1:
            reason += f", and of the {len(whole)} that do it computes most"
        return best, reason + (f"; {', '.join(beyond)} would not come to their end" if beyond else "")
    if fit:
        best = max(fit, key=lambda row: row.share)
        what = "it gets furthest" if len(fit) > 1 else "it is the only one"
        return best, f"{what}: {best.share:.0%} of its length ({best.kimg:g} kimg), for which " \
                     f"{_words(best.seconds)} would be needed"  # fmt: skip
    return None


def _words(seconds: float) -> str:
    for unit, size in (("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {'hours' if unit == 'h' else 'minutes'}"
    return f"{seconds:.0f} seconds"


# -- from what was measured to a row -----------------------------------------------------------------------------------
def _forecast(
    name: str, about: str, options: TrainOptions, family: Family, dataset: Dataset, measured: Measured, startup: float,
    judged: float,
) -> Forecast:  # fmt: skip
    kimg = options.kimg or float(family.training.kimg)
    stages = family.stages()
    per_image = sum(stage.share / rate for stage, rate in zip(stages, measured.stage_rates, strict=True))
    sides = 2 if options.mirror else 1
    fixed = (
        startup
        + measured.timing_seconds
        + sum(measured.codes_seconds * len(dataset.train) * sides for stage in stages if stage.codes)
    )
    snapshot = SNAPSHOT_PICTURES * measured.sample_seconds + judged
    snapshots = options.snapshots * len(stages) * snapshot
    budget_kimg = None
    if options.budget is not None:
        left = options.budget - fixed - min(snapshots, max(snapshot, SNAPSHOT_SHARE * options.budget))
        budget_kimg = max(0.0, left) / per_image / 1000
    return Forecast(
        name, about, "", 1 / per_image, measured.peak_bytes, measured.parameters, family.training.batch,
        measured.micro_batch, measured.arithmetic, kimg, fixed + kimg * 1000 * per_image + snapshots, budget_kimg,
        measured.rough, measured.load,
    )  # fmt: skip


# -- measuring ---------------------------------------------------------------------------------------------------------
def measure_preset(
    options: TrainOptions, family: Family, dataset: Dataset, *, fresh: bool = False, only_known: bool = False
) -> Measured:
    """Times the steps of a preset on real batches, or reads what an earlier call on this machine found."""
    device = choose_device(options.device)
    place = cache_root() / "plans" / f"{fingerprint(_key(options, family, device))[:32]}.json"
    if not fresh and (known := _read(place)) is not None:
        return known
    if only_known:
        raise NotMeasuredError("not timed: the time for measuring was over; the same command again goes on")
    try:
        with torch.random.fork_rng(devices=[]):
            measured = _Measurement(options, family, dataset, device).run()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise NotMeasuredError("does not fit into memory") from None
    place.parent.mkdir(parents=True, exist_ok=True)
    write_json(place, {"format": FORMAT, "measured": asdict(measured)})
    return measured


def _read(place: Path) -> Measured | None:
    try:
        values = json.loads(place.read_text(encoding="utf-8"))["measured"]
        return Measured(**{**values, "stage_rates": tuple(map(float, values["stage_rates"]))})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _key(options: TrainOptions, family: Family, device: torch.device) -> dict[str, Any]:
    """What the time of a step depends on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    isa = [os.environ.get(key, "") for key in ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")]
    return {
        "format": FORMAT, "family": family.name, "network": family.network, "settings": family.settings,
        "spec": family.spec.to_json(), "classes": family.classes, "mirror": options.mirror,
        "micro_batch": options.micro_batch, "precision": options.precision, "kernels": options.kernels,
        "machine": [platform.node(), platform.machine(), name, torch.get_num_threads(), torch.__version__, isa],
    }  # fmt: skip


class _Measurement:
    """One preset on one device."""

    def __init__(self, options: TrainOptions, family: Family, dataset: Dataset, device: torch.device) -> None:
        self.options, self.family, self.device = options, family, device
        self.feed = Feed(
            dataset, family.conditional, options, device, family.semi_supervised, family.watches_validation
        )
        self.batch = family.training.batch
        self.base, self.timing = MemoryWatch.now(device), PRESET_SECONDS / 2
        self.load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0

    def run(self) -> Measured:
        parameters, free = self._parameters(), free_bytes(self.device)
        if parameters * MODEL_BYTES > free:
            needed = f"{parameters * MODEL_BYTES / 1e9:.1f} GB, {free / 1e9:.1f} GB are free"
            raise NotMeasuredError(f"does not fit: its {parameters:,} parameters alone need {needed}")
        small = max(1, min(self.batch, self.options.micro_batch or self.batch) // PROBE_SHARE)
        plain = self._stepper(Arithmetic("float32", "plain"), small)
        with MemoryWatch(self.device) as watch:
            started = time.perf_counter()
            self._step_all(plain, small)
            slow = time.perf_counter() - started
        own = parameters * MODEL_BYTES
        at_once = max(1, watch.peak - self.base - own) / small  # bytes of one picture under way
        micro = self._micro_batch(at_once, free - own)
        if slow * self.batch / small > PRESET_SECONDS / 2 or micro < (self.options.micro_batch or self.batch):
            rates = tuple(self._stage_rate(plain, stage, small) for stage in self.family.stages())
            peak = self.base + own + round(at_once * micro)
            return self._measured(plain, "float32/plain", rates, peak, parameters, micro, rough=True)
        del plain
        started = time.perf_counter()
        arithmetic, _ = choose_arithmetic(
            self.options.precision, self.options.kernels, self.family, self.device, PRESET_SECONDS / 2
        )
        self.timing = time.perf_counter() - started
        stepper = self._stepper(arithmetic, micro)
        with MemoryWatch(self.device) as watch:
            rates = tuple(self._stage_rate(stepper, stage, self.batch) for stage in self.family.stages())
        return self._measured(stepper, str(arithmetic), rates, watch.peak, parameters, micro, rough=False)

    def _measured(
        self, stepper: Stepper, arithmetic: str, rates: tuple[float, ...], peak: int, parameters: int, micro: int, *,
        rough: bool,
    ) -> Measured:  # fmt: skip
        # A resume state is copied and serialised in main memory, beside what training holds on to.
        state = STATE_COPIES * sum(value.numel() * value.element_size() for value in stepper.state().values())
        if self.device.type == "cpu":
            peak = max(peak, self.base + parameters * MODEL_BYTES + state)
        return Measured(rates, self._sample_seconds(stepper), self._codes_seconds(stepper), peak, parameters,
                        arithmetic, micro, rough, round(self.load, 2), self.timing)  # fmt: skip

    def _parameters(self) -> int:
        with torch.device("meta"), Undrawn():
            return sum(p.numel() for network in self.family.build().values() for p in network.parameters())

    def _micro_batch(self, at_once: float, free: float) -> int:
        """The largest part of a batch, halved as running out of memory would halve it, that fits."""
        micro = self.options.micro_batch or self.batch
        while micro > 1 and micro * at_once > free:
            micro = (micro + 1) // 2
        return micro

    def _stepper(self, arithmetic: Arithmetic, micro: int) -> Stepper:
        torch.manual_seed(0)
        networks = {part: network.to(self.device) for part, network in self.family.build().items()}
        return Stepper(self.family, networks, arithmetic.precision, arithmetic.kernels, micro)

    def _step_all(self, stepper: Stepper, size: int) -> None:
        for stage in self.family.stages():
            batch = self._batch(stepper, stage, size)
            for phase in stage.phases:
                noise = training_noise(self.family, size, self.device, "timing")
                stepper.step(phase, batch, noise, progress=0.0, average=0.9)
        self._wait()

    def _batch(self, stepper: Stepper, stage: Stage, size: int) -> Any:
        """A batch of the stage, with codes where it has them."""
        batch = self.feed.batch(0, size)
        if not stage.codes:
            return batch
        with torch.inference_mode(), stepper.at_rest() as networks:
            codes = self.family.codes(stage, networks, batch.images, batch.labels)
        kept = codes.float() if codes.is_floating_point() else codes.long()
        return type(batch)(batch.images, batch.labels, kept.clone())

    def _stage_rate(self, stepper: Stepper, stage: Stage, size: int) -> float:
        """Images per second of the loop's step: reading, each phase as often as it is due, statistics."""
        statistics = Statistics(self.device)
        batch = self._batch(stepper, stage, size)
        total = self._seconds_of(lambda: self.feed.batch(0, size))
        for phase in stage.phases:

            def step(phase: Any = phase) -> None:
                noise = training_noise(self.family, size, self.device, "timing")
                terms, skipped = stepper.step(phase, batch, noise, progress=0.0, average=0.9)
                statistics.add(phase.name, terms, skipped)

            total += self._seconds_of(step) / phase.interval
        return size / total

    def _seconds_of(self, work: Callable[[], object]) -> float:
        """Mean seconds after one call that warms up; the first call alone where it takes very long."""
        started = time.perf_counter()
        work()
        self._wait()
        first = time.perf_counter() - started
        if first > PRESET_SECONDS / 4:
            return first
        if self.device.type == "cuda":  # recording takes a while
            for _ in range(WARM_UP):
                work()
        self._wait()
        started, count = time.perf_counter(), 0
        while count < 2 or time.perf_counter() - started < PHASE_SECONDS:
            work()
            count += 1
        self._wait()
        return (time.perf_counter() - started) / count

    def _sample_seconds(self, stepper: Stepper) -> float:
        model = Model(self.family, stepper.averaged, "", tuple(str(k) for k in range(self.family.classes)),
                      (1,) * self.family.classes)  # fmt: skip
        sampler = Sampler(model, self.device)
        started = time.perf_counter()
        for _ in sampler(range(sampler.chunk)):
            pass
        return (time.perf_counter() - started) / sampler.chunk

    def _codes_seconds(self, stepper: Stepper) -> float:
        size = min(self.feed.chunk, self.batch)
        return sum(self._seconds_of(lambda stage=stage: self._batch(stepper, stage, size)) / size  # type: ignore[misc]
                   for stage in self.family.stages() if stage.codes)  # fmt: skip

    def _wait(self) -> None:
        if self.device.type != "cpu":
            torch.accelerator.synchronize()


def _score_seconds(score: Score, dataset: Dataset) -> float:
    """Seconds of judging one snapshot, without making its pictures."""
    rng = np.random.default_rng(0)
    chunks = (rng.integers(0, 256, (64, *dataset.spec.shape), dtype=np.uint8) for _ in range(10**6))
    started = time.perf_counter()
    score(chunks)
    return time.perf_counter() - started
