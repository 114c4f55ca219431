"""A deep hierarchy that is drawn from the top down (Child 2020, "very deep VAE", arXiv 2011.10650): residual bottleneck
blocks, nearest-neighbour up-sampling, priors that start at N(0, I), no normalisation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from zeuxis.config import Config, ImageSpec
from zeuxis.nn.conv import Conv2d, base_sides, halvings

LOG_SIGMA_LEAST, LOG_SIGMA_MOST = -7.0, 4.0


class LadderConfig(Config):
    """`width` channels everywhere; each stochastic block has `latent` channels of latents. There are `top_blocks`
    blocks for the picture as a whole, then `blocks` at each side from the coarsest (4 to 7 positions) to `patch` pixels
    a position. `bottleneck` is the width inside a block as a share of `width`."""

    width: int = Field(default=96, ge=8, le=2048)
    latent: int = Field(default=8, ge=1, le=256)
    top_blocks: int = Field(default=1, ge=1, le=32)
    blocks: int = Field(default=2, ge=1, le=64)
    encoder_blocks: int = Field(default=1, ge=1, le=64)  # at each side
    bottleneck: float = Field(default=0.5, gt=0, le=4)
    patch: Literal[1, 2, 4, 8] = 2


@dataclass(frozen=True)
class Shape:
    """The sides of the hierarchy, coarse to fine: one position for the whole picture, then those of the maps."""

    sides: tuple[tuple[int, int], ...]
    padded: tuple[int, int]  # of the picture

    @staticmethod
    def of(config: LadderConfig, spec: ImageSpec) -> Shape:
        """A power of two of pixels folds into one position first; from there the sides halve."""
        fold = config.patch.bit_length() - 1
        levels = max(fold, halvings(spec))
        base = base_sides(spec, levels)
        sides = tuple((base[0] * 2**level, base[1] * 2**level) for level in range(levels - fold + 1))
        return Shape(((1, 1), *sides), (base[0] * 2**levels, base[1] * 2**levels))

    def blocks(self, config: LadderConfig) -> list[int]:
        """The index into `sides` of each stochastic block, from the top down."""
        counts = [config.top_blocks] + [config.blocks] * (len(self.sides) - 1)
        return [level for level, count in enumerate(counts) for _ in range(count)]


class Bottleneck(nn.Module):
    """1x1, two 3x3 (1x1 where there is one position) and 1x1 convolutions, GELU before each (Child 2020, figure 3)."""

    def __init__(
        self, width: int, middle: int, outputs: int, side: tuple[int, int], wrap: tuple[bool, bool], scale: float = 1.0
    ) -> None:
        super().__init__()
        kernel = 3 if min(side) > 2 else 1
        self.convs = nn.ModuleList(
            [
                Conv2d(width, middle, 1),
                Conv2d(middle, middle, kernel, padding=kernel // 2, wrap=wrap),
                Conv2d(middle, middle, kernel, padding=kernel // 2, wrap=wrap),
                Conv2d(middle, outputs, 1),
            ]
        )
        last = self.convs[-1]
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        with torch.no_grad():
            last.weight.mul_(scale)
            last.bias.mul_(scale)

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            x = conv(F.gelu(x))
        return x


def shrink(x: Tensor, side: tuple[int, int]) -> Tensor:
    """Means over 2x2 positions, or over all where `side` is one position."""
    return x.mean(dim=(2, 3), keepdim=True) if side == (1, 1) else F.avg_pool2d(x, 2)


def grow(x: Tensor, side: tuple[int, int]) -> Tensor:
    """Nearest-neighbour up-sampling to twice the sides, or from one position to all."""
    if x.shape[2:] == (1, 1):
        return x.expand(-1, -1, *side)
    return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


class Encoder(nn.Module):
    """Pictures `[N, C, H, W]` (and labels) -> features `[N, width, h, w]` at each side, coarse to fine."""

    def __init__(self, config: LadderConfig, spec: ImageSpec, classes: int) -> None:
        super().__init__()
        self.shape, wrap = Shape.of(config, spec), (spec.wrap_x, spec.wrap_y)
        self.padding = self.shape.padded[0] - spec.height, self.shape.padded[1] - spec.width
        self.patch, width, middle = config.patch, config.width, max(1, round(config.bottleneck * config.width))
        self.first = Conv2d(spec.channels * config.patch**2, width, 3, padding=1, wrap=wrap)
        self.embed = nn.Embedding(classes, width) if classes else None
        depth = config.encoder_blocks * len(self.shape.sides)
        self.levels = nn.ModuleList(
            nn.ModuleList(
                Bottleneck(width, middle, width, side, wrap, depth**-0.5) for _ in range(config.encoder_blocks)
            )
            for side in self.shape.sides[::-1]
        )

    def forward(self, images: Tensor, labels: Tensor | None) -> list[Tensor]:
        x = F.pad(images, (0, self.padding[1], 0, self.padding[0])) if any(self.padding) else images
        x = self.first(F.pixel_unshuffle(x, self.patch))
        if self.embed is not None:
            x = x + self.embed(labels)[:, :, None, None].to(x.dtype)
        features = []
        for side, blocks in zip(self.shape.sides[::-1], self.levels, strict=True):  # fine to coarse
            if x.shape[2:] != side:
                x = shrink(x, side)
            for block in blocks:  # type: ignore[attr-defined]
                x = x + block(x)
            features.append(x)
        return features[::-1]


class Block(nn.Module):
    """One group of latents: prior from above, posterior from above and the picture's features (Child 2020, fig. 3)."""

    def __init__(self, config: LadderConfig, side: tuple[int, int], wrap: tuple[bool, bool], depth: int) -> None:
        super().__init__()
        width, latent, middle = config.width, config.latent, max(1, round(config.bottleneck * config.width))
        self.width, self.latent, self.side = width, latent, side
        self.prior = Bottleneck(width, middle, 2 * latent + width, side, wrap, scale=0.0)
        self.posterior = Bottleneck(2 * width, middle, 2 * latent, side, wrap)
        self.project = Conv2d(latent, width, 1)
        self.residual = Bottleneck(width, middle, width, side, wrap, scale=depth**-0.5)
        with torch.no_grad():
            self.project.weight.mul_(depth**-0.5)

    def forward(
        self, x: Tensor, noise: Tensor | None, feature: Tensor | None, code: Tensor | None
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor, Tensor, Tensor] | None]:
        """State `[N, width, h, w]`, and standard normals or a code `[N, latent, h, w]` -> the state below, the latents,
        and with a feature the means and log deviations of q and p."""
        prior = self.prior(x)
        p_mean, p_log = self._normal(prior[:, : 2 * self.latent])
        normals = None
        if noise is None:
            z = code if code is not None else p_mean
        elif feature is not None:
            q_mean, q_log = self._normal(self.posterior(torch.cat([x, feature], dim=1)))
            z = q_mean + torch.exp(q_log) * noise
            normals = q_mean, q_log, p_mean, p_log
        else:
            z = p_mean + torch.exp(p_log) * noise
        x = x + prior[:, 2 * self.latent :]
        x = x + self.project(z)
        return x + self.residual(x), z, normals

    def _normal(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_deviation = raw.float().chunk(2, dim=1)
        return mean, log_deviation.clamp(LOG_SIGMA_LEAST, LOG_SIGMA_MOST)


def kl_of_normals(q_mean: Tensor, q_log: Tensor, p_mean: Tensor, p_log: Tensor) -> Tensor:
    """KL(N(q) || N(p)) of each latent in nats; means and log deviations of any one shape."""
    square = torch.exp(2 * (q_log - p_log)) + ((q_mean - p_mean) * torch.exp(-p_log)).square()
    return p_log - q_log + 0.5 * (square - 1)


class Decoder(nn.Module):
    """From the top of the hierarchy down to the parameters of p(x|z).

    Called with labels and one of: noise `z` and the encoder's features (draws from q), noise alone (draws from the
    prior), or `codes`.
    """

    def __init__(self, config: LadderConfig, spec: ImageSpec, classes: int, outputs: int) -> None:
        super().__init__()
        self.spec, self.config, self.shape = spec, config, Shape.of(config, spec)
        wrap = spec.wrap_x, spec.wrap_y
        levels = self.shape.blocks(config)
        self.levels = levels
        self.starts = nn.ParameterList(torch.zeros(1, config.width, *side) for side in self.shape.sides)
        self.embed = nn.Embedding(classes, config.width) if classes else None
        self.blocks = nn.ModuleList(Block(config, self.shape.sides[level], wrap, len(levels)) for level in levels)
        self.last = Conv2d(config.width, outputs * config.patch**2, 3, padding=1, wrap=wrap)

    @staticmethod
    def groups(config: LadderConfig, spec: ImageSpec) -> tuple[int, ...]:
        """Latents of each group, from coarse to fine."""
        shape = Shape.of(config, spec)
        return tuple(config.latent * math.prod(shape.sides[level]) for level in shape.blocks(config))

    def forward(
        self, labels: Tensor | None, *, z: Tensor | None = None, features: tuple[Tensor, ...] | None = None,
        codes: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor], Tensor, Tensor, Tensor]:  # fmt: skip
        """-> output `[N, outputs, H, W]`; with features also the KL term of each side `[N]`, log p(z) - log q(z|x)
        `[N]` and the number of active latents; and all latents `[N, size]`."""
        given = codes if codes is not None else z
        assert given is not None, "noise or codes"
        sizes = [self.config.latent * math.prod(self.shape.sides[level]) for level in self.levels]
        pieces = given.split(sizes, dim=1)
        kls: dict[str, Tensor] = {}
        log_ratio, active = given.new_zeros(len(given)), given.new_zeros(())
        drawn: list[Tensor] = []
        x, above = self.starts[0].expand(len(given), -1, -1, -1), 0
        if self.embed is not None:
            x = x + self.embed(labels)[:, :, None, None].to(x.dtype)
        for level, block, piece in zip(self.levels, self.blocks, pieces, strict=True):
            side = self.shape.sides[level]
            if level != above:
                x, above = grow(x, side) + self.starts[level].to(x.dtype), level
            own = piece.unflatten(1, (self.config.latent, *side))
            feature = None if features is None else features[level]
            noise, code = (None, own) if codes is not None else (own, None)
            x, latent, normals = block(x, noise, feature, code)
            drawn.append(latent.flatten(1))
            if normals is not None:
                _, q_log, p_mean, p_log = normals
                kl = kl_of_normals(*normals)
                name = f"kl {side[1]}x{side[0]}"
                kls[name] = kls.get(name, 0.0) + kl.sum(dim=(1, 2, 3))
                outside = (latent - p_mean) * torch.exp(-p_log)
                log_ratio = log_ratio + (0.5 * (own.square() - outside.square()) + q_log - p_log).sum(dim=(1, 2, 3))
                active = active + (kl.detach().mean(dim=0) > 0.01).sum()
        output = F.pixel_shuffle(self.last(F.gelu(x)), self.config.patch)
        output = output[:, :, : self.spec.height, : self.spec.width]
        return output, kls, log_ratio, active, torch.cat(drawn, dim=1)
