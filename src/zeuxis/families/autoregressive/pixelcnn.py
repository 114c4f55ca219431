"""Gated PixelCNN (van den Oord et al. 2016, arXiv 1606.05328): a vertical stack that sees all rows above and a
horizontal one that sees the row so far, so that no pixel before is missed."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from zeuxis.config import Config, ImageSpec
from zeuxis.families.autoregressive.pixels import seam, seam_at, seam_planes


class PixelCNNConfig(Config):
    """`kernel` is the side n of the square that a layer's masked n x n convolution would have; a layer of the vertical
    stack sees (n + 1) / 2 rows of it, one of the horizontal stack (n + 1) / 2 pixels. The first layer's is 7. The
    others go through the dilations 1, 2, 4, ... up to `dilation`, so that a few layers see far."""

    width: int = Field(default=48, ge=4, le=1024)
    layers: int = Field(default=8, ge=1, le=64)
    kernel: Literal[3, 5, 7] = 3
    dilation: Literal[1, 2, 4, 8] = 4


def planes(images: Tensor) -> Tensor:
    """Pictures `[N, C, H, W]` with three planes more: ones, which tell black from outside, and both coordinates."""
    count, _, height, width = images.shape
    y = torch.linspace(-1, 1, height, device=images.device, dtype=images.dtype)
    x = torch.linspace(-1, 1, width, device=images.device, dtype=images.dtype)
    grid = torch.stack([torch.ones_like(x).expand(height, width), y[:, None].expand(height, width),
                        x.expand(height, width)])  # fmt: skip
    return torch.cat([images, grid.expand(count, -1, -1, -1)], dim=1)


def gate(both: Tensor) -> Tensor:
    """tanh of one half of the channels (axis 1) times sigmoid of the other (Eq. 2)."""
    value, opening = both.chunk(2, dim=1)
    return torch.tanh(value) * torch.sigmoid(opening)


def pad_columns(x: Tensor, amount: int, wrap: bool) -> Tensor:
    """`[N, C, H, W]` with `amount` columns more at both sides: zeros, or the other side's where it wraps."""
    while wrap and amount > x.shape[3]:  # circular padding is at most one turn at a time
        x, amount = F.pad(x, (x.shape[3], x.shape[3], 0, 0), mode="circular"), amount - x.shape[3]
    return F.pad(x, (amount, amount, 0, 0), mode="circular" if wrap else "constant")


