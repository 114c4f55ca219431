"""Autoregressive networks over pixels and tokens against enumeration, step-by-step loops and perturbation."""

from __future__ import annotations

import itertools
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from zeuxis.config import ImageSpec
from zeuxis.families import make_family
from zeuxis.families.autoregressive.outputs import Categorical, LogisticMixture, choose, inverse_cdf
from zeuxis.families.base import Batch, Family, RenderOptions
from zeuxis.nn.logistic import discretised_logistic, mixture_log_prob, quantised
from zeuxis.nn.scan import scan, scan_by_steps
from zeuxis.randomness import generator_for
from zeuxis.steps import Stepper

GREY = ImageSpec(height=8, width=8, channels=1)
WIDE = ImageSpec(height=4, width=8, channels=3)
ROUND = ImageSpec(height=8, width=4, channels=4, wrap_x=True, wrap_y=True)
PIXELS: dict[str, tuple[str, dict[str, Any]]] = {
    "pixelcnn": ("pixelcnn/tiny", {}),
    "pixelcnn 5": ("pixelcnn/tiny", {"network.kernel": 5, "network.layers": 3, "network.dilation": 2}),
    "wavenet": ("wavenet/tiny", {"network.depth": 4, "network.stacks": 3}),
    "row lstm": ("pixelrnn/tiny", {"network.sweep": "row", "network.layers": 2}),
    "diagonal lstm": ("pixelrnn/tiny", {"network.sweep": "diagonal", "network.layers": 2}),
}


def shaken(family: Family) -> dict[str, nn.Module]:
    """Fresh networks with every parameter moved, so that nothing is zero by its first value."""
    torch.manual_seed(0)
    networks = family.build()
    with torch.no_grad():
        for network in networks.values():
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return {part: network.eval() for part, network in networks.items()}


def bound(name: str, spec: ImageSpec, classes: int = 0, **more: Any) -> tuple[Family, dict[str, nn.Module]]:
    preset, settings = PIXELS[name]
    family = make_family(preset, spec, classes, {**settings, **more})
    return family, shaken(family)


def levels_of(count: int, spec: ImageSpec, seed: int = 0) -> Tensor:
    return quantised(torch.rand(count, *spec.shape, generator=generator_for("levels", seed)) * 2 - 1, 256)


@pytest.mark.parametrize("spec", [GREY, WIDE, ROUND], ids=str)
@pytest.mark.parametrize("name", PIXELS)
def test_no_pixel_is_seen_before_its_turn_and_the_cached_pass_is_the_parallel_one(name: str, spec: ImageSpec) -> None:
    _, networks = bound(name, spec, classes=3)
    images, labels = levels_of(2, spec), torch.tensor([2, 0])
    body = cast(Any, networks["network"]).body
    watched = images.clone().requires_grad_()
    features = body(watched, labels)
    places = list(itertools.product(range(spec.height), range(spec.width)))
    for at in range(0, len(places), 5):
        y, x = places[at]
        (gradient,) = torch.autograd.grad(features[:, :, y, x].sum(), watched, retain_graph=True)
        seen = gradient.abs().amax(dim=(0, 1)).flatten()
        assert seen[at:].max() == 0, f"pixel {(y, x)} sees itself or a later one"
        assert at == 0 or seen[at - 1] > 0 or x == 0, f"pixel {(y, x)} misses the one before it"
    canvas = torch.zeros_like(images)
    with torch.no_grad():
        walk = body.walk(canvas, labels)
        for y, x in places:
            torch.testing.assert_close(walk.features(y, x), features[:, :, y, x].detach(), rtol=1e-4, atol=1e-5)
            canvas[:, :, y, x] = images[:, :, y, x]


@pytest.mark.parametrize("name", ["pixelcnn", "diagonal lstm"])
def test_no_pixel_before_is_missed(name: str) -> None:
    """No blind spot: with enough layers the last pixel depends on every one before it."""
    _, networks = bound(name, GREY, **{"network.layers": 6})
    images = levels_of(3, GREY).requires_grad_()
    (gradient,) = torch.autograd.grad(cast(Any, networks["network"]).body(images, None)[:, :, 7, 7].sum(), images)
    assert (gradient.abs().amax(dim=(0, 1)).flatten()[:-1] > 0).all()


