"""A folder of pictures as a source, and the rules about names that a zip shares with it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from zeuxis.data.labels import DOCUMENTS, MAX_DOCUMENT, label_files
from zeuxis.data.listing import Listing
from zeuxis.errors import DataError

EXTENSIONS = frozenset((".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif"))
CLUTTER = frozenset(("thumbs.db", "desktop.ini", "__macosx"))
MAX_FILES = 50_000_000


def is_hidden(part: str) -> bool:
    """Whether one part of a path is hidden or what an operating system leaves behind."""
    return part.startswith(".") or part.lower() in CLUTTER


def is_picture(name: str) -> bool:
    """Whether a name ends as pictures do."""
    return os.path.splitext(name)[1].lower() in EXTENSIONS


def why_not(name: str) -> str:
    """Why a file is not even opened."""
    ending = os.path.splitext(name)[1].lower()
    return f"not a picture ({ending} files are not read)" if ending else "not a picture (no extension)"


class FolderSource:
    """All pictures below `path`; symbolic links are followed once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.resolve().name or "data"
        self.count, self.bytes = 0, 0

    def quick(self) -> str:
        """A sum of hashes, so that a million names need neither sorting nor memory."""
        total = self.count = self.bytes = 0
        for name, size, changed, _ in self._walk():
            self.count, self.bytes = self.count + 1, self.bytes + size
            line = f"{name}\0{size}\0{changed}".encode("utf-8", "surrogateescape")
            total += int.from_bytes(hashlib.blake2b(line, digest_size=16).digest(), "little")
        return f"folder {self.path.resolve()} {total % 2**128:032x}"

    def listing(self) -> Listing:
        """Lists, sorts and labels the files."""
        files: list[tuple[str, int]] = []
        skipped: list[tuple[str, str]] = []
        documents: dict[str, bytes] = {}
        for name, size, _, reason in self._walk():
            if reason:
                skipped.append((name, reason))
            elif os.path.basename(name) in DOCUMENTS:
                documents[name] = _document(self.path / name, size)
            elif is_picture(name):
                files.append((name, size))
            else:
                skipped.append((name, why_not(name)))
        files.sort()
        names = [name for name, _ in files]
        found = label_files(names, documents)
        return Listing(
            kind="folder",
            root=str(self.path.resolve()),
            names=names,
            items=names,
            sizes=np.array([size for _, size in files], np.int64),
            labels=found.labels,
            splits=found.splits,
            classes=found.classes,
            skipped=sorted(skipped),
            notes=found.notes,
            documents=documents,
        )

    def _walk(self) -> Iterator[tuple[str, int, int, str]]:
        """(path with `/`, size, time of change, reason to leave it out) of every file, in no order."""
        pending = [("", str(self.path))]
        top = self.path.stat()
        seen = {(top.st_dev, top.st_ino)}
        count = 0
        while pending:
            prefix, folder = pending.pop()
            try:
                entries = os.scandir(folder)
            except OSError as error:
                if not prefix:
                    raise DataError("DATA", folder, "a folder that can be read", f"{error.strerror}") from None
                yield prefix.rstrip("/"), 0, 0, f"cannot be read: {error.strerror}"
                continue
            with entries:
                for entry in entries:
                    if is_hidden(entry.name):
                        continue
                    name = prefix + entry.name
                    try:
                        status = entry.stat()
                        if entry.is_dir():
                            if (status.st_dev, status.st_ino) not in seen:
                                seen.add((status.st_dev, status.st_ino))
                                pending.append((name + "/", entry.path))
                            continue
                        reason = "" if entry.is_file() else "not a file"
                    except OSError as error:
                        yield name, 0, 0, f"cannot be read: {error.strerror}"
                        continue
                    count += 1
                    if count > MAX_FILES:
                        raise DataError("DATA", str(self.path), f"at most {MAX_FILES:,} files", "take a part of it")
                    yield name, status.st_size, status.st_mtime_ns, reason


def _document(path: Path, size: int) -> bytes:
    if size > MAX_DOCUMENT:
        raise DataError(str(path), f"{size:,} bytes", f"at most {MAX_DOCUMENT:,} bytes", "shorten or remove it")
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(str(path), error.strerror, "a file that can be read", "check its permissions") from None
