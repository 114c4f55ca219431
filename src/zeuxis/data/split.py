"""Which pictures are for training, validation and testing: seeded, stratified, and no copy on both sides."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from zeuxis.config import DataOptions
from zeuxis.data.listing import NO_SPLIT, TEST, TRAIN, VAL
from zeuxis.errors import UserError

MAX_HELD_OUT = 10_000  # pictures: more makes no measure better
MIN_TO_CUT = 10  # pictures: fewer all go to training

Codes = NDArray[np.int8]


def split(groups: NDArray[np.uint64], labels: NDArray[np.int64], declared: Codes, options: DataOptions) -> Codes:
    """One of TRAIN, VAL, TEST per picture, int8 `[N]`.

    Args:
        groups: A number per picture, the same for exact copies; it decides the side, so neither the order of
            a folder's listing nor added pictures reshuffle the rest.
        labels: Class per picture, -1 without; each class is cut in proportion.
        declared: The source's own splits. Its test (and validation) split is kept; what it lacks is cut from
            the rest.
        options: `test_fraction`, `val_fraction` and `split_seed`.
    """
    if options.test_fraction + options.val_fraction >= 1:
        both = f"{options.test_fraction} + {options.val_fraction}"
        raise UserError("test_fraction + val_fraction", both, "less than 1", "leave pictures to train on")
    codes = np.where(declared == NO_SPLIT, TRAIN, declared).astype(np.int8)
    total = int((codes == TRAIN).sum())
    for code, fraction in ((TEST, options.test_fraction), (VAL, options.val_fraction)):
        if (declared == code).any() or fraction == 0 or total < MIN_TO_CUT:
            continue
        pool = np.flatnonzero(codes == TRAIN)
        number = min(MAX_HELD_OUT, max(1, round(fraction * total)))
        rank = mix(groups[pool], options.split_seed * 4 + code)
        codes[pool[_choose(rank, labels[pool], number)]] = code
    return codes


def mix(values: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """A seeded one-to-one scramble of 64-bit numbers (splitmix64), the same on every machine and version."""
    with np.errstate(over="ignore"):
        x = values + np.uint64((seed * 0x9E3779B97F4A7C15 + 0x632BE59BD9B4E019) % 2**64)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _choose(rank: NDArray[np.uint64], labels: NDArray[np.int64], number: int) -> NDArray[np.int64]:
    """Positions of about `number` pictures of the lowest ranks, by class; copies have one rank and go
    together."""
    ranks, first, group, sizes = np.unique(rank, return_index=True, return_inverse=True, return_counts=True)
    group_label = labels[first]  # copies with different labels follow the first of them
    chosen = np.zeros(len(ranks), bool)
    for label, quota in _quotas(labels, number).items():
        left = quota
        for index in np.flatnonzero(group_label == label):  # np.unique has sorted them by rank
            if left <= 0:
                break
            if sizes[index] <= left:
                chosen[index] = True
                left -= int(sizes[index])
    return np.flatnonzero(chosen[group.reshape(-1)])


def _quotas(labels: NDArray[np.int64], number: int) -> dict[int, int]:
    """`number` shared out over the classes in proportion, the largest remainders rounded up."""
    classes, counts = np.unique(labels, return_counts=True)
    shares = [number * int(count) / len(labels) for count in counts]
    quotas = [math.floor(share) for share in shares]
    order = sorted(range(len(shares)), key=lambda i: (quotas[i] - shares[i], classes[i]))
    for index in order[: number - sum(quotas)]:
        quotas[index] += 1
    return {int(label): quota for label, quota in zip(classes, quotas, strict=True)}
