"""Stacked convolutional LSTMs over patches (Shi et al. 2015, arXiv 1506.04214)."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from zeuxis.config import Config, ImageSpec
from zeuxis.families.autoregressive.patches import Memory, next_frame, planes
from zeuxis.nn.conv import Conv2d

Kernel = Literal[1, 3, 5, 7, 9]


class ConvLSTMConfig(Config):
    """`width` channels of each of `layers` cells; a `kernel` of 3 sees 4 pixels around per layer and frame; a patch
    of the given frame can have moved in `moves` ways (0: every change is drawn anew)."""

    width: int = Field(default=48, ge=4, le=1024)
    layers: int = Field(default=2, ge=1, le=16)
    kernel: Kernel = 3
    moves: int = Field(default=0, ge=0, le=16)


class ConvLSTMCell(nn.Module):
    """i, f, o = sigmoid, g = tanh of W * [x, h] + b; c = f c + i g; h = o tanh(c) (Shi et al. 2015, arXiv 1506.04214,
    Eq. 3, without the peepholes from c to the gates, as in most later work). `extra` is added to all gates."""

    def __init__(self, inputs: int, width: int, kernel: int, wrap: tuple[bool, bool]) -> None:
        super().__init__()
        self.width = width
        self.gates = Conv2d(inputs + width, 4 * width, kernel, padding=kernel // 2, wrap=wrap)
        assert self.gates.bias is not None
        with torch.no_grad():  # remember at first (Gers et al. 2000; Jozefowicz et al. 2015)
            self.gates.bias[width : 2 * width] = 1.0

    def forward(
        self, x: Tensor, memory: tuple[Tensor, Tensor] | None, extra: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """`[N, inputs, h, w]` and (h, c), None at first -> (h, c), each `[N, width, h, w]`."""
        if memory is None:
            zeros = x.new_zeros(len(x), self.width, *x.shape[2:])
            memory = zeros, zeros
        hidden, cell = memory
        gates = self.gates(torch.cat([x, hidden.to(x.dtype)], dim=1)).float()
        if extra is not None:
            gates = gates + extra[:, :, None, None]
        update, keep, output, new = gates.chunk(4, dim=1)
        cell = torch.sigmoid(keep) * cell + torch.sigmoid(update) * torch.tanh(new)
        return torch.sigmoid(output) * torch.tanh(cell), cell


class ConvLSTM(nn.Module):
    """Patches of a frame -> patches of the next one, from the hidden states of all layers (section 3.2)."""

    def __init__(self, config: ConvLSTMConfig, spec: ImageSpec, classes: int) -> None:
        super().__init__()
        wrap, inputs = (spec.wrap_x, spec.wrap_y), planes(spec)
        self.cells = nn.ModuleList(
            ConvLSTMCell(config.width if layer else inputs, config.width, config.kernel, wrap)
            for layer in range(config.layers)
        )
        self.embed = nn.Embedding(classes, 4 * config.width) if classes else None
        self.to_patches = next_frame(config.layers * config.width, spec, config.moves)

    def forward(self, patches: Tensor, memory: Memory | None, labels: Tensor | None) -> tuple[Tensor, Memory]:
        extra = None if self.embed is None else self.embed(labels)
        x, after = patches, []
        for layer, cell in enumerate(self.cells):
            after.append(cell(x, memory[layer] if memory else None, None if layer else extra))
            x = after[-1][0].to(patches.dtype)
        return self.to_patches(torch.cat([hidden for hidden, _ in after], dim=1), patches), after
