"""Sources whose pictures are decoded already: arrays in memory, `.npy` and `.npz`. Files are streamed, never
loaded whole."""

from __future__ import annotations

import hashlib
import io
import math
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from zeuxis.config import MAX_SIDE
from zeuxis.data.archive import MAX_TOTAL_RATIO, open_zip
from zeuxis.data.labels import order_classes
from zeuxis.data.listing import NO_SPLIT, TEST, TRAIN, Listing, Stacked
from zeuxis.errors import DataError

WANTED = "uint8 pictures [N, H, W] or [N, H, W, C] with C = 1, 3 or 4"
MAX_HEADER = 10_000  # bytes of an .npy header, which numpy allows too
MAX_SMALL = 2**30  # bytes of an array that is read whole (labels, class names)
MAX_PICTURES = 50_000_000  # each costs 65 bytes of memory while it is scanned, however small it is
IMAGE_KEYS, LABEL_KEYS, CLASS_KEYS = (
    ("images", "arr_0", "x_train"),
    ("labels", "y_train"),
    ("class_names", "classes"),
)

Opener = Callable[[], IO[bytes]]


def picture_shape(shape: Sequence[int], dtype: Any, what: str) -> tuple[int, int, int, int]:
    """(N, H, W, C) of an array that holds pictures; `DataError` saying what is wanted for any other."""
    got = f"{dtype} {list(shape)}"
    if str(dtype) != "uint8":
        raise DataError(what, got, WANTED, "scale the values to 0..255 and convert them with .astype(numpy.uint8)")
    full = (*shape, 1) if len(shape) == 3 else tuple(shape)
    if len(full) != 4 or full[3] not in (1, 3, 4):
        channels_first = len(full) == 4 and full[1] in (1, 3, 4)
        raise DataError(what, got, WANTED, "use .transpose(0, 2, 3, 1)" if channels_first else "reshape the array")
    count, height, width, channels = (int(side) for side in full)
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise DataError(what, got, f"sides from 1 to {MAX_SIDE}", "make the pictures smaller")
    if count > MAX_PICTURES:
        raise DataError(what, got, f"at most {MAX_PICTURES:,} pictures", "take a part of them")
    return count, height, width, channels


class MemoryStack:
    """Pictures in an array in memory."""

    def __init__(self, array: NDArray[np.uint8], what: str = "images") -> None:
        self.count, *shape = picture_shape(array.shape, array.dtype, what)
        self.shape: tuple[int, int, int] = (shape[0], shape[1], shape[2])
        self.array = array

    def blocks(self, size: int) -> Iterator[NDArray[np.uint8]]:
        """uint8 `[n, H, W, C]` in order."""
        for start in range(0, self.count, size):
            block = self.array[start : start + size]
            yield np.ascontiguousarray(block).reshape(len(block), *self.shape)


class StreamStack:
    """Pictures in a file that is read from front to back: raw uint8 values after `skip` bytes of header."""

    def __init__(self, opener: Opener, skip: int, count: int, shape: tuple[int, int, int], what: str) -> None:
        self.opener, self.skip, self.count, self.shape, self.what = opener, skip, count, shape, what

    def blocks(self, size: int) -> Iterator[NDArray[np.uint8]]:
        """uint8 `[n, H, W, C]` in order; `DataError` where the file ends early or cannot be unpacked."""
        each = math.prod(self.shape)
        with reading(self.what), self.opener() as file:
            read_exactly(file, self.skip)
            for start in range(0, self.count, size):
                number = min(size, self.count - start)
                yield np.frombuffer(read_exactly(file, number * each), np.uint8).reshape(number, *self.shape)
            file.read(1)  # a compressed file compares its checksum at the end


class JoinedStack:
    """Several stacks of one picture size after each other."""

    def __init__(self, stacks: Sequence[Stacked], what: str) -> None:
        self.stacks, self.shape, self.count = stacks, stacks[0].shape, sum(stack.count for stack in stacks)
        for stack in stacks[1:]:
            if stack.shape != self.shape:
                raise DataError(what, stack.shape, f"the same picture size in every part, {self.shape}", "")

    def blocks(self, size: int) -> Iterator[NDArray[np.uint8]]:
        """uint8 `[n, H, W, C]` in order; a block never spans two stacks."""
        for stack in self.stacks:
            yield from stack.blocks(size)


