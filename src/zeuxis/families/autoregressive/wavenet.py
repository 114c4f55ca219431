"""WaveNet over the raster sequence of a picture (van den Oord et al. 2016, arXiv 1609.03499): dilated causal
convolutions with gated units, residual and skip connections."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from zeuxis.config import Config, ImageSpec
from zeuxis.families.autoregressive.pixelcnn import planes
from zeuxis.families.autoregressive.pixels import seam, seam_at, seam_planes


class WaveNetConfig(Config):
    """`stacks` times `depth` layers with the dilations 1, 2, 4, ... 2^(depth - 1): a pixel sees stacks * (2^depth - 1)
    pixels back. `skip` is the width of what all layers hand to the output."""

    width: int = Field(default=48, ge=4, le=1024)
    skip: int = Field(default=64, ge=4, le=4096)
    depth: int = Field(default=8, ge=1, le=16)
    stacks: int = Field(default=2, ge=1, le=16)


class Layer(nn.Module):
    """tanh(W x) * sigmoid(V x) of the pixel and the one `dilation` before (Eq. 2, with a class Eq. 3), then residual
    and skip."""

    def __init__(self, width: int, skip: int, dilation: int, classes: int, last: bool) -> None:
        super().__init__()
        self.width, self.dilation, self.last = width, dilation, last  # the last layer's residual would lead nowhere
        self.project = nn.Linear(2 * width, 2 * width)
        self.out = nn.Linear(width, skip if last else width + skip)
        self.embed = nn.Embedding(classes, 2 * width) if classes else None

    def gated(self, x: Tensor, past: Tensor, extra: Tensor | None) -> tuple[Tensor, Tensor]:
        """x, and x `dilation` pixels before, `[..., width]` -> the next layer's x and what is skipped."""
        both = self.project(torch.cat([past, x], dim=-1))
        if extra is not None:
            both = both + extra
        value, opening = both.chunk(2, dim=-1)
        out = self.out(torch.tanh(value) * torch.sigmoid(opening))
        return (x, out) if self.last else (x + out[..., : self.width], out[..., self.width :])


class WaveNet(nn.Module):
    """Pictures `[N, C, H, W]` -> features `[N, skip, H, W]` of the pixels before."""

    def __init__(self, config: WaveNetConfig, spec: ImageSpec, classes: int) -> None:
        super().__init__()
        self.spec, self.width_out = spec, config.skip
        self.first = nn.Linear(spec.channels + 3, config.width)
        dilations = [2**level for level in range(config.depth)] * config.stacks
        self.layers = nn.ModuleList(
            Layer(config.width, config.skip, dilation, classes, index == len(dilations) - 1)
            for index, dilation in enumerate(dilations)
        )
        self.seam = nn.Linear(seam_planes(spec), 2 * config.width, bias=False) if seam_planes(spec) else None
        self.head = nn.Linear(config.skip, config.skip)

    def forward(self, images: Tensor, labels: Tensor | None) -> Tensor:
        known = planes(images).flatten(2).transpose(1, 2)  # [N, T, C + 3]
        x = self.first(F.pad(known, (0, 0, 1, 0))[:, :-1])  # the pixel before
        extra = None if self.seam is None else self.seam(seam(images, self.spec).flatten(2).transpose(1, 2))
        skipped, length = torch.zeros_like(x[..., :1]), x.shape[1]
        for layer in cast("list[Layer]", list(self.layers)):
            if layer.embed is not None:
                own = layer.embed(labels)[:, None]
                extra = own if extra is None else extra + own
            x, skip = layer.gated(x, F.pad(x, (0, 0, layer.dilation, 0))[:, :length], extra)
            skipped, extra = skipped + skip, None
        return self.output(skipped).transpose(1, 2).unflatten(2, images.shape[2:])

    def output(self, skipped: Tensor) -> Tensor:
        """The sum of all skips `[..., skip]` -> features (Figure 4)."""
        return F.elu(self.head(F.elu(skipped)))

    def walk(self, canvas: Tensor, labels: Tensor | None) -> WaveNetWalk:
        """The pass that draws."""
        return WaveNetWalk(self, canvas, labels)


class WaveNetWalk:
    """Features pixel by pixel: each layer keeps a queue of its last `dilation` inputs (Paine et al. 2016, arXiv
    1611.09482)."""

    def __init__(self, network: WaveNet, canvas: Tensor, labels: Tensor | None) -> None:
        self.network, self.canvas = network, canvas
        self.layers = cast("list[Layer]", list(network.layers))
        width = network.first.out_features
        self.queues = [canvas.new_zeros(layer.dilation, len(canvas), width) for layer in self.layers]
        self.classes = [None if layer.embed is None else layer.embed(labels) for layer in self.layers]
        self.coordinates = planes(canvas)[:1, canvas.shape[1] :].flatten(2)  # [1, 3, T]
        self.flat = canvas.view(*canvas.shape[:2], -1)  # [N, C, T], the same memory

    def features(self, y: int, x: int) -> Tensor:
        """`[N, skip]` at a pixel."""
        network, at = self.network, y * self.canvas.shape[3] + x
        if at:
            coordinates = self.coordinates[..., at - 1].expand(len(self.flat), -1)
            known = torch.cat([self.flat[..., at - 1], coordinates], dim=1)
        else:
            known = self.canvas.new_zeros(len(self.canvas), network.first.in_features)
        hidden = network.first(known)
        extra = None
        if network.seam is not None and seam_at(network.spec, y, x):
            extra = network.seam(seam(self.canvas, network.spec)[:, :, y, x])
        skipped = torch.zeros_like(hidden[:, :1])
        for layer, queue, own in zip(self.layers, self.queues, self.classes, strict=True):
            if own is not None:
                extra = own if extra is None else extra + own
            place = at % layer.dilation
            past = queue[place].clone()
            queue[place] = hidden
            hidden, skip = layer.gated(hidden, past, extra)
            skipped, extra = skipped + skip, None
        return network.output(skipped)
