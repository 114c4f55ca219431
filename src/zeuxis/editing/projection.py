"""Own pictures to latents: what of the model's world comes nearest to a picture, or to the known part of one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from zeuxis.editing.encoder import Encoder, Progress
from zeuxis.editing.layers import LatentLayer, latent_layers, outputs_of, replaced
from zeuxis.editing.spaces import Codes, Space
from zeuxis.errors import UserError

SCALES = (1, 2, 4)  # at which pixels are compared
CANDIDATES = 256  # seeds among which a start is looked for
OPTIMISED_AT_ONCE = 64
PRIOR = 0.05  # weight of staying where the model's own codes are
RICH_PULL = 0.02  # weight of staying near the layer outputs of the best latent


class Likeness:
    """How unlike pictures are to targets float `[-1, 1]` `[N, C, H, W]` where `known` (bool `[N or 1, 1, H, W]`): mean
    absolute difference of pixels at three scales and of neighbouring pixels' differences, and with an encoder the
    squared distance of its features, which were learned on the model's own pictures."""

    def __init__(self, target: Tensor, known: Tensor | None = None, encoder: Encoder | None = None) -> None:
        known = torch.ones_like(target[:, :1], dtype=torch.bool) if known is None else known
        self.target, self.encoder = target, encoder
        self.known = known.expand(len(target), -1, -1, -1)
        self._weights = [F.avg_pool2d(self.known.float(), scale, ceil_mode=True) for scale in SCALES]
        self._features: list[Tensor] = []
        if encoder is not None:
            with torch.no_grad():
                self._features = encoder.features(target, self.known)

    def __getitem__(self, index: list[int]) -> Likeness:
        return Likeness(self.target[index], self.known[index], self.encoder)

    def pixels(self, images: Tensor) -> Tensor:
        """The pixels' part of the distance `[N]`."""
        difference = (images - self.target) * self.known
        total = torch.zeros(len(images), device=images.device)
        for scale, weight in zip(SCALES, self._weights, strict=True):
            pooled = F.avg_pool2d(difference, scale, ceil_mode=True)
            total = total + pooled.abs().sum((1, 2, 3)) / (weight.sum((1, 2, 3)) * images.shape[1]).clamp_min(1)
        across = (difference[..., 1:] - difference[..., :-1]).abs().sum((1, 2, 3))
        down = (difference[..., 1:, :] - difference[..., :-1, :]).abs().sum((1, 2, 3))
        return total / len(SCALES) + 0.25 * (across + down) / (self._weights[0].sum((1, 2, 3)) * images.shape[1])

    def features(self, images: Tensor) -> Tensor:
        """The features' part of the distance `[N]`; zero without an encoder."""
        total = torch.zeros(len(images), device=images.device)
        if self.encoder is not None:
            for own, wanted in zip(self.encoder.features(images, self.known), self._features, strict=True):
                total = total + (own - wanted).square().sum(1).mean((1, 2)) / len(self._features)
        return total

    def __call__(self, images: Tensor) -> Tensor:
        return self.pixels(images) + self.features(images)


@dataclass(frozen=True)
class Projection:
    """What came nearest: `codes`, pictures float `[-1, 1]` `[N, C, H, W]` and their `distance` `[N]` (`Likeness`).

    After a search among the first layers' outputs the pictures are of these, and `codes` are the latents next to them.
    """

    codes: Codes
    images: Tensor
    distance: Tensor


