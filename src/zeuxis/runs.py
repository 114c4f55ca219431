"""The run folder: one training with its config, log, statistics, samples, states and model; never shared, never
deleted."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from zeuxis.config import fingerprint
from zeuxis.errors import StateError, UserError
from zeuxis.files import append_json, read_json_lines, write_bytes, write_json

RUN_FORMAT = 1
NUMBERED = re.compile(r"(\d{5})-")


class RunFolder:
    """An open run, locked against every other process until `close`.

    Without a lock it is another process's: whoever trains along with that one reads here, and writes nothing.
    """

    def __init__(self, path: Path, lock: FileLock | None) -> None:
        self.path, self._lock = path, lock
        self.listen: Callable[[str], None] = lambda line: None

    @classmethod
    def create(cls, out: Path, name: str, config: dict[str, Any]) -> RunFolder:
        """A new folder `00003-name` in `out`, numbered after the newest one there."""
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError("--out", str(out), "a folder that can be written", str(error.strerror)) from None
        while True:
            taken = [int(match[1]) for entry in out.iterdir() if (match := NUMBERED.match(entry.name))]
            path = out / f"{max(taken, default=-1) + 1:05d}-{name}"
            with contextlib.suppress(FileExistsError):
                path.mkdir()
                # Another process may have taken the same number under another name at the same moment.
                if sum(1 for entry in out.iterdir() if entry.name.startswith(path.name[:6])) == 1:
                    break
                path.rmdir()
        run = cls(path, _locked(path))
        write_json(path / "config.json", {"format_version": RUN_FORMAT, **config})
        return run

    @classmethod
    def open(cls, path: Path, option: str = "--resume") -> RunFolder:
        """An existing run; `UserError` where it is none, or where another process trains it at this moment."""
        if not (path / "config.json").is_file():
            raise UserError(option, str(path), "a run folder (with config.json)", "see the folders in --out")
        try:
            return cls(path, _locked(path))
        except Timeout:
            raise UserError(option, str(path), "a run that no other process trains", "wait for it or stop it") from None

    @classmethod
    def find_unfinished(cls, out: Path, asked: dict[str, Any]) -> RunFolder | None:
        """The newest run in `out` of the same settings and data that has not finished and that nobody is training."""
        wanted = fingerprint(asked)
        for path in sorted(out.glob("[0-9]*-*"), reverse=True) if out.is_dir() else []:
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError, Timeout):
                config = json.loads((path / "config.json").read_text(encoding="utf-8"))
                if config["format_version"] != RUN_FORMAT or fingerprint(config["asked"]) != wanted:
                    continue
                run = cls(path, _locked(path))
                if not run.finished:  # asked under the lock: who held it may just have finished
                    return run
                run.close()
        return None

    @property
    def config(self) -> dict[str, Any]:
        """What was asked for and resolved when the run began."""
        try:
            config = json.loads((self.path / "config.json").read_text(encoding="utf-8"))
            version, parts = config["format_version"], (config["asked"], config["resolved"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StateError(f"{self.path}/config.json cannot be read ({error!r}): begin a new run") from None
        if version != RUN_FORMAT or not all(isinstance(part, dict) for part in parts):
            raise StateError(f"{self.path} is of run format {version}, not {RUN_FORMAT}: begin a new run")
        return dict(config)

    def log(self, text: str) -> None:
        """One line to log.txt, with the time, and to whoever listens."""
        if self._lock is None:
            return
        with open(self.path / "log.txt", "a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
        self.listen(text)

    def row(self, file: str, row: dict[str, Any]) -> None:
        """One row to `stats.jsonl` or `metrics.jsonl`."""
        if self._lock is not None:
            append_json(self.path / file, row)

    def rewind(self, images_seen: int, rollbacks: int = 0) -> None:
        """Drops rows beyond a state that training goes on from, so that no row stands twice; the records of the
        rollbacks up to it stay."""

        def stays(row: dict[str, Any]) -> bool:
            return row["rollbacks"] <= rollbacks if "rollbacks" in row else row.get("images_seen", 0) <= images_seen

        for file in (self.path / "stats.jsonl", self.path / "metrics.jsonl"):
            if self._lock is not None and file.exists():
                rows = [row for row in read_json_lines(file) if stays(row)]
                write_bytes(file, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())

    def finish(self, summary: dict[str, Any]) -> None:
        """Marks the run as finished."""
        if self._lock is not None:
            write_json(self.path / "finished.json", summary)

    def reopen(self) -> None:
        """Takes the mark away again, to extend a finished run."""
        if self._lock is not None:
            (self.path / "finished.json").unlink(missing_ok=True)

    @property
    def finished(self) -> bool:
        """Whether the run reached its planned end."""
        return (self.path / "finished.json").exists()

    def close(self) -> None:
        """Lets other processes have the run."""
        if self._lock is not None:
            self._lock.release()


def _locked(path: Path) -> FileLock:
    lock = FileLock(path / ".lock")
    lock.acquire(timeout=0)
    return lock
