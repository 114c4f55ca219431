"""Trainings of several stages: codes, fitted parts, what snapshots show, and exact resume across all of it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from zeuxis import augment
from zeuxis.checkpoint import StateStore, load_model
from zeuxis.config import TrainOptions, parse
from zeuxis.data import Dataset
from zeuxis.errors import UserError
from zeuxis.families import FAMILIES
from zeuxis.families.base import (
    Batch,
    Family,
    Networks,
    Noise,
    Phase,
    Preset,
    RenderOptions,
    Settings,
    Stage,
    TrainingConfig,
)
from zeuxis.feed import Feed
from zeuxis.files import read_json_lines
from zeuxis.images import to_float
from zeuxis.randomness import generator_for
from zeuxis.steps import Stepper
from zeuxis.training import Outcome, Training

Begin = Callable[..., Training]
CODES = 4


class Centre(nn.Module):
    """A mean and a scale that are fitted, not trained."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(CODES))
        self.scale = nn.Parameter(torch.ones(CODES))


class Toy(Family):
    """A linear autoencoder, then a linear network on its codes, and normal codes that are fitted: all that several
    stages can ask of the loop."""

    name: ClassVar[str] = "toy"
    capabilities = frozenset({"encode", "decode", "reconstruct"})
    integers: ClassVar[bool] = False
    fits: ClassVar[list[tuple[int, int]]] = []  # (seed, pictures) of each fit

    def __init__(self, network: str, settings: Settings, spec: Any, classes: int = 0) -> None:
        super().__init__(network, settings, spec, classes)
        self.training = parse(TrainingConfig, settings.get("training", {}), "training")

    @classmethod
    def presets(cls) -> Mapping[str, Mapping[str, Preset]]:
        return {"linear": {"tiny": Preset(settings={"training": {"batch": 8, "learning_rate": 1e-2}}, about="a test")}}

    @property
    def settings(self) -> Settings:
        return {"training": self.training.to_json()}

    def build(self) -> dict[str, nn.Module]:
        size = self.spec.size
        return {"encoder": nn.Linear(size, CODES), "decoder": nn.Linear(CODES, size),
                "prior": nn.Linear(CODES, CODES), "critic": nn.Linear(CODES, 1), "centre": Centre()}  # fmt: skip

    @property
    def model_parts(self) -> tuple[str, ...]:
        return ("encoder", "decoder", "prior", "centre")

    @property
    def fitted_parts(self) -> tuple[str, ...]:
        return ("centre",)

    def stages(self) -> list[Stage]:
        first = (Phase(name="autoencoder", parts=("encoder", "decoder")), Phase(name="critic", parts=("critic",)))
        second = (Phase(name="prior", parts=("prior",)),)
        return [Stage(name="tokens", phases=first, share=0.5),
                Stage(name="prior", phases=second, share=0.5, codes=True)]  # fmt: skip

    def losses(
        self, phase: Phase, networks: Networks, batch: Batch, noise: Noise, progress: float
    ) -> dict[str, Tensor]:
        if phase.name == "prior":
            assert batch.codes is not None
            return {"loss": (networks["prior"](noise["z"]) - batch.codes.float()).square().mean(1)}
        assert batch.codes is None
        codes = self.encode(networks, batch.images, batch.labels)
        if phase.name == "critic":
            return {"loss": networks["critic"](codes.detach()).square().mean(1)}
        again = self.decode(networks, codes, batch.labels)
        return {"loss": (again - batch.images).square().flatten(1).mean(1)}

    def codes(self, stage: Stage, networks: Networks, images: Tensor, labels: Tensor | None) -> Tensor:
        assert stage.name == "prior" and not networks["critic"].training  # parts outside the model are there too
        codes = self.encode(networks, images, labels)
        return ((codes.tanh() + 1) * 8).long() if self.integers else codes

    def fit(self, networks: Networks, batches: Callable[[], Iterator[Batch]], seed: int) -> None:
        codes = torch.cat([batch.codes.float() for batch in batches()])  # type: ignore[union-attr]
        self.fits.append((seed, len(codes)))
        centre: Any = networks["centre"]
        with torch.no_grad():
            centre.mean.copy_(codes.mean(0) + torch.rand(CODES, generator=generator_for(seed)) * 1e-3)
            centre.scale.copy_(codes.std(0))

    def noise(self, count: int, generator: torch.Generator, purpose: Literal["train", "sample"]) -> Noise:
        return {"z": torch.randn(count, CODES, generator=generator)}

    def render(self, networks: Networks, noise: Noise, labels: Tensor | None, options: RenderOptions) -> Tensor:
        centre: Any = networks["centre"]
        return self.decode(networks, centre.mean + centre.scale * noise["z"], labels)

    def encode(self, networks: Networks, images: Tensor, labels: Tensor | None) -> Tensor:
        return networks["encoder"](images.flatten(1))

    def decode(self, networks: Networks, codes: Tensor, labels: Tensor | None) -> Tensor:
        return networks["decoder"](codes).tanh().view(-1, *self.spec.shape)


