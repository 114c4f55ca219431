"""What a VAE network is to its family: a configuration, an encoder and a decoder with fixed call signatures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from torch import nn

from zeuxis.config import Config, ImageSpec


class LatentConfig(Config):
    """What every VAE network's configuration has: the number of latents."""

    latent: int


class MakesNetwork(Protocol):
    """Encoder: `(images [N, C, H, W], labels) -> (mean, log variance)`, each `[N, latent]`; decoder:
    `(z [N, latent], labels) -> [N, C, H, W]`, the parameter of p(x|z) before the likelihood's own link function."""

    def __call__(self, config: Any, spec: ImageSpec, classes: int) -> nn.Module: ...


@dataclass(frozen=True)
class NetworkPair:
    """One line of the `NETWORKS` table."""

    config: type[LatentConfig]
    encoder: MakesNetwork
    decoder: MakesNetwork
