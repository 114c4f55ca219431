"""Finds copies: exact ones by digest, near ones by difference hash and then by their pixels. Never all
pairs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from zeuxis.data.records import Records

MAX_BITS = 3  # of 64 that may differ; one of four 16-bit bands is then equal, so sorting by each band finds the pair
MAX_MEAN = 6  # levels between mean colours
MAX_PIXEL = 5.0  # levels of mean absolute difference
WINDOW = 6  # neighbours looked at in each sorted order: a flat background must not make it quadratic
MAX_CANDIDATES = 20_000

Pairs = NDArray[np.int64]
Take = Callable[[NDArray[np.int64]], NDArray[np.uint8]]


def exact_groups(records: Records) -> tuple[NDArray[np.uint64], list[list[int]]]:
    """A number per picture, the same for files with the same bytes, and the groups of two or more."""
    groups = np.ascontiguousarray(records["digest"][:, 0])
    _, first, counts = np.unique(groups, return_index=True, return_counts=True)
    several = np.sort(first[counts > 1])
    if not len(several):
        return groups, []
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    starts, ends = (
        np.searchsorted(ordered, groups[several]),
        np.searchsorted(ordered, groups[several], side="right"),
    )
    return groups, [order[start:end].tolist() for start, end in zip(starts, ends, strict=True)]


def near_pairs(records: Records, groups: NDArray[np.uint64], take: Take) -> tuple[Pairs, Pairs]:
    """Pairs `[K, 2]` that look the same without being copies of one file, and among them those with equal
    pixels.

    Args:
        records: Of the good pictures.
        groups: From `exact_groups`; pairs inside a group are left out.
        take: Positions -> uint8 `[n, C, H, W]`, asked for candidates only.
    """
    pairs = _candidates(records, groups)[:MAX_CANDIDATES]
    near, equal = [], []
    for start in range(0, len(pairs), 256):
        part = pairs[start : start + 256]
        left, right = take(part[:, 0]).astype(np.int16), take(part[:, 1]).astype(np.int16)
        if left.shape[1] == 4:  # hidden colour does not count
            left[:, :3] = left[:, :3] * (left[:, 3:] > 0)
            right[:, :3] = right[:, :3] * (right[:, 3:] > 0)
        difference = np.abs(left - right).mean((1, 2, 3))
        near.append(part[difference <= MAX_PIXEL])
        equal.append(part[difference == 0])
    none = np.empty((0, 2), np.int64)
    return np.concatenate(near or [none]), np.concatenate(equal or [none])


def _candidates(records: Records, groups: NDArray[np.uint64]) -> Pairs:
    """Pairs `[K, 2]`, first below second, whose hashes and mean colours are close."""
    looks, means = np.ascontiguousarray(records["look"]), records["mean"].astype(np.int16)
    found = []
    for turn in (0, 16, 32, 48):
        turned = (looks << np.uint64(turn)) | (looks >> np.uint64(64 - turn)) if turn else looks
        order = np.argsort(turned, kind="stable")
        for step in range(1, min(WINDOW, len(order) - 1) + 1):
            one, other = order[:-step], order[step:]
            close = np.bitwise_count(looks[one] ^ looks[other]) <= MAX_BITS
            one, other = one[close], other[close]
            close = (np.abs(means[one] - means[other]).max(1) <= MAX_MEAN) & (groups[one] != groups[other])
            found.append(np.stack([np.minimum(one, other)[close], np.maximum(one, other)[close]], axis=1))
    return np.unique(np.concatenate(found), axis=0) if found else np.empty((0, 2), np.int64)


def merge_groups(groups: NDArray[np.uint64], pairs: Pairs) -> NDArray[np.uint64]:
    """Groups in which every pair shares its number (the smaller), for pictures that are equal only as
    pixels."""
    merged = groups.copy()
    for _ in range(len(pairs)):  # chains settle after as many rounds as they are long, as a rule one or two
        low = np.minimum(merged[pairs[:, 0]], merged[pairs[:, 1]])
        before = merged.copy()
        np.minimum.at(merged, pairs[:, 0], low)
        np.minimum.at(merged, pairs[:, 1], low)
        if (before == merged).all():
            break
    return merged
