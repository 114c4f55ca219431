"""The cache on disk: decoded pictures in one memory-mapped file with an index, whole or absent, shared by
processes.

    CACHE/data/sets/KEY/      pixels.u8, columns.npz, names.json, index.json: one content in one picture shape
    CACHE/data/known/Q.json   which KEY a source with this quick key (names, sizes, times) has, and its report
    CACHE/data/building/Q-.../  a build under way, guarded by CACHE/data/locks/Q.lock
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import shutil
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from zeuxis.config import fingerprint
from zeuxis.data.report import Report
from zeuxis.errors import RunFault
from zeuxis.files import write_bytes

FORMAT = 1
PROBED = ("pixels.u8", "names.json")  # files too large to be read whole at each start
PROBES, PROBE_BYTES = 32, 4096  # places of such a file whose checksums are in the index
TORN = (OSError, ValueError, KeyError, TypeError, RecursionError)  # what opening a damaged set raises
SPARE = 64 * 2**20  # bytes that stay free on the disk
PREVIEW = 400


def cache_root(cache_dir: Path | None = None) -> Path:
    """`cache_dir`, else `$ZEUXIS_CACHE`, else the platform's folder for caches."""
    if cache_dir is not None:
        return Path(cache_dir)
    if os.environ.get("ZEUXIS_CACHE"):
        return Path(os.environ["ZEUXIS_CACHE"])
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "zeuxis" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "zeuxis"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zeuxis"


@dataclass
class Store:
    """An opened set: `pixels` uint8 memory map `[slots, C, H, W]`; the other columns have one entry per
    usable picture."""

    folder: Path
    fingerprint: str
    classes: tuple[str, ...]
    pixels: NDArray[np.uint8]
    slots: NDArray[np.int64]
    labels: NDArray[np.int64]
    declared: NDArray[np.int8]
    groups: NDArray[np.uint64]
    frames: int = 1  # that follow after each slot and belong to it

    def preview(self, count: int) -> NDArray[np.uint8]:
        """Up to `count` pictures spread evenly over the set, uint8 `[n, C, H, W]`."""
        places = np.linspace(0, len(self.slots) - 1, min(count, len(self.slots), PREVIEW)).astype(np.int64)
        return np.asarray(self.pixels[self.slots[places]])

    def names(self) -> list[str]:
        """Names of the usable pictures; empty for arrays."""
        return list(json.loads((self.folder / "names.json").read_text(encoding="utf-8")))


