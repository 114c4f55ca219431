"""Fully connected pair: the first GANs, and the article's 100-256-784 generator and 784-256-1 discriminator."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from zeuxis.config import ImageSpec
from zeuxis.families.gan.pair import FeatureDiscriminator, LatentConfig, LatentGenerator, ProjectionHead, z_as_latent
from zeuxis.nn.bound import premultiplied


class MlpConfig(LatentConfig):
    """`hidden` units in each of `layers` hidden layers, in both networks."""

    latent: int = Field(default=100, ge=1, le=4096)
    hidden: int = Field(default=256, ge=1, le=65536)
    layers: int = Field(default=1, ge=1, le=16)


def hidden_layers(inputs: int, config: MlpConfig) -> nn.ModuleList:
    """The hidden linear layers, each followed by an activation in `forward`."""
    sizes = [inputs] + [config.hidden] * config.layers
    return nn.ModuleList(nn.Linear(before, after) for before, after in zip(sizes[:-1], sizes[1:], strict=True))


class Generator(LatentGenerator):
    """Noise `[N, latent]` (and labels `[N]`) -> pictures `[N, C, H, W]` in [-1, 1]."""

    def __init__(self, config: MlpConfig, spec: ImageSpec, classes: int) -> None:
        super().__init__()
        self.spec, self.straight = spec, config.straight
        self.embed = nn.Embedding(classes, 64) if classes else None
        self.hidden = hidden_layers(config.latent + (64 if classes else 0), config)
        self.to_picture = nn.Linear(config.hidden, spec.size)

    def map(self, z: Tensor, labels: Tensor | None, truncation: float = 1.0) -> Tensor:
        return z_as_latent(z, self.embed, labels, truncation)

    def synthesise(self, w: Tensor, noise: Tensor | None = None) -> Tensor:
        x = w[:, 0]
        for layer in self.hidden:
            x = F.relu(layer(x))
        pictures = torch.tanh(self.to_picture(x).float()).unflatten(1, self.spec.shape)
        return premultiplied(pictures) if self.straight else pictures


class Discriminator(FeatureDiscriminator):
    """Pictures `[N, C, H, W]` (and labels `[N]`) -> logits `[N]`, positive for real."""

    def __init__(self, config: MlpConfig, spec: ImageSpec, classes: int) -> None:
        super().__init__()
        self.hidden = hidden_layers(spec.size, config)
        self.head = ProjectionHead(config.hidden, classes, bias=True)

    def features(self, images: Tensor) -> Tensor:
        x = images.flatten(1)
        for layer in self.hidden:
            x = F.leaky_relu(layer(x), 0.2)
        return x
