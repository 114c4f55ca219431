"""Collages, on tiny networks as they are built: what they promise does not need a good model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from editing_models import sampled, tiny

from zeuxis.editing import (
    compose,
    grid_layout,
    lay_out,
    read_layout,
    space_of,
)
from zeuxis.errors import UserError


def test_a_collage_has_its_elements_where_they_were_put(tmp_path: Path) -> None:
    from PIL import Image

    model = tiny(channels=4)
    space = space_of(model)
    red = np.zeros((6, 6, 4), np.uint8)
    red[1:5, 1:5] = (255, 0, 0, 255)
    Image.fromarray(red).save(tmp_path / "red.png")
    Image.new("RGB", (20, 10), (0, 0, 255)).save(tmp_path / "blue.png")
    shape = np.zeros((10, 20), np.uint8)
    shape[:, 10:] = 255
    Image.fromarray(shape).save(tmp_path / "shape.png")
    layout = {"elements": [
        {"seed": 3, "box": [0, 8, 16, 8], "at": [0, 8]},
        {"picture": "blue.png", "mask": "shape.png", "box": [8, 0, 4, 2], "at": [-1, 0], "size": [8, 4]},
        {"picture": "red.png", "at": [9, 1]},
    ]}  # fmt: skip
    (tmp_path / "layout.json").write_text(json.dumps(layout))
    collage = lay_out(read_layout(tmp_path / "layout.json"), space, tmp_path)
    assert np.array_equal(collage.pixels[:, 8:], sampled(model, range(3, 4))[0][:, 8:])
    assert collage.known[8:].all() and collage.composite
    assert collage.known[:4, 3:7].all() and not collage.known[:8, :2].any(), "half of the box by its mask"
    assert (collage.pixels[:, 1, 4] == [0, 0, 255, 255]).all()
    assert collage.known[2:6, 10:14].all() and not collage.known[1, 9:15].any(), "its own alpha"
    made = compose(space, collage, [0, 1], steps=5, blend="kept")
    assert made.shape == (2, 4, 16, 16) and not np.array_equal(made[0], made[1])
    opaque = collage.known & (collage.pixels[3] == 255)
    assert np.abs(made[:, :, opaque].astype(int) - collage.pixels[:, opaque]).max() <= 1
    for blend in ("none", "soft"):
        assert compose(space, collage, [0], steps=5, blend=blend).shape == (1, 4, 16, 16)  # type: ignore[arg-type]


def test_a_grid_shows_each_seed_in_its_cell() -> None:
    model = tiny("vae/conv/tiny", channels=1)
    space, pictures = space_of(model), sampled(model, range(4))
    collage = lay_out(grid_layout([[0, 1], [2, 3]], model.spec), space, Path())
    assert collage.known.all() and not collage.composite
    for seed, box in enumerate((np.s_[:, :8, :8], np.s_[:, :8, 8:], np.s_[:, 8:, :8], np.s_[:, 8:, 8:])):
        assert np.array_equal(collage.pixels[box], pictures[seed][box])


WRONG = [
    ("[]", "an object"),
    ("{", "cannot be read"),
    ("{}", "elements"),
    ('{"elements": []}', "at least 1"),
    ('{"elements": [{"box": [0, 0, 4, 4]}]}', "either a picture or a seed"),
    ('{"elements": [{"seed": 1, "picture": "a.png"}]}', "either a picture or a seed"),
    ('{"elements": [{"seed": -1}]}', "seed"),
    ('{"elements": [{"seed": 1, "box": [0, 0, 0, 4]}]}', "at least 1"),
    ('{"elements": [{"seed": 1, "box": [0, 0, 4]}]}', "box"),
    ('{"elements": [{"seed": 1, "size": [4, 99999]}]}', "1 to 8192"),
    ('{"elements": [{"seed": 1, "colour": "red"}]}', "colour"),
]


@pytest.mark.parametrize(("text", "words"), WRONG)
def test_a_wrong_layout_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "layout.json").write_text(text)
    with pytest.raises(UserError, match="LAYOUT") as caught:
        read_layout(tmp_path / "layout.json")
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_elements_that_do_not_fit_are_named(tmp_path: Path) -> None:
    space = space_of(tiny())
    for element, words in [
        ({"picture": "no.png"}, "elements.0.picture.*no such file"),
        ({"seed": 1, "box": [10, 0, 10, 4]}, "elements.0.box.*inside its picture of 16x16"),
        ({"seed": 1, "at": [16, 0]}, "elements.0.at.*inside the frame of 16x16"),
    ]:
        (tmp_path / "layout.json").write_text(json.dumps({"elements": [element]}))
        with pytest.raises(UserError, match=words):
            lay_out(read_layout(tmp_path / "layout.json"), space, tmp_path)


def test_a_model_without_a_space_says_so() -> None:
    with pytest.raises(UserError, match=r"continuous latent space.*has none"):
        space_of(tiny("autoregressive/pixelcnn/tiny", channels=1, side=8))
