"""Edges that should meet: how visible a seam is, tiled previews, and the six faces of a panorama."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from zeuxis.errors import UserError
from zeuxis.images import Pixels

FACES = ("px", "nx", "py", "ny", "pz", "nz")


def seam_ratio(pixels: Pixels, axis: Literal["x", "y"]) -> NDArray[np.float64]:
    """For each picture uint8 `[N, C, H, W]` the mean difference across the edge over that of neighbours inside `[N]`;
    1 means that no seam can be seen."""
    values = pixels.astype(np.float64)
    values = values.swapaxes(2, 3) if axis == "y" else values
    across = np.abs(values[..., 0] - values[..., -1]).mean((1, 2))
    inside = np.abs(np.diff(values, axis=3)).mean((1, 2, 3))
    return across / np.maximum(inside, 1e-9)


def sharpness(pixels: Pixels) -> float:
    """Mean difference of neighbouring pixels inside pictures uint8 `[N, C, H, W]`, in levels."""
    values = pixels.astype(np.float64)
    return float((np.abs(np.diff(values, axis=3)).mean() + np.abs(np.diff(values, axis=2)).mean()) / 2)


def tiled(pixels: Pixels, times: int = 3) -> Pixels:
    """Each picture uint8 `[N, C, H, W]` `times` x `times` times side by side, to see whether its edges meet."""
    return np.tile(pixels, (1, 1, times, times))


def cube_faces(panorama: Pixels, side: int) -> Pixels:
    """The six faces `px nx py ny pz nz` uint8 `[6, C, side, side]` of an equirectangular picture `[C, H, 2H]`.

    OpenGL's cube map: right, left, up, down, front, back seen from inside; the middle of the panorama is looked at by
    -z, its longitude grows to the right. Bilinear, in premultiplied colour; the edges meet in x, and over a pole the
    other side of the sphere comes.
    """
    channels, height, width = panorama.shape
    if width != 2 * height:
        raise UserError(
            "PANORAMA", f"{width}x{height}", "twice as wide as high", "train with --resolution 256x128 --wrap x"
        )
    values = panorama.astype(np.float64)
    if channels == 4:
        values[:3] *= values[3:] / 255
    place = (np.arange(side) + 0.5) / side * 2 - 1
    v, u = np.meshgrid(place, place, indexing="ij")
    one = np.ones_like(u)
    rays = {"px": (one, -v, -u), "nx": (-one, -v, u), "py": (u, one, v), "ny": (u, -one, -v), "pz": (u, -v, one),
            "nz": (-u, -v, -one)}  # fmt: skip
    faces = np.stack([_looked_at(values, np.stack(rays[face])) for face in FACES])
    if channels == 4:
        faces[:, :3] = np.where(faces[:, 3:] > 0.5, faces[:, :3] * 255 / np.maximum(faces[:, 3:], 0.5), 0)
    return faces.round().clip(0, 255).astype(np.uint8)


def _looked_at(values: NDArray[np.float64], rays: NDArray[np.float64]) -> NDArray[np.float64]:
    """Colours `[C, h, w]` of a panorama `[C, H, W]` along rays `[3, h, w]` (x right, y up, z towards the viewer)."""
    _, height, width = values.shape
    x, y, z = rays / np.sqrt(np.square(rays).sum(0))
    column = (np.arctan2(x, -z) / (2 * np.pi) + 0.5) * width - 0.5
    row = (0.5 - np.arcsin(y.clip(-1, 1)) / np.pi) * height - 0.5
    left, top = np.floor(column).astype(int), np.floor(row).astype(int)
    across, down = column - left, row - top
    result = np.zeros((len(values), *x.shape))
    for step_y, weight_y in ((0, 1 - down), (1, down)):
        for step_x, weight_x in ((0, 1 - across), (1, across)):
            line = top + step_y
            beyond = (line < 0) | (line >= height)  # over a pole the longitude jumps by half a turn
            line = np.where(line < 0, -1 - line, np.where(line >= height, 2 * height - 1 - line, line))
            place = (left + step_x + np.where(beyond, width // 2, 0)) % width
            result += values[:, line, place] * weight_y * weight_x
    return result


def cube_description(side: int, names: dict[str, str]) -> dict[str, Any]:
    """What the files of a cube map are, for people and importers."""
    return {
        "faces": names, "side": side, "order": list(FACES),
        "convention": "OpenGL, seen from inside; +y up; the panorama's middle is at -z and its longitude grows to +x",
        "unity six-sided": {"Left": names["px"], "Right": names["nx"], "Up": names["py"], "Down": names["ny"],
                            "Front": names["pz"], "Back": names["nz"]},
    }  # fmt: skip
