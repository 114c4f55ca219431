"""From a data set to the batches of a training, and to the codes that a stage trains on instead of pictures."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zeuxis import augment
from zeuxis.config import TrainOptions
from zeuxis.data import Dataset, Order, Split
from zeuxis.distributed import current
from zeuxis.errors import UserError
from zeuxis.families.base import Batch, Family, Noise
from zeuxis.images import to_float
from zeuxis.randomness import generator_for, seed_of

FIT_PICTURES = 10_000  # at most, that a part of the model is fitted to
CHUNK_PIXELS = 2**19  # of the pictures that are encoded at once
AHEAD_SHARE = 0.01  # of the time; where waiting takes more, the next batch is read while a step is computed

Encode = Callable[[Tensor, Tensor | None], Tensor]  # (images [N, C, H, W], labels [N] or None) -> codes [N, ...]


class Feed:
    """Pictures of the training split in a resumable order, as batches on the device.

    With `semi_supervised`, every batch comes with as many pictures that have a class, in an order of their own; with
    `watches_validation`, with as many validation pictures.
    With `codes` (array `[1 or 2, pictures, ...]`; the second half is of the mirrored pictures) batches carry them.
    """

    def __init__(
        self, dataset: Dataset, conditional: bool, options: TrainOptions, device: torch.device,
        semi_supervised: bool = False, watches_validation: bool = False,
    ) -> None:  # fmt: skip
        self.split, self.conditional, self.device = dataset.train, conditional, device
        self.labels = kept_labels(dataset.train.labels, options.labels, options.seed)
        self.mirror, self.seed = options.mirror, options.seed
        everything = np.arange(len(self.split))
        # A class-conditional model learns from the pictures that have a class.
        self.positions = everything[self.labels >= 0] if conditional else everything
        self.labelled = everything[self.labels >= 0] if semi_supervised else None
        self.val, self.held_out = dataset.val, None
        if watches_validation:
            everything = np.arange(len(self.val))
            self.held_out = everything[self.val.labels >= 0] if conditional else everything
            if not len(self.held_out):
                allowed = "only with validation pictures, and there are none"
                raise UserError("--set augment.adaptive", True, allowed, "--set augment.ramp=true needs none")
        if self.labelled is not None and not len(self.labelled):
            raise UserError("--semi-supervised", dataset.name, "data in which some pictures have a class",
                            "put each class into a sub-folder of its own, the rest into _unlabelled")  # fmt: skip
        self.order = Order(len(self.positions), seed_of(self.seed, "order"))
        self.chunk = max(1, min(256, CHUNK_PIXELS // (dataset.spec.frames * dataset.spec.height * dataset.spec.width)))
        self.codes: NDArray[np.generic] | None = None
        self.resident: Tensor | None = None  # all pictures uint8 on the device, where they fit there
        self.world = current()
        self.waited, self.begun = 0.0, time.perf_counter()  # seconds until pictures were there; since when
        self._reader: ThreadPoolExecutor | None = None
        self._next: tuple[tuple[int, int], Future[tuple[NDArray[np.int64], NDArray[np.uint8]]]] | None = None

    def batch(self, images_seen: int, count: int) -> Batch:
        """The `count` pictures that follow after `images_seen`; of several processes' each one its slice of them."""
        flip = augment.flips(count, generator_for(self.seed, "mirror", images_seen)) if self.mirror else None
        places, pixels = self._wait_for(images_seen, count)
        batch = self._batch(places, None if flip is None else flip[self.world.slice(count)], pixels)
        if self.labelled is not None:
            labelled = self._beside("labelled", self.split, self.labels, self.labelled, images_seen, count)
            batch = replace(batch, labelled=labelled)
        if self.held_out is not None:
            held_out = self._beside("held out", self.val, self.val.labels, self.held_out, images_seen, count)
            batch = replace(batch, held_out=held_out)
        return batch

    def _beside(
        self, what: str, split: Split, labels: NDArray[np.int64], among: NDArray[np.int64], images_seen: int, count: int
    ) -> Batch:
        """Pictures of a split at the positions `among`, as many as this process has of a batch, with their labels where
        these are needed; in an order of their own."""
        order = Order(len(among), seed_of(self.seed, what))
        positions = among[order.at(images_seen, count)[self.world.slice(count)]]
        images = to_float(torch.from_numpy(split.take(positions)).to(self.device))
        if self.mirror:
            flip = augment.flips(count, generator_for(self.seed, f"mirror {what}", images_seen))
            images = augment.mirror(images, flip[self.world.slice(count)])
        images = images.contiguous(memory_format=torch.channels_last)
        needed = self.conditional or what == "labelled"
        return Batch(images, torch.from_numpy(labels[positions]).to(self.device) if needed else None)

    def keep_on_device(self, most: int) -> bool:
        """Holds all training pictures on the device from here on, where they take at most `most` bytes; batches are
        then cut there, and nothing is waited for."""
        shape = self.split.take(np.arange(1)).shape[1:] if len(self.split) else ()
        if len(self.split) * int(np.prod(shape)) > most:
            return False
        self.resident = torch.empty((len(self.split), *shape), dtype=torch.uint8, device=self.device)
        for start in range(0, len(self.split), self.chunk):
            places = np.arange(start, min(start + self.chunk, len(self.split)))
            self.resident[start : start + len(places)] = torch.from_numpy(self.split.take(places)).to(self.device)
        return True

    # -- reading ahead ---------------------------------------------------------------------------------------------
    def _read(self, images_seen: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Places and pixels of this process's slice of a batch."""
        places = self.order.at(images_seen, count)[self.world.slice(count)]
        return places, self.split.take(self.positions[places])

    def _wait_for(self, images_seen: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.uint8] | None]:
        """`_read`, begun earlier where reading takes a noticeable share of the time; adds to `waited`."""
        began = time.perf_counter()
        if self.resident is not None:
            return self.order.at(images_seen, count)[self.world.slice(count)], None
        if self._next is None:
            read = self._read(images_seen, count)
        else:
            key, future = self._next
            read = future.result()
            if key != (images_seen, count):  # after a rollback or in another stage
                read = self._read(images_seen, count)
        now = time.perf_counter()
        self.waited += now - began
        if self._reader is None and now - self.begun > 1 and self.waited > AHEAD_SHARE * (now - self.begun):
            self._reader = ThreadPoolExecutor(1, "reading ahead")
        if self._reader is not None:
            self._next = (images_seen + count, count), self._reader.submit(self._read, images_seen + count, count)
        return read

    @property
    def waiting(self) -> float:
        """The share of the time since this was made that `batch` waited for pictures."""
        return self.waited / max(1e-9, time.perf_counter() - self.begun)

    def close(self) -> None:
        """Ends reading ahead."""
        if self._reader is not None:
            self._reader.shutdown(wait=True, cancel_futures=True)
            self._reader = self._next = None

    # -- batches ---------------------------------------------------------------------------------------------------
    def once(self, most: int = FIT_PICTURES) -> Iterator[Batch]:
        """Up to `most` pictures spread evenly over the training split, once, not mirrored."""
        places = np.linspace(0, len(self.positions) - 1, min(most, len(self.positions))).astype(np.int64)
        for start in range(0, len(places), self.chunk):
            yield self._batch(places[start : start + self.chunk], None)

    def _batch(self, places: NDArray[np.int64], flip: Tensor | None, pixels: NDArray[np.uint8] | None = None) -> Batch:
        """The pictures at `places` among `positions`; those that `flip` names are mirrored."""
        positions = self.positions[places]
        images = to_float(self._on_device(positions, pixels))
        if images.ndim == 4:
            images = images.contiguous(memory_format=torch.channels_last)
        labels, codes = None, None
        if flip is not None:
            images = augment.mirror(images, flip)
        if self.conditional:
            labels = torch.from_numpy(self.labels[positions]).to(self.device)
        if self.codes is not None:
            side = np.zeros(len(places), np.int64) if flip is None else flip.numpy().astype(np.int64)
            codes = _tensor(np.asarray(self.codes[side, places])).to(self.device)
        return Batch(images, labels, codes)

    def _on_device(self, positions: NDArray[np.int64], pixels: NDArray[np.uint8] | None) -> Tensor:
        """Pictures uint8 at `positions` of the split, which may have been read as `pixels` already."""
        if self.resident is not None:
            return self.resident[torch.from_numpy(positions).to(self.device)]
        read = torch.from_numpy(self.split.take(positions) if pixels is None else pixels)
        if self.device.type == "cuda":  # copied while the card still computes
            return read.pin_memory().to(self.device, non_blocking=True)
        return read.to(self.device)

    # -- codes -----------------------------------------------------------------------------------------------------
    def encode(self, encode: Encode, file: Path) -> bool:
        """Batches carry the codes of `encode` from here on; kept in `file` (.npy), which is made where there is none.

        The file is whole or absent. Returns whether it was made. `OSError` where the disk is full.
        """
        made = not file.exists()
        if made:
            self._write_codes(encode, file)
        self.codes = np.load(file, mmap_mode="r", allow_pickle=False)
        return made

    def _write_codes(self, encode: Encode, file: Path) -> None:
        temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
        sides = (False, True) if self.mirror else (False,)
        try:
            with open(temporary, "wb") as stream:
                for side, start in ((s, at) for s in sides for at in range(0, len(self.positions), self.chunk)):
                    places = np.arange(start, min(start + self.chunk, len(self.positions)))
                    batch = self._batch(places, torch.full((len(places),), side))
                    with torch.inference_mode():
                        codes = _array(encode(batch.images, batch.labels))
                    if not stream.tell():
                        shape = (len(sides), len(self.positions), *codes.shape[1:])
                        header = {"descr": codes.dtype.str, "fortran_order": False, "shape": shape}
                        np.lib.format.write_array_header_1_0(stream, header)
                    stream.write(codes.tobytes())
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, file)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


