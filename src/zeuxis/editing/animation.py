"""Frames to animations: GIF always, MP4 with the extra `video`."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from zeuxis.errors import UserError
from zeuxis.images import Pixels, composite, picture_of


def write_gif(frames: Pixels, path: Path, rate: float, mark: dict[str, str] | None = None) -> Path:
    """Frames uint8 `[F, C, H, W]` as a GIF that repeats for ever; `mark` becomes its comment. Pixels that are less than
    half opaque become transparent: a GIF has no more."""
    pictures = [picture_of(np.ascontiguousarray(frame.transpose(1, 2, 0))) for frame in frames]
    if frames.shape[1] == 4:
        pictures = [_keyed(picture) for picture in pictures]
    comment = "; ".join(f"{key}: {value}" for key, value in (mark or {}).items())
    more = {"transparency": 255, "disposal": 2} if frames.shape[1] == 4 else {}
    pictures[0].save(path, format="GIF", save_all=True, append_images=pictures[1:], loop=0,
                     duration=max(20, round(1000 / rate)), comment=comment.encode("utf-8"), **more)  # fmt: skip
    return path


def _keyed(picture: Image.Image) -> Image.Image:
    """An RGBA picture with a palette of 255 colours, the last entry transparent."""
    shape = picture.getchannel("A").point(lambda level: 255 if level < 128 else 0)
    indexed = picture.convert("RGB").quantize(255)
    indexed.paste(255, mask=shape)
    return indexed


def require_video() -> None:
    """`UserError` where the extra `video` is not installed."""
    try:
        import av  # noqa: F401
    except ImportError:
        raise UserError("--format", "mp4", "an installed extra `video`, or gif, png",
                        "pip install 'zeuxis[video]'") from None  # fmt: skip


def write_mp4(frames: Pixels, path: Path, rate: float, mark: dict[str, str] | None = None) -> Path:
    """Frames uint8 `[F, C, H, W]` as an H.264 video; RGBA over white, odd sides repeat their last row or column."""
    require_video()
    import av

    seen = composite(frames, 255).repeat(3 if frames.shape[1] == 1 else 1, axis=1).transpose(0, 2, 3, 1)
    seen = np.pad(seen, ((0, 0), (0, seen.shape[1] % 2), (0, seen.shape[2] % 2), (0, 0)), mode="edge")
    with av.open(str(path), "w") as container:
        container.metadata["comment"] = "; ".join(f"{key}: {value}" for key, value in (mark or {}).items())
        stream = container.add_stream("libx264", rate=Fraction(rate).limit_denominator(1000))
        stream.width, stream.height, stream.pix_fmt = seen.shape[2], seen.shape[1], "yuv420p"
        for frame in seen:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())
    return path
