"""Clips from one end to the other: trained, sampled, continued and judged as a user does it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_line import fingerprint, zeuxis
from PIL import Image

from zeuxis.config import DataOptions, TrainOptions
from zeuxis.data import Dataset, open_dataset
from zeuxis.images import picture_of
from zeuxis.training import Training, start

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def moving() -> Dataset:
    """Moving digits of 16x16, six frames; 24 test clips."""
    return open_dataset("moving-digits:40:24", DataOptions(frames=6, resolution=(16, 16)))


def begun(place: Path, dataset: Dataset, model: str, kimg: float = 0.08) -> Training:
    values = {"model": model, "kimg": kimg, "precision": "float32", "kernels": "plain", "snapshots": 1}
    return start(TrainOptions.model_validate({**values, "data": dataset.options}), dataset, place)


@pytest.fixture(scope="session")
def svg(tmp_path_factory: pytest.TempPathFactory, moving: Dataset) -> Path:
    """A run folder of a stochastic network over frames."""
    return begun(tmp_path_factory.mktemp("svg"), moving, "svg/tiny").run().folder


@pytest.fixture
def frames(tmp_path: Path, moving: Dataset) -> Path:
    """A folder of three numbered frames."""
    folder = tmp_path / "given"
    folder.mkdir()
    for number, frame in enumerate(moving.test.take([0])[0, :3]):
        picture_of(frame.transpose(1, 2, 0)).save(folder / f"{number}.png")
    return folder


def test_predict_in_a_process_of_its_own(svg: Path, frames: Path, tmp_path: Path) -> None:
    done = zeuxis("predict", svg, "--input", frames, "--frames", 5, "--seeds", "0-1", "--out", "p", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "5 frames after 3, 2 futures" in done.stdout
    names = [f"{number:04d}.png" for number in range(1, 6)]
    for seed in (0, 1):
        assert sorted(path.name for path in (tmp_path / "p" / f"seed{seed:06d}").iterdir()) == names
        with Image.open(tmp_path / "p" / f"seed{seed:06d}.gif") as gif:
            assert gif.format == "GIF" and gif.n_frames > 1 and gif.size == (16, 16)
            assert b"Synthetic: true" in gif.info["comment"] and f"Seed: {seed}".encode() in gif.info["comment"]
    with Image.open(tmp_path / "p" / "seed000000" / "0003.png") as first:
        assert first.text["Synthetic"] == "true" and first.text["Seed"] == "0"  # type: ignore[attr-defined]
        other = np.asarray(Image.open(tmp_path / "p" / "seed000001" / "0003.png"))
        assert not np.array_equal(np.asarray(first), other), "another seed is another future"


def test_a_future_does_not_depend_on_the_other_seeds(svg: Path, frames: Path, tmp_path: Path, command: Command) -> None:
    for out, seeds in (("all", "0-3"), ("one", "2")):
        code, _, err = command("predict", svg, "--input", frames, "--frames", 4, "--seeds", seeds, "--out", out)
        assert code == 0, err
    for number in range(1, 5):
        both = [(tmp_path / out / "seed000002" / f"{number:04d}.png").read_bytes() for out in ("all", "one")]
        assert both[0] == both[1]


def test_what_cannot_be_predicted_is_said_in_one_line(svg: Path, gan: Path, frames: Path, command: Command) -> None:
    code, _, err = command("predict", gan, "--input", frames)
    assert code == 2 and "a model that can predict" in err and err.count("\n") == 1
    code, _, err = command("predict", svg, "--input", "nowhere")
    assert code == 2 and "--input" in err and err.count("\n") == 1
    code, _, err = command("predict", svg, "--input", frames, "--frames", 2000)
    assert code == 2 and "at most 1000 frames from one seed" in err


def test_samples_are_clips(svg: Path, tmp_path: Path, command: Command) -> None:
    code, out, err = command("sample", svg, "--seeds", "0-2", "--out", "s")
    assert code == 0 and "3 clips" in out, err
    assert len(list((tmp_path / "s" / "seed000001").glob("*.png"))) == 6
    code, _, err = command("sample", svg, "--seeds", "0-2", "--out", "n", "--format", "npz")
    assert code == 0, err
    with np.load(tmp_path / "n" / "samples.npz", allow_pickle=False) as arrays:
        assert arrays["images"].shape == (3, 6, 16, 16, 1)
        frame = np.asarray(Image.open(tmp_path / "s" / "seed000001" / "0002.png"))
        assert np.array_equal(arrays["images"][1, 1, :, :, 0], frame)
    dataset = open_dataset(tmp_path / "n" / "samples.npz", DataOptions(frames=6), minimum=1)
    assert len(dataset) == 3, "what is written can be read again"


def test_judged_beside_copying_the_last_frame(svg: Path, command: Command) -> None:
    code, out, err = command("evaluate", svg, "--data", "moving-digits:40:24")
    assert code == 0, err
    assert all(name in out for name in ("mse", "mae", "frame_ssim", "mse_best", "future_diversity", "copying"))
    code, _, err = command("evaluate", svg, "--data", "moving-digits:40:24", "--metrics", "fd")
    assert code == 2 and "a network over frames is judged by what follows" in err


def test_a_run_of_frames_is_resumed_exactly_and_shows_predictions(tmp_path: Path, moving: Dataset) -> None:
    whole = begun(tmp_path / "whole", moving, "predrnn/tiny").run().folder
    begun(tmp_path / "cut", moving, "predrnn/tiny").run(stop=lambda seen: seen >= 40)
    cut = begun(tmp_path / "cut", moving, "predrnn/tiny").run().folder
    assert fingerprint(whole) == fingerprint(cut)
    assert list(whole.glob("predictions-*.png")) and list(whole.glob("samples-*.png"))
    metric = (whole / "metrics.jsonl").read_text()
    assert "mse_val" in metric
