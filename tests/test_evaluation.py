"""The table of a judgement: what is in it, what is left out, and what must not change it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from zeuxis.checkpoint import Model
from zeuxis.config import DataOptions
from zeuxis.data import Dataset, open_dataset
from zeuxis.errors import DataError, UserError
from zeuxis.evaluation import Row, evaluate, evaluate_model
from zeuxis.families import make_family
from zeuxis.metrics import METRICS
from zeuxis.metrics.base import Estimate, combine
from zeuxis.metrics.selection import selection_score

QUICK = ("fd", "fd_inf", "kid", "pr", "dc", "diversity", "copy_rate", "duplicate_rate", "auth_pct", "c_t", "sharpness",
         "colour", "contrast")  # fmt: skip


@pytest.fixture(scope="module")
def textures() -> np.ndarray:
    """Smooth RGBA pictures, uint8 `[N, 16, 16, 4]`."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (300, 4, 4, 4), dtype=np.uint8)
    return coarse.repeat(4, axis=1).repeat(4, axis=2)


@pytest.fixture(scope="module")
def rgba(textures: np.ndarray) -> Dataset:
    """The same as data that wraps around left to right."""
    return open_dataset(textures, DataOptions(wrap="x", test_fraction=0.3))


def judged(dataset: Dataset, pictures: np.ndarray, **options: object) -> list[Row]:
    return evaluate(iter([pictures[:40], pictures[40:]]), dataset, features=("random",), **options)  # type: ignore[arg-type]


def by_name(rows: list[Row]) -> dict[tuple[str, str], Row]:
    return {(row.metric, row.reference): row for row in rows}


def test_every_row_says_what_it_is_and_where_it_comes_from(rgba: Dataset) -> None:
    rows = judged(rgba, rgba.train.all())
    found = by_name(rows)
    assert len(found) == len(rows), "a metric and its reference name a row"
    count = len(rgba.test)
    for row in rows:
        assert row.title and row.num == count and row.data_fingerprint == rgba.fingerprint and row.seeds == ()
        assert np.isfinite(row.value) and row.interval is not None
        assert row.interval[0] <= row.interval[1] and row.to_json()["interval"] == list(row.interval)
        assert (row.extractor in ("pixels", "appearance")) == (row.extractor_sha256 == "")
    assert {row.group for row in rows} == {"distance", "fidelity and diversity", "memorisation", "appearance"}
    for name in (f"fd{count}_random", f"kid{count}_random", "fd_inf_random"):
        assert {reference for metric, reference in found if metric == name} == {"test", "train"}
    assert "too few" in found[f"fd{count}_random", "test"].note
    assert found["copy_rate_pixels", "test"].value > 0.9, "training pictures are copies"
    assert found["auth_pct_random", "test"].value == 0
    assert {"seam_ratio_appearance", "edges_gap_appearance", "fringe_gap_appearance"} <= {row.metric for row in rows}


def test_what_does_not_apply_is_left_out(digits: Dataset) -> None:
    names = {row.metric for row in judged(digits, digits.train.all())}
    absent = {"seam_ratio", "edges_gap", "saturation_gap", "nll", "bpd", "reconstruction_psnr", "accuracy_score"}
    assert not {name for name in names if name.removesuffix("_appearance") in absent}
    assert "classifier_score_dataset" in names


def test_the_order_of_the_pictures_changes_nothing(rgba: Dataset) -> None:
    pictures = rgba.train.all()[: len(rgba.test)]
    mixed = pictures[np.random.default_rng(0).permutation(len(pictures))]
    own, other = judged(rgba, pictures), judged(rgba, mixed)
    assert [dataclasses.asdict(row) for row in own] == [dataclasses.asdict(row) for row in other]


def test_the_floor_is_what_real_pictures_reach(rgba: Dataset) -> None:
    places = np.linspace(0, len(rgba.train) - 1, len(rgba.test)).astype(np.int64)
    for row in judged(rgba, rgba.train.take(places), metrics=("fd", "kid", "pr", "dc")):
        if row.reference == "test":
            assert row.value == pytest.approx(row.floor, rel=1e-6)


def test_both_sides_are_equal_in_number_and_too_few_are_refused(rgba: Dataset) -> None:
    assert {row.num for row in judged(rgba, rgba.train.all(), num=30, metrics=("kid",))} == {30}
    assert {row.num for row in judged(rgba, rgba.train.all()[:25], metrics=("kid",))} == {25}
    with pytest.raises(DataError, match="at least 20"):
        judged(rgba, rgba.train.all()[:19], metrics=("kid",))
    with pytest.raises(DataError, match="open the data at the pictures' resolution"):
        judged(rgba, rgba.train.all()[:, :3], metrics=("kid",))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"metrics": ("fid",)}, "--metrics: got 'fid', allowed: fd, fd_inf, kid"),
        ({"metrics": ("likelihood",)}, "it needs a model folder"),
        ({"metrics": ("accuracy_score",)}, "it needs a model folder"),
        ({"metrics": ("classifier_score",)}, "put the classes into sub-folders"),
    ],
)
def test_what_cannot_be_had_is_refused_in_one_line(rgba: Dataset, options: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        judged(rgba, rgba.train.all(), **options)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="--features: got 'clip', allowed: dataset, efficientnet, inception;"):
        evaluate(rgba.train.batches(64), rgba, features=("clip",))


