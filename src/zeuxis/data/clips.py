"""Sources of clips: leaf folders of numbered frames (in a folder or zip file), and files that hold whole clips."""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from zeuxis.data.archive import ZipSource
from zeuxis.data.arrays import label_numbers
from zeuxis.data.decode import MAX_REASON, BadFileError, decode_picture, read_file, read_member
from zeuxis.data.folder import FolderSource, is_picture
from zeuxis.data.labels import label_files
from zeuxis.data.listing import Listing, Source
from zeuxis.data.reels import (
    STACKS,
    VIDEOS,
    MemoryReel,
    Reel,
    Shape,
    StackFile,
    bytes_opener,
    ending,
    moves,
    open_reel,
)  # fmt: skip
from zeuxis.data.stacked import stacked_result
from zeuxis.errors import DataError

INPUTS = "a folder of numbered frames, a GIF, WebP, APNG, .npy or video file, or one picture"
DIGITS = re.compile(r"(\d+)")


def natural_key(name: str) -> list[Any]:
    """Sorts `frame2` before `frame10`: runs of digits compare as numbers, the rest without regard to case."""
    return [int(part) if at % 2 else part.casefold() for at, part in enumerate(DIGITS.split(name))]


def frame_of(name: str) -> tuple[str, str, int | None]:
    """Folder, text before the number, and number of a frame's file: `walk/a_007.png` is `walk`, `a_`, 7; without digits
    the number is None and the text empty."""
    folder, file = posixpath.split(name)
    runs = list(DIGITS.finditer(posixpath.splitext(file)[0]))
    if not runs:
        return folder, "", None
    return folder, file[: runs[-1].start()], int(runs[-1].group()[-18:])


class Reels:
    """Files of clips after each other, as `Listing.stacked` wants it; frames that cannot be decoded come as zeros, and
    their places with the reason go into `broken`."""

    def __init__(self, reels: Sequence[Reel]) -> None:
        self.reels = list(reels)
        self.count = sum(sum(reel.lengths) for reel in self.reels)
        self.shape: Shape = max((reel.shape for reel in self.reels), default=(4, 4, 1))
        self.broken: dict[int, str] = {}

    def blocks(self, size: int) -> Iterator[NDArray[np.uint8]]:
        """uint8 `[n, H, W, C]` of all files in order; each file has its own shape."""
        place = 0
        for reel in self.reels:
            end = place + sum(reel.lengths)
            try:
                for block in reel.blocks(size):
                    block = block[: end - place]
                    place += len(block)
                    yield block
            except BadFileError as bad:
                self.broken.update(dict.fromkeys(range(place, end), str(bad)[:MAX_REASON]))
            while place < end:
                number = min(size, end - place)
                place += number
                yield np.zeros((number, *reel.shape), np.uint8)


