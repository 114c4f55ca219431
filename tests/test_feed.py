"""Batches: the same pictures whether they are read when needed, ahead, or lie on the device."""

from __future__ import annotations

import time

import pytest
import torch

from zeuxis import feed as module
from zeuxis.config import TrainOptions
from zeuxis.data import Dataset
from zeuxis.feed import Feed

CPU = torch.device("cpu")
OPTIONS = TrainOptions(mirror=True, conditional=True)


def test_reading_ahead_changes_nothing_and_is_for_slow_data(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Feed(digits, True, OPTIONS, CPU)
    expected = [plain.batch(seen, 10) for seen in (0, 10, 20, 30, 5, 15)]
    assert plain._reader is None
    slow = Feed(digits, True, OPTIONS, CPU)
    slow.begun -= 2  # as if two seconds had gone by, of which more than a hundredth was waited
    slow.waited += 1.0
    real = slow._read
    monkeypatch.setattr(slow, "_read", lambda *place: (time.sleep(0.01), real(*place))[1])
    found = [slow.batch(seen, 10) for seen in (0, 10, 20, 30, 5, 15)]  # and a jump back, as after a rollback
    assert slow._reader is not None and slow.waiting > module.AHEAD_SHARE
    slow.close()
    for one, other in zip(expected, found, strict=True):
        assert torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels)  # type: ignore[arg-type]


def test_pictures_on_the_device_are_the_same_and_need_no_waiting(digits: Dataset) -> None:
    plain, held = Feed(digits, True, OPTIONS, CPU), Feed(digits, True, OPTIONS, CPU)
    size = len(digits.train) * 64
    assert not held.keep_on_device(size - 1) and held.resident is None
    assert held.keep_on_device(size)
    for seen in (0, 1520, 40):
        one, other = plain.batch(seen, 16), held.batch(seen, 16)
        assert torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels)  # type: ignore[arg-type]
    assert held.waited == 0 and plain.waited > 0
