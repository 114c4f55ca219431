"""The order of pictures: a function of seed and place alone."""

from __future__ import annotations

import numpy as np
import pytest

from zeuxis.data import Order


@pytest.mark.parametrize("length", [1, 2, 7, 100])
def test_every_epoch_is_a_permutation(length: int) -> None:
    order = Order(length, 3)
    epochs = [order.at(epoch * length, length).tolist() for epoch in range(5)]
    assert all(sorted(epoch) == list(range(length)) for epoch in epochs)
    if length > 2:
        assert len({tuple(epoch) for epoch in epochs}) == 5, "each its own"


@pytest.mark.parametrize("size", [1, 3, 10, 64, 1000])
def test_the_size_of_batches_does_not_matter(size: int) -> None:
    whole = Order(37, 5).at(0, 400)
    order = Order(37, 5)
    parts = [order.at(start, min(size, 400 - start)) for start in range(0, 400, size)]
    assert np.array_equal(np.concatenate(parts), whole)


def test_it_can_be_entered_at_any_place_and_in_any_sequence() -> None:
    whole = Order(50, 9).at(0, 500)
    for start in (0, 1, 49, 50, 51, 173, 487):
        assert np.array_equal(Order(50, 9).at(start, 13), whole[start : start + 13]), "a fresh process"
    order = Order(50, 9)
    for start in (480, 3, 250, 0, 99):  # back and forth
        assert np.array_equal(order.at(start, 20), whole[start : start + 20])


def test_ranks_that_take_slices_see_what_one_process_sees() -> None:
    whole = Order(64, 1).at(128, 32)
    ranks = [Order(64, 1).at(128 + rank * 8, 8) for rank in range(4)]
    assert np.array_equal(np.concatenate(ranks), whole)


def test_seeds_differ_and_repeat() -> None:
    assert np.array_equal(Order(1000, 4).at(0, 1000), Order(1000, 4).at(0, 1000))
    same = (Order(1000, 4).at(0, 1000) == Order(1000, 5).at(0, 1000)).sum()
    assert same < 10
    assert not np.array_equal(Order(1000, -4).at(0, 1000), Order(1000, 4).at(0, 1000))


def test_every_place_is_as_likely() -> None:
    """The first place of an epoch over 2,000 epochs of 5: chi-squared with 4 degrees of freedom below its 99.99%."""
    order = Order(5, 0)
    first = np.bincount([order.at(epoch * 5, 1)[0] for epoch in range(2000)], minlength=5)
    assert ((first - 400) ** 2 / 400).sum() < 23.5


def test_a_long_way_in_costs_one_epoch() -> None:
    order = Order(10, 0)
    assert sorted(order.at(10 * 10**12, 10)) == list(range(10))


def test_the_order_is_the_same_on_every_machine_and_version() -> None:
    assert Order(10, 0).at(0, 20).tolist() == [0, 8, 9, 3, 7, 5, 1, 2, 6, 4, 3, 7, 4, 2, 9, 8, 1, 6, 5, 0]
    assert Order(1, 0).at(5, 3).tolist() == [0, 0, 0] and Order(10, 0).at(7, 0).tolist() == []


def test_nothing_has_no_order() -> None:
    with pytest.raises(ValueError, match="at least one picture"):
        Order(0, 0)
