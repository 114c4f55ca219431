"""From frames to what is trained on: windows of T frames that follow each other without a gap."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from zeuxis.data.listing import Listing
from zeuxis.data.records import Flag, Records, has


@dataclass
class Windows:
    """Windows of equal length: `starts` are places of first frames, `clips` which clip each is of (both int64 `[W]`),
    `records` those of the first frames with digests of all frames, `groups` a number per window that is the same for
    all windows of a clip and of its copies."""

    length: int
    starts: NDArray[np.int64]
    clips: NDArray[np.int64]
    records: Records
    groups: NDArray[np.uint64]
    names: list[str]
    skipped: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def stride_of(length: int) -> int:
    """Frames between the first frames of two windows of one clip: half a window."""
    return max(1, length // 2)


def cut(listing: Listing, records: Records, length: int) -> Windows:
    """Cuts every clip of `listing` into windows of `length` frames, each beginning half a window after the one before.

    A window ends before a frame that could not be read, that has another size than the clip's other frames, or whose
    number does not follow (the step between numbers is the clip's most frequent one, so every fifth frame is a clip
    too). A clip without one whole window is skipped and listed.
    """
    assert listing.clips is not None and listing.numbers is not None
    good = has(records, Flag.OK)
    bounds = np.flatnonzero(np.diff(listing.clips)) + 1
    edges = [0, *bounds.tolist(), len(listing.clips)] if len(listing.clips) else [0]
    starts, clips, groups = [], [], []
    skipped, gaps = [], 0
    for first, last in zip(edges[:-1], edges[1:], strict=True):
        clip, runs = int(listing.clips[first]), _runs(listing.numbers[first:last], good[first:last])
        gaps += max(0, len(runs) - 1)
        own = [
            first + start + offset for start, size in runs for offset in range(0, size - length + 1, stride_of(length))
        ]
        if not own:
            longest = max((size for _, size in runs), default=0)
            whole = "" if longest == last - first else f" in a row of {last - first}"
            skipped.append((listing.clip_names[clip], f"{longest} frames{whole}, fewer than the {length} of a window"))
            continue
        content = hashlib.blake2b(np.ascontiguousarray(records["digest"][first:last]).tobytes(), digest_size=8)
        starts += own
        clips += [clip] * len(own)
        groups += [int.from_bytes(content.digest(), "little")] * len(own)
    places = np.array(starts, np.int64)
    notes = [f"{gaps} gaps (missing numbers, broken or odd frames) cut clips in two"] if gaps else []
    used, windows = len(set(clips)), len(starts)
    notes.append(f"{used:,} clips make {windows:,} windows of {length} frames, each {stride_of(length)} after the last")
    names = []
    for clip, place in zip(clips, starts, strict=True):
        frame = place - int(np.searchsorted(listing.clips, clip))
        names.append(f"{listing.clip_names[clip]} frames {frame}-{frame + length - 1}")
    return Windows(length, places, np.array(clips, np.int64), _window_records(records, places, length),
                   np.array(groups, np.uint64), names, skipped, notes)  # fmt: skip


def refuse_other_sizes(clips: NDArray[np.int64], records: Records, reasons: dict[int, str]) -> None:
    """A frame of another size than most of its clip is a different picture between two frames: it is left out."""
    good = np.flatnonzero(has(records, Flag.OK))
    if not len(good):
        return
    sizes = records["width"].astype(np.int64) << 32 | records["height"].astype(np.int64)
    changes = np.flatnonzero(np.diff(clips[good])) + 1
    for part in np.split(good, changes):
        values, counts = np.unique(sizes[part], return_counts=True)
        if len(values) > 1:
            usual = int(values[counts.argmax()])
            for place in part[sizes[part] != usual]:
                width, height = int(records["width"][place]), int(records["height"][place])
                reasons[int(place)] = f"{width}x{height}, while its clip is {usual >> 32}x{usual & 0xFFFFFFFF}"
                records["flags"][place] &= ~np.uint16(Flag.OK)


def _runs(numbers: NDArray[np.int64], good: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """(first place, length) of the unbroken runs of a clip's frames."""
    if len(numbers) == 1:
        return [(0, 1)] if good[0] else []
    steps = np.diff(numbers)
    values, counts = np.unique(steps, return_counts=True)
    follows = (steps == values[counts.argmax()]) & good[1:] & good[:-1]
    runs, start = [], 0
    for place in range(1, len(numbers) + 1):
        if place == len(numbers) or not follows[place - 1]:
            if good[start]:
                runs.append((start, place - start))
            start = place
    return runs


def _window_records(records: Records, starts: NDArray[np.int64], length: int) -> Records:
    """Records of the first frames, each with a digest of all frames of its window."""
    found = records[starts].copy()
    digests = np.ascontiguousarray(records["digest"])
    for index, start in enumerate(starts):
        content = hashlib.blake2b(digests[start : start + length].tobytes(), digest_size=16).digest()
        found["digest"][index] = np.frombuffer(content, "<u8")
    return found
