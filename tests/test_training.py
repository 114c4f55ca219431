"""The loop: exact resume, budgets, faults, and what a run folder holds."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from zeuxis.checkpoint import StateStore, load_model
from zeuxis.data import Dataset, open_dataset
from zeuxis.errors import RunFault, StateError, UserError
from zeuxis.families.gan.objective import GAN
from zeuxis.files import read_json_lines
from zeuxis.images import to_float
from zeuxis.planning import Plan
from zeuxis.randomness import generator_for
from zeuxis.runs import RunFolder
from zeuxis.training import Outcome, Training

Begin = Callable[..., Training]


def state_hash(outcome: Outcome) -> str:
    """Every tensor of the last state, and the counters that are not times."""
    store = StateStore(outcome.folder / "state")
    (tensors, values), _ = store.load_latest()  # type: ignore[misc]
    digest = hashlib.sha256()
    for key in sorted(tensors):
        digest.update(key.encode() + tensors[key].contiguous().numpy().tobytes())
    kept = {key: value for key, value in values.items() if key not in ("elapsed", "snapshot_seconds", "snapshot_total")}
    return digest.hexdigest() + json.dumps(kept, sort_keys=True)


def rows(folder: Path) -> list[dict[str, float]]:
    return [
        {key: value for key, value in row.items() if key not in ("seconds", "waiting for data")}
        for row in read_json_lines(folder / "stats.jsonl")
    ]


@pytest.mark.parametrize("model", ["gan/dcgan/tiny", "vae/conv/tiny", "dcgan/radford", "gan/mlp/tiny"])
def test_k_and_k_images_are_2k(begin: Begin, model: str) -> None:
    options = {"model": model, "conditional": True, "mirror": True, "kimg": 0.4}
    if model == "gan/mlp/tiny":  # a phase that is not due at every step, and noise of its own
        options |= {"settings": {"objective.interval": 3, "objective.penalty": "r1+r2 finite"}}
    if model == "dcgan/radford":  # batch normalisation in both networks: its buffers are state too
        options |= {"settings": {"network.width": 8, "network.max_width": 16}, "batch": 8}
    whole = begin("whole", **options).run()
    for stop_at in (72, 208, 344):
        out = f"parts{stop_at}"
        log: list[str] = []
        first = begin(out, **options).run(stop=lambda seen, at=stop_at: seen >= at)
        assert (first.status, first.images_seen) == ("interrupted", stop_at)
        second = begin(out, log=log, **options).run()
        assert second.folder == first.folder and second.status == "finished"
        assert f"resumed at {stop_at} images" in log
        assert state_hash(second) == state_hash(whole)
        assert rows(second.folder) == rows(whole.folder)
        weights = [(outcome.folder / "model" / "model.safetensors").read_bytes() for outcome in (whole, second)]
        assert weights[0] == weights[1]


def test_a_finished_run_is_left_alone_and_other_settings_begin_another(begin: Begin) -> None:
    first = begin().run()
    before = state_hash(first)
    again, other = begin().run(), begin(seed=1).run()
    assert [outcome.folder.name[:5] for outcome in (first, again, other)] == ["00000", "00001", "00002"]
    assert state_hash(first) == before
    assert state_hash(again) == before, "the same settings and data give the same training"
    assert state_hash(other) != before


def test_a_finished_run_can_be_extended(begin: Begin) -> None:
    first = begin().run()
    with pytest.raises(UserError, match=r"--resume.*larger --kimg or --budget"):
        begin(resume=first.folder)
    longer = begin(resume=first.folder, kimg=0.8).run()
    assert (longer.folder, longer.images_seen) == (first.folder, 800)
    assert (first.folder / "finished.json").exists()


def test_other_data_do_not_resume(begin: Begin, pictures: Callable[..., np.ndarray]) -> None:
    first = begin().run()
    with pytest.raises(UserError, match="the data have changed"):
        begin(resume=first.folder, dataset=open_dataset(pictures(40)))


def test_two_processes_never_share_a_run(begin: Begin, tmp_path: Path) -> None:
    one = begin()
    with pytest.raises(UserError, match="no other process"):
        RunFolder.open(one.folder.path)
    two = begin()  # the same command at the same time begins its own run
    assert two.folder.path != one.folder.path
    assert one.run().folder != two.run().folder


@pytest.mark.parametrize("damage", ["torn", "deleted", "all torn"])
def test_a_damaged_last_state_falls_back(begin: Begin, damage: str) -> None:
    whole = begin("whole").run()
    first = begin("cut").run(stop=lambda seen: seen >= 304)
    states = sorted((first.folder / "state").glob("0*.safetensors"))
    assert len(states) >= 2
    for state in states if damage == "all torn" else states[-1:]:
        state.unlink() if damage == "deleted" else state.write_bytes(state.read_bytes()[:-5])
    log: list[str] = []
    second = begin("cut", log=log).run()
    text = "\n".join(log)
    assert "falling back to the one before" in text
    assert "starting again at 0 images" in text if damage == "all torn" else "resumed at" in text
    assert state_hash(second) == state_hash(whole)


def test_a_full_disk_stops_cleanly(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    first = begin().run(stop=lambda seen: seen >= 200)
    before = sorted((first.folder / "state").iterdir())
    real = os.fsync

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("zeuxis.files.os.fsync", full)
    with pytest.raises(RunFault, match=r"No space left on device.*older states are intact: make room"):
        begin().run()
    monkeypatch.setattr("zeuxis.files.os.fsync", real)
    assert sorted((first.folder / "state").iterdir()) == before
    assert state_hash(begin().run()) == state_hash(begin("whole").run())


def test_signals_save_and_leave(begin: Begin) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        training = begin(f"out{number}", kimg=4000)
        threading.Timer(0.3, os.kill, (os.getpid(), number)).start()
        outcome = training.run()
        assert outcome.status == "interrupted" and outcome.images_seen > 0
        assert StateStore(outcome.folder / "state").names()[-1] == f"{outcome.images_seen:012d}"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_signal_that_comes_twice_at_once_still_saves(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    """`make` and `timeout` pass a signal on that the whole process group was sent already: here while it saves."""
    training = begin(kimg=4000)
    save, sent = training.save, threading.Event()

    def interrupt() -> None:
        sent.set()
        os.kill(os.getpid(), signal.SIGINT)

    def interrupted_save(best: bool = False) -> None:
        if sent.is_set():
            os.kill(os.getpid(), signal.SIGINT)
        save(best)

    monkeypatch.setattr(training, "save", interrupted_save)
    threading.Timer(0.3, interrupt).start()
    outcome = training.run()
    assert outcome.status == "interrupted"
    assert StateStore(outcome.folder / "state").names()[-1] == f"{outcome.images_seen:012d}"


def test_non_finite_steps_are_counted_and_end_the_run(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    losses, calls = GAN.losses, [0]

    def sometimes(self: GAN, phase: object, *args: object) -> dict[str, torch.Tensor]:
        calls[0] += 1
        terms = losses(self, phase, *args)  # type: ignore[arg-type]
        poison = torch.nan if calls[0] in (425, 426) or calls[0] > 440 else 1.0
        return {**terms, "loss": terms["loss"] * poison}

    monkeypatch.setattr(GAN, "losses", sometimes)
    training = begin(kimg=4)
    calls[0] = 0  # the timing at the start took steps too
    with pytest.raises(RunFault, match=r"steps were not finite.*learning_rate"):
        training.run()
    folder = training.folder.path
    counted = [row["skipped steps"] for row in rows(folder) if "skipped steps" in row]
    assert counted[-1] >= 10 and counted == sorted(counted)
    numbers = [value for row in rows(folder) for value in row.values() if not isinstance(value, str)]
    assert all(np.isfinite(value) for value in numbers)
    went_back = [row for row in rows(folder) if row.get("action") == "roll back"]
    assert [row["rollbacks"] for row in went_back] == [1, 2, 3]
    assert [row["images_seen"] for row in went_back] == [1600, 0, 0], "what failed again at once is not trusted"
    assert all(row["noticed_at"] > row["images_seen"] for row in went_back)


def test_run_folder_holds_what_was_promised(begin: Begin, digits: Dataset) -> None:
    scores = iter([4.0, 3.0, 1.0, 2.0])  # the first is that of untrained networks
    outcome = begin(model="gan/dcgan/tiny", conditional=True, snapshots=3).run(
        score=lambda pictures: ("test", next(scores))
    )
    names = {path.relative_to(outcome.folder).as_posix() for path in outcome.folder.rglob("*") if path.is_file()}
    assert {
        "config.json", "log.txt", "stats.jsonl", "metrics.jsonl", "reals.png", "finished.json",
        "samples-000000.400kimg.png",
        "model/config.json", "model/model.safetensors", "model/README.md", "model/samples.png", "state/best.json",
    } <= names  # fmt: skip
    assert outcome.best == ("test", 1.0)
    metrics = read_json_lines(outcome.folder / "metrics.jsonl")
    assert [row["value"] for row in metrics] == [3.0, 1.0, 2.0]
    model = load_model(outcome.folder)
    assert model.about["images_seen"] == metrics[1]["images_seen"], "the model folder holds the best, not the last"
    assert model.classes == digits.classes and sum(model.class_counts) == len(digits.train)
    config = json.loads((outcome.folder / "config.json").read_text())
    assert config["format_version"] == 1 and config["resolved"]["precision"] == "float32"


@pytest.mark.parametrize("model", ["tokens/tiny", "pixelcnn/tiny"])
def test_what_has_nats_is_chosen_by_those_of_validation_pictures(begin: Begin, digits: Dataset, model: str) -> None:
    def never(pictures: object) -> tuple[str, float]:
        raise AssertionError("samples of it scatter too much")

    outcome = begin(model=model, snapshots=2).run(score=never)
    values = [row["value"] for row in read_json_lines(outcome.folder / "metrics.jsonl")]
    loaded = load_model(outcome.folder)
    images = to_float(torch.from_numpy(digits.val.all()))
    with torch.no_grad():
        if model.startswith("tokens"):
            tokens = loaded.networks["quantiser"](loaded.networks["encoder"](images, None))[1]
            log_p = loaded.networks["prior"](tokens, None).log_softmax(-1)
            nats = -log_p.gather(2, tokens.flatten(1)[..., None]).sum((1, 2))
        else:
            nats = -loaded.family.log_likelihood(loaded.networks, images, None, generator_for("likelihood"))
    assert len(values) == 2 and outcome.best == ("nll_val", min(values))
    assert abs(float(nats.mean()) - min(values)) < 1e-3 * min(values)


def test_a_conditional_model_needs_classes(begin: Begin, pictures: Callable[..., np.ndarray]) -> None:
    with pytest.raises(UserError, match=r"--conditional.*sub-folder"):
        begin(dataset=open_dataset(pictures(40)), conditional=True)


def test_a_budget_ends_in_time_and_with_its_schedule(begin: Begin) -> None:
    """Not a speed test: the plan, bent to the clock, must reach its end when the budget does."""
    training = begin(kimg=None, budget=6.0)
    outcome = training.run()
    finished = json.loads((outcome.folder / "finished.json").read_text())
    assert 0.7 * 6 < finished["seconds"] < 1.1 * 6
    assert rows(outcome.folder)[-1]["progress"] > 0.98


def test_a_budget_that_is_over_before_the_first_step_still_trains_one(begin: Begin) -> None:
    outcome = begin(kimg=None, budget=0.001).run()
    assert (outcome.status, outcome.images_seen) == ("finished", 8), "one batch"
    assert len(list(outcome.folder.glob("samples-*.png"))) == 1


def test_slow_snapshots_take_their_share_of_a_budget_and_no_more(begin: Begin) -> None:
    """Scores of 0.4 s, ten of them asked for in 5 s: a tenth of the budget has room for untrained networks and
    the last."""
    seen: list[int] = []

    def score(pictures: Iterator[np.ndarray]) -> tuple[str, float]:
        time.sleep(0.4)
        seen.append(len(seen))
        return "test", -float(len(seen))

    outcome = begin(kimg=None, budget=5.0, snapshots=10).run(score=score)
    assert len(seen) == 2
    metrics = read_json_lines(outcome.folder / "metrics.jsonl")
    assert metrics[-1]["images_seen"] == outcome.images_seen, "the end is always looked at"


def test_the_end_is_not_looked_at_twice(begin: Begin) -> None:
    outcome = begin(kimg=0.4, snapshots=50).run(score=lambda pictures: ("test", 0.0))
    images = [row["images_seen"] for row in read_json_lines(outcome.folder / "metrics.jsonl")]
    assert len(images) == len(set(images)) and images[-1] == outcome.images_seen


def test_an_unfinished_run_can_be_made_longer_and_not_shorter_than_it_is(begin: Begin) -> None:
    first = begin(kimg=0.4).run(stop=lambda seen: seen >= 200)
    with pytest.raises(UserError, match=r"--kimg.*0\.1.*more than the 0\.2 that were shown"):
        begin(resume=first.folder, kimg=0.1)
    log: list[str] = []
    longer = begin(resume=first.folder, kimg=0.8, log=log).run()
    assert longer.images_seen == 800 and "length changed to 800 images" in log
    progress = [row["progress"] for row in rows(longer.folder)]
    assert progress == sorted(progress) and progress[-1] == 1.0


def test_plans_bend_without_a_jump() -> None:
    plan = Plan(1000)
    assert [plan.progress(images) for images in (0, 500, 1000, 2000)] == [0, 0.5, 1, 1]
    plan.replan(500, 3000)
    assert plan.progress(500) == 0.5 and plan.progress(1750) == 0.75 and plan.progress(3000) == 1
    assert Plan(**plan.to_json()) == plan
    plan.replan(1750, 1000)
    assert plan.progress(1750) == 1.0


def test_a_state_of_another_network_is_refused(begin: Begin) -> None:
    one, two = (
        begin("one").run(stop=lambda seen: seen >= 200),
        begin("two", model="vae/mlp/tiny").run(stop=lambda seen: seen >= 200),
    )
    for state in (one.folder / "state").iterdir():
        state.unlink()
    for state in (two.folder / "state").iterdir():
        (one.folder / "state" / state.name).write_bytes(state.read_bytes())
    with pytest.raises(StateError, match="does not fit the config"):
        begin("one")