class IntegerToy(Toy):
    integers = True


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "toy", Toy)
    monkeypatch.setitem(FAMILIES, "itoy", IntegerToy)
    Toy.fits.clear()


def state_of(outcome: Outcome) -> tuple[str, dict[str, Any]]:
    """The hash of every tensor of the last state, and the values that are not times."""
    (tensors, values), _ = StateStore(outcome.folder / "state").load_latest()  # type: ignore[misc]
    digest = hashlib.sha256()
    for key in sorted(tensors):
        digest.update(key.encode() + tensors[key].contiguous().numpy().tobytes())
    times = ("elapsed", "snapshot_seconds", "snapshot_total")
    return digest.hexdigest(), {key: value for key, value in values.items() if key not in times}


def codes_file(folder: Path) -> Path:
    (file,) = folder.glob("codes-*.npy")
    return file


@pytest.mark.parametrize("model", ["toy", "itoy"])
def test_k_and_k_images_are_2k_across_stages(begin: Begin, model: str) -> None:
    options = {"model": model, "mirror": True, "conditional": True, "kimg": 0.4}
    whole = begin("whole", **options).run()
    assert (whole.status, whole.images_seen) == ("finished", 400)
    for stop_at, lost in ((104, False), (200, False), (304, False), (304, True)):
        out = f"parts{stop_at}{lost}"
        first = begin(out, **options).run(stop=lambda seen, at=stop_at: seen >= at)
        assert (first.status, first.images_seen) == ("interrupted", stop_at)
        if stop_at == 304:
            before = codes_file(first.folder).stat().st_mtime_ns
            if lost:
                codes_file(first.folder).unlink()
        second = begin(out, **options).run()
        assert second.folder == first.folder
        assert state_of(second) == state_of(whole)
        if stop_at == 304:
            assert (codes_file(second.folder).stat().st_mtime_ns == before) is not lost, "kept codes are used again"
        files = [codes_file(outcome.folder) for outcome in (whole, second)]
        assert files[0].name == files[1].name and files[0].read_bytes() == files[1].read_bytes()
        weights = [(outcome.folder / "model" / "model.safetensors").read_bytes() for outcome in (whole, second)]
        assert weights[0] == weights[1]


def test_codes_are_those_of_the_very_pictures_of_the_batch(begin: Begin, digits: Dataset) -> None:
    training = begin(model="toy", mirror=True, kimg=0.4)
    training.run()
    feed, networks = training.feed, training.stepper.averaged
    assert feed.codes is not None and feed.codes.dtype == np.float32
    assert feed.codes.shape == (2, len(digits.train), CODES)
    batch = feed.batch(8, 64)
    expected = training.family.encode(networks, batch.images, None).detach()
    assert torch.allclose(batch.codes, expected, atol=1e-6)  # type: ignore[arg-type]
    plain = to_float(torch.from_numpy(digits.train.take(feed.positions[feed.order.at(8, 64)])))
    turned = (plain != batch.images).flatten(1).any(1)
    assert 10 < int(turned.sum()) < 54, "some of the pictures were mirrored, and their codes are theirs"