class ClipSource:
    """The clips of a folder or zip file.

    Folders are classes and splits as for pictures, a clip standing where a picture would: `walk/clip3/001.png` is of
    class `walk`.
    """

    def __init__(self, inner: FolderSource | ZipSource, max_pixels: int) -> None:
        self.inner, self.name, self.max_pixels = inner, inner.name, max_pixels
        self.count = self.bytes = 0

    def quick(self) -> str:
        """That of the folder or zip file."""
        key = self.inner.quick()
        self.count, self.bytes = self.inner.count, self.inner.bytes
        return f"clips {key}"

    def listing(self) -> Listing:
        """Still pictures by clip and number, then the files of clips."""
        listing = self.inner.listing()
        stills: list[int] = []
        reels: list[int] = []
        skipped: list[tuple[str, str]] = []
        for index in sorted(range(len(listing.names)), key=lambda at: natural_key(listing.names[at])):
            (reels if self._moves(listing, index) else stills).append(index)
        found = self._open(listing, reels, skipped)
        for name, reason in listing.skipped:
            if ending(name) in STACKS | VIDEOS:
                found += self._open_file(listing, name, skipped)
            else:
                skipped.append((name, reason))
        clips, numbers, names = _group([listing.names[at] for at in stills])
        frames = Listing(
            kind=listing.kind, root=listing.root, names=[listing.names[at] for at in stills],
            items=[listing.items[at] for at in stills], sizes=listing.sizes[stills], labels=np.empty(0, np.int64),
            splits=np.empty(0, np.int8), skipped=sorted(skipped), notes=listing.notes, documents=listing.documents,
        )  # fmt: skip
        return with_reels(frames, clips, numbers, names, found)

    def _moves(self, listing: Listing, index: int) -> bool:
        return moves(listing.names[index], bytes_opener(lambda: self._read(listing, index)))

    def _read(self, listing: Listing, index: int) -> bytes:
        item = listing.items[index]
        return read_file(listing.root, item) if listing.kind == "folder" else read_member(listing.root, item)

    def _open(self, listing: Listing, places: Sequence[int], skipped: list[tuple[str, str]]) -> list[Reel]:
        found: list[Reel] = []
        for index in places:
            name = listing.names[index]
            try:
                opener = bytes_opener(lambda index=index: self._read(listing, index))  # type: ignore[misc]
                found.append(open_reel(name, None, opener, self.max_pixels))
            except BadFileError as bad:
                skipped.append((name, str(bad)[:MAX_REASON]))
        return found

    def _open_file(self, listing: Listing, name: str, skipped: list[tuple[str, str]]) -> list[Reel]:
        path = Path(listing.root) / name if listing.kind == "folder" else None
        try:
            return [open_reel(name, path, bytes_opener(bytes), self.max_pixels)]
        except BadFileError as bad:
            skipped.append((name, str(bad)[:MAX_REASON]))
            return []


class ReelSource:
    """One file that holds clips, or an array in memory."""

    count = bytes = 0

    def __init__(self, path: Path | None, array: NDArray[Any] | None, labels: NDArray[Any] | None, most: int) -> None:
        self.path, self.labels, self.max_pixels = path, labels, most
        self.reel = None if array is None else MemoryReel(array)
        self.name = "array" if path is None else path.stem or "data"

    def quick(self) -> str:
        """From path, size and time, or from the array's content."""
        if self.path is not None:
            status = self.path.stat()
            return f"reel {self.path.resolve()} {status.st_size} {status.st_mtime_ns}"
        assert self.reel is not None
        digest = hashlib.sha256(repr((self.reel.lengths[:1], self.reel.shape)).encode())
        for block in self.reel.blocks(4096):
            digest.update(memoryview(block))  # type: ignore[arg-type]
        digest.update(repr(None if self.labels is None else self.labels.tolist()).encode())
        return f"reel {digest.hexdigest()}"

    def listing(self) -> Listing:
        """The clips in their order."""
        listing, reels = empty_listing(), []
        labels = self.labels
        try:
            reel: Reel
            if self.path is None:
                assert self.reel is not None
                reel = self.reel
            else:
                path = self.path
                reel = open_reel(path.name, path, bytes_opener(lambda: read_file(str(path.parent), path.name)),
                                 self.max_pixels)  # fmt: skip
            reels.append(reel)
            if labels is None and isinstance(reel, StackFile):
                labels = reel.labels
        except BadFileError as bad:
            listing.skipped.append((self.name if self.path is None else self.path.name, str(bad)))
        none = np.empty(0, np.int64)
        made = with_reels(listing, none, none, [], reels)
        if labels is not None and reels:
            numbers, made.classes = label_numbers(np.asarray(labels), len(made.clip_names), "labels")
            made.labels = numbers[made.clips]
        return made


def empty_listing() -> Listing:
    """A listing of no file at all."""
    none = np.empty(0, np.int64)
    return Listing(kind="folder", root="", names=[], items=[], sizes=none, labels=none, splits=np.empty(0, np.int8))


def _group(names: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64], list[str]]:
    """Clip and number of each frame (both `[N]`) and the names of the clips: a folder is a clip, or several where the
    text before the number differs. Names in natural order."""
    frames = [frame_of(name) for name in names]
    texts: dict[str, set[str]] = {}
    for folder, text, _ in frames:
        texts.setdefault(folder, set()).add(text)
    clips, numbers = np.empty(len(names), np.int64), np.empty(len(names), np.int64)
    known: dict[str, int] = {}
    seen: dict[int, int] = {}
    for at, (folder, text, number) in enumerate(frames):
        clip = known.setdefault(posixpath.join(folder, text) if len(texts[folder]) > 1 else folder, len(known))
        place = seen.get(clip, 0)
        clips[at], numbers[at], seen[clip] = clip, (place if number is None else number), place + 1
    return clips, numbers, list(known)


