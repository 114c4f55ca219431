"""Small feature networks for pictures of any size: 128 numbers per picture."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zeuxis.config import ImageSpec
from zeuxis.images import composite, to_float

FEATURES = 128
WIDTHS = (64, 128)
SMALL = 64  # pixels a side up to which blocks of 2x2 pixels are enough


class FeatureNet(nn.Module):
    """Blocks of 2x2 pixels (4x4 for large pictures) as channels, then 3x3 convolutions with batch normalisation and
    maximum pooling down to 2 to 3 a side, then 128 features.

    Input float `[-1, 1]` `[N, 1, 3 or 6, H, W]`; `outputs` numbers on top of the features serve training alone.
    """

    def __init__(self, channels: int, spec: ImageSpec, outputs: int) -> None:
        super().__init__()
        self.block = 2 if min(spec.height, spec.width) <= SMALL else 4
        sides = spec.height // self.block, spec.width // self.block
        levels = max(0, int(math.log2(min(sides) / 2)))
        widths = [WIDTHS[min(level, len(WIDTHS) - 1)] for level in range(levels + 1)]
        self.convs = nn.ModuleList(
            nn.Conv2d(before, after, 3, padding=1, bias=False)
            for before, after in zip([channels * self.block**2, *widths[:-1]], widths, strict=True)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths)
        height, width = (math.ceil(side / 2**levels) for side in sides)
        self.to_features = nn.Linear(widths[-1] * height * width, FEATURES)
        self.head = nn.Linear(FEATURES, outputs)

    def features(self, x: Tensor) -> Tensor:
        """Float32 `[N, 128]`, not negative."""
        x = F.pixel_unshuffle(x, self.block).contiguous(memory_format=torch.channels_last)
        for index, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = F.relu(norm(conv(x)))
            if index < len(self.convs) - 1:
                x = F.max_pool2d(x, 2, ceil_mode=True)
        return F.relu(self.to_features(x.flatten(1)))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def visible(pixels: Tensor) -> Tensor:
    """uint8 `[N, C, H, W]` -> float `[-1, 1]` as it is judged: RGBA becomes six channels, seen on black and on
    white."""
    if pixels.shape[1] != 4:
        return to_float(pixels)
    straight = pixels.cpu().numpy()
    sides = [torch.from_numpy(composite(straight, grey)) for grey in (0, 255)]
    return to_float(torch.cat(sides, dim=1)).to(pixels.device)


def visible_channels(spec: ImageSpec) -> int:
    """Channels of `visible`."""
    return 6 if spec.channels == 4 else spec.channels
