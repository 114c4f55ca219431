"""Dense residual networks without normalisation, made for CPUs.

The recipe is that of R3GAN (Huang et al. 2024, arXiv 2501.05441): no normalisation, residual blocks that start as the
identity, the relativistic loss with R1 and R2. The blocks are dense 3x3 convolutions, which a CPU computes several
times as fast as grouped ones. Resampling is [1, 3, 3, 1], under which all pixels of the finer grid vary alike. Both
networks work on patches of the picture (`patch` pixels a side become channels), so that no convolution starts from one
channel at full size.
"""

from __future__ import annotations

import math
from typing import Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from zeuxis.config import ImageSpec
from zeuxis.families.gan.pair import FeatureDiscriminator, LatentConfig, LatentGenerator, ProjectionHead, z_as_latent
from zeuxis.nn.bound import bounded, premultiplied
from zeuxis.nn.conv import Conv2d, base_sides, halvings
from zeuxis.nn.resample import blur, depth_to_space, downsample, space_to_depth, upsample
from zeuxis.nn.residual import GAIN, LEAK, ResidualBlock, fixup_gain, scaled_normal_


class ResnetConfig(LatentConfig):
    """`width` is the number of channels on the finest grid, which has one pixel for `patch` x `patch` of the picture.

    It doubles with every halving up to `max_width`. `blocks` residual blocks stand on each grid. The generator is
    `generator_scale` times as wide: the discriminator sees each picture several times in a step, the generator once.
    """

    latent: int = Field(default=64, ge=1, le=4096)
    width: int = Field(default=32, ge=4, le=1024)
    max_width: int = Field(default=128, ge=4, le=4096)
    blocks: int = Field(default=1, ge=1, le=16)
    patch: Literal[1, 2, 4] = 2
    generator_scale: float = Field(default=1.0, ge=0.25, le=8)

    def grids(self, spec: ImageSpec) -> int:
        """How many sizes of feature map there are."""
        return max(1, halvings(spec) - round(math.log2(self.patch)) + 1)

    def widths(self, spec: ImageSpec) -> list[int]:
        """Channels on each grid, the finest first."""
        return [min(self.width * 2**level, self.max_width) for level in range(self.grids(spec))]

    def base(self, spec: ImageSpec) -> tuple[int, int]:
        """Height and width of the coarsest grid."""
        return base_sides(spec, self.grids(spec) - 1 + round(math.log2(self.patch)))


class Generator(LatentGenerator):
    """Noise `[N, latent]` (and labels `[N]`) -> pictures `[N, C, H, W]` in [-1, 1]."""

    def __init__(self, config: ResnetConfig, spec: ImageSpec, classes: int) -> None:
        super().__init__()
        self.spec, self.straight, self.base = spec, config.straight, config.base(spec)
        self.wrap = (spec.wrap_x, spec.wrap_y)
        widths = [max(4, round(config.generator_scale * width)) for width in config.widths(spec)[::-1]]
        gain = fixup_gain(config.blocks * len(widths), layers=2)
        self.embed = nn.Embedding(classes, 64) if classes else None
        self.project = nn.Linear(config.latent + (64 if classes else 0), widths[0] * self.base[0] * self.base[1])
        self.stages = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(width, gain=gain, wrap=self.wrap) for _ in range(config.blocks)))
            for width in widths
        )
        self.narrows = nn.ModuleList(
            Conv2d(width, following, 1) if width != following else nn.Identity()
            for width, following in zip(widths[:-1], widths[1:], strict=True)
        )
        # From patches to pixels by halves, each time to half the channels, and a last look over the patches' edges.
        thin = [max(4, widths[-1] // 2**level) for level in range(round(math.log2(config.patch)) + 1)]
        self.unfolds = nn.ModuleList(
            Conv2d(width, 4 * following, 3, padding=1, wrap=self.wrap)
            for width, following in zip(thin[:-1], thin[1:], strict=True)
        )
        self.to_picture = Conv2d(thin[-1], spec.channels, 3, padding=1, wrap=self.wrap)
        for layer in (self.project, *self.narrows):
            if not isinstance(layer, nn.Identity):
                scaled_normal_(layer, 1.0)
        for layer in (*self.unfolds, self.to_picture):
            scaled_normal_(layer, GAIN)
        for layer in self.unfolds:
            # The pixels of a patch start equal, without a pattern (Aitken et al. 2017, arXiv 1707.02937).
            kernels = layer.get_parameter("weight").data.unflatten(0, (4, -1))
            kernels.copy_(kernels[:1].clone().expand_as(kernels))

    def map(self, z: Tensor, labels: Tensor | None, truncation: float = 1.0) -> Tensor:
        return z_as_latent(z, self.embed, labels, truncation)

    def synthesise(self, w: Tensor, noise: Tensor | None = None) -> Tensor:
        # Channels come last in the projection, so that its output is channels_last in memory without a copy.
        x = self.project(w[:, 0]).unflatten(1, (*self.base, -1)).permute(0, 3, 1, 2)  # [N, C, h, w]
        x = self.stages[0](x)
        for narrow, stage in zip(self.narrows, self.stages[1:], strict=True):
            x = stage(upsample(narrow(x), self.wrap, taps=4))
        for unfold in self.unfolds:
            # The filter that follows a zero-filled finer grid in `upsample`, here after pixels of their own: without it
            # the pixels of a patch drift apart and leave a pattern.
            x = blur(depth_to_space(unfold(F.leaky_relu(x, LEAK)), 2), self.wrap)
        x = self.to_picture(F.leaky_relu(x, LEAK))
        x = bounded(x[:, :, : self.spec.height, : self.spec.width].float())
        return premultiplied(x) if self.straight else x


class Discriminator(FeatureDiscriminator):
    """Pictures `[N, C, H, W]` (and labels `[N]`) -> logits `[N]`, positive for real."""

    def __init__(self, config: ResnetConfig, spec: ImageSpec, classes: int) -> None:
        super().__init__()
        self.patch, self.wrap = config.patch, (spec.wrap_x, spec.wrap_y)
        base, widths = config.base(spec), config.widths(spec)
        factor = config.patch * 2 ** (len(widths) - 1)
        self.padding = (0, base[1] * factor - spec.width, 0, base[0] * factor - spec.height)
        gain = fixup_gain(config.blocks * len(widths), layers=2)
        self.from_picture = Conv2d(spec.channels * self.patch**2, widths[0], 3, padding=1, wrap=self.wrap)
        self.stages = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(width, gain=gain, wrap=self.wrap) for _ in range(config.blocks)))
            for width in widths
        )
        self.widens = nn.ModuleList(
            Conv2d(width, following, 1) if width != following else nn.Identity()
            for width, following in zip(widths[:-1], widths[1:], strict=True)
        )
        self.head = ProjectionHead(widths[-1] * base[0] * base[1], classes, bias=False)
        for layer in (self.from_picture, *self.widens, self.head.linear):
            if not isinstance(layer, nn.Identity):
                scaled_normal_(layer, GAIN if layer is self.head.linear else 1.0)

    def features(self, images: Tensor) -> Tensor:
        if any(self.padding):
            images = F.pad(images, self.padding)
        x = self.stages[0](self.from_picture(space_to_depth(images, self.patch)))
        for widen, stage in zip(self.widens, self.stages[1:], strict=True):
            x = stage(widen(downsample(x, self.wrap, taps=4)))
        return F.leaky_relu(x, LEAK).permute(0, 2, 3, 1).flatten(1)
