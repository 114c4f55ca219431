"""The most memory at once while something ran, where the system or the accelerator tells it."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from pathlib import Path

import torch

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def reset_peak(device: torch.device) -> bool:
    """Starts counting anew; False where this system cannot (the peak of the process since its start would mislead)."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return True
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # glibc keeps what an earlier model freed; it is not this one's
    try:
        RESET.write_text("5")  # Linux: the high-water mark becomes what is used now (proc(5))
    except OSError:
        return False
    return True


def peak_bytes(device: torch.device) -> int | None:
    """Most bytes since `reset_peak`: allocated on a CUDA device, else held by the process; None if unknown."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return None
    marks = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(marks[0]) * 1024 if marks else None
