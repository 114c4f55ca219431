"""The held-out split: seeded, in proportion, copies on one side, stable, and the source's own kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from picture_files import encoded, picture, pngs, write_tree

from zeuxis.config import DataOptions
from zeuxis.data import Dataset
from zeuxis.data.listing import NO_SPLIT, TEST, TRAIN, VAL
from zeuxis.data.split import split
from zeuxis.errors import UserError


def groups_of(count: int, seed: int = 0) -> np.ndarray:
    """As from digests: random uint64 `[count]`."""
    return np.random.default_rng(seed).integers(0, 2**63, count, dtype=np.uint64)


def cut(
    groups: np.ndarray, labels: np.ndarray | None = None, declared: np.ndarray | None = None, **options: object
) -> np.ndarray:
    """Codes of `split`, without labels and splits of the source unless given."""
    labels = np.full(len(groups), -1, np.int64) if labels is None else labels
    declared = np.full(len(groups), NO_SPLIT, np.int8) if declared is None else declared
    return split(groups, labels, declared, DataOptions.model_validate(options))


def sizes(codes: np.ndarray) -> tuple[int, int, int]:
    return int((codes == TRAIN).sum()), int((codes == VAL).sum()), int((codes == TEST).sum())


def test_the_fractions_are_of_the_whole() -> None:
    assert sizes(cut(groups_of(1000))) == (850, 50, 100), "10% to test and 5% to validate by default"
    assert sizes(cut(groups_of(1000), test_fraction=0.25, val_fraction=0.0)) == (750, 0, 250)
    assert sizes(cut(groups_of(10))) == (8, 1, 1)


def test_few_pictures_all_go_to_training_and_many_are_capped() -> None:
    assert sizes(cut(groups_of(9))) == (9, 0, 0)
    assert sizes(cut(groups_of(250_000))) == (230_000, 10_000, 10_000)


def test_the_seed_decides_and_nothing_else() -> None:
    groups = groups_of(500)
    first = cut(groups)
    assert np.array_equal(first, cut(groups))
    other = cut(groups, split_seed=1)
    shared = ((first == TEST) & (other == TEST)).sum()
    assert sizes(other) == sizes(first) and shared < 15, "about 5 of 50 by chance"


def test_the_order_of_the_listing_does_not_matter() -> None:
    groups, labels = groups_of(500), np.arange(500) % 7
    order = np.random.default_rng(1).permutation(500)
    assert np.array_equal(cut(groups, labels)[order], cut(groups[order], labels[order]))


def test_test_and_validation_are_drawn_apart() -> None:
    """The pictures of the test split are the same however much is held out to validate."""
    groups = groups_of(400)
    assert np.array_equal(cut(groups, val_fraction=0.0) == TEST, cut(groups, val_fraction=0.3) == TEST)


@pytest.mark.parametrize("counts", [(600, 300, 100), (970, 20, 10), (334, 333, 333)])
def test_every_class_is_cut_in_proportion(counts: tuple[int, ...]) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    codes = cut(groups_of(len(labels)), labels)
    for label, count in enumerate(counts):
        for code, fraction in ((TEST, 0.1), (VAL, 0.05)):
            assert abs(((codes == code) & (labels == label)).sum() - fraction * count) <= 1


def test_copies_are_on_one_side() -> None:
    groups = np.repeat(groups_of(200), 3)
    codes = cut(groups, np.arange(600) // 3 % 5)
    assert sizes(codes)[2] > 40
    for group in np.unique(groups):
        assert len(set(codes[groups == group].tolist())) == 1


def test_a_picture_with_very_many_copies_does_not_become_the_test_split() -> None:
    groups = groups_of(1000)
    for seed in range(5):
        for one in range(20):
            same = groups.copy()
            same[:400] = groups[one]
            codes = cut(same, split_seed=seed)
            assert (codes[:400] == TRAIN).all() and sizes(codes) == (850, 50, 100)


def test_files_with_equal_pixels_are_on_one_side(opened: Callable[..., Dataset], tmp_path: Path) -> None:
    files = {}
    for index in range(40):
        values = picture(index, 32, 32)
        files[f"a{index:02d}.png"] = encoded(values)
        files[f"b{index:02d}.png"] = encoded(values, compress_level=0)
        files[f"c{index:02d}.bmp"] = encoded(values, "BMP")
    dataset = opened(write_tree(tmp_path / "d", files), test_fraction=0.2, val_fraction=0.1)
    sides: dict[str, set[int]] = {}
    for code in (TRAIN, VAL, TEST):
        for name in dataset.names(code):
            sides.setdefault(name[1:3], set()).add(code)
    assert len(dataset.test) >= 20 and len(dataset.val) >= 9
    assert all(len(side) == 1 for side in sides.values())


@pytest.mark.parametrize("added", [1, 50])
def test_added_pictures_leave_most_where_they_were(added: int) -> None:
    labels = np.arange(2000) % 4
    groups = groups_of(2000)
    before = cut(groups, labels)
    after = cut(np.append(groups, groups_of(added, 5)), np.append(labels, np.arange(added) % 4))[:2000]
    assert (before != after).sum() <= 4 + added // 2
    assert ((before == TEST) & (after == TRAIN)).sum() <= 4 + added // 4


@pytest.mark.parametrize("has_val", [False, True])
def test_the_sources_own_test_split_is_kept(has_val: bool) -> None:
    declared = np.zeros(1000, np.int8)
    declared[::5] = TEST
    if has_val:
        declared[1::50] = VAL
    codes = cut(groups_of(1000), declared=declared, test_fraction=0.3, val_fraction=0.1)
    assert np.array_equal(codes == TEST, declared == TEST), "nothing is added to it, nothing taken"
    assert sizes(codes) == ((780, 20, 200) if has_val else (720, 80, 200))


def test_test_pictures_are_never_in_training(opened: Callable[..., Dataset], tmp_path: Path) -> None:
    files = {**pngs(40, "train/"), **pngs(10, "test/", 40)}
    for data in (write_tree(tmp_path / "own", files), write_tree(tmp_path / "none", pngs(60))):
        dataset = opened(data, test_fraction=0.2, val_fraction=0.1)
        every = np.concatenate([dataset.positions[code] for code in (TRAIN, VAL, TEST)])
        assert sorted(every) == list(range(len(dataset))), "each picture on one side"
        assert set(map(bytes, dataset.test.all())).isdisjoint(map(bytes, dataset.train.all()))
        assert set(map(bytes, dataset.val.all())).isdisjoint(map(bytes, dataset.train.all()))
        assert len(dataset.train) and len(dataset.val) and len(dataset.test)


def test_pictures_that_the_sources_own_splits_share_are_reported(
    opened: Callable[..., Dataset], tmp_path: Path
) -> None:
    files = {**pngs(5, "train/"), **pngs(2, "test/", 3)}
    notes = opened(write_tree(tmp_path / "d", files)).report.notes
    assert "2 pictures are in more than one of the source's own splits" in notes


def test_the_same_pictures_are_held_out_at_any_size_and_fit(opened: Callable[..., Dataset], tmp_path: Path) -> None:
    folder = write_tree(tmp_path / "d", pngs(60, height=24, width=40))
    held = [
        opened(folder, test_fraction=0.2, **options).names(TEST)
        for options in ({}, {"resolution": (8, 8)}, {"resolution": (12, 20), "fit": "pad"}, {"channels": 1})
    ]
    assert len(held[0]) == 12 and all(names == held[0] for names in held)


def test_nothing_left_to_train_on_is_one_line() -> None:
    with pytest.raises(UserError, match=r"test_fraction \+ val_fraction: got '0.5 \+ 0.5', allowed: less than 1"):
        cut(groups_of(20), test_fraction=0.5, val_fraction=0.5)


def test_the_cut_is_the_same_on_every_machine_and_version() -> None:
    groups = np.arange(40, dtype=np.uint64)
    assert np.flatnonzero(cut(groups) == TEST).tolist() == [5, 30, 33, 35]
    assert np.flatnonzero(cut(groups) == VAL).tolist() == [3, 15]
