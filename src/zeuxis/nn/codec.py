"""A convolutional codec: pictures to a grid of tokens a stated factor smaller, and back."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from zeuxis.config import ImageSpec
from zeuxis.nn.conv import Conv2d, base_sides
from zeuxis.nn.quantise import FSQ, VQ


class ResidualBlock(nn.Module):
    """x + conv(silu(conv(silu(x)))); the last convolution starts at zero, so that depth costs nothing at first."""

    def __init__(self, width: int, wrap: tuple[bool, bool]) -> None:
        super().__init__()
        self.first = Conv2d(width, width, 3, padding=1, wrap=wrap)
        self.second = Conv2d(width, width, 3, padding=1, wrap=wrap)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.silu(self.first(F.silu(x))))


class CodecEncoder(nn.Module):
    """Pictures `[N, C, H, W]` (and labels) -> `[N, channels, ceil(H / factor), ceil(W / factor)]`.

    Each halving folds 2x2 pixels into channels before a 3x3 convolution, which a processor does faster than a
    convolution with stride on few channels.
    """

    def __init__(
        self, spec: ImageSpec, channels: int, *, factor: int, width: int, max_width: int, blocks: int, classes: int = 0
    ) -> None:
        super().__init__()
        levels, wrap = factor.bit_length() - 1, (spec.wrap_x, spec.wrap_y)
        grid = base_sides(spec, levels)
        self.padding = grid[0] * factor - spec.height, grid[1] * factor - spec.width
        widths = [min(width * 2**level, max_width) for level in range(levels)]
        self.embed = nn.Embedding(classes, widths[0]) if classes else None
        self.downs = nn.ModuleList(
            Conv2d(4 * before, after, 3, padding=1, wrap=wrap)
            for before, after in zip([spec.channels, *widths[:-1]], widths, strict=True)
        )
        self.blocks = nn.ModuleList(nn.Sequential(*(ResidualBlock(w, wrap) for _ in range(blocks))) for w in widths)
        self.last = Conv2d(widths[-1], channels, 1)
        # About one in size: a quantiser of smaller vectors gives all pictures the same tokens at first.
        nn.init.normal_(self.last.weight, std=4 / widths[-1] ** 0.5)

    def forward(self, images: Tensor, labels: Tensor | None) -> Tensor:
        x = F.pad(images, (0, self.padding[1], 0, self.padding[0])) if any(self.padding) else images
        for level, (down, block) in enumerate(zip(self.downs, self.blocks, strict=True)):
            x = down(F.pixel_unshuffle(x if level == 0 else F.silu(x), 2))
            if level == 0 and self.embed is not None:
                x = x + self.embed(labels)[:, :, None, None].to(x.dtype)
            x = block(x)
        return self.last(F.silu(x))


class CodecDecoder(nn.Module):
    """A grid `[N, channels, h, w]` (and labels) -> `[N, outputs, H, W]`: the encoder in a mirror."""

    def __init__(
        self, spec: ImageSpec, channels: int, outputs: int, *, factor: int, width: int, max_width: int, blocks: int,
        classes: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.spec = spec
        levels, wrap = factor.bit_length() - 1, (spec.wrap_x, spec.wrap_y)
        widths = [min(width * 2**level, max_width) for level in range(levels)][::-1]
        self.embed = nn.Embedding(classes, widths[0]) if classes else None
        self.first = Conv2d(channels, widths[0], 3, padding=1, wrap=wrap)
        self.blocks = nn.ModuleList(nn.Sequential(*(ResidualBlock(w, wrap) for _ in range(blocks))) for w in widths)
        self.ups = nn.ModuleList(
            Conv2d(before, 4 * after, 3, padding=1, wrap=wrap)
            for before, after in zip(widths, [*widths[1:], outputs], strict=True)
        )

    def forward(self, z: Tensor, labels: Tensor | None) -> Tensor:
        x = self.first(z)
        if self.embed is not None:
            x = x + self.embed(labels)[:, :, None, None].to(x.dtype)
        for block, up in zip(self.blocks, self.ups, strict=True):
            x = F.pixel_shuffle(up(F.silu(block(x))), 2)
        return x[:, :, : self.spec.height, : self.spec.width]


class Codec(nn.Module):
    """Encoder, quantiser and decoder. `factor` is a power of two from 2: a side of H pixels has ceil(H / factor)
    tokens, and a wrapped side must be divisible by it (`UserError`). `outputs` is the channels of what is decoded, by
    default the pictures' own (before any link function)."""

    def __init__(
        self, spec: ImageSpec, quantiser: FSQ | VQ, *, factor: int = 4, width: int = 64, max_width: int = 128,
        blocks: int = 2, outputs: int | None = None, classes: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        assert factor >= 2 and factor & (factor - 1) == 0, f"the factor is a power of two from 2, not {factor}"
        self.grid = math.ceil(spec.height / factor), math.ceil(spec.width / factor)  # tokens per side
        self.encoder = CodecEncoder(
            spec, quantiser.channels, factor=factor, width=width, max_width=max_width, blocks=blocks, classes=classes
        )
        self.quantiser = quantiser
        self.decoder = CodecDecoder(
            spec, quantiser.channels, outputs or spec.channels, factor=factor, width=width, max_width=max_width,
            blocks=blocks, classes=classes,
        )  # fmt: skip

    def forward(self, images: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Pictures float `[-1, 1]` `[N, C, H, W]` -> decoded `[N, outputs, H, W]`, tokens `[N, h, w]`, and the
        quantiser's terms."""
        quantised, tokens, terms = self.quantiser(self.encoder(images, labels))
        return self.decoder(quantised, labels), tokens, terms

    def encode(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Tokens int64 `[N, h, w]` of pictures."""
        return self.quantiser(self.encoder(images, labels))[1]

    def decode_tokens(self, tokens: Tensor, labels: Tensor | None = None) -> Tensor:
        """`[N, outputs, H, W]` of tokens `[N, h, w]`."""
        return self.decoder(self.quantiser.decode_tokens(tokens), labels)