@pytest.mark.parametrize("likelihood", ["logistic-mixture", "categorical"])
@pytest.mark.parametrize("name", PIXELS)
def test_probabilities_of_all_tiny_pictures_sum_to_one(name: str, likelihood: str) -> None:
    """The chain rule against the joint: all pictures that differ in four pixels of the 4x4, at two or three levels."""
    levels = 3 if name == "pixelcnn" else 2
    more = {"objective.likelihood": likelihood, "objective.levels": levels}
    spec = ImageSpec(height=4, width=4, channels=1)
    family, networks = bound(name, spec, **more)
    # Enumerated are the last four pixels; of the joint of the others every picture has the same share.
    steps = torch.tensor(list(itertools.product(range(levels), repeat=4)), dtype=torch.float32)
    images = torch.ones(len(steps), 1, 4, 4)
    images[:, 0, 3] = steps * (2 / (levels - 1)) - 1
    with torch.no_grad():
        per_pixel = cast(Any, networks["network"])(images, None)  # [N, H, W]
        total = family.log_likelihood(networks, images, None, generator_for("x"))
    torch.testing.assert_close(total, per_pixel.sum(dim=(1, 2)))
    assert torch.equal(per_pixel[:, :3], per_pixel[:1, :3].expand(len(steps), -1, -1)), "the same before they differ"
    joint = torch.logsumexp(total - per_pixel[0, :3].sum(), dim=0)
    torch.testing.assert_close(joint, torch.zeros(()), atol=1e-5, rtol=0)


@pytest.mark.parametrize("output", [LogisticMixture, Categorical])
def test_channels_of_a_pixel_are_a_normalised_chain(output: type[LogisticMixture] | type[Categorical]) -> None:
    torch.manual_seed(0)
    head = output(6, 4, 3, 2)
    for parameter in head.parameters():
        nn.init.normal_(parameter)
    values = torch.tensor(list(itertools.product((-1.0, 0.0, 1.0), repeat=4))).T[None, :, :, None]  # [1, 4, 81, 1]
    features = torch.randn(1, 6, 1, 1).expand(1, 6, 81, 1)
    with torch.no_grad():
        torch.testing.assert_close(head.log_prob(features, values).exp().sum(), torch.tensor(1.0))


def test_drawn_values_have_the_probabilities_that_are_trained() -> None:
    """Frequencies of 20,000 draws of three channels at two levels against the eight probabilities."""
    for output in (LogisticMixture, Categorical):
        torch.manual_seed(1)
        head = output(4, 3, 2, 3)
        for parameter in head.parameters():
            nn.init.normal_(parameter, std=0.7)
        features = torch.randn(1, 4)
        values = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=3)))
        with torch.no_grad():
            wide = features[:, :, None, None].expand(1, -1, 8, 1)
            expected = head.log_prob(wide, values.T[None, :, :, None])[0, :, 0].exp()
            uniforms = torch.rand(20_000, head.draws, generator=generator_for("draws"))
            drawn = head.draw(features.expand(20_000, -1), uniforms, 1.0)
        found = (drawn[:, None] == values).all(-1).float().mean(0)
        assert (found - expected).abs().max() < 4 * (0.25 / 20_000) ** 0.5, output.__name__


def test_the_discretised_logistic_is_a_difference_of_distribution_functions() -> None:
    values = torch.linspace(-1, 1, 256, dtype=torch.float64)
    means, log_scales = torch.tensor([-1.2, 0.0, 0.3], dtype=torch.float64)[:, None], torch.tensor(-3.0).double()
    own = discretised_logistic(values, means, log_scales, 256).exp()
    upper = torch.sigmoid((values + 1 / 255 - means) / log_scales.exp())
    lower = torch.sigmoid((values - 1 / 255 - means) / log_scales.exp())
    upper[:, -1], lower[:, 0] = 1, 0
    torch.testing.assert_close(own, upper - lower, atol=1e-14, rtol=1e-9)
    torch.testing.assert_close(own.sum(1), torch.ones(3, dtype=torch.float64))
    far = discretised_logistic(torch.tensor(0.5), torch.tensor(-1.0), torch.tensor(-7.0), 256)
    assert torch.isfinite(far), "no logarithm of nought, however far the mean is"


def test_the_gradient_of_the_mixture_is_right() -> None:
    values = torch.tensor([[-1.0, 1.0], [0.2, -0.4]], dtype=torch.float64)
    shapes = ((2, 3), (2, 2, 3), (2, 2, 3))
    logits, means, log_scales = (torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes)
    assert torch.autograd.gradcheck(lambda a, b, c: mixture_log_prob(values, a, b, c, 16), (logits, means, log_scales))


