"""How pictures look, in numbers that a person can check: sharpness, colour, contrast, transparent edges and seams, each
compared with the data's own distribution."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeuxis.config import ImageSpec
from zeuxis.images import composite
from zeuxis.metrics.base import Estimate, Pair
from zeuxis.metrics.distances import Features

Pixels = NDArray[np.uint8]
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
WORDS = {
    "sharpness": ("blurrier", "sharper or noisier"), "contrast": ("flatter", "harder"),
    "saturation": ("paler", "more colourful"), "edges": ("smoother at the edges", "rougher at the edges"),
    "colour": ("darker", "brighter"), "fringe": ("cleaner at the edges", "dirtier at the edges"),
}  # fmt: skip
NOTABLE = 0.1  # standard deviations: a smaller shift is not put into words


def statistics(pixels: Pixels, spec: ImageSpec) -> tuple[Features, dict[str, slice]]:
    """Numbers of each picture uint8 `[n, C, H, W]` as float64 `[n, K]`, and which columns hold what.

    `sharpness`: log of the mean absolute Laplacian of the luminance; `contrast`: its standard deviation; `colour`: mean
    of each channel, for RGBA of what is not transparent; `saturation`: mean of largest minus smallest channel; for RGBA
    all but colour on black and on white, and `edges`, `fringe` of the alpha channel;
    `seam`: for each wrapped axis the mean step over the edge and inside.
    """
    found: dict[str, list[Features]] = {}
    for background in (0, 255) if pixels.shape[1] == 4 else (0,):
        for name, column in _of_view(composite(pixels, background).astype(np.float32)).items():
            found.setdefault(name, []).append(column)
    if pixels.shape[1] == 4:
        alpha = pixels[:, 3:].astype(np.float32)
        weight = np.maximum(alpha.sum(axis=(2, 3)), 1)
        found["colour"] = [((pixels[:, :3] * alpha).sum(axis=(2, 3)) / weight).astype(np.float64)]
        found["edges"], found["fringe"] = [edge_statistics(pixels)], [fringe_statistics(pixels)]
    if spec.wrap_x or spec.wrap_y:
        found["seam"] = [seam_steps(pixels, axis) for axis, on in ((3, spec.wrap_x), (2, spec.wrap_y)) if on]
    parts, columns, start = [], {}, 0
    for name, own in found.items():
        parts += own
        width = sum(part.shape[1] for part in own)
        columns[name] = slice(start, start + width)
        start += width
    return np.concatenate(parts, axis=1).astype(np.float64), columns


def _of_view(view: NDArray[np.float32]) -> dict[str, Features]:
    luma = view[:, 0] if view.shape[1] == 1 else np.tensordot(view, LUMA, axes=([1], [0]))  # [n, H, W]
    middle = luma[:, 1:-1, 1:-1]
    laplacian = luma[:, :-2, 1:-1] + luma[:, 2:, 1:-1] + luma[:, 1:-1, :-2] + luma[:, 1:-1, 2:] - 4 * middle
    found = {
        "sharpness": np.log1p(np.abs(laplacian).mean(axis=(1, 2)))[:, None],
        "contrast": luma.std(axis=(1, 2))[:, None],
        "colour": view.mean(axis=(2, 3)),
    }
    if view.shape[1] == 3:
        found["saturation"] = (view.max(axis=1) - view.min(axis=1)).mean(axis=(1, 2))[:, None]
    return {name: values.astype(np.float64) for name, values in found.items()}


def edge_statistics(pixels: Pixels) -> Features:
    """Of alpha in `[n, 4, H, W]`: bending (mean absolute Laplacian) and hardness (1 minus partly transparent area, 4 a
    (1 - a)) per unit of edge length; `[n, 2]`, 0 where a picture has no edge. An antialiased outline has little of
    both, a staircase much."""
    alpha = np.pad(pixels[:, 3].astype(np.float32) / 255, ((0, 0), (1, 1), (1, 1)), mode="edge")
    middle = alpha[:, 1:-1, 1:-1]
    across, down = (alpha[:, 1:-1, 2:] - alpha[:, 1:-1, :-2]) / 2, (alpha[:, 2:, 1:-1] - alpha[:, :-2, 1:-1]) / 2
    length = np.sqrt(across**2 + down**2).sum(axis=(1, 2))
    laplacian = alpha[:, :-2, 1:-1] + alpha[:, 2:, 1:-1] + alpha[:, 1:-1, :-2] + alpha[:, 1:-1, 2:] - 4 * middle
    soft = (4 * middle * (1 - middle)).sum(axis=(1, 2))
    numbers = np.stack([np.abs(laplacian).sum(axis=(1, 2)), length - soft], axis=1)
    return np.where(length[:, None] > 1, numbers / np.maximum(length, 1)[:, None], 0).astype(np.float64)


def fringe_statistics(pixels: Pixels) -> Features:
    """Of `[n, 4, H, W]`: how far the colour of partly transparent pixels is from that of their 5x5 neighbourhood (a
    halo), and the share of nearly transparent pixels without an object near (dust); `[n, 2]`."""
    alpha = pixels[:, 3:].astype(np.float32) / 255  # [n, 1, H, W]
    colour = pixels[:, :3].astype(np.float32)
    around = _box(alpha)
    typical = _box(colour * alpha) / np.maximum(around, 1e-3)
    soft = 4 * alpha * (1 - alpha)
    weight = np.maximum(soft.sum(axis=(1, 2, 3)), 1)
    halo = (soft * np.abs(colour - typical).mean(axis=1, keepdims=True)).sum(axis=(1, 2, 3)) / weight
    dust = ((alpha > 0) & (around < 0.1)).mean(axis=(1, 2, 3))
    return np.stack([halo, 255 * dust], axis=1).astype(np.float64)


def _box(values: NDArray[Any]) -> NDArray[Any]:
    """Mean over 5x5, edges repeated."""
    for axis in (2, 3):
        pad = [(0, 0)] * 4
        pad[axis] = (2, 2)
        padded, size = np.pad(values, pad, mode="edge"), values.shape[axis]
        values = np.mean([np.take(padded, range(at, at + size), axis) for at in range(5)], axis=0)
    return values


def seam_steps(pixels: Pixels, axis: int) -> Features:
    """Mean absolute step from the last row or column to the first, and between neighbours inside; `[n, 2]` levels."""
    values = np.moveaxis(pixels, axis, -1).astype(np.float32)
    over = np.abs(values[..., 0] - values[..., -1]).mean(axis=(1, 2))
    inside = np.abs(np.diff(values, axis=-1)).mean(axis=(1, 2, 3))
    return np.stack([over, inside], axis=1).astype(np.float64)


def distribution_gap(generated: Features, reference: Features) -> Estimate:
    """Wasserstein-1 distance between two samples `[N]`, `[M]` in standard deviations of the second, and its standard
    error from the choice of the first (by the influence of each value)."""
    scale = float(reference.std()) or 1.0
    grid = np.sort(np.concatenate([generated, reference]))
    own = np.searchsorted(np.sort(generated), grid[:-1], side="right") / len(generated)
    other = np.searchsorted(np.sort(reference), grid[:-1], side="right") / len(reference)
    step, sign = np.diff(grid), np.sign(own - other)
    # Influence of x: the integral, to the right of x, of the sign of the difference of the distribution functions.
    to_right = np.append(np.cumsum((sign * step)[::-1])[::-1], 0)
    influence = to_right[np.searchsorted(grid, generated)]
    value = float((np.abs(own - other) * step).sum()) / scale
    return Estimate(value, float(influence.std(ddof=1)) / scale / float(np.sqrt(len(generated))))


def gap(pair: Pair, name: str) -> dict[str, Estimate]:
    """`NAME_gap`: the largest gap among the columns of one statistic, with its error and a word on the direction.
    Nothing where the pictures have no such thing."""
    where = pair.reference.columns.get(name)
    if where is None:
        return {}
    own, other = pair.generated.features[:, where], pair.reference.features[:, where]
    parts = [distribution_gap(own[:, column], other[:, column]) for column in range(own.shape[1])]
    spread = np.where(other.std(axis=0) > 0, other.std(axis=0), 1)
    shift = float(((own.mean(axis=0) - other.mean(axis=0)) / spread).mean())
    note = f"{WORDS[name][shift > 0]} than the data" if abs(shift) > NOTABLE else ""
    worst = max(parts, key=lambda part: part.value)
    return {f"{name}_gap": Estimate(worst.value, worst.error, note=note)}


def seam_ratio(steps: Features) -> Estimate:
    """Mean step over the seam over the mean step inside, from `[N, 2]`; 1: the seam cannot be seen."""
    over, inside = steps.mean(axis=0)
    ratio = float(over / max(inside, np.finfo(np.float64).tiny))
    influence = (steps[:, 0] - ratio * steps[:, 1]) / max(inside, np.finfo(np.float64).tiny)
    return Estimate(ratio, float(influence.std(ddof=1) / np.sqrt(len(steps))))


def seam_metric(pair: Pair) -> dict[str, Estimate]:
    """`seam_ratio_x`, `seam_ratio_y` for the wrapped axes, or nothing."""
    where = pair.reference.columns.get("seam")
    if where is None:
        return {}
    steps = pair.generated.features[:, where]
    names = ("seam_ratio",) if steps.shape[1] == 2 else ("seam_ratio_x", "seam_ratio_y")
    return {name: seam_ratio(steps[:, 2 * at : 2 * at + 2]) for at, name in enumerate(names)}
