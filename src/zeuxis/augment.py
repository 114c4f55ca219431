"""Changes to training pictures: batched and differentiable, one to four channels, float `[-1, 1]` `[N, C, H, W]`.

`mirror` keeps pictures real. `augment` does not: both what is real and what is generated go through it before a
discriminator sees them, each change with a probability below one, so that the generator cannot learn the changes
(Karras et al. 2020, arXiv 2006.06676, section 2; Zhao et al. 2020, arXiv 2006.10738, Eq. 4).
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from zeuxis.config import ImageSpec
from zeuxis.recording import constant

Kind = Literal["flip", "shift", "fraction", "scale", "rotate", "aniso", "colour", "cutout"]
KINDS: tuple[Kind, ...] = get_args(Kind)
DRAWS = 24  # uniform numbers per picture; each change has places of its own, so that one more moves no other
_PLACES: dict[Kind, int] = {"flip": 0, "shift": 2, "fraction": 5, "scale": 8, "rotate": 10, "aniso": 12, "colour": 14,
                            "cutout": 20}  # fmt: skip
SHIFT = 0.125  # of the side, whole pixels and fractions of them (arXiv 2006.06676, appendix B)
SCALE, ANISO, BRIGHTNESS, CONTRAST, SATURATION = 0.2, 0.2, 0.2, 0.5, 1.0  # standard deviations of the same appendix
CUTOUT = 0.5  # of the side


def flips(count: int, generator: torch.Generator) -> Tensor:
    """Which of `count` pictures `mirror` turns round, each with probability one half: bool `[count]`."""
    return torch.rand(count, generator=generator) < 0.5


def mirror(images: Tensor, flip: Tensor) -> Tensor:
    """Turns the pictures (or clips) left to right that `flip` (bool `[N]`) names."""
    return torch.where(flip.to(images.device).view(-1, *[1] * (images.dim() - 1)), images.flip(-1), images)


def draw(count: int, generator: torch.Generator) -> Tensor:
    """What `augment` needs of chance: uniform `[count, DRAWS]`."""
    return torch.rand(count, DRAWS, generator=generator)


def augment(
    images: Tensor, draws: Tensor, probability: float | Tensor, kinds: tuple[Kind, ...], spec: ImageSpec
) -> Tensor:
    """Each of `kinds` on each picture with `probability`, by its own row of `draws`; same shape and range. A
    probability that is a scalar on the device is not waited for.

    On a wrapped axis pictures are moved around the edge and never stretched or turned, so that what tiles still tiles.
    Elsewhere what comes in from outside is the mirror image, with four channels nothing (transparent). Colour is moved
    within alpha: what cannot be seen stays black.
    """
    if not kinds or (isinstance(probability, float) and probability <= 0):
        return images
    draws = draws.to(images.device, torch.float32)
    geometry = tuple(kind for kind in kinds if kind not in ("colour", "cutout"))
    values = images.float()
    if geometry:
        values = _warp(values, _placement(draws, probability, geometry, spec), spec)
    if "colour" in kinds:
        values = _colour(values, draws, probability)
    if "cutout" in kinds:
        values = _cutout(values, draws, probability, spec)
    return values.to(images.dtype)


def rolled(images: Tensor, draws: Tensor, spec: ImageSpec) -> Tensor:
    """Pictures `[N, C, H, W]`, each moved around its wrapped edges by whole pixels, any distance being as probable, by
    its own row of uniform `draws` `[N, 2]`."""
    columns, rows = (
        (torch.arange(side, device=images.device) + (wraps * side * draws[:, axis, None]).to(images.device).long())
        % side
        for axis, (side, wraps) in enumerate(((spec.width, spec.wrap_x), (spec.height, spec.wrap_y)))
    )  # each [N, side]
    own = torch.arange(len(images), device=images.device)[:, None, None]
    return images.permute(0, 2, 3, 1)[own, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _of(draws: Tensor, kind: Kind, probability: float | Tensor) -> tuple[Tensor, Tensor]:
    """Whether `kind` happens to each picture, float 0 or 1 `[N]`, and its further uniform numbers `[N, ...]`."""
    place = _PLACES[kind]
    return (draws[:, place] < probability).float(), draws[:, place + 1 :]


def _normal(uniform: Tensor) -> Tensor:
    """Standard normal of uniform numbers, within three deviations."""
    return math.sqrt(2) * torch.erfinv((2 * uniform - 1).clamp(-0.9973, 0.9973))


def _placement(draws: Tensor, probability: float | Tensor, kinds: tuple[Kind, ...], spec: ImageSpec) -> Tensor:
    """`[N, 2, 3]`: where (x, y, in pixels from the centre) the input of each output place lies."""
    count, device = len(draws), draws.device
    wrapped = constant([spec.wrap_x, spec.wrap_y], device)
    sides = constant([float(spec.width), float(spec.height)], device)
    stretch, move, angle = torch.ones(count, 2, device=device), torch.zeros(count, 2, device=device), None
    if "scale" in kinds:
        on, more = _of(draws, "scale", probability)
        stretch = stretch * torch.exp2(_normal(more[:, 0]) * SCALE * on)[:, None]
    if "aniso" in kinds:
        on, more = _of(draws, "aniso", probability)
        sign = constant([1.0, -1.0], device)
        stretch = stretch * torch.exp2((_normal(more[:, 0]) * ANISO * on)[:, None] * sign)
    stretch = torch.where(wrapped, 1.0, stretch)
    if "flip" in kinds:
        on, more = _of(draws, "flip", probability)
        stretch = stretch * torch.stack([1 - 2 * on * (more[:, 0] < 0.5), torch.ones_like(on)], dim=1)
    if "rotate" in kinds and not (spec.wrap_x or spec.wrap_y):
        on, more = _of(draws, "rotate", probability)
        angle = (2 * more[:, 0] - 1) * math.pi * on
    # Around a wrapped axis any distance is as good as another.
    reach = torch.where(wrapped, 0.5, SHIFT) * sides
    for kind in ("shift", "fraction"):
        if kind in kinds:
            on, more = _of(draws, kind, probability)
            distance = (2 * more[:, :2] - 1) * reach if kind == "shift" else _normal(more[:, :2]) * SHIFT * sides
            move = move + (distance.round() if kind == "shift" else distance) * on[:, None]
    matrix = torch.diag_embed(stretch)
    if angle is not None:
        cos, sin = torch.cos(angle), torch.sin(angle)
        matrix = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1) @ matrix
    return torch.cat([matrix, move[:, :, None]], dim=2)


def _warp(values: Tensor, placement: Tensor, spec: ImageSpec) -> Tensor:
    """Bilinear reading of `[N, C, H, W]` at `placement` `[N, 2, 3]`."""
    height, width = values.shape[2:]
    y = torch.arange(height, device=values.device) - (height - 1) / 2
    x = torch.arange(width, device=values.device) - (width - 1) / 2
    here = torch.stack([x.expand(height, -1), y[:, None].expand(-1, width), torch.ones_like(x.expand(height, -1))], -1)
    there = torch.einsum("nij,hwj->nhwi", placement, here)  # [N, H, W, 2]
    transparent = values.shape[1] == 4
    axes = []
    for axis, (side, wrap) in enumerate(((width, spec.wrap_x), (height, spec.wrap_y))):
        place = there[..., axis] + (side - 1) / 2
        if wrap:
            place = torch.remainder(place, side) + 1  # one more pixel on both sides, see the padding below
        elif not transparent:  # mirrored at the outer edges of the outer pixels
            place = side - (torch.remainder(place + 0.5, 2 * side) - side).abs() - 0.5
        side = side + 2 * wrap
        axes.append((2 * place + 1) / side - 1)
    padded = F.pad(values, (int(spec.wrap_x),) * 2 + (0, 0), mode="circular")
    padded = F.pad(padded, (0, 0) + (int(spec.wrap_y),) * 2, mode="circular")
    mode = "zeros" if transparent else "border"
    return F.grid_sample(padded + 1, torch.stack(axes, -1), "bilinear", mode, align_corners=False) - 1


def _colour(values: Tensor, draws: Tensor, probability: float | Tensor) -> Tensor:
    """Brightness, contrast and, with three or more channels, saturation, each by `probability` together."""
    on, more = _of(draws, "colour", probability)
    on = on[:, None, None, None]
    brightness, contrast, saturation = (_normal(more[:, index])[:, None, None, None] for index in range(3))
    channels = min(3, values.shape[1])
    colour, alpha = (values[:, :channels] + 1) / 2, (values[:, 3:] + 1) / 2 if values.shape[1] == 4 else 1.0
    changed = colour
    if channels == 3:
        grey = changed.mean(dim=1, keepdim=True)
        changed = grey + (changed - grey) * torch.exp2(saturation * SATURATION)
    middle = 0.5 * alpha
    changed = middle + (changed - middle) * torch.exp2(contrast * CONTRAST) + brightness * BRIGHTNESS * alpha
    colour = torch.where(on > 0, changed, colour)
    return torch.cat([colour * 2 - 1, values[:, channels:]], dim=1)


def _cutout(values: Tensor, draws: Tensor, probability: float | Tensor, spec: ImageSpec) -> Tensor:
    """A box of half the sides becomes grey, with four channels transparent; it continues around wrapped edges."""
    on, more = _of(draws, "cutout", probability)
    inside = on[:, None, None] > 0
    for axis, (side, wrap) in enumerate(((spec.width, spec.wrap_x), (spec.height, spec.wrap_y))):
        places = torch.arange(side, device=values.device) + 0.5
        distance = (places - more[:, axis, None] * side).abs()
        distance = torch.minimum(distance, side - distance) if wrap else distance
        within = distance < CUTOUT * side / 2  # [N, side]
        inside = inside & (within[:, None, :] if axis == 0 else within[:, :, None])
    return torch.where(inside[:, None], -1.0 if values.shape[1] == 4 else 0.0, values)
