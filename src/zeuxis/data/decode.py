"""Bytes of picture files -> uint8 pixels and records. Runs in worker processes: imports no torch and no
pydantic."""

from __future__ import annotations

import hashlib
import os
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, UnidentifiedImageError

from zeuxis.data.looks import GREY_TOLERANCE, describe
from zeuxis.data.records import Flag, Records, empty_records
from zeuxis.images import MODES, SHEET_MARK, fit_to, from_picture, has_transparency

# Pillow is asked for these and no others: a file called .png must not reach a PostScript interpreter.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "AVIF", "DIB")  # MPO opens as JPEG
MAX_FILE = 512 * 2**20  # bytes; larger than any picture within the pixel limits that are sensible here
MAGICS = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"RIFF")
MAX_REASON = 120  # characters
PNG_MODES = {0: "L", 2: "RGB", 6: "RGBA"}
# Chunks that change neither pixels nor orientation as we read them; any other sends a PNG the general way.
PNG_PLAIN = frozenset(
    (b"gAMA", b"cHRM", b"iCCP", b"sRGB", b"pHYs", b"tIME", b"tEXt", b"zTXt", b"bKGD", b"sBIT", b"hIST")
)


class BadFileError(Exception):
    """The file is skipped; the text is the reason as the user reads it."""


@dataclass(frozen=True)
class Job:
    """A run of consecutive files for one worker; plain values only, it travels as JSON.

    `items` are names below the folder `root`, or `[offset, packed size, size, method, CRC]` of members of the
    zip file `root`, or `[tar file, offset, size]` of members of shards; pixels go to `out` from picture `start`
    on, each `shape` = (C, H, W), unless `out` is empty.
    """

    kind: Literal["folder", "zip", "tar"]
    root: str
    items: list[Any]
    start: int
    shape: tuple[int, int, int]
    fit: Literal["crop", "pad", "stretch"]
    max_pixels: int
    out: str = ""


@dataclass
class Result:
    """Records of a job's files, and for each that was skipped its position and the reason."""

    records: Records
    reasons: dict[int, str] = field(default_factory=dict)


Look = tuple[int, int, Flag]  # width and height as a viewer shows them, properties
NOT_OK: Look = (0, 0, Flag(0))


def run_job(job: Job) -> Result:
    """Reads, checks and decodes the files of `job` and writes their pixels; OSError only where writing
    fails."""
    pixels = np.zeros((len(job.items), *job.shape), np.uint8)  # [n, C, H, W]
    result = Result(empty_records(len(job.items)))
    sizes, digests, looks = [], [], []  # columns: numpy is slow at single values
    with quiet_pillow():
        for index, item in enumerate(job.items):
            data, look = b"", NOT_OK
            try:
                data = READERS[job.kind](job.root, item)
                look = _look_at(data, job, pixels[index])
            except BadFileError as bad:
                pixels[index] = 0
                result.reasons[index] = str(bad)[:MAX_REASON]
            sizes.append(len(data))
            digests.append(hashlib.sha256(data).digest()[:16])
            looks.append(look)
    records = result.records
    records["bytes"] = sizes
    records["digest"] = np.frombuffer(b"".join(digests), "<u8").reshape(-1, 2)
    records["width"], records["height"], records["flags"] = np.array(looks, np.int64).reshape(-1, 3).T
    describe(pixels, records)
    if job.out:
        write_pixels(job.out, job.start, pixels)
    return result


def decode_picture(data: bytes, shape: tuple[int, int, int], fit: Literal["crop", "pad", "stretch"],
                   max_pixels: int) -> NDArray[np.uint8]:  # fmt: skip
    """One picture file as uint8 `shape` = (C, H, W); `BadFileError` where it cannot be decoded."""
    pixels = np.zeros(shape, np.uint8)
    with quiet_pillow():
        _look_at(data, Job("folder", "", [], 0, shape, fit, max_pixels), pixels)
    return pixels


