"""Pictures drawn pixel after pixel in raster order: exact likelihood, sampling with caches, completion."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Protocol, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from zeuxis.config import Config, ImageSpec
from zeuxis.errors import UserError
from zeuxis.families.autoregressive.method import MakesNetwork, Method
from zeuxis.families.autoregressive.outputs import OUTPUTS, Categorical, LogisticMixture
from zeuxis.families.base import Batch, Networks, Noise, Phase, RenderOptions, Stage, TrainingConfig
from zeuxis.nn.logistic import quantised

CHUNK_PIXELS = 2**17  # pixels whose likelihood is computed at once


class PixelsConfig(Config):
    """p(pixel | pixels before): a mixture of discretised logistics, or a free distribution over all levels. Pictures
    are rounded to `levels` (256: as they are; 2: black and white); RGBA is premultiplied first."""

    likelihood: Literal["logistic-mixture", "categorical"] = "logistic-mixture"
    levels: int = Field(default=256, ge=2, le=256)
    components: int = Field(default=10, ge=1, le=100)


class Walk(Protocol):
    """The pass that draws: features of one pixel after the other, from caches of what was computed for those before."""

    def features(self, y: int, x: int) -> Tensor:
        """`[N, D]` at a pixel; called once for each in raster order, when the canvas holds all pixels before it."""


class PixelNetwork(Protocol):
    """What a network over pixels is: built from its config, an image spec and a number of classes."""

    width_out: int  # D, the number of features

    def __call__(self, images: Tensor, labels: Tensor | None) -> Tensor:
        """Pictures `[N, C, H, W]` -> features `[N, D, H, W]`, each of the pixels before it in raster order alone."""

    def walk(self, canvas: Tensor, labels: Tensor | None) -> Walk:
        """The same features one by one, from `canvas` `[N, C, H, W]`, which the caller fills in between."""


def seam(images: Tensor, spec: ImageSpec) -> Tensor:
    """What lies across a wrapped edge and is known already, `[N, S, H, W]` (S is 0 without a wrapped axis).

    In raster order the left edge is drawn before the right one and the top before the bottom: the last columns see the
    first pixels of their row, the last rows the first rows, and join them. Zero where nothing is known.
    """
    planes = []
    height, width = images.shape[2:]
    if spec.wrap_x:
        for step in (1, 2):  # the pixel `step` to the right, which is `width - step` to the left
            moved = torch.zeros_like(images)
            moved[:, :, :, width - step :] = images[:, :, :, :step]
            planes.append(moved)
    if spec.wrap_y:
        for step in (1, 2):
            for aside in (-1, 0, 1):
                row = images[:, :, :step]  # [N, C, step, W]
                if spec.wrap_x:
                    row = row.roll(-aside, dims=3)
                elif aside:
                    row = nn.functional.pad(row, (1, 1))[..., 1 + aside : 1 + aside + width]
                moved = torch.zeros_like(images)
                moved[:, :, height - step :] = row
                planes.append(moved)
    return torch.cat(planes, dim=1) if planes else images[:, :0]


def seam_planes(spec: ImageSpec) -> int:
    """The number of planes S that `seam` gives."""
    return spec.channels * (2 * spec.wrap_x + 6 * spec.wrap_y)


def seam_at(spec: ImageSpec, y: int, x: int) -> bool:
    """Whether `seam` knows anything at a pixel."""
    return (spec.wrap_x and x >= spec.width - 2) or (spec.wrap_y and y >= spec.height - 2)


class PixelModel(nn.Module):
    """A network over pixels with the output on top."""

    def __init__(self, body: nn.Module, output: LogisticMixture | Categorical) -> None:
        super().__init__()
        self.body, self.output = body, output

    def forward(self, images: Tensor, labels: Tensor | None) -> Tensor:
        """log p of every pixel given those before it, nats `[N, H, W]`, of images on their levels `[N, C, H, W]`."""
        return self.output.log_prob(self.body(images, labels), images)


class Pixels(Method):
    """log p(x) as the sum over pixels in raster order of log p(pixel | pixels before), all of them in one pass."""

    objective_config: ClassVar[type[Config]] = PixelsConfig
    exact_likelihood: ClassVar[bool] = True
    chosen_by_nats: ClassVar[bool] = True
    capabilities = frozenset({"log_likelihood", "complete"})
    render_options = ("temperature",)

    def __init__(
        self, network: MakesNetwork, config: Any, objective: Any, training: TrainingConfig, spec: ImageSpec,
        classes: int,
    ) -> None:  # fmt: skip
        super().__init__(network, config, objective, training, spec, classes)
        if spec.frames != 1:
            raise UserError("--frames", spec.frames, "1 for a network over pixels", "take a network over frames")
        # Uniform numbers per pixel: a mixture takes one more, for the component.
        self.draws = spec.channels + (objective.likelihood == "logistic-mixture")

    @property
    def steps_per_picture(self) -> int:
        return self.spec.height * self.spec.width

    def build(self) -> dict[str, nn.Module]:
        body = self.network(self.config, self.spec, self.classes)
        own = self.objective
        width = cast(PixelNetwork, body).width_out
        output = OUTPUTS[own.likelihood](width, self.spec.channels, own.levels, own.components)
        return {"network": PixelModel(body, output)}

    def stages(self) -> list[Stage]:
        return [Stage(name="pixels", phases=(Phase(name="likelihood", parts=("network",)),))]

    def losses(
        self, phase: Phase, networks: Networks, batch: Batch, noise: Noise, progress: float | Tensor
    ) -> dict[str, Tensor]:
        """Negative log likelihood in nats per picture."""
        levels = quantised(batch.images, self.objective.levels)
        nats = -networks["network"](levels, batch.labels).flatten(1).sum(1)
        return {"loss": nats}

    def noise(self, count: int, generator: torch.Generator, purpose: Literal["train", "sample"]) -> Noise:
        """Uniform numbers `[N, H, W, draws]` to sample by; training needs none."""
        if purpose == "train":
            return {}
        return {"uniforms": torch.rand(count, self.spec.height, self.spec.width, self.draws, generator=generator)}

    def render(self, networks: Networks, noise: Noise, labels: Tensor | None, options: RenderOptions) -> Tensor:
        """Temperature sharpens each pixel's distribution: it divides logits and scales spreads."""
        return self._draw(networks, noise, labels, options, None, None)

    def complete(
        self, networks: Networks, images: Tensor, known: Tensor, labels: Tensor | None, noise: Noise,
        options: RenderOptions,
    ) -> Tensor:  # fmt: skip
        """Exact where what is known comes first in raster order (the upper part): the rest is drawn from
        p(rest | known). Elsewhere a pixel is drawn given what is above and to its left only."""
        drawn = self._draw(networks, noise, labels, options, quantised(images, self.objective.levels), known)
        return torch.where(known, images, drawn)

    def _draw(
        self, networks: Networks, noise: Noise, labels: Tensor | None, options: RenderOptions, images: Tensor | None,
        known: Tensor | None,
    ) -> Tensor:  # fmt: skip
        """Pixels in raster order; where `known`, those of `images` instead."""
        model = cast(PixelModel, networks["network"])
        uniforms = noise["uniforms"]
        with torch.no_grad():
            canvas = torch.zeros(len(uniforms), *self.spec.shape, device=uniforms.device)
            walk = cast(PixelNetwork, model.body).walk(canvas, labels)
            for y in range(self.spec.height):
                for x in range(self.spec.width):
                    pixel = model.output.draw(walk.features(y, x), uniforms[:, y, x], options.temperature)
                    if images is not None and known is not None:
                        pixel = torch.where(known[:, :, y, x], images[:, :, y, x], pixel)
                    canvas[:, :, y, x] = pixel
        return canvas

    def nats(self, networks: Networks, images: Tensor, labels: Tensor | None) -> Tensor:
        return -self.log_likelihood(networks, images, labels)

    def log_likelihood(
        self, networks: Networks, images: Tensor, labels: Tensor | None, known: Tensor | None = None
    ) -> Tensor:
        """Exact log probability of the pictures on their levels, nats `[N]`; with `known` (bool `[N, 1, H, W]`) of
        these pixels alone, each given all before it."""
        step = max(1, CHUNK_PIXELS // (self.spec.height * self.spec.width))
        parts = []
        for start in range(0, len(images), step):
            part = quantised(images[start : start + step], self.objective.levels)
            own = None if labels is None else labels[start : start + step]
            each = networks["network"](part, own)  # [N, H, W]
            if known is not None:
                each = each * known[start : start + step, 0]
            parts.append(each.flatten(1).sum(1))
        return torch.cat(parts)