def test_whole_numbers_stay_whole(begin: Begin) -> None:
    training = begin(model="itoy", kimg=0.4)
    training.run()
    assert training.feed.codes is not None and training.feed.codes.dtype == np.uint16
    codes = training.feed.batch(0, 32).codes
    assert codes is not None and codes.dtype == torch.int64 and int(codes.min()) >= 0 and int(codes.max()) <= 16


def test_codes_too_large_to_be_kept_are_a_mistake_of_the_family(digits: Dataset, tmp_path: Path) -> None:
    feed = Feed(digits, False, TrainOptions(), torch.device("cpu"))
    with pytest.raises(AssertionError, match="0 to 65,535"):
        feed.encode(lambda images, labels: torch.full((len(images), 2), 2**16), tmp_path / "codes.npy")
    assert not list(tmp_path.iterdir()), "nothing half is left"


def test_before_the_last_stage_reconstructions_are_shown_and_nothing_is_chosen(begin: Begin) -> None:
    scored: list[int] = []

    def score(pictures: Iterator[np.ndarray]) -> tuple[str, float]:
        scored.append(len(next(pictures)))
        return "test", 1.0

    log: list[str] = []
    training = begin(model="toy", kimg=0.4, log=log)
    outcome = training.run(score=score)
    names = {kind: sorted(path.name for path in outcome.folder.glob(f"{kind}-*.png"))
             for kind in ("samples", "reconstructions")}  # fmt: skip
    assert names["samples"] == ["samples-000000.304kimg.png", "samples-000000.400kimg.png"]
    first = ["reconstructions-000000.104kimg.png", "reconstructions-000000.200kimg.png"]
    assert names["reconstructions"] == first + [name.replace("samples", "reconstructions") for name in names["samples"]]
    # The score is asked for untrained networks too, once, when the last stage begins.
    assert len(scored) == 3 and [row["images_seen"] for row in read_json_lines(outcome.folder / "metrics.jsonl")] == [
        304, 400,
    ]  # fmt: skip
    assert "snapshot at 104 images in stage tokens" in log and "stage prior begins at 200 images" in log
    with Image.open(outcome.folder / names["reconstructions"][-1]) as sheet:
        pixels = np.asarray(sheet)
    assert pixels.std() > 1, "a sheet of one colour shows nothing"


def test_a_run_that_ends_in_its_first_stage_has_no_model(begin: Begin) -> None:
    outcome = begin(model="toy", kimg=0.4).run(stop=lambda seen: seen >= 152)
    assert outcome.best is None and not (outcome.folder / "model").exists()
    assert list(outcome.folder.glob("reconstructions-*.png"))


def test_fitted_parts_are_fitted_at_each_snapshot_and_moved_by_nothing_else(begin: Begin, digits: Dataset) -> None:
    training = begin(model="toy", kimg=0.4)
    centre: Any = training.stepper.networks["centre"]
    training.run()
    assert [count for _, count in Toy.fits] == [len(digits.train)] * 2
    assert len({seed for seed, _ in Toy.fits}) == 2
    assert training.stepper.averaged["centre"] is centre
    expected = torch.from_numpy(np.array(training.feed.codes)[0]).mean(0)
    assert torch.allclose(centre.mean, expected, atol=2e-3)
    model = load_model(training.folder.path)
    assert torch.equal(model.networks["centre"].mean, centre.mean)  # type: ignore[arg-type]
    assert torch.equal(model.networks["centre"].scale, centre.scale)  # type: ignore[arg-type]
    stepped = Stepper(training.family, training.family.build(), "float32")
    stepped.load_state(training.stepper.state())
    assert torch.equal(stepped.averaged["centre"].mean, centre.mean)  # type: ignore[arg-type]


