"""What the papers say, in closed form: losses, penalties, divergences and likelihoods."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from zeuxis.config import ImageSpec
from zeuxis.families import make_family
from zeuxis.families.base import Batch
from zeuxis.families.gan.losses import LOSSES, squared_differences, squared_gradients
from zeuxis.families.vae.latents import kl_to_standard_normal
from zeuxis.families.vae.likelihoods import Bernoulli, Gaussian
from zeuxis.randomness import generator_for
from zeuxis.schedules import cosine

SPEC = ImageSpec(height=8, width=8, channels=1)


def test_losses_at_known_logits() -> None:
    real, fake = torch.tensor([0.0, 2.0]), torch.tensor([0.0, -1.0])
    sigmoid = torch.sigmoid
    discriminator = -torch.log(sigmoid(real)) - torch.log(1 - sigmoid(fake))
    pairs = torch.log(1 + torch.exp(-(real - fake)))
    expected = {
        "minimax": (discriminator, torch.log(1 - sigmoid(fake))),
        "non-saturating": (discriminator, -torch.log(sigmoid(fake))),
        "relativistic": (pairs, torch.log(1 + torch.exp(-(fake - real)))),
        "least-squares": (torch.tensor([0.5, 1.0]), torch.tensor([0.5, 2.0])),
        "hinge": (torch.tensor([2.0, 0.0]), torch.tensor([0.0, 1.0])),
        "wasserstein": (torch.tensor([0.0, -3.0]), torch.tensor([0.0, 1.0])),
    }
    assert set(expected) == set(LOSSES)
    for name, (for_discriminator, for_generator) in expected.items():
        torch.testing.assert_close(LOSSES[name].discriminator(real, fake), for_discriminator)
        torch.testing.assert_close(LOSSES[name].generator(real, fake), for_generator)


class LinearCritic(nn.Module):
    """D(x) = <w, x>: its gradient is w everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, 64).view(1, 8, 8))

    def forward(self, images: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        return (images * self.weight).sum(dim=(1, 2, 3))


@pytest.mark.parametrize("progress", [0.0, 0.3, 1.0])
def test_penalties_of_a_linear_critic(progress: float) -> None:
    family = make_family("gan/mlp/tiny", SPEC, 0, {"objective.gamma": 3.0, "objective.gamma_end": 1.0})
    networks = family.build()
    critic = LinearCritic()
    networks["discriminator"] = critic
    phase = family.stages()[0].phases[0]
    batch = Batch(torch.rand(5, 1, 8, 8, generator=generator_for("x")))
    terms = family.losses(phase, networks, batch, family.noise(5, generator_for("z"), "train"), progress)
    square = critic.weight.detach().square().sum()
    torch.testing.assert_close(terms["r1"], square.expand(5))
    torch.testing.assert_close(terms["r2"], square.expand(5))
    gamma = 1 + (3 - 1) * 0.5 * (1 + math.cos(math.pi * progress))
    torch.testing.assert_close(terms["loss"], terms["adversarial"] + gamma / 2 * 2 * square)
    terms["loss"].mean().backward()
    assert critic.weight.grad is not None and critic.weight.grad.abs().sum() > 0


def penalised(penalty: str, critic: nn.Module, **settings: object) -> dict[str, torch.Tensor]:
    """The terms of the phase that penalises, on five made-up pictures with gamma 3, and the noise that was drawn."""
    asked = {"penalty": penalty, "gamma": 3.0, "gamma_end": 3.0, **settings}
    family = make_family("gan/mlp/tiny", SPEC, 0, {f"objective.{key}": value for key, value in asked.items()})
    networks = family.build()
    networks["discriminator"] = critic
    batch = Batch(torch.rand(5, 1, 8, 8, generator=generator_for("x")))
    noise = family.noise(5, generator_for("z"), "train")
    phase = next(phase for phase in family.stages()[0].phases[::-1] if "discriminator" in phase.parts)
    return {**family.losses(phase, networks, batch, noise, 0.0), **noise}


def test_each_penalty_of_a_linear_critic() -> None:
    critic = LinearCritic()
    weight = critic.weight.detach()
    square = weight.square().sum()
    for penalty in ("r1", "r2"):
        terms = penalised(penalty, critic)
        torch.testing.assert_close(terms["loss"], terms["adversarial"] + 1.5 * square)
        assert {"r1", "r2"} & set(terms) == {penalty}
    terms = penalised("gradient", critic)
    torch.testing.assert_close(terms["gradient penalty"], (square.sqrt() - 1).square().expand(5))
    torch.testing.assert_close(terms["loss"], terms["adversarial"] + 3 * terms["gradient penalty"])
    terms = penalised("r1+r2 finite", critic)
    for name in ("r1", "r2"):  # of a linear critic (D(x + s e) - D(x)) / s is <w, e>
        exact = (terms[f"move {name}"] * weight).sum(dim=(1, 2, 3)).square()
        torch.testing.assert_close(terms[name], exact, rtol=1e-3, atol=1e-3)
    assert not torch.equal(terms["move r1"], terms["move r2"])
    terms["loss"].mean().backward()
    assert critic.weight.grad is not None and critic.weight.grad.abs().sum() > 0


def test_finite_differences_expect_the_squared_gradient() -> None:
    """On a curved critic: the mean over many directions meets R1, computed by a second backward pass."""
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.SiLU(), nn.Linear(32, 1), nn.Flatten(0))
    image = torch.rand(1, 1, 8, 8, generator=generator_for("x")).requires_grad_(True)
    (exact,) = squared_gradients(critic(image), (image,))
    directions = torch.randn(40_000, 1, 8, 8, generator=generator_for("e"))
    with torch.no_grad():
        finite = squared_differences(critic(image + 0.05 * directions), critic(image), 0.05)
    standard_error = finite.std() / math.sqrt(len(finite))
    assert abs(finite.mean() - exact) < 4 * standard_error < 0.05 * exact


