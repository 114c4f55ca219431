"""Starting this command once more in several processes, by PyTorch's own engine (what `torchrun` is the command of)."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
from pathlib import Path

LAUNCH = "ZEUXIS_LAUNCH"  # also in zeuxis.distributed, which is too heavy to be loaded at every start
RESTARTS = 3  # of all processes, when one of them was killed
SAVE_SECONDS = 300  # that processes have to save after a signal
LOST = 75  # exit code of who lost another process: not an end of its own


def launch(processes: int) -> int:
    """Runs this command line in `processes` processes on this machine; returns its exit code.

    They meet through a file and speak over the loopback address. When one of them is killed, all begin again, at most
    `RESTARTS` times, and go on from the last state. The cores are divided among them.
    """
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    from zeuxis.distributed import cores

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # what it has to say, we say shorter
    with tempfile.TemporaryDirectory(prefix="zeuxis-") as folder:
        os.environ[LAUNCH] = folder
        os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"  # its store would listen on every address
        os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(SAVE_SECONDS))
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores() // processes)))
        config = LaunchConfig(
            min_nodes=1, max_nodes=1, nproc_per_node=processes, run_id="zeuxis", max_restarts=RESTARTS,
            monitor_interval=0.1, local_addr="127.0.0.1", logs_specs=DefaultLogsSpecs(log_dir=folder),
            rdzv_backend="c10d", rdzv_endpoint=str(Path(folder) / "rendezvous"), rdzv_configs={"store_type": "file"},
        )  # fmt: skip
        try:
            elastic_launch(config, sys.executable)("-m", "zeuxis", *sys.argv[1:])
        except ChildFailedError as error:
            said = said_code()
            return said if said is not None else _as_shell(error.get_first_failure()[1].exitcode)
        except SignalException:
            return 130
        return 0


def started_by_us() -> bool:
    """Whether this process is one of several already, by `launch` or by torchrun."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def said_code() -> int | None:
    """The exit code that one of the processes of this launch ended with on purpose: then none begins again."""
    if folder := os.environ.get(LAUNCH):
        with contextlib.suppress(OSError, ValueError):
            return int((Path(folder) / "code").read_text())
    return None


def say_code(code: int) -> None:
    """Tells the others of this launch that the command ends with `code`."""
    if code not in (0, LOST) and (folder := os.environ.get(LAUNCH)) and "RANK" in os.environ:
        with contextlib.suppress(OSError):
            (Path(folder) / "code").write_text(str(code))


def _as_shell(code: int) -> int:
    """A process that a signal ended, as a shell says it."""
    return code if code >= 0 else 128 - code
