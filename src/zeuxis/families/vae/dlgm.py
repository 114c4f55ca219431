"""Deep latent Gaussian models (Rezende, Mohamed, Wierstra 2014, arXiv 1401.4082): a stack of layers, each the one above
it through a small network plus Gaussian noise of its own."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from zeuxis.config import ImageSpec
from zeuxis.families.vae.pair import LatentConfig


class DlgmConfig(LatentConfig):
    """`layers` Gaussian layers of `latent` units with `hidden` deterministic units between them; the recognition
    model's covariance of each layer is diagonal or of the structured form of section 4.3."""

    latent: int = Field(default=32, ge=1, le=4096)
    layers: int = Field(default=2, ge=1, le=16)
    hidden: int = Field(default=256, ge=1, le=65536)
    covariance: Literal["diagonal", "rank-1"] = "rank-1"

    @property
    def groups(self) -> tuple[int, ...]:
        return (self.latent,) * self.layers


class Encoder(nn.Module):
    """The recognition model: pictures `[N, C, H, W]` (and labels) -> means, log variances (and u) of all layers, each
    `[N, layers * latent]`, layer 1 (nearest to the picture) first. Layer l has its own head on the l-th hidden
    layer."""

    def __init__(self, config: DlgmConfig, spec: ImageSpec, classes: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(classes, config.hidden) if classes else None
        sizes = [spec.size] + [config.hidden] * (config.layers + 1)
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes[:-1], sizes[1:], strict=True))
        self.kinds = 3 if config.covariance == "rank-1" else 2
        self.heads = nn.ModuleList(nn.Linear(config.hidden, self.kinds * config.latent) for _ in range(config.layers))

    def forward(self, images: Tensor, labels: Tensor | None) -> tuple[Tensor, ...]:
        x = self.hidden[0](images.flatten(1))
        if self.embed is not None:
            x = x + self.embed(labels)
        x = F.silu(x)
        parts = []
        for layer, head in zip(list(self.hidden)[1:], self.heads, strict=True):
            x = F.silu(layer(x))
            parts.append(head(x).float().chunk(self.kinds, dim=1))
        return tuple(torch.cat(kind, dim=1) for kind in zip(*parts, strict=True))


class Decoder(nn.Module):
    """The generative model: noise xi of all layers `[N, layers * latent]` (and labels) -> `[N, outputs, H, W]`.

    h_L = G_L xi_L, h_l = T_l(h_l+1) + G_l xi_l (Eqs. 2 and 3), and the picture's parameters out of h_1; each T_l has
    one hidden layer.
    """

    def __init__(self, config: DlgmConfig, spec: ImageSpec, classes: int, outputs: int) -> None:
        super().__init__()
        self.spec, self.config, self.outputs = spec, config, outputs
        latent, hidden = config.latent, config.hidden
        self.embed = nn.Embedding(classes, latent) if classes else None
        self.scale = nn.ModuleList(nn.Linear(latent, latent, bias=False) for _ in range(config.layers))  # G
        self.step = nn.ModuleList(  # T
            nn.Sequential(nn.Linear(latent, hidden), nn.SiLU(), nn.Linear(hidden, latent))
            for _ in range(config.layers - 1)
        )
        for scale in self.scale:
            nn.init.eye_(scale.weight)  # type: ignore[arg-type]  # noise as it comes
        self.to_picture = nn.Sequential(
            nn.Linear(latent, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(),
            nn.Linear(hidden, outputs * spec.height * spec.width),
        )  # fmt: skip

    def forward(self, z: Tensor, labels: Tensor | None) -> Tensor:
        noise = z.split(self.config.latent, dim=1)
        h = self.scale[-1](noise[-1])
        if self.embed is not None:
            h = h + self.embed(labels).to(h.dtype)
        for layer in range(self.config.layers - 2, -1, -1):
            h = self.step[layer](h) + self.scale[layer](noise[layer])
        out: Tensor = self.to_picture(h)
        return out.unflatten(1, (self.outputs, self.spec.height, self.spec.width))
