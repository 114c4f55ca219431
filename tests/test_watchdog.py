"""The watchdog's rules on made-up histories, and real trainings with faults put into them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from zeuxis import steps
from zeuxis.checkpoint import StateStore, load_model
from zeuxis.config import ImageSpec
from zeuxis.families import make_family
from zeuxis.families.gan.objective import GAN
from zeuxis.files import read_json_lines
from zeuxis.training import Outcome, Training
from zeuxis.watchdog import RULES, Finding, Watchdog, diversity

Begin = Callable[..., Training]
ROLES = {"pair accuracy": "d/pair accuracy", "generator gradient": "g/gradient norm", "kl": "a/kl"}


def watch(
    rows: list[dict[str, float]], evaluations: dict[int, dict[str, float]] | None = None, **known: float
) -> list[tuple[int, Finding]]:
    """What the watchdog finds in 200 rows of a stage, with the row; evaluations by row; `known` before the first."""
    dog, found = Watchdog(ROLES), []
    dog.know(known)
    for place, row in enumerate(rows):
        finding = dog.see_statistics(row, 0, place / 200, 10 * place + 10)
        if finding:
            found.append((place, finding))
        if evaluations and place in evaluations:
            finding = dog.see_evaluation(evaluations[place], place / 200, 10 * place + 10)
            if finding:
                found.append((place, finding))
    return found


def healthy_rows(seed: int = 0, count: int = 200) -> list[dict[str, float]]:
    """Statistics as a GAN has them: norms that grow, wander and are noisy."""
    rng = np.random.default_rng(seed)
    walk = np.exp(np.cumsum(rng.normal(0, 0.05, count)))
    return [
        {
            "d/pair accuracy": float(np.clip(0.75 + rng.normal(0, 0.12), 0, 1)),
            "d/gradient norm": float(walk[place] * rng.lognormal(0, 0.5)),
            "g/gradient norm": float(walk[-place] * rng.lognormal(0, 0.5)),
            "generator/weight norm": float(5 + 3 * (place / count) ** 0.5 + rng.normal(0, 0.01)),
            "a/kl": float(rng.lognormal(2, 0.3)),
        }
        for place in range(count)
    ]


def falling(seed: int = 0) -> dict[int, dict[str, float]]:
    """Ten evaluations as a GAN has them: the metric falls, with noise, to what an unbiased estimate has near zero."""
    rng = np.random.default_rng(seed)
    return {
        place: {"metric": float(0.1 * 0.5**number + rng.normal(0, 0.001)), "diversity": float(rng.uniform(0.7, 1.1)),
                "coverage": float(np.clip(0.2 + 0.08 * number + rng.normal(0, 0.03), 0, 1))}
        for number, place in enumerate(range(19, 200, 20))
    }  # fmt: skip


def test_what_is_healthy_is_left_alone() -> None:
    for seed in range(50):
        assert watch(healthy_rows(seed), falling(seed)) == []


def scaled(term: str, factor: float, first: int = 100, last: int = 200) -> list[dict[str, float]]:
    rows = healthy_rows()
    for row in rows[first:last]:
        row[term] *= factor
    return rows


def still(term: str) -> list[dict[str, float]]:
    rows = healthy_rows()
    for row in rows[100:]:
        row[term] = rows[100][term]
    return rows


def becoming(**values: float) -> dict[int, dict[str, float]]:
    """Evaluations of which the last five have these values."""
    found = falling()
    for place in list(found)[5:]:
        found[place] |= values
    return found


@pytest.mark.parametrize(
    ("rule", "rows", "evaluations", "within"),
    [
        ("dead discriminator", scaled("d/pair accuracy", 0.1), None, 12),
        ("gradient spike", scaled("d/gradient norm", 500), None, 3),
        ("weights jump", scaled("generator/weight norm", 3), None, 2),
        ("stands still", still("generator/weight norm"), None, 12),
        ("collapse", healthy_rows(), becoming(diversity=0.02), 20),
        ("lost coverage", healthy_rows(), becoming(coverage=0.1), 20),
        ("most is lost", healthy_rows(), becoming(metric=0.09), 20),
        ("most is lost", healthy_rows(), becoming(metric=float("nan")), 20),
        ("twice the best", healthy_rows(), becoming(metric=0.045), 40),
    ],
)
def test_a_fault_is_noticed_soon_and_by_its_name(
    rule: str, rows: list[dict[str, float]], evaluations: dict[int, dict[str, float]] | None, within: int
) -> None:
    found = watch(rows, evaluations)
    assert found and found[0][1].rule == rule and found[0][1].action == "roll back"
    assert 100 <= found[0][0] <= 100 + within + (19 if evaluations else 0)


def test_one_bad_row_is_not_a_fault() -> None:
    for term in ("d/gradient norm", "g/gradient norm"):
        assert watch(scaled(term, 1000, 120, 122)) == []
    assert watch(scaled("d/pair accuracy", 0.0, 120, 125)) == []


def test_a_discriminator_that_is_always_right_is_a_fault_only_without_a_signal() -> None:
    rows = healthy_rows()
    for row in rows[100:]:
        row["d/pair accuracy"] = 1.0
    assert watch(rows) == []
    for row in rows[100:]:
        row["g/gradient norm"] *= 1e-4
    assert watch(rows)[0][1].rule == "discriminator wins"


def test_a_metric_once_at_twice_its_best_is_not_a_fault() -> None:
    evaluations = falling()
    evaluations[119]["metric"] = 0.045
    assert watch(healthy_rows(), evaluations) == []


def test_a_metric_near_its_floor_is_not_judged_by_its_noise() -> None:
    """Two healthy runs of few validation pictures, as they were: small numbers, several times their best."""
    for values in (
        [0.00602, 0.00049, -5e-05, 0.00048, 0.00035, 0.00023, 0.00045, 5e-05, 0.00012, 0.00032],
        [0.01215, 0.00789, 0.00481, 0.00196, 0.00095, 0.0005, 0.0013, 0.00148, 0.00146, 0.00153],
    ):
        evaluations = {place: {"metric": value} for place, value in zip(range(19, 200, 20), values, strict=True)}
        assert watch(healthy_rows(), evaluations) == []


def test_a_metric_that_falls_back_is_noticed_at_once_beyond_its_noise() -> None:
    """Three runs on digits as they were, with standard errors of about 1e-4: two healthy ones, and one of which all but
    50 pictures were taken away after the fourth evaluation."""
    for values, fault in (
        ([40.5, 11.8, 10.0, 3.9, 1.6, 2.8, 3.6, 4.6, 4.0, 7.1], None),
        ([26.8, 12.5, 9.5, 5.8, 2.7, 1.6, 2.7, 1.4, 1.9, 3.5], None),
        ([15.4, 3.7, 5.4, 3.8, 10.7, 33.7, 38.8, 38.6, 38.6, 37.0], 99),
    ):
        for error, noticed in ((1.2e-4, fault), (3e-4, fault and 119), (0.0, fault)):
            evaluations = {place: {"metric": value * 1e-4, "metric error": error}
                           for place, value in zip(range(19, 200, 20), values, strict=True)}  # fmt: skip
            found = watch(healthy_rows(), evaluations, untrained=0.05)
            assert [(place, finding.rule) for place, finding in found][:1] == (
                [(noticed, "falls back")] if noticed else []
            )
    without = {place: {"metric": value["metric"]} for place, value in evaluations.items()}
    assert watch(healthy_rows(), without, untrained=0.05) == [], "no errors are known"


def test_what_was_gained_is_counted_from_the_untrained_networks() -> None:
    """Two runs on 3,218 pictures of 64x64, as they were: one that wavers near its best, and one whose discriminator has
    won."""
    wavering = [0.00663, 0.00341, 0.01112, 0.00947, 0.0133]
    lost = [0.1696, 0.2227, 0.4537, 0.2165]
    for values, fault in ((wavering, ""), (lost, "most is lost")):
        evaluations = {place: {"metric": value} for place, value in zip(range(39, 200, 20), values, strict=False)}
        found = watch(healthy_rows(), evaluations, untrained=0.123)
        assert (found[0][1].rule if found else "") == fault


def test_what_an_earlier_state_would_not_mend_is_told_once() -> None:
    found = watch(scaled("a/kl", 1e-4))
    assert [(finding.rule, finding.action) for _, finding in found] == [("posterior collapse", "tell")]


def test_the_first_steps_are_not_judged() -> None:
    dog = Watchdog(ROLES)
    for place in range(200):
        assert dog.see_statistics({"d/pair accuracy": 0.0}, 0, place / 200, place) is None
    assert dog.see_statistics({}, 10, 0.0, 0) == Finding("not finite", "the last 10 steps were not finite", "roll back")


def test_states_are_gone_back_to_at_most_three_times_and_further_where_it_fails_again() -> None:
    dog = Watchdog(ROLES)
    dog.begin_stage(0)
    assert dog.mark(100) and dog.mark(200) and dog.healthy == [100, 200]
    assert dog.go_back() == 200
    assert dog.go_back() == 100, "200 failed again at once"
    assert dog.mark(150) and dog.go_back() == 150
    assert dog.go_back() is None, "three times is enough"
    again = Watchdog(ROLES)
    again.load(json.loads(json.dumps(dog.to_json())))
    assert again.to_json() == dog.to_json()


def test_a_suspicious_state_is_not_one_to_go_back_to() -> None:
    dog = Watchdog(ROLES)
    for place in range(60):
        dog.see_statistics({"d/pair accuracy": 0.8}, 0, place / 200, 10 * place)
    assert dog.mark(100)
    for place in range(60, 90):
        if dog.see_statistics({"d/pair accuracy": 0.0}, 0, place / 200, 10 * place):
            break
        assert dog.mark(place) is not dog.suspicious
    assert dog.suspicious and not dog.mark(1000)


def test_diversity_is_one_of_equals_and_zero_of_copies() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (64, 1, 8, 8), dtype=np.uint8)
    assert diversity(pictures[::-1], pictures) == pytest.approx(1)
    assert diversity(pictures[:1].repeat(64, 0), pictures) == 0
    half = diversity((pictures // 2).astype(np.uint8), pictures)
    assert half == pytest.approx(0.25, abs=0.01)


def test_a_steadied_family_has_half_the_rate_and_twice_the_penalty() -> None:
    family = make_family("dcgan/tiny", ImageSpec(height=8, width=8, channels=1))
    before, after = family.settings, family.steadied(2).settings
    assert after["training"]["learning_rate"] == before["training"]["learning_rate"] / 4
    assert after["objective"]["gamma"] == 4 * before["objective"]["gamma"]
    assert after["objective"]["gamma_end"] == 4 * before["objective"]["gamma_end"]
    assert {**after, "training": 0, "objective": 0} == {**before, "training": 0, "objective": 0}
    assert family.steadied(0) is family


def test_every_rule_is_of_a_kind_that_is_looked_at() -> None:
    assert {rule.at for rule in RULES.values()} == {"statistics", "evaluation"}
    assert all(rule.in_a_row >= 1 and 0 <= rule.warmup < 1 for rule in RULES.values())


# -- real trainings ----------------------------------------------------------------------------------------------------
def state_of(outcome: Outcome) -> tuple[str, dict[str, Any]]:
    """The hash of every tensor of the last state, and the values that are not times."""
    (tensors, values), _ = StateStore(outcome.folder / "state").load_latest()  # type: ignore[misc]
    digest = hashlib.sha256()
    for key in sorted(tensors):
        digest.update(key.encode() + tensors[key].contiguous().numpy().tobytes())
    times = ("elapsed", "snapshot_seconds", "snapshot_total")
    return digest.hexdigest(), {key: value for key, value in values.items() if key not in times}


def poisoned(training: Training, at: int) -> Callable[[int], bool]:
    """A `stop` that makes the generator's weights NaN the first time that `at` images were seen."""
    done: list[int] = []

    def hook(seen: int) -> bool:
        if seen == at and not done:
            done.append(seen)
            with torch.no_grad():
                for network in (training.stepper.networks["generator"], training.stepper.averaged["generator"]):
                    for parameter in network.parameters():
                        parameter.fill_(torch.nan)
        return False

    return hook


