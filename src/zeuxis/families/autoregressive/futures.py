"""Clips frame after frame with many futures: what chance decides in a frame is a latent z with a learned prior
(Denton & Fergus 2018, arXiv 1802.07687)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from zeuxis.config import Config, ImageSpec
from zeuxis.errors import UserError
from zeuxis.families.autoregressive.frames import context_of, true_frames
from zeuxis.families.autoregressive.method import MakesNetwork, Method
from zeuxis.families.autoregressive.patches import feed, to_frames, to_patches
from zeuxis.families.autoregressive.start import Start
from zeuxis.families.autoregressive.svg import SVG
from zeuxis.families.base import Batch, Networks, Noise, Phase, RenderOptions, Stage, TrainingConfig

MOST_FRAMES = 1000  # that one seed has noise for


class FuturesConfig(Config):
    """The evidence lower bound of a clip: frames are normal around their prediction with the spread `sigma` on the
    [-1, 1] scale. A larger sigma asks less of z, so that the prior can keep up with the posterior. `context` and
    `scheduled` are those of the deterministic networks."""

    sigma: float = Field(default=0.5, gt=0.001, le=10)
    context: int = Field(default=0, ge=0, le=4095)
    scheduled: float = Field(default=0.5, ge=0, le=1)
    start_latent: int = Field(default=32, ge=1, le=4096)
    start_width: int = Field(default=32, ge=4, le=1024)


def divergence(mean: Tensor, log_variance: Tensor, prior_mean: Tensor, prior_log_variance: Tensor) -> Tensor:
    """KL(N(mean, exp(log_variance)) || N(prior_mean, exp(prior_log_variance))) in nats `[N]`."""
    ratio = log_variance - prior_log_variance
    gap = (mean - prior_mean).square() * torch.exp(-prior_log_variance)
    return 0.5 * (torch.exp(ratio) + gap - 1 - ratio).sum(1)


class Futures(Method):
    """p(x) = p(x_1) prod_t int p(x_t | x_<t, z_<=t) p(z_t | x_<t) dz_t, trained on its lower bound."""

    objective_config: ClassVar[type[Config]] = FuturesConfig
    clip_length: ClassVar[int] = 20
    capabilities = frozenset({"predict"})
    render_options = ("temperature",)

    def __init__(
        self, network: MakesNetwork, config: Any, objective: Any, training: TrainingConfig, spec: ImageSpec,
        classes: int,
    ) -> None:  # fmt: skip
        super().__init__(network, config, objective, training, spec, classes)
        self.context = context_of(objective.context, spec)

    def build(self) -> dict[str, nn.Module]:
        own = self.objective
        return {
            "network": self.network(self.config, self.spec, self.classes),
            "start": Start(own.start_width, own.start_latent, self.spec, self.classes),
        }

    @property
    def model_parts(self) -> tuple[str, ...]:
        return ("network", "start")

    def stages(self) -> list[Stage]:
        return [Stage(name="frames", phases=(Phase(name="frames", parts=("network", "start")),))]

    def losses(
        self, phase: Phase, networks: Networks, batch: Batch, noise: Noise, progress: float | Tensor
    ) -> dict[str, Tensor]:
        """Minus the bound in nats per clip (Eq. 4 with beta 1), without the constant of the normal densities: squared
        error over 2 sigma^2 of frames 2 to T, the divergence of q(z_t | x_<=t) from p(z_t | x_<t), and the bound of the
        first frame."""
        net, true = cast(SVG, networks["network"]), to_patches(batch.images)  # [N, T, P, h, w]
        use = true_frames(noise["teacher"], self.context, progress, self.objective.scheduled)
        prior_memory = posterior_memory = None
        before = following = true[:, 0]
        squared, kl = [], []
        for place in range(true.shape[1] - 1):
            given = true[:, place]
            if place >= self.context:
                given = feed(given, following, use[:, place])
            prior_mean, prior_log_variance, prior_memory = net.prior(net.seen(before, given), prior_memory)
            coming = net.coming(given, true[:, place + 1])
            mean, log_variance, posterior_memory = net.posterior(coming, posterior_memory)
            z = mean + torch.exp(0.5 * log_variance) * noise["z"][:, place]
            before, following = given, net(given, z, batch.labels)
            squared.append((following - true[:, place + 1]).square().flatten(1).sum(1))
            kl.append(divergence(mean, log_variance, prior_mean, prior_log_variance))
        error, divergences = torch.stack(squared).sum(0), torch.stack(kl).sum(0)
        first = torch.stack(networks["start"](true[:, 0], batch.labels, noise["start"])).sum(0)
        steps = true.shape[1] - 1
        return {
            "loss": error / (2 * self.objective.sigma**2) + divergences + first,
            "squared error": error / (4 * steps), "kl": divergences / steps, "first frame": first,
        }  # fmt: skip

    def noise(self, count: int, generator: torch.Generator, purpose: Literal["train", "sample"]) -> Noise:
        """`start` and `z` normal, `[N, latent]` and `[N, frames, latent]`; in training `teacher` uniform."""
        frames = self.spec.frames - 1 if purpose == "train" else MOST_FRAMES
        noise = {
            "start": torch.randn(count, self.objective.start_latent, generator=generator),
            "z": torch.randn(count, frames, self.config.latent, generator=generator),
        }
        if purpose == "train":
            noise["teacher"] = torch.rand(count, frames, generator=generator)
        return noise

    def render(self, networks: Networks, noise: Noise, labels: Tensor | None, options: RenderOptions) -> Tensor:
        """A whole clip `[N, T, C, H, W]`: a first frame from noise, then what follows. Temperature scales the noise."""
        first = cast(Start, networks["start"]).frame(noise["start"] * options.temperature, labels)[:, None]
        return torch.cat([first, self.predict(networks, first, self.spec.frames - 1, labels, noise, options)], dim=1)

    def predict(
        self, networks: Networks, frames: Tensor, count: int, labels: Tensor | None, noise: Noise,
        options: RenderOptions,
    ) -> Tensor:  # fmt: skip
        """z is drawn from the prior, with its standard deviation scaled by the temperature (0: its mean)."""
        if count > noise["z"].shape[1]:
            raise UserError(
                "--frames", count, f"at most {noise['z'].shape[1]} frames from one seed", "go on from those"
            )
        net, true = cast(SVG, networks["network"]), to_patches(frames)
        before = given = true[:, 0]
        prior_memory = None
        predicted: list[Tensor] = []
        for place in range(true.shape[1] - 1 + count):
            mean, log_variance, prior_memory = net.prior(net.seen(before, given), prior_memory)
            before = given
            if place + 1 < true.shape[1]:
                given = true[:, place + 1]
                continue
            drawn = noise["z"][:, len(predicted)] * options.temperature
            given = net(given, mean + torch.exp(0.5 * log_variance) * drawn, labels).clamp(-1, 1)
            predicted.append(given)
        return to_frames(torch.stack(predicted, dim=1))