class Cache:
    """The cache below `root`; folders are made when first needed."""

    def __init__(self, root: Path) -> None:
        self.base = root / "data"

    def find(self, quick: str) -> tuple[Store, Report] | None:
        """What an earlier scan of the same source left, or None where there is none or it is torn."""
        try:
            known = _checked(json.loads((self.base / "known" / f"{quick}.json").read_text(encoding="utf-8")))
            store = self.open(known["key"])
            report = Report.from_json(known["report"])
        except TORN:
            return None
        report.preview = store.preview
        return store, report

    def open(self, key: str) -> Store:
        """Opens a set after checking index, columns and the pixel file's size and probes; ValueError where
        torn."""
        folder = self.base / "sets" / key
        index = _checked(json.loads((folder / "index.json").read_text(encoding="utf-8")))
        content = (folder / "columns.npz").read_bytes()
        if hashlib.sha256(content).hexdigest() != index["columns"]:
            raise ValueError("columns.npz does not have the checksum in the index")
        with np.load(io.BytesIO(content), allow_pickle=False) as columns:
            slots, labels, declared, groups = (columns[name] for name in ("slots", "labels", "declared", "groups"))
        path, shape = folder / "pixels.u8", tuple(index["shape"])
        for name in PROBED:
            if _probe(folder / name) != index[name]:
                raise ValueError(f"{name} is not what the index says")
        pixels = np.memmap(path, np.uint8, "r", shape=shape)
        content_key, classes, frames = index["fingerprint"], tuple(index["classes"]), index.get("frames", 1)
        return Store(folder, content_key, classes, pixels, slots, labels, declared, groups, frames)

    @contextlib.contextmanager
    def building(self, quick: str, progress: Callable[[str, int, int], None] | None = None) -> Iterator[Path]:
        """An empty folder to build in, alone among all processes; removed at the end unless it was moved
        away."""
        with _disk_errors(self.base):
            for name in ("sets", "known", "building", "locks"):
                (self.base / name).mkdir(parents=True, exist_ok=True)
            with self._alone(quick, progress):
                self._sweep(quick)
                # A new name each time: a worker of a killed process may still hold jobs for the old one.
                folder = Path(tempfile.mkdtemp(prefix=f"{quick}-", dir=self.base / "building"))
                try:
                    yield folder
                finally:
                    shutil.rmtree(folder, ignore_errors=True)

    def need(self, size: int) -> None:
        """Refuses with one line before anything is written where `size` bytes do not fit on the disk."""
        free = shutil.disk_usage(self.base).free
        if size + SPARE > free:
            raise _full(self.base, f"the decoded pictures need {_words(size)}, {_words(free)} are free")

    def keep(self, built: Path, quick: str, index: dict[str, Any], columns: dict[str, Any], report: Report) -> Store:
        """Completes a built folder (its `pixels.u8` and `names.json` are written), moves it in place and
        opens it."""
        buffer = io.BytesIO()
        np.savez(buffer, **columns)
        (built / "columns.npz").write_bytes(buffer.getvalue())
        columns_hash = hashlib.sha256(buffer.getvalue()).hexdigest()
        body = {**index, "format": FORMAT, "columns": columns_hash, **{name: _probe(built / name) for name in PROBED}}
        write_bytes(built / "index.json", json.dumps(_sealed(body)).encode(), sync=False)
        key = fingerprint([FORMAT, index["fingerprint"], index["shape"][1:], index["fit"]])[:32]
        store = self._place(built, key)
        known = _sealed({"key": key, "report": report.to_json()})
        write_bytes(self.base / "known" / f"{quick}.json", json.dumps(known).encode(), sync=False)
        return store

    def _place(self, built: Path, key: str) -> Store:
        target = self.base / "sets" / key
        for _ in range(2):
            with contextlib.suppress(*TORN):
                return self.open(key)  # the same content under another name or time was there already
            shutil.rmtree(target, ignore_errors=True)  # torn
            with contextlib.suppress(OSError):
                os.rename(built, target)
        return self.open(key)

    @contextlib.contextmanager
    def _alone(self, quick: str, progress: Callable[[str, int, int], None] | None) -> Iterator[None]:
        lock = FileLock(self._lock(quick))
        try:
            lock.acquire(timeout=0.1)
        except Timeout:
            if progress:
                progress("waiting for another process that reads the same data", 0, 0)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _lock(self, quick: str) -> str:
        return str(self.base / "locks" / f"{quick}.lock")

    def _sweep(self, mine: str) -> None:
        """Removes what builds left when they were killed; a build under way holds its lock, `mine` is held here."""
        for folder in (self.base / "building").iterdir():
            quick = folder.name.partition("-")[0]
            if quick == mine:
                shutil.rmtree(folder, ignore_errors=True)
                continue
            with contextlib.suppress(Timeout, OSError), FileLock(self._lock(quick), timeout=0):
                shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _disk_errors(base: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _full(base, "nothing of the unfinished cache was kept") from None
        if error.errno == errno.EFBIG:
            raise RunFault(
                f"the disk of the cache {base} allows no file as large as the decoded pictures; "
                "set ZEUXIS_CACHE to another disk"
            ) from None
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EEXIST):
            raise RunFault(
                f"the cache {base} cannot be written: {error.strerror}; set ZEUXIS_CACHE to another folder"
            ) from None
        raise


def _full(base: Path, detail: str) -> RunFault:
    return RunFault(f"the disk of the cache {base} is full: {detail}; free space or set ZEUXIS_CACHE to another disk")


def _words(size: int) -> str:
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size / 1e3:.1f} kB"


def _sealed(body: dict[str, Any]) -> dict[str, Any]:
    return {"body": body, "checksum": fingerprint(body)}


def _checked(sealed: dict[str, Any]) -> dict[str, Any]:
    if fingerprint(sealed["body"]) != sealed["checksum"]:
        raise ValueError("the checksum does not fit")
    body: dict[str, Any] = sealed["body"]
    return body


def _probe(path: Path) -> list[int]:
    """Size and checksums of places spread over a file: finds what a power cut left empty without reading
    gigabytes."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        sums = [size]
        for place in range(PROBES):
            file.seek((size - PROBE_BYTES) * place // (PROBES - 1) if size > PROBE_BYTES else 0)
            sums.append(zlib.crc32(file.read(PROBE_BYTES)))
    return sums
