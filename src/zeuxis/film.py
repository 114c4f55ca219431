"""Clips as people look at them: film strips on a sheet, animated GIF, and MP4 where the package `av` is installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from zeuxis.errors import UserError
from zeuxis.images import Pixels, composite, grid, picture_of, sheet_scale

FRAMES_PER_SECOND = 10


def strips(clips: Pixels, most: int = 40) -> Image.Image:
    """uint8 `[N, T, C, H, W]` -> one picture with a clip per row, its first `most` frames from left to right."""
    clips = clips[:, :most]
    scale = min(2, sheet_scale(*clips.shape[3:]))
    return grid(clips.reshape(-1, *clips.shape[2:]).transpose(0, 2, 3, 1), clips.shape[1], scale=scale)


def save_gif(clip: Pixels, path: Path, mark: dict[str, str] | None = None) -> None:
    """Writes uint8 `[T, C, H, W]` as a GIF that repeats; `mark` becomes its comment. Frames that are equal to the one
    before only prolong it; half-transparent pixels become opaque or clear."""
    frames = [picture_of(frame) for frame in clip.transpose(0, 2, 3, 1)]
    comment = "; ".join(f"{key}: {value}" for key, value in (mark or {}).items()).encode()
    frames[0].save(
        path, format="GIF", save_all=True, append_images=frames[1:], duration=1000 // FRAMES_PER_SECOND, loop=0,
        disposal=2, comment=comment,
    )  # fmt: skip


def save_video(clip: Pixels, path: Path, mark: dict[str, str] | None = None) -> None:
    """Writes uint8 `[T, C, H, W]` as MP4 (H.264, over white where transparent); `mark` becomes its comment."""
    try:
        import av
    except ImportError:
        raise UserError(
            "--video", path.name, "the package av", "pip install 'zeuxis[video]', or leave it out"
        ) from None
    colour = composite(clip, 255)
    colour = np.repeat(colour, 3, axis=1) if colour.shape[1] == 1 else colour
    with av.open(str(path), "w") as container:
        container.metadata["comment"] = "; ".join(f"{key}: {value}" for key, value in (mark or {}).items())
        stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND)
        stream.height, stream.width, stream.pix_fmt = clip.shape[2], clip.shape[3], "yuv420p"
        stream.options = {"crf": "12"}
        for frame in colour.transpose(0, 2, 3, 1):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())