class reading:
    """Turns what goes wrong while reading a file of arrays into one `DataError`."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        wrong = (OSError, EOFError, ValueError, zipfile.BadZipFile, NotImplementedError, RuntimeError)
        zlib_error = kind is not None and kind.__name__ == "error"
        if error is not None and (isinstance(error, wrong) or zlib_error) and not isinstance(error, DataError):
            raise DataError("DATA", self.what, "a complete file", f"it cannot be read: {error}") from None


def read_exactly(file: IO[bytes], count: int) -> bytes:
    """`count` bytes; EOFError where there are fewer. Reads in parts, so a false count allocates nothing in
    advance."""
    parts, left = [], count
    while left:
        part = file.read(min(left, 2**24))
        if not part:
            raise EOFError(f"{left:,} bytes are missing at its end")
        parts.append(part)
        left -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def npy_header(file: IO[bytes], what: str) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """(shape, dtype, bytes of header) of an open `.npy` stream; object arrays and Fortran order are
    refused."""
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise DataError("DATA", what, "an .npy file of version 1 or 2", "save it again with numpy.save")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    size = read_exactly(file, 2 * version[0])
    length = int.from_bytes(size, "little")
    if length > MAX_HEADER:
        raise DataError("DATA", f"{what} with a header of {length:,} bytes", f"at most {MAX_HEADER:,}", "save it again")
    text = io.BytesIO(size + read_exactly(file, length))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shape, fortran, dtype = read(text)
    except Exception as error:  # numpy reads it as Python source, which fails in many ways
        raise DataError("DATA", what, "a complete file", f"its header cannot be read: {error}") from None
    if dtype.hasobject:
        raise DataError(
            "DATA",
            f"{what} with Python objects",
            WANTED,
            "objects would run code when loaded: save plain arrays",
        )
    if fortran and len(shape) > 1:
        raise DataError("DATA", f"{what} in Fortran order", "C order", "save numpy.ascontiguousarray(images)")
    if any(side < 0 for side in shape):
        raise DataError("DATA", f"{what} {list(shape)}", WANTED, "")
    return shape, dtype, file.tell()


def label_numbers(values: NDArray[Any], count: int, what: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Whole numbers (negative: none) or names, `[N]` -> int64 labels and the names of the classes that
    occur."""
    if values.shape not in ((count,), (count, 1)) or values.dtype.kind not in "iuUb":
        raise DataError(what, f"{values.dtype} {list(values.shape)}", f"whole numbers or names, [{count}]", "")
    flat = values.reshape(-1)
    present, index = np.unique(flat, return_inverse=True)
    texts = [str(value) if values.dtype.kind == "U" else str(int(value)) for value in present]
    none = {text for text in texts if text == "" or (values.dtype.kind == "i" and text.startswith("-"))}
    classes = order_classes(text for text in texts if text not in none)
    if len(classes) < 2:
        return np.full(count, -1, np.int64), ()
    number = {text: position for position, text in enumerate(classes)}
    return np.array([number.get(text, -1) for text in texts], np.int64)[index.reshape(-1)], classes


def stacked_listing(
    stack: Stacked,
    labels: NDArray[np.int64] | None = None,
    classes: tuple[str, ...] = (),
    train: int | None = None,
) -> Listing:
    """A listing of decoded pictures; where `train` is given, those from that number on are the source's test
    split."""
    splits = np.full(stack.count, NO_SPLIT, np.int8)
    if train is not None:
        splits[:train], splits[train:] = TRAIN, TEST
    each = math.prod(stack.shape)
    return Listing(
        kind="stacked",
        root="",
        names=[],
        items=[],
        sizes=np.full(stack.count, each, np.int64),
        labels=np.full(stack.count, -1, np.int64) if labels is None else labels,
        splits=splits,
        classes=classes,
        stacked=stack,
    )


