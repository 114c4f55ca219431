"""Stochastic video generation with a learned prior (Denton & Fergus 2018, arXiv 1802.07687: SVG-LP), with another
predictor: z chooses how the given frame moves, and only the prior remembers.

A predictor that remembers learns slowly what moves how, and then needs z at the few frames alone where chance decides:
too late, the posterior has long become the prior. Here nothing moves without z from the first step on, and z soon is
the motion, which both beliefs see in how one frame became the next.
"""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from zeuxis.config import Config, ImageSpec
from zeuxis.families.autoregressive.convlstm import Kernel
from zeuxis.families.autoregressive.patches import Moves, grid_of, planes, to_frames
from zeuxis.nn.conv import Conv2d, wrap_pad

Wrap = tuple[bool, bool]
LATENT_PLANES = 8  # of the coarse map that z becomes: where on the picture something happens matters
REACH = 4  # pixels, of the shifts by which a frame is compared with the next
SHIFTS = (2 * REACH + 1) ** 2
PADDING = -SHIFTS % 16  # zeros: a matrix product rounds each row alike only where all begin at whole vectors
# Adam moves all weights by about as much a step: what is multiplied matters sooner.
SHIFT_GAIN, WAY_GAIN = 8.0, 4.0
POSTERIOR_LOG_VARIANCE = -4.0  # of z at first: a message with little noise, for what is all noise is soon ignored


class SVGConfig(Config):
    """`latent` numbers z decide what chance does in a frame; `hidden` units in the LSTMs of prior and posterior;
    `width` channels of each of the predictor's `layers`; `moves` as in `ConvLSTMConfig`."""

    width: int = Field(default=40, ge=4, le=1024)
    layers: int = Field(default=2, ge=1, le=16)
    kernel: Kernel = 3
    moves: int = Field(default=2, ge=1, le=16)
    latent: int = Field(default=8, ge=1, le=1024)
    hidden: int = Field(default=96, ge=4, le=4096)


class Beliefs(nn.Module):
    """An LSTM over changes -> mean and log variance of z, each `[N, latent]`: prior or posterior."""

    def __init__(self, hidden: int, latent: int) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(hidden, hidden)
        self.to_latent = nn.Linear(hidden, 2 * latent)

    def forward(
        self, change: Tensor, memory: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        """Change `[N, hidden]` and what is remembered -> mean, log variance, and what is remembered now."""
        memory = self.cell(change, memory)
        mean, log_variance = self.to_latent(memory[0]).float().chunk(2, dim=1)
        return mean, log_variance.clamp(-10, 6), memory


@torch.no_grad()
def shifts(before: Tensor, after: Tensor, wrap: Wrap = (False, False)) -> Tensor:
    """How probable each shift of up to `REACH` pixels is that makes the one frame the other, `[N, SHIFTS]`: softmax of
    minus the squared differences, of values from 0 to 1, of frames `[-1, 1]` `[N, C, H, W]`."""
    (height, width), values = after.shape[2:], (after.float() + 1) / 2
    padded = wrap_pad((before.float() + 1) / 2, REACH, *wrap)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # [N, C, 2 R + 1, 2 R + 1, H, W]
    errors = (windows - values[:, :, None, None]).square().permute(0, 2, 3, 1, 4, 5)
    return errors.reshape(len(values), SHIFTS, -1).sum(2).neg().softmax(1)


class Change(nn.Module):
    """Patches `[N, P, h, w]` of two frames that follow each other -> `[N, hidden]`: where and what things are, and how
    they moved."""

    def __init__(self, inputs: int, width: int, quarter: tuple[int, int], hidden: int, wrap: Wrap) -> None:
        super().__init__()
        self.wrap = wrap
        self.first = Conv2d(2 * inputs, width, 3, stride=2, padding=1, wrap=wrap)
        self.second = Conv2d(width, width, 3, stride=2, padding=1, wrap=wrap)
        self.of_places = nn.Linear(width * math.prod(quarter), hidden)
        self.of_shifts = nn.Linear(SHIFTS + PADDING, hidden)

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """The two frames -> their change."""
        x = F.silu(self.second(F.silu(self.first(torch.cat([before, after], dim=1)))))
        moved = F.pad(shifts(to_frames(before), to_frames(after), self.wrap), (0, PADDING))
        return (self.of_places(x.flatten(1)) + SHIFT_GAIN * self.of_shifts(moved)).float()


class SVG(nn.Module):
    """Prior p(z_t | x_1..t-1), posterior q(z_t | x_1..t) and predictor p(x_t | x_t-1, z_t), in patches."""

    def __init__(self, config: SVGConfig, spec: ImageSpec, classes: int) -> None:
        super().__init__()
        wrap, inputs, width = (spec.wrap_x, spec.wrap_y), planes(spec), config.width
        self.grid = grid_of(spec)
        self.quarter = math.ceil(self.grid[0] / 4), math.ceil(self.grid[1] / 4)
        self.seen, self.coming = (Change(inputs, width, self.quarter, config.hidden, wrap) for _ in range(2))
        self.prior = Beliefs(config.hidden, config.latent)
        self.posterior = Beliefs(config.hidden, config.latent)
        with torch.no_grad():
            self.posterior.to_latent.bias[config.latent :] = POSTERIOR_LOG_VARIANCE
        self.from_latent = nn.Linear(config.latent, LATENT_PLANES * math.prod(self.quarter))
        self.to_gates = nn.Linear(config.latent, 2 * width)
        self.to_way = nn.Linear(config.latent, Moves.logits(config.moves))
        self.embed = nn.Embedding(classes, 2 * width) if classes else None
        self.layers = nn.ModuleList(
            Conv2d(width if layer else inputs + LATENT_PLANES, 2 * width, config.kernel,
                   padding=config.kernel // 2, wrap=wrap)
            for layer in range(config.layers)
        )  # fmt: skip
        self.to_patches = Moves(config.layers * width, spec, config.moves)

    def forward(self, patches: Tensor, z: Tensor, labels: Tensor | None) -> Tensor:
        """Patches of a frame and z `[N, latent]` of the next one -> the next frame's mean. Layers are gated (van den
        Oord et al. 2016, arXiv 1606.05328, Eq. 2)."""
        coarse = self.from_latent(z).unflatten(1, (LATENT_PLANES, *self.quarter))
        spread = F.interpolate(coarse, scale_factor=4.0, mode="nearest")[:, :, : self.grid[0], : self.grid[1]]
        extra = self.to_gates(z) if self.embed is None else self.to_gates(z) + self.embed(labels)
        x, hidden = torch.cat([patches, spread.to(patches.dtype)], dim=1), []
        for place, layer in enumerate(self.layers):
            value, gate = (layer(x) if place else layer(x) + extra[:, :, None, None]).chunk(2, dim=1)
            x = torch.tanh(value) * torch.sigmoid(gate)
            hidden.append(x)
        return cast(Tensor, self.to_patches(torch.cat(hidden, dim=1), patches, WAY_GAIN * self.to_way(z)))
