"""From some labels to a classifier: what is hidden, what batches carry, what is reported. And validation pictures
beside the batches of who watches them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from zeuxis.checkpoint import load_model
from zeuxis.config import TrainOptions
from zeuxis.data import Dataset, open_dataset
from zeuxis.errors import UserError
from zeuxis.evaluation import evaluate_model
from zeuxis.families.gan.adaptive import STEPS, Adaptive
from zeuxis.feed import Feed, kept_labels
from zeuxis.files import read_json_lines
from zeuxis.sampling import Sampler
from zeuxis.training import Training

CPU = torch.device("cpu")
SEMI = {"model": "gan/mlp/tiny", "semi_supervised": True, "settings": {"network.hidden": 64}}


def test_labels_are_hidden_evenly_and_by_the_seed_alone(digits: Dataset) -> None:
    labels = digits.train.labels
    kept = kept_labels(labels, 105, 3)
    counts = np.bincount(kept[kept >= 0], minlength=10)
    assert counts.sum() == 105 and counts.min() == 10 and counts.max() == 11
    assert (kept[kept >= 0] == labels[kept >= 0]).all()
    assert (kept_labels(labels, 105, 3) == kept).all() and (kept_labels(labels, 105, 4) != kept).any()
    assert (kept_labels(labels, 50, 3) >= 0)[kept < 0].sum() == 0, "fewer labels are some of the same"
    assert kept_labels(labels, None, 3) is labels
    for wrong in (9, 10**6):
        with pytest.raises(UserError, match="--labels"):
            kept_labels(labels, wrong, 3)


def test_batches_carry_labelled_pictures_beside_all_pictures(digits: Dataset) -> None:
    feed = Feed(digits, False, TrainOptions(labels=40, semi_supervised=True), CPU, True)
    known = {}
    for position in np.flatnonzero(feed.labels >= 0):
        known[digits.train.take([position]).tobytes()] = int(feed.labels[position])
    seen = []
    for start in range(0, 80, 8):
        batch = feed.batch(start, 8)
        assert batch.labels is None and batch.labelled is not None and batch.labelled.labels is not None
        assert len(batch.labelled.images) == 8 and len(batch.slice(0, 3).labelled.images) == 3  # type: ignore[union-attr]
        pixels = ((batch.labelled.images + 1) * 127.5).round().to(torch.uint8).numpy()
        for picture, label in zip(pixels, batch.labelled.labels.tolist(), strict=True):
            assert known[picture[None].tobytes()] == label
            seen.append(picture.tobytes())
    assert len(set(seen[:40])) == len(known) == 40, "each labelled picture once, then again"
    again = Feed(digits, False, TrainOptions(labels=40, semi_supervised=True), CPU, True).batch(16, 8)
    assert torch.equal(again.labelled.images, feed.batch(16, 8).labelled.images)  # type: ignore[union-attr]


def test_batches_carry_validation_pictures_for_who_watches_them(digits: Dataset) -> None:
    feed = Feed(digits, True, TrainOptions(conditional=True), CPU, watches_validation=True)
    batch = feed.batch(0, 16)
    assert batch.held_out is not None and batch.held_out.labels is not None
    pixels = ((batch.held_out.images + 1) * 127.5).round().to(torch.uint8).numpy()
    val = {picture.tobytes() for picture in digits.val.all()}
    assert {picture.tobytes() for picture in pixels} <= val
    nothing = open_dataset(digits.train.take(np.arange(8)).transpose(0, 2, 3, 1))
    assert len(nothing.val) == 0
    with pytest.raises(UserError, match=r"augment.adaptive.*augment.ramp"):
        Feed(nothing, False, TrainOptions(), CPU, watches_validation=True)


def seen(adaptive: Adaptive, overfitting: float, progress: float) -> float:
    """The probability after one step at which validation pictures lie that far on the way to generated ones."""
    train, fake = torch.full((8,), 5.0), torch.full((8,), 3.0)
    adaptive.see(train, train + overfitting * (fake - train), fake, progress)
    adaptive.update(target=0.3, most=0.6, reach=0.2, batch=8)
    return adaptive.probability_now.item()


def test_augmentation_grows_while_validation_pictures_look_generated_and_shrinks_again() -> None:
    adaptive = Adaptive()
    path = [seen(adaptive, 0.5, step / 100) for step in range(1, 31)]
    assert path[:3] == [0.0, 0.0, 0.0], "it moves every few steps"
    assert path[STEPS - 1] == pytest.approx(0.04 / 0.2) and path[-1] == pytest.approx(0.6), "a cap"
    # A constant added to the discriminator, which no relativistic loss sees, changes nothing.
    one, other = Adaptive(), Adaptive()
    for step in range(8):
        logits = [torch.tensor([value]) for value in (2.0, 1.2, 0.0)]
        one.see(*logits, step / 100), one.update(0.3, 0.6, 0.2, 1)
        other.see(*(each - 50 for each in logits), step / 100), other.update(0.3, 0.6, 0.2, 1)
    assert one.probability_now == other.probability_now > 0
    path = [seen(adaptive, 0.1, 0.3 + step / 100) for step in range(1, 31)]
    assert path[-1] == 0
    longer = [seen(adaptive, 0.1, 0.01) for _ in range(2 * STEPS)]
    assert longer[-1] == 0, "a run that is made longer begins at a smaller progress"


def test_where_the_discriminator_tells_nothing_apart_nothing_grows() -> None:
    adaptive = Adaptive()
    for step in range(8):
        same = torch.tensor([1.0])
        adaptive.see(same, same, same + 0.1, step / 100)
        adaptive.update(0.3, 0.6, 0.2, 1)
    assert adaptive.probability_now == 0


def test_a_semi_supervised_run_reports_and_keeps_its_classifier(
    begin: Callable[..., Training], digits: Dataset, tmp_path: Path
) -> None:
    log: list[str] = []
    outcome = begin(log=log, kimg=3, labels=200, **SEMI).run()
    values = [
        row["value"] for row in read_json_lines(outcome.folder / "metrics.jsonl") if row["metric"] == "accuracy_val"
    ]
    assert len(values) == 2 and values[-1] > 0.4
    assert any("validation pictures are put into their class" in line for line in log)
    model = load_model(outcome.folder)
    config = json.loads((outcome.folder / "model" / "config.json").read_text())
    assert config["capabilities"] == ["classify"] and set(model.networks) == {"generator", "discriminator"}
    assert model.classes == digits.classes and model.drawn_classes == ()
    assert Sampler(model).labels([0, 1], None) is None
    rows = {
        row.metric: row
        for row in evaluate_model(model, digits, metrics=["classification"], features=["random"], draws=1)
    }
    images = torch.from_numpy(digits.test.all()).float() / 127.5 - 1
    right: Tensor = model.family.classify(model.networks, images).argmax(1) == torch.from_numpy(digits.test.labels)
    assert rows["accuracy"].value == pytest.approx(right.float().mean().item())
    assert rows["accuracy"].num == len(digits.test) and rows["accuracy"].reference == "test"


def test_who_knows_no_classes_is_not_asked_for_them(begin: Callable[..., Training], digits: Dataset) -> None:
    model = load_model(begin(kimg=0.1, snapshots=1).run().folder)
    with pytest.raises(UserError, match=r"classification.*classify"):
        evaluate_model(model, digits, metrics=["classification"], draws=1)
