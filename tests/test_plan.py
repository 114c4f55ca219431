"""`zeuxis plan`: what is measured, what is predicted from it, and what is picked."""

from __future__ import annotations

import json
import math
import sys
import time
from dataclasses import replace

import pytest
import torch

from zeuxis import forecast as module
from zeuxis.cli import run
from zeuxis.config import ImageSpec, TrainOptions
from zeuxis.data import Dataset
from zeuxis.errors import UserError
from zeuxis.families import FAMILIES, make_family
from zeuxis.forecast import Forecast, Measured, forecasts, matching, measure_preset, picked
from zeuxis.memory import MemoryWatch, is_out_of_memory

CPU = torch.device("cpu")
MEASURED = Measured((100.0,), 0.001, 0.0, 10**8, 1000, "float32/plain", 64, False, 0.1, 2.0)


def row(model: str, seconds: float, budget_kimg: float | None, kimg: float = 100.0, problem: str = "") -> Forecast:
    return Forecast(model, "", problem, 100.0, 10**8, 1000, 64, 64, "float32/plain", kimg, seconds, budget_kimg)


def test_a_name_stands_for_all_below_it() -> None:
    assert len(matching("")) == sum(len(presets) for cls in FAMILIES.values() for presets in cls.presets().values())
    assert set(matching("dcgan")) == {f"gan/dcgan/{preset}" for preset in FAMILIES["gan"].presets()["dcgan"]}
    assert matching("vae/mlp/tiny") == ["vae/mlp/tiny"]
    with pytest.raises(UserError, match="say which family"):
        matching("mlp")


def test_what_comes_to_its_end_and_computes_most_is_picked() -> None:
    rows = [row("gan/a/tiny", 1, 9999), row("gan/a/small", 300, 200), row("gan/a/large", 500, 120),
            row("gan/a/huge", 9000, 7), row("gan/b/x", 0, None, problem="does not fit")]  # fmt: skip
    best, reason = picked(rows, 600)  # type: ignore[misc]
    assert best.model == "gan/a/large"
    assert "8.33 minutes of 10 minutes" in reason and "gan/a/huge would not" in reason
    best, reason = picked([rows[0], rows[3]], 600)  # type: ignore[misc]
    assert best.model == "gan/a/huge" and "7% of its length" in reason
    assert picked([rows[0], rows[4]], 600) is None, "a preset for tests is never advised"


def test_a_finish_counts_stages_snapshots_and_the_start(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "measure_preset", lambda *_, **__: MEASURED)
    options = TrainOptions(kimg=10, snapshots=2, budget=1000)
    (found,) = forecasts(options, digits, ["gan/mlp/tiny"], startup=5)
    assert found.seconds == pytest.approx(5 + 2 + 10_000 / 100 + 2 * module.SNAPSHOT_PICTURES * 0.001)
    assert found.budget_kimg == pytest.approx((1000 - 5 - 2 - 2 * module.SNAPSHOT_PICTURES * 0.001) * 0.1)


def test_measured_once_and_remembered(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PHASE_SECONDS", 0.02)
    options = TrainOptions(model="vae/mlp/tiny", kimg=1)
    before = torch.get_rng_state()
    (first,) = forecasts(options, digits, ["vae/mlp/tiny"])
    assert torch.equal(torch.get_rng_state(), before), "timing moves no random numbers"
    assert first.images_per_second > 0 and first.peak_bytes > 2**20 and not first.problem
    (again,) = forecasts(options, digits, ["vae/mlp/tiny"])
    assert again.images_per_second == first.images_per_second
    (anew,) = forecasts(options, digits, ["vae/mlp/tiny"], fresh=True)
    assert anew.images_per_second != first.images_per_second
    late = forecasts(options.model_copy(update={"batch": 9}), digits, ["vae/mlp/tiny", "gan/mlp/tiny"], patience=-1)
    assert [bool(found.problem) for found in late] == [False, True], "one is always measured, the rest in time only"


def test_what_cannot_fit_is_said_before_it_is_tried(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "free_bytes", lambda device: 1000)
    (found,) = forecasts(TrainOptions(), digits, ["gan/mlp/article"], fresh=True)
    assert found.problem.startswith("does not fit: its 59,")


def test_little_memory_means_fewer_pictures_at_once(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PHASE_SECONDS", 0.02)
    family = make_family("vae/mlp/tiny", ImageSpec(height=8, width=8, channels=1))
    measurement = module._Measurement(TrainOptions(model="vae/mlp/tiny", batch=64), family, digits, CPU)
    measurement.batch = 64
    assert [measurement._micro_batch(10.0, free) for free in (1000, 640, 639, 170, 1)] == [64, 64, 32, 16, 1]


def test_memory_is_watched_and_its_end_known() -> None:
    with MemoryWatch(CPU) as watch:
        before = MemoryWatch.now(CPU)
        held = torch.ones(8 * 2**20)
        until = time.monotonic() + 20  # on a busy machine the watch looks seldom
        while before and watch.peak - before <= 24 * 2**20 and time.monotonic() < until:
            time.sleep(0.01)
        del held
        torch.ones(2**20).sum()
    assert watch.peak - before > 24 * 2**20 if before else watch.peak == 0
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(torch.OutOfMemoryError()) and is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shape mismatch"))


def test_the_command_as_a_user_sees_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(module, "PHASE_SECONDS", 0.02)
    monkeypatch.setattr(sys, "argv", ["zeuxis", "plan", "digits", "--model", "gan/mlp/tiny", "--budget", "9h"])
    assert run() == 0
    printed = capsys.readouterr().out
    assert "gan/mlp/tiny" in printed and "kimg" in printed
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--json"])
    assert run() == 0
    document = json.loads(capsys.readouterr().out)
    assert document["picks"] == {} and [entry["model"] for entry in document["presets"]] == ["gan/mlp/tiny"]
    assert 0 < document["presets"][0]["budget_kimg"] < math.inf


def test_a_share_without_a_budget_is_whole() -> None:
    assert replace(row("gan/a/b", 1, 50.0)).share == 0.5 and row("gan/a/b", 1, None).share == math.inf


def test_measuring_says_what_it_measured(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PHASE_SECONDS", 0.02)
    family = make_family("gan/dcgan/tiny", digits.spec, 10)
    found = measure_preset(TrainOptions(model="gan/dcgan/tiny", conditional=True), family, digits, fresh=True)
    assert found.parameters == sum(p.numel() for net in family.build().values() for p in net.parameters())
    assert len(found.stage_rates) == 1 and found.micro_batch == family.training.batch and not found.rough
