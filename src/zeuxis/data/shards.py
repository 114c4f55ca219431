"""Shards as a source: tar files of samples, as WebDataset names them, on this machine or behind http(s).

The members of a sample share their name up to its first dot: `0001.jpg` with `0001.cls` (the class, a name or number)
or `0001.json` (`label` or `class`). Headers, classes and pictures are read by our own code: nothing is unpickled, no
other member is opened, and no command is run (`pipe:` and every scheme but http and https are refused). The pictures go
into the same memory-mapped cache as those of a folder, so training shuffles all of them and goes on at any picture;
shards from the net are kept only until then.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import tarfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from zeuxis.data.decode import MAX_FILE
from zeuxis.data.folder import MAX_FILES, is_hidden, is_picture
from zeuxis.data.labels import LABEL_KEYS, order_classes
from zeuxis.data.listing import SPLIT_NAMES, Listing
from zeuxis.errors import DataError

FORM = "tar shards: a path or an http(s) address, with a range such as pictures-{000..099}.tar"
BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
MAX_SHARDS = 100_000
MAX_LABEL = 2**20  # bytes of a .cls or .json member
SECONDS = 30.0  # without a byte from a server
SPARE = 64 * 2**20  # bytes that stay free on the disk


def is_shards(data: str) -> bool:
    """Whether `data` means shards: an address of any scheme, or the name of tar files."""
    return "://" in data or data.startswith("pipe:") or data.lower().endswith(".tar")


def shards_in(folder: Path) -> list[str]:
    """The tar files of a folder that holds nothing else that can be seen; none where it is another folder."""
    try:
        names = sorted(name for name in os.listdir(folder) if not is_hidden(name))
    except OSError:
        return []
    whole = bool(names) and all(name.lower().endswith(".tar") for name in names)
    return [str(folder / name) for name in names] if whole else []


def expand(data: str) -> list[str]:
    """`a-{00..02}.tar` as its shards in order; several ranges multiply."""
    found = BRACES.search(data)
    if found is None:
        return [data]
    first, last = int(found[1]), int(found[2])
    if not 0 <= last - first < MAX_SHARDS:
        raise DataError("DATA", data, f"a range that rises, of at most {MAX_SHARDS:,} shards", "such as {000..099}")
    middle = (f"{number:0{len(found[1])}d}" for number in range(first, last + 1))
    names = [data[: found.start()] + number + rest for number in middle for rest in expand(data[found.end() :])]
    if len(names) > MAX_SHARDS:
        raise DataError("DATA", data, f"at most {MAX_SHARDS:,} shards", "take a part of them")
    return names


class ShardSource:
    """All pictures in some tar files; `cache` is where shards from the net are kept until they are read."""

    def __init__(self, data: str, shards: list[str], cache: Path) -> None:
        self.data, self.shards, self.cache = data, shards, cache / "data" / "shards"
        stem = BRACES.sub("", data.rstrip("/").rsplit("/", 1)[-1].removesuffix(".tar"))
        self.name = stem.strip("-_.") or "shards"
        self.count, self.bytes = 0, 0
        self._signs: list[tuple[str, int, str]] = []

    def quick(self) -> str:
        """From the addresses, sizes and times of the shards."""
        self._signs = [self._sign(shard) for shard in self.shards]
        self.bytes = sum(size for _, size, _ in self._signs)
        self.count = self.bytes // 2048
        return f"shards {hashlib.sha256(json.dumps(self._signs).encode()).hexdigest()}"

    def listing(self) -> Listing:
        """Fetches what is not here, reads all headers and labels, and lists the pictures by shard and name."""
        names: list[str] = []
        items: list[Any] = []
        labels: list[str | None] = []
        splits: list[int] = []
        skipped: list[tuple[str, str]] = []
        for number, shard in enumerate(self.shards):
            file = self._local(number)
            own, of_keys = _members(file, shard)
            skipped += [(f"{Path(shard).name}/{name}", why) for name, _, _, why in own if why]
            split = _split_of(shard)
            for name, offset, size, why in own:
                if not why:
                    names.append(f"{number:06d}/{name}")
                    items.append([str(file.resolve()), offset, size])
                    labels.append(of_keys.get(_key(name)))
                    splits.append(split)
        if len(names) > MAX_FILES:
            raise DataError("DATA", self.data, f"at most {MAX_FILES:,} pictures", "take a part of the shards")
        classes = order_classes({label for label in labels if label is not None})
        notes = []
        if len(classes) == 1:
            notes.append(f"a single class ({classes[0]}) is no class: the pictures are taken as unlabelled")
            classes = ()
        place = {label: index for index, label in enumerate(classes)}
        return Listing(
            kind="tar", root="", names=names, items=items, sizes=np.array([item[2] for item in items], np.int64),
            labels=np.array([place.get(label, -1) if label is not None else -1 for label in labels], np.int64),
            splits=np.array(splits, np.int8), classes=classes, skipped=skipped, notes=notes,
        )  # fmt: skip

    def forget(self) -> None:
        """Removes the copies of shards from the net: their pictures are in the cache."""
        for number, shard in enumerate(self.shards):
            if _is_net(shard) and self._signs:
                with contextlib.suppress(OSError):
                    self._copy(number).unlink(missing_ok=True)

    # -- where the bytes are ---------------------------------------------------------------------------------------
    def _sign(self, shard: str) -> tuple[str, int, str]:
        """Address, size and version of a shard."""
        if not _is_net(shard):
            try:
                status = os.stat(shard)
            except OSError as error:
                raise DataError("DATA", shard, FORM, f"it cannot be read: {error.strerror}") from None
            return os.path.abspath(shard), status.st_size, str(status.st_mtime_ns)
        with _ask(shard, "HEAD") as answer:
            size = answer.headers.get("Content-Length", "")
            version = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
        if not size.isdigit():
            raise DataError("DATA", shard, "a server that says how long a shard is", "fetch the shards by other means")
        return shard, int(size), version

    def _copy(self, number: int) -> Path:
        return self.cache / f"{hashlib.sha256(json.dumps(self._signs[number]).encode()).hexdigest()[:32]}.tar"

    def _local(self, number: int) -> Path:
        """The shard as a file of this machine."""
        shard = self.shards[number]
        if not _is_net(shard):
            return Path(shard)
        target, size = self._copy(number), self._signs[number][1]
        if target.exists() and target.stat().st_size == size:
            return target
        self.cache.mkdir(parents=True, exist_ok=True)
        if size + SPARE > shutil.disk_usage(self.cache).free:
            raise DataError("DATA", shard, f"room for {size:,} bytes in {self.cache}", "set ZEUXIS_CACHE elsewhere")
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        try:
            with _ask(shard, "GET") as answer, open(temporary, "wb") as file:
                left = size
                while left and (block := answer.read(min(left, 2**20))):
                    file.write(block)
                    left -= len(block)
            if left:
                raise DataError("DATA", shard, f"{size:,} bytes", f"{left:,} of them did not come: try again")
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
        return target


def _is_net(shard: str) -> bool:
    """Whether a shard is behind http(s); any other scheme is refused."""
    scheme, colon, _ = shard.partition("://")
    if shard.startswith("pipe:") or (colon and scheme.lower() not in ("http", "https")):
        raise DataError("DATA", shard, FORM, "fetch the shards by other means")
    return bool(colon)


def _ask(address: str, method: str) -> Any:
    """An answer of a web server; redirections stay with http(s), and no other handler exists."""
    opener = urllib.request.OpenerDirector()
    for handler in (urllib.request.ProxyHandler, urllib.request.HTTPHandler, urllib.request.HTTPSHandler,
                    urllib.request.HTTPRedirectHandler, urllib.request.HTTPErrorProcessor,
                    urllib.request.HTTPDefaultErrorHandler, urllib.request.UnknownHandler):  # fmt: skip
        opener.add_handler(handler())
    try:
        return opener.open(urllib.request.Request(address, method=method), timeout=SECONDS)
    except (OSError, ValueError) as error:  # URLError is an OSError
        raise DataError("DATA", address, "a shard that can be fetched", f"the server said: {error}") from None


def _members(file: Path, shard: str) -> tuple[list[tuple[str, int, int, str]], dict[str, str]]:
    """(name, offset, size, why not) of the pictures in a tar file, and the labels by sample."""
    found: list[tuple[str, int, int, str]] = []
    labels: dict[str, str] = {}
    try:
        with tarfile.open(file, "r:") as archive, open(file, "rb") as raw:
            held = os.fstat(raw.fileno()).st_size
            for member in _each(archive):
                name = member.name.replace("\\", "/").lstrip("/")
                if not member.isreg() or member.issparse() or _hidden(name):
                    continue
                if member.offset_data + member.size > held:
                    found.append((name, 0, 0, "truncated: the shard ends before it"))
                elif is_picture(name):
                    why = f"larger than {MAX_FILE >> 20} MiB" if member.size > MAX_FILE else ""
                    found.append((name, member.offset_data, member.size, why))
                elif name.endswith((".cls", ".json")) and member.size <= MAX_LABEL:
                    label = _label(raw, member, name)
                    if label is not None:
                        labels[_key(name)] = label
    except (OSError, tarfile.TarError, ValueError, EOFError) as error:
        if not found:
            form = "a complete tar file that is not packed"
            raise DataError("DATA", shard, form, f"it cannot be read: {error}") from None
        found.append(("the rest", 0, 0, f"truncated: {error}"))
    return sorted(found), labels


def _each(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Members one by one, none of them kept: a shard may hold millions."""
    while (member := archive.next()) is not None:
        archive.members = []  # type: ignore[attr-defined]
        yield member


def _label(raw: IO[bytes], member: tarfile.TarInfo, name: str) -> str | None:
    raw.seek(member.offset_data)
    text = raw.read(member.size).decode("utf-8", "replace").strip()
    if name.endswith(".json"):
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            return None
        known = document if isinstance(document, dict) else {}
        found = next((known[key] for key in LABEL_KEYS if key in known), None)
        text = str(found) if isinstance(found, (str, int)) else ""
    return text[:200] or None


def _hidden(name: str) -> bool:
    """Whether a part of a member's name says that it is not meant; names are labels, never paths on this machine."""
    return any(is_hidden(part) for part in name.split("/") if part not in (".", ".."))


def _key(name: str) -> str:
    """What the members of a sample share: the path up to the first dot of its last part."""
    folder, slash, last = name.rpartition("/")
    return folder + slash + last.partition(".")[0]


def _split_of(shard: str) -> int:
    """The split that a shard's name begins with, as in `train-0001.tar`; none otherwise."""
    word = re.split(r"[-_.]", shard.rsplit("/", 1)[-1].lower())[0]
    return SPLIT_NAMES.get(word, -1)
