"""What the papers say about training a VAE: the evidence lower bound, likelihoods and sampling. Knows no files or
devices."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zeuxis.config import Config, ImageSpec, parse
from zeuxis.families.base import (
    Batch,
    Family,
    Networks,
    Noise,
    Phase,
    Preset,
    RenderOptions,
    Settings,
    Stage,
    TrainingConfig,
)  # fmt: skip
from zeuxis.families.vae import NETWORKS
from zeuxis.families.vae.presets import PRESETS


def kl_to_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, exp(log_variance)) || N(0, I)) in nats `[N]` (Kingma & Welling 2013, appendix B)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)


class Bernoulli(nn.Module):
    """log p(x|z) with intensities in [0, 1] as probabilities (Kingma & Welling 2013, appendix C.1).

    On grey levels between 0 and 1 this is the usual cross-entropy and not the log of a normalised density.
    """

    def log_prob(self, output: Tensor, images: Tensor) -> Tensor:
        """`output` logits and `images` float `[-1, 1]`, both `[N, C, H, W]` -> nats `[N]`."""
        target = (images + 1) / 2
        return -F.binary_cross_entropy_with_logits(output.float(), target, reduction="none").sum(dim=(1, 2, 3))

    def mean(self, output: Tensor) -> Tensor:
        """The expected picture, float `[-1, 1]`."""
        return torch.sigmoid(output.float()) * 2 - 1


class Gaussian(nn.Module):
    """log p(x|z) = log N(x; output, sigma^2) with one learned sigma for the data set, on the [-1, 1] scale
    (Rybkin, Daniilidis, Levine 2021, arXiv 2006.13202, section 4.1). A density: nats may be positive."""

    LOG_SIGMA_LEAST = -6.0  # a fraction of an 8-bit level: sharper would reward rounding noise without bound

    LOG_SIGMA_FIRST = -1.0  # about the spread of pictures: from 1 it takes thousands of steps to come down, during
    # which the KL term outweighs the pictures and the latents fall silent

    def __init__(self) -> None:
        super().__init__()
        self.log_sigma = nn.Parameter(torch.tensor(self.LOG_SIGMA_FIRST))

    def log_prob(self, output: Tensor, images: Tensor) -> Tensor:
        """`output` means and `images` float `[-1, 1]`, both `[N, C, H, W]` -> nats `[N]`."""
        # Softly bounded below (appendix A.1 of the paper), so that the gradient never dies at the bound.
        log_sigma = self.LOG_SIGMA_LEAST + F.softplus(self.log_sigma.float() - self.LOG_SIGMA_LEAST)
        scaled = (images - output.float()) * torch.exp(-log_sigma)
        return -(0.5 * scaled.square() + log_sigma + 0.5 * math.log(2 * math.pi)).sum(dim=(1, 2, 3))

    def mean(self, output: Tensor) -> Tensor:
        """The expected picture, float `[-1, 1]`."""
        return output.float().clamp(-1, 1)


LIKELIHOODS: dict[str, type[Bernoulli] | type[Gaussian]] = {"bernoulli": Bernoulli, "gaussian": Gaussian}


def likelihood_of(networks: Networks) -> Bernoulli | Gaussian:
    """The likelihood among the networks of a VAE."""
    return cast("Bernoulli | Gaussian", networks["likelihood"])


class ObjectiveConfig(Config):
    """Which p(x|z) the decoder parametrises."""

    likelihood: Literal["bernoulli", "gaussian"] = "gaussian"


class VAE(Family):
    """An encoder q(z|x) and a decoder p(x|z) trained on the evidence lower bound."""

    name: ClassVar[str] = "vae"
    capabilities = frozenset({"encode", "decode", "reconstruct", "log_likelihood"})
    render_options: ClassVar[tuple[str, ...]] = ("temperature",)

    def __init__(self, network: str, settings: Settings, spec: ImageSpec, classes: int = 0) -> None:
        super().__init__(network, settings, spec, classes)
        self.pair = NETWORKS[network]
        self.config = parse(self.pair.config, settings.get("network", {}), "network")
        self.objective = parse(ObjectiveConfig, settings.get("objective", {}), "objective")
        self.training = parse(TrainingConfig, settings.get("training", {}), "training")

    @classmethod
    def presets(cls) -> Mapping[str, Mapping[str, Preset]]:
        return PRESETS

    @property
    def settings(self) -> Settings:
        return {
            "network": self.config.to_json(),
            "objective": self.objective.to_json(),
            "training": self.training.to_json(),
        }

    def build(self) -> dict[str, nn.Module]:
        return {
            "encoder": self.pair.encoder(self.config, self.spec, self.classes),
            "decoder": self.pair.decoder(self.config, self.spec, self.classes),
            "likelihood": LIKELIHOODS[self.objective.likelihood](),
        }

    @property
    def model_parts(self) -> tuple[str, ...]:
        return ("encoder", "decoder", "likelihood")

    def stages(self) -> list[Stage]:
        return [Stage(name="bound", phases=(Phase(name="autoencoder", parts=self.model_parts),))]

    def losses(
        self, phase: Phase, networks: Networks, batch: Batch, noise: Noise, progress: float
    ) -> dict[str, Tensor]:
        """Negative evidence lower bound in nats per picture with closed-form KL (Kingma & Welling 2013, Eq. 10)."""
        mean, log_variance = self._posterior(networks, batch.images, batch.labels)
        z = mean + torch.exp(0.5 * log_variance) * noise["z"]
        output = networks["decoder"](z, batch.labels)
        reconstruction = -likelihood_of(networks).log_prob(output, batch.images)
        kl = kl_to_standard_normal(mean, log_variance)
        return {"loss": reconstruction + kl, "reconstruction": reconstruction, "kl": kl}

    def _posterior(self, networks: Networks, images: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        mean, log_variance = networks["encoder"](images, labels)
        # Bounded: an unlucky step must not overflow the exponential (variance from 2e-9 to 2e4).
        return mean, log_variance.clamp(-20, 10)

    def noise(self, count: int, generator: torch.Generator, purpose: Literal["train", "sample"]) -> Noise:
        return {"z": torch.randn(count, self.config.latent, generator=generator)}

    def render(self, networks: Networks, noise: Noise, labels: Tensor | None, options: RenderOptions) -> Tensor:
        """The expected picture E[x|z]; temperature scales the standard deviation of z."""
        return self.decode(networks, noise["z"] * options.temperature, labels)

    def encode(self, networks: Networks, images: Tensor, labels: Tensor | None) -> Tensor:
        """Posterior means `[N, latent]`."""
        return self._posterior(networks, images, labels)[0]

    def decode(self, networks: Networks, codes: Tensor, labels: Tensor | None) -> Tensor:
        return likelihood_of(networks).mean(networks["decoder"](codes, labels))

    def log_likelihood(
        self, networks: Networks, images: Tensor, labels: Tensor | None, generator: torch.Generator, samples: int = 1
    ) -> Tensor:
        """Importance-weighted lower bound of log p(x) in nats `[N]` with K = `samples` (Burda et al. 2015, Eq. 8).

        K = 1 is a one-sample estimate of the evidence lower bound.
        """
        mean, log_variance = self._posterior(networks, images, labels)
        weights = []
        for _ in range(samples):
            noise = torch.randn(mean.shape, generator=generator).to(mean)
            z = mean + torch.exp(0.5 * log_variance) * noise
            log_likelihood = likelihood_of(networks).log_prob(networks["decoder"](z, labels), images)
            # log p(z) - log q(z|x); the constants of both normal densities cancel.
            log_ratio = 0.5 * (noise.square() + log_variance - z.square()).sum(1)
            weights.append(log_likelihood + log_ratio)
        return torch.logsumexp(torch.stack(weights), dim=0) - math.log(samples)