def test_inception_that_cannot_be_had_is_one_line(
    rgba: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without torch-fidelity it says how to get it; with it, which weights are missing."""
    monkeypatch.setenv("ZEUXIS_INCEPTION", str(tmp_path / "missing.pth"))
    words = "pip install torch-fidelity" if find_spec("torch_fidelity") is None else "weights-inception-2015-12-05"
    with pytest.raises(UserError, match=f"--features: got 'inception'.*{words}") as error:
        evaluate(rgba.train.batches(64), rgba, features=("inception",))
    assert "\n" not in str(error.value)


def model_of(name: str, dataset: Dataset, *, conditional: bool = False) -> Model:
    import torch

    torch.manual_seed(0)
    family = make_family(name, dataset.spec, len(dataset.classes) if conditional else 0)
    networks = {part: net.eval() for part, net in family.build().items() if part in family.model_parts}
    classes = (dataset.classes, dataset.class_counts) if conditional else ((), ())
    return Model(family, networks, name, *classes)


def test_a_model_is_judged_over_draws_and_by_what_it_can_do(digits: Dataset) -> None:
    rows = evaluate_model(model_of("vae/mlp", digits), digits, num=30, draws=3, seed=7, features=("random",),
                          metrics=("kid", "sharpness", "likelihood", "reconstruction"))  # fmt: skip
    found = {row.metric: row for row in rows if row.reference == "test"}
    assert found["kid30_random"].seeds == (7, 37, 67) and found["kid30_random"].num == 30
    assert found["reconstruction_ssim"].seeds == () and found["reconstruction_ssim"].floor is None
    assert found["reconstruction_distance_random"].value > 0 and found["nll"].interval is not None
    density = make_family("vae/mlp", digits.spec).settings["objective"]["likelihood"]
    assert ("bpd" in found) == (density == "gaussian") and "upper bound" in found["nll"].note


def test_a_gaussian_likelihood_gives_bits_of_dequantised_levels(digits: Dataset) -> None:
    model = model_of("vae/mlp", digits)
    settings = {**model.family.settings, "objective": {"likelihood": "gaussian"}}
    family = type(model.family)(model.family.network, settings, digits.spec, 0)
    gaussian = Model(family, {part: net.eval() for part, net in family.build().items()}, "vae/mlp")
    rows = {row.metric: row for row in evaluate_model(gaussian, digits, num=30, draws=1, metrics=("likelihood",),
                                                      features=("random",))}  # fmt: skip
    bits = rows["nll"].value / (64 * np.log(2)) - np.log2(2 / 255)
    assert rows["bpd"].value == pytest.approx(bits) and "dequantisation" in rows["bpd"].note


def test_a_model_without_a_capability_has_no_row_and_says_so_when_asked(digits: Dataset) -> None:
    model = model_of("gan/mlp/tiny", digits)
    rows = evaluate_model(model, digits, num=30, draws=1, features=("random",), metrics=("kid",))
    assert {row.metric for row in rows} == {"kid30_random"}
    for name, words in (("likelihood", "a model that can log_likelihood"), ("reconstruction", "can reconstruct"),
                        ("accuracy_score", "train with --conditional")):  # fmt: skip
        with pytest.raises(UserError, match=words):
            evaluate_model(model, digits, num=30, features=("random",), metrics=(name,))


def test_the_accuracy_score_is_of_the_classes_that_the_pictures_were_made_as(digits: Dataset) -> None:
    pictures, labels = digits.train.all()[:150], digits.train.labels[:150]
    options = {"num": 150, "features": ("random",), "metrics": ("accuracy_score",)}
    right = evaluate([pictures], digits, labels=labels, **options)[0]  # type: ignore[arg-type]
    wrong = evaluate([pictures], digits, labels=(labels + 1) % 10, **options)[0]  # type: ignore[arg-type]
    assert right.value > 0.7 and wrong.value < 0.2 and right.floor is not None and right.floor > 0.7
    assert right.interval is None, "one training says nothing of others"


def test_intervals_shrink_with_draws_and_keep_the_error_of_the_reference() -> None:
    one = [Estimate(1.0, 0.3, 0.4)]
    low, high = combine(one)[1] or (0.0, 0.0)
    assert high - low == pytest.approx(2 * 1.959964 * 0.5)
    low, high = combine(one * 9)[1] or (0.0, 0.0)
    assert high - low == pytest.approx(2 * 1.959964 * np.hypot(0.1, 0.4))
    value, interval = combine([Estimate(value) for value in (1.0, 2.0, 3.0)])
    assert value == 2 and interval == pytest.approx((2 - 4.302653 / np.sqrt(3), 2 + 4.302653 / np.sqrt(3)))
    assert combine([Estimate(1.0)]) == (1.0, None)


def test_the_score_that_chooses_never_sees_test_pictures(digits: Dataset) -> None:
    score = selection_score(digits)
    assert score is not None

    def chunks(pictures: np.ndarray) -> Iterator[np.ndarray]:
        for start in range(0, 1000, 100):
            yield pictures[np.arange(start, start + 100) % len(pictures)]

    name, good, beside = score(chunks(digits.train.all()))
    noise = np.random.default_rng(0).integers(0, 256, (200, *digits.spec.shape), dtype=np.uint8)
    _, bad, beside_noise = score(chunks(noise))
    assert name == "kid_val_random" and bad > 10 * abs(good)
    assert beside["coverage"] > 0.9 and beside_noise["coverage"] < 0.5


def test_every_line_of_the_table_names_its_values() -> None:
    for name, metric in METRICS.items():
        assert metric.values, name
        assert (metric.function is None) == ("model" in metric.inputs), name