class ArraySource:
    """An array in memory, with labels or without."""

    count = bytes = 0  # nothing to decode

    def __init__(self, array: NDArray[Any], labels: NDArray[Any] | None = None, name: str = "array") -> None:
        self.name = name
        self.stack = MemoryStack(array)
        self.labels: NDArray[np.int64] | None = None
        self.classes: tuple[str, ...] = ()
        if labels is not None:
            self.labels, self.classes = label_numbers(np.asarray(labels), self.stack.count, "labels")

    def quick(self) -> str:
        """From the content, which is at hand."""
        digest = hashlib.sha256(repr((self.stack.count, self.stack.shape, self.classes)).encode())
        for block in self.stack.blocks(4096):
            digest.update(memoryview(block))  # type: ignore[arg-type]
        if self.labels is not None:
            digest.update(self.labels.tobytes())
        return f"array {digest.hexdigest()}"

    def listing(self) -> Listing:
        """The pictures in their order."""
        return stacked_listing(self.stack, self.labels, self.classes)


class ArrayFileSource:
    """An `.npy` or `.npz` file: images under `images`, `arr_0` or `x_train` (a test split under `x_test`),
    `labels`."""

    count = bytes = 0  # nothing to decode

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, path.stem or "data"

    def quick(self) -> str:
        """From the file's path, size and time."""
        status = self.path.stat()
        return f"arrays {self.path.resolve()} {status.st_size} {status.st_mtime_ns}"

    def listing(self) -> Listing:
        """Reads headers and labels; the pictures are streamed later."""
        with reading(str(self.path)):
            return self._npz() if zipfile.is_zipfile(self.path) else self._npy()

    def _npy(self) -> Listing:
        def opener() -> IO[bytes]:
            return open(self.path, "rb")

        return stacked_listing(_stack(opener, self.path.stat().st_size, self.path.name))

    def _npz(self) -> Listing:
        with open_zip(self.path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        key = next((key for key in IMAGE_KEYS if key in members), None)
        if key is None and len(members) == 1:
            key = next(iter(members))
        if key is None:
            raise DataError("DATA", f"{self.path.name} with {sorted(members)[:8]}", f"{WANTED} under `images`", "")
        stack = self._member_stack(members[key])
        labels = next((self._small(members[name]) for name in LABEL_KEYS if name in members), None)
        train = None
        if key == "x_train" and "x_test" in members:
            train = stack.count
            stack = JoinedStack([stack, self._member_stack(members["x_test"])], str(self.path))
            if labels is not None and "y_test" in members:
                labels = np.concatenate([labels.reshape(-1), self._small(members["y_test"]).reshape(-1)])
        numbers, classes = (
            (None, ()) if labels is None else label_numbers(labels, stack.count, f"{self.path.name} labels")
        )
        names = next((self._small(members[name]) for name in CLASS_KEYS if name in members), None)
        if names is not None and names.dtype.kind == "U" and all(c.isdigit() and int(c) < len(names) for c in classes):
            classes = tuple(str(names[int(number)]) for number in classes)
        return stacked_listing(stack, numbers, classes, train)

    def _member(self, info: zipfile.ZipInfo) -> Opener:
        held = min(info.compress_size, self.path.stat().st_size)
        if info.file_size > MAX_TOTAL_RATIO * max(1, held):
            raise DataError(
                "DATA", str(self.path), "an honest file", f"{info.filename} claims {info.file_size:,} bytes"
            )

        def opener() -> IO[bytes]:
            return zipfile.ZipFile(self.path).open(info.filename)

        return opener

    def _member_stack(self, info: zipfile.ZipInfo) -> Stacked:
        return _stack(self._member(info), info.file_size, f"{self.path.name}: {info.filename}")

    def _small(self, info: zipfile.ZipInfo) -> NDArray[Any]:
        with self._member(info)() as file:
            shape, dtype, header = npy_header(file, info.filename)
            size = math.prod(shape) * dtype.itemsize
            if size != info.file_size - header or size > MAX_SMALL:
                raise DataError(
                    "DATA", f"{info.filename} {list(shape)}", "a header that fits the file", "save it again"
                )
            content = read_exactly(file, size)
            file.read(1)  # compares the checksum
            return np.frombuffer(content, dtype).reshape(shape)


def _stack(opener: Opener, size: int, what: str) -> StreamStack:
    with opener() as file:
        shape, dtype, header = npy_header(file, what)
    count, *sides = picture_shape(shape, dtype, what)
    if math.prod(shape) != size - header:
        raise DataError(
            "DATA",
            f"{what} {list(shape)}",
            f"a header that fits the {size:,} bytes of the file",
            "save it again",
        )
    return StreamStack(opener, header, count, (sides[0], sides[1], sides[2]), what)
