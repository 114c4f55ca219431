"""Holes filled in several ways, and pictures carried on beyond their edges; what is known stays to the bit."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from zeuxis.checkpoint import Model
from zeuxis.config import MAX_SIDE
from zeuxis.editing.blending import Mask, membrane, pasted
from zeuxis.editing.encoder import Encoder, Progress
from zeuxis.editing.projection import Likeness, enrich, optimise
from zeuxis.editing.spaces import Codes, Space, space_of
from zeuxis.errors import UserError
from zeuxis.families.base import RenderOptions
from zeuxis.images import Pixels, to_float, to_pixels
from zeuxis.randomness import generator_for
from zeuxis.sampling import Sampler

TRIES = 16  # codes of a seed, of which the nearest to the known part is where its filling starts
VARIETY = 0.3  # of the codes' spread: how far seeds start from the encoder's answer
PARTICLES = 16  # completions per seed, where one that fits what comes after is chosen
ROUNDS = 8  # of encoding and decoding, where the model has its own encoder


def inpaint(
    model: Model, picture: Pixels, known: Mask, seeds: Sequence[int], *, label: int | None = None,
    encoder: Encoder | None = None, device: str | torch.device = "cpu", steps: int = 120, particles: int = PARTICLES,
    options: RenderOptions | None = None, progress: Progress | None = None,
) -> Pixels:  # fmt: skip
    """One filling uint8 `[S, C, H, W]` per seed of `picture` uint8 `[C, H, W]` where it is not `known` (bool `[H, W]`).

    A model that completes pictures draws from its conditional distribution, the nearer to it the more `particles` (see
    `_complete`). Others look for codes whose pictures agree
    with what is known, each seed from its own start; the rim is blended.
    """
    _check(model, picture, known)
    original = np.repeat(picture[None], len(seeds), axis=0)
    if "complete" in model.family.capabilities:
        sampler, drawn = Sampler(model, device), options or RenderOptions()
        filled = _complete(sampler, original, known, list(seeds), label, drawn, particles, progress)
        return pasted(filled, original, known)
    space = encoder.space if encoder is not None else space_of(model, device, options)
    target = to_float(torch.from_numpy(original)).to(space.device)
    seen = torch.from_numpy(known).to(space.device)[None, None]
    likeness = Likeness(target, seen, encoder)
    codes = fill_starts(space, likeness, seeds, label, encoder)
    codes, _ = optimise(space, codes, likeness, steps, progress=progress, what="filling")
    images = enrich(space, codes, likeness, steps, progress).double().cpu().numpy()
    spec = model.spec
    blended = membrane(images, target.double().cpu().numpy(), known, (spec.wrap_x, spec.wrap_y))
    return pasted(to_pixels(torch.from_numpy(blended)).numpy(), original, known)


def _check(model: Model, picture: Pixels, known: Mask) -> None:
    shape = model.spec.shape
    if picture.shape != shape or known.shape != shape[1:] or picture.dtype != np.uint8:
        raise UserError("PICTURE", f"{picture.dtype} {list(picture.shape)}, mask {list(known.shape)}",
                        f"uint8 {list(shape)}, mask {list(shape[1:])}", "bring them to the model's size")  # fmt: skip


def fill_starts(
    space: Space, likeness: Likeness, seeds: Sequence[int], label: int | None, encoder: Encoder | None
) -> Codes:
    """Where each seed's search begins: near the encoder's answer, or at the best of its own random codes."""
    target, known = likeness.target, likeness.known
    labels = None
    if label is not None and space.model.classes:
        labels = torch.full((len(seeds),), label, dtype=torch.long, device=space.device)
    if encoder is not None:
        return _spread(space, encoder(target, known, labels), seeds)
    parts = []
    for index, seed in enumerate(seeds):
        own = space.of_seeds([generator_for("filling", seed, at).initial_seed() % 10**9 for at in range(TRIES)], label)
        with torch.no_grad():
            distance = likeness[[index] * TRIES].pixels(space.images(own))
        best = int(distance.argmin())
        parts.append(own[best : best + 1])
    codes = Codes.cat(parts)
    # Pseudo-Gibbs (Rezende, Mohamed & Wierstra 2014, arXiv 1401.4082, appendix F) with means: what is not known becomes
    # what the model makes of the whole. That leads different seeds to one place, so they are parted again.
    if space.encode(target[:1], None if codes.labels is None else codes.labels[:1]) is None:
        return codes
    for _ in range(ROUNDS):
        again = space.encode(torch.where(known, target, space.images(codes)), codes.labels)
        assert again is not None
        codes = again
    return _spread(space, codes, seeds)


def _spread(space: Space, codes: Codes, seeds: Sequence[int]) -> Codes:
    """Each code moved away by its seed."""
    _, spread = space.statistics()
    shape = codes.values.shape[1:]
    noise = torch.stack([torch.randn(shape, generator=generator_for("filling", seed)) for seed in seeds])
    return codes.with_values(codes.values + torch.where(space.free, VARIETY * spread * noise.to(space.device), 0))


def _complete(
    sampler: Sampler, original: Pixels, known: Mask, seeds: list[int], label: int | None, options: RenderOptions,
    particles: int, progress: Progress | None,
) -> Pixels:  # fmt: skip
    """Fillings by the model's own conditional distribution.

    A completion looks at what comes before a place and not at what comes after it. Where something known does come
    after, each seed has several completions, and one is drawn with the probability that they leave to what is known
    (sampling, importance resampling: Rubin 1987): the exact conditional as their number grows.
    """
    draws = particles if sampler.model.family.exact_likelihood and _known_after(known) else 1
    chosen = []
    for number, seed in enumerate(seeds):
        if progress:
            progress("filling", number, len(seeds))
        own = [seed, *(generator_for("particle", seed, draw).initial_seed() % 10**9 for draw in range(1, draws))]
        made, weights = _completions(sampler, original[:1], known, own, label, options)
        pick = 0
        if draws > 1:
            drawn = torch.rand((), generator=generator_for("particle", seed), dtype=torch.float64)
            pick = int((torch.softmax(weights, 0).cumsum(0) < drawn).sum().clamp(max=draws - 1))
        chosen.append(made[pick])
    return np.stack(chosen)


def _known_after(known: Mask) -> bool:
    """Whether a known pixel follows an unknown one, row by row."""
    flat = known.reshape(-1)
    return bool(flat[int(flat.argmin()) :].any())


@torch.inference_mode()
def _completions(
    sampler: Sampler, original: Pixels, known: Mask, seeds: list[int], label: int | None, options: RenderOptions
) -> tuple[Pixels, Tensor]:
    """One completion per seed, in the sampler's padded chunks, and their log weights `[S]` float64."""
    family, parts, weights = sampler.model.family, [], []
    for first in range(0, len(seeds), sampler.chunk):
        chunk = seeds[first : first + sampler.chunk]
        padded = chunk + [chunk[-1]] * (sampler.chunk - len(chunk))
        noise = {key: value.to(sampler.device) for key, value in sampler.noise(padded).items()}
        labels = sampler.labels([seeds[0]] * len(padded), label)  # one class for all that one is chosen of
        labels = None if labels is None else labels.to(sampler.device)
        images = to_float(torch.from_numpy(original[[0] * len(padded)])).to(sampler.device)
        seen = torch.from_numpy(known).to(sampler.device).expand(len(padded), 1, -1, -1)
        drawn = family.complete(sampler.networks, images, seen, labels, noise, options)
        parts.append(to_pixels(drawn)[: len(chunk)].cpu().numpy())
        if len(seeds) > 1:
            weight = family.completion_weight(sampler.networks, drawn, seen, labels)
            weights.append(weight[: len(chunk)].double().cpu())
    return np.concatenate(parts), torch.cat(weights) if weights else torch.zeros(len(seeds), dtype=torch.float64)


