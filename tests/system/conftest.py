"""Folders and models that several tests of the command line need."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zeuxis.cli import run
from zeuxis.config import DataOptions, TrainOptions
from zeuxis.data import open_dataset
from zeuxis.training import start

Answer = tuple[int, str, str]


@pytest.fixture
def bad_folder(tmp_path: Path) -> Path:
    """Forty pictures, a text called .png, a truncated PNG and an empty file."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(40):
        pixels = rng.integers(0, 256, (2, 2, 3), dtype=np.uint8).repeat(6, axis=0).repeat(6, axis=1)
        Image.fromarray(pixels).save(folder / f"{index:02d}.png")
    (folder / "notes.png").write_text("not a picture at all, but somebody's notes about one")
    Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(folder / "cut.png")
    (folder / "cut.png").write_bytes((folder / "cut.png").read_bytes()[:-60])
    (folder / "nothing.png").touch()
    return folder


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Answer]:
    """The command line in this process, in an own folder: exit code, output, errors."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["zeuxis", *map(str, arguments)])
        capsys.readouterr()
        code = run()
        out, err = capsys.readouterr()
        return code, out, err

    return call


def trained(place: Path, **options: object) -> Path:
    """The run folder of a tiny training."""
    values = {"kimg": 0.2, "precision": "float32", "kernels": "plain", "snapshots": 1, **options}
    data = DataOptions(**{"resolution": (8, 12), "channels": 3, **values.pop("data", {})})  # type: ignore[dict-item, arg-type]
    asked = TrainOptions.model_validate({**values, "data": data.model_dump()})
    return start(asked, open_dataset("digits", data), place).run().folder


@pytest.fixture(scope="session")
def gan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of a conditional GAN of 12x8 RGB pictures."""
    return trained(tmp_path_factory.mktemp("gan"), model="gan/dcgan/tiny", conditional=True)


@pytest.fixture(scope="session")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of a VAE of 12x8 RGB pictures without classes."""
    return trained(tmp_path_factory.mktemp("vae"), model="vae/mlp/tiny")


@pytest.fixture(scope="session")
def fitted_vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of a VAE of 12x8 RGB pictures with a Gaussian likelihood and a fitted prior."""
    place = tmp_path_factory.mktemp("fitted")
    return trained(place, model="vae/conv/tiny", settings={"objective.prior": "mixture"})
