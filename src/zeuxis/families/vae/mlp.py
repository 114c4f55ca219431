"""Fully connected encoder and decoder (Kingma & Welling 2013, appendix C), and the article's 784-256-784 network."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from zeuxis.config import ImageSpec
from zeuxis.families.vae.pair import LatentConfig


class MlpConfig(LatentConfig):
    """`hidden` units in each of `layers` hidden layers, on both sides."""

    latent: int = Field(default=32, ge=1, le=65536)
    hidden: int = Field(default=256, ge=1, le=65536)
    layers: int = Field(default=1, ge=1, le=16)


def hidden_layers(inputs: int, config: MlpConfig) -> nn.ModuleList:
    """The hidden linear layers, each followed by ReLU in `forward`."""
    sizes = [inputs] + [config.hidden] * config.layers
    return nn.ModuleList(nn.Linear(before, after) for before, after in zip(sizes[:-1], sizes[1:], strict=True))


class Encoder(nn.Module):
    """Pictures `[N, C, H, W]` (and labels) -> mean and log variance of q(z|x), each `[N, latent]`."""

    def __init__(self, config: MlpConfig, spec: ImageSpec, classes: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(classes, config.hidden) if classes else None
        self.hidden = hidden_layers(spec.size, config)
        self.to_latent = nn.Linear(config.hidden, 2 * config.latent)

    def forward(self, images: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        x = images.flatten(1)
        for index, layer in enumerate(self.hidden):
            x = layer(x)
            if index == 0 and self.embed is not None:
                x = x + self.embed(labels)
            x = F.relu(x)
        mean, log_variance = self.to_latent(x).float().chunk(2, dim=1)
        return mean, log_variance


class Decoder(nn.Module):
    """Latents `[N, latent]` (and labels) -> `[N, outputs, H, W]` before the likelihood's link function."""

    def __init__(self, config: MlpConfig, spec: ImageSpec, classes: int, outputs: int) -> None:
        super().__init__()
        self.shape = outputs, spec.height, spec.width
        self.embed = nn.Embedding(classes, config.hidden) if classes else None
        self.hidden = hidden_layers(config.latent, config)
        self.to_picture = nn.Linear(config.hidden, outputs * spec.height * spec.width)

    def forward(self, z: Tensor, labels: Tensor | None) -> Tensor:
        x = z
        for index, layer in enumerate(self.hidden):
            x = layer(x)
            if index == 0 and self.embed is not None:
                x = x + self.embed(labels)
            x = F.relu(x)
        return torch.unflatten(self.to_picture(x), 1, self.shape)
