"""What a GAN network is to its family: a configuration and two modules with fixed call signatures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zeuxis.config import Config, ImageSpec


class LatentConfig(Config):
    """What every GAN network's configuration has: the size of its noise vector and whether batches are coupled.

    With `straight`, a network for pictures with transparency makes colour and alpha each by itself and multiplies them
    at the end; without, it makes their product.
    """

    latent: int
    straight: bool = True

    @property
    def batch_coupled(self) -> str:
        """Why pictures of a batch influence each other, or ""."""
        return ""

    @property
    def remembers(self) -> bool:
        """Whether the discriminator keeps real pictures (the reference of virtual batch normalisation)."""
        return False

    @property
    def uniform_latent(self) -> bool:
        """Whether the noise is uniform in [-1, 1] instead of standard normal."""
        return False

    def noise_size(self, spec: ImageSpec) -> int:
        """How many standard normal values beside z the generator needs for one picture."""
        return 0

    @property
    def style_mixing(self) -> float:
        """The probability that a training picture takes its finer levels from a second z."""
        return 0.0

    @property
    def path_length(self) -> tuple[float, int]:
        """The weight of the path-length penalty on the generator (0: none) and the steps from one to the next."""
        return 0.0, 1


class LatentGenerator(nn.Module, ABC):
    """Noise to pictures in two halves; editing works on what lies between them."""

    @abstractmethod
    def map(self, z: Tensor, labels: Tensor | None, truncation: float = 1.0) -> Tensor:
        """Latents w `[N, L, W]`, one row per level from coarse to fine, of z `[N, latent]` and labels `[N]`.

        `truncation` below 1 moves them towards their mean.
        """

    @abstractmethod
    def synthesise(self, w: Tensor, noise: Tensor | None = None) -> Tensor:
        """Pictures `[N, C, H, W]` in [-1, 1], float32, of w `[N, L, W]` and `noise` `[N, LatentConfig.noise_size]`."""

    def forward(self, z: Tensor, labels: Tensor | None, noise: Tensor | None = None) -> Tensor:
        return self.synthesise(self.map(z, labels), noise)


class Head(nn.Module, ABC):
    """`size` features `[N, size]` (and labels `[N]`) -> logits `[N]`, positive for real, float32."""

    size: int

    @abstractmethod
    def forward(self, features: Tensor, labels: Tensor | None) -> Tensor: ...


class FeatureDiscriminator(nn.Module, ABC):
    """Pictures to logits in two halves: features, and a head on them. Techniques that look at features, or put another
    head on them, work with every network that is one (techniques.py)."""

    head: Head

    @abstractmethod
    def features(self, images: Tensor) -> Tensor:
        """Features `[N, head.size]` of pictures `[N, C, H, W]` in [-1, 1]."""

    def remember(self, images: Tensor) -> None:
        """Is shown the real pictures of a training step, before they are judged. Default: nothing."""
        return

    def forward(self, images: Tensor, labels: Tensor | None) -> Tensor:
        logits: Tensor = self.head(self.features(images), labels)
        return logits


def draw_latents(config: LatentConfig, count: int, generator: torch.Generator | None = None) -> Tensor:
    """z `[count, latent]`."""
    if config.uniform_latent:
        return torch.rand(count, config.latent, generator=generator) * 2 - 1
    return torch.randn(count, config.latent, generator=generator)


def z_as_latent(z: Tensor, embed: nn.Embedding | None, labels: Tensor | None, truncation: float) -> Tensor:
    """w `[N, 1, W]` of a network without a mapping: z, scaled, and beside it the embedding of the class."""
    z = z * truncation
    if embed is not None:
        z = torch.cat([z, embed(labels).to(z.dtype)], dim=1)
    return z[:, None]


class MakesGenerator(Protocol):
    """`config` is the network's own configuration class."""

    def __call__(self, config: Any, spec: ImageSpec, classes: int) -> LatentGenerator: ...


class MakesDiscriminator(Protocol):
    """`config` is the network's own configuration class."""

    def __call__(self, config: Any, spec: ImageSpec, classes: int) -> FeatureDiscriminator: ...


@dataclass(frozen=True)
class NetworkPair:
    """One line of the `NETWORKS` table."""

    config: type[LatentConfig]
    generator: MakesGenerator
    discriminator: MakesDiscriminator


class ProjectionHead(Head):
    """Features `[N, F]` -> logits `[N]`; with classes the projection discriminator (Miyato & Koyama 2018, Eq. 3):
    psi(f) + <embed(y), V f> / sqrt(dim), kept in float32 because the loss looks at differences of logits."""

    def __init__(self, features: int, classes: int, *, bias: bool, dim: int = 64) -> None:
        super().__init__()
        self.size = features
        # A relativistic loss sees differences of logits of one class, in which a bias cancels.
        self.linear = nn.Linear(features, 1 + (dim if classes else 0), bias=bias)
        self.embed = nn.Embedding(classes, dim) if classes else None

    def forward(self, features: Tensor, labels: Tensor | None) -> Tensor:
        # Not in bfloat16: a loss or a finite-difference penalty looks at small differences of logits.
        with torch.autocast(features.device.type, enabled=False):
            bias = None if self.linear.bias is None else self.linear.bias.float()
            out = F.linear(features.float(), self.linear.weight.float(), bias)
        if self.embed is None or labels is None:
            return out[:, 0]
        return out[:, 0] + (out[:, 1:] * self.embed(labels).float()).sum(1) / self.embed.embedding_dim**0.5
