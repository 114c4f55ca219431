"""DCGAN (Radford, Metz, Chintala 2015, arXiv 1511.06434) for any size that is a multiple of 4.

Strided and transposed 4x4 convolutions, LeakyReLU 0.2 in the discriminator, ReLU in the generator, tanh output,
weights from N(0, 0.02). The paper's batch normalisation is an option per network: a discriminator under a gradient
penalty must do without, because the penalty is per picture and batch normalisation couples the pictures.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from zeuxis.config import ImageSpec
from zeuxis.families.gan.pair import (
    FeatureDiscriminator,
    LatentConfig,
    LatentGenerator,
    ProjectionHead,
    draw_latents,
    z_as_latent,
)  # fmt: skip
from zeuxis.families.gan.virtual_norm import Reference, VirtualBatchNorm2d
from zeuxis.nn.bound import premultiplied
from zeuxis.nn.conv import Conv2d, UpConv2d, base_sides, halvings
from zeuxis.nn.together import BatchNorm2d


class DcganConfig(LatentConfig):
    """`width` is the number of channels beside the picture; it doubles with every halving up to `max_width`."""

    latent: int = Field(default=100, ge=1, le=4096)
    width: int = Field(default=64, ge=4, le=1024)
    max_width: int = Field(default=512, ge=4, le=4096)
    norm_generator: bool = True
    norm_discriminator: bool = False
    virtual_batch: int = Field(default=0, ge=0, le=1024)  # reference pictures: virtual batch normalisation instead
    uniform: bool = False  # noise uniform in [-1, 1], as in the paper

    @property
    def batch_coupled(self) -> str:
        batch = (self.norm_generator or self.norm_discriminator) and not self.virtual_batch
        return "batch normalisation" if batch else ""

    @property
    def remembers(self) -> bool:
        return self.norm_discriminator and self.virtual_batch > 0

    @property
    def uniform_latent(self) -> bool:
        return self.uniform


def normalisation(config: DcganConfig, wanted: bool, width: int) -> nn.Module:
    """What follows a convolution with `width` channels."""
    if not wanted:
        return nn.Identity()
    return VirtualBatchNorm2d(width, config.virtual_batch) if config.virtual_batch else BatchNorm2d(width)


def channels(config: DcganConfig, count: int) -> list[int]:
    """Channels after each halving, the one beside the picture first."""
    return [min(config.width * 2**level, config.max_width) for level in range(count)]


def initialise(module: nn.Module) -> None:
    """Weights N(0, 0.02), batch-normalisation gains N(1, 0.02), biases zero (section 4 of the paper)."""
    for child in module.modules():
        if isinstance(child, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            nn.init.normal_(child.weight, 0.0, 0.02)
            if child.bias is not None:
                nn.init.zeros_(child.bias)
        elif isinstance(child, (nn.BatchNorm2d, VirtualBatchNorm2d)):
            nn.init.normal_(child.weight, 1.0, 0.02)
            nn.init.zeros_(child.bias)


class Generator(LatentGenerator):
    """Noise `[N, latent]` (and labels `[N]`) -> pictures `[N, C, H, W]` in [-1, 1]."""

    def __init__(self, config: DcganConfig, spec: ImageSpec, classes: int) -> None:
        super().__init__()
        levels = max(1, halvings(spec))
        self.spec, self.straight, self.base = spec, config.straight, base_sides(spec, levels)
        self.embed = nn.Embedding(classes, 64) if classes else None
        widths = channels(config, levels)[::-1]
        wrap = (spec.wrap_x, spec.wrap_y)
        base_size = widths[0] * self.base[0] * self.base[1]
        self.project = nn.Linear(config.latent + (64 if classes else 0), base_size, bias=not config.norm_generator)
        self.norms = nn.ModuleList(normalisation(config, config.norm_generator, width) for width in widths)
        self.reference = None
        if config.norm_generator and config.virtual_batch:
            self.reference = Reference(
                config.virtual_batch, (config.latent,), draw_latents(config, config.virtual_batch)
            )
            # Their classes are drawn too, so that the statistics are those of all classes together.
            kinds = torch.randint(classes, (config.virtual_batch,)) if classes else torch.zeros(0, dtype=torch.long)
            self.register_buffer("reference_labels", kinds)
        self.ups = nn.ModuleList(
            UpConv2d(width, following, bias=not config.norm_generator, wrap=wrap)
            for width, following in zip(widths[:-1], widths[1:], strict=True)
        )
        self.to_picture = UpConv2d(widths[-1], spec.channels, wrap=wrap)
        initialise(self)

    def map(self, z: Tensor, labels: Tensor | None, truncation: float = 1.0) -> Tensor:
        return z_as_latent(z, self.embed, labels, truncation)

    def synthesise(self, w: Tensor, noise: Tensor | None = None) -> Tensor:
        w = w[:, 0]
        if self.reference is not None:
            others = z_as_latent(
                self.reference.get_buffer("values"), self.embed, self.get_buffer("reference_labels"), 1.0
            )
            w = torch.cat([others[:, 0].to(w.dtype), w])
        # Channels come last in the projection, so that its output is channels_last in memory without a copy.
        x = self.project(w).unflatten(1, (*self.base, -1)).permute(0, 3, 1, 2)  # [N, C, h, w]
        x = F.relu(self.norms[0](x))
        for up, norm in zip(self.ups, self.norms[1:], strict=True):
            x = F.relu(norm(up(x)))
        if self.reference is not None:
            x = x[self.reference.count :]
        x = torch.tanh(self.to_picture(x).float())[:, :, : self.spec.height, : self.spec.width]
        return premultiplied(x) if self.straight else x


class Discriminator(FeatureDiscriminator):
    """Pictures `[N, C, H, W]` (and labels `[N]`) -> logits `[N]`, positive for real."""

    def __init__(self, config: DcganConfig, spec: ImageSpec, classes: int) -> None:
        super().__init__()
        levels = max(1, halvings(spec))
        widths = channels(config, levels)
        wrap = (spec.wrap_x, spec.wrap_y)
        self.padding = (
            base_sides(spec, levels)[0] * 2**levels - spec.height,
            base_sides(spec, levels)[1] * 2**levels - spec.width,
        )
        self.from_picture = Conv2d(spec.channels, widths[0], 4, stride=2, padding=1, wrap=wrap)
        self.downs = nn.ModuleList(
            Conv2d(width, following, 4, stride=2, padding=1, bias=not config.norm_discriminator, wrap=wrap)
            for width, following in zip(widths[:-1], widths[1:], strict=True)
        )
        # The paper has no batch normalisation on the layer that sees the picture.
        self.norms = nn.ModuleList(normalisation(config, config.norm_discriminator, width) for width in widths[1:])
        virtual = config.norm_discriminator and config.virtual_batch
        self.reference = Reference(config.virtual_batch, spec.shape) if virtual else None
        base = base_sides(spec, levels)
        self.head = ProjectionHead(widths[-1] * base[0] * base[1], classes, bias=False)
        initialise(self)

    def remember(self, images: Tensor) -> None:
        if self.reference is not None:
            self.reference.fill(images)

    def features(self, images: Tensor) -> Tensor:
        if self.reference is not None:
            images = self.reference.before(images)
        if any(self.padding):
            images = F.pad(images, (0, self.padding[1], 0, self.padding[0]))
        x = F.leaky_relu(self.from_picture(images), 0.2)
        for down, norm in zip(self.downs, self.norms, strict=True):
            x = F.leaky_relu(norm(down(x)), 0.2)
        if self.reference is not None:
            x = x[self.reference.count :]
        return x.permute(0, 2, 3, 1).flatten(1)
