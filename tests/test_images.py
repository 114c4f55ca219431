"""The pixel contract."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from zeuxis.images import composite, fit_to, from_picture, grid, save_png, to_float, to_pixels, to_user


@pytest.mark.parametrize("channels", [1, 3])
def test_every_level_survives_the_way_in_and_out(channels: int) -> None:
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(2, channels, -1, -1)
    values = to_float(pixels)
    assert values.min() == -1 and values.max() == 1
    assert torch.equal(to_pixels(values), pixels)


def test_colour_under_alpha_survives_where_it_can_be_seen_and_is_black_where_not() -> None:
    pixels = torch.zeros(1, 4, 2, 2, dtype=torch.uint8)
    pixels[0, :, 0, 0] = torch.tensor([200, 100, 50, 255])
    pixels[0, :, 0, 1] = torch.tensor([200, 100, 50, 128])
    pixels[0, :, 1, 0] = torch.tensor([200, 100, 50, 0])
    values, back = to_float(pixels), to_pixels(to_float(pixels))
    assert torch.equal(back[0, :, 0, 0], pixels[0, :, 0, 0])
    assert (back[0, :, 0, 1].int() - pixels[0, :, 0, 1].int()).abs().max() <= 1
    assert back[0, :, 1, 0].tolist() == [0, 0, 0, 0]
    assert values[0, :, 1, 0].tolist() == [-1, -1, -1, -1], "invisible colour does not count"


def test_composite_is_what_pillow_makes() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (1, 4, 9, 7), dtype=np.uint8)
    for grey in (0, 255, 96):
        below = Image.new("RGBA", (7, 9), (grey, grey, grey, 255))
        expected = Image.alpha_composite(below, Image.fromarray(pixels[0].transpose(1, 2, 0))).convert("RGB")
        found = composite(pixels, grey)[0].transpose(1, 2, 0)
        assert np.abs(found.astype(int) - np.asarray(expected).astype(int)).max() <= 1
    grey_pixels = rng.integers(0, 256, (2, 1, 4, 4), dtype=np.uint8)
    assert composite(grey_pixels, 0) is grey_pixels


def test_fit_modes() -> None:
    wide = Image.new("RGB", (40, 20), (255, 0, 0))
    wide.paste((0, 0, 255), (10, 0, 30, 20))  # the centre square is blue
    crop = np.asarray(fit_to(wide, 8, 8, "crop"))
    assert crop.shape == (8, 8, 3) and (crop[..., 2] > 230).all(), "crop keeps the centre alone"
    pad = np.asarray(fit_to(wide, 8, 8, "pad"))
    assert (pad[:2] == 0).all() and (pad[-2:] == 0).all() and pad[4].max() > 200
    stretch = np.asarray(fit_to(wide, 8, 8, "stretch"))
    assert stretch[4, 0, 0] > 200 and stretch[4, 4, 2] > 200
    assert fit_to(wide, 20, 40, "crop") is wide, "a picture of the right size is left alone"


def test_resizing_is_antialiased() -> None:
    """Lines one pixel wide become an even grey instead of black or white stripes."""
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 255
    small = np.asarray(fit_to(Image.fromarray(stripes), 8, 8, "stretch"))
    assert small[:, 1:-1].min() > 110 and small[:, 1:-1].max() < 145


def test_hidden_colour_does_not_bleed_into_edges() -> None:
    pixels = np.zeros((32, 32, 4), np.uint8)
    pixels[..., 0] = 255  # red everywhere, but hidden on the left
    pixels[:, 16:] = (0, 255, 0, 255)
    small = np.asarray(fit_to(Image.fromarray(pixels), 8, 8, "stretch")).astype(int)
    seen = small[..., 3] > 8
    assert seen.any() and small[seen][:, 0].max() <= 8


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "I;16", "I", "F", "YCbCr"])
def test_every_mode_comes_in(mode: str) -> None:
    if mode in ("I;16", "I"):
        picture = Image.fromarray(
            np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16 if mode == "I;16" else np.int32)
        )
    else:
        picture = Image.fromarray(np.linspace(0, 255, 64).reshape(8, 8).astype(np.uint8)).convert(mode)
    for channels in (1, 3, 4):
        values = np.asarray(from_picture(picture, channels))
        assert values.shape[:2] == (8, 8) and values.dtype == np.uint8
        level = values if channels == 1 else values[..., 0]
        assert level[0, 0] < 40 and level[-1, -1] > 215, "dark stays dark and bright stays bright"


def test_exif_rotation_is_applied(tmp_path: object) -> None:
    picture = Image.new("L", (8, 4))
    picture.getexif()[0x0112] = 6  # turned a quarter to the right
    assert from_picture(picture, 1).size == (4, 8)


def test_transparency_lies_on_white_where_there_is_no_alpha() -> None:
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert np.asarray(from_picture(clear, 3)).min() == 255
    assert np.asarray(from_picture(clear, 4))[..., 3].max() == 0


def test_grid_and_png_mark(tmp_path: object) -> None:
    from pathlib import Path

    pixels = np.arange(5, dtype=np.uint8)[:, None, None, None].repeat(4, 1).repeat(4, 2) * 40
    sheet = grid(pixels, columns=3, scale=2, gap=1)
    assert sheet.size == (3 * 9 + 1, 2 * 9 + 1)
    values = np.asarray(sheet)
    assert values[1, 1] == 0 and values[1, 10] == 40 and values[10, 1] == 120
    path = Path(str(tmp_path)) / "a.png"
    save_png(sheet, path, {"Synthetic": "true"})
    with Image.open(path) as opened:
        assert opened.text["Synthetic"] == "true"  # type: ignore[attr-defined]
    assert to_user(torch.zeros(2, 3, 4, 8, dtype=torch.uint8)).shape == (2, 4, 8, 3)
