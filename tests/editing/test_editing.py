"""Codes, interpolation, mixing, projection and inpainting, on tiny networks as they are built."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from editing_models import NAMES, sampled, tiny

from zeuxis.editing import (
    inpaint,
    interpolate,
    mix,
    outpaint,
    project,
    space_of,
)
from zeuxis.editing.blending import membrane
from zeuxis.editing.inpainting import parse_formats
from zeuxis.editing.paths import straight_between, weights_between
from zeuxis.editing.projection import Likeness
from zeuxis.errors import UserError
from zeuxis.families.base import RenderOptions
from zeuxis.images import to_float
from zeuxis.randomness import generator_for
from zeuxis.sampling import Sampler


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("classes", [0, 2])
def test_codes_of_seeds_are_the_pictures_of_sample(name: str, classes: int) -> None:
    model = tiny(name, classes=classes)
    space = space_of(model)
    pictures = sampled(model, range(5))
    assert len({picture.tobytes() for picture in pictures}) == 5
    assert np.array_equal(space.pictures(space.of_seeds(range(5))), pictures)
    assert np.array_equal(space.pictures(space.of_seeds([3])), pictures[3:4]), "in any company"


@pytest.mark.parametrize("name", NAMES)
def test_an_interpolation_passes_through_its_keys_and_a_loop_closes(name: str) -> None:
    model = tiny(name, classes=2)
    space, keys = space_of(model), sampled(model, range(3))
    codes = space.of_seeds(range(3))
    for straight in (False, True):
        frames = interpolate(space, codes, 4, straight=straight)
        assert len(frames) == 9 and np.array_equal(frames[::4], keys)
        loop = interpolate(space, codes, 4, loop=True, straight=straight)
        assert len(loop) == 12 and np.array_equal(loop[::4], keys)
    pair = interpolate(space, codes[:2], 4, loop=True)
    assert len(pair) == 16 and np.array_equal(pair[[0, 4]], keys[:2]), "the whole circle, through both"
    assert np.array_equal(interpolate(space, codes[:2], 4, even=True)[0], keys[0])


def test_a_fitted_prior_is_drawn_from_and_keys_stay_keys() -> None:
    model = tiny("vae/conv/tiny", settings={"objective.prior": "mixture"})
    with torch.no_grad():  # as after a fit: not N(0, I)
        model.networks["prior"].get_buffer("scale").fill_(2.0)
    space, pictures = space_of(model), sampled(model, range(3))
    codes = space.of_seeds(range(3))
    assert np.array_equal(space.pictures(codes), pictures)
    assert np.array_equal(interpolate(space, codes, 4)[::4], pictures)


def test_a_loop_goes_on_where_it_began() -> None:
    for keys in (2, 3, 5):
        for between in (weights_between, straight_between):
            once = between(keys, 6, loop=True)
            twice = torch.cat([once, once])
            steps = (twice[1:] - twice[:-1]).norm(dim=1)[: len(once)]
            assert steps[-1] <= 1.5 * steps.median(), "the step over the end is like any other"


def test_frames_between_independent_keys_are_as_likely_as_samples() -> None:
    space = space_of(tiny("vae/conv/tiny"))
    keys = space.of_seeds(range(1500))
    lengths = []
    for first in range(0, 1500, 3):
        codes = space.blend(keys[first : first + 3], weights_between(3, 5, loop=True))
        lengths.append(codes.values.square().mean(1))
    assert torch.stack(lengths).mean(0).sub(1).abs().max() < 0.15, "straight lines would fall to 0.5"


def test_even_speed_evens_the_speed() -> None:
    space = space_of(tiny("gan/dcgan/tiny"))
    codes = space.of_seeds([0, 7])

    def unevenness(even: bool) -> float:
        frames = interpolate(space, codes, 12, even=even).astype(np.float64)
        steps = np.sqrt(np.square(np.diff(frames, axis=0)).mean(axis=(1, 2, 3)))
        return float(steps.std() / steps.mean())

    assert unevenness(True) < 0.5 * unevenness(False)


@pytest.mark.parametrize("name", NAMES)
def test_mixing_ends_in_the_two_pictures(name: str) -> None:
    model = tiny(name)
    space, pictures = space_of(model), sampled(model, range(4))
    rows, columns = space.of_seeds([0, 1]), space.of_seeds([2, 3])
    difference = np.abs(mix(space, rows, columns, 1.0).astype(int) - pictures[[0, 0, 1, 1]])
    assert difference.max() <= 1
    difference = np.abs(mix(space, rows, columns, 0.0).astype(int) - pictures[[2, 3, 2, 3]])
    assert difference.max() <= 1
    between = mix(space, rows, columns, 0.5)
    assert len({picture.tobytes() for picture in between}) == 4
    with pytest.raises(UserError, match="--at"):
        mix(space, rows, columns, 1.5)


@pytest.mark.parametrize("name", NAMES)
def test_projection_comes_nearer_with_every_means(name: str) -> None:
    model = tiny(name)
    space = space_of(model)
    images = to_float(torch.from_numpy(sampled(model, range(1000, 1002))))
    start = project(space, images, steps=0, rich=False)
    latent = project(space, images, steps=25, restarts=2, rich=False)
    rich = project(space, images, steps=25, restarts=2, rich=True)
    assert (latent.distance < 0.8 * start.distance).all()
    assert (rich.distance <= latent.distance + 1e-6).all()
    assert torch.allclose(Likeness(images)(latent.images), latent.distance, atol=1e-6)


def test_a_projection_does_not_depend_on_its_company() -> None:
    model = tiny()
    space = space_of(model)
    images = to_float(torch.from_numpy(sampled(model, range(1000, 1003))))
    together, alone = (project(space, images[:count], steps=10, restarts=2) for count in (3, 1))
    assert torch.allclose(together.images[0], alone.images[0], atol=1e-3)


@pytest.mark.parametrize("name", ["gan/dcgan/tiny", "vae/conv/tiny"])
def test_inpainting_leaves_what_is_known_to_the_bit(name: str) -> None:
    model = tiny(name, channels=4)
    picture = np.random.default_rng(0).integers(0, 256, (4, 16, 16), dtype=np.uint8)
    picture[3, :4] = 0  # colour under full transparency stays too
    known = np.ones((16, 16), bool)
    known[5:12, 3:9] = False
    fillings = inpaint(model, picture, known, [0, 1, 2], steps=8)
    assert fillings.shape == (3, 4, 16, 16)
    assert np.array_equal(fillings[:, :, known], picture[:, known][None].repeat(3, axis=0))
    assert len({filling.tobytes() for filling in fillings}) == 3
    assert not np.array_equal(fillings[0][:, ~known], picture[:, ~known])
    again = inpaint(model, picture, known, [1], steps=8)
    assert np.abs(again[0].astype(int) - fillings[1]).max() <= 1, "a seed's filling is its own"
    with pytest.raises(UserError, match="PICTURE"):
        inpaint(model, picture[:3], known, [0])


@pytest.mark.parametrize("name", ["autoregressive/pixelcnn/tiny", "autoregressive/tokens/tiny"])
def test_models_that_complete_inpaint_by_themselves(name: str) -> None:
    model = tiny(name, channels=1, side=8, classes=2)
    picture = np.random.default_rng(0).integers(0, 256, (1, 8, 8), dtype=np.uint8)
    known = np.ones((8, 8), bool)
    known[2:6, 1:7] = False
    fillings = inpaint(model, picture, known, [0, 1], label=1)
    assert np.array_equal(fillings[:, :, known], picture[:, known][None].repeat(2, axis=0))
    assert not np.array_equal(fillings[0], fillings[1])
    assert np.array_equal(inpaint(model, picture, known, [1], label=1)[0], fillings[1])


def test_fillings_agree_with_what_comes_after_the_hole() -> None:
    """Of completions, one is drawn by the weight of what is known: exactly that of brute force."""
    from zeuxis.editing import inpainting

    model = tiny("autoregressive/pixelcnn/tiny", channels=1, side=4)
    picture = np.random.default_rng(0).integers(0, 256, (1, 4, 4), dtype=np.uint8)
    known = np.ones((4, 4), bool)
    known[1, 1:3] = False
    assert inpainting._known_after(known) and not inpainting._known_after(np.arange(16).reshape(4, 4) < 9)
    with torch.no_grad():  # a model to which pixels matter
        for parameter in model.networks["network"].parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    made, weights = inpainting._completions(Sampler(model), picture[None], known, list(range(8)), None, RenderOptions())
    values = to_float(torch.from_numpy(made))
    family, seen = model.family, torch.from_numpy(known).expand(8, 1, 4, 4)
    total = family.log_likelihood(model.networks, values, None, generator_for("x"))
    hole = family.completion_weight(model.networks, values, ~seen, None)
    assert torch.allclose((total - hole).double(), weights, atol=1e-4) and weights.std() > 0
    several, naive = (inpaint(model, picture, known, range(12), particles=count) for count in (4, 1))
    changed = [index for index in range(12) if not np.array_equal(several[index], naive[index])]
    assert 0 < len(changed) < 12


def test_outpainting_keeps_the_picture_and_fills_the_canvas() -> None:
    model = tiny(side=8)
    picture = np.random.default_rng(0).integers(1, 256, (3, 8, 8), dtype=np.uint8)
    made = outpaint(model, picture, 12, 20, [0, 1], steps=3)
    assert made.shape == (2, 3, 12, 20) and np.array_equal(made[:, :, 2:10, 6:14], picture[None].repeat(2, axis=0))
    assert (made != 0).any(axis=1).mean() > 0.9 and not np.array_equal(made[0], made[1])
    with pytest.raises(UserError, match=r"--size.*8x8 or larger"):
        outpaint(model, picture, 4, 20, [0])
    assert parse_formats("1:1,16:9,9:16", 8, 8) == [(8, 8), (8, 15), (15, 8)]
    for wrong in ("1:1,", "0:1", "16x9", "1:1000"):
        with pytest.raises(UserError, match="--formats"):
            parse_formats(wrong, 8, 8)


def test_the_membrane_is_harmonic_and_meets_the_rim() -> None:
    rng = np.random.default_rng(0)
    known = np.ones((12, 14), bool)
    known[3:9, 4:11] = False
    plane = np.add.outer(np.arange(12.0), 2 * np.arange(14.0))[None, None]
    assert np.allclose(membrane(np.zeros((1, 1, 12, 14)), plane, known), plane), "a plane is harmonic"
    generated, kept = rng.normal(size=(2, 3, 12, 14)), rng.normal(size=(2, 3, 12, 14))
    result = membrane(generated, kept, known)
    assert np.array_equal(result[..., known], kept[..., known])
    sheet = np.where(known, kept - generated, result - generated)
    laplace = sum(np.roll(sheet, step, axis) for axis in (2, 3) for step in (1, -1)) - 4 * sheet
    assert np.abs(laplace[..., ~known]).max() < 1e-6
    wrapped = np.zeros((12, 14), bool)
    wrapped[:, 5] = True
    cylinder = membrane(np.zeros((1, 1, 12, 14)), np.where(wrapped, 7.0, 0)[None, None], wrapped, (True, False))
    assert np.allclose(cylinder, 7), "across the edge the other side of the strip is met"
