"""What `--model gan` and `--model vae` take where nothing was said, at the corners of data, machine and budget."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from zeuxis.config import DataOptions, ImageSpec, TrainOptions
from zeuxis.data import Dataset, open_dataset
from zeuxis.errors import UserError
from zeuxis.families.base import Facts
from zeuxis.families.gan.choose import FEW, KINDS, choose
from zeuxis.families.vae.objective import VAE
from zeuxis.planning import bind, recorded, resolve


def settings(network: str | None = None, preset: bool = False, side: int = 32, **facts: Any) -> dict[str, Any]:
    spec = ImageSpec(height=side, width=side, channels=3)
    _, chosen = choose(Facts(**{"pictures": 50_000, "validation": 2500, "spec": spec, **facts}), network, preset)
    assert all(each.why for each in chosen), "every choice has its reason"
    return {key: value for each in chosen for key, value in each.settings.items()}


def test_many_pictures_are_not_augmented_and_few_are_adaptively() -> None:
    assert settings(pictures=FEW)["augment.probability"] == 0
    few = settings(pictures=1000, seconds=3600.0)
    assert few["augment.probability"] == 0.8 and few["augment.adaptive"] is True
    assert few["augment.kinds"] == list(KINDS) and not {"flip", "rotate"} & set(KINDS)
    blind = settings(pictures=1000, validation=0)
    assert blind["augment.ramp"] is True and 0 < blind["augment.probability"] < 0.8 and "augment.adaptive" not in blind
    assert settings(pictures=950, images=818_000.0)["augment.probability"] == 0, "too short to learn them by heart"
    assert settings(pictures=1000)["augment.probability"] == 0.8, "the preset's own length is long enough"


def test_larger_pictures_are_penalised_more_and_come_in_smaller_batches() -> None:
    assert settings(side=64)["training.learning_rate"] < settings(side=32)["training.learning_rate"]
    assert settings(side=256)["training.batch"] < settings(side=64)["training.batch"] < settings()["training.batch"]
    few, many = settings(pictures=1000), settings(pictures=FEW)
    assert few["training.batch"] < many["training.batch"], "small batches where pictures are few and small"
    assert few["training.learning_rate"] < many["training.learning_rate"]
    widths = [
        settings(pictures=count, side=side)["network.generator_scale"]
        for count, side in ((1000, 32), (FEW, 32), (FEW, 64))
    ]
    assert widths == [1, 2, 1], "many small pictures differ by more than a narrow generator can show"
    small, large = settings("dcgan", side=28), settings("dcgan", side=256)
    assert (small["objective.gamma"], small["objective.gamma_end"]) == (1.0, 0.1)
    assert (large["objective.gamma"], large["objective.gamma_end"]) == (64.0, 6.4)
    assert large["training.batch"] < small["training.batch"] and large["network.width"] < small["network.width"]
    wide = settings("dcgan", side=32, accelerator=True)
    assert wide["network.width"] > small["network.width"] and wide["training.batch"] > small["training.batch"]


def test_a_batch_is_at_most_half_of_the_pictures() -> None:
    for network in ("dcgan", "resnet"):
        assert settings(network, pictures=40)["training.batch"] == 20
        assert settings(network, pictures=3)["training.batch"] == 8


def test_an_accelerator_takes_larger_batches_and_shows_more() -> None:
    facts = {"pictures": 5000, "validation": 250, "spec": ImageSpec(height=32, width=32)}
    names = [choose(Facts(**facts, accelerator=accelerator), None, False)[0] for accelerator in (False, True)]
    assert names == ["resnet", "resnet"]
    assert choose(Facts(**facts, semi_supervised=True), None, False)[0] == "dcgan"
    for side, pictures in ((32, 1000), (32, FEW), (64, 1000), (128, 1000)):
        here, there = (settings(side=side, pictures=pictures, accelerator=on)["training.batch"] for on in (False, True))
        assert there == 4 * here
    assert settings(pictures=40, accelerator=True)["training.batch"] == 20, "at most half of the pictures"
    # Two minutes show each of 10,000 pictures a few times on a processor and hundreds of times on an accelerator.
    times = [settings(pictures=10_000, seconds=120.0, accelerator=on)["augment.probability"] for on in (False, True)]
    assert times == [0, 0]
    times = [settings(pictures=1500, seconds=120.0, accelerator=on)["augment.probability"] for on in (False, True)]
    assert times == [0, 0.8]


def test_a_named_network_is_kept_and_a_named_preset_left_as_it_is() -> None:
    assert choose(Facts(pictures=100, validation=5, spec=ImageSpec(height=32, width=32)), "mlp", False)[0] == "mlp"
    assert "network.width" not in settings("resnet") and settings("resnet", pictures=1000)["augment.adaptive"] is True
    assert settings("dcgan", preset=True) == {}
    assert set(settings("dcgan", preset=True, semi_supervised=True)) == {
        "objective.semi_supervised", "objective.loss", "objective.generator", "objective.gamma", "objective.gamma_end",
        "objective.consistency", "augment.kinds",
    }  # fmt: skip


def test_pictures_that_shall_wrap_and_do_not_are_judged_as_crops() -> None:
    assert settings("dcgan", preset=True, seam=1.3) == {"objective.crops": True}, "also where a preset was named"
    assert "objective.crops" not in settings(seam=1.05)
    waves = 2 * np.pi * (np.arange(16) / 16 + np.random.default_rng(0).random((60, 1)))  # whole ones, from any place
    round_, cut = (
        (127 + 100 * np.sin(turns * waves)[:, None].repeat(16, axis=1)).astype(np.uint8) for turns in (2, 1.5)
    )
    for pixels, wrap, wanted in ((round_, "x", False), (cut, "x", True), (cut, "y", False), (cut, "", False)):
        data = open_dataset(pixels, DataOptions.model_validate({"wrap": wrap, "test_fraction": 0.0}))
        _, family = bind(options(), data)
        assert family.settings["objective"]["crops"] is wanted, wrap
        assert not bind(options(settings={"objective.crops": False}), data)[1].settings["objective"]["crops"]


def options(**values: Any) -> TrainOptions:
    return TrainOptions.model_validate({"model": "gan", **values})


def test_what_the_user_set_wins(digits: Dataset) -> None:
    _, family = bind(options(), digits)
    assert family.settings["augment"]["adaptive"] and family.settings["objective"]["gamma"] == 1.0
    name, family = bind(options(batch=16, settings={"augment.ramp": True, "network.width": 8}), digits)
    assert name == "gan/resnet/small"
    assert family.training.batch == 16 and family.settings["network"]["width"] == 8
    augment = family.settings["augment"]
    assert augment["ramp"] and not augment["adaptive"] and augment["probability"] == 0, "all of a user's own"
    _, family = bind(options(settings={"objective.loss": "wasserstein", "objective.penalty": "gradient"}), digits)
    assert family.settings["objective"]["gamma_end"] == 0.1, "gamma is chosen for the preset's own loss alone"
    _, family = bind(options(model="dcgan/small"), digits)
    assert not family.settings["augment"]["adaptive"]


def test_what_was_chosen_is_recorded_with_its_reason_and_holds(digits: Dataset) -> None:
    asked = options(kimg=1.0, precision="float32", kernels="plain")
    record = resolve(asked, digits)
    whys = {key: each["why"] for each in record["chosen"] for key in each["settings"]}
    assert "shown about" in whys["augment.probability"]
    assert recorded(record).settings == record["settings"] == bind(asked, digits)[1].settings
    record["settings"]["network"]["width"] = 12  # as another version or machine would have chosen
    assert recorded(record).settings["network"]["width"] == 12


def test_a_vae_of_small_pictures_learns_faster_than_its_preset() -> None:
    rates = {}
    for network in ("conv", "dlgm", "ladder", "fsq"):
        for side in (32, 64):
            facts = Facts(pictures=FEW, validation=500, spec=ImageSpec(height=side, width=side))
            chosen = [each.settings for each in VAE.choose(facts, network, False)[1]]
            rates[network, side] = {key: value for each in chosen for key, value in each.items() if "training" in key}
            assert VAE.choose(facts, network, True)[1] == []
    assert rates["ladder", 32] == {"training.learning_rate": 4e-3, "training.clip_update": 1.0}
    assert rates["conv", 32]["training.learning_rate"] == 2e-3 and "training.learning_rate" not in rates["conv", 64]
    assert rates["dlgm", 32] == rates["ladder", 32] and rates["ladder", 64] == rates["fsq", 32] == {}


def test_semi_supervised_asks_for_classes_and_a_family_that_can(digits: Dataset) -> None:
    name, family = bind(options(semi_supervised=True), digits)
    assert name == "gan/dcgan/small" and family.semi_supervised and family.classes == 10
    with pytest.raises(UserError, match=r"--semi-supervised.*--model gan"):
        bind(options(model="vae", semi_supervised=True), digits)
    with pytest.raises(UserError, match=r"--semi-supervised.*one of both"):
        bind(options(semi_supervised=True, conditional=True), digits)
    with pytest.raises(UserError, match=r"objective.semi_supervised.*relativistic"):
        bind(options(semi_supervised=True, settings={"objective.loss": "relativistic"}), digits)
    plain = open_dataset(np.zeros((30, 8, 8), np.uint8) + np.arange(30, dtype=np.uint8)[:, None, None],
                         DataOptions(test_fraction=0.0, val_fraction=0.0))  # fmt: skip
    with pytest.raises(UserError, match=r"--semi-supervised.*some pictures have a class"):
        bind(options(semi_supervised=True), plain)[1].build()