def with_reels(
    listing: Listing, clips: NDArray[np.int64], numbers: NDArray[np.int64], names: list[str], reels: Sequence[Reel]
) -> Listing:
    """`listing` of the still frames of `clips`, followed by the frames of all `reels`; labels and splits by clip."""
    order = np.argsort(clips, kind="stable")  # a folder of several clips may have them interleaved
    parts_clips, parts_numbers, names = (
        [clips[order]],
        [numbers[order]],
        [name or Path(listing.root).name for name in names],
    )
    file_names = [listing.names[at] for at in order]
    for reel in reels:
        for index, length in enumerate(reel.lengths):
            names.append(reel.name if len(reel.lengths) == 1 else f"{reel.name} clip {index}")
            parts_clips.append(np.full(length, len(names) - 1))
            parts_numbers.append(np.arange(length))
            file_names += [f"{names[-1]} frame {frame}" for frame in range(length)]
    stack = Reels(reels)
    found = label_files(names, listing.documents)
    clips = np.concatenate(parts_clips).astype(np.int64)
    several = len(names) > 0
    return replace(
        listing, names=file_names, items=[listing.items[at] for at in order],
        sizes=np.concatenate([listing.sizes[order], np.zeros(stack.count, np.int64)]),
        labels=found.labels[clips] if several else np.empty(0, np.int64),
        splits=found.splits[clips] if several else np.empty(0, np.int8),
        classes=found.classes, notes=[*listing.notes, *found.notes], stacked=stack if reels else None,
        clips=clips, numbers=np.concatenate(parts_numbers).astype(np.int64), clip_names=names, broken=stack.broken,
    )  # fmt: skip


def clip_source(source: Source, max_pixels: int) -> Source:
    """The clips that a folder or zip source holds; any other source as it is."""
    return ClipSource(source, max_pixels) if isinstance(source, (FolderSource, ZipSource)) else source


def read_clip(path: Path, shape: tuple[int, int, int], fit: Literal["crop", "pad", "stretch"] = "crop",
              max_pixels: int = 100_000_000) -> NDArray[np.uint8]:  # fmt: skip
    """The one clip that a folder of frames or a file (animation, stack, video, or one picture) holds, whole in memory
    and brought to `shape` = (C, H, W): uint8 `[T, C, H, W]`. `DataError` where it is none, or not all of it can be
    read."""
    try:
        if path.is_dir():
            listing = ClipSource(FolderSource(path), max_pixels).listing()
        elif not path.is_file():
            raise DataError("--input", str(path), INPUTS, "check the spelling of the path")
        elif is_picture(path.name) and not moves(
            path.name, bytes_opener(lambda: read_file(str(path.parent), path.name))
        ):
            return decode_picture(read_file(str(path.parent), path.name), shape, fit, max_pixels)[None]
        else:
            listing = ReelSource(path, None, None, max_pixels).listing()
        if len(listing.clip_names) != 1:
            reason = f"{len(listing.clip_names)} clips" if not listing.skipped else ": ".join(listing.skipped[0])
            raise DataError("--input", f"{path} ({reason})", INPUTS, "give the folder or file of one clip")
        if listing.kind == "folder" and listing.items:
            return np.stack([_still(listing.root, name, shape, fit, max_pixels) for name in listing.items])
        assert listing.stacked is not None
        frames = np.concatenate([stacked_result(block, shape, fit)[0] for block in listing.stacked.blocks(256)])
        if listing.broken:
            raise BadFileError(next(iter(listing.broken.values())))
        return frames
    except BadFileError as bad:
        raise DataError("--input", str(path), INPUTS, str(bad)) from None


def _still(root: str, name: str, shape: tuple[int, int, int], fit: Literal["crop", "pad", "stretch"],
           max_pixels: int) -> NDArray[np.uint8]:  # fmt: skip
    try:
        return decode_picture(read_file(root, name), shape, fit, max_pixels)
    except BadFileError as bad:
        raise BadFileError(f"{name}: {bad}") from None
