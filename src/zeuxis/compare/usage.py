"""The most memory at once while something ran, where the system or the accelerator tells it."""

from __future__ import annotations

import gc
from pathlib import Path

import torch

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def reset_peak() -> bool:
    """Starts counting anew; False where this system cannot (the peak of the process since its start would mislead)."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return True
    try:
        RESET.write_text("5")  # Linux: the high-water mark becomes what is used now (proc(5))
    except OSError:
        return False
    return True


def peak_bytes() -> int | None:
    """Most bytes since `reset_peak`: of the accelerator where there is one, else of the process; None if unknown."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return None
    marks = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(marks[0]) * 1024 if marks else None