def write_pixels(path: str, start: int, pixels: NDArray[np.uint8]) -> None:
    """Writes uint8 `[n, C, H, W]` at picture `start` of the file; plain writes, because a full disk kills a
    memory map."""
    with open(path, "r+b", buffering=0) as file:
        file.seek(start * pixels[0].size)
        view = memoryview(np.ascontiguousarray(pixels)).cast("B")  # type: ignore[arg-type]
        while view:
            view = view[file.write(view) :]


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Our pixel limit instead of Pillow's, and no warnings: a stranger's file must not decide what the
    terminal shows."""
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def read_file(root: str, name: str) -> bytes:
    """The bytes of a file, at most `MAX_FILE`."""
    try:
        handle = os.open(os.path.join(root, name), os.O_RDONLY | getattr(os, "O_BINARY", 0))
        try:
            data = os.read(handle, 1 << 17)
            if len(data) == 1 << 17:
                with os.fdopen(os.dup(handle), "rb") as rest:
                    data += rest.read(MAX_FILE)
        finally:
            os.close(handle)
    except OSError as error:
        raise BadFileError(f"cannot be read: {error.strerror or error}") from None
    if len(data) > MAX_FILE:
        raise BadFileError(f"larger than {MAX_FILE >> 20} MiB")
    return data


def read_member(root: str, item: list[int]) -> bytes:
    """The bytes of a zip member, never more than its directory entry claims; the claim was bounded when
    listing."""
    offset, packed, size, method, crc = item
    try:
        with open(root, "rb") as file:
            file.seek(offset)
            header = file.read(30)
            if len(header) < 30 or header[:4] != b"PK\x03\x04":
                raise BadFileError("broken: the zip file has no such member where its directory says")
            file.seek(int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little"), 1)
            data = file.read(packed)
    except OSError as error:
        raise BadFileError(f"cannot be read: {error.strerror or error}") from None
    except (ValueError, OverflowError, MemoryError):  # offsets and sizes that no file has
        raise BadFileError("broken: the zip file has no such member where its directory says") from None
    if method == 8:
        try:
            data = zlib.decompressobj(-15).decompress(data, size + 1)
        except zlib.error:
            raise BadFileError("broken: the zip member cannot be decompressed") from None
    if len(data) != size or zlib.crc32(data) != crc:
        raise BadFileError("broken: the zip member is not what the directory says")
    return data


def read_slice(root: str, item: tuple[str, int, int]) -> bytes:
    """The bytes of a member of a shard; its size was bounded when listing."""
    path, offset, size = item
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            data = file.read(size)
    except (OSError, ValueError, OverflowError, MemoryError) as error:
        raise BadFileError(f"cannot be read: {error}") from None
    if len(data) != size:
        raise BadFileError("truncated: the shard ends before it")
    return data


READERS: dict[str, Callable[[str, Any], bytes]] = {"folder": read_file, "zip": read_member, "tar": read_slice}


def _look_at(data: bytes, job: Job, place: NDArray[np.uint8]) -> Look:
    """Decodes one file into `place` `[C, H, W]` and says what it is, or raises `BadFileError`."""
    if not data:
        raise BadFileError("empty file")
    channels, height, width = job.shape
    plain = plain_png(data, job.max_pixels)
    if plain is not None and plain.mode == MODES[channels] and plain.size == (width, height):
        _put(plain, place)
        flags = Flag.OK | Flag.GREY if channels == 1 else Flag.OK
        if channels == 4:
            flags |= Flag.ALPHA | Flag.TRANSPARENT if place[3].min() < 255 else Flag.ALPHA
        return width, height, flags
    try:
        if plain is not None:
            picture, size, flags = plain, plain.size, Flag.OK
        else:
            picture, size, flags = _open(data, job)
        flags |= _colour_flags(picture, channels)
        _put(fit_to(from_picture(picture, channels), height, width, job.fit), place)
    except BadFileError:
        raise
    except Exception as error:  # whatever a decoder raises on a stranger's file, the scan goes on
        raise BadFileError(_reason(error, data)) from None
    return size[0], size[1], flags


def _put(picture: Image.Image, place: NDArray[np.uint8]) -> None:
    channels, height, width = place.shape
    values = np.frombuffer(picture.tobytes(), np.uint8).reshape(height, width, channels)
    place[...] = values.transpose(2, 0, 1)


def plain_png(data: bytes, max_pixels: int) -> Image.Image | None:
    """Decodes a PNG of 8 bits without palette, interlacing, transparency chunk, animation or EXIF; None for
    any other.

    Pillow's general way spends a tenth of a small picture's time in Python. Whatever is unusual or broken
    here is None too and goes the general way, which also finds the words for it.
    """
    if data[:8] != b"\x89PNG\r\n\x1a\n" or len(data) < 57 or data[12:16] != b"IHDR" or data[24] != 8 or data[28]:
        return None
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    mode = PNG_MODES.get(data[25])
    if mode is None or not 0 < width * height <= max_pixels:
        return None
    place, packed = 8, []
    while True:
        length, name = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        end = place + 12 + length
        if end > len(data) or zlib.crc32(data[place + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            return None
        if name == b"IDAT":
            packed.append(data[place + 8 : end - 4])
        elif name == b"IEND":
            break
        elif name not in PNG_PLAIN and place != 8:
            return None
        place = end
    try:
        return Image.frombytes(mode, (width, height), b"".join(packed), "zip", mode, 0)
    except (ValueError, OSError):
        return None


def _open(data: bytes, job: Job) -> tuple[Image.Image, tuple[int, int], Flag]:
    """Opens and decodes the first frame of any picture we read; with (width, height) as a viewer shows it."""
    picture: Image.Image = Image.open(BytesIO(data), formats=_formats())
    width, height = picture.size
    if width * height > job.max_pixels:
        raise BadFileError(f"{width}x{height} pixels, more than the limit of {job.max_pixels:,}")
    if picture.info.get(SHEET_MARK) == "Zeuxis":
        raise BadFileError("a sheet of pictures that Zeuxis drew, not a picture")
    flags = Flag.OK
    if data[:4] == b"\x89PNG" and data[24] == 16:
        flags |= Flag.DEEP
    if picture.format != "MPO" and getattr(picture, "is_animated", False):
        flags |= Flag.ANIMATED
    # A JPEG may be decoded at 1/2, 1/4 or 1/8: twice the wanted side keeps what the antialiased resize needs.
    picture.draft(None, (2 * max(job.shape[1:]), 2 * max(job.shape[1:])))
    picture.load()
    orientation = picture.getexif().get(0x0112, 1)
    if orientation in range(2, 9):
        flags |= Flag.ROTATED
    return picture, (height, width) if orientation in (5, 6, 7, 8) else (width, height), flags


@lru_cache(maxsize=1)
def _formats() -> tuple[str, ...]:
    """Those of `FORMATS` that this Pillow knows; asking it for any other is a KeyError."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _colour_flags(picture: Image.Image, channels: int) -> Flag:
    """What the colours of a decoded picture are, before it is brought to `channels`."""
    flags = Flag(0)
    if picture.mode == "CMYK":
        flags |= Flag.CMYK
    if picture.mode.startswith(("I", "F")):
        flags |= Flag.DEEP
    if picture.mode in ("P", "PA"):
        flags |= Flag.PALETTE
    if has_transparency(picture):
        flags |= Flag.ALPHA
        if np.asarray(picture.convert("RGBA").getchannel("A")).min() < 255:
            flags |= Flag.TRANSPARENT
    if picture.mode in ("1", "L", "LA", "La") or picture.mode.startswith(("I", "F")):
        flags |= Flag.GREY
    elif channels == 1:  # the cached pixels cannot tell any more
        red, green, blue = from_picture(picture, 3).split()
        spreads = [np.asarray(ImageChops.difference(red, other)).max() for other in (green, blue)]
        if max(spreads) <= GREY_TOLERANCE:
            flags |= Flag.GREY
    return flags


def _reason(error: Exception, data: bytes) -> str:
    """Why a file could not be decoded, in a user's words."""
    if isinstance(error, UnidentifiedImageError):
        known = data.startswith(MAGICS) or data[4:8] == b"ftyp"
        return "broken: its header cannot be read" if known else "not a picture"
    if "truncated" in str(error).lower() or isinstance(error, EOFError):
        return "truncated: the end of the picture is missing"
    return f"broken: {error or type(error).__name__}"
