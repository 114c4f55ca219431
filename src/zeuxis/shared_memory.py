"""What the processes of one machine add up, through memory that all of them see.

gloo sends to the process beside it through the network stack: a gradient is copied some ten times, and even one number
takes two threads that wait for a core of their own, which busy processes do not leave them: a millisecond, several
times in each step. Here each process writes into a row of a file in memory and counts what it wrote; the others look
at the count. Only where stores are seen in the order in which they were made (x86), and on Linux.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

HERE = sys.platform == "linux" and platform.machine() == "x86_64"
FOLDER = "/dev/shm"  # Linux's files in memory
LINE = 64  # bytes that processors hand to each other as one; counts lie apart by as much
SMALL = 16_384  # bytes: what all processes read of all others; above, each adds up its part
NUMBERS = (torch.float32, torch.float64, torch.int64)
LOOKS, YIELDS = 300, 3000  # looks at the others' counts: in a row, then giving way to whoever has no core
NAP, LONGEST = 1e-4, 5e-3  # seconds of sleep between two looks after that, longer each time
CHECK = 0.5  # seconds of waiting after which somebody may be dead


class SharedMemory:
    """Rows for `size` processes; all must call `gather` and `add_` in the same order with tensors of the same size.

    `share` (what rank 0 has) and `all_reduce` (a sum, in place) are the slow way to speak, by which the memory is set
    up. Where there is not enough memory in one process (a container's is often small), none uses it: the results are
    None and False then.
    """

    counts: memoryview  # meetings that each process has come to, `LINE` bytes apart
    small: Tensor  # uint8 [2, size, SMALL]: rows of two calls of `gather`
    large: Tensor  # uint8 [size + 1, most]: rows, and their sum

    def __init__(
        self, rank: int, size: int, share: Callable[[Any], Any], all_reduce: Callable[[Tensor], object],
        folder: str = FOLDER,
    ) -> None:  # fmt: skip
        self.rank, self.size, self.share, self.all_reduce, self.folder = rank, size, share, all_reduce, folder
        self.most, self.refused = -1, sys.maxsize  # bytes of a large tensor: there is room for, there was none for
        self.gathered = 0  # calls of `gather`
        self.others: dict[int, tuple[int, str]] = {}  # rank -> process, and when it was started

    @torch.no_grad()
    def gather(self, tensor: Tensor) -> Tensor | None:
        """The contiguous tensors of all processes, of at most `SMALL` bytes, `[size, numbers]`."""
        if not self._takes(tensor) or tensor.nbytes > SMALL or not self._room(0):
            return None
        rows = self.small[self.gathered % 2, :, : tensor.nbytes].view(tensor.dtype)
        self.gathered += 1
        rows[self.rank] = tensor.view(-1)
        self._meet()
        return rows.clone()  # the rows are written again only after one more meeting

    @torch.no_grad()
    def add_(self, tensor: Tensor) -> bool:
        """Replaces a contiguous tensor by its sum over all processes, equal to the bit in all of them."""
        if (all_of_them := self.gather(tensor)) is not None:
            tensor.view(-1).copy_(all_of_them.sum(0))
            return True
        if not self._takes(tensor) or not self._room(tensor.nbytes):
            return False
        flat, rows = tensor.view(-1), self.large[:, : tensor.nbytes].view(tensor.dtype)
        part = slice(self.rank * len(flat) // self.size, (self.rank + 1) * len(flat) // self.size)
        rows[self.rank] = flat
        self._meet()  # all rows are written, and nobody reads the last sum any more
        total = torch.add(rows[0, part], rows[1, part], out=rows[-1, part])
        for rank in range(2, self.size):
            total.add_(rows[rank, part])
        self._meet()  # all parts are added up
        flat.copy_(rows[-1])
        return True

    def _takes(self, tensor: Tensor) -> bool:
        plain = tensor.device.type == "cpu" and tensor.dtype in NUMBERS and tensor.is_contiguous()
        return HERE and plain and tensor.numel() > 0

    def _meet(self) -> None:
        """Until every process has come this far; `RuntimeError` where one has ended."""
        self.meetings += 1
        counts, meetings = self.counts, self.meetings
        counts[self.rank * LINE // 8] = meetings
        for rank in self.others:
            place, looks, checked = rank * LINE // 8, 0, time.monotonic()
            while counts[place] < meetings:
                looks += 1
                if looks > LOOKS + YIELDS:
                    time.sleep(min(NAP * (looks - LOOKS - YIELDS), LONGEST))
                    if time.monotonic() - checked > CHECK:
                        checked = time.monotonic()
                        self._check(rank)
                elif looks > LOOKS:
                    os.sched_yield()
                    time.sleep(0)  # lets other threads of this process in

    def _check(self, rank: int) -> None:
        process, started = self.others[rank]
        if _started(process) != started:
            raise RuntimeError(f"process {rank} of this machine ended")

    # -- setting it up -----------------------------------------------------------------------------------------------
    def _room(self, count: int) -> bool:
        """Whether there is room for large tensors of `count` bytes; makes more, in all processes or in none."""
        if self.most < count < self.refused and not self._grow(-(-count // LINE) * LINE):
            self.refused = count
        return count <= self.most

    def _grow(self, most: int) -> bool:
        sizes = [self.size * LINE, 2 * self.size * SMALL, (self.size + 1) * most]
        path = (_attempt(lambda: _reserve(self.folder, sum(sizes))) or "") if self.rank == 0 else None
        path = self.share(path)
        opened = _attempt(lambda: _open(path, sum(sizes))) if path else None
        here = torch.zeros(self.size, 3, dtype=torch.int64)
        process = os.getpid()
        here[self.rank] = torch.tensor([opened is not None, process, int(_started(process) or -1)])
        self.all_reduce(here)
        self.others = {rank: (int(row[1]), str(int(row[2]))) for rank, row in enumerate(here) if rank != self.rank}
        # Processes that do not see each other's numbers could not tell that one has ended.
        seen = torch.tensor(all(_started(process) == started for process, started in self.others.values())).long()
        self.all_reduce(seen)
        if self.rank == 0 and path:
            os.unlink(path)  # what is open stays; nothing is left behind, however a process ends
        if opened is None or not here[:, 0].all() or int(seen) < self.size:
            return False
        counts, small, large = opened.split(sizes)
        self.counts, self.meetings = memoryview(counts.view(torch.int64).numpy()), 0
        self.small, self.large = small.view(2, self.size, SMALL), large.view(self.size + 1, most)
        self.most = most
        return True


def _attempt(make: Callable[[], Any]) -> Any:
    """What `make` makes, or None where the system refuses."""
    try:
        return make()
    except (OSError, RuntimeError):
        return None


def _reserve(folder: str, count: int) -> str:
    """The path of a new file of `count` zeros that are really there: one that only seems that long ends the process
    where it writes past the memory's end."""
    handle, path = tempfile.mkstemp(prefix="zeuxis-", dir=folder)
    try:
        os.posix_fallocate(handle, 0, count)
    except OSError:
        os.unlink(path)
        raise
    finally:
        os.close(handle)
    return path


def _open(path: str, count: int) -> Tensor:
    """The bytes of a file of just this length; `from_file` would make one that is not there."""
    if os.path.getsize(path) != count:
        raise OSError(f"{path} is another file")
    return torch.from_file(path, shared=True, size=count, dtype=torch.uint8)


def _started(process: int) -> str | None:
    """When a process was started, in ticks of the clock; None where it has ended."""
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8") as file:
            fields = file.read().rpartition(")")[2].split()  # of state on: the name before may hold anything
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]
