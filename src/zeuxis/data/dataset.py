"""The face of this package: open any form of DATA, look at it, and take its pictures."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeuxis.config import DataOptions, ImageSpec, fingerprint
from zeuxis.data.archive import ZipSource
from zeuxis.data.arrays import WANTED, ArrayFileSource, ArraySource
from zeuxis.data.build import prepare
from zeuxis.data.builtin import BUILTIN, DigitsSource, FashionSource
from zeuxis.data.cache import Cache, Store, cache_root
from zeuxis.data.clips import ReelSource, clip_source
from zeuxis.data.folder import FolderSource
from zeuxis.data.idx import IdxSource, images_in
from zeuxis.data.listing import TEST, TRAIN, VAL, Source
from zeuxis.data.moving import FRAMES, MOVING, MovingSource, parse_moving
from zeuxis.data.reels import STACKS, VIDEOS, ending
from zeuxis.data.report import Report
from zeuxis.data.shards import ShardSource, expand, is_shards, shards_in
from zeuxis.data.split import split
from zeuxis.errors import DataError, UserError

Pixels = NDArray[np.uint8]
FORMS = f"a folder, a .zip, .npz, .npy or idx file, .tar shards, or one of {', '.join((*BUILTIN, *MOVING))}"
CLIP_FORMS = f"a folder or .zip of clips, a .npz, .npy, GIF or video file, or one of {', '.join(MOVING)}"
MAX_NAME = 40  # characters


class Split:
    """Some pictures of a data set in a fixed order; pixels stay on the disk until they are taken.

    `labels` is int64 `[N]`, -1 where a picture has none. With `frames` above 1 a picture is a window of so many frames,
    everywhere `[n, T, C, H, W]` in place of `[n, C, H, W]`, and `clips` int64 `[N]` says which clip it was cut from.
    """

    def __init__(
        self, pixels: Pixels, slots: NDArray[np.int64], labels: NDArray[np.int64], frames: int = 1,
        clips: NDArray[np.int64] | None = None,
    ) -> None:  # fmt: skip
        self._pixels, self._slots, self.labels, self.frames = pixels, slots, labels, frames
        self.clips = np.arange(len(slots)) if clips is None else clips

    def __len__(self) -> int:
        return len(self._slots)

    def take(self, positions: Any) -> Pixels:
        """Pictures at `positions` (int `[n]`, in any order, repeats allowed) as uint8 `[n, C, H, W]`,
        straight alpha."""
        slots = self._slots[np.asarray(positions, np.int64)]
        if self.frames > 1:
            slots = slots[:, None] + np.arange(self.frames)  # [n, T]
        return np.asarray(self._pixels[slots])

    def batches(self, size: int) -> Iterator[Pixels]:
        """All pictures in order, uint8 `[n, C, H, W]` with n = `size` but for the last."""
        for start in range(0, len(self), size):
            yield self.take(np.arange(start, min(start + size, len(self))))

    def all(self) -> Pixels:
        """All pictures in memory, uint8 `[N, C, H, W]`."""
        return self.take(np.arange(len(self)))


class Dataset:
    """Pictures of one spec, cut into `train`, `val` and `test`.

    `classes` are names by label (empty without labels), `class_counts` how many training pictures each has;
    `fingerprint` is the SHA-256 of the content, `key` of content and what was asked for, `pictures_key` of the
    pictures and splits that came of it; `report` is what the scan found; `source` is what `open_dataset` opens again
    (a built-in name or a path, "" for arrays).
    """

    def __init__(self, name: str, store: Store, report: Report, options: DataOptions) -> None:
        self.name, self.report, self.options = safe_name(name), report, options
        self.source = ""
        channels, height, width = store.pixels.shape[1:]
        wrap = {"wrap_x": "x" in options.wrap, "wrap_y": "y" in options.wrap}
        self.spec = ImageSpec(height=height, width=width, channels=channels, frames=store.frames, **wrap)
        self.classes, self.fingerprint = store.classes, store.fingerprint
        self.key = fingerprint([store.fingerprint, options.to_json()])
        cut = [options.fit, options.split_seed, options.test_fraction, options.val_fraction]
        self.pictures_key = fingerprint([store.fingerprint, store.pixels.shape[1:], cut])
        self._store = store
        # All windows of a clip share its group, and whole clips are held out.
        groups, first, self._clips = np.unique(store.groups, return_index=True, return_inverse=True)
        if store.frames > 1:
            codes = split(groups, store.labels[first], store.declared[first], options)[self._clips]
        else:
            codes = split(store.groups, store.labels, store.declared, options)
        self.positions = {code: np.flatnonzero(codes == code) for code in (TRAIN, VAL, TEST)}
        self.train, self.val, self.test = (self._split(code) for code in (TRAIN, VAL, TEST))
        counted = self.train.labels[self.train.labels >= 0]
        self.class_counts = tuple(int(count) for count in np.bincount(counted, minlength=len(self.classes)))

    def _split(self, code: int) -> Split:
        which = self.positions[code]
        store = self._store
        return Split(store.pixels, store.slots[which], store.labels[which], store.frames, self._clips[which])

    def __len__(self) -> int:
        return len(self._store.slots)

    def names(self, code: int = TRAIN) -> list[str]:
        """File names of the pictures of a split (0 train, 1 val, 2 test), in its order; empty for arrays."""
        names = self._store.names()
        return [names[index] for index in self.positions[code]] if names else []

    def __repr__(self) -> str:
        sizes = f"train={len(self.train)}, val={len(self.val)}, test={len(self.test)}"
        return f"Dataset({self.name!r}, {self.spec}, {sizes}, classes={len(self.classes)})"


def open_dataset(
    data: str | Path | NDArray[Any] | Dataset,
    options: DataOptions = DataOptions(),
    *,
    labels: NDArray[Any] | None = None,
    cache_dir: Path | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    workers: int | None = None,
    minimum: int = 2,
) -> Dataset:
    """Opens pictures for training or judging: scanned and decoded once, then at once from the cache.

    Args:
        data: Any DATA form, an array uint8 `[N, H, W]` or `[N, H, W, C]`, or a data set, which passes
            through.
        options: Resolution, fit, channels, splits.
        labels: For an array only: whole numbers (negative: none) or names, `[N]`.
        cache_dir: Instead of `$ZEUXIS_CACHE` or the platform's folder for caches.
        progress: Called with (what, done, total).
        workers: Processes that decode; all cores unless given.
        minimum: Training pictures without which a `DataError` says that too few are left.
    """
    if isinstance(data, Dataset):
        return data
    options = with_frames(data, options)
    source, root = _source(data, labels, cache_dir, options), cache_root(cache_dir)
    store, report = prepare(source, options, Cache(root), workers, progress)
    if isinstance(source, ShardSource):
        source.forget()
    dataset = Dataset(source.name, store, report, options) if store is not None else None
    if dataset is not None and isinstance(data, (str, Path)):
        dataset.source = str(data) if _is_name(str(data)) or is_shards(str(data)) else str(Path(data).resolve())
    left = len(dataset.train) if dataset is not None else 0
    if dataset is None or left < minimum:
        raise DataError(
            "DATA",
            f"{left} training pictures in {source.name}",
            f"at least {minimum}",
            _what_was_there(report),
        )
    return dataset


def scan(
    source: str | Path | NDArray[Any],
    options: DataOptions = DataOptions(),
    workers: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    *,
    cache_dir: Path | None = None,
) -> Report:
    """Decodes every picture and reports what was found; fills the cache too, so that training then starts at
    once."""
    options = with_frames(source, options)
    return prepare(_source(source, None, cache_dir, options), options, Cache(cache_root(cache_dir)), workers, progress)[
        1
    ]


def is_data(data: str | Path) -> bool:
    """Whether `data` names something that `open_dataset` would try to open; reads at most a few bytes."""
    return _is_name(str(data)) or is_shards(str(data)) or Path(data).exists()


def safe_name(name: str) -> str:
    """A short name of letters, digits, dot, dash and underscore that can be part of a folder's name
    anywhere."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:MAX_NAME].strip("-._").lower() or "data"


