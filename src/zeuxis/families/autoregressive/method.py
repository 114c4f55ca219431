"""What one kind of autoregressive network (pixels, tokens, frames) is to its family: losses, sampling, capabilities."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor, nn

from zeuxis.config import Config, ImageSpec
from zeuxis.families.base import Batch, Networks, Noise, Phase, RenderOptions, Stage, TrainingConfig


class MakesNetwork(Protocol):
    """A network's class, called as `(config, spec, classes)`."""

    def __call__(self, config: Any, spec: ImageSpec, classes: int) -> nn.Module: ...


class Method(ABC):
    """How networks of one kind are trained and sampled, bound to settings, an image spec and a number of classes.

    The same contract as `Family`, whose words say what each method takes and returns; the family hands everything on.
    `objective_config` and `training_config` are the classes of the setting groups beside the network's own.
    """

    objective_config: ClassVar[type[Config]]
    training_config: ClassVar[type[TrainingConfig]] = TrainingConfig
    exact_likelihood: ClassVar[bool] = False  # whether `log_likelihood` is log p itself and not a bound
    chosen_by_nats: ClassVar[bool] = False
    # May depend on the settings: set in `__init__` where they do.
    capabilities: frozenset[str] = frozenset()
    render_options: tuple[str, ...] = ()
    clip_length: ClassVar[int] = 1
    context: int = 0

    def __init__(
        self, network: MakesNetwork, config: Any, objective: Any, training: TrainingConfig, spec: ImageSpec,
        classes: int,
    ) -> None:  # fmt: skip
        self.network, self.config, self.objective, self.training = network, config, objective, training
        self.spec, self.classes = spec, classes

    @property
    def steps_per_picture(self) -> int:
        return 1

    @abstractmethod
    def build(self) -> dict[str, nn.Module]: ...

    @property
    def model_parts(self) -> tuple[str, ...]:
        return ("network",)

    @property
    def fitted_parts(self) -> tuple[str, ...]:
        return ()

    @abstractmethod
    def stages(self) -> list[Stage]: ...

    @abstractmethod
    def losses(
        self, phase: Phase, networks: Networks, batch: Batch, noise: Noise, progress: float | Tensor
    ) -> dict[str, Tensor]: ...

    def after_step(self, phase: Phase, networks: Networks, batch: Batch) -> None:
        return

    def codes(self, stage: Stage, networks: Networks, images: Tensor, labels: Tensor | None) -> Tensor:
        raise NotImplementedError("autoregressive has no stage with codes")

    @abstractmethod
    def noise(self, count: int, generator: torch.Generator, purpose: Literal["train", "sample"]) -> Noise: ...

    @abstractmethod
    def render(self, networks: Networks, noise: Noise, labels: Tensor | None, options: RenderOptions) -> Tensor: ...

    def encode(self, networks: Networks, images: Tensor, labels: Tensor | None) -> Tensor:
        raise NotImplementedError("autoregressive has no encode")

    def decode(self, networks: Networks, codes: Tensor, labels: Tensor | None) -> Tensor:
        raise NotImplementedError("autoregressive has no decode")

    def log_likelihood(
        self, networks: Networks, images: Tensor, labels: Tensor | None, known: Tensor | None = None
    ) -> Tensor:
        raise NotImplementedError("autoregressive has no log_likelihood")

    def nats(self, networks: Networks, images: Tensor, labels: Tensor | None) -> Tensor:
        raise NotImplementedError("autoregressive is not chosen by nats")

    def complete(
        self, networks: Networks, images: Tensor, known: Tensor, labels: Tensor | None, noise: Noise,
        options: RenderOptions,
    ) -> Tensor:  # fmt: skip
        raise NotImplementedError("autoregressive has no complete")

    def predict(
        self, networks: Networks, frames: Tensor, count: int, labels: Tensor | None, noise: Noise,
        options: RenderOptions,
    ) -> Tensor:  # fmt: skip
        raise NotImplementedError("autoregressive has no predict")


@dataclass(frozen=True)
class Entry:
    """One line of the `NETWORKS` table: the class of the network's settings, how its kind works, and the network."""

    config: type[Config]
    method: type[Method]
    network: MakesNetwork
