"""PixelRNN (van den Oord et al. 2016, arXiv 1601.06759): long short-term memories that sweep over a picture, residual
and masked. `row` goes down row by row, `diagonal` along both diagonals and so misses no pixel before."""

from __future__ import annotations

from typing import Literal, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from zeuxis.config import Config, ImageSpec
from zeuxis.families.autoregressive.pixelcnn import pad_columns, planes
from zeuxis.families.autoregressive.pixels import seam, seam_at, seam_planes


class PixelRNNConfig(Config):
    """`width` channels of the residual stream and of each memory; `layers` sweeps, each of one memory (`row`) or of two
    (`diagonal`)."""

    sweep: Literal["row", "diagonal"] = "row"
    width: int = Field(default=48, ge=4, le=1024)
    layers: int = Field(default=4, ge=1, le=32)


class First(nn.Module):
    """The 7x7 convolution with mask A: rows above, and the pixels to the left in the row."""

    ROWS, LEFT = 3, 3

    def __init__(self, inputs: int, width: int, wrap: bool) -> None:
        super().__init__()
        self.wrap = wrap
        self.down = nn.Conv2d(inputs, width, (self.ROWS, 7))
        self.across = nn.Conv2d(inputs, width, (1, self.LEFT), bias=False)

    def above(self, rows: Tensor) -> Tensor:
        """`[N, C, H + 2, W]`, of which a row sees itself and the two after it -> `[N, width, H, W]`."""
        out: Tensor = self.down(pad_columns(rows, 3, self.wrap))
        return out

    def forward(self, x: Tensor) -> Tensor:
        left = F.pad(x, (self.LEFT, 0))[..., :-1]
        return self.above(F.pad(x, (0, 0, self.ROWS, 0))[:, :, :-1]) + cast(Tensor, self.across(left))


