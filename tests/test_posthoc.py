"""Averages of any length after training: the mathematics in closed form, and a run that is tuned."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from zeuxis import training
from zeuxis.checkpoint import AverageStore, load_model
from zeuxis.data import Dataset, open_dataset
from zeuxis.ema import PowerAverages
from zeuxis.errors import UserError
from zeuxis.flat import FlatParameters
from zeuxis.metrics.selection import selection_score
from zeuxis.posthoc import FOLLOWED, coefficients, decay, gamma_of, inner_product, mismatch, sigma_rel
from zeuxis.training import Training
from zeuxis.tuning import tune

Begin = Callable[..., Training]
GAMMAS = [gamma_of(sigma) for sigma in FOLLOWED]


def test_lengths_and_exponents_are_those_of_the_paper() -> None:
    assert [round(gamma, 2) for gamma in GAMMAS] == [16.97, 6.94]
    for sigma in (0.01, 0.05, 0.1, 0.2, 0.28):
        assert sigma_rel(gamma_of(sigma)) == pytest.approx(sigma, rel=1e-9)
    for wrong in (0.0, -1.0, 0.3):
        with pytest.raises(ValueError, match="sigma_rel"):
            gamma_of(wrong)


def test_inner_products_are_the_integrals() -> None:
    for one, other in (((16.97, 1.0), (6.94, 1.0)), ((16.97, 0.5), (6.94, 0.8)), ((3.0, 0.9), (9.0, 0.2))):
        (_, t_a), (_, t_b) = one, other
        times = (np.arange(200_000) + 0.5) / 200_000 * min(t_a, t_b)
        profiles = [(gamma + 1) * times**gamma / t ** (gamma + 1) for gamma, t in (one, other)]
        integral = (profiles[0] * profiles[1]).mean() * min(t_a, t_b)
        assert inner_product(one, other) == pytest.approx(integral, rel=1e-6)
        assert inner_product(other, one) == inner_product(one, other)


def test_a_kept_average_is_found_again_exactly() -> None:
    kept = [(gamma, moment / 8) for moment in range(1, 9) for gamma in GAMMAS]
    for place, wanted in enumerate(kept):
        expected = np.zeros(len(kept))
        expected[place] = 1
        assert np.allclose(coefficients(kept, wanted), expected, atol=1e-6)
        assert mismatch(kept, wanted) < 1e-6
    assert mismatch(kept, (gamma_of(0.075), 1.0)) < 0.02
    assert mismatch(kept, (gamma_of(0.2), 1.0)) < 0.1
    assert mismatch(kept[-2:], (gamma_of(0.2), 1.0)) > 0.2, "the last moment alone does not reach so far back"


def test_an_average_of_a_known_path_is_reconstructed() -> None:
    """Weights that walk at random: the average of another length, followed beside, against the combination."""
    steps, size = 800, 400
    network = nn.Linear(size, 1, bias=False)
    flat = FlatParameters([network])
    power, walk = PowerAverages(flat), torch.Generator().manual_seed(0)
    wanted, kept = torch.zeros(size), []
    gamma, skipped = gamma_of(0.15), torch.zeros(())
    for step in range(1, steps + 1):
        with torch.no_grad():
            flat.values.add_(torch.randn(size, generator=walk) * 0.1)
        power.update(flat, skipped)
        wanted.lerp_(flat.values.detach(), 1 - decay(gamma, step))
        if step % (steps // 8) == 0:
            kept.append((step, {sigma: values.clone() for sigma, values in power.values.items()}))
    assert torch.equal(power.named(flat, {"net": network})["0.05.net.weight"].view(-1), power.values[0.05])
    profiles = [(g, step / steps) for step, _ in kept for g in GAMMAS]
    factors = coefficients(profiles, (gamma, 1.0))
    found = sum(float(f) * v for f, v in zip(factors, (v for _, values in kept for v in values.values()), strict=True))
    error = (found - wanted).norm() / (wanted - flat.values.detach()).norm()
    nearest = min((values - wanted).norm() for values in power.values.values()) / (wanted - flat.values.detach()).norm()
    assert error < 0.05 and error < nearest / 4


def test_a_step_that_was_skipped_leaves_the_averages_alone() -> None:
    flat = FlatParameters([nn.Linear(3, 2)])
    power = PowerAverages(flat)
    power.update(flat, torch.zeros(()))
    assert all(torch.equal(values, flat.values) for values in power.values.values()), "the first step takes all"
    before = {sigma: values.clone() for sigma, values in power.values.items()}
    with torch.no_grad():
        flat.values.add_(1.0)
    power.update(flat, torch.ones(()))
    assert all(torch.equal(values, before[sigma]) for sigma, values in power.values.items())


def test_at_most_sixteen_averages_are_kept_and_spread_over_the_run(tmp_path: Path) -> None:
    store = AverageStore(tmp_path / "ema")
    for count in range(1, 21):
        store.save(count * 100, {"0.05.net.weight": torch.full((2,), float(count))}, count)
    found = store.load()
    counts = [count for count, _ in found]
    assert len(counts) == 8 and counts[0] == 1 and counts[-1] == 20 and max(np.diff(counts)) <= 6
    assert all(tensors["0.05.net.weight"][0] == count for count, tensors in found)
    store.drop_after(1000)
    assert [count for count, _ in store.load()] == [count for count in counts if count <= 10]


# -- a run -------------------------------------------------------------------------------------------------------------
@pytest.fixture
def finished(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(training, "POWER_STEPS", 50)
    return begin("runs", model="dcgan/tiny", kimg=0.8, snapshots=1).run().folder


def test_the_best_length_becomes_the_model(finished: Path, digits: Dataset) -> None:
    files = sorted((finished / "ema").iterdir())
    assert [file.stem for file in files] == [f"{-(-100 * moment // 8) * 8:012d}" for moment in range(1, 9)]
    before = load_model(finished)
    seen: list[float] = []

    def score(pictures: Iterator[np.ndarray]) -> tuple[str, float]:
        seen.append(float(next(pictures).astype(np.float64).mean()))
        return "test", {1: 2.0, 2: 3.0, 3: 1.0}[len(seen)]

    tried = tune(finished, digits, score, lengths=(0.05, 0.2))
    assert [(each.length, each.value, each.chosen) for each in tried] == [
        (None, 2.0, False), (0.05, 3.0, False), (0.2, 1.0, True),
    ]  # fmt: skip
    assert len(set(seen)) == 3, "three different models"
    after = load_model(finished)
    assert after.hash != before.hash and after.about["chosen_by"] == "test 1, average of length 0.2"
    assert "the average of length 0.2 is the model now" in (finished / "log.txt").read_text()
    # A length that is followed comes out as it was followed.
    last = AverageStore(finished / "ema").load()[-1][1]
    seen.clear()

    def only(pictures: Iterator[np.ndarray]) -> tuple[str, float]:
        seen.append(1.0)
        return "test", -float(len(seen))

    tune(finished, digits, only, lengths=(0.05,))
    for key, value in load_model(finished).networks["generator"].state_dict().items():
        if f"0.05.generator.{key}" in last:
            assert torch.allclose(value, last[f"0.05.generator.{key}"], atol=1e-5)


def test_a_worse_length_leaves_the_model_alone(finished: Path, digits: Dataset) -> None:
    before = load_model(finished).hash
    values = iter([1.0, 2.0])
    tried = tune(finished, digits, lambda pictures: ("test", next(values)), lengths=(0.1,))
    assert [each.chosen for each in tried] == [True, False] and load_model(finished).hash == before


def test_runs_that_cannot_be_tuned_are_one_line(
    begin: Begin, finished: Path, digits: Dataset, pictures: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    score = selection_score(digits)
    assert score is not None
    with pytest.raises(UserError, match="the data that the run was trained on"):
        tune(finished, open_dataset(pictures(60)), score)
    monkeypatch.setattr(training, "POWER_STEPS", 2000)
    short = begin("short", kimg=0.4).run().folder
    assert not (short / "ema").exists()
    with pytest.raises(UserError, match="2,000 steps"):
        tune(short, digits, score)


def test_averages_are_part_of_an_exact_resume(begin: Begin, finished: Path) -> None:
    options = {"model": "dcgan/tiny", "kimg": 0.8, "snapshots": 1}
    first = begin("parts", **options).run(stop=lambda seen: seen >= 456)
    second = begin("parts", **options).run()
    assert second.folder == first.folder
    for file in (finished / "ema").iterdir():
        assert (second.folder / "ema" / file.name).read_bytes() == file.read_bytes()
    assert json.loads((second.folder / "finished.json").read_text())["images_seen"] == 800
