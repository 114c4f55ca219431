"""What games and VR need: sheets, palettes, tiles, cube maps; all without a model."""

from __future__ import annotations

import json

import numpy as np
import pytest

from zeuxis.editing.seams import FACES, cube_faces, seam_ratio, tiled
from zeuxis.editing.sprites import atlas, cleaned, enlarged, oklab, reduced
from zeuxis.errors import UserError


@pytest.mark.parametrize("array", [False, True])
@pytest.mark.parametrize(("count", "side"), [(1, (8, 8)), (7, (12, 20)), (64, (16, 16))])
def test_an_atlas_gives_every_sprite_back(array: bool, count: int, side: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 4, *side), dtype=np.uint8)
    names = [f"seed{index:06d}" for index in range(count)]
    sheet, document = atlas(pixels, names, "atlas.png", array=array)
    document = json.loads(json.dumps(document))
    frames = {each["filename"]: each for each in document["frames"]} if array else document["frames"]
    assert list(frames) == names and document["meta"]["size"] == {"w": sheet.shape[2], "h": sheet.shape[1]}
    assert all(length & (length - 1) == 0 for length in sheet.shape[1:]), "powers of two"
    boxes = []
    for name, picture in zip(names, pixels, strict=True):
        box = frames[name]["frame"]
        here = np.s_[:, box["y"] : box["y"] + box["h"], box["x"] : box["x"] + box["w"]]
        assert np.array_equal(sheet[here], picture)
        assert not frames[name]["rotated"] and not frames[name]["trimmed"]
        assert np.array_equal(sheet[:, box["y"] - 1, box["x"] : box["x"] + box["w"]], picture[:, 0]), "its edge goes on"
        boxes.append((box["x"], box["y"]))
    assert len(set(boxes)) == count
    covered = count * (side[0] + 4) * (side[1] + 4)
    assert sheet.shape[1] * sheet.shape[2] < 4 * max(covered, 256), "no larger than it must be"


def test_pixel_art_has_few_colours_of_its_own_and_clean_edges() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (5, 4, 12, 12), dtype=np.uint8)
    made, palette = reduced(pixels, 9)
    colours = {tuple(colour) for colour in made.transpose(0, 2, 3, 1)[made[:, 3] == 255][:, :3].tolist()}
    assert len(palette) <= 9 and colours <= {tuple(colour) for colour in palette.tolist()}
    assert colours <= {tuple(colour) for colour in pixels.transpose(0, 2, 3, 1)[..., :3].reshape(-1, 3).tolist()}
    assert np.array_equal(made[:, 3], np.where(pixels[:, 3] >= 128, 255, 0)) and not made[:, :3, :, :][
        np.broadcast_to(made[:, 3:] == 0, (5, 3, 12, 12))].any()  # fmt: skip
    few = np.zeros((1, 3, 4, 4), np.uint8)
    few[:, 0, :2] = 255
    assert np.array_equal(reduced(few, 4)[0], few), "what has few colours keeps them"
    grey = rng.integers(0, 256, (2, 1, 8, 8), dtype=np.uint8)
    assert reduced(grey, 3)[0].shape == grey.shape and len(np.unique(reduced(grey, 3)[0])) <= 3
    with pytest.raises(UserError, match="--pixel-art"):
        reduced(grey, 1)


def test_cleaned_sprites_have_the_colour_of_their_object_around_it_and_no_dust() -> None:
    sprite = np.zeros((1, 4, 32, 32), np.uint8)
    sprite[0, :, 8:24, 8:24] = np.array([200, 100, 50, 255])[:, None, None]
    sprite[0, 0, 8:24, 16:24] = 90  # its right half
    sprite[0, :, 7, 8:24] = np.array([20, 10, 5, 120])[:, None]  # a dark outline, half transparent
    sprite[0, :, 14:18, 8:10] = np.array([255, 255, 255, 200])[:, None, None]  # translucent, near the object
    sprite[0, :, 28, 2] = 255, 0, 0, 20  # dust
    before = sprite.copy()
    made = cleaned(sprite)
    assert np.array_equal(sprite, before), "what was given stays"
    assert (made[0, :3, 7, 8:16].T == [200, 100, 50]).all() and (made[0, :3, 7, 16:24].T == [90, 100, 50]).all()
    assert (made[0, :3, 6, 12].T == [200, 100, 50]).all() and made[0, 3, 6, 12] == 0, "filters mix it in"
    assert not made[0, :, 0, 0].any(), "far away nothing is changed"
    assert not made[0, 3, 28, 2] and np.array_equal(made[0, 3, :25], before[0, 3, :25]), "no dust, the same edges"
    assert np.array_equal(made[0, :, 10:14, 10:16], before[0, :, 10:14, 10:16])
    ghost = np.full((1, 4, 32, 32), 100, np.uint8)
    assert np.array_equal(cleaned(ghost), ghost), "without an object there is nothing to go by"


