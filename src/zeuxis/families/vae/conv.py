"""Convolutional encoder and decoder: residual 3x3 blocks between halvings, no normalisation, any multiple of 4."""

from __future__ import annotations

import math

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from zeuxis.config import ImageSpec
from zeuxis.families.vae.pair import LatentConfig
from zeuxis.nn.conv import Conv2d, UpConv2d, base_sides, halvings


class ConvConfig(LatentConfig):
    """`width` is the number of channels beside the picture; it doubles with every halving up to `max_width`."""

    latent: int = Field(default=64, ge=1, le=65536)
    width: int = Field(default=32, ge=4, le=1024)
    max_width: int = Field(default=128, ge=4, le=4096)
    blocks: int = Field(default=1, ge=0, le=16)  # residual blocks after each halving or doubling


class ResidualBlock(nn.Module):
    """x + conv(silu(conv(silu(x)))); the last convolution starts at zero, so that depth costs nothing at first."""

    def __init__(self, width: int, wrap: tuple[bool, bool]) -> None:
        super().__init__()
        self.first = Conv2d(width, width, 3, padding=1, wrap=wrap)
        self.second = Conv2d(width, width, 3, padding=1, wrap=wrap)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.silu(self.first(F.silu(x))))


def channels(config: ConvConfig, count: int) -> list[int]:
    """Channels after each halving, the one beside the picture first."""
    return [min(config.width * 2**level, config.max_width) for level in range(count)]


class Encoder(nn.Module):
    """Pictures `[N, C, H, W]` (and labels) -> mean and log variance of q(z|x), each `[N, latent]`."""

    def __init__(self, config: ConvConfig, spec: ImageSpec, classes: int) -> None:
        super().__init__()
        levels = max(1, halvings(spec))
        base, widths, wrap = base_sides(spec, levels), channels(config, levels), (spec.wrap_x, spec.wrap_y)
        self.padding = base[0] * 2**levels - spec.height, base[1] * 2**levels - spec.width
        self.embed = nn.Embedding(classes, widths[0]) if classes else None
        inputs = [spec.channels, *widths[:-1]]
        self.downs = nn.ModuleList(
            Conv2d(before, after, 4, stride=2, padding=1, wrap=wrap)
            for before, after in zip(inputs, widths, strict=True)
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(width, wrap) for _ in range(config.blocks))) for width in widths
        )
        self.to_latent = nn.Linear(widths[-1] * math.prod(base), 2 * config.latent)

    def forward(self, images: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        x = F.pad(images, (0, self.padding[1], 0, self.padding[0])) if any(self.padding) else images
        for level, (down, block) in enumerate(zip(self.downs, self.blocks, strict=True)):
            x = down(x if level == 0 else F.silu(x))
            if level == 0 and self.embed is not None:
                x = x + self.embed(labels)[:, :, None, None].to(x.dtype)
            x = block(x)
        mean, log_variance = self.to_latent(F.silu(x).permute(0, 2, 3, 1).flatten(1)).float().chunk(2, dim=1)
        return mean, log_variance


class Decoder(nn.Module):
    """Latents `[N, latent]` (and labels) -> `[N, outputs, H, W]` before the likelihood's link function."""

    def __init__(self, config: ConvConfig, spec: ImageSpec, classes: int, outputs: int) -> None:
        super().__init__()
        levels = max(1, halvings(spec))
        self.spec, self.base = spec, base_sides(spec, levels)
        widths, wrap = channels(config, levels)[::-1], (spec.wrap_x, spec.wrap_y)
        self.embed = nn.Embedding(classes, config.latent) if classes else None
        self.from_latent = nn.Linear(config.latent, widths[0] * math.prod(self.base))
        self.blocks = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(width, wrap) for _ in range(config.blocks))) for width in widths
        )
        after = [*widths[1:], outputs]
        self.ups = nn.ModuleList(UpConv2d(inner, outer, wrap=wrap) for inner, outer in zip(widths, after, strict=True))

    def forward(self, z: Tensor, labels: Tensor | None) -> Tensor:
        if self.embed is not None:
            z = z + self.embed(labels).to(z.dtype)
        # Channels come last in the projection, so that its output is channels_last in memory without a copy.
        x = self.from_latent(z).unflatten(1, (*self.base, -1)).permute(0, 3, 1, 2)  # [N, C, h, w]
        for block, up in zip(self.blocks, self.ups, strict=True):
            x = up(F.silu(block(x)))
        return x[:, :, : self.spec.height, : self.spec.width]
