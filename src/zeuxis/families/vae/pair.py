"""What a VAE network is to its family: one line of the `NETWORKS` table, a configuration and modules with fixed call
signatures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from torch import nn

from zeuxis.config import Config, ImageSpec
from zeuxis.nn.quantise import FSQ, VQ


class LatentConfig(Config):
    """What every configuration of a `NetworkPair` has: the number of latents."""

    latent: int

    @property
    def groups(self) -> tuple[int, ...]:
        """Latents in each group that the KL term is reported of, in the order of the encoder's output."""
        return (self.latent,)


class MakesEncoder(Protocol):
    """`(images [N, C, H, W], labels) -> (mean, log variance)`, each `[N, sum(groups)]`: q(z|x). A third tensor u of
    the same shape makes the precision of each group's normal diag(1 / variance) + u u^T."""

    def __call__(self, config: Any, spec: ImageSpec, classes: int) -> nn.Module: ...


class MakesDecoder(Protocol):
    """`(z [N, sum(groups)], labels) -> [N, outputs, H, W]`: the parameters of p(x|z) before the likelihood's own link
    function, of which a pixel has `outputs`."""

    def __call__(self, config: Any, spec: ImageSpec, classes: int, outputs: int) -> nn.Module: ...


@dataclass(frozen=True)
class NetworkPair:
    """A network of one vector of latents with prior N(0, I)."""

    config: type[LatentConfig]
    encoder: MakesEncoder
    decoder: MakesDecoder


@dataclass(frozen=True)
class NetworkLadder:
    """A hierarchy in which each group of latents depends on those above it, in q as in p. The encoder gives features
    of the picture; the decoder is a `zeuxis.families.vae.ladder.Decoder`, which walks from the top down."""

    config: type[Config]
    encoder: MakesEncoder
    decoder: MakesDecoder


class MakesQuantiser(Protocol):
    """A quantiser of what the encoder gives."""

    def __call__(self, config: Any) -> FSQ | VQ: ...


@dataclass(frozen=True)
class NetworkCodec:
    """A grid of whole-number tokens: `encoder(images, labels) -> [N, D, h, w]`, a quantiser of D channels, and
    `decoder(quantised, labels) -> [N, outputs, H, W]`."""

    config: type[Config]
    encoder: MakesEncoder
    quantiser: MakesQuantiser
    decoder: MakesDecoder


Network = NetworkPair | NetworkLadder | NetworkCodec