def test_oklab_is_ottossons() -> None:
    assert np.allclose(oklab(np.array([1.0, 1, 1])), [1, 0, 0], atol=1e-4)
    assert np.allclose(oklab(np.array([1.0, 0, 0])), [0.628, 0.2249, 0.1258], atol=1e-3)
    assert np.allclose(oklab(np.array([0.0, 0, 1])), [0.452, -0.0324, -0.3115], atol=1e-3)


def test_enlarging_repeats_and_tiling_repeats() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 6), dtype=np.uint8)
    large = enlarged(pixels, 3)
    assert large.shape == (2, 3, 12, 18) and np.array_equal(large[:, :, 1::3, 2::3], pixels)
    assert np.array_equal(tiled(pixels)[:, :, 4:8, 6:12], pixels)


def test_the_seam_ratio_is_one_where_edges_meet() -> None:
    x = np.arange(64)
    wave = 127 + 100 * np.sin(2 * np.pi * x / 64)
    pixels = np.broadcast_to(wave, (1, 1, 32, 64)).round().astype(np.uint8)
    assert seam_ratio(pixels, "x")[0] < 2 and seam_ratio(np.roll(pixels, 20, 3), "x")[0] < 2
    broken = np.broadcast_to(np.linspace(0, 255, 64), (1, 1, 32, 64)).round().astype(np.uint8)
    assert seam_ratio(broken, "x")[0] > 50
    assert seam_ratio(broken.swapaxes(2, 3), "y")[0] == seam_ratio(broken, "x")[0]


def directions(height: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit vectors of an equirectangular picture's pixels, by the convention of `cube_faces`."""
    latitude = (0.5 - (np.arange(height) + 0.5) / height) * np.pi
    longitude = ((np.arange(2 * height) + 0.5) / (2 * height) - 0.5) * 2 * np.pi
    lat, lon = np.meshgrid(latitude, longitude, indexing="ij")
    return np.cos(lat) * np.sin(lon), np.sin(lat), -np.cos(lat) * np.cos(lon)


def test_patches_on_the_axes_land_in_the_middle_of_their_faces() -> None:
    x, y, z = directions(64)
    for face, axis in zip(FACES, (x, -x, y, -y, z, -z), strict=True):
        panorama = np.where(axis > 0.9, 255, 0).astype(np.uint8)[None]
        faces = cube_faces(panorama, 32)
        assert faces[FACES.index(face), 0, 14:18, 14:18].min() == 255
        assert sum(int(each.max() > 0) for each in faces) == 1


def test_a_smooth_panorama_has_no_seams_between_faces_and_the_right_values() -> None:
    x, y, z = directions(128)
    smooth = np.stack([127.5 + 100 * value for value in (x, y, z)]).round().astype(np.uint8)
    faces = cube_faces(smooth, 64).astype(float)
    place = (np.arange(64) + 0.5) / 32 - 1
    v, u = np.meshgrid(place, place, indexing="ij")
    length = np.sqrt(1 + u**2 + v**2)
    wanted = 127.5 + 100 * np.stack([u, -v, np.ones_like(u)]) / length  # pz
    assert np.abs(faces[FACES.index("pz")] - wanted).max() < 2
    right, front = faces[FACES.index("px")], faces[FACES.index("pz")]
    assert np.abs(front[:, :, -1] - right[:, :, 0]).mean() <= 2, "the right edge of pz is the left edge of px"
    up = faces[FACES.index("py")]
    assert np.abs(np.diff(up, axis=2)).max() < 6, "nothing jumps over the pole"
    with pytest.raises(UserError, match=r"PANORAMA.*twice as wide"):
        cube_faces(smooth[:, :, :100], 8)
