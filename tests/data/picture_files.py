"""Makes picture files and archives of every kind that the data tests need, the good and the bad."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Pixels = np.ndarray


def picture(seed: int = 0, height: int = 16, width: int = 16, channels: int = 3) -> Pixels:
    """A smooth colourful picture, uint8 `[H, W, C]` (`[H, W]` for one channel); another seed is far from it."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 4, max(3, channels)), dtype=np.uint8))
    values = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
    return values[..., 1] if channels == 1 else np.ascontiguousarray(values[..., :channels])


def encoded(values: Pixels | Image.Image, form: str = "PNG", **options: Any) -> bytes:
    """The bytes of a picture file."""
    buffer = io.BytesIO()
    image = values if isinstance(values, Image.Image) else Image.fromarray(values)
    image.save(buffer, form, **options)
    return buffer.getvalue()


def png(seed: int = 0, height: int = 16, width: int = 16, channels: int = 3) -> bytes:
    """A PNG of `picture`."""
    return encoded(picture(seed, height, width, channels))


def pngs(count: int, prefix: str = "", start: int = 0, **shape: int) -> dict[str, bytes]:
    """`count` different PNGs by name."""
    return {f"{prefix}{index:03d}.png": png(start + index, **shape) for index in range(count)}


def write_tree(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Writes files by their paths below `folder`."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def zipped(files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip file of them."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def patched_zip(content: bytes, name: str, **fields: int) -> bytes:
    """`content` with fields of one member's directory entry overwritten: flags, method, crc, packed, size, offset."""
    where = {"flags": (8, "<H"), "method": (10, "<H"), "crc": (16, "<I"), "packed": (20, "<I"), "size": (24, "<I"),
             "offset": (42, "<I")}  # fmt: skip
    data, place = bytearray(content), content.find(b"PK\x01\x02")
    while place >= 0:
        length = struct.unpack_from("<H", data, place + 28)[0]
        if data[place + 46 : place + 46 + length] == name.encode():
            for field, value in fields.items():
                offset, form = where[field]
                struct.pack_into(form, data, place + offset, value)
            return bytes(data)
        place = content.find(b"PK\x01\x02", place + 4)
    raise KeyError(name)


def npz(**arrays: Pixels) -> bytes:
    """An `.npz` file of arrays."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def npy(array: Pixels, **options: Any) -> bytes:
    """An `.npy` file."""
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def forged_npy(shape: tuple[int, ...], payload: bytes = b"\0" * 64, descr: str = "|u1") -> bytes:
    """An `.npy` file whose header claims `shape`, whatever it holds."""
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + payload


def idx(array: Pixels, shape: tuple[int, ...] | None = None) -> bytes:
    """An idx file (the MNIST format) of unsigned bytes; `shape` forges the header."""
    sides = shape or array.shape
    return bytes([0, 0, 8, len(sides)]) + struct.pack(f">{len(sides)}I", *sides) + array.tobytes()


def packed(content: bytes) -> bytes:
    """The same through gzip, the same bytes each time."""
    return gzip.compress(content, mtime=0)


def bomb(side: int = 40_000) -> bytes:
    """A PNG of a few hundred bytes whose header claims `side` x `side` pixels."""
    content = bytearray(png())
    struct.pack_into(">II", content, 16, side, side)
    from zlib import crc32

    struct.pack_into(">I", content, 29, crc32(content[12:29]))
    return bytes(content)


def animated(frames: int = 3, form: str = "GIF") -> bytes:
    """A file of several frames."""
    images = [Image.fromarray(picture(seed)) for seed in range(frames)]
    return encoded(images[0], form, save_all=True, append_images=images[1:], duration=50, loop=0)


def rotated_jpeg(orientation: int = 6, height: int = 16, width: int = 32) -> bytes:
    """A JPEG that a viewer must turn: the left half black, the right half white before turning."""
    values = np.zeros((height, width, 3), np.uint8)
    values[:, width // 2 :] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(values, "JPEG", exif=exif, quality=95)


def transparent_palette() -> bytes:
    """A palette PNG whose first entry is transparent: the left half is that entry, the right half pure red."""
    indices = np.zeros((16, 16), np.uint8)
    indices[:, 8:] = 1
    image = Image.fromarray(indices).convert("P")
    image.putpalette([0, 255, 0, 255, 0, 0])
    return encoded(image, transparency=0)
