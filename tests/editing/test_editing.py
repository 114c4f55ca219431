"""The functions of editing, on tiny networks as they are built: what they promise does not need a good model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save

from zeuxis.checkpoint import Model, load_model, save_model
from zeuxis.config import ImageSpec
from zeuxis.editing import (
    Direction,
    closed_form,
    compose,
    edited,
    grid_layout,
    inpaint,
    interpolate,
    lay_out,
    load_directions,
    load_encoder,
    mix,
    outpaint,
    principal,
    project,
    read_layout,
    save_direction,
    save_encoder,
    space_of,
    train_encoder,
)
from zeuxis.editing.blending import membrane
from zeuxis.editing.directions import boundary, move, parse_edits, unit_of
from zeuxis.editing.encoder import EncoderConfig, draw_known
from zeuxis.editing.inpainting import parse_formats
from zeuxis.editing.paths import straight_between, weights_between
from zeuxis.editing.projection import Likeness
from zeuxis.errors import UserError
from zeuxis.families import make_family
from zeuxis.families.base import RenderOptions
from zeuxis.images import to_float
from zeuxis.randomness import generator_for
from zeuxis.sampling import Sampler

NAMES = ["gan/dcgan/tiny", "gan/mlp/tiny", "gan/stylegan2/tiny", "vae/conv/tiny", "vae/ladder/tiny"]
FLAT = NAMES[:-1]  # with one vector for a picture or for each level


def tiny(
    name: str = "gan/dcgan/tiny",
    channels: int = 3,
    classes: int = 0,
    side: int = 16,
    settings: dict[str, object] | None = None,
    **spec: bool,
) -> Model:
    """A model as it is built, its outputs spread out so that pictures differ."""
    torch.manual_seed(1)
    family = make_family(name, ImageSpec(height=side, width=side, channels=channels, **spec), classes, settings)
    networks = {
        part: net.eval().requires_grad_(False) for part, net in family.build().items() if part in family.model_parts
    }
    for network in networks.values():
        for child in network.modules():
            if isinstance(child, torch.nn.Linear | torch.nn.ConvTranspose2d) and name != "gan/stylegan2/tiny":
                torch.nn.init.normal_(child.weight, 0, 1.2 / child.weight[0].numel() ** 0.5)
    names = tuple(f"class {index}" for index in range(classes))
    return Model(family, networks, name, names, (1,) * classes, "0" * 64)


def sampled(model: Model, seeds: range, label: int | None = None) -> np.ndarray:
    return np.concatenate(list(Sampler(model)(seeds, label=label)))


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


# -- collages ------------------------------------------------------------------------------------------------------
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
