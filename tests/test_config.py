"""Configuration: refusals name option, value, what is allowed and the next step."""

from __future__ import annotations

import subprocess
import sys

import pytest

from zeuxis.config import (
    DataOptions,
    ImageSpec,
    TrainOptions,
    fingerprint,
    override,
    parse,
    parse_duration,
    parse_resolution,
    parse_settings,
)  # fmt: skip
from zeuxis.errors import UserError
from zeuxis.families import resolve_name
from zeuxis.sampling import count_seeds, parse_seeds, seeds_array


def says(error: pytest.ExceptionInfo[UserError], *parts: str) -> None:
    text = str(error.value)
    assert "\n" not in text
    for part in parts:
        assert part in text, text


def test_resolution_words() -> None:
    assert parse_resolution("auto") == "auto"
    assert parse_resolution("64") == (64, 64)
    assert parse_resolution("320x192") == (192, 320), "width comes first, as people say it"
    for wrong, nearest in (("30", "--resolution 32"), ("320x190", "320x192"), ("0", "--resolution 4")):
        with pytest.raises(UserError) as error:
            parse_resolution(wrong)
        says(error, "--resolution", repr(wrong), "multiple of 4", nearest)
    with pytest.raises(UserError) as error:
        parse_resolution("large")
    says(error, "--resolution", "'large'", "WIDTHxHEIGHT", "--resolution auto")


def test_durations() -> None:
    assert [parse_duration(text) for text in ("90", "90s", "1.5m", "2h", "1d")] == [90, 90, 90, 7200, 86400]
    for wrong in ("soon", "-5m", "0", "", "m", "nan"):
        with pytest.raises(UserError) as error:
            parse_duration(wrong)
        says(error, "--budget", repr(wrong), "10m")


def test_settings_and_overrides() -> None:
    assert parse_settings(["a.b=3", "c=text", "d=false", "e=[1, 2]"]) == {
        "a.b": 3,
        "c": "text",
        "d": False,
        "e": [1, 2],
    }
    with pytest.raises(UserError) as error:
        parse_settings(["width"])
    says(error, "--set", "'width'", "key=value")
    base = {"network": {"width": 32}, "x": 1}
    assert override(base, {"network.width": 64}) == {"network": {"width": 64}, "x": 1}
    assert base["network"] == {"width": 32}, "the original stays"
    for wrong in ("network.widht", "width", "network.width.more", "network"):
        with pytest.raises(UserError) as error:
            override(base, {wrong: 1}) if wrong != "network" else override({"network": {}}, {"netwrok": 1})
        says(error, "--set", "check the spelling")


def test_unknown_keys_and_values_are_named() -> None:
    with pytest.raises(UserError) as error:
        parse(TrainOptions, {"modle": "gan"}, "train")
    says(error, "train modle", "'gan'", "model", "remove modle")
    with pytest.raises(UserError) as error:
        parse(TrainOptions, {"batch": 0}, "train")
    says(error, "train batch", "got 0", "greater than or equal to 1")
    with pytest.raises(UserError) as error:
        parse(DataOptions, {"fit": "squash"}, "data")
    says(error, "data fit", "'squash'", "crop")


def test_image_specs() -> None:
    assert str(ImageSpec(height=192, width=320, channels=4, wrap_x=True)) == "320x192 RGBA wrap x"
    assert ImageSpec(height=8, width=12, channels=3).size == 288
    for wrong in (
        {"height": 30, "width": 32},
        {"height": 32, "width": 10**6},
        {"height": 32, "width": 32, "channels": 2},
    ):
        with pytest.raises(UserError):
            parse(ImageSpec, wrong, "spec")


def test_model_names() -> None:
    assert resolve_name("gan") == "gan/dcgan/small"
    assert resolve_name("vae") == "vae/conv/small"
    assert resolve_name("dcgan/radford") == "gan/dcgan/radford"
    assert resolve_name("gan/mlp") == "gan/mlp/article"
    with pytest.raises(UserError) as error:
        resolve_name("mlp")
    says(error, "--model", "'mlp'", "gan/mlp, vae/mlp", "say which family")
    with pytest.raises(UserError) as error:
        resolve_name("diffusion")
    says(error, "--model", "'diffusion'", "gan/dcgan/small")


def test_seeds() -> None:
    assert list(parse_seeds("0-3,10,7-8")) == [0, 1, 2, 3, 10, 7, 8]
    assert seeds_array("0-3,10").tolist() == [0, 1, 2, 3, 10]
    assert count_seeds("0-999999999999") == 10**12, "counted, not listed"
    for wrong in ("", "a", "3-1", "-5", "1,,2", "1-"):
        with pytest.raises(UserError) as error:
            count_seeds(wrong)
        says(error, "--seeds", repr(wrong), "0-63")


def test_fingerprints_do_not_depend_on_order() -> None:
    assert fingerprint({"a": 1, "b": [1.5, "x"]}) == fingerprint({"b": [1.5, "x"], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})


@pytest.mark.parametrize("module", ["zeuxis", "zeuxis.config", "zeuxis.cli"])
def test_torch_stays_unloaded(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
