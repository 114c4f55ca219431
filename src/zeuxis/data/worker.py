"""A worker process: jobs as JSON lines on its standard input, results as JSON lines on its standard output.

Not `multiprocessing`: a worker then never imports the user's script again, never inherits threads or locks of
a process with torch in it, and ends by itself when the parent is killed, because its input ends.
"""

from __future__ import annotations

import base64
import gc
import json
import os
import queue
import signal
import sys
import threading
from typing import IO, Any

import numpy as np

from zeuxis.data.decode import Job, Result, run_job
from zeuxis.data.records import RECORD


def main() -> None:
    """Works until the input ends; an interrupt from the terminal is the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what a C library prints must not mix with the answers
    gc.disable()  # decoding makes no cycles worth collecting
    jobs: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    # Always reading keeps a parent that writes the next job from waiting for us while we wait for it to read.
    threading.Thread(target=_read, args=(sys.stdin.buffer, jobs), daemon=True).start()
    answers.write(b"ready\n")
    while line := jobs.get():
        answers.write(_answer(line) + b"\n")
    os._exit(0)


def _read(source: IO[bytes], jobs: queue.SimpleQueue[bytes]) -> None:
    for line in source:
        jobs.put(line)
    jobs.put(b"")


def _answer(line: bytes) -> bytes:
    try:
        return encode_result(run_job(decode_job(line)))
    except OSError as error:  # only writing the cache raises it
        return json.dumps({"errno": error.errno, "text": str(error)}).encode()


def encode_job(job: Job) -> bytes:
    """A job as one JSON line (names that are not valid Unicode pass as escaped surrogates)."""
    return json.dumps(vars(job)).encode() + b"\n"


def decode_job(line: bytes) -> Job:
    """The inverse of `encode_job`."""
    values: dict[str, Any] = json.loads(line)
    values["shape"] = tuple(values["shape"])
    return Job(**values)


def encode_result(result: Result) -> bytes:
    """A result as JSON without a line end."""
    records = base64.b64encode(result.records.tobytes()).decode()
    return json.dumps({"records": records, "reasons": result.reasons}).encode()


def decode_result(line: bytes) -> Result:
    """The inverse of `encode_result`; a failed write is raised as the OSError that it was."""
    values = json.loads(line)
    if "errno" in values:
        raise OSError(values["errno"], values["text"])
    records = np.frombuffer(bytearray(base64.b64decode(values["records"])), RECORD)
    return Result(records, {int(index): reason for index, reason in values["reasons"].items()})
