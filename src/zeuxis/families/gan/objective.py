"""What the papers say about training a GAN: losses, penalties, phases and sampling. Knows no files, logs or devices."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
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
from zeuxis.families.gan import NETWORKS
from zeuxis.families.gan.presets import PRESETS
from zeuxis.nn.kernels import input_gradients_only

# Each pair: discriminator and generator loss `[N]` of (logits of real `[N]`, logits of generated `[N]`) pictures.
Loss = Callable[[Tensor, Tensor], Tensor]


def minimax_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """-log s(D(x)) - log(1 - s(D(G(z)))) (Goodfellow et al. 2014, Eq. 1)."""
    return F.softplus(-real) + F.softplus(fake)


def minimax_generator(real: Tensor, fake: Tensor) -> Tensor:
    """log(1 - s(D(G(z)))) (Goodfellow et al. 2014, Eq. 1)."""
    return -F.softplus(fake)


def non_saturating_generator(real: Tensor, fake: Tensor) -> Tensor:
    """-log s(D(G(z))) (Goodfellow et al. 2014, section 3)."""
    return F.softplus(-fake)


def relativistic_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """-log s(D(x) - D(G(z))), pairwise (Jolicoeur-Martineau 2018; Huang et al. 2024, arXiv 2501.05441, Eq. 2)."""
    return F.softplus(fake - real)


def relativistic_generator(real: Tensor, fake: Tensor) -> Tensor:
    """-log s(D(G(z)) - D(x)), pairwise (Huang et al. 2024, Eq. 2)."""
    return F.softplus(real - fake)


LOSSES: dict[str, tuple[Loss, Loss]] = {
    "relativistic": (relativistic_discriminator, relativistic_generator),
    "non-saturating": (minimax_discriminator, non_saturating_generator),
    "minimax": (minimax_discriminator, minimax_generator),
}
RELATIVISTIC = {"relativistic"}


class ObjectiveConfig(Config):
    """`gamma` weighs R1 + R2; it goes from `gamma` to `gamma_end` over the run by a cosine (0 switches both off)."""

    loss: Literal["relativistic", "non-saturating", "minimax"] = "relativistic"
    gamma: float = Field(default=1.0, ge=0, le=1e6)
    gamma_end: float = Field(default=0.1, ge=0, le=1e6)


def cosine(start: float, end: float, progress: float) -> float:
    """From `start` to `end` along half a cosine as `progress` goes from 0 to 1."""
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * progress))


class GAN(Family):
    """A generator and a discriminator that make each other better."""

    name: ClassVar[str] = "gan"
    render_options: ClassVar[tuple[str, ...]] = ("truncation",)

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
            "generator": self.pair.generator(self.config, self.spec, self.classes),
            "discriminator": self.pair.discriminator(self.config, self.spec, self.classes),
        }

    @property
    def model_parts(self) -> tuple[str, ...]:
        return ("generator",)

    @property
    def batch_coupled(self) -> str:
        return self.config.batch_coupled

    def stages(self) -> list[Stage]:
        phases = (Phase(name="discriminator", parts=("discriminator",)), Phase(name="generator", parts=("generator",)))
        return [Stage(name="adversarial", phases=phases)]

    def losses(
        self, phase: Phase, networks: Networks, batch: Batch, noise: Noise, progress: float
    ) -> dict[str, Tensor]:
        if phase.name == "discriminator":
            return self._discriminator_losses(networks, batch, noise, progress)
        discriminator, labels = networks["discriminator"], batch.labels
        _, loss = LOSSES[self.objective.loss]
        fake = discriminator(self.render(networks, noise, labels, RenderOptions()), labels)
        if self.objective.loss in RELATIVISTIC:
            with torch.no_grad():
                real = discriminator(batch.images, labels)
        else:
            real = torch.zeros_like(fake)
        return {"loss": loss(real, fake)}

    def _discriminator_losses(
        self, networks: Networks, batch: Batch, noise: Noise, progress: float
    ) -> dict[str, Tensor]:
        discriminator, labels, count = networks["discriminator"], batch.labels, len(batch.images)
        with torch.no_grad():
            fakes = self.render(networks, noise, labels, RenderOptions())
        penalised = self.objective.gamma > 0
        real_images = batch.images.detach().requires_grad_(penalised)
        fake_images = fakes.detach().requires_grad_(penalised)
        if self.batch_coupled:  # batch statistics of real and generated pictures must not mix
            real, fake = discriminator(real_images, labels), discriminator(fake_images, labels)
        else:
            twice = None if labels is None else torch.cat([labels, labels])
            real, fake = discriminator(torch.cat([real_images, fake_images]), twice).split(count)
        adversarial = LOSSES[self.objective.loss][0](real, fake)
        terms = {"adversarial": adversarial, "real": real, "fake": fake, "pair accuracy": (real > fake).float()}
        if not penalised:
            return {"loss": adversarial, **terms}
        # |grad_x D|^2 summed over each picture: R1 at real x (Mescheder et al. 2018, Eq. 9), R2 at generated x.
        with input_gradients_only():
            gradients = torch.autograd.grad(real.sum() + fake.sum(), (real_images, fake_images), create_graph=True)
        r1, r2 = (gradient.float().square().sum(dim=(1, 2, 3)) for gradient in gradients)
        gamma = cosine(self.objective.gamma, self.objective.gamma_end, progress)
        return {"loss": adversarial + gamma / 2 * (r1 + r2), **terms, "r1": r1, "r2": r2}

    def noise(self, count: int, generator: torch.Generator, purpose: Literal["train", "sample"]) -> Noise:
        if self.config.uniform_latent:
            return {"z": torch.rand(count, self.config.latent, generator=generator) * 2 - 1}
        return {"z": torch.randn(count, self.config.latent, generator=generator)}

    def render(self, networks: Networks, noise: Noise, labels: Tensor | None, options: RenderOptions) -> Tensor:
        """Truncation scales z towards its mean, as StyleGAN does with w (a network without w has only z)."""
        return networks["generator"](noise["z"] * options.truncation, labels)
