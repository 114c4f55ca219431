"""Where a clip from nothing begins: a small VAE of first frames (Kingma & Welling 2013, arXiv 1312.6114)."""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zeuxis.config import ImageSpec
from zeuxis.families.autoregressive.patches import grid_of, planes, to_frames
from zeuxis.nn.conv import Conv2d

LOG_SIGMA_LEAST = -4.0  # of a pixel on the [-1, 1] scale: a bound that 8-bit rounding noise does not reach


class Start(nn.Module):
    """q(z|x), p(x|z) of a frame x in patches and z `[N, latent]`: two convolutions each way and one Gaussian spread."""

    def __init__(self, width: int, latent: int, spec: ImageSpec, classes: int) -> None:
        super().__init__()
        wrap = (spec.wrap_x, spec.wrap_y)
        self.grid = grid_of(spec)
        self.coarse = math.ceil(self.grid[0] / 2), math.ceil(self.grid[1] / 2)
        self.latent, self.width = latent, width
        self.first = Conv2d(planes(spec), width, 3, padding=1, wrap=wrap)
        self.down = Conv2d(width, width, 3, stride=2, padding=1, wrap=wrap)
        self.to_latent = nn.Linear(width * math.prod(self.coarse), 2 * latent)
        self.from_latent = nn.Linear(latent, width * math.prod(self.coarse))
        self.embed = nn.Embedding(classes, width) if classes else None
        self.up = Conv2d(width, width, 3, padding=1, wrap=wrap)
        self.to_patches = Conv2d(width, planes(spec), 3, padding=1, wrap=wrap)
        self.log_sigma = nn.Parameter(torch.tensor(-1.0))

    def forward(self, patches: Tensor, labels: Tensor | None, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Patches `[N, P, h, w]` and noise `[N, latent]` -> (-log p(x|z), KL), nats `[N]`; the sum bounds -log p(x)."""
        x = F.silu(self.first(patches))
        if self.embed is not None:
            x = x + self.embed(labels)[:, :, None, None].to(x.dtype)
        x = F.silu(self.down(x))
        mean, log_variance = self.to_latent(x.flatten(1)).float().chunk(2, dim=1)
        log_variance = log_variance.clamp(-20, 10)
        made = self.decode(mean + torch.exp(0.5 * log_variance) * noise, labels)
        log_sigma = LOG_SIGMA_LEAST + F.softplus(self.log_sigma.float() - LOG_SIGMA_LEAST)
        error = (made - patches.float()) * torch.exp(-log_sigma)
        nats = (0.5 * error.square() + log_sigma + 0.5 * math.log(2 * math.pi)).flatten(1).sum(1)
        return nats, 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)

    def decode(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """Patches `[N, P, h, w]` of z `[N, latent]`."""
        x = self.from_latent(z).unflatten(1, (self.width, *self.coarse))
        if self.embed is not None:
            x = x + self.embed(labels)[:, :, None, None].to(x.dtype)
        x = F.interpolate(F.silu(x), scale_factor=2.0, mode="nearest")[:, :, : self.grid[0], : self.grid[1]]
        return cast(Tensor, self.to_patches(F.silu(self.up(x)))).float()

    def frame(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """A first frame float `[-1, 1]` `[N, C, H, W]`."""
        return to_frames(self.decode(z, labels).clamp(-1, 1))
