"""Stochastic video generation with a learned prior (Denton & Fergus 2018, arXiv 1802.07687: SVG-LP), its predictor a
convolutional LSTM over patches instead of a vector LSTM between an encoder and a decoder."""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from zeuxis.config import Config, ImageSpec
from zeuxis.families.autoregressive.convlstm import ConvLSTMCell, Kernel
from zeuxis.families.autoregressive.patches import Memory, grid_of, next_frame, planes
from zeuxis.nn.conv import Conv2d

LATENT_PLANES = 8  # of the coarse map that z becomes: where on the picture something happens matters


class SVGConfig(Config):
    """`latent` numbers z decide what chance does in a frame; `hidden` units in the LSTMs of prior and posterior;
    `width` channels of each of `layers` cells; `moves` as in `ConvLSTMConfig`."""

    width: int = Field(default=40, ge=4, le=1024)
    layers: int = Field(default=2, ge=1, le=16)
    kernel: Kernel = 3
    moves: int = Field(default=0, ge=0, le=16)
    latent: int = Field(default=8, ge=1, le=1024)
    hidden: int = Field(default=96, ge=4, le=4096)


class Beliefs(nn.Module):
    """An LSTM over frame summaries -> mean and log variance of z, each `[N, latent]`: prior or posterior."""

    def __init__(self, hidden: int, latent: int) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(hidden, hidden)
        self.to_latent = nn.Linear(hidden, 2 * latent)

    def forward(
        self, summary: Tensor, memory: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        """Summary `[N, hidden]` and what is remembered -> mean, log variance, and what is remembered now."""
        memory = self.cell(summary, memory)
        mean, log_variance = self.to_latent(memory[0]).float().chunk(2, dim=1)
        return mean, log_variance.clamp(-10, 6), memory


class SVG(nn.Module):
    """Prior p(z_t | x_1..t-1), posterior q(z_t | x_1..t) and predictor p(x_t | x_1..t-1, z_1..t), in patches."""

    def __init__(self, config: SVGConfig, spec: ImageSpec, classes: int) -> None:
        super().__init__()
        wrap, inputs, width = (spec.wrap_x, spec.wrap_y), planes(spec), config.width
        self.grid = grid_of(spec)
        self.quarter = math.ceil(self.grid[0] / 4), math.ceil(self.grid[1] / 4)
        self.first = Conv2d(inputs, width, 3, stride=2, padding=1, wrap=wrap)
        self.second = Conv2d(width, width, 3, stride=2, padding=1, wrap=wrap)
        self.to_summary = nn.Linear(width * math.prod(self.quarter), config.hidden)
        self.prior = Beliefs(config.hidden, config.latent)
        self.posterior = Beliefs(config.hidden, config.latent)
        self.from_latent = nn.Linear(config.latent, LATENT_PLANES * math.prod(self.quarter))
        self.cells = nn.ModuleList(
            ConvLSTMCell(width if layer else inputs + LATENT_PLANES, width, config.kernel, wrap)
            for layer in range(config.layers)
        )
        self.embed = nn.Embedding(classes, 4 * width) if classes else None
        self.to_patches = next_frame(config.layers * width, spec, config.moves)

    def summary(self, patches: Tensor) -> Tensor:
        """Patches `[N, P, h, w]` -> `[N, hidden]`, where and what things are."""
        x = F.silu(self.second(F.silu(self.first(patches))))
        return cast(Tensor, self.to_summary(x.flatten(1))).float()

    def forward(
        self, patches: Tensor, z: Tensor, memory: Memory | None, labels: Tensor | None
    ) -> tuple[Tensor, Memory]:
        """Patches of a frame, z `[N, latent]` of the next one and what is remembered -> the next frame's mean."""
        coarse = self.from_latent(z).unflatten(1, (LATENT_PLANES, *self.quarter))
        spread = F.interpolate(coarse, scale_factor=4.0, mode="nearest")[:, :, : self.grid[0], : self.grid[1]]
        extra = None if self.embed is None else self.embed(labels)
        x, after = torch.cat([patches, spread.to(patches.dtype)], dim=1), []
        for layer, cell in enumerate(self.cells):
            after.append(cell(x, memory[layer] if memory else None, None if layer else extra))
            x = after[-1][0].to(patches.dtype)
        return self.to_patches(torch.cat([hidden for hidden, _ in after], dim=1), patches), after
