"""What lets a step be recorded as a CUDA graph, checked without one: nothing in it waits for the device or brings
numbers there, and what changes from step to step may be a scalar on the device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from zeuxis.config import ImageSpec
from zeuxis.families import FAMILIES, clip_length, make_family
from zeuxis.families.base import Batch, Family, Noise
from zeuxis.randomness import generator_for
from zeuxis.recording import constant
from zeuxis.schedules import cosine, ramp
from zeuxis.steps import Stepper

WAITS = (
    "_local_scalar_dense",
    "nonzero",
    "masked_select",
    "lift_fresh",
    "unique",
    "bincount",
    "is_nonzero",
    "equal.default",
)
KINDS = ["flip", "shift", "fraction", "scale", "rotate", "aniso", "colour", "cutout"]
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"{family}/{network}": (f"{family}/{network}/tiny", {}) for family, cls in FAMILIES.items()
       for network in cls.presets()},
    "conditional": ("gan/dcgan/tiny", {}),
    "rising augmentation": ("gan/resnet/tiny", {"augment.probability": 0.5, "augment.ramp": True,
                                                "augment.kinds": KINDS}),
    "adaptive augmentation": ("gan/dcgan/tiny", {"augment.probability": 0.8, "augment.adaptive": True,
                                                 "augment.kinds": KINDS}),
    "exact penalty": ("gan/resnet/tiny", {"objective.penalty": "r1+r2"}),
    "lazy penalty": ("gan/resnet/tiny", {"objective.interval": 2}),
    "gradient penalty": ("gan/mlp/tiny", {"objective.loss": "wasserstein", "objective.penalty": "gradient"}),
    "K + 1 classes": ("gan/dcgan/tiny", {"objective.loss": "non-saturating", "objective.semi_supervised": True}),
    "historical averaging": ("gan/mlp/tiny", {"objective.historical_averaging": 0.1}),
    "rising weight of KL": ("vae/conv/tiny", {"objective.kl_warmup": 0.5}),
    "importance weights": ("vae/mlp/tiny", {"objective.importance": 3}),
    "weights of rows": ("vae/conv/tiny", {"objective.latitude": True}),
    "tiles": ("gan/resnet/tiny", {"objective.crops": True}),
    "steady steps": ("vae/ladder/tiny", {"training.clip_update": 1.0, "training.skip_norm": 8.0}),
    "decay": ("vae/conv/tiny", {"training.weight_decay": 0.1}),
}  # fmt: skip


class Watch(TorchDispatchMode):
    """Notes the operators that wait for the device or copy from Python."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = str(func).removeprefix("aten.")
        masks = (
            [each for each in args[1] if each is not None]
            if name.startswith("index") and len(args) > 1 and isinstance(args[1], list)
            else []
        )
        if name.startswith(WAITS) or any(each.dtype == torch.bool for each in masks):
            self.seen.append(name)
        return func(*args, **(kwargs or {}))


