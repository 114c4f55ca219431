"""What the papers say about training a VAE: the evidence lower bound, its weighted and importance-weighted forms, and
sampling. Knows no files or devices."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from zeuxis.config import Config, ImageSpec, parse
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
from zeuxis.families.vae import NETWORKS
from zeuxis.families.vae.choose import choose
from zeuxis.families.vae.latents import Features, Inference, TokenLatents, latents_of
from zeuxis.families.vae.likelihoods import LIKELIHOODS, Likelihood, latitude_weights
from zeuxis.families.vae.presets import PRESETS
from zeuxis.families.vae.priors import Prior, PriorName
from zeuxis.randomness import generator_for
from zeuxis.schedules import ramp

FIT_PICTURES = 4096  # that a prior is fitted to, about: encoding them before each snapshot must not take long
DRAWN_VALUES = 2**22  # values of decoder output computed at once when a likelihood is estimated


def likelihood_of(networks: Networks) -> Likelihood:
    """The likelihood among the networks of a VAE."""
    return cast(Likelihood, networks["likelihood"])


class ObjectiveConfig(Config):
    """Which p(x|z) the decoder parametrises, which bound is trained on, and which prior is fitted afterwards.

    `components` are those of `logistic-mixture`. `beta` weighs the KL term, which rises from zero over the share
    `kl_warmup` of the run; `free_bits` nats of each group's KL term cost nothing (Kingma et al. 2016, arXiv 1606.04934,
    appendix C.8, for each picture). `kl` is taken in closed form or from the draw. `importance` is K of the
    importance-weighted bound (Burda et al. 2015). `commitment` is the weight of a `vq` encoder's distance to its codes.
    `code_entropy` is the weight of the divergence, in nats, of the frequencies of an `fsq`'s codes from equal ones.
    `latitude` weighs the rows of a panorama by the sphere that they show; the loss is then no bound any more.
    """

    likelihood: Literal["bernoulli", "gaussian", "gaussian-pixel", "logistic-mixture"] = "gaussian"
    components: int = Field(default=5, ge=1, le=64)
    kl: Literal["closed", "sampled"] = "closed"
    beta: float = Field(default=1.0, ge=0, le=1000)
    kl_warmup: float = Field(default=0.0, ge=0, le=1)
    free_bits: float = Field(default=0.0, ge=0)
    importance: int = Field(default=1, ge=1, le=1024)
    commitment: float = Field(default=0.25, ge=0)
    code_entropy: float = Field(default=0.0, ge=0)
    latitude: bool = False
    prior: PriorName = "standard"


class VAE(Family):
    """An encoder q(z|x) and a decoder p(x|z) trained on the evidence lower bound."""

    name: ClassVar[str] = "vae"
    capabilities = frozenset({"encode", "decode", "reconstruct", "log_likelihood"})
    render_options: ClassVar[tuple[str, ...]] = ("temperature", "prior")
    watch: ClassVar[Mapping[str, str]] = {"kl": "autoencoder/kl", "codes used": "autoencoder/codes in use"}

    def __init__(self, network: str, settings: Settings, spec: ImageSpec, classes: int = 0) -> None:
        super().__init__(network, settings, spec, classes)
        line = NETWORKS[network]
        self.config = parse(line.config, settings.get("network", {}), "network")
        self.objective = parse(ObjectiveConfig, settings.get("objective", {}), "objective")
        self.training = parse(TrainingConfig, settings.get("training", {}), "training")
        self.latents = latents_of(line, self.config, spec, classes)
        if self.objective.prior != "standard" and not self.latents.flat:
            raise UserError("objective prior", self.objective.prior, "standard",
                            f"the prior of vae/{network} is learned with it")  # fmt: skip
        if self.objective.latitude and (not spec.wrap_x or spec.wrap_y):
            raise UserError("objective latitude", "true", "panoramas, which wrap from left to right alone", "--wrap x")
        if self.objective.importance > 1 and not self.latents.draws:
            raise UserError("objective importance", self.objective.importance, "1",
                            f"vae/{network} draws nothing that could be weighted")  # fmt: skip
        if self.objective.importance > 1 and (self.objective.kl == "sampled" or self.objective.free_bits):
            raise UserError("objective importance", self.objective.importance, "1 with a KL term of its own",
                            "leave objective.kl and objective.free_bits as they are")  # fmt: skip

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
            "training": self.training.to_json(),
        }

    # -- parts -----------------------------------------------------------------------------------------------------
    def build(self) -> dict[str, nn.Module]:
        likelihood = LIKELIHOODS[self.objective.likelihood](self.spec.channels, self.objective.components)
        networks = {**self.latents.build(likelihood.outputs), "likelihood": likelihood}
        if self.objective.prior != "standard":
            networks["prior"] = Prior(self.objective.prior, self.latents.size, self.classes)
        return networks

    @property
    def model_parts(self) -> tuple[str, ...]:
        return (*self.latents.parts, "likelihood", *self.fitted_parts)

    @property
    def fitted_parts(self) -> tuple[str, ...]:
        return () if self.objective.prior == "standard" else ("prior",)

    @property
    def likelihood_unit(self) -> str:
        return LIKELIHOODS[self.objective.likelihood].unit

    def stages(self) -> list[Stage]:
        return [Stage(name="bound", phases=(Phase(name="autoencoder", parts=(*self.latents.parts, "likelihood")),))]

    # -- training --------------------------------------------------------------------------------------------------
    def losses(
        self, phase: Phase, networks: Networks, batch: Batch, noise: Noise, progress: float | Tensor
    ) -> dict[str, Tensor]:
        """Negative evidence lower bound in nats per picture (Kingma & Welling 2013, Eq. 10), with the weights of
        `ObjectiveConfig`; `reconstruction` and `kl` are its two parts without them."""
        objective = self.objective
        weight = objective.beta * ramp(progress, objective.kl_warmup)
        seen = self.latents.recognise(networks, batch.images, batch.labels)
        if objective.importance > 1:
            return self._weighted_losses(networks, seen, batch, noise["z"], weight)
        drawn = self.latents.infer(networks, seen, batch.labels, noise["z"] if self.latents.draws else batch.images)
        reconstruction = -likelihood_of(networks).log_prob(drawn.output, batch.images, self._rows(batch.images.device))
        if objective.kl == "sampled":
            kl = cost = -drawn.log_ratio
        else:
            kl = cost = torch.stack(list(drawn.kl.values())).sum(0) if len(drawn.kl) > 1 else drawn.kl["kl"]
            if objective.free_bits:
                cost = torch.stack([group.clamp(min=objective.free_bits) for group in drawn.kl.values()]).sum(0)
        loss = reconstruction + (weight * cost if objective.kl_warmup or objective.beta != 1 else cost)
        if "commitment" in drawn.terms:
            loss = loss + objective.commitment * drawn.terms["commitment"]
        if objective.code_entropy and "crowding" in drawn.terms:
            loss = loss + objective.code_entropy * drawn.terms["crowding"]
        return {"loss": loss, "reconstruction": reconstruction, **drawn.kl, **drawn.terms, "kl": kl}

    def _rows(self, device: torch.device) -> Tensor | None:
        return latitude_weights(self.spec.height, device) if self.objective.latitude else None

    def _weighted_losses(
        self, networks: Networks, seen: Features, batch: Batch, noise: Tensor, weight: float | Tensor
    ) -> dict[str, Tensor]:
        """Minus the importance-weighted bound (Burda et al. 2015, arXiv 1509.00519, Eq. 8) for noise `[N, K, size]`."""
        drawn, reconstruction = self._draw_many(
            networks, seen, batch.images, batch.labels, noise, self._rows(batch.images.device)
        )
        log_weights = weight * drawn.log_ratio.view(reconstruction.shape) - reconstruction
        bound = torch.logsumexp(log_weights, dim=1) - math.log(noise.shape[1])
        means = {name: value.view(reconstruction.shape).mean(1) for name, value in drawn.kl.items()}
        kl = torch.stack(list(means.values())).sum(0)
        return {"loss": -bound, "reconstruction": reconstruction.mean(1), **means, "kl": kl, **drawn.terms}

    def _draw_many(
        self, networks: Networks, seen: Features, images: Tensor, labels: Tensor | None, noise: Tensor,
        rows: Tensor | None = None,
    ) -> tuple[Inference, Tensor]:  # fmt: skip
        """K draws for each picture: what they give, `[N * K, ...]`, and -log p(x|z) `[N, K]`."""
        count = noise.shape[1]
        repeated = tuple(feature.repeat_interleave(count, dim=0) for feature in seen)
        own = None if labels is None else labels.repeat_interleave(count, dim=0)
        drawn = self.latents.infer(networks, repeated, own, noise.flatten(0, 1))
        originals = images.repeat_interleave(count, dim=0)
        return drawn, -likelihood_of(networks).log_prob(drawn.output, originals, rows).view(-1, count)

    def after_step(self, phase: Phase, networks: Networks, batch: Batch) -> None:
        if isinstance(self.latents, TokenLatents):
            networks["quantiser"].update()  # type: ignore[operator]

    @torch.no_grad()
    def fit(self, networks: Networks, batches: Callable[[], Iterator[Batch]], seed: int) -> None:
        """The prior, to draws from the aggregate posterior of the training pictures."""
        if not self.fitted_parts:
            return
        generator = generator_for("aggregate", seed)
        stride = math.ceil(sum(len(batch.images) for batch in batches()) / FIT_PICTURES)
        codes, labels = [], []
        for batch in batches():
            images, own = batch.images[::stride], None if batch.labels is None else batch.labels[::stride]
            seen = self.latents.recognise(networks, images, own)
            z = torch.randn(len(images), self.latents.size, generator=generator).to(images.device)
            codes.append(self.latents.codes(networks, seen, own, z).float())
            labels.append(own)
        known = None if labels[0] is None else torch.cat(cast("list[Tensor]", labels))
        cast(Prior, networks["prior"]).fit(torch.cat(codes), known, seed)

    # -- sampling --------------------------------------------------------------------------------------------------
    def noise(self, count: int, generator: torch.Generator, purpose: Literal["train", "sample"]) -> Noise:
        size = self.latents.size
        if purpose == "train":
            if not self.latents.draws:
                return {}
            draws = (self.objective.importance,) if self.objective.importance > 1 else ()
            return {"z": torch.randn(count, *draws, size, generator=generator)}
        noise = {"z": torch.randn(count, size, generator=generator)}
        if self.objective.prior in ("mixture", "auto"):
            noise["u"] = torch.rand(count, 1, generator=generator)
        if self.objective.prior in ("second-stage", "auto"):
            noise["second"] = torch.randn(count, size, generator=generator)
        return noise

    def render(self, networks: Networks, noise: Noise, labels: Tensor | None, options: RenderOptions) -> Tensor:
        """The expected picture E[x|z], z from the fitted prior where there is one; temperature scales the standard
        deviation of the normal noise."""
        noise = {key: value if key == "u" else value * options.temperature for key, value in noise.items()}
        if self.fitted_parts and options.prior == "fitted":
            output = self.latents.output(networks, networks["prior"](noise, labels), labels)
        else:
            output = self.latents.generate(networks, noise["z"], labels)
        return likelihood_of(networks).mean(output)

    def latent_codes(self, networks: Networks, noise: Noise, labels: Tensor | None, options: RenderOptions) -> Tensor:
        """Codes `[N, size]` of which `render` decodes its pictures; not of a network with tokens."""
        noise = {key: value if key == "u" else value * options.temperature for key, value in noise.items()}
        if self.fitted_parts and options.prior == "fitted":
            codes: Tensor = networks["prior"](noise, labels)
            return codes
        return self.latents.drawn(networks, noise["z"], labels)

    # -- capabilities ----------------------------------------------------------------------------------------------
    def encode(self, networks: Networks, images: Tensor, labels: Tensor | None) -> Tensor:
        """Codes `[N, size]`: posterior means, of a token grid the quantised values."""
        return self.latents.codes(networks, self.latents.recognise(networks, images, labels), labels)

    def decode(self, networks: Networks, codes: Tensor, labels: Tensor | None) -> Tensor:
        return likelihood_of(networks).mean(self.latents.output(networks, codes, labels))

    def encode_tokens(self, networks: Networks, images: Tensor, labels: Tensor | None) -> Tensor:
        """Tokens int64 `[N, h, w]` of pictures, of a network with tokens (`vq`, `fsq`)."""
        return self._tokens().tokens(networks, self.encode(networks, images, labels))

    def decode_tokens(self, networks: Networks, tokens: Tensor, labels: Tensor | None) -> Tensor:
        """Pictures float `[-1, 1]` of tokens int64 `[N, h, w]`."""
        return likelihood_of(networks).mean(self._tokens().of_tokens(networks, tokens, labels))

    def _tokens(self) -> TokenLatents:
        if not isinstance(self.latents, TokenLatents):
            raise NotImplementedError(f"vae/{self.network} has no tokens")
        return self.latents

    def log_likelihood(
        self, networks: Networks, images: Tensor, labels: Tensor | None, generator: torch.Generator, samples: int = 1
    ) -> Tensor:
        """Importance-weighted lower bound of log p(x) in nats `[N]` with K = `samples` (Burda et al. 2015, Eq. 8),
        under the prior that the network was trained with.

        K = 1 is a one-sample estimate of the evidence lower bound. A network with tokens draws nothing: its bound is
        log p(x|tokens) with each token as likely as any other, whatever K.
        """
        seen = self.latents.recognise(networks, images, labels)
        samples = samples if self.latents.draws else 1
        most = max(1, DRAWN_VALUES // (len(images) * likelihood_of(networks).outputs * self.spec.height
                                       * self.spec.width))  # fmt: skip
        weights = []
        for start in range(0, samples, most):
            count = min(most, samples - start)
            noise = torch.randn(len(images), count, self.latents.size, generator=generator).to(images.device)
            drawn, reconstruction = self._draw_many(networks, seen, images, labels, noise)
            weights.append(drawn.log_ratio.view(-1, count) - reconstruction)
        return torch.logsumexp(torch.cat(weights, dim=1), dim=1) - math.log(samples)
