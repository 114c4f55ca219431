"""Changes to training pictures: what each does exactly, what it never does, and learning through them."""

from __future__ import annotations

import pytest
import torch

from zeuxis.augment import KINDS, Kind, augment, draw, rolled
from zeuxis.config import ImageSpec
from zeuxis.families import make_family
from zeuxis.families.base import Batch
from zeuxis.randomness import generator_for

PLAIN = {channels: ImageSpec(height=8, width=12, channels=channels) for channels in (1, 3, 4)}
TORUS = ImageSpec(height=8, width=12, channels=3, wrap_x=True, wrap_y=True)


def pictures(spec: ImageSpec, count: int = 6) -> torch.Tensor:
    return torch.rand(count, *spec.shape, generator=generator_for("pictures")) * 2 - 1


def changed(
    spec: ImageSpec, *kinds: Kind, probability: float = 1.0, count: int = 6
) -> tuple[torch.Tensor, torch.Tensor]:
    images = pictures(spec, count)
    return images, augment(images, draw(count, generator_for("draws")), probability, kinds, spec)


@pytest.mark.parametrize("spec", [*PLAIN.values(), TORUS], ids=str)
def test_everything_at_once_is_finite_and_leaves_no_picture_as_it_was(spec: ImageSpec) -> None:
    before, after = changed(spec, *KINDS)
    assert after.shape == before.shape and torch.isfinite(after).all()
    assert all(not torch.allclose(one, other) for one, other in zip(before, after, strict=True))


def test_nothing_happens_at_probability_zero_or_without_kinds() -> None:
    before, after = changed(PLAIN[3], *KINDS, probability=0.0)
    assert torch.equal(before, after)
    before, after = changed(PLAIN[3])
    assert torch.equal(before, after)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_flip_is_exact(channels: int) -> None:
    before, after = changed(PLAIN[channels], "flip", count=16)
    kept = [torch.allclose(one, other, atol=1e-5) for one, other in zip(before, after, strict=True)]
    mirrored = [torch.allclose(one.flip(2), other, atol=1e-5) for one, other in zip(before, after, strict=True)]
    assert any(kept) and any(mirrored) and all(a or b for a, b in zip(kept, mirrored, strict=True))


def test_a_whole_shift_around_a_torus_is_a_roll() -> None:
    before, after = changed(TORUS, "shift")
    rolls = [(y, x) for y in range(8) for x in range(12)]
    found = {next(((y, x) for y, x in rolls if torch.allclose(one.roll((y, x), (1, 2)), other, atol=1e-5)), None)
             for one, other in zip(before, after, strict=True)}  # fmt: skip
    assert None not in found and len(found) > 3