def outpaint(
    model: Model, picture: Pixels, height: int, width: int, seeds: Sequence[int], *, label: int | None = None,
    encoder: Encoder | None = None, device: str | torch.device = "cpu", steps: int = 120,
    options: RenderOptions | None = None, progress: Progress | None = None,
) -> Pixels:  # fmt: skip
    """`picture` uint8 `[C, h, w]` in the middle of a canvas of `height` x `width`, carried on to its edges, once per
    seed: uint8 `[S, C, height, width]`.

    Windows of the model's own size move outwards from the picture; each fills what it does not know yet, so that
    neighbouring windows agree where they overlap.
    """
    spec = model.spec
    channels, own_height, own_width = picture.shape
    if height < max(own_height, spec.height) or width < max(own_width, spec.width):
        least = f"{max(own_width, spec.width)}x{max(own_height, spec.height)}"
        raise UserError("--size", f"{width}x{height}", f"{least} or larger: the picture and the model's own size",
                        "make it larger, or the picture smaller")  # fmt: skip
    top, left = (height - own_height) // 2, (width - own_width) // 2
    results = []
    for number, seed in enumerate(seeds):
        canvas, known = np.zeros((channels, height, width), np.uint8), np.zeros((height, width), bool)
        canvas[:, top : top + own_height, left : left + own_width] = picture
        known[top : top + own_height, left : left + own_width] = True
        windows = _windows(known, spec.height, spec.width, (top, left, own_height, own_width))
        for place, (y, x) in enumerate(windows):
            box = slice(y, y + spec.height), slice(x, x + spec.width)
            if known[box].all():
                continue
            if progress:
                progress("carrying on", number * len(windows) + place, len(seeds) * len(windows))
            filled = inpaint(model, canvas[:, box[0], box[1]], known[box], [seed + 1000003 * place], label=label,
                             encoder=encoder, device=device, steps=steps, options=options)  # fmt: skip
            canvas[:, box[0], box[1]] = filled[0]
            known[box] = True
        results.append(canvas)
    return np.stack(results)