def remember(gates: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    """One step of a long short-term memory (Eq. 3): gates `[..., 4 D]` and memory `[..., D]` -> hidden and memory."""
    opened, value = gates.split([3 * memory.shape[-1], memory.shape[-1]], dim=-1)
    output, forget, enter = torch.sigmoid(opened).chunk(3, dim=-1)
    memory = forget * memory + enter * torch.tanh(value)
    return output * torch.tanh(memory), memory


class RowLSTM(nn.Module):
    """Goes down: the state of a pixel comes from the three above it (section 3.1). Maps are `[N, H, W, D]`."""

    def __init__(self, width: int, wrap: bool) -> None:
        super().__init__()
        self.width, self.wrap = width, wrap
        self.from_input = nn.Linear(2 * width, 4 * width)  # mask B: the pixel and the one to its left
        self.from_state = nn.Linear(3 * width, 4 * width, bias=False)

    def of_state(self, hidden: Tensor) -> Tensor:
        """What the row above `[N, W, D]` gives to the gates `[N, W, 4 D]`."""
        if self.wrap:
            left, right = hidden.roll(1, dims=1), hidden.roll(-1, dims=1)
        else:
            left, right = F.pad(hidden, (0, 0, 1, 0))[:, :-1], F.pad(hidden, (0, 0, 0, 1))[:, 1:]
        return cast(Tensor, self.from_state(torch.cat([left, hidden, right], dim=-1)))

    def forward(self, x: Tensor) -> Tensor:
        gates = self.from_input(torch.cat([F.pad(x, (0, 0, 1, 0))[:, :, :-1], x], dim=-1))
        hidden = memory = torch.zeros_like(x[:, 0])
        rows = []
        for row in gates.unbind(1):
            hidden, memory = remember(row + self.of_state(hidden), memory)
            rows.append(hidden)
        return torch.stack(rows, dim=1)


class DiagonalLSTM(nn.Module):
    """Goes from the upper left to the lower right: the state of a pixel comes from the ones to its left and above
    (section 3.2). Pixels of one diagonal are stepped together."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.from_input = nn.Linear(width, 4 * width)
        self.from_state = nn.Linear(2 * width, 4 * width, bias=False)  # left, above

    def forward(self, x: Tensor) -> Tensor:
        # Left of the picture the gates are zero, so that the states stay zero until a row begins; what happens right of
        # it is used by nothing within.
        gates = skew(cast(Tensor, self.from_input(x)))  # [N, H, H + W - 1, 4 D]
        hidden = memory = torch.zeros_like(x[:, :, 0])  # [N, H, D]
        columns = []
        for column in gates.unbind(2):
            above = F.pad(hidden, (0, 0, 1, 0))[:, :-1]
            hidden, memory = remember(column + self.from_state(torch.cat([hidden, above], dim=-1)), memory)
            columns.append(hidden)
        return unskew(torch.stack(columns, dim=2), x.shape[2])


def skew(x: Tensor) -> Tensor:
    """`[N, H, W, D]` with row i moved i places to the right -> `[N, H, H + W - 1, D]`: diagonals become columns."""
    height, width = x.shape[1:3]
    flat = F.pad(x, (0, 0, 0, height)).flatten(1, 2)[:, : height * (width + height - 1)]
    return flat.unflatten(1, (height, width + height - 1))


def unskew(x: Tensor, width: int) -> Tensor:
    """The inverse of `skew`."""
    height = x.shape[1]
    flat = F.pad(x.flatten(1, 2), (0, 0, 0, height))
    return flat.unflatten(1, (height, width + height))[:, :, :width]


class Layer(nn.Module):
    """x + W sweep(x) + class (Figure 5)."""

    def __init__(self, config: PixelRNNConfig, classes: int, wrap: bool) -> None:
        super().__init__()
        width = config.width
        self.left = RowLSTM(width, wrap) if config.sweep == "row" else DiagonalLSTM(width)
        self.right = DiagonalLSTM(width) if config.sweep == "diagonal" else None
        self.out = nn.Linear(width, width)
        self.embed = nn.Embedding(classes, width) if classes else None

    def forward(self, x: Tensor, labels: Tensor | None) -> Tensor:
        hidden = self.left(x)
        if self.right is not None:  # what comes from the right is known one row later
            hidden = hidden + F.pad(self.right(x.flip(2)).flip(2), (0, 0, 0, 0, 1, 0))[:, :-1]
        x = x + self.out(hidden)
        return x if self.embed is None else x + self.embed(labels)[:, None, None]


class PixelRNN(nn.Module):
    """Pictures `[N, C, H, W]` -> features `[N, width, H, W]` of the pixels before."""

    def __init__(self, config: PixelRNNConfig, spec: ImageSpec, classes: int) -> None:
        super().__init__()
        self.spec, self.width_out = spec, config.width
        self.first = First(spec.channels + 3, config.width, spec.wrap_x)
        self.seam = nn.Linear(seam_planes(spec), config.width, bias=False) if seam_planes(spec) else None
        self.layers = nn.ModuleList(Layer(config, classes, spec.wrap_x) for _ in range(config.layers))
        self.head = nn.Linear(config.width, config.width)

    def forward(self, images: Tensor, labels: Tensor | None) -> Tensor:
        x = self.first(planes(images)).permute(0, 2, 3, 1)
        if self.seam is not None:
            x = x + self.seam(seam(images, self.spec).permute(0, 2, 3, 1))
        for layer in self.layers:
            x = layer(x, labels)
        return self.output(x).permute(0, 3, 1, 2)

    def output(self, x: Tensor) -> Tensor:
        """The residual stream `[..., width]` -> features."""
        return F.elu(self.head(F.elu(x)))

    def walk(self, canvas: Tensor, labels: Tensor | None) -> PixelRNNWalk:
        """The pass that draws."""
        return PixelRNNWalk(self, canvas, labels)


class PixelRNNWalk:
    """Features pixel by pixel: each layer keeps its states of the row above and of the row so far."""

    def __init__(self, network: PixelRNN, canvas: Tensor, labels: Tensor | None) -> None:
        self.network, self.canvas = network, canvas
        self.layers = cast("list[Layer]", list(network.layers))
        self.coordinates = planes(canvas)[:1, canvas.shape[1] :]  # [1, 3, H, W]
        self.classes = [None if layer.embed is None else layer.embed(labels) for layer in self.layers]
        self.kept = canvas.new_zeros(len(canvas), canvas.shape[1] + 3, First.ROWS, canvas.shape[3])
        weight = network.first.across.weight[:, :, 0]  # [D, C + 3, LEFT]
        self.across = weight.permute(0, 2, 1).flatten(1)  # [D, LEFT * (C + 3)]
        self.sweeps = [RowWalk(layer, canvas) if layer.right is None else DiagonalWalk(layer, canvas)
                       for layer in self.layers]  # fmt: skip

    def _begin_row(self, y: int) -> None:
        if y:
            row = self.canvas[:, :, y - 1 : y]
            place = self.coordinates[:, :, y - 1 : y].expand(len(row), -1, -1, -1)
            self.kept = torch.cat([self.kept[:, :, 1:], torch.cat([row, place], dim=1)], dim=2)
        self.above = self.network.first.above(self.kept)[:, :, 0].permute(2, 0, 1).contiguous()  # [W, N, D]
        self.before = self.canvas.new_zeros(len(self.canvas), self.across.shape[1])
        for sweep in self.sweeps:
            sweep.begin_row()

    def features(self, y: int, x: int) -> Tensor:
        """`[N, width]` at a pixel."""
        network = self.network
        if x == 0:
            self._begin_row(y)
        else:
            place = self.coordinates[:, :, y, x - 1].expand(len(self.canvas), -1)
            self.before = torch.cat([self.before[:, place.shape[1] + self.canvas.shape[1] :],
                                     self.canvas[:, :, y, x - 1], place], dim=1)  # fmt: skip
        hidden = self.above[x] + F.linear(self.before, self.across)
        if network.seam is not None and seam_at(network.spec, y, x):
            hidden = hidden + network.seam(seam(self.canvas, network.spec)[:, :, y, x])
        for layer, sweep, own in zip(self.layers, self.sweeps, self.classes, strict=True):
            hidden = hidden + layer.out(sweep.step(hidden, x))
            if own is not None:
                hidden = hidden + own
        return network.output(hidden)


class RowWalk:
    """A `RowLSTM` pixel by pixel."""

    def __init__(self, layer: Layer, canvas: Tensor) -> None:
        self.sweep = cast(RowLSTM, layer.left)
        self.hidden = canvas.new_zeros(len(canvas), canvas.shape[3], self.sweep.width)  # [N, W, D], of the row above
        self.memory = torch.zeros_like(self.hidden)
        self.row = torch.zeros_like(self.hidden)  # of this row so far

    def begin_row(self) -> None:
        """The row so far becomes the row above."""
        self.hidden, self.row = self.row, torch.zeros_like(self.row)
        self.gates = self.sweep.of_state(self.hidden)
        self.left = torch.zeros_like(self.hidden[:, 0])

    def step(self, value: Tensor, x: int) -> Tensor:
        """The layer's input `[N, D]` at column x -> hidden state."""
        gates = self.gates[:, x] + self.sweep.from_input(torch.cat([self.left, value], dim=-1))
        self.left = value
        hidden, self.memory[:, x] = remember(gates, self.memory[:, x])
        self.row[:, x] = hidden
        return hidden


class DiagonalWalk:
    """Both `DiagonalLSTM`s pixel by pixel: the one from the left follows the pixels, the one from the right goes
    through a row when it is complete, and counts for the row below."""

    def __init__(self, layer: Layer, canvas: Tensor) -> None:
        assert layer.right is not None
        self.left, self.right = cast(DiagonalLSTM, layer.left), layer.right
        self.columns = canvas.shape[3]
        zeros = canvas.new_zeros(len(canvas), self.columns, self.left.width)  # [N, W, D]
        self.values = self.of_left = self.of_right = zeros
        self.first = True

    def begin_row(self) -> None:
        """Completes the row above."""
        if not self.first:
            hidden = memory = torch.zeros_like(self.of_right[:, 0])
            row = []
            for x in reversed(range(self.columns)):
                state = torch.cat([hidden, self.of_right[:, x]], dim=-1)
                gates = self.right.from_input(self.values[:, x]) + self.right.from_state(state)
                hidden, memory = remember(gates, memory)
                row.append(hidden)
            self.of_right = torch.stack(row[::-1], dim=1)
        self.first = False
        self.values, self.above = torch.zeros_like(self.values), self.of_left
        self.of_left = torch.zeros_like(self.of_left)
        self.hidden = self.memory = torch.zeros_like(self.of_right[:, 0])

    def step(self, value: Tensor, x: int) -> Tensor:
        """The layer's input `[N, D]` at column x -> the sum of both hidden states."""
        state = torch.cat([self.hidden, self.above[:, x]], dim=-1)
        gates = self.left.from_input(value) + self.left.from_state(state)
        self.hidden, self.memory = remember(gates, self.memory)
        self.values[:, x], self.of_left[:, x] = value, self.hidden
        return self.hidden + self.of_right[:, x]
