"""The order in which pictures are shown: an endless stream of shuffled epochs that can be entered at any
place."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Order:
    """Epoch after epoch over `length` pictures, each epoch its own permutation.

    Place p of the stream is a function of (`seed`, p) alone: not of batch size, rank, process or numpy's
    version. One epoch's permutation is kept (4 bytes a picture).
    """

    def __init__(self, length: int, seed: int) -> None:
        if length < 1:
            raise ValueError("an order needs at least one picture")
        self.length, self.seed = length, seed
        self._epoch, self._permutation = -1, np.empty(0, np.int32)

    def at(self, start: int, count: int) -> NDArray[np.int64]:
        """Positions of the pictures at places `start` to `start + count` of the stream, int64 `[count]`."""
        result = np.empty(count, np.int64)
        done = 0
        while done < count:
            epoch, offset = divmod(start + done, self.length)
            part = self._of_epoch(epoch)[offset : offset + count - done]
            result[done : done + len(part)] = part
            done += len(part)
        return result

    def _of_epoch(self, epoch: int) -> NDArray[np.int32]:
        if epoch != self._epoch:
            # Sorting raw bits of a fixed generator, because numpy may change how `permutation` draws.
            bits = np.random.Philox(np.random.SeedSequence([self.seed % 2**64, epoch])).random_raw(self.length)
            self._permutation = np.argsort(bits, kind="stable").astype(np.int32)
            self._epoch = epoch
        return self._permutation
