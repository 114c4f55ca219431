"""Scan and cache in one pass: every file is read and decoded once, checked, and its pixels written at their
place.

The shape to decode to must be known before the first picture is: a few spread over the data are looked at,
and what `auto` means is guessed from them. Where all the data say otherwise in the end, a second pass
follows; that is rare.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zeuxis.config import DataOptions, fingerprint
from zeuxis.data.cache import Cache, Store
from zeuxis.data.decide import Shape, decide
from zeuxis.data.decode import Job, Result, write_pixels
from zeuxis.data.duplicates import Pairs, exact_groups, merge_groups, near_pairs
from zeuxis.data.findings import make_report
from zeuxis.data.listing import Listing, Source
from zeuxis.data.pool import Pool, available_cores
from zeuxis.data.records import Flag, Records, empty_records, has
from zeuxis.data.report import Report
from zeuxis.data.stacked import stacked_result
from zeuxis.data.windows import cut, refuse_other_sizes

FORMAT = 1  # of what scanning means: a change makes old entries unknown
PEEK = 48  # pictures looked at before the pass
JOB_FILES, JOB_FILE_BYTES, JOB_PIXEL_BYTES = 128, 8 * 2**20, 16 * 2**20
POOL_FILES, POOL_BYTES = 192, 32 * 2**20  # below both, starting processes takes longer than the work

Progress = Callable[[str, int, int], None]


def prepare(
    source: Source,
    options: DataOptions,
    cache: Cache,
    workers: int | None = None,
    progress: Progress | None = None,
) -> tuple[Store | None, Report]:
    """The cached pictures of a source and its report, from an earlier scan where nothing has changed.

    The store is None where not one picture can be used. One process builds; others wait and then use what it
    built.
    """
    asked: list[object] = [options.resolution, options.fit, options.channels, options.max_pixels]
    if options.frames > 1:
        asked.append(options.frames)
    quick = fingerprint([FORMAT, source.quick(), asked])[:32]
    known = cache.find(quick)
    if known is not None:
        return known
    with cache.building(quick, progress) as folder:
        known = cache.find(quick)
        if known is not None:
            return known
        return _Build(source, options, cache, folder, workers, progress).run(quick)


class _Build:
    """One scan: the listing, then the records of every file, in `folder` the pixels."""

    def __init__(
        self,
        source: Source,
        options: DataOptions,
        cache: Cache,
        folder: Path,
        workers: int | None,
        progress: Progress | None,
    ) -> None:
        self.source, self.options, self.cache, self.folder = source, options, cache, folder
        self.workers, self.progress = workers, progress or (lambda what, done, total: None)
        self.started = time.monotonic()
        self.out = folder / "pixels.u8"

    def run(self, quick: str) -> tuple[Store | None, Report]:
        many = self.source.count >= POOL_FILES or self.source.bytes >= POOL_BYTES
        with Pool((self.workers or available_cores()) if many else 1) as pool:  # workers start while we list
            listing = self.source.listing()
            records, reasons, shape, why = self._decode(listing, pool)
        windows = cut(listing, records, self.options.frames) if self.options.frames > 1 else None
        skipped = [*listing.skipped, *((listing.name(index), reasons[index]) for index in sorted(reasons))]
        good = np.flatnonzero(has(records, Flag.OK)) if windows is None else windows.starts
        report = Report(
            self.source.name, files=len(listing) + len(listing.skipped), pictures=len(good), skipped=skipped
        )
        report.notes = listing.notes
        if windows is not None:
            report.skipped += windows.skipped
            report.notes, report.frames = [*listing.notes, *windows.notes], windows.length
        if not len(good):
            return None, report
        records = records[good] if windows is None else windows.records
        groups, copies = exact_groups(records)
        if windows is None:
            near, equal = self._near(records, groups, good, (len(listing), *shape))
        else:  # the split goes by clip
            near, equal, groups = np.empty((0, 2), np.int64), np.empty((0, 2), np.int64), windows.groups
        labels, classes = _classes_that_occur(listing.labels[good], listing.classes)
        make_report(report, listing, good, records, copies, near, labels, classes, shape, why)
        report.seconds = round(time.monotonic() - self.started, 3)
        names = [listing.names[index] for index in good] if listing.names else []
        if windows is not None:
            names = windows.names
        (self.folder / "names.json").write_text(json.dumps(names), encoding="utf-8")
        index = {
            "fingerprint": _content(names, records, labels, classes, listing.splits[good]),
            "shape": [len(listing), *shape],
            "fit": self.options.fit,
            "classes": list(classes),
            "frames": self.options.frames,
        }
        merged = merge_groups(groups, equal)
        columns = {"slots": good, "labels": labels, "declared": listing.splits[good], "groups": merged}
        store = self.cache.keep(self.folder, quick, index, columns, report)
        report.preview = store.preview
        return store, report

    def _near(
        self, records: Records, groups: NDArray[np.uint64], good: NDArray[np.int64], shape: tuple[int, ...]
    ) -> tuple[Pairs, Pairs]:
        """`near_pairs` with the pixels just written; their map is closed again before the folder is moved."""
        pixels = np.memmap(self.out, np.uint8, "r", shape=shape)
        return near_pairs(records, groups, lambda positions: np.asarray(pixels[good[positions]]))

    def _decode(self, listing: Listing, pool: Pool) -> tuple[Records, dict[int, str], Shape, str]:
        """Records and reasons of all files, the shape of the written pixels and why it is that."""
        guess = self._guess(listing, pool)
        records, reasons = self._pass(listing, pool, guess, "reading pictures")
        if listing.clips is not None:
            refuse_other_sizes(listing.clips, records, reasons)
        good = records[has(records, Flag.OK)]
        if not len(good):
            return records, reasons, guess, ""
        shape, why = decide(good, self.options)
        if shape != guess:  # decided once: what is grey at one size may not be at another
            records, reasons = self._pass(listing, pool, shape, "resizing pictures")
            if listing.clips is not None:
                refuse_other_sizes(listing.clips, records, reasons)
        return records, reasons, shape, why

    def _guess(self, listing: Listing, pool: Pool) -> Shape:
        """What `auto` will probably mean, from a few pictures."""
        peeked = empty_records(0)
        if listing.stacked is not None and not listing.items:
            first = next(listing.stacked.blocks(PEEK), None)
            if first is not None:
                peeked = stacked_result(first, _swap(listing.stacked.shape), self.options.fit)[1]
        elif len(listing.items):
            step = max(1, len(listing.items) // PEEK)
            few = listing.items[::step]
            jobs = (self._job(listing, few[start : start + 8], 0, (4, 8, 8), "") for start in range(0, len(few), 8))
            results: list[Records] = []
            pool.run(jobs, lambda job, result: results.append(result.records))
            peeked = np.concatenate(results)
        good = peeked[has(peeked, Flag.OK)]
        if len(good):
            return decide(good, self.options)[0]
        height, width = (32, 32) if self.options.resolution == "auto" else self.options.resolution
        return (3 if self.options.channels == "auto" else self.options.channels, height, width)

    def _pass(self, listing: Listing, pool: Pool, shape: Shape, what: str) -> tuple[Records, dict[int, str]]:
        """Decodes everything to `shape` into the pixel file."""
        total = len(listing)
        self.cache.need(total * math.prod(shape))
        with open(self.out, "wb") as file:
            file.truncate(total * math.prod(shape))
        records = empty_records(total)
        reasons: dict[int, str] = {}
        done = 0

        def take(job: Job, result: Result) -> None:
            nonlocal done
            records[job.start : job.start + len(job.items)] = result.records
            reasons.update((job.start + index, reason) for index, reason in result.reasons.items())
            done += len(job.items)
            self.progress(what, done, total)

        pool.run(self._jobs(listing, shape), take)
        if listing.stacked is None:
            return records, reasons
        start = first = len(listing.items)
        for block in listing.stacked.blocks(max(1, JOB_PIXEL_BYTES // math.prod(listing.stacked.shape))):
            pixels, part = stacked_result(block, shape, self.options.fit)
            write_pixels(str(self.out), start, pixels)
            records[start : start + len(block)] = part
            start += len(block)
            self.progress(what, start, total)
        for place, reason in listing.broken.items():
            records[first + place] = 0
            reasons[first + place] = reason
        return records, reasons

    def _jobs(self, listing: Listing, shape: Shape) -> Iterator[Job]:
        """Runs of files, bounded in number, in bytes to read and in bytes of pixels."""
        most = max(1, min(JOB_FILES, JOB_PIXEL_BYTES // math.prod(shape)))
        start, size = 0, 0
        for index in range(len(listing.items)):
            if index > start and (index - start == most or size + listing.sizes[index] > JOB_FILE_BYTES):
                yield self._job(listing, listing.items[start:index], start, shape, str(self.out))
                start, size = index, 0
            size += int(listing.sizes[index])
        if start < len(listing.items):
            yield self._job(listing, listing.items[start:], start, shape, str(self.out))

    def _job(self, listing: Listing, items: list[object], start: int, shape: Shape, out: str) -> Job:
        assert listing.kind != "stacked"
        return Job(listing.kind, listing.root, items, start, shape, self.options.fit, self.options.max_pixels, out)


def _swap(shape: tuple[int, int, int]) -> Shape:
    """(H, W, C) -> (C, H, W)."""
    return (shape[2], shape[0], shape[1])


def _classes_that_occur(
    labels: NDArray[np.int64], classes: tuple[str, ...]
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Labels and names without the classes of which no picture could be used; none where fewer than two are
    left."""
    occur = np.unique(labels[labels >= 0])
    if len(occur) < 2:
        return np.full(len(labels), -1, np.int64), ()
    number = np.full(len(classes) + 1, -1, np.int64)  # the last place is that of -1
    number[occur] = np.arange(len(occur))
    return number[labels], tuple(classes[index] for index in occur)


def _content(
    names: list[str],
    records: Records,
    labels: NDArray[np.int64],
    classes: tuple[str, ...],
    splits: NDArray[np.int8],
) -> str:
    """SHA-256 of what the data are: names, content, labels and splits, wherever they lie and however they are
    read."""
    digest = hashlib.sha256(json.dumps([names, classes], ensure_ascii=True).encode())
    for column in (records["digest"], records["width"], records["height"], labels, splits):
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()
