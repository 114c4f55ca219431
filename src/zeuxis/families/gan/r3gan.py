"""R3GAN (Huang et al. 2024, arXiv 2501.05441): residual networks without normalisation, of grouped bottleneck blocks.

A block is 1x1, grouped 3x3, 1x1 convolution with an inverted bottleneck (its inside is `expansion` times as wide), the
last one zero at the start (section 4 and appendix). Resampling is bilinear, [1, 2, 1]. Neither network has styles,
noise inputs, output skips or equalised learning rates. Grouped convolutions suit GPUs; on a CPU `resnet` is faster.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from zeuxis.config import ImageSpec
from zeuxis.families.gan.pair import FeatureDiscriminator, LatentConfig, LatentGenerator, ProjectionHead, z_as_latent
from zeuxis.nn.bound import bounded, premultiplied
from zeuxis.nn.conv import Conv2d, base_sides, halvings, wrap_pad
from zeuxis.nn.resample import downsample, upsample
from zeuxis.nn.residual import LEAK, fixup_gain, scaled_normal_

LAYERS = 3  # in a block


class R3ganConfig(LatentConfig):
    """`width` is the number of channels beside the picture; it doubles with every halving up to `max_width`. `blocks`
    residual blocks stand on each grid; their 3x3 convolutions have groups of `group_width` channels."""

    latent: int = Field(default=64, ge=1, le=4096)
    width: int = Field(default=128, ge=4, le=4096)
    max_width: int = Field(default=256, ge=4, le=4096)
    blocks: int = Field(default=2, ge=1, le=16)
    expansion: int = Field(default=2, ge=1, le=8)
    group_width: int = Field(default=16, ge=1, le=4096)

    def widths(self, spec: ImageSpec) -> list[int]:
        """Channels on each grid, the finest first."""
        return [min(self.width * 2**level, self.max_width) for level in range(halvings(spec) + 1)]


class GroupedConv2d(nn.Conv2d):
    """3x3 in groups of channels, without bias, with circular padding per axis."""

    def __init__(self, channels: int, group_width: int, *, wrap: tuple[bool, bool]) -> None:
        # As many groups as divide the channels, at least `group_width` wide.
        groups = next(count for count in range(max(1, channels // group_width), 0, -1) if channels % count == 0)
        super().__init__(channels, channels, 3, padding=1, groups=groups, bias=False)
        self.wrap = wrap

    def forward(self, x: Tensor) -> Tensor:
        if any(self.wrap):
            return F.conv2d(wrap_pad(x, 1, *self.wrap), self.weight, groups=self.groups)
        return F.conv2d(x, self.weight, padding=1, groups=self.groups)


class Bottleneck(nn.Module):
    """x + 1x1(act(grouped 3x3(act(1x1(x)) + b)) + b): the identity at the start."""

    def __init__(self, channels: int, config: R3ganConfig, *, gain: float, wrap: tuple[bool, bool]) -> None:
        super().__init__()
        inside = channels * config.expansion
        self.widen = Conv2d(channels, inside, 1)
        self.mix = GroupedConv2d(inside, config.group_width, wrap=wrap)
        self.bias = nn.Parameter(torch.zeros(inside))  # of the second activation
        self.narrow = Conv2d(inside, channels, 1, bias=False)
        scaled_normal_(self.widen, gain)
        scaled_normal_(self.mix, gain)
        scaled_normal_(self.narrow, 0.0)

    def forward(self, x: Tensor) -> Tensor:
        y = self.mix(F.leaky_relu(self.widen(x), LEAK))
        y = F.leaky_relu(y + self.bias[:, None, None].to(y.dtype), LEAK)
        return x + self.narrow(y)


def stages(widths: list[int], config: R3ganConfig, wrap: tuple[bool, bool]) -> nn.ModuleList:
    """Blocks of each grid, in the order of `widths`."""
    gain = fixup_gain(config.blocks * len(widths), LAYERS)
    return nn.ModuleList(
        nn.Sequential(*(Bottleneck(width, config, gain=gain, wrap=wrap) for _ in range(config.blocks)))
        for width in widths
    )


def changes(widths: list[int]) -> nn.ModuleList:
    """From each grid's number of channels to the next one's: 1x1 where they differ."""
    layers = [
        nn.Identity() if width == following else Conv2d(width, following, 1, bias=False)
        for width, following in zip(widths[:-1], widths[1:], strict=True)
    ]
    for layer in layers:
        if not isinstance(layer, nn.Identity):
            scaled_normal_(layer, 1.0)
    return nn.ModuleList(layers)


class Generator(LatentGenerator):
    """Noise `[N, latent]` (and labels `[N]`) -> pictures `[N, C, H, W]` in [-1, 1] (the paper's has no tanh)."""

    def __init__(self, config: R3ganConfig, spec: ImageSpec, classes: int) -> None:
        super().__init__()
        self.spec, self.straight, self.wrap = spec, config.straight, (spec.wrap_x, spec.wrap_y)
        widths = config.widths(spec)[::-1]
        self.embed = nn.Embedding(classes, 64) if classes else None
        # A learned picture of the coarsest grid, scaled channel by channel by the noise.
        self.basis = nn.Parameter(torch.randn(1, widths[0], *base_sides(spec, len(widths) - 1)))
        self.project = nn.Linear(config.latent + (64 if classes else 0), widths[0], bias=False)
        self.stages, self.changes = stages(widths, config, self.wrap), changes(widths)
        self.to_picture = Conv2d(widths[-1], spec.channels, 1)
        scaled_normal_(self.project, 1.0)
        scaled_normal_(self.to_picture, 1.0)

    def map(self, z: Tensor, labels: Tensor | None, truncation: float = 1.0) -> Tensor:
        return z_as_latent(z, self.embed, labels, truncation)

    def synthesise(self, w: Tensor, noise: Tensor | None = None) -> Tensor:
        x = self.project(w[:, 0])[:, :, None, None] * self.basis
        x = self.stages[0](x.contiguous(memory_format=torch.channels_last))
        for change, stage in zip(self.changes, self.stages[1:], strict=True):
            x = stage(upsample(change(x), self.wrap))
        x = bounded(self.to_picture(x)[:, :, : self.spec.height, : self.spec.width].float())
        return premultiplied(x) if self.straight else x


class Discriminator(FeatureDiscriminator):
    """Pictures `[N, C, H, W]` (and labels `[N]`) -> logits `[N]`, positive for real."""

    def __init__(self, config: R3ganConfig, spec: ImageSpec, classes: int) -> None:
        super().__init__()
        self.wrap = (spec.wrap_x, spec.wrap_y)
        widths = config.widths(spec)
        base, factor = base_sides(spec, len(widths) - 1), 2 ** (len(widths) - 1)
        self.padding = (0, base[1] * factor - spec.width, 0, base[0] * factor - spec.height)
        self.from_picture = Conv2d(spec.channels, widths[0], 1)
        self.stages, self.changes = stages(widths, config, self.wrap), changes(widths)
        # The mirror of the generator's basis: one weight per channel and place, summed over places.
        self.basis = nn.Parameter(torch.randn(1, widths[-1], *base) / (base[0] * base[1]) ** 0.5)
        self.head = ProjectionHead(widths[-1], classes, bias=False)
        scaled_normal_(self.from_picture, 1.0)
        scaled_normal_(self.head.linear, 1.0)

    def features(self, images: Tensor) -> Tensor:
        if any(self.padding):
            images = F.pad(images, self.padding)
        x = self.stages[0](self.from_picture(images.contiguous(memory_format=torch.channels_last)))
        for change, stage in zip(self.changes, self.stages[1:], strict=True):
            x = stage(change(downsample(x, self.wrap)))
        return (x.float() * self.basis.float()).sum(dim=(2, 3))
