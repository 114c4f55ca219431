"""A collage becomes a picture: elements of several pictures, put where they are wanted, made into one coherent picture
of the model's world."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, model_validator

from zeuxis.config import Config, ImageSpec, parse
from zeuxis.editing.blending import Mask, feathered, membrane
from zeuxis.editing.encoder import Encoder, Progress
from zeuxis.editing.inpainting import fill_starts
from zeuxis.editing.pictures import open_picture
from zeuxis.editing.projection import Likeness, enrich, optimise
from zeuxis.editing.spaces import Codes, Space
from zeuxis.errors import UserError
from zeuxis.images import Pixels, fit_to, from_picture, to_float, to_pixels

Blend = Literal["none", "soft", "kept"]
PULL = 0.3  # between a picture that is coherent and one that keeps every seam of the collage
MOST_ELEMENTS = 256
MOST_JSON = 2**20
Whole = int


class Element(Config):
    """One piece. Its source is a `picture` (a file beside the layout, or a path) or a `seed` of the model.

    `box` [x, y, width, height] cuts it out, in the source's pixels; `mask` (a grey picture as large as the source,
    white is the element) or the picture's own alpha cuts out its shape. `at` [x, y] is where its top left corner goes,
    `size` [width, height] how large it is drawn; without any of the three the source fills the frame.
    """

    picture: str | None = None
    seed: int | None = Field(default=None, ge=0, lt=10**18)
    mask: str | None = None
    box: tuple[Whole, Whole, Whole, Whole] | None = None
    at: tuple[Whole, Whole] | None = None
    size: tuple[Whole, Whole] | None = None

    @model_validator(mode="after")
    def _whole(self) -> Element:
        if (self.picture is None) == (self.seed is None):
            raise ValueError("an element has either a picture or a seed")
        if self.box is not None and (min(self.box[:2]) < 0 or min(self.box[2:]) < 1):
            raise ValueError("box is [x, y, width, height] with a width and height of at least 1")
        if self.size is not None and not (1 <= self.size[0] <= 8192 and 1 <= self.size[1] <= 8192):
            raise ValueError("size is [width, height] from 1 to 8192")
        return self


class Layout(Config):
    """Elements from back to front."""

    elements: tuple[Element, ...] = Field(min_length=1, max_length=MOST_ELEMENTS)


@dataclass(frozen=True)
class Collage:
    """`pixels` uint8 `[C, H, W]` (straight alpha) with the elements on an empty frame; `known` bool `[H, W]` says where
    one lies; `composite` whether people's own pictures are among them."""

    pixels: Pixels
    known: Mask
    composite: bool = False


def read_layout(path: Path) -> Layout:
    """A layout from a JSON file; one line where it is wrong."""
    try:
        if path.stat().st_size > MOST_JSON:
            raise ValueError("it is larger than a megabyte")
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError('it is not an object: {"elements": [...]}')
    except (OSError, ValueError, RecursionError) as error:
        raise UserError("LAYOUT", str(path), 'JSON such as {"elements": [{"picture": "a.png", "box": [0, 0, 16, 16], '
                        '"at": [4, 4]}]}', f"it cannot be read: {error}") from None  # fmt: skip
    return parse(Layout, values, "LAYOUT")


def grid_layout(rows: Sequence[Sequence[int]], spec: ImageSpec) -> Layout:
    """Each cell of a grid over the frame shows what that seed's picture has there."""
    elements: list[dict[str, Any]] = []
    for row, seeds in enumerate(rows):
        top, bottom = (round(spec.height * place / len(rows)) for place in (row, row + 1))
        for column, seed in enumerate(seeds):
            left, right = (round(spec.width * place / len(seeds)) for place in (column, column + 1))
            box = [left, top, max(1, right - left), max(1, bottom - top)]
            elements.append({"seed": seed, "box": box, "at": [left, top]})
    return parse(Layout, {"elements": elements}, "--grid")


def lay_out(layout: Layout, space: Space, folder: Path, label: int | None = None) -> Collage:
    """Cuts the elements out and puts them on the frame; file names are looked up beside `folder`."""
    spec = space.model.spec
    frame = np.zeros((spec.height, spec.width, 4), np.uint8)
    known = np.zeros((spec.height, spec.width), bool)
    for number, element in enumerate(layout.elements):
        source, shape = _source(element, number, space, folder, label)
        _place(element, number, source, shape, frame, known)
    pixels = frame if spec.channels == 4 else np.asarray(_flattened(frame, spec.channels))
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    own = any(element.picture is not None for element in layout.elements)
    return Collage(np.ascontiguousarray(pixels.transpose(2, 0, 1)), known, own)


def _flattened(frame: Pixels, channels: int) -> Image.Image:
    opaque = frame.copy()
    opaque[..., 3] = 255
    return from_picture(Image.fromarray(opaque), channels)