OPTIONS: dict[str, Any] = {"kimg": 3.2, "snapshots": 4, "settings": {"training.learning_rate": 0.002}}  # 400 steps


def test_nan_weights_are_mended_and_a_resume_is_exact(begin: Begin) -> None:
    log: list[str] = []
    training = begin("whole", log=log, **OPTIONS)
    rate = training.family.training.learning_rate
    whole = training.run(stop=poisoned(training, 2008))
    assert (whole.status, whole.images_seen) == ("finished", 3200)
    assert training.watchdog.rollbacks == 1 and training.family.training.learning_rate == rate / 2
    sentences = [line for line in log if "went back" in line]
    assert len(sentences) == 1
    assert "the last 1" in sentences[0] and "steps were not finite, noticed at 2" in sentences[0]
    assert "went back to 1920 images with the learning rate halved and the penalty doubled (1 of at" in sentences[0]
    rows = read_json_lines(whole.folder / "stats.jsonl")
    (record,) = [row for row in rows if "watchdog" in row]
    assert record["sentence"] == sentences[0] and record["action"] == "roll back" and record["images_seen"] == 1920
    model = load_model(whole.folder)
    assert all(bool(value.isfinite().all()) for value in model.networks["generator"].state_dict().values())
    assert model.family.training.learning_rate == rate / 2, "the model says how it was trained"
    # Left after the rollback and gone on with, in a run of the same fault.
    training = begin("parts", **OPTIONS)
    hook = poisoned(training, 2008)
    first = training.run(stop=lambda seen: hook(seen) or (seen == 2600 and training.watchdog.rollbacks == 1))
    assert (first.status, first.images_seen) == ("interrupted", 2600)
    second = begin("parts", **OPTIONS).run()
    assert second.folder == first.folder and state_of(second) == state_of(whole)
    again = read_json_lines(second.folder / "stats.jsonl")
    times = ("seconds", "waiting for data")
    assert [{k: v for k, v in row.items() if k not in times} for row in again] == [
        {k: v for k, v in row.items() if k not in times} for row in rows
    ]