@pytest.mark.parametrize("length", [1, 2, 3, 10, 49])
def test_the_scan_is_the_loop(length: int) -> None:
    torch.manual_seed(length)
    a, b, weight = (torch.randn(3, length, 5, dtype=torch.float64) for _ in range(3))
    pairs = [(x.clone().requires_grad_(), y.clone().requires_grad_()) for x, y in [(a, b), (a, b)]]
    own, other = (f(*pair) for f, pair in zip((scan, scan_by_steps), pairs, strict=True))
    torch.testing.assert_close(own, other, rtol=1e-10, atol=1e-12)
    gradients = [
        torch.autograd.grad((out * weight).sum(), pair, allow_unused=True)
        for out, pair in zip((own, other), pairs, strict=True)
    ]
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, torch.zeros_like(mine) if theirs is None else theirs)


def test_the_prior_over_tokens_is_causal_and_its_walk_is_the_parallel_pass() -> None:
    family = make_family("tokens/tiny", ImageSpec(height=12, width=20, channels=3), 3, {"network.layers": 2})
    prior = cast(Any, shaken(family)["prior"])
    tokens = torch.randint(25, (4, 3, 5), generator=generator_for("tokens"))
    labels = torch.tensor([0, 1, 2, 3])  # 3 is no class
    with torch.no_grad():
        logits = prior(tokens, labels)
        canvas = torch.zeros_like(tokens)
        walk = prior.walk(canvas, labels)
        for at, (y, x) in enumerate(itertools.product(range(3), range(5))):
            torch.testing.assert_close(walk.logits(y, x), logits[:, at], rtol=1e-4, atol=1e-5)
            canvas[:, y, x] = tokens[:, y, x]
            changed = tokens.clone()
            changed[:, y, x] = (changed[:, y, x] + 7) % 25
            moved = (prior(changed, labels) - logits).abs().amax(dim=(0, 2))
            assert (moved[: at + 1] == 0).all() and (at == 14 or moved[at + 1] > 0)


def test_hidden_neighbours_are_not_told_and_sampling_hides_none() -> None:
    family = make_family("tokens/tiny", GREY, settings={"objective.token_drop": 0.25})
    networks = shaken(family)
    phase, batch = family.stages()[1].phases[0], Batch(levels_of(8, GREY))
    tokens = family.codes(family.stages()[1], networks, batch.images, None)
    prior = cast(Any, networks["prior"])

    def loss(hide: float, odd: float | None = None) -> Tensor:
        noise = family.noise(8, generator_for("n"), "train")
        noise["hide"].fill_(hide)
        if odd is not None:
            noise["hide"][:, 1:, 0] = odd  # the token just before; the first has none
        return family.losses(phase, networks, batch, noise, 0.5)["nats per token"]

    with torch.no_grad():
        log_p = prior(tokens, None).log_softmax(-1).gather(2, tokens.flatten(1)[..., None])
        told = -log_p[..., 0].mean(1)
        torch.testing.assert_close(loss(0.25), told)  # numbers below `token_drop` hide
        assert not torch.allclose(loss(0.25, odd=0.2), told)
        everything = torch.ones(8, tokens[0].numel(), 6, dtype=torch.bool)
        blind, other = (prior(given, None, everything) for given in (tokens, tokens.flip(0)))
    assert torch.equal(blind, other) and not torch.equal(prior(tokens, None), prior(tokens.flip(0), None))


def test_top_k_top_p_and_temperature_choose_as_they_say() -> None:
    probabilities = torch.tensor([0.1, 0.4, 0.2, 0.3]).expand(1000, -1)
    uniforms = torch.linspace(0.0005, 0.9995, 1000)

    def frequencies(**options: Any) -> Tensor:
        drawn = choose(probabilities.log(), uniforms, RenderOptions(**options))
        return torch.bincount(drawn, minlength=4) / 1000

    def close(found: Tensor, *expected: float) -> None:
        torch.testing.assert_close(found, torch.tensor(expected).float(), atol=2e-3, rtol=0)

    close(frequencies(), 0.1, 0.4, 0.2, 0.3)
    close(frequencies(top_k=2), 0, 4 / 7, 0, 3 / 7)
    close(frequencies(top_p=0.75), 0, 4 / 9, 2 / 9, 3 / 9)
    close(frequencies(top_p=0.7), 0, 4 / 7, 0, 3 / 7)
    close(frequencies(top_p=0.0), 0, 1, 0, 0)
    close(frequencies(temperature=0.0), 0, 1, 0, 0)
    squares = torch.tensor([0.01, 0.16, 0.04, 0.09])
    close(frequencies(temperature=0.5), *(squares / squares.sum()).tolist())
    assert inverse_cdf(torch.zeros(1, 3), torch.tensor([1.0]), 1.0).item() == 2


