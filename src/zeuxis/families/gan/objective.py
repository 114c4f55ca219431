"""What the papers say about training a GAN: losses, penalties, phases and sampling. Knows no files, logs or devices."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from zeuxis.augment import KINDS, Kind, augment, draw
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
from zeuxis.families.gan.losses import LOSSES, gradient_penalty, path_lengths, squared_differences, squared_gradients
from zeuxis.families.gan.pair import LatentGenerator
from zeuxis.families.gan.presets import PRESETS
from zeuxis.nn.style import mix_levels

PENALTIES = Literal["r1+r2", "r1", "r2", "gradient", "r1+r2 finite", "r1 finite", "r2 finite"]


class ObjectiveConfig(Config):
    """The adversarial loss and the penalty on the discriminator's gradient.

    `gamma` is the penalty's weight (R1 and R2: gamma / 2 each; `gradient`: gamma); it goes from `gamma` to `gamma_end`
    over the run by a cosine, 0 switches the penalty off. `finite` penalties are differences at distance `step`.
    `interval` above 1 makes the penalty a step of its own every so many steps, `interval` times as strong (lazy
    regularisation, Karras et al. 2020, arXiv 1912.04958, section 3.1).
    """

    loss: Literal["relativistic", "non-saturating", "minimax", "least-squares", "hinge", "wasserstein"] = "relativistic"
    penalty: PENALTIES = "r1+r2"
    gamma: float = Field(default=1.0, ge=0, le=1e6)
    gamma_end: float = Field(default=0.1, ge=0, le=1e6)
    step: float = Field(default=0.05, gt=0, le=1)
    interval: int = Field(default=1, ge=1, le=64)

    @property
    def finite(self) -> bool:
        """Whether the penalty is a finite difference."""
        return self.penalty.endswith("finite")

    @property
    def at_real(self) -> bool:
        """Whether R1 is in the penalty."""
        return "r1" in self.penalty

    @property
    def at_fake(self) -> bool:
        """Whether R2 is in the penalty."""
        return "r2" in self.penalty


class AugmentConfig(Config):
    """What is done to pictures before the discriminator sees them: each of `kinds` with `probability` (0: nothing).

    With `ramp` the probability rises from 0 to `probability` over the run by a cosine (Huang et al. 2024, section 4).
    """

    probability: float = Field(default=0.0, ge=0, le=0.9)
    kinds: tuple[Kind, ...] = KINDS
    ramp: bool = False


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
        self.augment = parse(AugmentConfig, settings.get("augment", {}), "augment")
        self.training = parse(TrainingConfig, settings.get("training", {}), "training")

    @classmethod
    def presets(cls) -> Mapping[str, Mapping[str, Preset]]:
        return PRESETS

    @property
    def settings(self) -> Settings:
        return {
            "network": self.config.to_json(),
            "objective": self.objective.to_json(),
            "augment": self.augment.to_json(),
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
        phases = [Phase(name="discriminator", parts=("discriminator",)), Phase(name="generator", parts=("generator",))]
        if self._penalised and self.objective.interval > 1:
            phases.append(Phase(name="penalty", parts=("discriminator",), interval=self.objective.interval))
        weight, interval = self.config.path_length
        if weight:
            phases.append(Phase(name="path length", parts=("generator",), interval=interval))
        return [Stage(name="adversarial", phases=tuple(phases))]

    @property
    def _penalised(self) -> bool:
        return max(self.objective.gamma, self.objective.gamma_end) > 0

    def losses(
        self, phase: Phase, networks: Networks, batch: Batch, noise: Noise, progress: float
    ) -> dict[str, Tensor]:
        if phase.name == "generator":
            return self._generator_losses(networks, batch, noise, progress)
        if phase.name == "path length":
            return self._path_length_losses(networks, batch, noise)
        with torch.no_grad():
            fakes = self._generate(networks, noise, batch.labels)
            fakes = self._augmented(fakes, noise, "fake", progress).detach()
            batch = Batch(self._augmented(batch.images, noise, "real", progress), batch.labels)
        if phase.name == "penalty":
            terms = self._penalty_terms(networks, batch, fakes, noise)
            return self._weighted(terms, progress, float(self.objective.interval))
        if self._penalised and self.objective.interval == 1:
            terms = self._penalty_terms(networks, batch, fakes, noise)
            weighted = self._weighted(terms, progress)
            return {**weighted, "loss": weighted["adversarial"] + weighted["loss"]}
        terms = self._adversarial(*self._logits(networks, (batch.images, fakes), batch.labels))
        return {"loss": terms["adversarial"], **terms}

    def augmentation(self, progress: float) -> float:
        """The probability of each change to the pictures that the discriminator sees."""
        most = self.augment.probability
        return cosine(0.0, most, progress) if self.augment.ramp else most

    def _augmented(self, images: Tensor, noise: Noise, side: str, progress: float) -> Tensor:
        probability = self.augmentation(progress)
        if not probability:
            return images
        return augment(images, noise[f"augment {side}"], probability, self.augment.kinds, self.spec)

    def _generator_losses(self, networks: Networks, batch: Batch, noise: Noise, progress: float) -> dict[str, Tensor]:
        discriminator, labels, adversarial = networks["discriminator"], batch.labels, LOSSES[self.objective.loss]
        fakes = self._augmented(self._generate(networks, noise, labels), noise, "fake", progress)
        fake = discriminator(fakes, labels)
        real = torch.zeros_like(fake)
        if adversarial.relativistic:
            with torch.no_grad():
                real = discriminator(self._augmented(batch.images, noise, "real", progress), labels)
        return {"loss": adversarial.generator(real, fake)}

    def _path_length_losses(self, networks: Networks, batch: Batch, noise: Noise) -> dict[str, Tensor]:
        """(|J^T y| - a)^2 with a the moving average of |J^T y| (Karras et al. 2020, Eq. 4), on half of the batch."""
        weight, interval = self.config.path_length
        count = max(1, len(batch.images) // 2)
        labels = None if batch.labels is None else batch.labels[:count]
        noise = {key: value[:count] for key, value in noise.items()}
        generator = generator_of(networks)
        w = self._training_latents(generator, noise, labels)
        lengths = path_lengths(generator.synthesise(w, noise.get("inputs")), w, noise["path"])
        average = generator.get_buffer("path_average")
        average.lerp_(lengths.detach().mean(), 0.01)
        penalty = (lengths - average).square()
        return {"loss": weight * interval * penalty, "path length": lengths}

    def _generate(self, networks: Networks, noise: Noise, labels: Tensor | None) -> Tensor:
        generator = generator_of(networks)
        return generator.synthesise(self._training_latents(generator, noise, labels), noise.get("inputs"))

    def _training_latents(self, generator: LatentGenerator, noise: Noise, labels: Tensor | None) -> Tensor:
        """w `[N, L, W]`; some pictures change to a second z at a random level (style mixing)."""
        w = generator.map(noise["z"], labels)
        if "mix at" not in noise:
            return w
        other = generator.map(noise["mixed z"], labels)
        return mix_levels(w, other, noise["mix at"], self.config.style_mixing)

    def _logits(self, networks: Networks, groups: tuple[Tensor, ...], labels: Tensor | None) -> tuple[Tensor, ...]:
        """Logits `[N]` of each of several batches with the same labels, in one pass where that is the same."""
        discriminator = networks["discriminator"]
        if self.batch_coupled:  # batch statistics of real and generated pictures must not mix
            return tuple(discriminator(images, labels) for images in groups)
        repeated = None if labels is None else labels.repeat(len(groups))
        return discriminator(torch.cat(groups), repeated).chunk(len(groups))

    def _adversarial(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        loss = LOSSES[self.objective.loss].discriminator(real, fake)
        return {"adversarial": loss, "real": real, "fake": fake, "pair accuracy": (real > fake).float()}

    def _penalty_terms(self, networks: Networks, batch: Batch, fakes: Tensor, noise: Noise) -> dict[str, Tensor]:
        """The penalties `[N]` that the objective names, and the adversarial terms, which come with the same pass."""
        objective, labels = self.objective, batch.labels
        images = {"r1": batch.images.detach(), "r2": fakes}
        names = [name for name, asked in (("r1", objective.at_real), ("r2", objective.at_fake)) if asked]
        if objective.finite:
            moved = [images[name] + objective.step * noise[f"move {name}"].to(fakes) for name in names]
            real, fake, *there = self._logits(networks, (images["r1"], fakes, *moved), labels)
            here = {"r1": real, "r2": fake}
            values = [squared_differences(other, here[name], objective.step)
                      for name, other in zip(names, there, strict=True)]  # fmt: skip
            return {**self._adversarial(real, fake), **dict(zip(names, values, strict=True))}
        asked = tuple(images[name].requires_grad_(True) for name in names)
        real, fake = self._logits(networks, (images["r1"], fakes), labels)
        terms = self._adversarial(real, fake)
        if objective.penalty == "gradient":
            critic = networks["discriminator"]
            penalty = gradient_penalty(lambda x: critic(x, labels), images["r1"], fakes, noise["mix"])
            return {**terms, "gradient penalty": penalty}
        return {**terms, **dict(zip(names, squared_gradients(real.sum() + fake.sum(), asked), strict=True))}

    def _weighted(self, terms: dict[str, Tensor], progress: float, times: float = 1.0) -> dict[str, Tensor]:
        """`terms` with `loss`, the weighted penalty alone."""
        gamma = cosine(self.objective.gamma, self.objective.gamma_end, progress) * times
        if "gradient penalty" in terms:
            return {"loss": gamma * terms["gradient penalty"], **terms}
        squares = torch.stack([terms[name] for name in ("r1", "r2") if name in terms])
        return {"loss": gamma / 2 * squares.sum(0), **terms}

    def noise(self, count: int, generator: torch.Generator, purpose: Literal["train", "sample"]) -> Noise:
        noise = {"z": self._draw_latents(count, generator)}
        inputs = self.config.noise_size(self.spec)
        if inputs:
            noise["inputs"] = torch.randn(count, inputs, generator=generator)
        if purpose == "train" and self.config.style_mixing:
            noise["mixed z"] = self._draw_latents(count, generator)
            noise["mix at"] = torch.rand(count, generator=generator)
        if purpose == "train" and self.config.path_length[0]:
            noise["path"] = torch.randn(count, *self.spec.shape, generator=generator)
        if purpose == "train" and self._penalised:
            objective = self.objective
            if objective.penalty == "gradient":
                noise["mix"] = torch.rand(count, generator=generator)
            for name, asked in (("move r1", objective.at_real), ("move r2", objective.at_fake)):
                if objective.finite and asked:
                    noise[name] = torch.randn(count, *self.spec.shape, generator=generator)
        if purpose == "train" and self.augment.probability:
            noise |= {f"augment {side}": draw(count, generator) for side in ("real", "fake")}
        return noise

    def _draw_latents(self, count: int, generator: torch.Generator) -> Tensor:
        if self.config.uniform_latent:
            return torch.rand(count, self.config.latent, generator=generator) * 2 - 1
        return torch.randn(count, self.config.latent, generator=generator)

    def render(self, networks: Networks, noise: Noise, labels: Tensor | None, options: RenderOptions) -> Tensor:
        return self.synthesise(networks, self.map(networks, noise, labels, options), noise)

    def map(self, networks: Networks, noise: Noise, labels: Tensor | None, options: RenderOptions) -> Tensor:
        """Latents w `[N, L, W]`, a row per level from coarse to fine (z itself where there is no mapping network).

        Truncation moves w towards its mean, as StyleGAN does; where there is only z, it scales z.
        """
        return generator_of(networks).map(noise["z"], labels, options.truncation)

    def synthesise(self, networks: Networks, w: Tensor, noise: Noise) -> Tensor:
        """Pictures float `[-1, 1]` `[N, C, H, W]` of latents w `[N, L, W]`; of `noise` only "inputs" is looked at."""
        return generator_of(networks).synthesise(w, noise.get("inputs"))


def generator_of(networks: Networks) -> LatentGenerator:
    """The generator among `networks`."""
    return cast(LatentGenerator, networks["generator"])
