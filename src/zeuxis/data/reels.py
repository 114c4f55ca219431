"""Files that hold whole clips: animated GIF, WebP and APNG, stacks of numpy, video. Decoded front to back, block by
block, and never whole in memory."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zeuxis.data.arrays import IMAGE_KEYS, npy_header, open_zip, picture_shape, read_exactly
from zeuxis.data.decode import BadFileError, quiet_pillow
from zeuxis.data.looks import is_grey
from zeuxis.errors import DataError
from zeuxis.images import from_picture, has_transparency

ANIMATIONS = frozenset((".gif", ".webp", ".apng", ".png"))  # .png where its header says that it moves
STACKS = frozenset((".npy", ".npz"))
VIDEOS = frozenset((".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg"))
NO_VIDEO = "a video, which needs the package av: pip install 'zeuxis[video]'"
WANTED = "uint8 clips [T, H, W, C], [N, T, H, W] or [N, T, H, W, C] with C = 1, 3 or 4"
MAX_FRAMES = 1_000_000  # of one file

Shape = tuple[int, int, int]
Opener = Callable[[], IO[bytes]]


class Reel(Protocol):
    """One file: `lengths` frames of each of its clips, every frame of `shape` = (H, W, C)."""

    @property
    def name(self) -> str: ...
    @property
    def lengths(self) -> Sequence[int]: ...
    @property
    def shape(self) -> Shape: ...

    def blocks(self, size: int) -> Iterator[NDArray[np.uint8]]:
        """All frames in order, uint8 `[n, H, W, C]`, n at most `size`; `BadFileError` where the file ends early."""
        ...


def ending(name: str) -> str:
    """The extension of a name in small letters."""
    return os.path.splitext(name)[1].lower()


def moves(name: str, opener: Opener) -> bool:
    """Whether a picture file holds several frames; anything unreadable does not."""
    if ending(name) not in ANIMATIONS:
        return False
    try:
        with opener() as file:
            if ending(name) == ".png":  # the chunk that says so stands before the pixels, and nearly always first
                head = file.read(64)
                return head[:4] == b"\x89PNG" and b"acTL" in head
            with quiet_pillow(), Image.open(file, formats=("GIF", "WEBP", "PNG")) as picture:
                return int(getattr(picture, "n_frames", 1)) > 1
    except Exception:  # a stranger's file: whether it is broken is found when it is decoded
        return False


def open_reel(name: str, path: Path | None, opener: Opener, max_pixels: int) -> Reel:
    """The clips of a file by its name's extension; `BadFileError` says why there are none.

    `path` is where it lies, None inside a zip file, where stacks and videos are not read.
    """
    kind = ending(name)
    if kind in ANIMATIONS:
        return Animation(name, opener, max_pixels)
    if path is None:
        raise BadFileError("not read inside a zip file: unpack it")
    return StackFile(name, path) if kind in STACKS else Video(name, path, max_pixels)


@contextmanager
def decoding() -> Iterator[None]:
    """Turns whatever a decoder raises on a stranger's file into one `BadFileError`."""
    try:
        yield
    except (BadFileError, MemoryError):
        raise
    except Exception as error:
        words = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise BadFileError(f"broken: {words}") from None


class Animation:
    """GIF, WebP or APNG: the frames as a viewer shows them, durations left aside."""

    def __init__(self, name: str, opener: Opener, max_pixels: int) -> None:
        self.name, self.opener = name, opener
        with decoding(), opener() as file, quiet_pillow(), Image.open(file, formats=("GIF", "WEBP", "PNG")) as picture:
            count = int(getattr(picture, "n_frames", 1))
            _limit(picture.width, picture.height, max_pixels)
            clear = has_transparency(picture)
            frame = np.asarray(from_picture(picture, 4 if clear else 3))
            grey = bool(is_grey(frame.transpose(2, 0, 1)[None])[0])  # a guess; `blocks` keeps to it
            self.channels = 4 if clear else 1 if grey else 3
            self.shape = (picture.height, picture.width, self.channels)
        self.lengths = [min(count, MAX_FRAMES)]

    def blocks(self, size: int) -> Iterator[NDArray[np.uint8]]:
        """uint8 `[n, H, W, C]` in order."""
        with decoding(), self.opener() as file, quiet_pillow(), Image.open(file) as picture:
            for start in range(0, self.lengths[0], size):
                frames: list[NDArray[np.uint8]] = []
                for index in range(start, min(start + size, self.lengths[0])):
                    try:
                        picture.seek(index)
                        frame = np.asarray(from_picture(picture, self.channels)).reshape(self.shape)
                    except Exception:  # what was decoded before is handed on first
                        if frames:
                            yield np.stack(frames)
                        raise
                    frames.append(frame)
                yield np.stack(frames)


