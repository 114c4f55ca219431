"""Interpolation between key pictures, and mixing of what is coarse in one picture with what is fine in another."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from zeuxis.editing.directions import closed_form
from zeuxis.editing.spaces import Codes, Space
from zeuxis.errors import UserError
from zeuxis.images import Pixels

OVERSAMPLING = 4  # frames looked at for one that is kept, when speed is evened out


def weights_between(keys: int, frames: int, *, loop: bool = False) -> Tensor:
    """Weights float64 `[F, K]` of K keys, `frames` from each key to the next; rows at the keys are a single 1.

    Two keys: a quarter circle; with `loop` the whole one, through both keys and their opposites, each frame as likely
    as any sample. More: Catmull-Rom's cubic through all keys, closed with `loop`; F is K * frames, or
    (K - 1) * frames + 1 without `loop`.
    """
    if keys == 1:
        return torch.ones(frames, 1, dtype=torch.float64)
    if keys == 2:
        count = 4 * frames if loop else frames + 1
        angle = torch.arange(count, dtype=torch.float64) / frames * (math.pi / 2)
        weights = torch.stack([angle.cos(), angle.sin()], dim=1)
        return torch.where(weights.abs() < 1e-12, 0.0, torch.where(weights.abs() > 1 - 1e-15, weights.sign(), weights))
    count = keys * frames if loop else (keys - 1) * frames + 1
    place = torch.arange(count, dtype=torch.float64) / frames
    first = place.floor().long()
    t = place - first
    cubic = torch.stack([-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2], 1) / 2
    weights = torch.zeros(count, keys, dtype=torch.float64)
    for offset in range(-1, 3):
        index = first + offset
        index = index % keys if loop else index.clamp(0, keys - 1)
        weights.scatter_add_(1, index[:, None], cubic[:, offset + 1 : offset + 2])
    return weights


def straight_between(keys: int, frames: int, *, loop: bool = False) -> Tensor:
    """Weights float64 `[F, K]` along straight lines from key to key."""
    count = keys * frames if loop else (keys - 1) * frames + 1
    place = torch.arange(count, dtype=torch.float64) / frames
    first = place.floor().long()
    weights = torch.zeros(count, keys, dtype=torch.float64)
    weights.scatter_add_(1, (first % keys)[:, None], (1 - (place - first))[:, None])
    return weights.scatter_add_(1, ((first + 1) % keys)[:, None], (place - first)[:, None])


def interpolate(
    space: Space, keys: Codes, frames: int = 30, *, loop: bool = False, straight: bool = False, even: bool = False
) -> Pixels:
    """Frames uint8 `[F, C, H, W]` from key to key, `frames` from each to the next; at the keys, the keys' pictures.

    Args:
        keys: At least two.
        loop: Whether the frame after the last one is the first.
        straight: Piecewise linear in the weights instead of a circle or a smooth curve.
        even: Whether to spread the frames so that pictures, not latents, change at an even speed. Frames then fall
            on the first key only.
    """
    if len(keys) < 2:
        raise UserError("--keys", f"{len(keys)} key", "two or more", "such as --keys 0,5")
    between = straight_between if straight else weights_between
    if not even:
        return space.pictures(space.blend(keys, between(len(keys), frames, loop=loop)))
    fine = between(len(keys), frames * OVERSAMPLING, loop=loop)
    images = space.images(space.blend(keys, fine))
    return space.pictures(space.blend(keys, _even(fine, images, loop)))


def _even(weights: Tensor, images: Tensor, loop: bool) -> Tensor:
    """Every fourth row of weights `[F, K]`, chosen anew so that pictures `[F, C, H, W]` change equally in each step."""
    following = images.roll(-1, 0) if loop else images[1:]
    steps = (following - images[: len(following)]).square().flatten(1).mean(1).sqrt().double()
    along = torch.cat([torch.zeros(1, dtype=torch.float64), steps.cpu().cumsum(0)])
    count = len(weights) // OVERSAMPLING + (0 if loop else 1)
    wanted = torch.arange(count, dtype=torch.float64) / (count if loop else max(1, count - 1)) * along[-1]
    left = (torch.searchsorted(along, wanted, right=True) - 1).clamp(0, len(along) - 2)
    t = ((wanted - along[left]) / (along[left + 1] - along[left]).clamp_min(1e-12)).clamp(0, 1)[:, None]
    return weights[left] * (1 - t) + weights[(left + 1) % len(weights)] * t


def mix(space: Space, coarse: Codes, fine: Codes, at: float = 0.5) -> Pixels:
    """Pictures uint8 `[A * B, C, H, W]`, row by row: what is coarse in each of A pictures with what is fine in each of
    B.

    `at` is the share of what is coarse, 0 to 1: of the levels or groups where the network has them (Karras et al. 2018,
    arXiv 1812.04948, section 3.1), else of the effect that the directions of the latent space have, strongest first.
    """
    if not 0 <= at <= 1:
        raise UserError("--at", at, "0 to 1", "try --at 0.5")
    rows = torch.arange(len(coarse)).repeat_interleave(len(fine))
    columns = torch.arange(len(fine)).repeat(len(coarse))
    a, b = coarse[rows], fine[columns]
    if space.levels > 1:
        cut = round(at * space.levels)
        return space.pictures(a.with_values(torch.cat([a.values[:, :cut], b.values[:, cut:]], dim=1)))
    if space.groups:
        cut = sum(space.groups[: round(at * len(space.groups))])
        return space.pictures(a.with_values(torch.cat([a.values[:, :cut], b.values[:, cut:]], dim=1)))
    vectors, effects = closed_form(space)
    share = effects.cumsum(0) / effects.sum()  # [K], up to 1
    basis = vectors.flatten(1)[: int((share < at).sum()) + (at > 0)]
    change = (a.values - b.values).flatten(1) @ basis.T @ basis
    free = space.free.flatten().to(change)
    # The class comes with what is coarse.
    mixed = torch.where(free.bool(), b.values.flatten(1) + change, a.values.flatten(1))
    return space.pictures(a.with_values(mixed.view_as(a.values)))