def training_noise(family: Family, count: int, device: torch.device, *key: object) -> Noise:
    """What a step needs of chance for `count` pictures, on the device, as `key` says.

    On a CUDA device it is drawn there: drawn on the CPU and copied it would take longer than a small network's step.
    """
    if device.type != "cuda":
        drawn = family.noise(count, generator_for(*key), "train")
        return {name: value.to(device) for name, value in drawn.items()}
    with device:  # where tensors are made that name no device
        return family.noise(count, generator_for(*key, device=device), "train")


def kept_labels(labels: NDArray[np.int64], count: int | None, seed: int) -> NDArray[np.int64]:
    """`labels` `[N]` with all but `count` of them hidden (-1), as equally many of each class as there are; all with
    None. Which ones are kept depends on the seed alone."""
    if count is None:
        return labels
    classes = np.unique(labels[labels >= 0])
    if not len(classes) <= count <= int((labels >= 0).sum()):
        allowed = f"{len(classes)} (one of each class) to {int((labels >= 0).sum())}"
        raise UserError("--labels", count, allowed, "leave --labels out to keep every class that the data say")
    order = np.random.default_rng(seed_of(seed, "labels")).permutation(len(labels))
    # The first picture of every class, then the second of every class, and so on.
    turns = [(turn, position) for label in classes
             for turn, position in enumerate(order[labels[order] == label])]  # fmt: skip
    kept = [position for _, position in sorted(turns)[:count]]
    hidden = np.full_like(labels, -1)
    hidden[kept] = labels[kept]
    return hidden


def _array(codes: Tensor) -> NDArray[np.generic]:
    """Codes as they are kept: integers as uint16, float16 as it is, other floats as float32."""
    if codes.is_floating_point():
        return codes.to("cpu", torch.float16 if codes.dtype == torch.float16 else torch.float32).contiguous().numpy()
    least, most = torch.aminmax(codes)
    assert int(least) >= 0 and int(most) < 2**16, f"codes go from {int(least)} to {int(most)}, 0 to 65,535 can be kept"
    return codes.cpu().contiguous().numpy().astype(np.uint16)


def _tensor(codes: NDArray[np.generic]) -> Tensor:
    """Kept codes as they are trained on: int64 or float32."""
    return torch.from_numpy(codes.astype(np.int64 if codes.dtype == np.uint16 else np.float32))
