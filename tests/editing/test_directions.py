"""Directions and learned encoders, on tiny networks as they are built: what they promise does not need a good model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from editing_models import FLAT, sampled, tiny
from safetensors.torch import save

from zeuxis.checkpoint import load_model, save_model
from zeuxis.config import ImageSpec
from zeuxis.editing import (
    Direction,
    closed_form,
    edited,
    load_directions,
    load_encoder,
    principal,
    project,
    save_direction,
    save_encoder,
    space_of,
    train_encoder,
)
from zeuxis.editing.directions import boundary, move, parse_edits, unit_of
from zeuxis.editing.encoder import EncoderConfig, draw_known
from zeuxis.editing.projection import Likeness
from zeuxis.errors import UserError
from zeuxis.randomness import generator_for


@pytest.mark.parametrize("name", FLAT)
def test_closed_form_directions_are_orthonormal_and_fall_in_effect(name: str) -> None:
    space = space_of(tiny(name, classes=2))
    vectors, effects = closed_form(space)
    one = vectors[:, 0] if space.levels > 1 else vectors.flatten(1)
    assert torch.allclose(one @ one.T, torch.eye(len(one)), atol=1e-4)
    assert (effects[1:] <= effects[:-1] + 1e-6).all()
    assert not vectors[:, ~space.free].any(), "a class's embedding is not moved"


def test_closed_form_finds_the_direction_that_a_network_listens_to() -> None:
    model = tiny("gan/mlp/tiny")
    weight = model.networks["generator"].get_submodule("hidden.0").weight
    with torch.no_grad():
        weight.mul_(0.01)
        weight[:, 3] = torch.randn(len(weight))
    vectors, _ = closed_form(space_of(model))
    assert vectors[0].flatten().abs().argmax() == 3 and vectors[0].flatten()[3] > 0.99


@pytest.mark.parametrize("name", ["gan/dcgan/tiny", "gan/stylegan2/tiny"])
def test_principal_components_move_pictures_more_than_random_directions(name: str) -> None:
    space = space_of(tiny(name))
    vectors = principal(space, 512)
    codes = space.of_seeds(range(16))
    random = torch.randn(8, *vectors.shape[1:], generator=torch.Generator().manual_seed(0))
    effects = [
        float((space.images(move(codes, unit_of(space, vector), 1.0)) - space.images(codes)).square().mean())
        for vector in (vectors[0], *random)
    ]
    assert effects[0] > np.median(effects[1:])


def test_a_boundary_is_found_where_there_is_one_and_not_elsewhere() -> None:
    space = space_of(tiny("vae/conv/tiny"))
    codes = space.of_seeds(range(200))
    vector, accuracy = boundary(space, codes, codes.values[:, 2] > 0)
    assert accuracy > 0.9 and vector.flatten().argmax() == 2
    random = torch.rand(200, generator=torch.Generator().manual_seed(0)) > 0.5
    assert boundary(space, codes, random)[1] < 0.65
    with pytest.raises(UserError, match="at least 4 on each side"):
        boundary(space, codes, torch.arange(200) < 2)


def test_a_unit_of_strength_is_a_standard_deviation() -> None:
    space = space_of(tiny("vae/conv/tiny"))
    vector = torch.zeros(space.free.shape)
    vector[1] = 17.0
    unit = unit_of(space, vector)
    assert unit.norm() == pytest.approx(1, abs=0.05) and unit.argmax() == 1


def test_directions_are_kept_with_the_model_and_with_no_other(tmp_path: Path) -> None:
    save_model(tiny(), tmp_path / "model")
    model = load_model(tmp_path / "model")
    space = space_of(model)
    vector = closed_form(space)[0][0]
    save_direction(tmp_path / "model", model, Direction("round.1", vector, "a test"))
    found = load_directions(tmp_path / "model", space)
    assert list(found) == ["round.1"] and torch.equal(found["round.1"].vector, vector)
    assert found["round.1"].about == "a test"
    edits = parse_edits(["round.1=1.5"], found)
    pictures = np.concatenate(list(edited(space, range(3), edits)))
    assert np.array_equal(pictures, space.pictures(move(space.of_seeds(range(3)), vector, 1.5)))
    assert np.array_equal(np.concatenate(list(edited(space, range(3), parse_edits(["round.1=0"], found)))),
                          sampled(model, range(3)))  # fmt: skip
    for wrong, words in (("smile=1", "round.1"), ("round.1", "NAME=STRENGTH"), ("round.1=x", "-10 to 10"),
                         ("round.1=nan", "-10 to 10"), ("round.1=11", "-10 to 10")):  # fmt: skip
        with pytest.raises(UserError, match=f"--edit.*{words}"):
            parse_edits([wrong], found)
    for name in ("../up", "", "a b", "x" * 65):
        with pytest.raises(UserError, match="--name"):
            save_direction(tmp_path / "model", model, Direction(name, vector))
    other = tiny(side=8)
    save_model(other, tmp_path / "other")
    (tmp_path / "other" / "edits").mkdir()
    file = tmp_path / "model" / "edits" / "direction-round.1.safetensors"
    (tmp_path / "other" / "edits" / file.name).write_bytes(file.read_bytes())
    assert load_directions(tmp_path / "other", space_of(load_model(tmp_path / "other"))) == {}


@pytest.mark.parametrize("content", [b"", b"junk" * 9, save({"vector": torch.zeros(3)}, {"format_version": "1"})])
def test_a_strangers_direction_is_one_line(tmp_path: Path, content: bytes) -> None:
    save_model(tiny(), tmp_path)
    model = load_model(tmp_path)
    (tmp_path / "edits").mkdir()
    if content.endswith(bytes(12)):
        content = save({"vector": torch.zeros(3)}, {"format_version": "1", "model": model.hash, "about": "{}"})
    (tmp_path / "edits" / "direction-a.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"direction-a.safetensors.*remove it"):
        load_directions(tmp_path, space_of(model))


@pytest.mark.parametrize(("name", "classes"), [("gan/dcgan/tiny", 2), ("gan/stylegan2/tiny", 0), ("vae/conv/tiny", 0)])
def test_an_encoder_learns_and_comes_back(tmp_path: Path, name: str, classes: int) -> None:
    save_model(tiny(name, classes=classes, side=8), tmp_path)
    model = load_model(tmp_path)
    space, config = space_of(model), EncoderConfig(width=16, batch=16)
    fresh = train_encoder(space, kimg=0.016, config=config)
    encoder = train_encoder(space, kimg=1.6, config=config)
    images = space.images(space.of_seeds(range(500, 532)))

    def error(each: object) -> float:
        return float((space.images(each(images)) - images).abs().mean())  # type: ignore[operator]

    assert error(encoder) < 0.8 * error(fresh)
    assert load_encoder(tmp_path, space) is None
    save_encoder(tmp_path, model, encoder, config, 1.6)
    again = load_encoder(tmp_path, space)
    assert again is not None and torch.equal(again(images).values, encoder(images).values)
    found = project(space, images[:2], encoder=again, steps=10, restarts=1)
    assert (found.distance < Likeness(images[:2], None, again)(space.images(again(images[:2])))).all()


def test_masks_for_the_encoder_are_of_every_kind() -> None:
    known = draw_known(400, ImageSpec(height=16, width=20), generator_for("test"))
    share = known.float().mean((1, 2, 3))
    assert known.shape == (400, 1, 16, 20) and (share == 1).float().mean() > 0.2
    assert ((share > 0.05) & (share < 0.95)).float().mean() > 0.5
    assert torch.equal(known, draw_known(400, ImageSpec(height=16, width=20), generator_for("test")))
