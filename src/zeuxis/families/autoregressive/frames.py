"""Clips frame after frame with one future: each next frame is the network's best guess of the mean.

A clip from nothing starts with a frame from a small VAE (`start.py`), trained beside the network.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from zeuxis.config import Config, ImageSpec
from zeuxis.errors import UserError
from zeuxis.families.autoregressive.method import MakesNetwork, Method
from zeuxis.families.autoregressive.patches import FrameNetwork, feed, to_frames, to_patches
from zeuxis.families.autoregressive.start import Start
from zeuxis.families.base import Batch, Networks, Noise, Phase, RenderOptions, Stage, TrainingConfig
from zeuxis.schedules import ramp


class FramesConfig(Config):
    """What is minimised, and what a step is given.

    The loss is the squared error of frames 2 to T, summed over a frame's values on the [0, 1] scale and averaged over
    frames, plus `l1` times the absolute error likewise. The first `context` frames (0: half of the clip) are given as
    they are; after them each step gets the true frame with a probability that falls from 1 to 0 over the share
    `scheduled` of the run, else the network's own prediction (scheduled sampling: Bengio et al. 2015, arXiv
    1506.03099). With `reverse` the share of true frames within the context rises from a half to 1 meanwhile, which
    forces the network to remember (reverse scheduled sampling: arXiv 2103.09504, section 3.4).
    """

    l1: float = Field(default=0.0, ge=0, le=100)
    context: int = Field(default=0, ge=0, le=4095)
    scheduled: float = Field(default=0.5, ge=0, le=1)
    reverse: bool = False
    start_latent: int = Field(default=32, ge=1, le=4096)
    start_width: int = Field(default=32, ge=4, le=1024)


def context_of(context: int, spec: ImageSpec) -> int:
    """Frames given: `context`, or half of the clip; `UserError` where nothing is left to predict."""
    if spec.frames < 2:
        raise UserError("--frames", spec.frames, "2 or more for a network over frames", "give clips and --frames 20")
    found = context or max(1, spec.frames // 2)
    if found >= spec.frames:
        raise UserError("--set objective.context", found, f"fewer than the {spec.frames} frames of a clip", "")
    return found


def true_frames(
    uniforms: Tensor, context: int, progress: float | Tensor, scheduled: float, reverse: bool = False
) -> Tensor:
    """Which steps are given the true frame, bool `[N, T - 1]`, by uniform numbers of the same shape."""
    done = ramp(progress, scheduled)
    step = torch.arange(uniforms.shape[1], device=uniforms.device)
    share = torch.where(step < context, 0.5 + 0.5 * done if reverse else 1.0, 1.0 - done)
    return (uniforms < share) | (step == 0)  # nothing was predicted before the first


class Frames(Method):
    """x_t+1 = f(x_t, memory), trained on the error of every next frame."""

    objective_config: ClassVar[type[Config]] = FramesConfig
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
        """Errors of the next frames as the metrics have them, and the bound of the first frame, which moves `start`
        alone."""
        own, true = self.objective, to_patches(batch.images)  # [N, T, P, h, w]
        use = true_frames(noise["teacher"], self.context, progress, own.scheduled, own.reverse)
        predicted = self.unroll(networks, true, use, batch.labels)
        error = (predicted - true[:, 1:]) / 2  # on the [0, 1] scale
        squared = error.square().flatten(2).sum(2).mean(1)
        loss = squared + own.l1 * error.abs().flatten(2).sum(2).mean(1) if own.l1 else squared
        nats, kl = networks["start"](true[:, 0], batch.labels, noise["start"])
        return {"loss": loss + nats + kl, "squared error": squared, "first frame": nats + kl}

    def unroll(self, networks: Networks, true: Tensor, use: Tensor, labels: Tensor | None) -> Tensor:
        """Patches `[N, T, P, h, w]` -> predictions of frames 2 to T, `[N, T - 1, P, h, w]`; step t is given frame t
        where `use` `[N, T - 1]`, else its prediction. No prediction depends on its own or a later true frame."""
        step, memory = cast(FrameNetwork, networks["network"]), None
        given = true[:, 0]
        predicted: list[Tensor] = []
        for place in range(true.shape[1] - 1):
            if place:
                given = feed(true[:, place], predicted[-1], use[:, place])
            following, memory = step(given, memory, labels)
            predicted.append(following)
        return torch.stack(predicted, dim=1)

    def noise(self, count: int, generator: torch.Generator, purpose: Literal["train", "sample"]) -> Noise:
        """`start` normal `[N, latent]`; in training `teacher` uniform `[N, T - 1]` for scheduled sampling."""
        noise = {"start": torch.randn(count, self.objective.start_latent, generator=generator)}
        if purpose == "train":
            noise["teacher"] = torch.rand(count, self.spec.frames - 1, generator=generator)
        return noise

    def render(self, networks: Networks, noise: Noise, labels: Tensor | None, options: RenderOptions) -> Tensor:
        """A whole clip `[N, T, C, H, W]`: a first frame from noise, then what follows. Temperature scales the noise."""
        first = cast(Start, networks["start"]).frame(noise["start"] * options.temperature, labels)[:, None]
        return torch.cat([first, self.predict(networks, first, self.spec.frames - 1, labels, noise, options)], dim=1)

    def predict(
        self, networks: Networks, frames: Tensor, count: int, labels: Tensor | None, noise: Noise,
        options: RenderOptions,
    ) -> Tensor:  # fmt: skip
        """There is one future: noise and temperature change nothing."""
        step, memory = cast(FrameNetwork, networks["network"]), None
        for place in range(frames.shape[1]):
            following, memory = step(to_patches(frames[:, place]), memory, labels)
        predicted = [following.clamp(-1, 1)]
        while len(predicted) < count:
            following, memory = step(predicted[-1], memory, labels)
            predicted.append(following.clamp(-1, 1))
        return to_frames(torch.stack(predicted, dim=1))