def test_a_lazy_penalty_is_a_phase_of_its_own_and_as_much_stronger_as_it_is_rarer() -> None:
    critic = LinearCritic()
    stage = make_family("gan/mlp/tiny", SPEC, 0, {"objective.interval": 4}).stages()[0]
    names = [[phase.name for phase in stage.phases_at(step)] for step in range(5)]
    both = ["discriminator", "generator"]
    assert names == [[*both, "penalty"], both, both, both, [*both, "penalty"]]
    terms = penalised("r1", critic, interval=4)
    torch.testing.assert_close(terms["loss"], 4 * 1.5 * critic.weight.detach().square().sum().expand(5))


@pytest.mark.parametrize("loss", sorted(LOSSES))
@pytest.mark.parametrize("penalty", ["r1", "gradient", "r1+r2 finite"])
def test_every_loss_and_penalty_trains_with_labels(loss: str, penalty: str) -> None:
    settings = {"objective.loss": loss, "objective.penalty": penalty, "objective.interval": 2}
    family = make_family("dcgan/tiny", SPEC, 3, settings)
    networks = family.build()
    batch = Batch(torch.rand(4, 1, 8, 8, generator=generator_for("x")), torch.tensor([0, 1, 2, 0]))
    for phase in family.stages()[0].phases:
        terms = family.losses(phase, networks, batch, family.noise(4, generator_for("z"), "train"), 0.5)
        assert terms["loss"].shape == (4,) and torch.isfinite(terms["loss"]).all()
        terms["loss"].mean().backward()
        moved = [p.grad for part in phase.parts for p in networks[part].parameters() if p.grad is not None]
        assert moved and all(torch.isfinite(gradient).all() for gradient in moved)


def test_cosine_ends_where_it_says() -> None:
    assert cosine(2.0, 0.5, 0.0) == 2.0
    assert math.isclose(cosine(2.0, 0.5, 1.0), 0.5)
    assert math.isclose(cosine(2.0, 0.5, 0.5), 1.25)


def test_kl_of_normals() -> None:
    mean, log_variance = torch.tensor([[0.5, -1.0], [0.0, 0.0]]), torch.tensor([[0.3, -2.0], [0.0, 0.0]])
    ours = kl_to_standard_normal(mean, log_variance)
    normal = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    theirs = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(ours, theirs)
    assert ours[1] == 0


def test_bernoulli_on_binary_pictures_is_a_probability() -> None:
    """Summed over all 2^4 binary pictures of four pixels, p(x|z) is 1."""
    logits = torch.tensor([0.3, -1.2, 2.0, 0.0]).view(1, 1, 2, 2).expand(16, -1, -1, -1)
    bits = torch.tensor([[(index >> bit) & 1 for bit in range(4)] for index in range(16)]).float().view(16, 1, 2, 2)
    probabilities = Bernoulli().log_prob(logits, bits * 2 - 1).exp()
    torch.testing.assert_close(probabilities.sum(), torch.tensor(1.0))


