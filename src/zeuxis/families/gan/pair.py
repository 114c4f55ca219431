"""What a GAN network is to its family: a configuration and two modules with fixed call signatures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zeuxis.config import Config, ImageSpec


class LatentConfig(Config):
    """What every GAN network's configuration has: the size of its noise vector and whether batches are coupled."""

    latent: int

    @property
    def batch_coupled(self) -> str:
        """Why pictures of a batch influence each other, or ""."""
        return ""

    @property
    def uniform_latent(self) -> bool:
        """Whether the noise is uniform in [-1, 1] instead of standard normal."""
        return False


class MakesNetwork(Protocol):
    """Generator: `(z [N, latent], labels [N] or None) -> float [N, C, H, W]`; discriminator: `(images, labels) -> [N]`.

    `config` is the network's own configuration class.
    """

    def __call__(self, config: Any, spec: ImageSpec, classes: int) -> nn.Module: ...


@dataclass(frozen=True)
class NetworkPair:
    """One line of the `NETWORKS` table."""

    config: type[LatentConfig]
    generator: MakesNetwork
    discriminator: MakesNetwork


class ProjectionHead(nn.Module):
    """Features `[N, F]` -> logits `[N]`; with classes the projection discriminator (Miyato & Koyama 2018, Eq. 3):
    psi(f) + <embed(y), V f> / sqrt(dim), kept in float32 because the loss looks at differences of logits."""

    def __init__(self, features: int, classes: int, *, bias: bool, dim: int = 64) -> None:
        super().__init__()
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
