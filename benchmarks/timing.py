"""Fair timing: two things in turns, each warmed up, medians over the turns; and the lines that docs/benchmarks.md is
made from."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
_kept: list[dict[str, object]] = []


@dataclass(frozen=True)
class Turns:
    """Seconds of both sides, one pair per turn."""

    ours: list[float]
    peer: list[float]

    @property
    def ratios(self) -> list[float]:
        """How many times as long the peer took, turn by turn: what else the machine did in a turn hit both."""
        return [peer / ours for ours, peer in zip(self.ours, self.peer, strict=True)]

    @property
    def seconds(self) -> tuple[float, float]:
        """Median of each side."""
        return statistics.median(self.ours), statistics.median(self.peer)

    def to_json(self) -> dict[str, object]:
        """The median ratio, its range over the turns and the number of turns, for `report`."""
        ratios = self.ratios
        return {"ratio": round(statistics.median(ratios), 3), "ratio_range": [round(min(ratios), 3),
                round(max(ratios), 3)], "turns": len(ratios)}  # fmt: skip


def seconds(function: Callable[[], object]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def in_turns(ours: Callable[[], object], peer: Callable[[], object], *, turns: int = 7, warm_up: int = 1) -> Turns:
    """Seconds of each in `turns` alternations, after `warm_up` calls of both."""
    for _ in range(warm_up):
        ours()
        peer()
    pairs = [(seconds(ours), seconds(peer)) for _ in range(turns)]
    return Turns([own for own, _ in pairs], [other for _, other in pairs])


def instructions() -> str:
    """The widest matrix instructions that PyTorch's kernels may use here: amx, avx512_bf16, avx512, avx2, or the
    machine's kind. `ONEDNN_MAX_CPU_ISA` and `ATEN_CPU_CAPABILITY` lower it, as a run on a lesser processor would."""
    flags = _cpuinfo("flags").split()
    has = {"amx": "amx_bf16" in flags, "avx512_bf16": "avx512_bf16" in flags, "avx512": "avx512f" in flags,
           "avx2": "avx2" in flags}  # fmt: skip
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "").lower()
    words = {"amx": "amx", "avx512_bf16": "bf16", "avx512": "avx512"}
    allowed = next((name for name, word in words.items() if word in limit), "avx2") if limit else "amx"
    order = list(has)
    has = {name: there and order.index(name) >= order.index(allowed) for name, there in has.items()}
    return next((name for name, there in has.items() if there), platform.machine())


def gpu() -> str:
    """The card's name, "" where there is none or the script computes without PyTorch."""
    torch = sys.modules.get("torch")
    return torch.cuda.get_device_name(0) if torch is not None and torch.cuda.is_available() else ""


def machine() -> dict[str, object]:
    """What the numbers of this run depend on, without the name of the machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "cpu": _cpuinfo("model name") or platform.processor() or platform.machine(), "cores": cores,
        "instructions": instructions(), "amx": instructions() == "amx", "system": platform.system(),
        "torch": version("torch"), "python": platform.python_version(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"), "load_before": load if load is None else round(load, 2),
    }  # fmt: skip


def report(name: str, **values: object) -> None:
    """One JSON line. With `ZEUXIS_KEEP_RESULTS=1` all lines of this run also go, with the machine's description, into
    `results/SCRIPT.INSTRUCTIONS.json` (of a machine with a GPU, the card's name), which `write_tables.py` makes the
    tables of docs/benchmarks.md from; with `ZEUXIS_KEEP_RESULTS=add` lines of other names that are there stay, as those
    of another data set."""
    line = {"benchmark": name, **values}
    print(json.dumps(line), flush=True)
    _kept.append(line)
    if os.environ.get("ZEUXIS_KEEP_RESULTS"):
        RESULTS.mkdir(exist_ok=True)
        kind = gpu().lower().replace(" ", "_") or _MACHINE["instructions"]
        path = RESULTS / f"{Path(sys.argv[0]).stem}.{kind}.json"
        there: list[dict[str, object]] = []
        if os.environ["ZEUXIS_KEEP_RESULTS"] == "add" and path.exists():
            there = json.loads(path.read_text(encoding="utf-8"))["lines"]
        names = {kept["benchmark"] for kept in _kept}
        lines = [old for old in there if old["benchmark"] not in names] + _kept
        described = _MACHINE | ({"gpu": gpu()} if gpu() else {})
        document: dict[str, Any] = {"machine": described, "lines": lines}
        path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _cpuinfo(key: str) -> str:
    """The first entry of that name in Linux's description of the processor; "" elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")


_MACHINE = machine()  # at the start of the run: the load is that of others
