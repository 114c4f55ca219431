"""The command line as a user has it: whole processes, one thread each, in a folder of their own."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from zeuxis.checkpoint import StateStore
from zeuxis.files import read_json_lines

TINY = ("--model", "gan/mlp/tiny", "--precision", "float32", "--kernels", "plain")
PATIENCE = 120.0  # seconds after which a process that should have come to something is given up


def environment() -> dict[str, str]:
    """One thread, so that processes beside each other do not wait for each other, and no terminal's habits."""
    kept = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "FORCE_COLOR", "TERM")}
    return {**kept, "OMP_NUM_THREADS": "1"}


def begin(*arguments: object, cwd: Path) -> subprocess.Popen[str]:
    """`zeuxis ARGUMENTS`, begun."""
    command = [sys.executable, "-m", "zeuxis", *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=cwd, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def zeuxis(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """`zeuxis ARGUMENTS`, to its end."""
    with begin(*arguments, cwd=cwd) as process:
        out, err = process.communicate(timeout=PATIENCE)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def until(reached: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Waits for a state of the files; fails where the process ends before, or never gets there."""
    end = time.monotonic() + PATIENCE
    while not reached():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)


def runs(out: Path) -> list[Path]:
    """The run folders in `out`."""
    return sorted(out.glob("[0-9]*-*"))


def log_of(out: Path) -> str:
    """The logs of all runs in `out`."""
    return "".join(log.read_text() for log in sorted(out.glob("*/log.txt")))


def fingerprint(run: Path) -> tuple[str, list[dict[str, float]], list[dict[str, float]], str]:
    """Everything of a run that must not depend on how often it was interrupted: state, rows, model."""
    (tensors, values), notes = StateStore(run / "state").load_latest()  # type: ignore[misc]
    assert notes == []
    digest = hashlib.sha256()
    for key in sorted(tensors):
        digest.update(key.encode() + tensors[key].contiguous().numpy().tobytes())
    kept = {key: value for key, value in values.items() if key not in ("elapsed", "snapshot_seconds", "snapshot_total")}
    digest.update(json.dumps(kept, sort_keys=True).encode())
    timed = ("seconds", "waiting for data")
    rows = [[{key: value for key, value in row.items() if key not in timed} for row in read_json_lines(run / file)]
            for file in ("stats.jsonl", "metrics.jsonl")]  # fmt: skip
    weights = hashlib.sha256((run / "model" / "model.safetensors").read_bytes()).hexdigest()
    return digest.hexdigest(), rows[0], rows[1], weights