def test_steps_that_became_100_times_as_large_are_noticed_within_one_evaluation(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, log = steps.learning_rate, []  # type: ignore[var-annotated]
    training = begin(log=log, **OPTIONS)

    def hook(seen: int) -> bool:
        if seen == 2008:  # and it stays so
            monkeypatch.setattr(steps, "learning_rate", lambda settings, progress: 100 * plain(settings, progress))
        return False

    outcome = training.run(stop=hook)
    assert training.watchdog.rollbacks >= 1 and outcome.status in ("finished", "stopped")
    first = next(row for row in read_json_lines(outcome.folder / "stats.jsonl") if "watchdog" in row)
    assert first["watchdog"] == "weights jump" and 2008 < first["noticed_at"] <= 2400, "a snapshot every 800 images"
    assert first["images_seen"] == 1920 and first["sentence"] in log


def test_what_no_state_can_mend_is_stopped_with_the_best_model_kept(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses, log, training = GAN.losses, [], None  # type: ignore[var-annotated]

    def broken(self: GAN, *args: Any) -> dict[str, torch.Tensor]:
        terms = losses(self, *args)
        return {**terms, "loss": terms["loss"] * (torch.nan if training and training.images_seen >= 2000 else 1.0)}

    monkeypatch.setattr(GAN, "losses", broken)
    training = begin(log=log, **OPTIONS)
    outcome = training.run()
    assert (outcome.status, training.watchdog.rollbacks) == ("stopped", 3)
    assert "after going back 3 times: stopped; the best model so far is kept (images seen -1600)" in log[-1]
    assert load_model(outcome.folder).about["images_seen"] == 1600
    finished = json.loads((outcome.folder / "finished.json").read_text())
    assert finished["stopped"] == log[-1]
    rows = read_json_lines(outcome.folder / "stats.jsonl")
    assert [row["action"] for row in rows if "watchdog" in row] == ["roll back"] * 3 + ["stop"]
    assert begin(**OPTIONS).folder.path != outcome.folder, "the same command begins anew"


def test_weights_that_are_not_finite_are_never_kept(begin: Begin) -> None:
    """At the very step of a snapshot, before the watchdog can know."""
    training, kept = begin(**OPTIONS), []  # type: ignore[var-annotated]
    poison = poisoned(training, 1600 - 8)

    def hook(seen: int) -> bool:
        if training.watchdog.rollbacks and not kept:
            kept.append(load_model(training.folder.path).about["images_seen"])
        return poison(seen)

    training.run(stop=hook)
    assert kept == [800] and training.watchdog.rollbacks == 1
    assert (training.folder.path / "samples-000001.600kimg.png").exists()


def test_a_healthy_tiny_run_hears_nothing(begin: Begin) -> None:
    def score(pictures: Iterator[np.ndarray]) -> tuple[str, float, dict[str, float]]:
        next(pictures)
        return "test", 1.0, {"coverage": 0.5}

    training = begin(**OPTIONS)
    outcome = training.run(score=score)
    assert outcome.status == "finished"
    assert not [row for row in read_json_lines(outcome.folder / "stats.jsonl") if "watchdog" in row]
    assert read_json_lines(Path(outcome.folder) / "metrics.jsonl")[0]["coverage"] == 0.5
