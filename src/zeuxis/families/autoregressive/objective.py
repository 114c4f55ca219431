"""The autoregressive family: hands everything to the method of its network's kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from zeuxis.config import ImageSpec, parse
from zeuxis.families.autoregressive import NETWORKS
from zeuxis.families.autoregressive.presets import PRESETS
from zeuxis.families.base import Batch, Family, Networks, Noise, Phase, Preset, RenderOptions, Settings, Stage


class Autoregressive(Family):
    """Pictures as sequences, each element drawn given those before it: log p(x) = sum of log p(x_i | x_1 ... x_i-1)."""

    name: ClassVar[str] = "autoregressive"

    def __init__(self, network: str, settings: Settings, spec: ImageSpec, classes: int = 0) -> None:
        super().__init__(network, settings, spec, classes)
        entry = NETWORKS[network]
        self.config = parse(entry.config, settings.get("network", {}), "network")
        self.objective = parse(entry.method.objective_config, settings.get("objective", {}), "objective")
        self.training = parse(entry.method.training_config, settings.get("training", {}), "training")
        self.method = entry.method(entry.network, self.config, self.objective, self.training, spec, classes)
        # What pixels, tokens and frames can do differs, so it belongs to the instance.
        self.capabilities = self.method.capabilities
        self.context = self.method.context
        self.render_options = self.method.render_options  # type: ignore[misc]

    @classmethod
    def presets(cls) -> Mapping[str, Mapping[str, Preset]]:
        return PRESETS

    @classmethod
    def clip_length(cls, network: str) -> int:
        return NETWORKS[network].method.clip_length

    @property
    def settings(self) -> Settings:
        groups = {"network": self.config, "objective": self.objective, "training": self.training}
        return {name: group.to_json() for name, group in groups.items()}

    @property
    def exact_likelihood(self) -> bool:
        return self.method.exact_likelihood

    @property
    def chosen_by_nats(self) -> bool:
        return self.method.chosen_by_nats

    @property
    def steps_per_picture(self) -> int:
        return self.method.steps_per_picture

    def build(self) -> dict[str, nn.Module]:
        return self.method.build()

    @property
    def model_parts(self) -> tuple[str, ...]:
        return self.method.model_parts

    @property
    def fitted_parts(self) -> tuple[str, ...]:
        return self.method.fitted_parts

    def stages(self) -> list[Stage]:
        return self.method.stages()

    def losses(
        self, phase: Phase, networks: Networks, batch: Batch, noise: Noise, progress: float | Tensor
    ) -> dict[str, Tensor]:
        return self.method.losses(phase, networks, batch, noise, progress)

    def after_step(self, phase: Phase, networks: Networks, batch: Batch) -> None:
        self.method.after_step(phase, networks, batch)

    def codes(self, stage: Stage, networks: Networks, images: Tensor, labels: Tensor | None) -> Tensor:
        return self.method.codes(stage, networks, images, labels)

    def noise(self, count: int, generator: torch.Generator, purpose: Literal["train", "sample"]) -> Noise:
        return self.method.noise(count, generator, purpose)

    def render(self, networks: Networks, noise: Noise, labels: Tensor | None, options: RenderOptions) -> Tensor:
        """Drawn element after element by inverse distribution functions of the noise; not differentiable."""
        return self.method.render(networks, noise, labels, options)

    def encode(self, networks: Networks, images: Tensor, labels: Tensor | None) -> Tensor:
        return self.method.encode(networks, images, labels)

    def decode(self, networks: Networks, codes: Tensor, labels: Tensor | None) -> Tensor:
        return self.method.decode(networks, codes, labels)

    def log_likelihood(
        self, networks: Networks, images: Tensor, labels: Tensor | None, generator: torch.Generator, samples: int = 1
    ) -> Tensor:
        """Exact, so neither `generator` nor `samples` matter where `exact_likelihood` says so."""
        return self.method.log_likelihood(networks, images, labels)

    def nats(self, networks: Networks, images: Tensor, labels: Tensor | None) -> Tensor:
        return self.method.nats(networks, images, labels)

    def complete(
        self, networks: Networks, images: Tensor, known: Tensor, labels: Tensor | None, noise: Noise,
        options: RenderOptions,
    ) -> Tensor:  # fmt: skip
        """What is drawn is conditioned on what comes before it in the network's order, known or drawn; a known element
        that comes later is put in but not looked ahead to."""
        return self.method.complete(networks, images, known, labels, noise, options)

    def completion_weight(
        self, networks: Networks, images: Tensor, known: Tensor, labels: Tensor | None
    ) -> Tensor:  # fmt: skip
        return self.method.log_likelihood(networks, images, labels, known)

    def predict(
        self, networks: Networks, frames: Tensor, count: int, labels: Tensor | None, noise: Noise,
        options: RenderOptions,
    ) -> Tensor:  # fmt: skip
        return self.method.predict(networks, frames, count, labels, noise, options)
