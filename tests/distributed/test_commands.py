"""The command line with several processes, as a user has it: killed, interrupted, drawing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from zeuxis.checkpoint import load_model
from zeuxis.sampling import Sampler

PATIENCE = 200.0
TRAIN = ("train", "digits", "--model", "gan/mlp/tiny", "--precision", "float32", "--kernels", "plain", "--device",
         "cpu", "--snapshots", "1")  # fmt: skip


def begin(*command: str, cwd: Path) -> subprocess.Popen[str]:
    """A command whose processes have a thread each."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", *command], cwd=cwd, env=environment, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )  # fmt: skip


def when(there: object, process: subprocess.Popen[str], what: str) -> None:
    """Waits until `there()` is true; an assertion error where the process ends before, or nothing comes."""
    end = time.monotonic() + PATIENCE
    while not there():  # type: ignore[operator]
        assert process.poll() is None, f"ended before {what}: {process.communicate()[0]}"
        assert time.monotonic() < end, f"no {what}"
        time.sleep(0.05)


def log_of(folder: Path) -> str:
    return "".join(file.read_text() for file in folder.glob("runs/*/log.txt"))


def worker_of(launcher: int, rank: int) -> int | None:
    """The process id of one of the processes that a launcher has started."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                words = (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if parent == launcher and f"RANK={rank}".encode() in words:
                return int(entry.name)
    return None


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are found in /proc")
def test_a_killed_process_costs_what_came_after_the_last_state(tmp_path: Path) -> None:
    command = ("torch.distributed.run", "--nproc-per-node", "2", "--max-restarts", "2", "--monitor-interval", "0.1",
               "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", "-m", "zeuxis", *TRAIN,
               "--kimg", "6")  # fmt: skip
    with begin(*command, cwd=tmp_path) as process:
        when(lambda: list(tmp_path.glob("runs/*/state/*.json")), process, "a state")
        rank = worker_of(process.pid, 1)
        assert rank is not None
        os.kill(rank, signal.SIGKILL)
        output = process.communicate(timeout=PATIENCE)[0]
    assert process.returncode == 0, output
    log = log_of(tmp_path)
    assert "resumed at" in log and "finished: 6000 images" in log, log
    (run,) = (tmp_path / "runs").iterdir()
    # Two processes draw what one does, to the bit.
    command = ("zeuxis", "sample", str(run), "--seeds", "0-150", "--format", "npz", "--device", "cpu")
    with begin(*command, "--processes", "2", cwd=tmp_path) as process:
        assert process.wait(PATIENCE) == 0, process.communicate()[0]
    with np.load(tmp_path / "samples" / "samples.npz") as arrays:
        drawn = arrays["images"]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    expected = np.concatenate(list(Sampler(load_model(run))(range(151)))).transpose(0, 2, 3, 1)
    torch.set_num_threads(threads)
    assert (drawn == expected).all()


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="signals as Unix has them")
def test_a_signal_saves_once_and_the_same_command_goes_on(tmp_path: Path) -> None:
    command = ("zeuxis", *TRAIN, "--kimg", "600", "--processes", "2")  # rows come at shares of the length
    with begin(*command, cwd=tmp_path) as process:
        when(lambda: list(tmp_path.glob("runs/*/stats.jsonl")), process, "a step")
        process.send_signal(signal.SIGTERM)
        output = process.communicate(timeout=PATIENCE)[0]
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert log_of(tmp_path).count("interrupted at") == 1
    newest = max(int(file.stem) for file in tmp_path.glob("runs/*/state/0*.json"))
    assert f"interrupted at {newest} images" in log_of(tmp_path)


def test_a_mistake_is_one_line_before_anything_is_started(tmp_path: Path) -> None:
    with begin("zeuxis", *TRAIN, "--processes", "99", cwd=tmp_path) as process:
        output = process.communicate(timeout=PATIENCE)[0]
    assert process.returncode == 2
    assert output.count("\n") == 1 and "--processes: got 99" in output
