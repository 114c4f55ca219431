"""The contract between a family and everything that trains, samples, judges and edits. Nothing here is concrete."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from zeuxis.config import Config, ImageSpec, override
from zeuxis.errors import UserError

Networks = Mapping[str, nn.Module]
Noise = dict[str, Tensor]
Settings = dict[str, dict[str, Any]]

CAPABILITIES = ("encode", "decode", "reconstruct", "log_likelihood", "complete", "predict", "classify")


class TrainingConfig(Config):
    """How any network is trained: what the loop itself needs to know. Lengths are shares of the run, so that a shorter
    budget keeps the shape of every schedule."""

    batch: int = Field(default=64, ge=1, le=65536)
    learning_rate: float = Field(default=1e-3, gt=0, le=1)
    learning_rate_end: float = Field(default=0.0, ge=0, le=1)  # as a share of `learning_rate`, reached by a cosine
    warmup: float = Field(default=0.0, ge=0, lt=1)  # share of the run over which the rate rises from zero
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.999, ge=0, lt=1)
    epsilon: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.0, ge=0, le=1)  # of matrices and kernels only, times the rate (AdamW)
    clip_norm: float = Field(default=0.0, ge=0)  # a longer gradient of a phase is scaled down to this length; 0: never
    clip_update: float = Field(default=0.0, ge=0)  # a tensor's Adam step of a larger RMS is scaled down to it; 0: never
    skip_norm: float = Field(default=0.0, ge=0)  # a step is left out at so many times the usual length; 0: never
    ema: float = Field(default=0.03, ge=0, lt=1)  # half-life of the averaged weights; 0 switches averaging off
    ema_ramp: float = Field(default=0.1, gt=0, le=1)  # the half-life is at most this share of the images seen so far
    kimg: int = Field(default=1000, ge=1)  # length of a run for which neither --budget nor --kimg was given

    @model_validator(mode="after")
    def _longer_than_usual(self) -> TrainingConfig:
        if 0 < self.skip_norm <= 1:
            next_step = "8 leaves out steps whose gradient is 8 times as long as usual"
            raise UserError("--set training.skip_norm", self.skip_norm, "0 (never) or above 1", next_step)
        return self


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One optimiser step of one part: `parts` are the names of the networks whose parameters it moves, `interval` how
    many steps of the loop there are to one of this phase."""

    name: str
    parts: tuple[str, ...]
    interval: int = 1


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A part of a training that follows another; `share` is its part of the budget (all stages sum to 1).

    With `codes`, the loop asks `Family.codes` for the codes of every training picture once, at the stage's start, and
    the stage's batches carry them. The first stage has none.
    """

    name: str
    phases: tuple[Phase, ...]
    share: float = 1.0
    codes: bool = False

    def phases_at(self, step: int) -> tuple[Phase, ...]:
        """The phases that are due at step `step` of the stage, counted from 0."""
        return tuple(phase for phase in self.phases if step % phase.interval == 0)


@dataclass(frozen=True)
class Batch:
    """Pictures of one step: `images` float `[-1, 1]` `[N, C, H, W]` (with frames `[N, T, C, H, W]`), `labels` int64
    `[N]`, or None without classes, `codes` `[N, ...]` as `Family.codes` made them, or None in a stage without.

    `labelled` are as many pictures of those that have a class, for a family that is `semi_supervised`, else None.
    `held_out` are as many validation pictures, for a family that `watches_validation`, else None.
    """

    images: Tensor
    labels: Tensor | None = None
    codes: Tensor | None = None
    labelled: Batch | None = None
    held_out: Batch | None = None

    def slice(self, start: int, stop: int) -> Batch:
        """Pictures `start` to `stop` of the batch."""
        return self.map(lambda each: each[start:stop])

    def map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """The batch with every tensor changed."""
        labels = None if self.labels is None else change(self.labels)
        codes = None if self.codes is None else change(self.codes)
        labelled = None if self.labelled is None else self.labelled.map(change)
        held_out = None if self.held_out is None else self.held_out.map(change)
        return Batch(change(self.images), labels, codes, labelled, held_out)

    def tensors(self) -> list[Tensor]:
        """Every tensor, in an order that the same kind of batch always has."""
        own = [each for each in (self.images, self.labels, self.codes) if each is not None]
        beside = [each for each in (self.labelled, self.held_out) if each is not None]
        return own + [tensor for each in beside for tensor in each.tensors()]


@dataclass(frozen=True, kw_only=True)
class RenderOptions:
    """What a user can turn when sampling: `truncation` (GAN) and `temperature` (VAE) scale the noise, 1 leaves it; of
    autoregressive networks `temperature` sharpens what each element is drawn from. Tokens are drawn of the `top_k` most
    probable (0: of all), of the fewest with probability `top_p` together, and `guidance` above 1 moves them towards
    what tells their class from others."""

    truncation: float = 1.0
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    guidance: float = 1.0
    prior: Literal["fitted", "standard"] = "fitted"  # of a VAE: the one fitted after training, or the plain N(0, I)


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A named, complete set of settings of a network, and one line about what it is for."""

    settings: Settings
    about: str


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a family may choose settings by: how many pictures there are for training and validation, the machine, and
    the length in `seconds` or `images` shown where one was given. `seam`: by how much more the pictures differ across
    the edges that shall meet than inside (1: the edges do meet, or none shall)."""

    pictures: int
    validation: int
    spec: ImageSpec
    accelerator: bool = False
    seconds: float | None = None
    images: float | None = None
    semi_supervised: bool = False
    seam: float = 1.0


@dataclass(frozen=True)
class Chosen:
    """One setting (a dotted key) that was chosen, and why; `also` are settings that belong to it. It gives way where
    the user set one of them, or one that begins with one of `yields_to`."""

    key: str
    value: Any
    why: str
    also: Mapping[str, Any] = field(default_factory=dict)
    yields_to: tuple[str, ...] = ()

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that it sets."""
        return {self.key: self.value, **self.also}

    def yields(self, asked: Iterable[str]) -> bool:
        """Whether it gives way to the settings that were asked for."""
        return any(key in self.settings or key.startswith(self.yields_to or ("\n",)) for key in asked)