class Layer(nn.Module):
    """One layer of both stacks (Figure 2): v' = v + gate(conv v), h' = h + W gate(conv h + W v-conv + class)."""

    def __init__(
        self, inputs: int, width: int, kernel: int, dilation: int, first: bool, classes: int, wrap: bool
    ) -> None:
        super().__init__()
        self.first, self.wrap, self.side = first, wrap, kernel // 2 * dilation
        taps = kernel // 2 + (not first)  # the first layer sees strictly before, the others what those saw too
        self.span, self.dilation = (taps - 1) * dilation + 1, dilation  # rows and pixels from the first tap to the last
        self.down = nn.Conv2d(inputs, 2 * width, (taps, kernel), dilation=dilation)
        self.across = nn.Conv2d(inputs, 2 * width, (1, taps), dilation=dilation)
        self.link = nn.Conv2d(2 * width, 2 * width, 1)
        self.out = nn.Conv2d(width, width, 1)
        self.embed = nn.Embedding(classes, 2 * width) if classes else None

    def vertical(self, rows: Tensor) -> Tensor:
        """Before the gate: rows padded on top as needed `[N, C, H + span - 1, W]` -> `[N, 2 width, H, W]`."""
        out: Tensor = self.down(pad_columns(rows, self.side, self.wrap))
        return out

    def forward(self, v: Tensor, h: Tensor, extra: Tensor | None, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        """Both stacks `[N, C, H, W]` -> both `[N, width, H, W]`; `extra` `[N, 2 width, H, W]` joins the horizontal
        gate."""
        if self.first:  # shifted by one row and one pixel
            above = F.pad(v, (0, 0, self.span, 0))[:, :, :-1]
            before = F.pad(h, (self.span, 0))[..., :-1]
        else:
            above, before = F.pad(v, (0, 0, self.span - 1, 0)), F.pad(h, (self.span - 1, 0))
        raw = self.vertical(above)
        both = self.across(before) + self.link(raw)
        if extra is not None:
            both = both + extra
        if self.embed is not None:
            both = both + self.embed(labels)[:, :, None, None]
        new_v, new_h = gate(raw), self.out(gate(both))
        return (new_v, new_h) if self.first else (v + new_v, h + new_h)


class PixelCNN(nn.Module):
    """Pictures `[N, C, H, W]` -> features `[N, width, H, W]` of the pixels before."""

    def __init__(self, config: PixelCNNConfig, spec: ImageSpec, classes: int) -> None:
        super().__init__()
        self.spec, self.width_out = spec, config.width
        inputs, width = spec.channels + 3, config.width
        cycle = [2**level for level in range(config.dilation.bit_length())]
        self.layers = nn.ModuleList(
            Layer(inputs, width, 7, 1, True, classes, spec.wrap_x)
            if not index
            else Layer(width, width, config.kernel, cycle[(index - 1) % len(cycle)], False, classes, spec.wrap_x)
            for index in range(config.layers)
        )
        self.seam = nn.Conv2d(seam_planes(spec), 2 * width, 1, bias=False) if seam_planes(spec) else None
        self.head = nn.Conv2d(width, width, 1)

    def forward(self, images: Tensor, labels: Tensor | None) -> Tensor:
        v = h = planes(images)
        extra = None if self.seam is None else self.seam(seam(images, self.spec))
        for layer in self.layers:
            v, h = layer(v, h, extra, labels)
            extra = None
        out: Tensor = F.elu(self.head(F.elu(h)))
        return out

    def walk(self, canvas: Tensor, labels: Tensor | None) -> PixelCNNWalk:
        """The pass that draws."""
        return PixelCNNWalk(self, canvas, labels)


class PixelCNNWalk:
    """Features pixel by pixel: a row of the vertical stack is computed once, when the row begins, from the last rows
    kept of each layer; a pixel of the horizontal stack from the last pixels kept of each layer."""

    def __init__(self, network: PixelCNN, canvas: Tensor, labels: Tensor | None) -> None:
        self.network, self.canvas = network, canvas
        self.layers: list[Layer] = list(network.layers)  # type: ignore[arg-type]
        self.classes = [None if layer.embed is None else layer.embed(labels) for layer in self.layers]
        # Weights as matrices: a convolution along the kept pixels is one product.
        self.across = [layer.across.weight[:, :, 0].permute(2, 1, 0).flatten(0, 1) for layer in self.layers]
        self.out = [(layer.out.weight[:, :, 0, 0], layer.out.bias) for layer in self.layers]
        count, _, _, width = canvas.shape
        self.coordinates = planes(canvas)[:1, canvas.shape[1] :]  # [1, 3, H, W]
        self.above = [canvas.new_zeros(count, layer.down.in_channels, layer.span, width) for layer in self.layers]
        self.links: list[Tensor] = []
        self.before: list[Tensor] = []

    def _begin_row(self, y: int) -> None:
        """The vertical stack of row y, and what it gives to each layer's horizontal gate, `[W, N, 2 width]`."""
        canvas, count = self.canvas, len(self.canvas)
        self.links = []
        v = self._row_of(y - 1) if y else None
        for index, layer in enumerate(self.layers):
            kept = self.above[index]
            if v is not None:
                self.above[index] = kept = torch.cat([kept[:, :, 1:], v], dim=2)
            raw = layer.vertical(kept)  # [N, 2 width, 1, W]
            link = layer.link(raw)
            if layer.across.bias is not None:
                link = link + layer.across.bias[:, None, None]
            own_class = self.classes[index]
            if own_class is not None:
                link = link + own_class[:, :, None, None]
            self.links.append(link[:, :, 0].permute(2, 0, 1).contiguous())
            v = gate(raw) if layer.first else v + gate(raw)  # type: ignore[operator]
        self.before = [canvas.new_zeros(count, layer.span, layer.across.in_channels) for layer in self.layers]

    def _row_of(self, y: int) -> Tensor:
        """The network's input of one row `[N, C + 3, 1, W]`."""
        row = self.canvas[:, :, y : y + 1]
        return torch.cat([row, self.coordinates[:, :, y : y + 1].expand(len(row), -1, -1, -1)], dim=1)

    def features(self, y: int, x: int) -> Tensor:
        """`[N, width]` at a pixel."""
        if x == 0:
            self._begin_row(y)
            h: Tensor | None = None  # left of the row is nothing
        else:
            place = self.coordinates[:, :, y, x - 1].expand(len(self.canvas), -1)
            h = torch.cat([self.canvas[:, :, y, x - 1], place], dim=1)
        for index, layer in enumerate(self.layers):
            kept = self.before[index]
            if h is not None:
                self.before[index] = kept = torch.cat([kept[:, 1:], h[:, None]], dim=1)
            both = torch.addmm(self.links[index][x], kept[:, :: layer.dilation].flatten(1), self.across[index])
            if index == 0:
                both = self._join_seam(both, y, x)
            new = F.linear(gate(both), *self.out[index])
            h = new if layer.first or h is None else h + new
        assert h is not None
        head = self.network.head
        return F.elu(F.linear(F.elu(h), head.weight[:, :, 0, 0], head.bias))

    def _join_seam(self, both: Tensor, y: int, x: int) -> Tensor:
        """Adds what lies across a wrapped edge, where something does."""
        spec = self.network.spec
        if self.network.seam is None or not seam_at(spec, y, x):
            return both
        return both + seam(self.canvas, spec)[:, :, y, x] @ self.network.seam.weight[:, :, 0, 0].t()