def _source(
    element: Element, number: int, space: Space, folder: Path, label: int | None
) -> tuple[Image.Image, Image.Image]:
    """The picture an element is cut from, RGBA, and its shape, grey."""
    if element.seed is not None:
        pixels = space.pictures(space.of_seeds([element.seed], label))[0].transpose(1, 2, 0)
        picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).convert("RGBA")
        shape = Image.new("L", picture.size, 255)
    else:
        picture = open_picture(folder / str(element.picture), f"LAYOUT elements.{number}.picture")
        shape = picture.getchannel("A")
        if element.box is not None and element.mask is None and space.model.spec.channels == 4:
            shape = Image.new("L", picture.size, 255)  # what is empty in a box is meant to be
    if element.mask is not None:
        mask = open_picture(folder / element.mask, f"LAYOUT elements.{number}.mask")
        if mask.size != picture.size:
            raise UserError(f"LAYOUT elements.{number}.mask", "x".join(map(str, mask.size)),
                            f"the size of its picture, {picture.width}x{picture.height}", "make it that")  # fmt: skip
        shape = from_picture(mask, 1)
    if element.box is None and element.at is None and element.size is None:
        spec = space.model.spec
        picture = fit_to(picture, spec.height, spec.width, "pad")
        shape = fit_to(shape, spec.height, spec.width, "pad")
    if element.box is not None:
        x, y, width, height = element.box
        if x + width > picture.width or y + height > picture.height:
            raise UserError(f"LAYOUT elements.{number}.box", list(element.box),
                            f"inside its picture of {picture.width}x{picture.height}", "move or shrink it")  # fmt: skip
        picture, shape = (each.crop((x, y, x + width, y + height)) for each in (picture, shape))
    if element.size is not None:
        picture, shape = (fit_to(each, element.size[1], element.size[0], "stretch") for each in (picture, shape))
    return picture, shape


def _place(
    element: Element, number: int, source: Image.Image, shape: Image.Image, frame: Pixels, known: NDArray[np.bool_]
) -> None:
    left, top = element.at or (0, 0)
    height, width = known.shape
    there = slice(max(0, top), min(height, top + source.height)), slice(max(0, left), min(width, left + source.width))
    if there[0].start >= there[0].stop or there[1].start >= there[1].stop:
        raise UserError(f"LAYOUT elements.{number}.at", [left, top], f"inside the frame of {width}x{height}",
                        "move it into the frame")  # fmt: skip
    here = tuple(slice(part.start - first, part.stop - first) for part, first in zip(there, (top, left), strict=True))
    inside = np.asarray(shape)[here] > 127
    if not inside.any():
        raise UserError(f"LAYOUT elements.{number}", element.picture or element.seed, "an element that shows",
                        "its mask, alpha or box leaves nothing of it")  # fmt: skip
    frame[there][inside] = np.asarray(source)[here][inside]
    known[there] |= inside


def compose(
    space: Space, collage: Collage, seeds: Sequence[int] = (0,), *, label: int | None = None,
    encoder: Encoder | None = None, steps: int = 100, blend: Blend = "none", pull: float = PULL,
    progress: Progress | None = None,
) -> Pixels:  # fmt: skip
    """One coherent picture uint8 `[S, C, H, W]` per seed that keeps each element of the collage where it was put.

    Args:
        encoder: A learned one (`train_encoder`) turns the collage into a picture in one pass, which `steps` of
            optimisation then bring nearer to the elements; without it the search begins at seeds.
        blend: `none` is the model's own picture; `soft` puts the elements themselves into it, fading over a few pixels;
            `kept` leaves them as they are and bends what is around them.
        pull: How strongly the picture is held back in the model's world; less keeps the elements better, seams too.
    """
    likeness = _likeness(space, [collage] * len(seeds), encoder)
    starts = fill_starts(space, likeness, seeds, label, encoder)
    return _composed(space, [collage] * len(seeds), starts, likeness, steps, blend, pull, progress)


def compose_many(
    space: Space, collages: Sequence[Collage], *, encoder: Encoder, steps: int = 100, blend: Blend = "none",
    pull: float = PULL, progress: Progress | None = None,
) -> Pixels:  # fmt: skip
    """One picture uint8 `[N, C, H, W]` for each of N collages, each from the encoder's answer itself: `compose` for
    many."""
    likeness = _likeness(space, collages, encoder)
    starts = encoder(likeness.target, likeness.known)
    return _composed(space, collages, starts, likeness, steps, blend, pull, progress)


def _likeness(space: Space, collages: Sequence[Collage], encoder: Encoder | None) -> Likeness:
    target = to_float(torch.from_numpy(np.stack([collage.pixels for collage in collages]))).to(space.device)
    known = torch.from_numpy(np.stack([collage.known for collage in collages]))[:, None].to(space.device)
    return Likeness(target, known, encoder)


def _composed(
    space: Space, collages: Sequence[Collage], starts: Codes, likeness: Likeness, steps: int, blend: Blend, pull: float,
    progress: Progress | None,
) -> Pixels:  # fmt: skip
    codes, _ = optimise(space, starts, likeness, steps, progress=progress, what="composing")
    images = enrich(space, codes, likeness, steps, progress, pull) if steps else space.images(codes)
    made, given = images.double().cpu().numpy(), likeness.target.double().cpu().numpy()
    spec = space.model.spec
    for index, collage in enumerate(collages if blend != "none" else ()):
        one = slice(index, index + 1)
        if blend == "kept":
            made[one] = membrane(made[one], given[one], collage.known, (spec.wrap_x, spec.wrap_y))
        else:
            made[one] = feathered(given[one], made[one], collage.known, max(1.0, min(spec.height, spec.width) / 16))
    return to_pixels(torch.from_numpy(made)).numpy()