def project(
    space: Space, images: Tensor, labels: Tensor | None = None, *, encoder: Encoder | None = None,
    known: Tensor | None = None, steps: int = 200, restarts: int = 4, rich: bool = True,
    progress: Progress | None = None,
) -> Projection:  # fmt: skip
    """The model's pictures nearest to `images` float `[-1, 1]` `[N, C, H, W]`.

    Args:
        labels: Classes int64 `[N]`; without them a conditional model's are guessed by the encoder, or by the start.
        encoder: A learned one (`train_encoder`); without it the model's own, if any, and a search among seeds begin.
        known: Bool `[N or 1, 1, H, W]`: what of the pictures counts; all of them without it.
        steps: Of optimisation; 0 takes the best start (the encoder's answer where there is one).
        restarts: From how many starts each picture is optimised; the best is kept.
        rich: Whether, after the latent, the outputs of the first layers behind it are fitted too: nearer, and no longer
            a point in the latent space.
    """
    likeness = Likeness(images, known, encoder)
    starts = _starts(space, likeness, labels, encoder, restarts if steps else 1)
    count = len(images)
    if not steps:
        pictures = space.images(starts)
        return Projection(starts, pictures, likeness(pictures).detach())
    repeated = likeness[[index for index in range(count) for _ in range(len(starts) // count)]]
    codes, distances = optimise(space, starts, repeated, steps, progress=progress)
    best = distances.view(count, -1).argmin(1) + torch.arange(count, device=distances.device) * (len(starts) // count)
    codes = codes[best.tolist()]
    pictures = space.images(codes)
    if rich:
        pictures = enrich(space, codes, likeness, steps, progress)
    return Projection(codes, pictures, likeness(pictures).detach())


def _starts(space: Space, likeness: Likeness, labels: Tensor | None, encoder: Encoder | None, restarts: int) -> Codes:
    """`restarts` codes for each target, all of the first target's first: encoders' answers, then the nearest seeds."""
    target = likeness.target
    answers: list[Codes] = []
    if encoder is not None:
        answers.append(encoder(target, likeness.known, labels))
    own = space.encode(target, labels if labels is not None else (answers[0].labels if answers else None))
    if own is not None:
        answers.append(own)
    answers = answers[:restarts]
    chosen: list[list[Codes]] = [[answer[index : index + 1] for answer in answers] for index in range(len(target))]
    if len(answers) < restarts:
        seeds = space.of_seeds(range(CANDIDATES))
        pictures = space.images(seeds)
        for index in range(len(target)):
            among = torch.arange(CANDIDATES, device=space.device)
            if labels is not None and seeds.labels is not None and (seeds.labels == labels[index]).any():
                among = among[seeds.labels == labels[index]]
            with torch.no_grad():
                near = likeness[[index] * len(among)].pixels(pictures[among]).argsort()
            chosen[index] += [seeds[among[at : at + 1]] for at in near[: restarts - len(answers)]]
    return Codes.cat([code for group in chosen for code in group])


def optimise(
    space: Space, starts: Codes, likeness: Likeness, steps: int, *, rate: float = 0.05, prior: float = PRIOR,
    progress: Progress | None = None, what: str = "projecting",
) -> tuple[Codes, Tensor]:  # fmt: skip
    """Codes moved from `starts` to where their pictures are most like the targets, and their distances `[N]`.

    Adam with a rate that falls by a cosine, relative to the spread of the codes; the best place seen is kept. Each
    picture is on its own: who else is in the batch does not change where it goes.
    """
    _, spread = space.statistics()
    parts, found = [], []
    for first in range(0, len(starts), OPTIMISED_AT_ONCE):
        part = starts[first : first + OPTIMISED_AT_ONCE]
        like = likeness[list(range(first, first + len(part)))]
        step = torch.zeros_like(part.values)

        def codes_at(step: Tensor, part: Codes = part) -> Codes:
            return part.with_values(part.values + torch.where(space.free, step * spread, 0))

        def loss_of(
            step: Tensor, like: Likeness = like, codes_at: Callable[[Tensor], Codes] = codes_at
        ) -> tuple[Tensor, Tensor]:
            codes = codes_at(step)
            distance = like(space.decode(codes))
            return distance, prior * space.off_prior(codes.values)

        best, distance = _descend(loss_of, step, steps, rate, progress, what, first, len(starts))
        parts.append(codes_at(best))
        found.append(distance)
    return Codes.cat(parts), torch.cat(found)


def _descend(
    loss_of: Callable[[Tensor], tuple[Tensor, Tensor]], variable: Tensor, steps: int, rate: float,
    progress: Progress | None, what: str, done: int, total: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Adam (Kingma & Ba 2014) on `variable` `[N, ...]` of losses (distance `[N]`, penalty `[N]`), each row by itself;
    the best row seen and its distance."""
    variable = variable.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([variable], lr=rate, betas=(0.9, 0.99))
    best, lowest, distance = variable.detach().clone(), None, None
    for step in range(steps + 1):
        with torch.enable_grad():
            near, penalty = loss_of(variable)
            loss = near + penalty
        with torch.no_grad():
            value = loss.detach().nan_to_num(math.inf)
            if lowest is None or distance is None:
                lowest, distance = value.clone(), near.detach().clone()
            else:
                better = value < lowest
                shape = (-1, *[1] * (variable.ndim - 1))
                best = torch.where(better.view(shape), variable, best)
                lowest, distance = torch.where(better, value, lowest), torch.where(better, near, distance)
        if step == steps:
            break
        optimizer.param_groups[0]["lr"] = (
            rate * min(1.0, (step + 1) / 10) * 0.5 * (1 + math.cos(math.pi * step / steps))
        )
        (gradient,) = torch.autograd.grad(loss.sum(), variable)
        variable.grad = gradient.nan_to_num(0.0, 0.0, 0.0)
        optimizer.step()
        if progress:
            progress(what, done * steps + step * (total - done), total * steps)
    assert distance is not None
    return best, distance


def enrich(
    space: Space, codes: Codes, likeness: Likeness, steps: int, progress: Progress | None, pull: float = RICH_PULL
) -> Tensor:
    """Pictures of the first layers' outputs, moved from those of `codes` to where they are most like the targets: the
    first feature map of a DCGAN, the styles of a StyleGAN (Wu et al. 2020, arXiv 2011.12799)."""
    try:
        layers = latent_layers(space)
    except UserError:  # no layer of that kind: the latent is all there is
        return space.images(codes)
    parts = []
    for first in range(0, len(codes), OPTIMISED_AT_ONCE):
        part = codes[first : first + OPTIMISED_AT_ONCE]
        parts.append(_enrich_part(space, layers, part, likeness[list(range(first, first + len(part)))], steps,
                                  pull, progress))  # fmt: skip
    return torch.cat(parts)


def _enrich_part(
    space: Space, layers: list[LatentLayer], codes: Codes, likeness: Likeness, steps: int, pull: float,
    progress: Progress | None,
) -> Tensor:  # fmt: skip
    outputs = outputs_of(space, layers, codes)
    spreads = [output.std(dim=1, keepdim=True).clamp_min(1e-6) for output in outputs]
    sizes = [output.shape[1] for output in outputs]

    def pictures(step: Tensor) -> Tensor:
        moved = [output + part * spread for output, part, spread in
                 zip(outputs, step.split(sizes, dim=1), spreads, strict=True)]  # fmt: skip
        with replaced(layers, moved):
            return space.decode(codes)

    def loss_of(step: Tensor) -> tuple[Tensor, Tensor]:
        return likeness(pictures(step)), pull * step.square().mean(1)

    start = torch.zeros(len(codes), sum(sizes), device=space.device)
    best, _ = _descend(loss_of, start, steps, 0.05, progress, "refining", 0, len(codes))
    with torch.no_grad():
        return pictures(best)
