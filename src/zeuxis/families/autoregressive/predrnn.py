"""PredRNN: LSTMs whose second memory runs up through the layers and on to the next frame's first layer
(Wang et al. 2017; journal version Wang et al. 2022, arXiv 2103.09504)."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from zeuxis.config import Config, ImageSpec
from zeuxis.families.autoregressive.convlstm import Kernel
from zeuxis.families.autoregressive.patches import Memory, next_frame, planes
from zeuxis.nn.conv import Conv2d


class PredRNNConfig(Config):
    """`width` channels of each of `layers` cells; a `kernel` of 3 sees 4 pixels around per layer and frame; `moves` as
    in `ConvLSTMConfig`."""

    width: int = Field(default=40, ge=4, le=1024)
    layers: int = Field(default=2, ge=1, le=16)
    kernel: Kernel = 3
    moves: int = Field(default=0, ge=0, le=16)


class SpatioTemporalLSTM(nn.Module):
    """The ST-LSTM cell (arXiv 2103.09504, Eq. 3): C is this layer's memory from frame to frame, M the one that all
    layers write to in turn."""

    def __init__(self, inputs: int, width: int, kernel: int, wrap: tuple[bool, bool]) -> None:
        super().__init__()
        self.width = width
        padding = kernel // 2
        self.of_hidden = Conv2d(inputs + width, 4 * width, kernel, padding=padding, wrap=wrap)
        self.of_memory = Conv2d(inputs + width, 3 * width, kernel, padding=padding, wrap=wrap)
        self.to_output = Conv2d(2 * width, width, kernel, padding=padding, wrap=wrap, bias=False)
        self.join = nn.Conv2d(2 * width, width, 1)
        for gates in (self.of_hidden, self.of_memory):
            assert gates.bias is not None
            with torch.no_grad():  # remember at first
                gates.bias[width : 2 * width] = 1.0

    def forward(
        self, x: Tensor, state: tuple[Tensor, Tensor], shared: Tensor, extra: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`[N, inputs, h, w]`, (H, C) and M -> H, C and M, each `[N, width, h, w]`."""
        hidden, cell = state
        gates = self.of_hidden(torch.cat([x, hidden.to(x.dtype)], dim=1)).float()
        if extra is not None:
            gates = gates + extra[:, :, None, None]
        update, keep, output, new = gates.chunk(4, dim=1)
        cell = torch.sigmoid(keep) * cell + torch.sigmoid(update) * torch.tanh(new)
        update, keep, new = self.of_memory(torch.cat([x, shared.to(x.dtype)], dim=1)).float().chunk(3, dim=1)
        shared = torch.sigmoid(keep) * shared + torch.sigmoid(update) * torch.tanh(new)
        both = torch.cat([cell, shared], dim=1).to(x.dtype)
        output = torch.sigmoid(output + self.to_output(both).float())
        return output * torch.tanh(self.join(both).float()), cell, shared


class PredRNN(nn.Module):
    """Patches of a frame -> patches of the next one, from the last layer's hidden state."""

    def __init__(self, config: PredRNNConfig, spec: ImageSpec, classes: int) -> None:
        super().__init__()
        wrap, inputs = (spec.wrap_x, spec.wrap_y), planes(spec)
        self.width = config.width
        self.cells = nn.ModuleList(
            SpatioTemporalLSTM(config.width if layer else inputs, config.width, config.kernel, wrap)
            for layer in range(config.layers)
        )
        self.embed = nn.Embedding(classes, 4 * config.width) if classes else None
        self.to_patches = next_frame(config.width, spec, config.moves)

    def forward(
        self, patches: Tensor, memory: tuple[Memory, Tensor] | None, labels: Tensor | None
    ) -> tuple[Tensor, tuple[Memory, Tensor]]:
        zeros = patches.new_zeros(len(patches), self.width, *patches.shape[2:]).float()
        states, shared = memory or ([(zeros, zeros)] * len(self.cells), zeros)
        extra = None if self.embed is None else self.embed(labels)
        x, after = patches, []
        for layer, cell in enumerate(self.cells):
            hidden, own, shared = cell(x, states[layer], shared, None if layer else extra)
            after.append((hidden, own))
            x = hidden.to(patches.dtype)
        return self.to_patches(x, patches), (after, shared)
