"""Moving MNIST's protocol (Srivastava, Mansimov, Salakhutdinov 2015, arXiv 1502.04681, section 4.1) with other
pictures: two of them move over a canvas and bounce off its edges. The same to the bit on every machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zeuxis.data.builtin import find_fashion, load_digits
from zeuxis.data.clips import empty_listing, with_reels
from zeuxis.data.idx import read_images
from zeuxis.data.listing import TEST, TRAIN, Listing
from zeuxis.errors import DataError

FRAMES = 20
STEP = 0.1  # of the way a picture can go, per frame, as in the programme that made the original
UNIT = 1 << 16  # positions are whole numbers of this part of a pixel: no rounding differs between machines
MOST_TEST = 10_000
BLOCK = 64  # clips made at a time
MOST_CLIPS = 200_000


@dataclass(frozen=True)
class Kind:
    """Side of the canvas and of the pictures on it in pixels, and how many clips there are unless asked otherwise."""

    canvas: int
    side: int
    train: int
    test: int


MOVING = {"moving-fashion-mnist": Kind(64, 28, 10_000, MOST_TEST), "moving-digits": Kind(32, 16, 2_000, 500)}


def parse_moving(data: str) -> tuple[str, int, int] | None:
    """(name, training clips, test clips) of `NAME` or `NAME:TRAIN` or `NAME:TRAIN:TEST`; None for any other DATA."""
    name, *numbers = data.split(":")
    if name not in MOVING:
        return None
    kind = MOVING[name]
    asked = [int(text) if text.isdecimal() and len(text) < 7 else -1 for text in numbers]
    if len(asked) > 2 or any(not 1 <= number <= MOST_CLIPS for number in asked):
        allowed = f"{name}, {name}:TRAIN or {name}:TRAIN:TEST with 1 to {MOST_CLIPS} clips"
        raise DataError("DATA", data, allowed, f"try {name}:1000:200")
    train = asked[0] if asked else kind.train
    return name, train, asked[1] if len(asked) > 1 else min(kind.test, train, MOST_TEST)


def bounce(rng: np.random.Philox, count: int, frames: int, room: int, turns: bool = False) -> NDArray[np.int64]:
    """Left or top corners of `count` pictures in whole pixels, int64 `[count, frames, 2]`, each from 0 to `room`.

    They begin anywhere, go a tenth of `room` per frame in any direction, and are thrown back by the edges; with
    `turns` an edge throws back in a random direction, so that the future is not determined (Denton & Fergus 2018).
    """
    draws = rng.random_raw(count * 3).reshape(count, 3) >> np.uint64(32)  # 32 bits each
    limit = room * UNIT
    place = (draws[:, :2].astype(np.int64) * limit) >> 32
    speed = _direction(draws[:, 2], room)
    corners = np.empty((count, frames, 2), np.int64)
    for frame in range(frames):
        corners[:, frame] = (place + UNIT // 2) // UNIT
        place += speed
        outside = (place < 0) | (place > limit)  # [count, 2]
        place = place.clip(0, limit)
        if turns:
            fresh = _direction(rng.random_raw(count) >> np.uint64(32), room)
            speed = np.where(outside.any(1, keepdims=True), fresh, speed)
            inward = np.where(place == 0, 1, -1)
            speed = np.where(outside, inward * np.abs(speed), speed)
        else:
            speed = np.where(outside, -speed, speed)
    return corners.clip(0, room)


def _direction(draws: NDArray[np.uint64], room: int) -> NDArray[np.int64]:
    """Steps `[N, 2]` in 1/UNIT pixel of uniform direction, from 32 random bits each."""
    angle = draws.astype(np.float64) * (2 * np.pi / 2**32)
    return np.rint(np.stack([np.cos(angle), np.sin(angle)], axis=1) * (STEP * room * UNIT)).astype(np.int64)


def moving_clips(
    pictures: NDArray[np.uint8], count: int, *, frames: int = FRAMES, canvas: int = 64, seed: int = 0, first: int = 0,
    objects: int = 2, turns: bool = False,
) -> NDArray[np.uint8]:  # fmt: skip
    """Clips number `first` to `first + count` of a seed, uint8 `[count, frames, canvas, canvas]`.

    Each shows `objects` of `pictures` (uint8 `[N, side, side]`), drawn anew for each clip; where they overlap the
    brighter value is seen. Clip k depends on (`seed`, k) alone.
    """
    side = pictures.shape[1]
    clips = np.zeros((count, frames, canvas, canvas), np.uint8)
    for index in range(count):
        rng = np.random.Philox(np.random.SeedSequence([seed, first + index]))
        chosen = (rng.random_raw(objects) % np.uint64(len(pictures))).astype(np.int64)
        corners = bounce(rng, objects, frames, canvas - side, turns)
        for which, path in zip(chosen, corners, strict=True):
            for frame, (left, top) in enumerate(path):
                place = clips[index, frame, top : top + side, left : left + side]
                np.maximum(place, pictures[which], out=place)
    return clips


class MovingSource:
    """`moving-fashion-mnist` (28x28 on 64x64) or `moving-digits` (the embedded digits, enlarged to 16x16, on 32x32):
    training clips of training pictures, test clips of test pictures."""

    count = bytes = 0

    def __init__(self, name: str, train: int, test: int, frames: int, cache: Path) -> None:
        self.name, self.sizes, self.frames, self.cache = name, {TRAIN: train, TEST: test}, frames, cache
        self.kind = MOVING[name]
        self.shape = (self.kind.canvas, self.kind.canvas, 1)
        self.lengths = [frames] * (train + test)

    def quick(self) -> str:
        """Everything that the clips depend on."""
        return f"moving 1 {self.name} {self.sizes[TRAIN]} {self.sizes[TEST]} {self.frames} {STEP} {self.kind}"

    @cached_property
    def pictures(self) -> dict[int, NDArray[np.uint8]]:
        """uint8 `[N, side, side]` by split."""
        if self.name == "moving-fashion-mnist":
            folder = find_fashion(self.cache)
            files = {TRAIN: "train-images-idx3-ubyte.gz", TEST: "t10k-images-idx3-ubyte.gz"}
            return {code: read_images(folder / file)[..., 0] for code, file in files.items()}
        images, side = load_digits()[0], (self.kind.side, self.kind.side)
        large = np.stack(
            [np.asarray(Image.fromarray(image).resize(side, Image.Resampling.BILINEAR)) for image in images]
        )
        held = np.arange(len(large)) % 5 == 0
        return {TRAIN: large[~held], TEST: large[held]}

    def blocks(self, size: int) -> Iterator[NDArray[np.uint8]]:
        """All frames in order, uint8 `[n, H, W, 1]`."""
        for code, count in self.sizes.items():
            for first in range(0, count, BLOCK):
                clips = moving_clips(
                    self.pictures[code], min(BLOCK, count - first), frames=self.frames, canvas=self.kind.canvas,
                    seed=code, first=first,
                )  # fmt: skip
                flat = clips.reshape(-1, *self.shape)
                yield from (flat[start : start + size] for start in range(0, len(flat), size))

    def listing(self) -> Listing:
        """Training clips, then test clips."""
        none = np.empty(0, np.int64)
        made = with_reels(empty_listing(), none, none, [], [self])
        test = np.arange(len(self.lengths)) >= self.sizes[TRAIN]
        made.splits = np.where(test, np.int8(TEST), np.int8(TRAIN))[made.clips].astype(np.int8)
        return made
