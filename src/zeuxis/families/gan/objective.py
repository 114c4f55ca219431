"""What the papers say about training a GAN: losses, penalties, phases and sampling. Knows no files, logs or devices."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zeuxis.augment import augment, draw, rolled
from zeuxis.config import ImageSpec, parse
from zeuxis.errors import UserError
from zeuxis.families.base import (
    Batch,
    Chosen,
    Facts,
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
from zeuxis.families.gan.adaptive import Adaptive
from zeuxis.families.gan.choose import choose
from zeuxis.families.gan.losses import LOSSES, gradient_penalty, path_lengths, squared_differences, squared_gradients
from zeuxis.families.gan.pair import FeatureDiscriminator, Head, LatentGenerator, ProjectionHead, draw_latents
from zeuxis.families.gan.presets import PRESETS
from zeuxis.families.gan.settings import AugmentConfig, ObjectiveConfig
from zeuxis.families.gan.techniques import (
    ClassHead,
    History,
    MinibatchHead,
    feature_matching,
    smoothed_discriminator,
    sure_cross_entropy,
)  # fmt: skip
from zeuxis.nn.style import mix_levels
from zeuxis.nn.together import batch_mean
from zeuxis.schedules import cosine


class GAN(Family):
    """A generator and a discriminator that make each other better."""

    name: ClassVar[str] = "gan"
    render_options: ClassVar[tuple[str, ...]] = ("truncation",)
    watch: ClassVar[Mapping[str, str]] = {
        "pair accuracy": "discriminator/pair accuracy",
        "generator gradient": "generator/gradient norm",
    }
    steadying: ClassVar[tuple[str, ...]] = ("objective.gamma", "objective.gamma_end")

    def __init__(self, network: str, settings: Settings, spec: ImageSpec, classes: int = 0) -> None:
        super().__init__(network, settings, spec, classes)
        self.pair = NETWORKS[network]
        self.config = parse(self.pair.config, settings.get("network", {}), "network")
        self.objective = parse(ObjectiveConfig, settings.get("objective", {}), "objective")
        self.augment = parse(AugmentConfig, settings.get("augment", {}), "augment")
        self.training = parse(TrainingConfig, settings.get("training", {}), "training")
        if self.semi_supervised:
            self.capabilities = frozenset({"classify"})

    @classmethod
    def presets(cls) -> Mapping[str, Mapping[str, Preset]]:
        return PRESETS

    @classmethod
    def choose(cls, facts: Facts, network: str | None, preset: bool) -> tuple[str, list[Chosen]]:
        return choose(facts, network, preset)

    @property
    def settings(self) -> Settings:
        return {
            "network": self.config.to_json(),
            "objective": self.objective.to_json(),
            "augment": self.augment.to_json(),
            "training": self.training.to_json(),
        }

    def build(self) -> dict[str, nn.Module]:
        if self.semi_supervised and self.classes < 2:
            raise UserError("--semi-supervised", f"{self.classes} classes", "data in which some pictures have a class",
                            "put each class into a sub-folder of its own, the rest into _unlabelled")  # fmt: skip
        classes = self.classes if self.conditional else 0
        generator = self.pair.generator(self.config, self.spec, classes)
        discriminator = self.pair.discriminator(self.config, self.judged, classes)
        discriminator.head = self._head(discriminator.head)
        networks: dict[str, nn.Module] = {"generator": generator, "discriminator": discriminator}
        watching: dict[str, nn.Module] = {}
        if self.augment.adaptive:
            watching["augmentation"] = Adaptive()
        if self.objective.historical_averaging:
            watching["history"] = History(networks)
        return networks | watching

    @property
    def judged(self) -> ImageSpec:
        """Pictures as the discriminator takes them."""
        return self.spec.model_copy(update={"wrap_x": False, "wrap_y": False}) if self.objective.crops else self.spec

    def _head(self, own: Head) -> Head:
        """The head that the techniques ask for, in the place of the network's own."""
        size, kernels = own.size, self.objective.minibatch_kernels
        if self.semi_supervised:
            return ClassHead(size, self.classes)
        if kernels:
            bias = isinstance(own, ProjectionHead) and own.linear.bias is not None
            classes = self.classes if self.conditional else 0
            return MinibatchHead(size, kernels, ProjectionHead(size + kernels, classes, bias=bias))
        return own

    @property
    def semi_supervised(self) -> bool:
        return self.objective.semi_supervised

    @property
    def watches_validation(self) -> bool:
        return self.augment.adaptive

    @property
    def model_parts(self) -> tuple[str, ...]:
        return ("generator", "discriminator") if self.semi_supervised else ("generator",)

    @property
    def batch_coupled(self) -> str:
        matching = self.objective.generator == "feature matching"
        return self._judges_batches or self.config.batch_coupled or ("feature matching" if matching else "")

    @property
    def _judges_batches(self) -> str:
        """Why the discriminator must see real and generated pictures in batches apart, or ""."""
        return "minibatch discrimination" if self.objective.minibatch_kernels else self.config.batch_coupled

    def stages(self) -> list[Stage]:
        # What only has buffers goes with the discriminator.
        judge = ["discriminator"] + ["augmentation"] * self.augment.adaptive
        judge += ["history"] * bool(self.objective.historical_averaging)
        phases = [Phase(name="discriminator", parts=tuple(judge)), Phase(name="generator", parts=("generator",))]
        if self._penalised and self.objective.interval > 1:
            phases.append(Phase(name="penalty", parts=tuple(judge), interval=self.objective.interval))
        weight, interval = self.config.path_length
        if weight:
            phases.append(Phase(name="path length", parts=("generator",), interval=interval))
        return [Stage(name="adversarial", phases=tuple(phases))]

    @property
    def _penalised(self) -> bool:
        return self.objective.penalised

    def losses(
        self, phase: Phase, networks: Networks, batch: Batch, noise: Noise, progress: float | Tensor
    ) -> dict[str, Tensor]:
        if phase.name == "path length":
            return self._path_length_losses(networks, batch, noise)
        strength = self._strength(networks, progress)
        if phase.name == "generator":
            terms = self._generator_losses(networks, batch, noise, strength)
        else:
            terms = self._discriminator_losses(phase, networks, batch, noise, progress)
            if self.semi_supervised and phase.name == "discriminator":
                terms |= self._class_losses(networks, batch, noise, strength)
                terms["loss"] = terms["loss"] + terms["supervised"]
            if self.augment.adaptive and phase.name == "discriminator":
                terms["held out"] = self._held_out_logits(networks, batch, noise, strength)
                adaptive_of(networks).see(terms["real"], terms["held out"], terms["fake"], progress)
                terms["augmentation"] = adaptive_of(networks).probability_now.clone()
        weight = self.objective.historical_averaging
        if weight and phase.name != "penalty":
            past = cast(History, networks["history"]).penalty(phase.name, networks[phase.name])
            terms |= {"loss": terms["loss"] + weight * past, "past": past}
        return terms

    def _discriminator_losses(
        self, phase: Phase, networks: Networks, batch: Batch, noise: Noise, progress: float | Tensor
    ) -> dict[str, Tensor]:
        if self.config.remembers:
            discriminator_of(networks).remember(batch.images)
        strength = self._strength(networks, progress)
        with torch.no_grad():
            fakes = self._generate(networks, noise, batch.labels)
            fakes = self._augmented(fakes, noise, "fake", strength).detach()
            batch = dataclasses.replace(batch, images=self._augmented(batch.images, noise, "real", strength))
        if phase.name == "penalty":
            terms = self._penalty_terms(networks, batch, fakes, noise)
            return self._weighted(terms, progress, float(self.objective.interval))
        if self._penalised and self.objective.interval == 1:
            terms = self._penalty_terms(networks, batch, fakes, noise)
            weighted = self._weighted(terms, progress)
            return {**weighted, "loss": weighted["adversarial"] + weighted["loss"]}
        terms = self._adversarial(*self._logits(networks, (batch.images, fakes), batch.labels))
        return {"loss": terms["adversarial"], **terms}

    @torch.no_grad()
    def _held_out_logits(self, networks: Networks, batch: Batch, noise: Noise, strength: float | Tensor) -> Tensor:
        """D's logits `[N]` of validation pictures, augmented like all others."""
        assert batch.held_out is not None, "a family that watches validation pictures is given them with each batch"
        images = self._augmented(batch.held_out.images, noise, "held out", strength)
        logits: Tensor = networks["discriminator"](images, batch.held_out.labels)
        return logits

    def _class_losses(
        self, networks: Networks, batch: Batch, noise: Noise, strength: float | Tensor
    ) -> dict[str, Tensor]:
        """-log p(y | x, y <= K) of pictures with a class (Salimans et al. 2016, section 5), in `supervised` with its
        weight what is asked of the others."""
        assert batch.labelled is not None, "a semi-supervised family is given labelled pictures with each batch"
        images, labels = batch.labelled.images, cast(Tensor, batch.labelled.labels)
        weight, sure = self.objective.consistency, {}
        if not weight:
            classes = self.classify(networks, self._augmented(images, noise, "labelled", strength))
        else:
            with torch.no_grad():
                plain = self.classify(networks, batch.images)
            seen = torch.cat([self.changed(images, noise["change labelled"]),
                              self.changed(batch.images, noise["change unlabelled"])])  # fmt: skip
            classes, changed = self.classify(networks, seen).split([len(images), len(batch.images)])
        supervised = F.cross_entropy(classes, labels, reduction="none")
        if weight:
            unlabelled, counts = sure_cross_entropy(plain, changed)
            supervised, sure = supervised + weight * unlabelled, {"sure": counts}
        return {"supervised": supervised, "labelled accuracy": (classes.argmax(1) == labels).float(), **sure}

    def changed(self, images: Tensor, draws: Tensor) -> Tensor:
        """Pictures as a classifier sees them that is to know them again: each of `augment.kinds` half of the time."""
        return augment(images, draws, 0.5, self.augment.kinds, self.judged)

    def after_step(self, phase: Phase, networks: Networks, batch: Batch) -> None:
        if phase.name == "discriminator" and self.augment.adaptive:
            settings = self.augment
            adaptive_of(networks).update(settings.target, settings.probability, settings.reach, self.training.batch)
        if self.objective.historical_averaging and phase.name in ("discriminator", "generator"):
            cast(History, networks["history"]).update(phase.name, networks[phase.name])

    def _strength(self, networks: Networks, progress: float | Tensor) -> float | Tensor:
        """The probability of each change as it is now; adaptive, a scalar on the device."""
        return adaptive_of(networks).probability_now if self.augment.adaptive else self.augmentation(progress)

    def augmentation(self, progress: float | Tensor) -> float | Tensor:
        """The probability of each change to the pictures that the discriminator sees."""
        most = self.augment.probability
        return cosine(0.0, most, progress) if self.augment.ramp else most

    def _augmented(self, images: Tensor, noise: Noise, side: str, strength: float | Tensor) -> Tensor:
        if not self.augment.probability:
            return images
        return augment(images, noise[f"augment {side}"], strength, self.augment.kinds, self.judged)

    def _generator_losses(
        self, networks: Networks, batch: Batch, noise: Noise, strength: float | Tensor
    ) -> dict[str, Tensor]:
        discriminator, labels, adversarial = networks["discriminator"], batch.labels, LOSSES[self.objective.loss]
        fakes = self._augmented(self._generate(networks, noise, labels), noise, "fake", strength)
        if self.objective.generator == "feature matching":
            features = discriminator_of(networks).features
            with torch.no_grad():
                wanted = features(self._augmented(batch.images, noise, "real", strength))
            return {"loss": feature_matching(wanted, features(fakes))}
        fake = discriminator(fakes, labels)
        real = torch.zeros_like(fake)
        if adversarial.relativistic:
            with torch.no_grad():
                real = discriminator(self._augmented(batch.images, noise, "real", strength), labels)
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
        average.lerp_(batch_mean(lengths.detach()), 0.01)
        penalty = (lengths - average).square().mean()
        return {"loss": weight * interval * penalty, "path length": lengths.mean()}

    def _generate(self, networks: Networks, noise: Noise, labels: Tensor | None) -> Tensor:
        generator = generator_of(networks)
        images = generator.synthesise(self._training_latents(generator, noise, labels), noise.get("inputs"))
        return rolled(images, noise["roll"], self.spec) if "roll" in noise else images

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
        if self._judges_batches:  # batch statistics of real and generated pictures must not mix
            return tuple(discriminator(images, labels) for images in groups)
        repeated = None if labels is None else labels.repeat(len(groups))
        return discriminator(torch.cat(groups), repeated).chunk(len(groups))

    def _adversarial(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        smoothing = self.objective.label_smoothing
        loss = LOSSES[self.objective.loss].discriminator(real, fake)
        if smoothing:
            loss = smoothed_discriminator(real, fake, smoothing)
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

    def _weighted(self, terms: dict[str, Tensor], progress: float | Tensor, times: float = 1.0) -> dict[str, Tensor]:
        """`terms` with `loss`, the weighted penalty alone."""
        gamma = cosine(self.objective.gamma, self.objective.gamma_end, progress) * times
        if "gradient penalty" in terms:
            return {"loss": gamma * terms["gradient penalty"], **terms}
        squares = torch.stack([terms[name] for name in ("r1", "r2") if name in terms])
        return {"loss": gamma / 2 * squares.sum(0), **terms}

    def noise(self, count: int, generator: torch.Generator, purpose: Literal["train", "sample"]) -> Noise:
        noise = {"z": draw_latents(self.config, count, generator)}
        inputs = self.config.noise_size(self.spec)
        if inputs:
            noise["inputs"] = torch.randn(count, inputs, generator=generator)
        if purpose == "train" and self.config.style_mixing:
            noise["mixed z"] = draw_latents(self.config, count, generator)
            noise["mix at"] = torch.rand(count, generator=generator)
        if purpose == "train" and self.config.path_length[0]:
            noise["path"] = torch.randn(count, *self.spec.shape, generator=generator)
        if purpose == "train" and self.objective.crops:
            noise["roll"] = torch.rand(count, 2, generator=generator)
        if purpose == "train" and self._penalised:
            objective = self.objective
            if objective.penalty == "gradient":
                noise["mix"] = torch.rand(count, generator=generator)
            for name, asked in (("move r1", objective.at_real), ("move r2", objective.at_fake)):
                if objective.finite and asked:
                    noise[name] = torch.randn(count, *self.spec.shape, generator=generator)
        if purpose == "train" and self.augment.probability:
            sides = ["real", "fake"] + ["labelled"] * self.semi_supervised + ["held out"] * self.augment.adaptive
            noise |= {f"augment {side}": draw(count, generator) for side in sides}
        if purpose == "train" and self.objective.consistency:
            noise |= {f"change {side}": draw(count, generator) for side in ("labelled", "unlabelled")}
        return noise

    def render(self, networks: Networks, noise: Noise, labels: Tensor | None, options: RenderOptions) -> Tensor:
        return self.synthesise(networks, self.map(networks, noise, labels, options), noise)

    def classify(self, networks: Networks, images: Tensor) -> Tensor:
        if not self.semi_supervised:
            return super().classify(networks, images)
        discriminator = discriminator_of(networks)
        return cast(ClassHead, discriminator.head).classes(discriminator.features(images))

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


def discriminator_of(networks: Networks) -> FeatureDiscriminator:
    """The discriminator among `networks`."""
    return cast(FeatureDiscriminator, networks["discriminator"])


def adaptive_of(networks: Networks) -> Adaptive:
    """What adapts the augmentation among `networks`."""
    return cast(Adaptive, networks["augmentation"])
