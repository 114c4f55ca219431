"""Likelihoods, divergences, bounds and fitted priors of the VAE family, against closed forms and sums."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from zeuxis.config import ImageSpec
from zeuxis.errors import UserError
from zeuxis.families import make_family
from zeuxis.families.base import Batch, Noise, RenderOptions
from zeuxis.families.vae import priors
from zeuxis.families.vae.ladder import kl_of_normals
from zeuxis.families.vae.latents import rank_one_draw
from zeuxis.families.vae.likelihoods import LIKELIHOODS, Gaussian, GaussianPixel, LogisticMixture, latitude_weights
from zeuxis.families.vae.objective import VAE
from zeuxis.families.vae.priors import Flow, Mixture, Prior, PriorName
from zeuxis.randomness import generator_for

SPEC = ImageSpec(height=8, width=8, channels=1)
LEVELS = torch.arange(256) * 2 / 255 - 1


def randn(*shape: int, seed: object = 0) -> Tensor:
    return torch.randn(shape, generator=generator_for("vae", seed))


def vae(name: str, spec: ImageSpec = SPEC, classes: int = 0, **settings: Any) -> tuple[VAE, dict[str, torch.nn.Module]]:
    family = make_family(f"vae/{name}/tiny", spec, classes, settings)
    assert isinstance(family, VAE)
    torch.manual_seed(0)
    return family, family.build()


def batch_of(family: VAE, count: int) -> Batch:
    return Batch(torch.rand(count, *family.spec.shape, generator=generator_for("x")) * 2 - 1)


# -- likelihoods -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("scale", [0.1, 1.0, 3.0])
def test_logistic_mixture_is_a_probability_of_the_levels(scale: float) -> None:
    likelihood = LogisticMixture(1, 5)
    output = (randn(likelihood.outputs) * scale).view(1, -1, 1, 1).expand(256, -1, 1, 1)
    total = likelihood.log_prob(output, LEVELS.view(-1, 1, 1, 1)).double().exp().sum()
    assert abs(total - 1) < 1e-5


def test_logistic_mixture_of_two_channels_is_a_joint_probability() -> None:
    likelihood = LogisticMixture(2, 3)
    output = randn(likelihood.outputs).view(1, -1, 1, 1)
    pairs = torch.cartesian_prod(LEVELS, LEVELS).view(-1, 2, 1, 1)
    log_probs = likelihood.log_prob(output.expand(len(pairs), -1, -1, -1), pairs).double()
    assert abs(log_probs.exp().sum() - 1) < 1e-5
    expected = (log_probs.exp()[:, None] * pairs[:, :, 0, 0]).sum(0)  # the tails lie on the outermost levels
    torch.testing.assert_close(likelihood.mean(output)[0, :, 0, 0].double(), expected, atol=0.1, rtol=0)


def test_logistic_mixture_moves_later_channels_with_earlier_ones() -> None:
    """Against Eq. 3 of PixelCNN++ written out for one component in double precision."""
    likelihood = LogisticMixture(3, 1)
    output = randn(likelihood.outputs).view(1, -1, 1, 1)
    values = LEVELS[torch.tensor([40, 200, 131])]
    raw = output.flatten().double()
    means, log_scales, factors = raw[1:4].clone(), raw[4:7] + LogisticMixture.LOG_SCALE_FIRST, torch.tanh(raw[7:])
    means[1] += factors[0] * values[0]
    means[2] += factors[1] * values[0] + factors[2] * values[1]
    edges = [torch.sigmoid((values + side / 255 - means) / log_scales.exp()) for side in (1, -1)]
    expected = torch.log(edges[0] - edges[1]).sum()
    found = likelihood.log_prob(output, values.view(1, 3, 1, 1))[0]
    assert abs(found.item() - expected.item()) < 1e-5 * abs(expected.item())


@pytest.mark.parametrize("kind", LIKELIHOODS)
def test_rows_of_a_panorama_count_as_much_as_the_sphere_that_they_show(kind: str) -> None:
    rows = latitude_weights(6)
    edges = torch.sin(torch.linspace(-math.pi / 2, math.pi / 2, 7))  # area of a band of the sphere between latitudes
    torch.testing.assert_close(rows / rows.sum(), edges.diff() / 2, atol=0.005, rtol=0)
    likelihood = LIKELIHOODS[kind](3, 2)
    images = torch.rand(2, 3, 6, 12, generator=generator_for("panorama")) * 2 - 1
    output = randn(2, likelihood.outputs, 6, 12)
    each = [likelihood.log_prob(output[:, :, row : row + 1], images[:, :, row : row + 1]) for row in range(6)]
    expected = (torch.stack(each, dim=1) * rows).sum(1)
    torch.testing.assert_close(likelihood.log_prob(output, images, rows), expected, rtol=1e-5, atol=1e-3)


def test_latitude_is_for_panoramas_and_for_training_alone() -> None:
    with pytest.raises(UserError, match=r"latitude.*wrap.*--wrap x"):
        vae("conv", **{"objective.latitude": True})
    spec = ImageSpec(height=8, width=16, channels=1, wrap_x=True)
    found = []
    for latitude in (False, True):
        family, networks = vae("conv", spec, **{"objective.latitude": latitude})
        batch = batch_of(family, 4)
        noise = {"z": randn(4, family.config.latent)}  # type: ignore[attr-defined]
        losses = family.losses(family.stages()[0].phases[0], networks, batch, noise, 1.0)
        found.append(
            (losses["reconstruction"], family.log_likelihood(networks, batch.images, None, generator_for("bound"), 4))
        )
    assert not torch.allclose(found[0][0], found[1][0]), "the loss is another"
    torch.testing.assert_close(found[0][1], found[1][1])


def test_gaussian_of_each_pixel_is_a_density_and_meets_the_shared_one() -> None:
    grid = torch.linspace(-8, 8, 8001).view(-1, 1, 1, 1)
    output = torch.tensor([0.3, 0.4]).view(1, 2, 1, 1).expand(len(grid), -1, -1, -1)
    density = GaussianPixel(1).log_prob(output, grid).exp()
    torch.testing.assert_close(torch.trapezoid(density, grid.flatten()), torch.tensor(1.0), rtol=1e-4, atol=1e-4)
    images, means = randn(2, 3, 4, 4, seed=1), randn(2, 3, 4, 4, seed=2)
    own = GaussianPixel(3).log_prob(torch.cat([means, torch.zeros_like(means)], dim=1), images)
    torch.testing.assert_close(own, Gaussian(3).log_prob(means, images))


@pytest.mark.parametrize("name", ["bernoulli", "gaussian", "gaussian-pixel", "logistic-mixture"])
def test_every_likelihood_fits_every_kind_of_network(name: str) -> None:
    for network, channels in (("mlp", 4), ("ladder", 3), ("fsq", 1)):
        spec = ImageSpec(height=8, width=8, channels=channels)
        family, networks = vae(network, spec, **{"objective.likelihood": name})
        batch = batch_of(family, 2)
        terms = family.losses(
            family.stages()[0].phases[0], networks, batch, family.noise(2, generator_for(1), "train"), 1.0
        )
        assert torch.isfinite(terms["loss"]).all()
        assert family.reconstruct(networks, batch.images, None).abs().max() <= 1


# -- divergences and bounds --------------------------------------------------------------------------------------------
def test_kl_of_two_normals() -> None:
    q_mean, q_log, p_mean, p_log = (randn(7, seed=key) for key in range(4))
    theirs = kl_divergence(Normal(q_mean, q_log.exp()), Normal(p_mean, p_log.exp()))
    torch.testing.assert_close(kl_of_normals(q_mean, q_log, p_mean, p_log), theirs, rtol=1e-5, atol=1e-5)


def test_rank_one_posterior_against_its_dense_covariance() -> None:
    mean, log_variance, u = randn(1, 4, seed=1), randn(1, 4, seed=2), randn(1, 4, seed=3)
    precision = torch.diag(torch.exp(-log_variance[0])) + torch.outer(u[0], u[0])
    z = torch.eye(4)
    rows, log_det = rank_one_draw(*(part.expand(4, -1) for part in (mean, log_variance, u)), z)
    root = (rows - mean).t()
    torch.testing.assert_close(root @ root.t(), torch.linalg.inv(precision), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(log_det[0], -torch.logdet(precision), rtol=1e-5, atol=1e-5)


def test_dlgm_reports_the_kl_of_each_layer_with_its_structured_posterior() -> None:
    family, networks = vae("dlgm")
    batch = batch_of(family, 3)
    seen = family.latents.recognise(networks, batch.images, None)
    drawn = family.latents.infer(networks, seen, None, randn(3, family.latents.size))
    for layer in range(2):
        mean, log_variance, u = (part[:, 3 * layer : 3 * layer + 3] for part in seen)
        precision = torch.diag_embed(torch.exp(-log_variance)) + u[:, :, None] * u[:, None, :]
        q = MultivariateNormal(mean, precision_matrix=precision)
        theirs = kl_divergence(q, MultivariateNormal(torch.zeros(3), torch.eye(3)))
        torch.testing.assert_close(drawn.kl[f"kl layer {layer + 1}"], theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["mlp", "dlgm", "ladder"])
def test_sampled_kl_has_the_mean_of_the_closed_form(name: str) -> None:
    family, networks = vae(name)
    images = batch_of(family, 1).images
    if name == "ladder":  # its prior and posterior start nearly equal
        torch.nn.init.normal_(networks["decoder"].blocks[-1].posterior.convs[-1].bias)  # type: ignore[union-attr, index]
    with torch.no_grad():
        seen = tuple(part.expand(4000, *part.shape[1:]) for part in family.latents.recognise(networks, images, None))
        drawn = family.latents.infer(networks, seen, None, randn(4000, family.latents.size))
    closed = torch.stack(list(drawn.kl.values())).sum(0)
    error = (closed + drawn.log_ratio).std() / math.sqrt(4000)
    assert closed.mean() > 0.1 and abs(closed.mean() + drawn.log_ratio.mean()) < 5 * error


def test_weights_of_the_kl_term() -> None:
    family, networks = vae("ladder")
    batch, phase = batch_of(family, 3), family.stages()[0].phases[0]
    noise = family.noise(3, generator_for("z"), "train")

    def terms(progress: float = 0.5, **objective: Any) -> dict[str, Tensor]:
        own, _ = vae("ladder", **{f"objective.{key}": value for key, value in objective.items()})
        return own.losses(phase, networks, batch, noise, progress)

    plain = terms()
    groups = [value for name, value in plain.items() if name.startswith("kl ")]
    assert len(groups) == 2
    torch.testing.assert_close(plain["kl"], torch.stack(groups).sum(0))
    torch.testing.assert_close(plain["loss"], plain["reconstruction"] + plain["kl"])
    torch.testing.assert_close(terms(beta=4.0)["loss"], plain["reconstruction"] + 4 * plain["kl"])
    torch.testing.assert_close(terms(0.1, kl_warmup=0.4)["loss"], plain["reconstruction"] + 0.25 * plain["kl"])
    torch.testing.assert_close(terms(0.6, kl_warmup=0.4)["loss"], plain["loss"])
    free = sum(group.clamp(min=0.3) for group in groups)
    torch.testing.assert_close(terms(free_bits=0.3)["loss"], plain["reconstruction"] + free)
    assert not torch.equal(terms(kl="sampled")["kl"], plain["kl"])


def test_importance_weighted_training_bound_is_the_one_of_evaluation() -> None:
    family, networks = vae("mlp", **{"objective.importance": 6})
    batch, phase = batch_of(family, 2), family.stages()[0].phases[0]
    with torch.no_grad():
        losses = [
            family.losses(phase, networks, batch, family.noise(2, generator_for("k", seed), "train"), 1.0)["loss"]
            for seed in range(200)
        ]
        own = [family.log_likelihood(networks, batch.images, None, generator_for(seed), 6) for seed in range(200)]
        bound = torch.stack([family.log_likelihood(networks, batch.images, None, generator_for("b", k), k)
                             for k in (1, 2000)])  # fmt: skip
    theirs, ours = torch.stack(own), -torch.stack(losses)
    error = (theirs.var(0) / 200 + ours.var(0) / 200).sqrt()
    assert ((theirs.mean(0) - ours.mean(0)).abs() < 5 * error).all()
    assert (bound[0] < bound[1] + 1).all() and (theirs.mean(0) < bound[1] + 0.1).all()


def test_what_cannot_be_combined_is_refused() -> None:
    for name, settings in (
        ("ladder", {"objective.prior": "mixture"}),
        ("fsq", {"objective.importance": 2}),
        ("mlp", {"objective.importance": 2, "objective.free_bits": 1.0}),
    ):
        with pytest.raises(UserError, match="objective"):
            vae(name, **settings)


# -- tokens ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["vq", "fsq"])
def test_tokens_there_and_back_are_the_reconstruction(name: str) -> None:
    family, networks = vae(name, classes=3)
    images, labels = batch_of(family, 3).images, torch.tensor([0, 1, 2])
    tokens = family.encode_tokens(networks, images, labels)
    assert tokens.dtype == torch.int64 and tokens.shape == (3, 2, 2)
    torch.testing.assert_close(family.decode_tokens(networks, tokens, labels),
                               family.reconstruct(networks, images, labels))  # fmt: skip
    bound = family.log_likelihood(networks, images, labels, generator_for(0), 5)
    size = 16 if name == "vq" else 25
    terms = family.losses(family.stages()[0].phases[0], networks, Batch(images, labels), {}, 1.0)
    torch.testing.assert_close(bound, -terms["reconstruction"] - 4 * math.log(size))


def test_uneven_codes_cost_what_they_are_said_to() -> None:
    plain, networks = vae("fsq")
    weighted, _ = vae("fsq", **{"objective.code_entropy": 0.5})
    networks["quantiser"].usage.share.copy_(torch.linspace(1, 2, 25) / 37.5)  # type: ignore[union-attr, operator]
    batch, phase = batch_of(plain, 3), plain.stages()[0].phases[0]
    without, terms = (family.losses(phase, networks, batch, {}, 1.0) for family in (plain, weighted))
    assert terms["crowding"].any()
    torch.testing.assert_close(terms["loss"] - without["loss"], 0.5 * terms["crowding"])


# -- fitted priors -----------------------------------------------------------------------------------------------------
def test_a_mixture_of_one_is_the_normal_of_the_codes() -> None:
    root = randn(5, 5, seed=1)
    codes = randn(4000, 5) @ root.t() + 3
    mixture = Mixture(5)
    mixture._fit(codes, 1, 0)
    covariance = torch.cov(codes.t()) + 1e-3 * torch.eye(5)
    theirs = MultivariateNormal(codes.mean(0), covariance)
    torch.testing.assert_close(mixture.log_prob(codes[:9]), theirs.log_prob(codes[:9]), rtol=1e-4, atol=1e-4)
    drawn = mixture.sample({"z": randn(20_000, 5, seed=2), "u": torch.rand(20_000, 1)})
    torch.testing.assert_close(torch.cov(drawn.t()), covariance, rtol=0.1, atol=0.2)


def test_a_flow_inverts_itself_and_knows_its_volume() -> None:
    torch.manual_seed(0)
    flow = Flow(4, couplings=3, hidden=8)
    for coupling in flow.couplings:
        torch.nn.init.normal_(coupling.net[-1].weight, std=0.3)  # type: ignore[union-attr, index]
    z = randn(1, 4)
    x = flow.sample({"z": z})
    jacobian = torch.autograd.functional.jacobian(lambda value: flow.sample({"z": value}), z).view(4, 4)
    expected = Normal(0.0, 1.0).log_prob(z).sum() - torch.linalg.slogdet(jacobian).logabsdet
    torch.testing.assert_close(flow.log_prob(x)[0], expected, rtol=1e-4, atol=1e-4)


def two_moons(count: int) -> Tensor:
    angle = torch.rand(count, generator=generator_for("moons")) * math.pi
    side = torch.arange(count) % 2 * 2.0 - 1
    moons = torch.stack([torch.cos(angle) - 0.5 * side, side * torch.sin(angle)], dim=1)
    return moons + 0.1 * randn(count, 2)


@pytest.mark.parametrize("kind", ["mixture", "flow"])
def test_a_density_learns_more_than_a_normal(kind: PriorName, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(priors, "STEPS", 120)
    data = two_moons(1000)
    prior = Prior(kind, 2, 0)
    prior.fit(data, None, seed=1)
    normal = MultivariateNormal(data.mean(0), torch.cov(data.t()))
    assert prior.log_prob(data, None).mean() > normal.log_prob(data).mean() + 0.2
    noise: Noise = {"z": randn(500, 2, seed=5), "u": torch.rand(500, 1, generator=generator_for("u"))}
    nearest = torch.cdist(prior(noise, None), data).min(dim=1).values
    drawn = data.mean(0) + randn(500, 2, seed=6) @ torch.linalg.cholesky(torch.cov(data.t())).t()
    assert nearest.mean() < 0.8 * torch.cdist(drawn, data).min(dim=1).values.mean()


def test_a_second_stage_bounds_the_density_that_it_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(priors, "STEPS", 80)
    monkeypatch.setattr(priors, "RATE", 5e-3)
    root = torch.tensor([[1.0, 0.0], [0.95, 0.3]])
    data = randn(500, 2) @ root.t()
    prior = Prior("second-stage", 2, 0)
    prior.fit(data, None, seed=1)
    exact = MultivariateNormal(torch.zeros(2), root @ root.t()).log_prob(data).mean()
    apart = sum(Normal(0.0, float(deviation)).log_prob(data[:, index]).mean()
                for index, deviation in enumerate(data.std(0)))  # fmt: skip
    assert apart + 0.15 < prior.log_prob(data, None).mean() < exact + 0.05
    codes = prior({"z": randn(2000, 2, seed=5), "second": randn(2000, 2, seed=6)}, None)
    assert torch.corrcoef(codes.t())[0, 1] > 0.2


def test_a_prior_of_classes_follows_each_and_auto_takes_the_best_on_what_was_held_out() -> None:
    labels = torch.arange(3000) % 3
    data = randn(3000, 2) * 0.2 + torch.tensor([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]])[labels]
    prior = Prior("mixture", 2, 3)
    prior.fit(data, labels, seed=0)
    own = {key: torch.rand(600, 1) if key == "u" else randn(600, 2, seed=key) for key in ("z", "u", "second")}
    for label in range(3):
        means = prior(own, torch.full((600,), label)).mean(0)
        torch.testing.assert_close(means, data[labels == label].mean(0), atol=0.1, rtol=0)
    auto = Prior("auto", 2, 0)
    auto.load_state_dict({**auto.state_dict(), "held_out": torch.tensor([1.0, 3.0, 2.0])})
    assert auto.chosen == "flow"


def test_a_fitted_prior_samples_where_the_pictures_are_and_the_plain_one_stays() -> None:
    family, networks = vae("mlp", **{"objective.prior": "mixture"})
    assert family.fitted_parts == ("prior",) and "prior" in family.model_parts
    torch.nn.init.constant_(networks["encoder"].to_latent.bias[:4], 5.0)  # type: ignore[union-attr, index]
    batch = batch_of(family, 64)
    family.fit(networks, lambda: iter([batch]), seed=0)
    noise = family.noise(200, generator_for("s"), "sample")
    codes = networks["prior"](noise, None)
    means = family.encode(networks, batch.images, None)
    torch.testing.assert_close(codes.mean(0), means.mean(0), atol=0.6, rtol=0)
    fitted = family.render(networks, noise, None, RenderOptions())
    plain = family.render(networks, noise, None, RenderOptions(prior="standard"))
    torch.testing.assert_close(fitted, family.decode(networks, codes, None))
    torch.testing.assert_close(plain, family.decode(networks, noise["z"], None))