def test_a_part_that_no_phase_moves_and_nothing_fits_is_refused(
    monkeypatch: pytest.MonkeyPatch, digits: Dataset
) -> None:
    monkeypatch.setattr(Toy, "fitted_parts", property(lambda self: ()))
    family = Toy("linear", Toy.presets()["linear"]["tiny"].settings, digits.spec)
    with pytest.raises(AssertionError, match="belongs to the phases of one group or is fitted"):
        Stepper(family, family.build(), "float32")


def test_all_training_pictures_are_gone_through_once(digits: Dataset) -> None:
    feed = Feed(digits, True, TrainOptions(mirror=True), torch.device("cpu"))
    batches = list(feed.once())
    images = torch.cat([batch.images for batch in batches])
    assert torch.equal(images, to_float(torch.from_numpy(digits.train.take(feed.positions))))
    assert torch.equal(torch.cat([batch.labels for batch in batches]), torch.from_numpy(digits.train.labels))  # type: ignore[misc]
    some = torch.cat([batch.images for batch in feed.once(100)])
    assert len(some) == 100 and torch.equal(some[0], images[0]) and torch.equal(some[-1], images[-1])


def test_mirroring_turns_the_named_pictures_and_clips() -> None:
    flip = torch.tensor([True, False])
    for shape in ((2, 1, 2, 3), (2, 4, 1, 2, 3)):
        images = torch.arange(np.prod(shape), dtype=torch.float32).view(shape)
        turned = augment.mirror(images, flip)
        assert torch.equal(turned[0], images[0].flip(-1)) and torch.equal(turned[1], images[1])


# -- the limits of a step ----------------------------------------------------------------------------------------------
def stepper_of(digits: Dataset, **training: float) -> Stepper:
    settings = {"training": {**Toy.presets()["linear"]["tiny"].settings["training"], **training}}
    family = Toy("linear", settings, digits.spec)
    torch.manual_seed(0)
    return Stepper(family, family.build(), "float32")


def one_step(stepper: Stepper, scale: float = 1.0, progress: float = 0.5) -> tuple[float, float]:
    """(gradient norm, why the step was skipped) of one step of the autoencoder."""
    phase = stepper.family.stages()[0].phases[0]
    images = torch.randn(8, *stepper.family.spec.shape, generator=generator_for("x")) * scale
    noise = stepper.family.noise(8, generator_for("n"), "train")
    terms, skipped = stepper.step(phase, Batch(images), noise, progress=progress, average=0.5)
    return terms["gradient norm"].item(), skipped.item()


def test_a_long_gradient_is_clipped_to_its_length(digits: Dataset) -> None:
    free, clipped, wide = (stepper_of(digits, clip_norm=limit) for limit in (0.0, 0.1, 1e6))
    norms = [one_step(stepper) for stepper in (free, clipped, wide)]
    assert norms[0] == norms[1] == norms[2] and norms[0][0] > 0.1, "the norm that is reported is the one before"
    group = ("encoder", "decoder")
    lengths = [stepper.groups[group].flat.norm().item() for stepper in (free, clipped, wide)]
    assert lengths[1] == pytest.approx(0.1, rel=1e-5) and lengths[0] == lengths[2] == norms[0][0]
    direction = clipped.groups[group].flat.gradient / 0.1
    assert torch.allclose(direction, free.groups[group].flat.gradient / norms[0][0], atol=1e-6)


def test_a_step_above_the_usual_is_left_out_and_counted_apart(begin: Begin, digits: Dataset) -> None:
    stepper = stepper_of(digits, skip_norm=2.0)
    usual, skipped = one_step(stepper)
    assert skipped == 0, "the first step says what is usual"
    before = {key: value.clone() for key, value in stepper.state().items()}
    norm, skipped = one_step(stepper, scale=50.0)
    assert norm > 2.0 * usual and skipped == 2
    changed = [key for key, value in stepper.state().items() if not torch.equal(value, before[key])]
    assert changed == ["optimizer.encoder+decoder.usual"], "nothing else"
    assert one_step(stepper, scale=float("nan"))[1] == 1, "not finite is another matter"
    training = begin(model="toy", kimg=0.4, settings={"training.skip_norm": 1.05})
    outcome = training.run()
    last = read_json_lines(outcome.folder / "stats.jsonl")[-1]
    assert last["steps above skip_norm"] > 0 and last["skipped steps"] == 0