class StackFile:
    """An `.npy` or `.npz` file of one clip `[T, H, W, C]` or of several `[N, T, H, W]` or `[N, T, H, W, C]`; `labels`
    of an `.npz` are those of its clips."""

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.path, self.member = name, path, ""
        self.labels: NDArray[Any] | None = None
        with decoding():
            try:
                if zipfile.is_zipfile(path):
                    self._choose()
                with self._open() as file:
                    shape, dtype, self.skip = npy_header(file, name)
                count, length, *sides = clip_shape(shape, dtype, name)
                held = self._held()
            except DataError as error:
                raise BadFileError(str(error)) from None
        self.shape: Shape = (sides[0], sides[1], sides[2])
        if math.prod(shape) != held - self.skip:
            raise BadFileError(f"broken: a header of {list(shape)} that does not fit the file")
        self.lengths = [length] * count

    def _choose(self) -> None:
        with open_zip(self.path) as archive:
            members = [info.filename for info in archive.infolist()]
        keys = [f"{key}.npy" for key in (*IMAGE_KEYS, "clips", "frames")]
        found = [key for key in keys if key in members] or [each for each in members if each != "labels.npy"]
        if not found:
            raise BadFileError("no array in it")
        self.member = found[0]
        if "labels.npy" in members:
            with zipfile.ZipFile(self.path) as archive, archive.open("labels.npy") as file:
                shape, dtype, _ = npy_header(file, "labels.npy")
                self.labels = np.frombuffer(read_exactly(file, math.prod(shape) * dtype.itemsize), dtype)

    def _held(self) -> int:
        if not self.member:
            return self.path.stat().st_size
        with zipfile.ZipFile(self.path) as archive:
            return archive.getinfo(self.member).file_size

    def _open(self) -> IO[bytes]:
        return zipfile.ZipFile(self.path).open(self.member) if self.member else open(self.path, "rb")

    def blocks(self, size: int) -> Iterator[NDArray[np.uint8]]:
        """uint8 `[n, H, W, C]` in order."""
        each, total = math.prod(self.shape), sum(self.lengths)
        with decoding(), self._open() as file:
            read_exactly(file, self.skip)
            for start in range(0, total, size):
                number = min(size, total - start)
                yield np.frombuffer(read_exactly(file, number * each), np.uint8).reshape(number, *self.shape)


class Video:
    """The first video stream of a file, by the optional package `av` (FFmpeg's libraries)."""

    def __init__(self, name: str, path: Path, max_pixels: int) -> None:
        try:
            import av
        except ImportError:
            raise BadFileError(NO_VIDEO) from None
        self.name, self.path, self.av = name, path, av
        with decoding(), av.open(str(path)) as container:
            stream = container.streams.video[0]
            _limit(stream.width, stream.height, max_pixels)
            self.shape: Shape = (stream.height, stream.width, 3)
            # Counted from the packets: what a header says of it is often zero, or wrong.
            self.lengths = [min(MAX_FRAMES, sum(1 for packet in container.demux(stream) if packet.size))]

    def blocks(self, size: int) -> Iterator[NDArray[np.uint8]]:
        """uint8 `[n, H, W, 3]` in order."""
        left = self.lengths[0]
        frames: list[NDArray[np.uint8]] = []
        with decoding(), self.av.open(str(self.path)) as container:
            stream = container.streams.video[0]
            try:
                for frame in container.decode(stream):
                    if not left:
                        break
                    frames.append(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8))
                    left -= 1
                    if len(frames) == size or not left:
                        yield np.stack(frames)
                        frames = []
            except Exception:
                if frames:
                    yield np.stack(frames)
                raise
        if frames:
            yield np.stack(frames)
        if left:
            raise BadFileError(f"the last {left} frames cannot be decoded")


class MemoryReel:
    """Clips in an array in memory, uint8 `[T, H, W, C]`, `[N, T, H, W]` or `[N, T, H, W, C]`."""

    def __init__(self, array: NDArray[np.uint8], name: str = "clips") -> None:
        count, length, *sides = clip_shape(array.shape, array.dtype, name)
        self.name, self.lengths = name, [length] * count
        self.shape: Shape = (sides[0], sides[1], sides[2])
        self.array = array.reshape(count * length, *self.shape)

    def blocks(self, size: int) -> Iterator[NDArray[np.uint8]]:
        """uint8 `[n, H, W, C]` in order."""
        for start in range(0, len(self.array), size):
            yield np.ascontiguousarray(self.array[start : start + size])


def clip_shape(shape: Sequence[int], dtype: Any, what: str) -> tuple[int, int, int, int, int]:
    """(N, T, H, W, C) of an array that holds clips; `DataError` saying what is wanted for any other."""
    full = tuple(int(side) for side in shape)
    if len(full) == 3:  # [T, H, W]
        full = (1, *full, 1)
    elif len(full) == 4:
        full = (1, *full) if full[3] in (1, 3, 4) else (*full, 1)
    if len(full) != 5 or str(dtype) != "uint8" or full[4] not in (1, 3, 4):
        raise DataError(what, f"{dtype} {list(shape)}", WANTED, "convert with .astype(numpy.uint8) and .transpose")
    _, height, width, channels = picture_shape((full[0] * full[1], *full[2:]), dtype, what)
    return full[0], full[1], height, width, channels


def bytes_opener(read: Callable[[], bytes]) -> Opener:
    """A file in memory, read anew at each opening."""
    return lambda: BytesIO(read())


def _limit(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise BadFileError(f"{width}x{height} pixels, more than the limit of {max_pixels:,}")