class Direct:
    """Stands where the recorder of CUDA graphs does: the same call, of scalars on the device, never recorded."""

    recording = False

    def __init__(self) -> None:
        self.watch = Watch()

    def __call__(
        self, key: Any, work: Any, batch: Batch, noise: Noise, numbers: Mapping[str, float]
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        scalars = {name: torch.full((), number) for name, number in numbers.items()}
        with self.watch:
            return work(batch, noise, scalars)

    def forget(self) -> None:
        pass


def family_of(case: str) -> Family:
    name, settings = CASES[case]
    frames = min(3, clip_length(name))
    wraps = {"wrap_x": case in ("weights of rows", "tiles"), "wrap_y": case == "tiles"}
    spec = ImageSpec(height=16, width=16, channels=1, frames=frames, **wraps)
    return make_family(name, spec, 3 if case in ("conditional", "K + 1 classes") else 0, settings)


def batch_of(family: Family, stepper: Stepper, codes: bool, stage: Any) -> Batch:
    images = torch.rand(6, *family.spec.item_shape, generator=generator_for("x")) * 2 - 1
    labels = torch.arange(6) % 3
    held_out = Batch(images.flip(1)) if family.watches_validation else None
    labelled = Batch(images.flip(0), labels) if family.semi_supervised else None
    made = None
    if codes:
        with torch.no_grad(), stepper.at_rest() as networks:
            made = family.codes(stage, networks, images, None).clone()
    return Batch(images, labels if family.conditional else None, made, labelled, held_out)


def trained(family: Family, direct: Direct | None) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Losses of some steps of each stage, and the state after them."""
    torch.manual_seed(0)
    stepper = Stepper(family, family.build(), "float32")
    stepper.recorder = direct  # type: ignore[assignment]
    losses = []
    for stage in family.stages():
        batch = batch_of(family, stepper, stage.codes, stage)
        for index in range(3):
            for phase in stage.phases:
                noise = family.noise(6, generator_for("n", index, phase.name), "train")
                terms, _ = stepper.step(phase, batch, noise, progress=0.2 + 0.3 * index, average=0.9)
                losses.append(terms["loss"].item())
    return losses, stepper.state()


@pytest.mark.parametrize("case", CASES)
def test_a_step_waits_for_nothing_and_takes_scalars_on_the_device(case: str) -> None:
    family, direct = family_of(case), Direct()
    losses, state = trained(family, direct)
    assert not direct.watch.seen, f"{case}: {sorted(set(direct.watch.seen))}"
    expected, reference = trained(family, None)
    assert losses == pytest.approx(expected, rel=1e-4, abs=1e-5)
    for key, value in state.items():
        torch.testing.assert_close(
            value, reference[key], rtol=1e-3, atol=2e-4, msg=lambda text, key=key: f"{key}: {text}"
        )


def test_the_watch_sees_what_waits() -> None:
    x, watch = torch.arange(4.0), Watch()
    with watch:
        x[x > 1].sum().item()
        torch.tensor([1.0, 2.0])
    assert {name.split(".")[0] for name in watch.seen} == {"index", "_local_scalar_dense", "lift_fresh"}


def test_schedules_are_the_same_of_a_number_and_of_a_scalar() -> None:
    for progress in (0.0, 0.13, 0.5, 1.0):
        scalar = torch.tensor(progress)
        assert float(cosine(2.0, 0.5, scalar)) == pytest.approx(cosine(2.0, 0.5, progress))
        assert float(ramp(scalar, 0.4)) == pytest.approx(ramp(progress, 0.4))
        assert ramp(scalar, 0.0) == ramp(progress, 0.0) == 1.0
    assert ramp(0.1, 0.4) == pytest.approx(0.25)


def test_constants_have_the_type_of_their_numbers() -> None:
    for values, dtype in (([1.0, -1.0], torch.float32), ([3, 5], torch.int64), ([True, False], torch.bool)):
        made = constant(values, torch.device("cpu"))
        assert made.dtype == dtype and made.tolist() == values


def test_a_batch_gives_and_changes_all_of_its_tensors() -> None:
    """What a replay copies into the recorded inputs, one by one."""
    labels = torch.arange(4)
    beside = [Batch(torch.full((4, 1, 2, 2), value), labels + 10) for value in (1.0, 2.0)]
    batch = Batch(torch.zeros(4, 1, 2, 2), labels, torch.ones(4, 3), *beside)
    assert len(batch.tensors()) == 7
    copied = batch.map(torch.clone)
    for mine, theirs in zip(copied.tensors(), batch.tensors(), strict=True):
        assert torch.equal(mine, theirs) and mine.data_ptr() != theirs.data_ptr()
    part = batch.slice(1, 3)
    assert all(torch.equal(own, each[1:3]) for own, each in zip(part.tensors(), batch.tensors(), strict=True))
    assert len(Batch(labels).tensors()) == 1
