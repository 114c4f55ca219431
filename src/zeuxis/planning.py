"""Data, hardware and budget to device, precision and length of a run; what is decided here is recorded, never
redone."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch

from zeuxis import __version__
from zeuxis.config import ImageSpec, Precision, TrainOptions, parse
from zeuxis.data import Dataset
from zeuxis.errors import UserError
from zeuxis.families import FAMILIES, family_from_settings, make_family, resolve_name
from zeuxis.families.base import Batch, Chosen, Facts, Family
from zeuxis.feed import training_noise
from zeuxis.nn.kernels import Kernels
from zeuxis.randomness import generator_for
from zeuxis.recording import WARM_UP
from zeuxis.steps import Stepper

TIMING_SHARE, MOST_SECONDS = 0.03, 20.0  # of a budget, and at all, for timing
SEEN = 512  # pictures, by which it is judged whether their edges meet
TIMING_SECONDS = 0.3  # how long each candidate is timed after its warm-up steps


@dataclass
class Plan:
    """How long a stage is, in images, and how far it has come: the argument of every schedule.

    Progress goes from 0 to 1 linearly in images. `replan` bends the line where a budget finds the machine faster or
    slower than thought: progress never jumps, and still ends at exactly 1. All of it is part of the resume state.
    """

    total_images: int
    anchor_images: int = 0
    anchor_progress: float = 0.0

    def progress(self, images_seen: int) -> float:
        """Share of the stage that is done after `images_seen` of its images, 0 to 1."""
        left = self.total_images - self.anchor_images
        if left <= 0 or images_seen >= self.total_images:
            return 1.0
        return self.anchor_progress + (images_seen - self.anchor_images) / left * (1 - self.anchor_progress)

    def replan(self, images_seen: int, total_images: int) -> None:
        """From here on the stage is `total_images` long in all."""
        self.anchor_progress, self.anchor_images = self.progress(images_seen), images_seen
        self.total_images = max(total_images, images_seen)

    def to_json(self) -> dict[str, Any]:
        """Plain values for the resume state."""
        return asdict(self)


def choose_device(asked: str) -> torch.device:
    """`auto` is the accelerator where there is one, else the CPU; an absent device is a `UserError`.

    On a GPU, float32 means float32 (IEEE): TF32, which keeps 10 bits of 23, is off. The fast format is bfloat16.
    """
    if torch.cuda.is_available():
        torch.backends.cuda.matmul.fp32_precision = "ieee"
        torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
    if asked == "auto":
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return torch.device("cpu") if accelerator is None else torch.device(accelerator.type)
    try:
        device = torch.device(asked)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            "--device", asked, "auto, cpu, or an accelerator that is here", f"try --device cpu ({reason})"
        ) from None
    return device


@dataclass(frozen=True)
class Arithmetic:
    """How steps are computed: number format and kernels. Results differ by rounding only."""

    precision: Precision
    kernels: Kernels

    def __str__(self) -> str:
        return f"{self.precision}/{self.kernels}"


def measure(family: Family, device: torch.device, arithmetic: Arithmetic, most: float = MOST_SECONDS) -> float:
    """Images per second of whole steps (all phases) on made-up pictures with throw-away networks.

    Where the first step takes more than a quarter of `most` seconds, it is all that is measured.
    """
    # The networks that are trained start from their own seed; timing must not move torch's global generator.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        networks = {part: network.to(device) for part, network in family.build().items()}
    stepper = Stepper(family, networks, arithmetic.precision, arithmetic.kernels)
    size = family.training.batch
    generator = generator_for("timing")
    images = (torch.rand(size, *family.spec.item_shape, generator=generator) * 2 - 1).to(device)
    labels = torch.zeros(size, dtype=torch.long, device=device)
    labelled = Batch(images, labels) if family.semi_supervised else None
    own = labels if family.conditional else None
    held_out = Batch(images, own) if family.watches_validation else None
    batch = Batch(images, own, labelled=labelled, held_out=held_out)

    def step() -> None:
        for phase in family.stages()[0].phases:
            noise = training_noise(family, size, device, "timing")
            stepper.step(phase, batch, noise, progress=0.0, average=0.9)

    started = time.perf_counter()
    step()
    _wait(device)
    first = time.perf_counter() - started
    if first > most / 4:
        return size / first
    for _ in range(WARM_UP + 1 if arithmetic.kernels == "graphs" else 1):
        step()
    _wait(device)
    started, count = time.perf_counter(), 0
    while count < 2 or time.perf_counter() - started < TIMING_SECONDS:
        step()
        count += 1
    _wait(device)
    return size * count / (time.perf_counter() - started)


def bfloat16_is_fast(device: torch.device, side: int = 128, most: float = 2.0) -> bool:
    """Whether a small matrix product in bfloat16 takes at most `most` times as long as in float32, the best of nine.

    Without support in the processor it takes 60 times as long, and one whole step would already take minutes. One
    thread: on a busy machine threads wait for each other far longer than a small product takes.
    """
    if device.type != "cpu":
        return True
    matrix = torch.rand(side, side, generator=generator_for("timing"))
    best: list[float] = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for operand in (matrix, matrix.bfloat16()):
            times = []
            for _ in range(10):  # the first one prepares
                started = time.perf_counter()
                operand @ operand
                times.append(time.perf_counter() - started)
            best.append(min(times[1:]))
    finally:
        torch.set_num_threads(threads)
    return best[1] <= most * best[0]


def choose_arithmetic(
    precision: str,
    kernel_set: Kernels | Literal["auto"],
    family: Family,
    device: torch.device,
    most: float = MOST_SECONDS,
) -> tuple[Arithmetic, dict[str, float]]:
    """The fastest of what is allowed by a short timing, and the images per second of each that was timed.

    bfloat16 is timed only where a matrix product says that the processor has it (pytorch#118499). Kernels are timed in
    the faster precision; `patches` and `winograd` (of float32) are for CPUs. No further candidate is begun after `most`
    seconds.
    """
    began = time.perf_counter()
    precisions: list[Precision] = ["float32", "bfloat16"]
    if precision == "auto":
        precisions = precisions if bfloat16_is_fast(device) else ["float32"]
    else:
        precisions = [each for each in precisions if each == precision]
    # What cannot be recorded is computed as with `plain`: nothing to choose between.
    known: dict[str, list[Kernels]] = {"cpu": ["plain", "patches", "winograd"], "cuda": ["graphs"]}
    sets = known.get(device.type, ["plain"])
    if kernel_set != "auto":
        if kernel_set == "graphs" and device.type != "cuda":
            raise UserError("--kernels", "graphs", "auto, plain, patches or winograd without a CUDA GPU",
                            "leave --kernels out")  # fmt: skip
        sets = [kernel_set]
    rates: dict[Arithmetic, float] = {}
    for first in (Arithmetic(each, sets[0]) for each in precisions):
        if not rates or time.perf_counter() - began < most:
            rates[first] = measure(family, device, first, most)
    best = _fastest(rates)
    for second in (Arithmetic(best.precision, other) for other in sets[1:]):
        suits = second.kernels != "winograd" or second.precision == "float32"
        if suits and time.perf_counter() - began < most:
            rates[second] = measure(family, device, second, most)
    return _fastest(rates), {str(arithmetic): rate for arithmetic, rate in rates.items()}


def _fastest(rates: dict[Arithmetic, float]) -> Arithmetic:
    """Within 5% the earlier one wins: less rounding, plainer operators."""
    best = next(iter(rates))
    for arithmetic, rate in rates.items():
        if rate > 1.05 * rates[best]:
            best = arithmetic
    return best


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize()


def bind(options: TrainOptions, dataset: Dataset) -> tuple[str, Family]:
    """The full model name and the family bound to the data, with everything that was asked put over the preset."""
    if options.conditional and not dataset.classes:
        raise UserError(
            "--conditional", dataset.name, "data with classes", "put each class into a sub-folder of its own"
        )
    if options.conditional and options.semi_supervised:
        raise UserError("--semi-supervised", "--conditional too", "one of both",
                        "a semi-supervised model tells classes apart and makes no picture of one")  # fmt: skip
    name, chosen = choose(options, dataset)
    settings: dict[str, Any] = {}
    for each in chosen:
        settings |= each.settings
    settings |= options.settings
    if options.batch is not None:
        settings["training.batch"] = options.batch
    classes = len(dataset.classes) if options.conditional or options.semi_supervised else 0
    family = make_family(name, dataset.spec, classes, settings)
    if options.semi_supervised and not family.semi_supervised:
        raise UserError("--semi-supervised", name, "a model of the family gan", "try --model gan")
    return name, family


def choose(options: TrainOptions, dataset: Dataset) -> tuple[str, list[Chosen]]:
    """The full model name, and the settings that were left open to the family's own rules, each with its reason."""
    full = resolve_name(options.model)
    family, network, _ = full.split("/")
    parts = options.model.split("/")
    said = len(parts) + (parts[0] not in FAMILIES)  # 1: the family, 2: its network too, 3: a preset
    facts = Facts(
        pictures=len(dataset.train), validation=len(dataset.val), spec=dataset.spec,
        accelerator=choose_device(options.device).type != "cpu",
        seconds=options.budget, images=None if options.kimg is None else options.kimg * 1000,
        semi_supervised=options.semi_supervised, seam=seam_of(dataset),
    )  # fmt: skip
    taken, chosen = FAMILIES[family].choose(facts, network if said > 1 else None, said > 2)
    asked = {*options.settings, *(["training.batch"] if options.batch is not None else [])}
    name = full if said > 2 else resolve_name(f"{family}/{taken}")
    return name, [each for each in chosen if not each.yields(asked)]


def seam_of(dataset: Dataset) -> float:
    """How visible the seam is in training pictures, along that axis of those that shall wrap where it is most."""
    from zeuxis.metrics.appearance import seam_ratio, seam_steps

    axes = [axis for axis, wraps in ((3, dataset.spec.wrap_x), (2, dataset.spec.wrap_y)) if wraps]
    if not axes or dataset.spec.frames > 1:
        return 1.0
    places = np.linspace(0, len(dataset.train) - 1, min(SEEN, len(dataset.train)))
    pixels = dataset.train.take(places.astype(np.int64))
    return max(seam_ratio(seam_steps(pixels, axis)).value for axis in axes)


def recorded(resolved: Mapping[str, Any]) -> Family:
    """The family as it was resolved when a run began."""
    family, network, _ = resolved["model"].split("/")
    spec = parse(ImageSpec, resolved["spec"], "spec")
    return family_from_settings(family, network, resolved["settings"], spec, len(resolved["classes"]))


def resolve(options: TrainOptions, dataset: Dataset) -> dict[str, Any]:
    """What is decided once, by what was asked, the data and a timing on this machine, as plain values for the
    record."""
    name, family = bind(options, dataset)
    device = choose_device(options.device)
    most = min(MOST_SECONDS, TIMING_SHARE * options.budget) if options.budget else MOST_SECONDS
    arithmetic, rates = choose_arithmetic(options.precision, options.kernels, family, device, most)
    if options.kimg is not None:
        total = options.kimg * 1000
    elif options.budget is not None:
        total = rates[str(arithmetic)] * options.budget * 0.9  # bent to the clock as the run goes
    else:
        total = family.training.kimg * 1000
    return {
        "model": name,
        "chosen": [{"settings": each.settings, "why": each.why} for each in choose(options, dataset)[1]],
        "settings": family.settings, "spec": family.spec.to_json(),
        "classes": list(dataset.classes) if family.classes else [], "device": device.type,
        "precision": arithmetic.precision, "kernels": arithmetic.kernels,
        "images_per_second": {key: round(value, 1) for key, value in rates.items()},
        "total_images": max(1, round(total)), "train_pictures": len(dataset.train),
        "data": dataset.name, "source": dataset.source, "fingerprint": dataset.fingerprint,
        "threads": torch.get_num_threads(),
        "versions": {"zeuxis": __version__, "torch": torch.__version__, "python": platform.python_version()},
    }  # fmt: skip
