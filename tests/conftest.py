"""Shared fixtures: an own cache folder, few threads, and tiny real data."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # see zeuxis.cli.share_cores; the tests' own processes inherit it

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # begun in the background of a shell: children would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

from zeuxis.config import DataOptions, TrainOptions
from zeuxis.data import Dataset, open_dataset
from zeuxis.training import Event, Training, start


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test reads or writes the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    before = os.environ.get("ZEUXIS_CACHE")
    os.environ["ZEUXIS_CACHE"] = str(folder)
    yield folder
    if before is None:
        del os.environ["ZEUXIS_CACHE"]
    else:
        os.environ["ZEUXIS_CACHE"] = before


@pytest.fixture(scope="session")
def digits() -> Dataset:
    """scikit-learn's digits, 8x8 grey, ten classes."""
    return open_dataset("digits")


@pytest.fixture
def pictures() -> Callable[..., np.ndarray]:
    """Makes smooth random pictures uint8 `[N, H, W, C]`."""

    def make(count: int = 24, height: int = 8, width: int = 8, channels: int = 1, seed: int = 0) -> np.ndarray:
        rng = np.random.default_rng(seed)
        coarse = rng.integers(0, 256, (count, height // 4, width // 4, channels), dtype=np.uint8)
        return coarse.repeat(4, axis=1).repeat(4, axis=2)

    return make


@pytest.fixture
def begin(tmp_path: Path, digits: Dataset) -> Callable[..., Training]:
    """Starts a tiny training on the digits, or on `dataset`; `log` collects its lines."""

    def make(out: str = "runs", dataset: Dataset | None = None, resume: Path | None = None,
             log: list[str] | None = None, **options: object) -> Training:  # fmt: skip
        values = {
            "model": "gan/mlp/tiny",
            "kimg": 0.4,
            "precision": "float32",
            "kernels": "plain",
            "snapshots": 2,
            **options,
        }

        def listen(event: Event) -> None:
            if log is not None and event.kind == "log":
                log.append(event.text)

        options_ = TrainOptions.model_validate(values)
        return start(options_, dataset or digits, tmp_path / out, resume=resume, listen=listen)

    return make


@pytest.fixture
def no_split() -> DataOptions:
    """All pictures are training pictures."""
    return DataOptions(test_fraction=0.0, val_fraction=0.0)
