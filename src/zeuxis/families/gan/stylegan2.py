"""StyleGAN2 (Karras et al. 2020, arXiv 1912.04958) for any size that is a multiple of 4.

A mapping network turns z into w, one row per level; the synthesis network is modulated and demodulated convolutions
from a learned constant, noise inputs and skips to the output (configuration E of the paper's Table 1); the
discriminator is residual, with a minibatch standard deviation before its end. Learning rates are equalised. The output
goes through tanh, so that pictures stay in [-1, 1].
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from zeuxis.config import ImageSpec
from zeuxis.families.gan.pair import FeatureDiscriminator, LatentConfig, LatentGenerator, ProjectionHead
from zeuxis.nn.bound import premultiplied
from zeuxis.nn.conv import base_sides, halvings
from zeuxis.nn.resample import upsample
from zeuxis.nn.style import EqualConv2d, EqualLinear, ModulatedConv2d, minibatch_deviation, scaled_leaky_relu
from zeuxis.nn.together import batch_mean

MEAN_RATE = 0.005  # how fast the mean of w follows a batch's


class Stylegan2Config(LatentConfig):
    """`width` is the number of channels beside the picture; it doubles with every halving up to `max_width`.

    `style` is the size of w, `mapping` the layers from z to it. `mixing` is the probability of style mixing, `path` the
    weight of the path-length penalty, a step of its own every `path_interval` steps (0: none). `group` is how many
    pictures the minibatch standard deviation compares (0: none).
    """

    latent: int = Field(default=128, ge=1, le=4096)
    style: int = Field(default=128, ge=1, le=4096)
    mapping: int = Field(default=2, ge=1, le=16)
    width: int = Field(default=32, ge=4, le=1024)
    max_width: int = Field(default=128, ge=4, le=4096)
    mixing: float = Field(default=0.9, ge=0, le=1)
    path: float = Field(default=2.0, ge=0, le=1e6)
    path_interval: int = Field(default=4, ge=1, le=64)
    group: int = Field(default=4, ge=0, le=1024)

    @property
    def batch_coupled(self) -> str:
        coupled = {"the minibatch standard deviation": self.group > 1, "the path-length average": self.path > 0}
        return " and ".join(reason for reason, there in coupled.items() if there)

    @property
    def style_mixing(self) -> float:
        return self.mixing

    @property
    def path_length(self) -> tuple[float, int]:
        return self.path, self.path_interval

    def noise_size(self, spec: ImageSpec) -> int:
        return sum(height * width for height, width in self.noise_sides(spec))

    def noise_sides(self, spec: ImageSpec) -> list[tuple[int, int]]:
        """Height and width of the noise input of each 3x3 convolution, from coarse to fine."""
        count = halvings(spec)
        height, width = base_sides(spec, count)
        levels = [level for level in range(count + 1) for _ in range(2 if level else 1)]
        return [(height * 2**level, width * 2**level) for level in levels]

    def widths(self, spec: ImageSpec) -> list[int]:
        """Channels on each grid, the finest first."""
        return [min(self.width * 2**level, self.max_width) for level in range(halvings(spec) + 1)]


class Mapping(nn.Module):
    """z `[N, latent]` (and labels `[N]`) -> w `[N, style]`: both normalised, then linear layers that learn 100 times
    as slowly as the rest (Karras et al. 2018, appendix C)."""

    def __init__(self, config: Stylegan2Config, classes: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(classes, config.style) if classes else None
        inputs = config.latent + (config.style if classes else 0)
        sizes = [inputs] + [config.style] * config.mapping
        self.layers = nn.ModuleList(
            EqualLinear(before, after, rate=0.01) for before, after in zip(sizes[:-1], sizes[1:], strict=True)
        )

    def forward(self, z: Tensor, labels: Tensor | None) -> Tensor:
        z = unit_mean_square(z)
        if self.embed is not None:
            z = torch.cat([z, unit_mean_square(self.embed(labels).to(z.dtype))], dim=1)
        for layer in self.layers:
            z = scaled_leaky_relu(layer(z))
        return z


def unit_mean_square(x: Tensor) -> Tensor:
    """`[N, F]` scaled so that the mean of the squares of each row is 1."""
    return x * (x.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()


class StyledConv(nn.Module):
    """Modulated 3x3 convolution, noise times a learned strength, bias, activation."""

    def __init__(
        self, inputs: int, outputs: int, style: int, *, up: bool = False, wrap: tuple[bool, bool] = (False, False)
    ) -> None:
        super().__init__()
        self.convolution = ModulatedConv2d(inputs, outputs, 3, style=style, up=up, wrap=wrap)
        self.strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
        y = self.convolution(x, w)
        y = y + (self.strength * noise).to(y.dtype) + self.bias[:, None, None].to(y.dtype)
        return scaled_leaky_relu(y)


class Generator(LatentGenerator):
    """Noise `[N, latent]` (and labels `[N]`) -> pictures `[N, C, H, W]` in [-1, 1].

    Level 0 of w `[N, L, W]` styles the coarsest grid's convolution; each finer grid has two levels, and its picture
    layer shares the following one; the last level is that of the last picture layer.
    """

    def __init__(self, config: Stylegan2Config, spec: ImageSpec, classes: int) -> None:
        super().__init__()
        self.spec, self.straight, self.wrap = spec, config.straight, (spec.wrap_x, spec.wrap_y)
        self.sides = config.noise_sides(spec)
        widths, style = config.widths(spec)[::-1], config.style
        self.levels = len(self.sides) + 1
        self.mapping = Mapping(config, classes)
        self.constant = nn.Parameter(torch.randn(1, widths[0], *self.sides[0]))
        convolutions = [StyledConv(widths[0], widths[0], style, wrap=self.wrap)]
        for width, following in zip(widths[:-1], widths[1:], strict=True):
            convolutions.append(StyledConv(width, following, style, up=True, wrap=self.wrap))
            convolutions.append(StyledConv(following, following, style, wrap=self.wrap))
        self.convolutions = nn.ModuleList(convolutions)
        self.to_picture = nn.ModuleList(
            ModulatedConv2d(width, spec.channels, 1, style=style, demodulate=False) for width in widths
        )
        self.biases = nn.ParameterList(torch.zeros(spec.channels) for _ in widths)
        self.register_buffer("w_mean", torch.zeros(style))
        self.register_buffer("path_average", torch.zeros(()))

    def map(self, z: Tensor, labels: Tensor | None, truncation: float = 1.0) -> Tensor:
        w = self.mapping(z, labels)
        mean = self.get_buffer("w_mean")
        if self.training:  # as batch normalisation keeps its statistics
            mean.lerp_(batch_mean(w.detach().float()), MEAN_RATE)
        if truncation != 1:
            w = torch.lerp(mean.to(w.dtype), w, truncation)
        return w[:, None].expand(-1, self.levels, -1)

    def synthesise(self, w: Tensor, noise: Tensor | None = None) -> Tensor:
        count, styles = len(w), w.unbind(dim=1)
        if noise is None:
            noise = w.new_zeros(count, sum(height * width for height, width in self.sides))
        planes = noise.split([height * width for height, width in self.sides], dim=1)
        inputs = [plane.view(count, 1, *sides) for plane, sides in zip(planes, self.sides, strict=True)]
        x = self.constant.expand(count, -1, -1, -1).contiguous(memory_format=torch.channels_last)
        x = self.convolutions[0](x, styles[0], inputs[0])
        picture = self._skip(0, x, styles[1])
        for grid in range(1, len(self.to_picture)):
            for index in (2 * grid - 1, 2 * grid):
                x = self.convolutions[index](x, styles[index], inputs[index])
            picture = upsample(picture, self.wrap, taps=4) + self._skip(grid, x, styles[2 * grid + 1])
        picture = torch.tanh(picture[:, :, : self.spec.height, : self.spec.width])
        return premultiplied(picture) if self.straight else picture

    def _skip(self, grid: int, x: Tensor, style: Tensor) -> Tensor:
        """What a grid adds to the picture, float32."""
        y: Tensor = self.to_picture[grid](x, style)
        return y.float() + self.biases[grid].float()[:, None, None]


class Residual(nn.Module):
    """(down(conv(conv(x))) + down(1x1(x))) / sqrt(2): half the sides."""

    def __init__(self, inputs: int, outputs: int, wrap: tuple[bool, bool]) -> None:
        super().__init__()
        self.first = EqualConv2d(inputs, inputs, 3, wrap=wrap)
        self.second = EqualConv2d(inputs, outputs, 3, down=True, wrap=wrap)
        self.skip = EqualConv2d(inputs, outputs, 1, bias=False, down=True, wrap=wrap)

    def forward(self, x: Tensor) -> Tensor:
        y = scaled_leaky_relu(self.second(scaled_leaky_relu(self.first(x))))
        return (y + self.skip(x)) / math.sqrt(2)


class Discriminator(FeatureDiscriminator):
    """Pictures `[N, C, H, W]` (and labels `[N]`) -> logits `[N]`, positive for real."""

    def __init__(self, config: Stylegan2Config, spec: ImageSpec, classes: int) -> None:
        super().__init__()
        self.wrap, self.group = (spec.wrap_x, spec.wrap_y), config.group
        widths = config.widths(spec)
        base, factor = base_sides(spec, len(widths) - 1), 2 ** (len(widths) - 1)
        self.padding = (0, base[1] * factor - spec.width, 0, base[0] * factor - spec.height)
        self.from_picture = EqualConv2d(spec.channels, widths[0], 1)
        self.blocks = nn.ModuleList(
            Residual(width, following, self.wrap) for width, following in zip(widths[:-1], widths[1:], strict=True)
        )
        self.last = EqualConv2d(widths[-1] + (1 if self.group > 1 else 0), widths[-1], 3, wrap=self.wrap)
        self.dense = EqualLinear(widths[-1] * base[0] * base[1], widths[-1])
        self.head = ProjectionHead(widths[-1], classes, bias=False)
        nn.init.normal_(self.head.linear.weight)  # its learning rate is equalised below

    def features(self, images: Tensor) -> Tensor:
        if any(self.padding):
            images = F.pad(images, self.padding)
        x = scaled_leaky_relu(self.from_picture(images.contiguous(memory_format=torch.channels_last)))
        for block in self.blocks:
            x = block(x)
        if self.group > 1:
            x = minibatch_deviation(x, self.group)
        x = scaled_leaky_relu(self.last(x))
        x = scaled_leaky_relu(self.dense(x.permute(0, 2, 3, 1).flatten(1)))
        return x.float() / math.sqrt(self.head.size)
