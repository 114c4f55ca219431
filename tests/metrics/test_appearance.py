"""What the statistics of appearance see, and what they leave alone."""

from __future__ import annotations

import numpy as np
import pytest

from zeuxis.config import ImageSpec
from zeuxis.metrics.appearance import gap, seam_ratio, statistics
from zeuxis.metrics.base import Pair, Side


def side(pixels: np.ndarray, **options: bool) -> Side:
    spec = ImageSpec(height=pixels.shape[2], width=pixels.shape[3], channels=pixels.shape[1], **options)  # type: ignore[arg-type]
    return Side(*statistics(pixels, spec))


@pytest.fixture(scope="module")
def discs() -> np.ndarray:
    """Smooth-edged coloured discs on nothing, uint8 `[N, 4, 24, 24]`."""
    rng = np.random.default_rng(0)
    at = np.arange(24) - 11.5
    radius = rng.uniform(4, 10, (200, 1, 1))
    alpha = np.clip(radius - np.hypot(at[None, :, None], at[None, None, :]) + 0.5, 0, 1)
    colour = np.broadcast_to(rng.integers(60, 200, (200, 3, 1, 1)), (200, 3, 24, 24))
    return np.concatenate([colour, 255 * alpha[:, None]], axis=1).round().astype(np.uint8)


def test_a_flat_picture_has_no_sharpness_and_its_own_colour() -> None:
    flat = np.full((3, 3, 8, 8), [[[[10]], [[20]], [[60]]]], np.uint8)
    found = side(flat)
    where = found.columns
    assert found.features[:, where["sharpness"]] == pytest.approx(0)
    assert found.features[:, where["contrast"]] == pytest.approx(0, abs=1e-4)
    assert found.features[0, where["colour"]] == pytest.approx([10, 20, 60])
    assert found.features[:, where["saturation"]] == pytest.approx(50)


def test_hidden_colour_does_not_count(discs: np.ndarray) -> None:
    other = discs.copy()
    other[:, :3] = np.where(discs[:, 3:] == 0, 255, discs[:, :3])
    assert np.array_equal(side(discs).features, side(other).features)


def test_each_fault_moves_the_gap_named_for_it_and_says_which_way(discs: np.ndarray) -> None:
    jagged, halo, paler = discs.copy(), discs.copy(), discs.copy()
    jagged[:, 3] = np.where(discs[:, 3] > 127, 255, 0)
    soft = (discs[:, 3:] > 0) & (discs[:, 3:] < 255)
    halo[:, :3] = np.where(soft, 255, discs[:, :3])
    paler[:, :3] = discs[:, :3] // 2 + 60
    clean = side(discs)
    for faulty, name, words in (
        (jagged, "edges", "rougher at the edges"), (halo, "fringe", "dirtier at the edges"),
        (paler, "saturation", "paler"),
    ):  # fmt: skip
        found = gap(Pair(side(faulty), clean), name)[f"{name}_gap"]
        assert found.value > 0.5 and found.note == f"{words} than the data", name
        assert gap(Pair(clean, clean), name)[f"{name}_gap"].value == 0
    assert gap(Pair(side(jagged), clean), "colour")["colour_gap"].value < 0.1, "edges are no colour"


def test_grey_pictures_have_no_saturation_and_no_edges() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (5, 1, 8, 8), dtype=np.uint8)
    pair = Pair(side(grey), side(grey))
    assert gap(pair, "saturation") == {} and gap(pair, "edges") == {} and "seam" not in side(grey).columns


def test_the_seam_ratio_is_one_where_the_edges_meet_and_large_where_not() -> None:
    at = 2 * np.pi * np.arange(32) / 32
    phase = np.random.default_rng(0).uniform(0, 6, (50, 1, 1, 1))
    waves = (
        np.broadcast_to(127 + 100 * np.sin(at[None, None, None, :] + phase), (50, 1, 32, 32)).round().astype(np.uint8)
    )
    found = side(waves, wrap_x=True)
    assert seam_ratio(found.features[:, found.columns["seam"]]).value == pytest.approx(1, abs=0.1)
    half = side(waves[..., :16].repeat(1, axis=2)[:, :, :16], wrap_x=True)
    assert seam_ratio(half.features[:, half.columns["seam"]]).value > 5
