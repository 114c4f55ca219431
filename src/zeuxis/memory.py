"""How much memory there is, how much a block of work takes at most, how running out of it shows, and how blocks are
kept."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
import threading
from pathlib import Path
from types import TracebackType

import torch

LOOK_SECONDS = 0.004  # between two looks at what the process holds
# How PyTorch, its libraries and the C++ library say that memory is out, where it is not a MemoryError.
SIGNS = ("can't allocate memory", "cannot allocate memory", "not enough memory", "out of memory", "bad_alloc")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory ran out, on the device or in the machine."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in SIGNS)


def give_back(device: torch.device) -> None:
    """Hands memory that is no longer used back to the system, as far as that can be done."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):  # only glibc has it
            ctypes.CDLL(None).malloc_trim(0)


def keep_large_blocks() -> bool:
    """Tells glibc's allocator to keep large blocks of this process for what comes next, instead of asking the kernel
    for zeroed pages each time.

    Whoever computes with networks wants it: fresh pages cost as much as the layers that fill them. Elsewhere nothing
    happens; returns whether it was done.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    trim_threshold, mmap_threshold = -1, -3  # names in malloc.h
    return bool(mallopt(mmap_threshold, 2**30) and mallopt(trim_threshold, 2**31 - 1))


def free_bytes(device: torch.device) -> int:
    """Bytes that a training may still take: of the card, else of the machine or what this process is limited to."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    limits = [_meminfo("MemAvailable")]
    with contextlib.suppress(ImportError, OSError):
        import resource

        soft = resource.getrlimit(resource.RLIMIT_AS)[0]
        if soft != resource.RLIM_INFINITY:
            limits.append(max(0, soft - _status("VmSize")))
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            limits.append(max(0, int(Path(path).read_text()) - _status("RssAnon")))
    known = [limit for limit in limits if limit]
    return min(known) if known else 2**62


class MemoryWatch:
    """Within the block, `peak` becomes the largest number of bytes held: of the card, else anonymous memory of this
    process (pages that no file backs), which Linux alone tells; 0 elsewhere."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.peak = device, 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    @staticmethod
    def now(device: torch.device) -> int:
        """Bytes held at this moment, after what is not used was given back."""
        give_back(device)
        return torch.cuda.memory_allocated(device) if device.type == "cuda" else _status("RssAnon")

    def __enter__(self) -> MemoryWatch:
        give_back(self.device)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.device.type == "cuda":
            self.peak = torch.cuda.max_memory_allocated(self.device)
            return
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while True:
            self.peak = max(self.peak, _status("RssAnon"))
            if self._over.wait(LOOK_SECONDS):
                return


def _status(key: str) -> int:
    """Bytes of an entry of this process's status; 0 where there is none."""
    return _kilobytes("/proc/self/status", key)


def _meminfo(key: str) -> int:
    return _kilobytes("/proc/meminfo", key)


def _kilobytes(path: str, key: str) -> int:
    try:
        with open(path, encoding="ascii") as file:
            return next((int(line.split()[1]) * 1024 for line in file if line.startswith(key + ":")), 0)
    except (OSError, ValueError):
        return 0
