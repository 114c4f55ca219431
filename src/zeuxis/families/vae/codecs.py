"""Pictures as a grid of tokens: `vq` with a learned codebook (van den Oord et al. 2017, arXiv 1711.00937), `fsq` with
levels in place of one (Mentzer et al. 2023, arXiv 2309.15505)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import nn

from zeuxis.config import Config, ImageSpec
from zeuxis.nn.codec import CodecDecoder, CodecEncoder
from zeuxis.nn.quantise import FSQ, VQ, fsq_levels


class CodecConfig(Config):
    """One token for `factor` x `factor` pixels, out of `codes`; `width` channels beside the picture, twice as many
    after each halving up to `max_width`, and `blocks` residual blocks at each side."""

    codes: int = Field(default=512, ge=16, le=65535)
    factor: Literal[2, 4, 8, 16, 32] = 4
    width: int = Field(default=64, ge=4, le=1024)
    max_width: int = Field(default=128, ge=4, le=4096)
    blocks: int = Field(default=1, ge=0, le=16)


class VQConfig(CodecConfig):
    """`code_channels` is the length of a code."""

    code_channels: int = Field(default=16, ge=1, le=1024)


class FSQConfig(CodecConfig):
    """The largest listed set of levels with at most `codes` codes: 512 are 8, 8, 8, and 1000 are 8, 5, 5, 5."""


def code_channels(config: CodecConfig) -> int:
    """Channels that the quantiser takes."""
    return config.code_channels if isinstance(config, VQConfig) else len(fsq_levels(config.codes))


def quantiser(config: CodecConfig) -> FSQ | VQ:
    """The quantiser of a configuration."""
    return VQ(config.codes, config.code_channels) if isinstance(config, VQConfig) else FSQ(fsq_levels(config.codes))


def encoder(config: CodecConfig, spec: ImageSpec, classes: int) -> nn.Module:
    """`(images, labels) -> [N, code channels, h, w]`."""
    return CodecEncoder(
        spec, code_channels(config), factor=config.factor, width=config.width, max_width=config.max_width,
        blocks=config.blocks, classes=classes,
    )  # fmt: skip


def decoder(config: CodecConfig, spec: ImageSpec, classes: int, outputs: int) -> nn.Module:
    """`(quantised, labels) -> [N, outputs, H, W]`."""
    return CodecDecoder(
        spec, code_channels(config), outputs, factor=config.factor, width=config.width, max_width=config.max_width,
        blocks=config.blocks, classes=classes,
    )  # fmt: skip