def test_guidance_moves_away_from_no_class() -> None:
    family = make_family("tokens/tiny", GREY, 3)
    networks = shaken(family)
    noise, labels = family.noise(16, generator_for("g"), "sample"), torch.full((16,), 1)
    nothing = torch.full_like(labels, 3)
    plain, unguided, guided = (
        family.render(networks, noise, labels, RenderOptions(guidance=value)) for value in (1.0, 0.0, 8.0)
    )
    assert torch.equal(unguided, family.render(networks, noise, nothing, RenderOptions()))
    assert not torch.equal(guided, plain) and not torch.equal(plain, unguided)
    assert "guidance" not in make_family("tokens/tiny", GREY).render_options


@pytest.mark.parametrize("name", ["pixelcnn/tiny", "tokens/tiny"])
def test_a_completion_keeps_what_is_known_and_varies_by_noise(name: str) -> None:
    family = make_family(name, GREY)
    networks = shaken(family)
    images, known = levels_of(1, GREY).expand(6, -1, -1, -1), torch.zeros(6, 1, 8, 8, dtype=torch.bool)
    known[:, :, :4] = True
    whole = family.complete(networks, images, known, None, family.noise(6, generator_for("c"), "sample"),
                            RenderOptions())  # fmt: skip
    assert torch.equal(whole[:, :, :4], images[:, :, :4])
    assert len({picture.detach().numpy().tobytes() for picture in whole}) == 6


def test_known_tokens_are_conditioned_on() -> None:
    family = make_family("tokens/tiny", GREY)
    networks = shaken(family)
    known = torch.zeros(4, 1, 8, 8, dtype=torch.bool)
    known[:, :, :4] = True
    noise = family.noise(4, generator_for("c"), "sample")
    dark, light = (torch.full((4, 1, 8, 8), value) for value in (-1.0, 1.0))
    assert not torch.equal(*(family.encode(networks, images, None) for images in (dark, light)))
    below = [
        family.complete(networks, images, known, None, noise, RenderOptions())[:, :, 6:] for images in (dark, light)
    ]
    assert not torch.equal(*below)


def test_the_completion_of_a_pixel_network_is_its_sample_given_the_rest() -> None:
    """What is known first in raster order is conditioned on: the same noise goes on as sampling would."""
    family, networks = bound("pixelcnn", GREY)
    noise = family.noise(3, generator_for("s"), "sample")
    sample = family.render(networks, noise, None, RenderOptions())
    known = torch.zeros(3, 1, 8, 8, dtype=torch.bool)
    known[:, :, :5] = True
    torch.testing.assert_close(family.complete(networks, sample, known, None, noise, RenderOptions()), sample)


def test_a_given_codec_stays_as_it_is() -> None:
    """`objective.codec_share=0`: the stage's one step moves nothing of it."""
    family = make_family("tokens/tiny", GREY, settings={"objective.codec_share": 0.0, "network.quantiser": "vq"})
    assert [stage.share for stage in family.stages()] == [0, 1]
    torch.manual_seed(0)
    stepper = Stepper(family, family.build(), "float32")
    before = {key: value.clone() for key, value in stepper.state().items() if key.startswith("network.")}
    phase = family.stages()[0].phases[0]
    stepper.step(phase, Batch(levels_of(8, GREY)), family.noise(8, generator_for("n"), "train"), progress=0.5,
                 average=None)  # fmt: skip
    assert all(torch.equal(value, stepper.state()[key]) for key, value in before.items())


def test_the_codec_of_a_vae_is_taken_by_name() -> None:
    """`--init` of a `vae/fsq` model gives all of encoder and decoder, and nothing of the prior."""
    ours = make_family("tokens/tiny", GREY, settings={"network.codec_blocks": 1}).build()
    theirs = make_family("vae/fsq/tiny", GREY).build()
    for part in ("encoder", "decoder"):
        shapes = [{key: value.shape for key, value in own[part].state_dict().items()} for own in (ours, theirs)]
        assert shapes[0] == shapes[1]
