"""Fixtures of the data tests: a cache of the test's own, and opening data with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zeuxis.config import DataOptions
from zeuxis.data import Dataset, Report, open_dataset, scan


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """An empty cache folder."""
    return tmp_path / "cache"


@pytest.fixture
def opened(cache: Path) -> Callable[..., Dataset]:
    """`open_dataset` in this process with the test's cache; nothing is held out unless options say so."""

    def make(data: Any, *, labels: Any = None, minimum: int = 1, **options: Any) -> Dataset:
        settings = DataOptions.model_validate({"test_fraction": 0.0, "val_fraction": 0.0, **options})
        return open_dataset(data, settings, labels=labels, cache_dir=cache, workers=1, minimum=minimum)

    return make


@pytest.fixture
def scanned(cache: Path) -> Callable[..., Report]:
    """`scan` in this process with the test's cache."""

    def make(data: Any, **options: Any) -> Report:
        return scan(data, DataOptions.model_validate(options), 1, cache_dir=cache)

    return make