def with_frames(data: object, options: DataOptions) -> DataOptions:
    """The options with the frames of a built-in set of clips where none were asked for."""
    if isinstance(data, (str, Path)) and str(data).partition(":")[0] in MOVING and options.frames == 1:
        return options.model_copy(update={"frames": FRAMES})
    return options


def _is_name(data: str) -> bool:
    return data in BUILTIN or data.partition(":")[0] in MOVING


def _what_was_there(report: Report) -> str:
    if report.skipped:
        name, reason = report.skipped[0]
        seen = f"{report.files} files were seen, {len(report.skipped)} skipped"
        return f"{seen}, first {name}: {reason}; see `zeuxis data check`"
    if report.frames > 1:
        return f"{report.pictures} windows of {report.frames} frames were found; give more clips, or fewer --frames"
    return f"{report.pictures} pictures were found; give more, or lower test_fraction and val_fraction"


def _source(
    data: str | Path | NDArray[Any], labels: NDArray[Any] | None, cache_dir: Path | None, options: DataOptions
) -> Source:
    """The source behind any form of DATA."""
    clips, most = options.frames > 1, options.max_pixels
    if isinstance(data, np.ndarray):
        return ReelSource(None, data, labels, most) if clips else ArraySource(data, labels)
    if labels is not None:
        raise UserError("labels", "an array", "labels only beside an array of pictures", "put them in metadata.jsonl")
    if not isinstance(data, (str, Path)):
        raise DataError("DATA", type(data).__name__, f"{FORMS}, or an array of {WANTED}", "")
    moving = parse_moving(str(data))
    if moving is not None:
        return MovingSource(*moving, options.frames, cache_root(cache_dir))
    if clips and str(data) in BUILTIN:
        raise UserError("--frames", options.frames, f"1 for {data}, which has no clips", f"try moving-{data}")
    if str(data) == "digits":
        return DigitsSource()
    if str(data) == "fashion-mnist":
        return FashionSource(cache_root(cache_dir))
    if is_shards(str(data)) and not clips:
        return ShardSource(str(data), expand(str(data)), cache_root(cache_dir))
    source = _path_source(Path(data), clips, most)
    if isinstance(source, FolderSource) and not clips and (shards := shards_in(source.path)):
        return ShardSource(str(data), shards, cache_root(cache_dir))
    return clip_source(source, most) if clips else source