def test_gaussian_is_a_density_with_its_own_scale() -> None:
    likelihood = Gaussian()
    with torch.no_grad():
        likelihood.log_sigma.fill_(-0.7)
    grid = torch.linspace(-6, 6, 4001).view(-1, 1, 1, 1)
    density = likelihood.log_prob(torch.full_like(grid, 0.2), grid).exp()
    torch.testing.assert_close(
        torch.trapezoid(density.detach(), grid.flatten()), torch.tensor(1.0), rtol=1e-4, atol=1e-4
    )


def test_gaussian_scale_is_learned_to_the_error() -> None:
    """The optimal sigma is the root mean square error (arXiv 2006.13202, Eq. 5)."""
    likelihood, generator = Gaussian(), torch.Generator().manual_seed(0)
    images, output = torch.randn(64, 1, 8, 8, generator=generator) * 0.3, torch.zeros(64, 1, 8, 8)
    optimizer = torch.optim.LBFGS([likelihood.log_sigma], max_iter=50)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = -likelihood.log_prob(output, images).mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert math.isclose(likelihood.log_sigma.exp().item(), images.square().mean().sqrt().item(), rel_tol=0.02)


class LinearEncoder(nn.Module):
    """q(z|x) for the linear-Gaussian model x = a z + noise, exactly or wrongly."""

    def __init__(self, loading: torch.Tensor, variance: float, shift: float) -> None:
        super().__init__()
        self.loading, self.variance, self.shift = loading, variance, shift

    def forward(self, images: torch.Tensor, labels: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        precision = 1 + self.loading.square().sum() / self.variance
        mean = (images.flatten(1) @ self.loading / self.variance / precision)[:, None] + self.shift
        return mean, torch.full_like(mean, -precision.log().item())


class LinearDecoder(nn.Module):
    def __init__(self, loading: torch.Tensor) -> None:
        super().__init__()
        self.loading = loading

    def forward(self, z: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        return (z * self.loading).view(-1, 1, 8, 8)


def test_bound_is_exact_for_the_true_posterior_and_below_for_a_wrong_one() -> None:
    family = make_family("vae/mlp/tiny", SPEC, 0, {"network.latent": 1, "objective.likelihood": "gaussian"})
    loading, variance = torch.linspace(-0.4, 0.4, 64), 0.25
    likelihood = Gaussian()
    with torch.no_grad():
        likelihood.log_sigma.fill_(0.5 * math.log(variance))
    sigma2 = (
        (2 * (Gaussian.LOG_SIGMA_LEAST + nn.functional.softplus(likelihood.log_sigma - Gaussian.LOG_SIGMA_LEAST)))
        .exp()
        .item()
    )
    covariance = torch.outer(loading, loading) + sigma2 * torch.eye(64)
    exact_model = torch.distributions.MultivariateNormal(torch.zeros(64), covariance)
    images = exact_model.sample((40,)).view(-1, 1, 8, 8)
    exact = exact_model.log_prob(images.flatten(1))

    def bound(shift: float, samples: int) -> torch.Tensor:
        networks = {
            "encoder": LinearEncoder(loading, sigma2, shift),
            "decoder": LinearDecoder(loading),
            "likelihood": likelihood,
        }
        return family.log_likelihood(networks, images, None, generator_for("iw"), samples).detach()

    torch.testing.assert_close(bound(0.0, 1), exact, rtol=1e-4, atol=1e-2)
    wrong, tighter = bound(0.5, 1).mean(), bound(0.5, 200).mean()
    assert wrong < exact.mean() - 0.05
    assert wrong < tighter < exact.mean() + 0.02


def test_negative_loss_is_the_bound() -> None:
    """Minus the training loss of a VAE is the evidence lower bound: the mean of K = 1 estimates."""
    family = make_family("vae/mlp/tiny", SPEC)
    torch.manual_seed(0)
    networks = family.build()
    batch = Batch(torch.rand(4, 1, 8, 8) * 2 - 1)
    losses = [
        family.losses(
            family.stages()[0].phases[0], networks, batch, family.noise(4, generator_for("z", k), "train"), 0.0
        )["loss"]
        for k in range(600)
    ]
    bounds = [family.log_likelihood(networks, batch.images, None, generator_for("w", k)) for k in range(600)]
    torch.testing.assert_close(-torch.stack(losses).mean(0), torch.stack(bounds).mean(0), rtol=0.01, atol=0.1)
