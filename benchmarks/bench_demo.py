"""`zeuxis demo` from a cold start to its exit: seconds, processor time, and what it says of its digits.

The target is 3 minutes on two cores with AMX and 6 minutes without. Where a processor has AMX, this shows the other:
`ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 python benchmarks/bench_demo.py`.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from timing import instructions, report

LIMIT_SECONDS = {True: 180, False: 360}  # with AMX, without


def demo(folder: Path) -> tuple[float, float, str]:
    """Seconds, processor seconds and the output of one run, with an empty cache."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "zeuxis", "demo", "--out", str(folder / "runs")], stdout=subprocess.PIPE, text=True,
        stderr=subprocess.STDOUT, env={**os.environ, "ZEUXIS_CACHE": str(folder / "cache")},
    )  # fmt: skip
    taken, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"zeuxis demo ended with {done.returncode}:\n{done.stdout}")
    return taken, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


def share(pattern: str, text: str) -> float:
    """The percentage that follows `pattern` in the output of the demo."""
    found = re.search(pattern + r"\s*([\d.]+)%", " ".join(text.split()))
    assert found, f"the demo no longer says {pattern!r}:\n{text}"
    return float(found[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=1)
    times, busy, readable, rarest = [], [], [], []
    for _ in range(parser.parse_args().times):
        with tempfile.TemporaryDirectory() as temporary:
            taken, processor, text = demo(Path(temporary))
        times.append(taken)
        busy.append(processor)
        readable.append(share("agree on the class of", text))
        rarest.append(share("the rarest class has", text))
    amx = instructions() == "amx"
    report(
        "zeuxis demo", seconds=round(statistics.median(times), 1), at_most_seconds=LIMIT_SECONDS[amx],
        processor_seconds=round(statistics.median(busy), 1), readable_percent=readable, at_least_readable_percent=65,
        rarest_class_percent=rarest, at_least_rarest_class_percent=4, times=len(times),
    )  # fmt: skip


if __name__ == "__main__":
    main()