def test_what_tiles_still_tiles() -> None:
    """On a torus every change commutes with rolling the picture, or is not made (stretching, turning)."""
    images, draws = pictures(TORUS), draw(6, generator_for("draws"))
    rolled = augment(images.roll((3, 5), (2, 3)), draws, 1.0, ("flip", "shift", "fraction"), TORUS)
    unflipped = augment(images, draws, 1.0, ("shift", "fraction"), TORUS).roll((3, 5), (2, 3))
    same = augment(images.roll((3, 5), (2, 3)), draws, 1.0, ("shift", "fraction"), TORUS)
    torch.testing.assert_close(same, unflipped, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(rolled, same)
    torch.testing.assert_close(
        augment(images, draws, 1.0, ("scale", "aniso", "rotate"), TORUS), images, atol=1e-5, rtol=0
    )


def test_what_cannot_be_seen_stays_black_and_what_comes_in_is_transparent() -> None:
    spec = PLAIN[4]
    nothing = torch.full((6, *spec.shape), -1.0)
    torch.testing.assert_close(augment(nothing, draw(6, generator_for("draws")), 1.0, KINDS, spec), nothing)
    full = torch.ones(6, *spec.shape)
    moved = augment(full, draw(6, generator_for("draws")), 1.0, ("shift",), spec)
    assert set(moved.round(decimals=4).unique().tolist()) == {-1.0, 1.0}
    assert torch.equal(moved[:, 3], moved[:, 0])


def test_what_comes_in_without_alpha_is_the_mirror_image() -> None:
    """A picture that rises from left to right never shows a value that it does not have."""
    spec = PLAIN[1]
    ramp = torch.linspace(-0.5, 0.5, 12).expand(6, 1, 8, 12)
    moved = augment(ramp, draw(6, generator_for("draws")), 1.0, ("shift", "fraction", "scale", "rotate", "aniso"), spec)
    assert moved.min() >= -0.5 - 1e-5 and moved.max() <= 0.5 + 1e-5


def test_one_change_more_moves_no_other_and_pictures_do_not_know_each_other() -> None:
    images, draws = pictures(PLAIN[3]), draw(6, generator_for("draws"))
    alone = augment(images, draws, 0.5, ("colour",), PLAIN[3])
    spared = draws[:, 20] >= 0.5  # no cutout there
    both = augment(images, draws, 0.5, ("colour", "cutout"), PLAIN[3])
    assert 0 < spared.sum() < 6 and torch.equal(alone[spared], both[spared])
    one = augment(images[2:3], draws[2:3], 0.5, KINDS, PLAIN[3])
    torch.testing.assert_close(one, augment(images, draws, 0.5, KINDS, PLAIN[3])[2:3])


@pytest.mark.parametrize("kind", KINDS)
def test_the_probability_is_that_of_each_change(kind: Kind) -> None:
    before, after = changed(PLAIN[3], kind, probability=0.3, count=2000)
    share = ((before - after).abs() > 1e-3).flatten(1).any(dim=1).float().mean()
    # A flip and a whole shift may come out as nothing: half of the flips, a sixth of the shifts.
    expected = 0.3 * {"flip": 1 / 2, "shift": 1 - 1 / 6}.get(kind, 1.0)
    assert abs(share - expected) < 4 * (expected * (1 - expected) / 2000) ** 0.5


def test_gradients_pass_through() -> None:
    images = pictures(PLAIN[4]).requires_grad_(True)
    augment(
        images, draw(6, generator_for("draws")), 1.0, ("shift", "rotate", "colour"), PLAIN[4]
    ).square().sum().backward()
    assert images.grad is not None and torch.isfinite(images.grad).all() and images.grad.abs().sum() > 0


@pytest.mark.parametrize("penalty", ["r1+r2", "gradient", "r1+r2 finite"])
def test_a_discriminator_sees_changed_pictures_and_the_generator_learns_through_them(penalty: str) -> None:
    spec = ImageSpec(height=8, width=8, channels=3)
    settings = {"augment.probability": 0.9, "objective.penalty": penalty}
    family = make_family("dcgan/tiny", spec, 0, settings)
    networks = family.build()
    seen: list[torch.Tensor] = []
    networks["discriminator"].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))
    batch = Batch(pictures(spec, 4))
    for phase in family.stages()[0].phases:
        noise = family.noise(4, generator_for("z"), "train")
        terms = family.losses(phase, networks, batch, noise, 0.5)
        terms["loss"].mean().backward()
    assert all(not torch.equal(images[:4], batch.images) for images in seen if len(images) >= 4)
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in networks["generator"].parameters())


def test_a_picture_is_rolled_around_the_axes_that_wrap_by_a_distance_of_its_own() -> None:
    images = pictures(TORUS, 3)
    draws = torch.tensor([[0.5, 0.25], [0.0, 0.99], [0.3, 0.0]])  # of 12 columns and of 8 rows
    made = rolled(images, draws, TORUS)
    for image, result, (down, right) in zip(images, made, ((2, 6), (7, 0), (0, 3)), strict=True):
        assert torch.equal(result, image.roll((-down, -right), dims=(1, 2)))
    upright = TORUS.model_copy(update={"wrap_y": False})
    assert torch.equal(rolled(images, draws, upright)[0], images[0].roll(-6, dims=2))


def test_crops_are_judged_without_their_edges_and_generated_pictures_from_any_place() -> None:
    settings = {"objective.crops": True, "augment.probability": 0.5, "augment.kinds": ["shift"]}
    family = make_family("resnet/tiny", TORUS.model_copy(update={"height": 8, "width": 8}), 0, settings)
    networks = family.build()
    assert networks["generator"].wrap == (True, True) and networks["discriminator"].wrap == (False, False)
    seen: list[torch.Tensor] = []
    networks["discriminator"].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))
    noise = family.noise(4, generator_for("z"), "train")
    noise |= {key: value * 0 + 0.999 for key, value in noise.items() if key.startswith("augment")}  # nothing happens
    batch = Batch(pictures(family.spec, 4))
    for phase in family.stages()[0].phases:
        family.losses(phase, networks, batch, noise, 0.5)["loss"].mean().backward()
    still = networks["generator"](noise["z"], None).detach()
    wanted = rolled(still, noise["roll"], family.spec)
    assert not torch.equal(wanted, still)
    assert any(torch.allclose(part, wanted, atol=1e-6) for images in seen for part in images.split(4))
    assert not any(torch.allclose(part, still, atol=1e-6) for images in seen for part in images.split(4))
    assert any(torch.equal(part, batch.images) for images in seen for part in images.split(4)), "real ones stay"
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in networks["generator"].to_picture.parameters())
    assert "roll" not in family.noise(4, generator_for("z"), "sample")


def test_a_ramp_begins_at_nothing_and_ends_at_its_probability() -> None:
    spec = ImageSpec(height=8, width=8, channels=3)
    family = make_family("dcgan/tiny", spec, 0, {"augment.probability": 0.5, "augment.ramp": True})
    assert [round(family.augmentation(progress), 3) for progress in (0.0, 0.5, 1.0)] == [0.0, 0.25, 0.5]  # type: ignore[attr-defined]