def _path_source(path: Path, clips: bool, max_pixels: int) -> Source:
    forms = CLIP_FORMS if clips else FORMS
    try:
        is_folder, pairs = path.is_dir(), images_in(path) if path.is_dir() else []
    except OSError as error:  # a name that is too long, a folder that may not be listed
        raise DataError("DATA", str(path), forms, f"it cannot be read: {error.strerror}") from None
    if is_folder:
        if not pairs or clips:
            return FolderSource(path)
        if len({"train" in pair.name for pair in pairs}) < len(pairs):
            raise DataError("DATA", str(path), "one pair of idx files", f"name one file, such as {pairs[0]}")
        return IdxSource(pairs[0])
    if not path.is_file():
        raise DataError("DATA", str(path), forms, "check the spelling of the path")
    if clips and ending(path.name) in {".gif", ".webp", ".png", ".apng", *STACKS, *VIDEOS}:
        return ReelSource(path, None, None, max_pixels)
    source = _file_source(path)
    if clips and not isinstance(source, ZipSource):
        raise DataError("DATA", str(path), CLIP_FORMS, "pictures that do not follow each other are no clip")
    return source


def _file_source(path: Path) -> Source:
    """By the first bytes, then by the name."""
    try:
        with open(path, "rb") as file:
            head = file.read(8)
    except OSError as error:
        raise DataError("DATA", str(path), "a file that can be read", str(error.strerror)) from None
    if head[:2] == b"PK":
        return ArrayFileSource(path) if path.suffix.lower() == ".npz" else ZipSource(path)
    if head[:6] == b"\x93NUMPY":
        return ArrayFileSource(path)
    if head[:3] == b"\0\0\x08" or (head[:2] == b"\x1f\x8b" and "ubyte" in path.name.lower()):
        return IdxSource(path)
    if path.suffix.lower() in (".zip", ".npz", ".npy"):
        raise DataError("DATA", str(path), f"a complete {path.suffix} file", "its first bytes are not those of one")
    if ending(path.name) in VIDEOS:
        raise DataError("DATA", str(path), FORMS, "a video is a clip: add --frames, such as --frames 20")
    raise DataError("DATA", str(path), FORMS, "give the folder that the pictures are in")