class Family(ABC):
    """How a model is trained and sampled: a method bound to its settings, an image spec and a number of classes.

    Holds no weights and no state; networks are passed in, so the same method serves training, the averaged copy and
    a loaded model folder.
    """

    name: ClassVar[str]
    capabilities: frozenset[str] = frozenset()  # of a model with these settings
    render_options: ClassVar[tuple[str, ...]] = ()
    watch: ClassVar[Mapping[str, str]] = {}  # for the watchdog: its words -> `phase/term`, see docs/watchdog.md
    steadying: ClassVar[tuple[str, ...]] = ()  # settings that are doubled after a rollback (weights of penalties)
    context: int = 0  # frames of a clip that are given in training and judging; 0 for a network of pictures

    def __init__(self, network: str, settings: Settings, spec: ImageSpec, classes: int = 0) -> None:
        self.network, self.spec, self.classes = network, spec, classes
        self.training: TrainingConfig

    # -- tables ----------------------------------------------------------------------------------------------------
    @classmethod
    @abstractmethod
    def presets(cls) -> Mapping[str, Mapping[str, Preset]]:
        """`{network: {preset: Preset}}`; the first network and each network's first preset are the defaults."""

    @classmethod
    def clip_length(cls, network: str) -> int:
        """Frames of a usual clip for a network over frames; 1 for a network of pictures."""
        return 1

    @classmethod
    def choose(cls, facts: Facts, network: str | None, preset: bool) -> tuple[str, list[Chosen]]:
        """The network, and settings over its first preset, where these were left open.

        `network` is the one that was asked for, or None; `preset` says that one of its presets was named too.
        """
        return network or next(iter(cls.presets())), []

    def steadied(self, rollbacks: int) -> Family:
        """The same method after so many rollbacks: half the learning rate and twice the penalty for each."""
        if not rollbacks:
            return self
        changed: dict[str, float] = {"training.learning_rate": self.training.learning_rate * 0.5**rollbacks}
        for dotted in self.steadying:
            value: Any = self.settings
            for key in dotted.split("."):
                value = value[key]
            changed[dotted] = value * 2**rollbacks
        return type(self)(self.network, override(self.settings, changed), self.spec, self.classes)

    # -- building --------------------------------------------------------------------------------------------------
    @property
    @abstractmethod
    def settings(self) -> Settings:
        """The complete, checked settings as plain JSON values."""

    @abstractmethod
    def build(self) -> dict[str, nn.Module]:
        """Fresh networks by part name, initialised from torch's global generator (seed it first)."""

    @property
    @abstractmethod
    def model_parts(self) -> tuple[str, ...]:
        """Parts that are averaged and written into the model folder."""

    @property
    def fitted_parts(self) -> tuple[str, ...]:
        """Parts of the model that no phase moves, because `fit` sets them (a prior fitted after training)."""
        return ()

    @abstractmethod
    def stages(self) -> list[Stage]:
        """The stages in order."""

    @property
    def semi_supervised(self) -> bool:
        """Whether it learns to tell `classes` apart from some pictures with a class beside all pictures without:
        batches carry `labelled` and no labels, and no picture is made of a class."""
        return False

    @property
    def watches_validation(self) -> bool:
        """Whether batches carry `held_out` pictures, which it looks at and does not learn from."""
        return False

    @property
    def conditional(self) -> bool:
        """Whether a picture is made of a class: batches and `render` come with labels."""
        return self.classes > 0 and not self.semi_supervised

    @property
    def batch_coupled(self) -> str:
        """Why the pictures of a batch influence each other (batch normalisation, ...), or "" where they do not."""
        return ""

    @property
    def exact_likelihood(self) -> bool:
        """Whether `log_likelihood` is log p of the 8-bit levels itself, and not a bound or a density."""
        return False

    @property
    def chosen_by_nats(self) -> bool:
        """Whether snapshots are compared by `nats` of validation pictures rather than by samples."""
        return self.exact_likelihood

    @property
    def likelihood_unit(self) -> str:
        """What `log_likelihood` is of (or bounds): `continuous` is a density on the [-1, 1] scale, `discrete` the
        probability of the 8-bit levels, `none` neither."""
        return "discrete" if self.exact_likelihood else "none"

    @property
    def steps_per_picture(self) -> int:
        """How many passes of a network, one after the other, one picture takes to be drawn."""
        return 1

    # -- training --------------------------------------------------------------------------------------------------
    @abstractmethod
    def losses(
        self, phase: Phase, networks: Networks, batch: Batch, noise: Noise, progress: float | Tensor
    ) -> dict[str, Tensor]:
        """Terms of `phase` for a batch, each `[N]` or scalar, float32. `loss` is minimised, the others are logged.

        `progress` is the share of the run that is done, 0 to 1, for schedules (`schedules.py`); a scalar on the device
        where the step is recorded. Nothing here waits for the device or makes a tensor from Python's numbers.
        """

    def after_step(self, phase: Phase, networks: Networks, batch: Batch) -> None:
        """Updates buffers that are not trained by gradient (moving averages, codebooks). Default: none."""
        return

    def codes(self, stage: Stage, networks: Networks, images: Tensor, labels: Tensor | None) -> Tensor:
        """What a stage with `codes` trains on instead of pictures, `[N, ...]`; integers up to 65,535 or floats.

        `networks` are all parts, averaged where there is an average; no phase of this stage or a later one may move
        what is used here. The same pictures have the same codes: nothing is drawn.
        """
        raise NotImplementedError(f"{self.name} has no stage with codes")

    def fit(self, networks: Networks, batches: Callable[[], Iterator[Batch]], seed: int) -> None:
        """Sets `fitted_parts` of the averaged networks from training pictures, before every snapshot of the last
        stage. Default: none.

        `networks` are all parts, averaged where there is an average. `batches()` goes once through (at most 10,000 of)
        the training pictures, never mirrored, with codes in a stage that has them.
        """
        return

    # -- sampling --------------------------------------------------------------------------------------------------
    @abstractmethod
    def noise(self, count: int, generator: torch.Generator, purpose: Literal["train", "sample"]) -> Noise:
        """Everything random that `count` pictures need, float32, first axis `count`; on the CPU, or in a block
        `with generator.device:` there."""

    @abstractmethod
    def render(self, networks: Networks, noise: Noise, labels: Tensor | None, options: RenderOptions) -> Tensor:
        """Pictures float `[-1, 1]` `[N, C, H, W]` from noise; pure and differentiable."""

    # -- capabilities, asked for by name in `capabilities` ---------------------------------------------------------
    def encode(self, networks: Networks, images: Tensor, labels: Tensor | None) -> Tensor:
        """Latent codes `[N, ...]` of pictures float `[-1, 1]`."""
        raise NotImplementedError(f"{self.name} has no encode")

    def decode(self, networks: Networks, codes: Tensor, labels: Tensor | None) -> Tensor:
        """Pictures float `[-1, 1]` of latent codes."""
        raise NotImplementedError(f"{self.name} has no decode")

    def reconstruct(self, networks: Networks, images: Tensor, labels: Tensor | None) -> Tensor:
        """Pictures through the model and back, float `[-1, 1]`."""
        return self.decode(networks, self.encode(networks, images, labels), labels)

    def log_likelihood(
        self, networks: Networks, images: Tensor, labels: Tensor | None, generator: torch.Generator, samples: int = 1
    ) -> Tensor:
        """Log likelihood in nats (or a lower bound of it, as the family states) `[N]`."""
        raise NotImplementedError(f"{self.name} has no log_likelihood")

    def nats(self, networks: Networks, images: Tensor, labels: Tensor | None) -> Tensor:
        """What the last stage minimises of given pictures, nats `[N]`, of a family that is `chosen_by_nats`."""
        raise NotImplementedError(f"{self.name} is not chosen by nats")

    def complete(
        self, networks: Networks, images: Tensor, known: Tensor, labels: Tensor | None, noise: Noise,
        options: RenderOptions,
    ) -> Tensor:  # fmt: skip
        """Pictures float `[-1, 1]` that are `images` where `known` (bool `[N, 1, H, W]`) and drawn elsewhere."""
        raise NotImplementedError(f"{self.name} has no complete")

    def completion_weight(
        self, networks: Networks, images: Tensor, known: Tensor, labels: Tensor | None
    ) -> Tensor:  # fmt: skip
        """Log probability in nats `[N]` of what of `images` is `known`, each element given all before it: the weight
        of a draw of `complete` among others, of a family that completes and has an `exact_likelihood`."""
        raise NotImplementedError(f"{self.name} has no completion_weight")

    def predict(
        self, networks: Networks, frames: Tensor, count: int, labels: Tensor | None, noise: Noise,
        options: RenderOptions,
    ) -> Tensor:  # fmt: skip
        """The next `count` frames float `[-1, 1]` `[N, count, C, H, W]` after `frames` `[N, T, C, H, W]`."""
        raise NotImplementedError(f"{self.name} has no predict")

    def classify(self, networks: Networks, images: Tensor) -> Tensor:
        """Logits `[N, classes]` of pictures float `[-1, 1]`."""
        raise NotImplementedError(f"{self.name} has no classify")
