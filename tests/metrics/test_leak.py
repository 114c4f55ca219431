"""The leak check finds what was put in: known shares of changed real pictures among real ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from zeuxis.data import Dataset
from zeuxis.metrics import leak as module
from zeuxis.metrics.leak import changed, leak, mixture


def test_a_mixture_is_taken_apart() -> None:
    columns = np.array([[0.8, 0.1, 0.2], [0.1, 0.7, 0.2], [0.1, 0.2, 0.6]])
    shares = np.array([0.5, 0.2, 0.3])
    assert np.allclose(mixture(columns, columns @ shares), shares, atol=1e-4)
    assert np.allclose(mixture(columns, np.array([1.0, 0.0, 0.0])), [1, 0, 0], atol=1e-4), "no share is negative"


def test_known_shares_are_found(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """30% of real pictures were moved or brightened: about as much is found, and of real ones next to nothing."""
    monkeypatch.setattr(module, "IMAGES", 12_000)
    kinds = ("shift", "colour", "cutout")
    real = digits.train.take(np.arange(0, 1400, 2))
    mixed = real.copy()
    mixed[:140] = changed(real[:140], "cutout", digits.spec)
    mixed[140:210] = changed(real[140:210], "colour", digits.spec)
    found = leak(mixed, digits, kinds)
    assert found is not None
    assert abs(found.kinds["cutout"] - 0.2) < 0.08 and abs(found.kinds["colour"] - 0.1) < 0.06, found
    assert found.floor < 0.12 and found.share > found.floor + 0.15 and 0 < found.error < 0.1
    assert "cutout" in found.note


def test_what_the_data_look_like_anyway_cannot_be_told(
    pictures: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every picture's mirror image is in the data too: a flip is no leak that could be seen."""
    from zeuxis.data import open_dataset

    monkeypatch.setattr(module, "IMAGES", 4_000)
    own = pictures(300, channels=1)
    data = open_dataset(np.concatenate([own, own[:, :, ::-1]]))
    found = leak(data.train.take(np.arange(200)), data, ("flip",))
    assert found is not None and found.untold == ("flip",) and found.share == 0