def _windows(known: Mask, height: int, width: int, picture: tuple[int, int, int, int]) -> list[tuple[int, int]]:
    """Corners of windows that cover the canvas, half a window apart, nearest to the picture's middle first."""
    whole_height, whole_width = known.shape
    top, left, own_height, own_width = picture
    middle = top + own_height / 2 - height / 2, left + own_width / 2 - width / 2

    def places(whole: int, side: int, centre: float) -> list[int]:
        step, last = max(1, side // 2), whole - side
        first = int(min(max(round(centre), 0), last))
        return sorted({min(max(first + step * k, 0), last) for k in range(-(whole // step) - 1, whole // step + 2)})

    corners = [(y, x) for y in places(whole_height, height, middle[0]) for x in places(whole_width, width, middle[1])]
    return sorted(corners, key=lambda corner: (corner[0] - middle[0]) ** 2 + (corner[1] - middle[1]) ** 2)


def parse_size(text: str) -> tuple[int, int]:
    """`320x192` (width x height) as (height, width)."""
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(side.isdecimal() and 1 <= int(side) <= MAX_SIDE for side in sides):
        raise UserError("--size", text, f"WIDTHxHEIGHT, each up to {MAX_SIDE}", "such as --size 320x192")
    return int(sides[1]), int(sides[0])


def parse_formats(text: str, height: int, width: int) -> list[tuple[int, int]]:
    """`1:1,16:9` as (height, width) each, the smallest of that aspect that holds `height` x `width`."""
    sizes = []
    for part in text.split(","):
        across, colon, down = part.strip().partition(":")
        if not colon or not all(side.isdecimal() and 1 <= int(side) <= 100 for side in (across, down)):
            raise UserError("--formats", text, "aspects WIDTH:HEIGHT such as 1:1,16:9,9:16", "each side from 1 to 100")
        unit = max(width / int(across), height / int(down))
        sizes.append((math.ceil(unit * int(down)), math.ceil(unit * int(across))))
    return sizes
