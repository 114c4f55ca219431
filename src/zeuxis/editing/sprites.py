"""For games: sheets of sprites with a JSON that engines read, palettes and whole-pixel enlargement for pixel art."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeuxis import __version__
from zeuxis.errors import UserError
from zeuxis.images import Pixels

PADDING = 2  # pixels around each sprite that repeat its edge, so that filtering does not pull in a neighbour
FRAME_MS = 100
MOST_SIDE = 16384
OPAQUE = 128
SOLID, FAINT = 242, 26  # alpha from which a pixel is of the object; below which, far from it, it is dust
DUST_DISTANCE = 3  # pixels


def atlas(pixels: Pixels, names: Sequence[str], image: str, *, array: bool = False) -> tuple[Pixels, dict[str, Any]]:
    """Sprites uint8 `[N, C, H, W]` in uniform cells on one sheet uint8 `[C, H', W']` with sides that are powers of two,
    and its JSON: TexturePacker's hash (or `array`) form with Aseprite's durations and one tag, which PixiJS, Phaser and
    most importers read. Nothing is rotated or trimmed, so that engines that only cut grids can use it too."""
    count, channels, height, width = pixels.shape
    cell_height, cell_width = height + 2 * PADDING, width + 2 * PADDING
    columns, sheet_height, sheet_width = _grid_of(count, cell_height, cell_width)
    sheet = np.zeros((channels, sheet_height, sheet_width), np.uint8)
    frames: list[dict[str, Any]] = []
    for number, (picture, name) in enumerate(zip(pixels, names, strict=True)):
        top, left = number // columns * cell_height, number % columns * cell_width
        padded = np.pad(picture, ((0, 0), (PADDING, PADDING), (PADDING, PADDING)), mode="edge")
        sheet[:, top : top + cell_height, left : left + cell_width] = padded
        box = {"x": left + PADDING, "y": top + PADDING, "w": width, "h": height}
        frames.append({
            "filename": name, "frame": box, "rotated": False, "trimmed": False,
            "spriteSourceSize": {"x": 0, "y": 0, "w": width, "h": height}, "sourceSize": {"w": width, "h": height},
            "duration": FRAME_MS,
        })  # fmt: skip
    meta = {
        "app": "Zeuxis", "version": __version__, "image": image, "format": "RGBA8888", "scale": "1",
        "size": {"w": sheet_width, "h": sheet_height}, "generator": "synthetic",
        "frameTags": [{"name": "all", "from": 0, "to": count - 1, "direction": "forward"}],
        "grid": {"columns": columns, "cell": [cell_width, cell_height], "padding": PADDING},
    }  # fmt: skip
    by_name = {frame["filename"]: {key: value for key, value in frame.items() if key != "filename"} for frame in frames}
    return sheet, {"frames": frames if array else by_name, "meta": meta}


def _grid_of(count: int, cell_height: int, cell_width: int) -> tuple[int, int, int]:
    """Columns, and the sides of the smallest sheet (powers of two) that holds the cells."""
    best: tuple[int, int, int, int] | None = None
    for exponent in range(int(math.log2(MOST_SIDE)) + 1):
        width = 2**exponent
        columns = width // cell_width
        if not columns:
            continue
        height = 2 ** math.ceil(math.log2(math.ceil(count / columns) * cell_height))
        if height <= MOST_SIDE:
            shape = width * height, abs(width - height), columns, height
            if best is None or shape[:2] < best[:2]:
                best, chosen = shape, width
    if best is None:
        raise UserError("--seeds", count, f"as many as fit into {MOST_SIDE}x{MOST_SIDE}", "write several sheets")
    return best[2], best[3], chosen


def cleaned(pixels: Pixels) -> Pixels:
    """Sprites uint8 `[N, 4, H, W]` without outlines of a colour of their own, on any ground, and without dust.

    Up to 1/8 of the side from an object, what is not wholly of it takes the colour of the object's nearest pixel, also
    where it is transparent: engines that filter textures mix that in. Faint pixels far from anything become
    transparent. Alpha along the edges stays, and so does what is translucent by itself, as glass is.
    """
    from scipy.ndimage import distance_transform_edt

    reach = max(2.0, min(pixels.shape[2:]) / 8)
    result = pixels.copy()
    for picture in result:
        colour, alpha = picture[:3], picture[3]
        if (alpha >= OPAQUE).any():
            alpha[(alpha < FAINT) & (distance_transform_edt(alpha < OPAQUE) > DUST_DISTANCE)] = 0
        solid = alpha >= SOLID
        if solid.any():
            distance, (rows, columns) = distance_transform_edt(~solid, return_indices=True)
            near = (distance > 0) & (distance <= reach)
            colour[:, near] = colour[:, rows[near], columns[near]]
    return result


def oklab(rgb: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """sRGB in [0, 1] `[..., 3]` -> OKLab (Ottosson 2020), in which distances are nearly those that people see."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_lms = [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
              [0.0883024619, 0.2817188376, 0.6299787005]]  # fmt: skip
    to_lab = [[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099],
              [0.0259040371, 0.7827717662, -0.8086757660]]  # fmt: skip
    return np.cbrt(linear @ np.array(to_lms).T) @ np.array(to_lab).T


def reduced(pixels: Pixels, colours: int) -> tuple[Pixels, Pixels]:
    """Pictures uint8 `[N, C, H, W]` in one palette of at most `colours`, and the palette uint8 `[K, 3]` (grey: equal
    values). Every pixel takes the nearest colour in OKLab, without dithering; alpha becomes 0 or 255, and what is
    transparent black."""
    if not 2 <= colours <= 256:
        raise UserError("--pixel-art", colours, "2 to 256 colours", "try --pixel-art 16")
    from sklearn.cluster import KMeans

    rgb = pixels[:, :3] if pixels.shape[1] >= 3 else pixels.repeat(3, axis=1)
    shown = pixels[:, 3] >= OPAQUE if pixels.shape[1] == 4 else np.ones((len(pixels), *pixels.shape[2:]), bool)
    values = rgb.transpose(0, 2, 3, 1)[shown]  # [M, 3]
    if not len(values):
        return np.zeros_like(pixels), np.zeros((0, 3), np.uint8)
    different, inverse, counts = np.unique(values, axis=0, return_inverse=True, return_counts=True)
    seen = oklab(different / 255)
    if len(different) <= colours:
        palette = different
    else:
        means = KMeans(colours, n_init=1, random_state=0).fit(seen, sample_weight=counts)
        # Of each cluster the member that is nearest to its middle: a colour that the pictures have.
        palette = different[np.unique(np.square(seen[:, None] - means.cluster_centers_).sum(2).argmin(0))]
    nearest = np.square(seen[:, None] - oklab(palette / 255)).sum(2).argmin(1)
    chosen = palette[nearest[inverse.reshape(-1)]]
    result = np.zeros((len(pixels), *pixels.shape[2:], 3), np.uint8)
    result[shown] = chosen
    planes = result.transpose(0, 3, 1, 2)
    if pixels.shape[1] == 1:
        return planes[:, :1].copy(), palette
    if pixels.shape[1] == 4:
        planes = np.concatenate([planes, 255 * shown[:, None].astype(np.uint8)], axis=1)
    return np.ascontiguousarray(planes), palette


def enlarged(pixels: Pixels, factor: int) -> Pixels:
    """Each pixel as `factor` x `factor` of them: the only enlargement that leaves pixel art what it is."""
    return pixels.repeat(factor, axis=2).repeat(factor, axis=3)
