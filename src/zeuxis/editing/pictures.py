"""People's own pictures and masks, brought to what a model works with."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from zeuxis.config import ImageSpec
from zeuxis.editing.blending import Mask
from zeuxis.errors import UserError
from zeuxis.images import Pixels, fit_to, from_picture

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "AVIF", "DIB")
MOST_PIXELS = 100_000_000


def open_picture(path: Path, option: str = "PICTURE") -> Image.Image:
    """A picture of any format and mode as RGBA; `UserError` naming `option` where it cannot be read."""
    try:
        with Image.open(path, formats=FORMATS) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise ValueError(f"it has more than {MOST_PIXELS} pixels")
            return from_picture(picture, 4)
    except FileNotFoundError:
        raise UserError(option, str(path), "a picture file", "there is no such file") from None
    except (OSError, ValueError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError) as error:
        reason = "it is none" if isinstance(error, UnidentifiedImageError) else f"it cannot be read: {error}"
        raise UserError(option, str(path), "a picture file such as a PNG", reason) from None


def read_picture(
    path: Path, spec: ImageSpec, fit: Literal["crop", "pad", "stretch"] = "crop", option: str = "PICTURE"
) -> Pixels:
    """A picture file as uint8 `[C, H, W]` of the spec."""
    return pixels_of(fit_to(open_picture(path, option), spec.height, spec.width, fit), spec.channels)


def pixels_of(picture: Image.Image, channels: int) -> Pixels:
    """A picture as uint8 `[C, H, W]`."""
    array = np.array(from_picture(picture, channels))
    array = array[..., None] if array.ndim == 2 else array
    return np.ascontiguousarray(array.transpose(2, 0, 1))


def read_mask(path: Path, spec: ImageSpec, fit: Literal["crop", "pad", "stretch"] = "crop") -> Mask:
    """Where a picture is to be filled, bool `[H, W]`: white in a grey mask, or transparent in one with transparency;
    brought to the spec as the picture is."""
    picture = open_picture(path, "--mask")
    alpha = np.asarray(picture.getchannel("A"))
    grey = Image.fromarray(255 - alpha) if alpha.min() < 128 else from_picture(picture, 1)
    return np.asarray(fit_to(grey, spec.height, spec.width, fit)) > 127


def parse_box(text: str, height: int, width: int, option: str = "--box") -> Mask:
    """`x,y,width,height` as bool `[H, W]`, true inside."""
    parts = text.split(",")
    whole = [int(part) if part.strip().isdecimal() else -1 for part in parts]
    if len(whole) != 4 or min(whole) < 0 or 0 in whole[2:] or whole[0] >= width or whole[1] >= height:
        raise UserError(option, text, f"x,y,width,height inside {width}x{height}, such as 0,0,{width // 2},4",
                        "count from the top left corner")  # fmt: skip
    mask = np.zeros((height, width), bool)
    mask[whole[1] : whole[1] + whole[3], whole[0] : whole[0] + whole[2]] = True
    return mask
