"""Changes to training pictures that keep them real: batched, one to four channels, float `[-1, 1]` `[N, C, H, W]`."""

from __future__ import annotations

import torch
from torch import Tensor


def mirror(images: Tensor, generator: torch.Generator) -> Tensor:
    """Flips each picture left to right with probability one half."""
    flip = (torch.rand(len(images), generator=generator) < 0.5).to(images.device)
    return torch.where(flip[:, None, None, None], images.flip(3), images)
