"""Worker processes: the same result as in one process, whatever dies on the way."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from picture_files import pngs, write_tree

from zeuxis.data import open_dataset
from zeuxis.data.decode import Job, Result, run_job
from zeuxis.data.pool import Pool, split_job
from zeuxis.data.records import Flag, has
from zeuxis.data.worker import decode_job, decode_result, encode_job, encode_result


def test_processes_and_one_process_make_the_same_set(tmp_path: Path) -> None:
    files = {**pngs(220, "a/"), **pngs(30, "b/", 220, channels=1), "a/bad.png": b"x", "b/empty.png": b""}
    folder = write_tree(tmp_path / "d", files)
    one = open_dataset(folder, cache_dir=tmp_path / "one", workers=1)
    many = open_dataset(folder, cache_dir=tmp_path / "many", workers=3)
    assert many.key == one.key and np.array_equal(many.train.all(), one.train.all())
    for report in (one.report, many.report):
        report.seconds = 0.0
    assert many.report == one.report


@pytest.fixture
def jobs(tmp_path: Path) -> list[Job]:
    """Twenty jobs of five files."""
    files = pngs(100)
    folder = write_tree(tmp_path / "d", files)
    (tmp_path / "pixels").write_bytes(b"\0" * (100 * 3 * 8 * 8))
    names = sorted(files)
    return [
        Job("folder", str(folder), names[i : i + 5], i, (3, 8, 8), "crop", 10**6, str(tmp_path / "pixels"))
        for i in range(0, 100, 5)
    ]


def collect(pool: Pool, jobs: list[Job], each: int | None = None) -> Counter[int]:
    """Runs the jobs; how often the result of each picture came, and all must be good."""
    came: Counter[int] = Counter()

    def take(job: Job, result: Result) -> None:
        came.update(range(job.start, job.start + len(job.items)))
        assert len(result.records) == len(job.items) and has(result.records, Flag.OK).all()
        if each is not None and len(came) == each and pool.workers[0].process is not None:
            os.kill(pool.workers[0].process.pid, signal.SIGKILL)

    pool.run(iter(jobs), take)
    return came


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no kill -9 here")
@pytest.mark.parametrize("when", [5, 50, 90])
def test_a_worker_that_is_killed_loses_nothing(when: int, jobs: list[Job]) -> None:
    with Pool(2) as pool:
        assert collect(pool, jobs, when) == Counter(range(100))
        assert collect(pool, jobs) == Counter(range(100)), "and the pool goes on"


def test_where_no_worker_can_be_started_the_work_is_done_here(
    jobs: list[Job], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = tmp_path / "no-python"
    script.write_text("#!/bin/sh\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    with Pool(2) as pool:
        assert collect(pool, jobs) == Counter(range(100))


def test_a_failed_write_in_a_worker_is_raised_here(jobs: list[Job]) -> None:
    broken = [replace(job, out="/nowhere/pixels") for job in jobs]
    for workers in (1, 2):
        with Pool(workers) as pool, pytest.raises(FileNotFoundError):
            collect(pool, broken)


def test_a_source_that_fails_while_jobs_are_made_is_raised_here(jobs: list[Job]) -> None:
    def failing() -> Iterator[Job]:
        yield jobs[0]
        raise ValueError("no more")

    with Pool(2) as pool, pytest.raises(ValueError, match="no more"):
        pool.run(failing(), lambda job, result: None)


def test_jobs_and_results_travel_as_lines(jobs: list[Job]) -> None:
    odd = replace(jobs[0], items=["a\nb.png", "\udcff.png", "é.png"])
    assert encode_job(odd).count(b"\n") == 1 and decode_job(encode_job(odd)) == odd
    result = run_job(replace(jobs[0], items=[*jobs[0].items[:2], "missing.png"], out=""))
    again = decode_result(encode_result(result))
    assert np.array_equal(again.records, result.records)
    assert again.reasons == result.reasons == {2: "cannot be read: No such file or directory"}


def test_a_job_is_split_into_its_files(jobs: list[Job]) -> None:
    parts = split_job(jobs[3])
    assert [(part.items, part.start) for part in parts] == [([f"{i:03d}.png"], i) for i in range(15, 20)]
