"""The MNIST format (`train-images-idx3-ubyte`, `.gz` too) as a source, with its labels and its own test
split."""

from __future__ import annotations

import gzip
import math
import re
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from zeuxis.data.archive import MAX_TOTAL_RATIO
from zeuxis.data.arrays import (
    JoinedStack,
    StreamStack,
    label_numbers,
    picture_shape,
    read_exactly,
    reading,
    stacked_listing,
)
from zeuxis.data.listing import Listing, Stacked
from zeuxis.errors import DataError

IMAGES = re.compile(r"images[-.]idx[34][-.]ubyte(\.gz)?$", re.IGNORECASE)
LABELS = re.compile(r"labels[-.]idx1[-.]ubyte(\.gz)?$", re.IGNORECASE)
UNSIGNED_BYTE = 8


def open_idx(path: Path) -> IO[bytes]:
    """Opens a plain or gzip-compressed file by its first bytes, not its name."""
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if packed else open(path, "rb")  # type: ignore[return-value]


def idx_shape(path: Path, dimensions: tuple[int, ...]) -> tuple[int, ...]:
    """The shape in an idx header, checked against the file's size before anything is allocated."""
    with reading(str(path)), open_idx(path) as file:
        head = read_exactly(file, 4)
        if head[:2] != b"\0\0" or head[2] != UNSIGNED_BYTE or head[3] not in dimensions:
            allowed = f"an idx file of unsigned bytes with {' or '.join(str(d) for d in dimensions)} dimensions"
            raise DataError("DATA", str(path), allowed, "give the file of images, such as train-images-idx3-ubyte.gz")
        sides = np.frombuffer(read_exactly(file, 4 * head[3]), ">u4")
        packed = isinstance(file, gzip.GzipFile)
    shape = tuple(int(side) for side in sides)
    held, claimed = path.stat().st_size, 4 + 4 * len(shape) + math.prod(shape)
    if claimed > held * MAX_TOTAL_RATIO if packed else claimed != held:
        raise DataError(
            "DATA",
            f"{path} {list(shape)}",
            f"a header that fits the {held:,} bytes of the file",
            "get it again",
        )
    return shape


def read_images(path: Path) -> NDArray[np.uint8]:
    """All images of a file in memory, uint8 `[N, H, W, C]`."""
    return np.concatenate(list(_images(path).blocks(8192)))


def images_in(folder: Path) -> list[Path]:
    """The files of images in the idx format directly in `folder`, those for training first."""
    found = [path for path in folder.iterdir() if IMAGES.search(path.name) and path.is_file()]
    return sorted(found, key=lambda path: ("train" not in path.name, path.name))


class IdxSource:
    """A file of images (or of labels: its images are meant); with `train` in its name the `t10k` or `test`
    pair joins."""

    count = bytes = 0  # nothing to decode

    def __init__(self, path: Path, name: str = "") -> None:
        if LABELS.search(path.name):
            path = _partner(path, "labels", "images", ("idx3", "idx4")) or path
        self.path, self.name = (
            path,
            name or IMAGES.sub("", path.name).strip("-_.") or path.parent.name or "data",
        )
        tests = ("t10k-images", "test-images", "t10k.images", "test.images")
        self.test = next(
            (p for new in tests if (p := _partner(path, f"train{new[4]}images", new, ("idx3", "idx4")))), None
        )

    def quick(self) -> str:
        """From path, size and time of every file used."""
        parts = [self.path, self.test, *(_labels_of(path) for path in (self.path, self.test) if path)]
        known = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in parts if path]
        return f"idx {known}"

    def listing(self) -> Listing:
        """Reads headers and labels; the pictures are streamed later."""
        stack: Stacked = _images(self.path)
        labels, train = _labels(self.path, stack.count), None
        if self.test is not None:
            extra, train = _images(self.test), stack.count
            more = _labels(self.test, extra.count)
            labels = np.concatenate([labels, more]) if labels is not None and more is not None else None
            stack = JoinedStack([stack, extra], str(self.path.parent))
        if labels is None:
            return stacked_listing(stack, train=train)
        numbers, classes = label_numbers(labels, stack.count, "labels")
        return stacked_listing(stack, numbers, classes, train)


def _partner(path: Path, old: str, new: str, kinds: tuple[str, ...]) -> Path | None:
    """The file beside `path` with `old` replaced by `new`, whatever its kind of idx and compression."""
    if old not in path.name:
        return None
    stem = path.name.replace(old, new).removesuffix(".gz")
    for kind in kinds:
        for ending in ("", ".gz"):
            other = path.with_name(re.sub(r"idx\d", kind, stem) + ending)
            if other.is_file():
                return other
    return None


def _labels_of(path: Path) -> Path | None:
    return _partner(path, "images", "labels", ("idx1",))


def _images(path: Path) -> StreamStack:
    shape = idx_shape(path, (3, 4))
    count, *sides = picture_shape(shape, "uint8", str(path))
    return StreamStack(lambda: open_idx(path), 4 + 4 * len(shape), count, (sides[0], sides[1], sides[2]), str(path))


def _labels(images: Path, count: int) -> NDArray[np.uint8] | None:
    path = _labels_of(images)
    if path is None:
        return None
    (number,) = idx_shape(path, (1,))
    if number != count:
        raise DataError(
            "DATA", f"{path} with {number:,} labels", f"one for each of {count:,} pictures", "check the pair"
        )
    with reading(str(path)), open_idx(path) as file:
        content = read_exactly(file, 8 + number)
        file.read(1)  # a compressed file compares its checksum at the end
        return np.frombuffer(content, np.uint8)[8:]