def test_gradients_that_stay_long_become_usual(digits: Dataset) -> None:
    """As a likelihood gets sharper its gradients get longer, a hundred times and more: no run must stop for that."""
    group = stepper_of(digits, skip_norm=2.0).groups["encoder", "decoder"]

    def judged(length: float) -> bool:
        return bool(group.too_long(torch.tensor(length)))

    assert not any(judged(1.0 + 0.5 * (step % 2)) for step in range(60))
    assert judged(100.0) and not judged(1.5), "one long gradient changes little"
    long = [judged(100.0) for _ in range(400)]
    assert all(long[:100]) and not any(long[-50:]) and sorted(long, reverse=True) == long, "once usual, they stay so"
    assert judged(1000.0) and not judged(math.inf), "what is not finite is another matter"
    with pytest.raises(UserError, match=r"skip_norm: got 0\.5, allowed: 0 \(never\) or above 1"):
        stepper_of(digits, skip_norm=0.5)


def test_a_sudden_gradient_moves_no_tensor_far(digits: Dataset) -> None:
    training = {"learning_rate": 0.01, "beta1": 0.5, "beta2": 0.99, "warmup": 0.0}
    free, wide, clipped = (stepper_of(digits, clip_update=most, **training) for most in (0.0, 1e6, 1.0))
    group = ("encoder", "decoder")
    for stepper in (free, wide, clipped):
        for moment in range(12):
            one_step(stepper, scale=0.1 if moment else 1.0)
    assert torch.allclose(free.groups[group].flat.values, wide.groups[group].flat.values, atol=1e-6), "plain Adam"

    def moved(stepper: Stepper) -> list[float]:
        """RMS of the next step of each tensor, in units of the rate, after a gradient that is as large as it likes."""
        flat = stepper.groups[group].flat
        before = [view.clone() for view in flat.shaped(flat.values.detach())]
        one_step(stepper, scale=30.0, progress=0.0)
        after = flat.shaped(flat.values.detach())
        return [(new - old).square().mean().sqrt().item() / 0.01 for new, old in zip(after, before, strict=True)]

    assert max(moved(free)) > 1.5, "v is what it was in the calm"
    assert max(moved(clipped)) == pytest.approx(1, rel=1e-4)


def test_weight_decay_is_that_of_adamw_on_matrices_alone(digits: Dataset) -> None:
    stepper = stepper_of(digits, weight_decay=0.1, learning_rate=0.01, learning_rate_end=1.0)
    torch.manual_seed(0)
    peer = stepper.family.build()
    parameters = [parameter for part in ("encoder", "decoder") for parameter in peer[part].parameters()]
    groups = [{"params": [p for p in parameters if p.dim() >= 2], "weight_decay": 0.1},
              {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0}]  # fmt: skip
    optimizer = torch.optim.AdamW(groups, lr=0.01)
    phase = stepper.family.stages()[0].phases[0]
    images = torch.randn(8, *stepper.family.spec.shape, generator=generator_for("x"))
    for _ in range(3):
        one_step(stepper)
        optimizer.zero_grad()
        stepper.family.losses(phase, peer, Batch(images), {}, 0.5)["loss"].mean().backward()
        optimizer.step()
    for part in ("encoder", "decoder"):
        for own, other in zip(stepper.networks[part].parameters(), peer[part].parameters(), strict=True):
            assert torch.allclose(own, other, atol=1e-6)


def test_the_length_that_was_asked_for_later_holds_for_the_stages_to_come(begin: Begin) -> None:
    first = begin(model="toy", kimg=0.4).run(stop=lambda seen: seen >= 104)
    longer = begin(model="toy", resume=first.folder, kimg=0.8).run()
    assert longer.images_seen == 800
    assert json.loads((longer.folder / "finished.json").read_text())["images_seen"] == 800
