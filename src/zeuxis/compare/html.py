"""HTML and SVG that is escaped by construction: text is text unless `tag` made it."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape

from PIL import Image, PngImagePlugin

from zeuxis.compare.entries import Pixels
from zeuxis.images import fit_to, picture_of

VOID = frozenset({"img", "meta", "wbr"})


class Html(str):
    """Markup that is safe to put into a page; every other `str` is text."""

    __slots__ = ()


Child = str | None | Sequence["Child"]


def tag(name: str, /, *children: Child, **attributes: object) -> Html:
    """`<name attributes>children</name>`; None and False leave out a child or an attribute, lists are laid flat.

    In attribute names a final underscore is dropped (`class_`), others become dashes (`aria_label`).
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value), quote=True)}"'
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    return Html(f"<{name}{written}>" if name in VOID else f"<{name}{written}>{join(*children)}</{name}>")


def join(*children: Child) -> Html:
    """Children one after the other, text escaped."""
    parts: list[str] = []
    for child in children:
        if isinstance(child, str):
            parts.append(child if isinstance(child, Html) else escape(child, quote=False))
        elif child is not None:
            parts.append(join(*child))
    return Html("".join(parts))


def named(text: str) -> Html:
    """Text in which a line may break behind the slashes of model names."""
    first, *rest = text.split("/")
    return join(first, [["/", tag("wbr"), part] for part in rest])


def css(text: str) -> Html:
    """Our own style sheet, which needs no escaping; `</` would end it early."""
    assert "</" not in text, "a style sheet must not contain </"
    return Html(f"<style>{text}</style>")


def picture(pixels: Pixels, *, alt: str, scale: int = 1, most: int = 96, mark: Mapping[str, str] | None = None) -> Html:
    """One picture uint8 `[C, H, W]` as an `<img>` with a data URI.

    It takes `scale` CSS pixels per pixel, at most `most` a side; up to twice that many pixels are kept, for fine
    screens. `mark` is PNG text.
    """
    image = picture_of(pixels.transpose(1, 2, 0))
    height, width = image.height * scale, image.width * scale
    if (longest := max(height, width)) > most:
        height, width = max(1, round(height * most / longest)), max(1, round(width * most / longest))
        if max(image.size) > 2 * most:
            image = fit_to(image, 2 * height, 2 * width, "stretch")
    return tag("img", src=data_uri(image, mark), alt=alt, width=width, height=height)


def data_uri(image: Image.Image, mark: Mapping[str, str] | None = None) -> str:
    """A Pillow picture as a PNG data URI."""
    info = PngImagePlugin.PngInfo()
    for key, value in (mark or {}).items():
        info.add_itxt(key, value)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", pnginfo=info, optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
