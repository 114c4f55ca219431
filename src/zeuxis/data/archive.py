"""A zip file of pictures as a source. Its directory is read once; names are labels, never paths on this
machine."""

from __future__ import annotations

import posixpath
import zipfile
import zlib
from pathlib import Path

import numpy as np

from zeuxis.data.decode import MAX_FILE
from zeuxis.data.folder import MAX_FILES, is_hidden, is_picture, why_not
from zeuxis.data.labels import DOCUMENTS, MAX_DOCUMENT, label_files
from zeuxis.data.listing import Listing
from zeuxis.errors import DataError

MAX_RATIO = 200  # unpacked to packed; pictures are compressed already, so only BMP and TIFF come anywhere near
SMALL = 2**20  # bytes below which the ratio does not matter
MAX_TOTAL_RATIO = 1100  # deflate cannot do more: a zip that claims more uses the same bytes several times


def open_zip(path: Path) -> zipfile.ZipFile:
    """Opens a zip's directory; `DataError` where it is not one."""
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise DataError("DATA", str(path), "a complete zip file", f"it cannot be read: {error}") from None


class ZipSource:
    """All pictures in the zip file `path`, by the same rules as a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.stem or "data"
        self.count, self.bytes = 0, 0

    def quick(self) -> str:
        """From the zip file's path, size and time."""
        status = self.path.stat()
        self.count, self.bytes = status.st_size // 2048, status.st_size  # a small picture's size; good enough
        return f"zip {self.path.resolve()} {status.st_size} {status.st_mtime_ns}"

    def listing(self) -> Listing:
        """Reads the directory, leaves out what is absurd, and labels the rest."""
        pictures: list[tuple[str, zipfile.ZipInfo]] = []
        skipped: list[tuple[str, str]] = []
        documents: dict[str, bytes] = {}
        held = self.path.stat().st_size
        with open_zip(self.path) as archive:
            members = [info for info in archive.infolist() if not info.is_dir()]
            self._check_whole(members)
            for info in members:
                name = info.filename.replace("\\", "/").lstrip("/")
                if any(is_hidden(part) for part in name.split("/") if part not in (".", "..")):
                    continue
                reason = _absurd(info, held)
                if posixpath.basename(name) in DOCUMENTS:
                    documents[name] = self._document(archive, info, reason)
                elif not is_picture(name):
                    skipped.append((name, why_not(name)))
                elif reason:
                    skipped.append((name, reason))
                else:
                    pictures.append((name, info))
        pictures.sort(key=lambda pair: (pair[0], pair[1].header_offset))
        names = [name for name, _ in pictures]
        found = label_files(names, documents)
        return Listing(
            kind="zip",
            root=str(self.path.resolve()),
            names=names,
            items=[[i.header_offset, i.compress_size, i.file_size, i.compress_type, i.CRC] for _, i in pictures],
            sizes=np.array([info.file_size for _, info in pictures], np.int64),
            labels=found.labels,
            splits=found.splits,
            classes=found.classes,
            skipped=sorted(skipped),
            notes=found.notes,
            documents=documents,
        )

    def _check_whole(self, members: list[zipfile.ZipInfo]) -> None:
        if len(members) > MAX_FILES:
            raise DataError("DATA", str(self.path), f"at most {MAX_FILES:,} members", "take a part of it")
        total, size = sum(info.file_size for info in members), self.path.stat().st_size
        if total > MAX_TOTAL_RATIO * size:
            raise DataError(
                "DATA",
                str(self.path),
                "an honest zip file",
                f"{size:,} bytes claim to hold {total:,}: a zip bomb",
            )

    def _document(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, reason: str) -> bytes:
        # JSON of a million equal lines packs far better than a picture: only its size counts.
        if info.file_size > MAX_DOCUMENT or (reason and "bomb" not in reason):
            got = reason or f"{info.file_size:,} bytes"
            raise DataError(info.filename, got, f"a readable member of at most {MAX_DOCUMENT:,} bytes", "")
        try:
            with archive.open(info) as member:
                return member.read(info.file_size)
        except (OSError, zipfile.BadZipFile, zlib.error, ValueError, EOFError) as error:
            raise DataError(info.filename, str(error), "a readable member", "make the zip file anew") from None


def _absurd(info: zipfile.ZipInfo, held: int) -> str:
    """Why a member of a zip file of `held` bytes is not even unpacked, or nothing."""
    if info.flag_bits & 1:
        return "needs a password"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "packed by a method that is not read (only stored and deflated)"
    if info.compress_size > held or info.header_offset > held:
        return "broken: the zip file is smaller than its directory says"
    if info.file_size > MAX_FILE:
        return f"unpacks to {info.file_size:,} bytes, more than the limit of {MAX_FILE:,}"
    if info.file_size > SMALL and info.file_size > MAX_RATIO * max(1, info.compress_size):
        return f"unpacks to {info.file_size // max(1, info.compress_size)} times its size: a zip bomb"
    return ""
