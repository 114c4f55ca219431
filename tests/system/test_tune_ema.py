"""`zeuxis tune-ema`: a table of lengths and the best as the model, or one line why not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from zeuxis import training
from zeuxis.checkpoint import load_model

Command = Callable[..., tuple[int, str, str]]
TRAIN = ("train", "digits", "--model", "dcgan/tiny", "--kimg", "0.8", "--precision", "float32", "--kernels", "plain",
         "--snapshots", "1", "--out", "runs")  # fmt: skip


def test_a_trained_run_is_tuned(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "POWER_STEPS", 50)
    assert command(*TRAIN)[0] == 0
    code, out, _ = command("tune-ema", "runs/00000-gan-digits", "--lengths", "0.05,0.2")
    assert code == 0 and "kid_val_random" in out and "as it was" in out
    assert out.count("the model now") == 1
    model = load_model("runs/00000-gan-digits")
    tuned = "average of length" in model.about["chosen_by"]
    assert tuned is ("the model stays as it was" not in out)


def test_what_cannot_be_tuned_is_one_line(command: Command) -> None:
    assert command("tune-ema", "nowhere")[0] == 2
    assert command(*TRAIN)[0] == 0
    code, _, err = command("tune-ema", "runs/00000-gan-digits")
    assert code == 2 and "2,000 steps" in err and err.count("\n") == 1
    code, _, err = command("tune-ema", "runs/00000-gan-digits", "--lengths", "0.5")
    assert code == 2 and "--lengths" in err and err.count("\n") == 1
