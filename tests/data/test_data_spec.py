"""Which resolution and channels `auto` means, how other shapes are brought to it, and what is suggested."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from picture_files import encoded, picture, png, pngs, write_tree

from zeuxis.config import DataOptions
from zeuxis.data import Dataset, Report, open_dataset
from zeuxis.errors import UserError


def shapes(*sizes: tuple[int, int], channels: int = 3) -> dict[str, bytes]:
    """One PNG per (height, width)."""
    return {f"{index:03d}.png": png(index, *size, channels=channels) for index, size in enumerate(sizes)}


@pytest.mark.parametrize(
    ("sizes", "expected", "why"),
    [
        ([(24, 40)] * 4, (24, 40), "all pictures are 40x24"),
        ([(30, 45)] * 4, (28, 44), "all pictures are 45x30, brought to multiples of 4"),
        ([(3, 3)] * 4, (4, 4), "all pictures are 3x3, brought to multiples of 4"),
        ([(60, 60), (70, 70), (80, 80)], (64, 64), "sizes differ in one aspect, median 70x70"),
        ([(40, 80), (50, 100), (60, 120)], (32, 64), "sizes differ in one aspect, median 100x50"),
        ([(90, 45), (100, 50), (120, 60)], (64, 32), "sizes differ in one aspect, median 50x100"),
        ([(60, 60), (70, 90), (80, 50)], (32, 32), "sizes differ, median 60x70"),
        ([(300, 400), (700, 600), (900, 900)], (256, 256), "sizes differ, median 600x700"),
        ([(9, 9), (12, 12), (15, 15)], (12, 12), "sizes differ in one aspect, median 12x12"),
    ],
)
def test_the_suggested_resolution(
    sizes: list[tuple[int, int]],
    expected: tuple[int, int],
    why: str,
    opened: Callable[..., Dataset],
    tmp_path: Path,
) -> None:
    dataset = opened(write_tree(tmp_path / "d", shapes(*sizes)))
    assert dataset.spec.shape == (3, *expected)
    assert dataset.train.all().shape == (len(sizes), 3, *expected)
    suggested = dataset.report.suggested
    assert (suggested["height"], suggested["width"], suggested["channels"]) == (*expected, 3)
    assert suggested["why"] == f"{why}; in colour" and suggested["text"] == f"{expected[1]}x{expected[0]} RGB"


@pytest.mark.parametrize(("height", "width"), [(8, 8), (12, 20), (64, 32)])
@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_what_is_asked_for_is_what_comes(
    height: int, width: int, fit: str, channels: int, opened: Callable[..., Dataset], tmp_path: Path
) -> None:
    files = {**pngs(2, height=24, width=40), **pngs(2, "g", 2, channels=1), **pngs(2, "a", 4, channels=4)}
    dataset = opened(write_tree(tmp_path / "d", files), resolution=(height, width), fit=fit, channels=channels)
    assert dataset.train.all().shape == (6, channels, height, width)
    assert dataset.spec.shape == (channels, height, width)
    assert dataset.report.suggested["why"] == "resolution as asked; channels as asked"


def halves(height: int, width: int) -> bytes:
    """Left and right quarter black, the middle white."""
    values = np.zeros((height, width, 3), np.uint8)
    values[:, width // 4 : -(width // 4)] = 255
    return encoded(values)


def test_crop_pad_and_stretch(opened: Callable[..., Dataset], tmp_path: Path) -> None:
    folder = write_tree(tmp_path / "d", {"a.png": halves(32, 64)})
    crop, pad, stretch = (
        opened(folder, resolution=(16, 16), channels=1, fit=fit).train.all()[0, 0].astype(int)
        for fit in ("crop", "pad", "stretch")
    )
    assert crop[:, 1:-1].min() > 220, "only the white middle is left"
    assert (pad[:4] == 0).all() and (pad[-4:] == 0).all() and pad[8, 8] == 255, "edges above and below"
    assert stretch[8, 0] == 0 and stretch[8, 8] == 255 and stretch[0, 8] == 255


def test_pictures_of_the_wanted_size_are_not_touched(opened: Callable[..., Dataset], tmp_path: Path) -> None:
    for fit in ("crop", "pad", "stretch"):
        dataset = opened(write_tree(tmp_path / "d", pngs(3, height=12, width=20)), resolution=(12, 20), fit=fit)
        assert np.array_equal(dataset.train.all()[1].transpose(1, 2, 0), picture(1, 12, 20))


@pytest.mark.parametrize(
    ("kinds", "channels", "why"),
    [
        ([1] * 8, 1, "all are grey"),
        ([3] * 8, 3, "in colour"),
        ([1] * 7 + [3], 3, "in colour"),
        ([4] * 8, 4, "100% have transparency"),
        ([3] * 7 + [4], 4, "12% have transparency"),
        ([3] * 39 + [4], 3, "in colour, 2.5% with transparency over white"),
    ],
)
def test_the_suggested_channels(
    kinds: list[int], channels: int, why: str, opened: Callable[..., Dataset], tmp_path: Path
) -> None:
    files = {f"{index:03d}.png": png(index, channels=kind) for index, kind in enumerate(kinds)}
    dataset = opened(write_tree(tmp_path / "d", files))
    assert dataset.spec.channels == channels
    assert dataset.report.suggested["why"] == f"all pictures are 16x16; {why}"


def test_alpha_that_hides_nothing_is_no_alpha(opened: Callable[..., Dataset], tmp_path: Path) -> None:
    opaque = np.dstack([picture(1), np.full((16, 16), 255, np.uint8)])
    assert opened(write_tree(tmp_path / "d", {"a.png": encoded(opaque)})).spec.channels == 3


def test_grey_saved_as_colour_is_grey(opened: Callable[..., Dataset], tmp_path: Path) -> None:
    files = {f"{seed}.png": encoded(np.repeat(picture(seed, channels=1)[..., None], 3, 2)) for seed in range(4)}
    files["a.jpg"] = encoded(np.repeat(picture(9, channels=1)[..., None], 3, 2), "JPEG")
    assert opened(write_tree(tmp_path / "d", files)).spec.channels == 1


def test_a_late_surprise_is_found_and_read_in_colour(opened: Callable[..., Dataset], tmp_path: Path) -> None:
    """A few pictures are looked at first; what they hid is found by the pass over all."""
    files = {**pngs(200, channels=1), "101x.png": png(300, channels=3), "zz.png": png(301, 16, 24)}
    calls: list[str] = []
    folder = write_tree(tmp_path / "d", files)
    dataset = open_dataset(
        folder,
        DataOptions(),
        cache_dir=tmp_path / "c",
        workers=1,
        progress=lambda what, done, total: calls.append(what),
    )
    assert dataset.spec.shape == (3, 16, 16) and len(dataset) == 202
    assert set(calls) == {"reading pictures", "resizing pictures"}, "the guess from a few was wrong"
    index = dataset.names().index("101x.png")
    assert np.array_equal(dataset.train.take([index])[0].transpose(1, 2, 0), picture(300))


def test_colour_that_vanishes_when_made_smaller(opened: Callable[..., Dataset], tmp_path: Path) -> None:
    """Grey at the size that is read, in colour at the size of the file: decided once, and the pixels fit it."""
    files = {}
    for seed, side in enumerate((64, 72, 80, 64, 100)):
        values = np.repeat(picture(seed, side, side, 1)[..., None] // 2 + 60, 3, 2)
        values[::2, :, 0] += 8
        values[1::2, :, 1:] += 8
        files[f"{seed}.png"] = encoded(values)
    dataset = opened(write_tree(tmp_path / "d", files), resolution=(16, 16))
    assert dataset.spec.channels == 3
    pixels = dataset.train.all().astype(int)
    assert pixels.shape == (5, 3, 16, 16) and np.abs(pixels[:, :1] - pixels).max() <= 2, "and yet they look grey"


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_arrays_are_brought_to_another_shape_too(channels: int, opened: Callable[..., Dataset]) -> None:
    images = np.stack([picture(seed, 24, 40) for seed in range(3)])
    dataset = opened(images, resolution=(12, 20), channels=channels)
    assert dataset.train.all().shape == (3, channels, 12, 20)
    odd = opened(np.stack([picture(seed, 30, 41, 1) for seed in range(3)]))
    assert odd.spec.shape == (1, 28, 40), "cut to multiples of 4"


def test_the_report_of_a_scan_suggests_what_training_reads(
    scanned: Callable[..., Report], opened: Callable[..., Dataset], tmp_path: Path
) -> None:
    folder = write_tree(tmp_path / "d", shapes((60, 60), (70, 90), (80, 50)))
    suggested = scanned(folder).suggested
    spec = opened(folder).spec
    assert (suggested["height"], suggested["width"], suggested["channels"]) == (spec.height, spec.width, spec.channels)


def test_digits_have_no_clips(opened: Callable[..., Dataset]) -> None:
    with pytest.raises(UserError, match=r"--frames: got 4, allowed: 1 for digits, .*; try moving-digits"):
        opened("digits", frames=4)


def test_wrap_is_part_of_the_spec(opened: Callable[..., Dataset]) -> None:
    spec = opened("digits", wrap="x").spec
    assert (spec.wrap_x, spec.wrap_y) == (True, False)
