"""The pixel contract. Only this file converts pixels.

Users and files: uint8 `[N, H, W, C]`. Cache and networks: `[N, C, H, W]`. Inside: float `[-1, 1]`, with RGB
premultiplied by alpha for four channels, so that invisible colour never counts. Alpha in files is straight.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, PngImagePlugin

if TYPE_CHECKING:
    import torch  # imported where it is used: the processes that decode files do without it

Pixels = NDArray[np.uint8]
SHEET_MARK = "Sheet"  # PNG text key of contact sheets, which lie beside the pictures they show and are none themselves
XMP_KEY = "XML:com.adobe.xmp"  # of the PNG text that holds an XMP packet
PARTLY = "partly"  # value of `Synthetic` in the mark of a picture that holds parts of somebody's own
MODES: dict[int, str] = {1: "L", 3: "RGB", 4: "RGBA"}


def to_float(pixels: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
    """uint8 `[N, C, H, W]` (or `[N, T, C, H, W]`) with straight alpha -> float (32 bits unless `dtype`) `[-1, 1]`,
    premultiplied, same shape."""
    import torch

    values = pixels.to(dtype or torch.float32)
    if pixels.shape[-3] == 4:
        alpha = values[..., 3:, :, :] / 255
        values = torch.cat([values[..., :3, :, :] * alpha, values[..., 3:, :, :]], dim=-3)
    return values.div_(127.5).sub_(1)


def to_pixels(values: torch.Tensor) -> torch.Tensor:
    """Float `[-1, 1]` `[N, C, H, W]` (or `[N, T, C, H, W]`) with premultiplied alpha -> uint8 with straight alpha,
    rounded to nearest."""
    import torch

    unit = values.detach().float().clamp(-1, 1).add(1).div(2)  # in [0, 1]
    if values.shape[-3] == 4:
        alpha = unit[..., 3:, :, :]
        # Below half a level of alpha the colour cannot be seen and its quotient is noise: it becomes black.
        colour = torch.where(alpha > 0.5 / 255, unit[..., :3, :, :] / alpha.clamp_min(0.5 / 255), 0).clamp(0, 1)
        unit = torch.cat([colour, alpha], dim=-3)
    return unit.mul(255).round().to(torch.uint8)


def to_user(pixels: torch.Tensor) -> Pixels:
    """uint8 `[N, C, H, W]` -> uint8 array `[N, H, W, C]`, as users and files have it."""
    return np.ascontiguousarray(pixels.permute(0, 2, 3, 1).cpu().numpy())


def composite(pixels: Pixels, background: int) -> Pixels:
    """Straight-alpha uint8 `[N, C, H, W]`: RGBA over a grey `background` (0 to 255) -> RGB; 1 and 3 channels
    unchanged."""
    if pixels.shape[1] != 4:
        return pixels
    alpha = pixels[:, 3:].astype(np.uint16)
    mixed = (pixels[:, :3].astype(np.uint16) * alpha + np.uint16(background) * (255 - alpha) + 127) // 255
    return mixed.astype(np.uint8)


def from_picture(picture: Image.Image, channels: int) -> Image.Image:
    """A decoded Pillow picture of any mode -> mode L, RGB or RGBA, EXIF rotation applied.

    16-bit grey is scaled to 8 bits; transparency becomes alpha for four channels and is laid over white for fewer.
    """
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I") or picture.mode == "F":
        values = np.asarray(picture, dtype=np.float64)
        top = (
            65535.0
            if picture.mode != "F" or values.max(initial=0.0) > 255
            else (255.0 if values.max(initial=0.0) > 1 else 1.0)
        )
        picture = Image.fromarray((values.clip(0, top) * (255.0 / top)).round().astype(np.uint8), "L")
    if picture.mode == "LAB":  # Pillow converts it to RGB alone
        picture = picture.convert("RGB")
    if has_transparency(picture):
        picture = picture.convert("RGBA")
        if channels != 4:
            white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
            picture = Image.alpha_composite(white, picture)
    return picture.convert(MODES[channels])


def has_transparency(picture: Image.Image) -> bool:
    """Whether the picture carries an alpha channel or a transparent palette entry."""
    return picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info


def fit_to(picture: Image.Image, height: int, width: int, fit: Literal["crop", "pad", "stretch"]) -> Image.Image:
    """Brings a picture of mode L, RGB or RGBA to `height` x `width`, antialiased.

    `crop` scales to cover and cuts the centre, `pad` scales to fit inside and adds edges (transparent for RGBA, else
    black), `stretch` ignores the aspect. RGBA is resized premultiplied, so hidden colour does not bleed into edges.
    """
    if picture.size == (width, height):
        return picture
    mode = picture.mode
    work = picture.convert("RGBa") if mode == "RGBA" else picture
    scale_x, scale_y = width / work.width, height / work.height
    if fit == "stretch":
        work = work.resize((width, height), Image.Resampling.LANCZOS)
    elif fit == "crop":
        scale = max(scale_x, scale_y)
        cut_w, cut_h = width / scale, height / scale
        left, top = (work.width - cut_w) / 2, (work.height - cut_h) / 2
        box = (max(0.0, left), max(0.0, top), min(left + cut_w, work.width), min(top + cut_h, work.height))
        work = work.resize((width, height), Image.Resampling.LANCZOS, box=box)
    else:
        scale = min(scale_x, scale_y)
        inner = (max(1, round(work.width * scale)), max(1, round(work.height * scale)))
        canvas = Image.new(work.mode, (width, height))
        canvas.paste(work.resize(inner, Image.Resampling.LANCZOS), ((width - inner[0]) // 2, (height - inner[1]) // 2))
        work = canvas
    return work.convert(mode)


def grid(pixels: Pixels, columns: int | None = None, scale: int = 1, gap: int = 2) -> Image.Image:
    """uint8 `[N, H, W, C]` -> one sheet, row by row; `scale` enlarges by whole pixels, `gap` is in enlarged pixels."""
    count, height, width, channels = pixels.shape
    columns = columns or max(1, math.ceil(math.sqrt(count)))
    rows = max(1, math.ceil(count / columns))
    cell_h, cell_w = height * scale + gap, width * scale + gap
    edge = (0,) * channels if channels == 4 else (96,) * channels
    sheet = np.empty((rows * cell_h + gap, columns * cell_w + gap, channels), np.uint8)
    sheet[:] = edge
    large = pixels.repeat(scale, axis=1).repeat(scale, axis=2)
    for index, picture in enumerate(large):
        top, left = gap + index // columns * cell_h, gap + index % columns * cell_w
        sheet[top : top + height * scale, left : left + width * scale] = picture
    return picture_of(sheet)


def sheet_scale(height: int, width: int) -> int:
    """How many times a sheet enlarges its pictures so that small ones can be seen (about 64 pixels a side, at most
    8)."""
    return max(1, min(8, 64 // max(height, width)))


def picture_of(pixels: Pixels) -> Image.Image:
    """uint8 `[H, W, C]` -> a Pillow picture of mode L, RGB or RGBA."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def save_png(picture: Image.Image, path: Path, mark: dict[str, str] | None = None) -> None:
    """Writes a PNG; `mark` becomes PNG text, such as the note that the picture is synthetic, which is written as XMP
    too."""
    info = PngImagePlugin.PngInfo()
    for key, value in (mark or {}).items():
        info.add_itxt(key, value)
    if mark and "Synthetic" in mark:
        info.add_itxt(XMP_KEY, provenance(composite=mark["Synthetic"] == PARTLY))
    picture.save(path, format="PNG", pnginfo=info)


def provenance(composite: bool = False) -> str:
    """An XMP packet that says by IPTC's digital source type that a trained model made the picture, or (`composite`)
    parts of it: what search engines and picture desks read."""
    kind = "compositeWithTrainedAlgorithmicMedia" if composite else "trainedAlgorithmicMedia"
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
        'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
        f'Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/{kind}" '
        'xmp:CreatorTool="Zeuxis"/></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
    )
