"""Clips: what a window is made of, what is left out and said, and that a clip is on one side of the split."""

from __future__ import annotations

import hashlib
import importlib.util
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from picture_files import animated, encoded, picture
from PIL import Image

from zeuxis.data import Dataset, Report
from zeuxis.data.clips import natural_key, read_clip
from zeuxis.data.moving import bounce, moving_clips
from zeuxis.errors import DataError, UserError

Opened = Callable[..., Dataset]


def flat(value: int, side: int = 16) -> np.ndarray:
    """A grey picture of one value, by which a frame is known again."""
    return np.full((side, side), value, np.uint8)


def write_frames(folder: Path, numbers: Any, text: str = "f{}.png") -> None:
    """A clip whose frame number k is of value k."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        (folder / text.format(number)).write_bytes(encoded(flat(number)))


def values_of(dataset: Dataset) -> list[list[int]]:
    """The value of every frame of every training window."""
    return dataset.train.all()[:, :, 0, 0, 0].tolist()


def test_frames_are_in_the_order_of_their_numbers_and_cut_into_windows(opened: Opened, tmp_path: Path) -> None:
    write_frames(tmp_path / "d" / "one", range(1, 13))  # f2 before f10
    dataset = opened(tmp_path / "d", frames=4)
    assert dataset.spec.frames == 4 and dataset.train.take([0]).shape == (1, 4, 1, 16, 16)
    assert values_of(dataset) == [[k, k + 1, k + 2, k + 3] for k in (1, 3, 5, 7, 9)], "each half a window later"
    assert [natural_key(name) for name in ("a9", "a10")] == sorted(natural_key(name) for name in ("a10", "a9"))


def test_no_window_spans_a_gap(opened: Opened, scanned: Callable[..., Report], tmp_path: Path) -> None:
    """A missing number, a broken file and a frame of another size each end a window; short clips are listed."""
    write_frames(tmp_path / "d" / "missing", [1, 2, 3, 4, 6, 7, 8, 9])
    write_frames(tmp_path / "d" / "broken", range(20, 30))
    (tmp_path / "d" / "broken" / "f24.png").write_bytes(encoded(flat(24))[:40])
    write_frames(tmp_path / "d" / "odd", range(40, 49))
    (tmp_path / "d" / "odd" / "f44.png").write_bytes(encoded(flat(44, 32)))
    write_frames(tmp_path / "d" / "short", range(3))
    write_frames(tmp_path / "d" / "fifth", range(60, 80, 5))
    dataset = opened(tmp_path / "d", frames=4)
    starts = sorted(window[0] for window in values_of(dataset))
    assert starts == [1, 6, 20, 25, 40, 45, 60]
    assert all(np.ptp(np.diff(window)) == 0 for window in values_of(dataset))
    reasons = dict(dataset.report.skipped)
    assert reasons["odd/f44.png"] == "32x32, while its clip is 16x16"
    assert "broken/f24.png" in reasons and reasons["short"] == "3 frames, fewer than the 4 of a window"
    assert any("3 gaps" in note for note in scanned(tmp_path / "d", frames=4).notes)


def test_windows_of_a_clip_are_on_one_side(opened: Opened, tmp_path: Path) -> None:
    for clip in range(12):
        write_frames(tmp_path / "d" / f"c{clip}", range(clip * 20, clip * 20 + 16))
    dataset = opened(tmp_path / "d", frames=4, test_fraction=0.25, val_fraction=0.1)
    sides = [set(split.clips) for split in (dataset.train, dataset.val, dataset.test)]
    assert [len(side) for side in sides] == [8, 1, 3] and len(set.union(*sides)) == 12
    assert len(dataset.test) == 3 * 7


def test_folders_above_clips_are_classes_and_splits(opened: Opened, tmp_path: Path) -> None:
    for split, name, first in (("train", "run", 0), ("train", "walk", 50), ("test", "walk", 100)):
        write_frames(tmp_path / "d" / split / name / "clip", range(first, first + 4))
    dataset = opened(tmp_path / "d", frames=4)
    assert dataset.classes == ("run", "walk") and (len(dataset.train), len(dataset.test)) == (2, 1)
    assert dataset.test.take([0])[0, 0, 0, 0, 0] == 100 and dataset.test.labels.tolist() == [1]


def test_several_clips_in_one_folder_go_by_the_text_before_the_number(opened: Opened, tmp_path: Path) -> None:
    write_frames(tmp_path / "d", range(4), "cat_{}.png")
    write_frames(tmp_path / "d", range(4, 8), "dog_{}.png")
    assert sorted(values_of(opened(tmp_path / "d", frames=4))) == [[0, 1, 2, 3], [4, 5, 6, 7]]


@pytest.mark.parametrize("shape", [(9, 12, 16, 3), (2, 9, 12, 16), (2, 9, 12, 16, 4)])
@pytest.mark.parametrize("form", ["array", "npy", "npz"])
def test_stacks(opened: Opened, tmp_path: Path, shape: tuple[int, ...], form: str) -> None:
    array = np.random.default_rng(0).integers(1, 256, shape, dtype=np.uint8)
    data: Any = array
    if form == "npy":
        data = tmp_path / "s.npy"
        np.save(data, array)
    elif form == "npz":
        data = tmp_path / "s.npz"
        np.savez_compressed(data, images=array)
    dataset = opened(data, frames=9, channels={3: 3, 4: 4}.get(shape[-1], 1))
    whole = array.reshape(-1, 9, 12, 16, shape[-1] if shape[-1] < 5 else 1)
    assert np.array_equal(dataset.train.all(), whole.transpose(0, 1, 4, 2, 3))


def test_labels_of_an_npz_are_those_of_its_clips(opened: Opened, tmp_path: Path) -> None:
    clips = np.zeros((3, 4, 8, 8), np.uint8)
    np.savez(tmp_path / "s.npz", images=clips, labels=np.array([5, 7, 5]))
    dataset = opened(tmp_path / "s.npz", frames=4)
    assert dataset.classes == ("5", "7") and dataset.train.labels.tolist() == [0, 1, 0]


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_animations_alone_and_in_a_folder(opened: Opened, tmp_path: Path, form: str) -> None:
    path = tmp_path / "d" / f"a.{form.lower()}"
    path.parent.mkdir()
    path.write_bytes(animated(6, form))
    (tmp_path / "d" / "note.txt").write_text("no frame")
    for data in (path, path.parent):
        dataset = opened(data, frames=3)
        assert dataset.train.take([0]).shape == (1, 3, 3, 16, 16) and len(dataset) == 4
    if form == "PNG":
        assert np.array_equal(dataset.train.take([0])[0, 1], picture(1).transpose(2, 0, 1))


def test_a_cut_animation_gives_the_frames_before_the_cut(opened: Opened, tmp_path: Path) -> None:
    clip = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), dtype=np.uint8)
    np.save(tmp_path / "whole.npy", clip)
    content = (tmp_path / "whole.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(content[:-10])
    with pytest.raises(DataError, match=r"0 training .*cut\.npy: broken: a header"):
        opened(tmp_path / "cut.npy", frames=4)
    frames = [Image.fromarray(frame) for frame in clip]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    (tmp_path / "cut.gif").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    dataset = opened(tmp_path / "cut.gif", frames=2)
    assert 1 <= len(dataset) <= 4


def test_video_or_one_line_how_to_read_it(opened: Opened, tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    if importlib.util.find_spec("av") is None:
        path.write_bytes(b"whatever it is")
        with pytest.raises(DataError, match=r"a video, which needs the package av: pip install 'zeuxis\[video\]'"):
            opened(path, frames=4)
        return
    from zeuxis.film import save_video

    clip = np.stack([np.full((3, 32, 48), 30 * k, np.uint8) for k in range(8)])
    save_video(clip, path, {"Software": "test"})
    dataset = opened(path, frames=8)
    assert np.abs(dataset.train.all()[0].astype(int) - clip).max() < 12
    with pytest.raises(DataError, match="a video is a clip: add --frames"):
        opened(path)


def test_what_holds_no_clips_is_refused_in_one_line(opened: Opened, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="try moving-digits"):
        opened("digits", frames=4)
    with pytest.raises(DataError, match=r"try moving-digits:1000:200"):
        opened("moving-digits:0")
    write_frames(tmp_path / "d" / "one", range(4))
    with pytest.raises(DataError, match="one: 4 frames, fewer than the 9 of a window"):
        opened(tmp_path / "d", frames=9)


def test_one_clip_is_read_whole_for_prediction(tmp_path: Path) -> None:
    write_frames(tmp_path / "one", [8, 9, 10])
    assert read_clip(tmp_path / "one", (1, 16, 16))[:, 0, 0, 0].tolist() == [8, 9, 10]
    assert read_clip(tmp_path / "one" / "f9.png", (3, 8, 8)).shape == (1, 3, 8, 8)
    write_frames(tmp_path / "two" / "a", range(2))
    write_frames(tmp_path / "two" / "b", range(2))
    with pytest.raises(DataError, match=r"--input: .*2 clips"):
        read_clip(tmp_path / "two", (1, 16, 16))
    (tmp_path / "one" / "f9.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(DataError, match=r"f9\.png: broken"):
        read_clip(tmp_path / "one", (1, 16, 16))


# -- moving pictures ---------------------------------------------------------------------------------------------------
def test_moving_clips_are_the_same_to_the_bit_everywhere() -> None:
    pictures = (np.arange(5 * 8 * 8) % 251).astype(np.uint8).reshape(5, 8, 8)
    clips = moving_clips(pictures, 6, frames=12, canvas=24, seed=3)
    digest = hashlib.sha256(clips.tobytes()).hexdigest()
    assert digest == "99e2688da4c52b7e6639ed6dc033c32870fa3e2bf18d4180ff1a51b2598c3e42"
    assert np.array_equal(moving_clips(pictures, 1, frames=12, canvas=24, seed=3, first=4), clips[4:5])
    assert not np.array_equal(moving_clips(pictures, 1, frames=12, canvas=24, seed=4), clips[:1])


def test_pictures_go_straight_on_and_bounce_off_the_edges() -> None:
    corners = bounce(np.random.Philox(1), 50, 40, 36)  # [50, 40, 2]
    assert corners.min() == 0 and corners.max() == 36
    speeds = np.diff(corners, axis=1)
    assert np.abs(speeds).max() <= 4, "a tenth of the way per frame, rounded to pixels"
    inside = ((corners[:, 1:-1] > 4) & (corners[:, 1:-1] < 32)).all(-1)
    assert np.abs(np.diff(speeds, axis=1))[inside].max() <= 1, "only edges turn it"
    left = corners[:, :, 0]
    assert all((path[np.argmin(path) :] > 9).any() for path in left if path.min() == 0 and np.argmin(path) < 25)
    turning = bounce(np.random.Philox(1), 50, 40, 36, turns=True)
    assert np.array_equal(turning[:, 0], corners[:, 0]) and not np.array_equal(turning, corners)
    assert turning.min() == 0 and turning.max() == 36


def test_built_in_moving_digits(opened: Opened) -> None:
    dataset = opened("moving-digits:12:4", frames=6, resolution=(16, 16))
    assert (len(dataset.train), len(dataset.test), str(dataset.spec)) == (12, 4, "16x16 grey, 6 frames")
    assert dataset.source == "moving-digits:12:4"
    moved = np.abs(np.diff(dataset.train.all().astype(int), axis=1)).mean((2, 3, 4))
    assert (moved > 0).all()
