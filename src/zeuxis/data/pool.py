"""Runs decoding jobs on all cores, in worker processes of our own (see `worker`), and survives the death of
any."""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace

from zeuxis.data.decode import Job, Result, run_job
from zeuxis.data.records import empty_records
from zeuxis.data.worker import decode_result, encode_job

AHEAD = 2  # jobs given to a worker at a time, so that it never waits for the parent
START = "from zeuxis.data.worker import main; main()"

Take = Callable[[Job, Result], None]


def available_cores() -> int:
    """Cores that this process may use, at least 1."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


class Pool:
    """Worker processes for `run`; as a context manager it ends them. With `workers` = 1 all is done in this
    process."""

    def __init__(self, workers: int) -> None:
        self.workers = [Worker() for _ in range(workers)] if workers > 1 and sys.executable else []

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.stop()

    def run(self, jobs: Iterator[Job], take: Take) -> None:
        """Calls `take` in this thread with every job and its result, in any order; raises what a worker's
        write raised."""
        if not self.workers:
            for job in jobs:
                take(job, run_job(job))
            return
        feed = _Feed(jobs)
        done: queue.SimpleQueue[tuple[Job, Result] | BaseException | None] = queue.SimpleQueue()
        threads = [threading.Thread(target=_drive, args=(worker, feed, done), daemon=True) for worker in self.workers]
        for thread in threads:
            thread.start()
        running = len(threads)
        try:
            while running:
                item = done.get()
                if isinstance(item, BaseException):
                    raise item
                if item is None:
                    running -= 1
                else:
                    take(*item)
        finally:
            feed.stop()


class Worker:
    """One worker process; started at once, ready when its first line arrives."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Starts (again) the process; single-threaded arithmetic, the same import path, nobody's warning
        filters."""
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-W", "ignore", "-c", START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path, **one},
        )
        self.ready = False

    def send(self, job: Job) -> None:
        """Gives a job; a dead worker is noticed by `receive`."""
        assert self.process is not None and self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.write(encode_job(job))
            self.process.stdin.flush()

    def receive(self) -> bytes:
        """The next answer, or b"" when the process has died."""
        assert self.process is not None and self.process.stdout is not None
        if not self.ready:
            self.ready = self.process.stdout.readline() == b"ready\n"
            if not self.ready:
                return b""
        line = self.process.stdout.readline()
        return line if line.endswith(b"\n") else b""

    def stop(self) -> None:
        """Ends the process and closes its pipes."""
        if self.process is None:
            return
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self.process = None


class _Feed:
    """Hands jobs to the driving threads, one at a time; jobs that were given back come first."""

    def __init__(self, jobs: Iterator[Job]) -> None:
        self._jobs, self._back, self._lock, self.stopped = jobs, deque[Job](), threading.Lock(), False

    def next(self) -> Job | None:
        with self._lock:
            if self.stopped:
                return None
            return self._back.popleft() if self._back else next(self._jobs, None)

    def give_back(self, jobs: list[Job]) -> None:
        with self._lock:
            self._back.extend(jobs)

    def stop(self) -> None:
        with self._lock:
            self.stopped = True


def _drive(worker: Worker, feed: _Feed, done: queue.SimpleQueue[tuple[Job, Result] | BaseException | None]) -> None:
    """Keeps one worker busy. When it dies, its jobs are tried file by file; a file that kills it alone is
    broken."""
    given: deque[Job] = deque()
    try:
        while True:
            while len(given) < AHEAD and (job := feed.next()) is not None:
                given.append(job)
                worker.send(job)
            if not given:
                break
            line = worker.receive()
            if line:
                job = given.popleft()
                done.put((job, decode_result(line)))
                continue
            if not worker.ready:  # no worker can be started here: do its work in this process
                while given:
                    job = given.popleft()
                    done.put((job, run_job(job)))
                continue
            if feed.stopped:
                break
            fatal = given.popleft()
            feed.give_back(list(given))
            given.clear()
            worker.stop()
            worker.start()
            if len(fatal.items) > 1:
                feed.give_back(split_job(fatal))
            else:
                done.put((fatal, Result(empty_records(1), {0: "broken: the decoder crashed on it"})))
    except BaseException as error:
        done.put(error)
    else:
        done.put(None)


def split_job(job: Job) -> list[Job]:
    """One job per file."""
    return [replace(job, items=[item], start=job.start + index) for index, item in enumerate(job.items)]
