"""`zeuxis train` through kills, signals, torn files, a full disk and company."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import TINY, begin, fingerprint, log_of, runs, until, zeuxis

from zeuxis.checkpoint import StateStore

LONG = ("train", "digits", *TINY, "--kimg", 400, "--snapshots", 1000)


def states(out: Path) -> list[str]:
    return [name for run in runs(out) for name in StateStore(run / "state").names()]


def rows(out: Path) -> int:
    return sum((run / "stats.jsonl").read_bytes().count(b"\n") for run in runs(out) if (run / "stats.jsonl").exists())


def test_kill_9_at_random_moments_changes_nothing(tmp_path: Path) -> None:
    command = ("train", "digits", *TINY, "--kimg", 3, "--snapshots", 4)
    assert zeuxis(*command, "--out", "whole", cwd=tmp_path).returncode == 0
    chance, out = random.Random(0), tmp_path / "cut"
    for _ in range(3):
        reach = rows(out) + chance.randint(20, 60)  # of the 200 rows of a run
        process = begin(*command, "--out", "cut", cwd=tmp_path)
        until(lambda reach=reach: rows(out) >= reach, process)
        time.sleep(chance.uniform(0.0, 0.05))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    last = zeuxis(*command, "--out", "cut", cwd=tmp_path)
    assert last.returncode == 0 and last.stderr == ""
    (run,) = runs(out)
    assert log_of(out).count("resumed at ") == 3 and "resumed at " in last.stdout
    assert fingerprint(run) == fingerprint(runs(tmp_path / "whole")[0])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_a_torn_last_state_falls_back(number: signal.Signals, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    process = begin(*LONG, cwd=tmp_path)
    # The beginning is a state too: with two after it there is one to fall back to, even where the signal comes just as
    # the newest was written.
    until(lambda: len(kept := states(out)) >= 2 and int(kept[0]) > 0, process)
    process.send_signal(number)
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and errors == ""
    (run,) = runs(out)
    newest, seen = states(out)[-1], int(states(out)[-1])
    assert f"interrupted at {seen} images, state saved; the same command goes on" in printed
    torn = run / "state" / f"{newest}.safetensors"
    torn.write_bytes(torn.read_bytes()[:-9])
    process = begin("train", "digits", "--resume", run, cwd=tmp_path)
    until(lambda: "snapshot at" in log_of(out).partition("resumed at")[2], process)
    process.send_signal(number)
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and errors == ""
    assert f"state {newest} is torn" in printed and "falling back to the one before" in printed
    resumed = int(printed.split("resumed at ")[1].split()[0])
    assert 0 < resumed < seen and runs(out) == [run]


def test_a_second_signal_leaves_at_once(tmp_path: Path) -> None:
    """One step here takes longer than anybody waits, so the second signal comes while the first is pending."""
    process = begin("train", "digits", *TINY, "--kimg", 4000, "--batch", 65536, cwd=tmp_path)
    until(lambda: "arithmetic" in log_of(tmp_path / "runs"), process)
    process.send_signal(signal.SIGINT)
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in errors and errors.count("\n") <= 1


def test_a_signal_before_the_first_step_is_quiet(tmp_path: Path) -> None:
    process = begin("train", "digits", *TINY, "--kimg", 4000, "--batch", 65536, cwd=tmp_path)
    # Until it is Zeuxis that a signal reaches: on a busy machine Python itself may take more than a second to begin.
    until(lambda: "libtorch" in Path(f"/proc/{process.pid}/maps").read_text(), process)
    time.sleep(0.5)  # it is importing, reading or timing
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in errors and errors.count("\n") <= 1


def test_two_at_once_never_share_a_run(tmp_path: Path) -> None:
    command = ("train", "digits", *TINY, "--kimg", 1, "--snapshots", 1)
    both = [begin(*command, cwd=tmp_path) for _ in range(2)]
    for process in both:
        assert process.communicate(timeout=60)[1] == ""
    assert [process.returncode for process in both] == [0, 0]
    folders = runs(tmp_path / "runs")
    # The later one finds the first unfinished and locked, or finished: in both cases it begins its own.
    assert [folder.name for folder in folders] == ["00000-gan-digits", "00001-gan-digits"]
    assert all((folder / "finished.json").exists() for folder in folders)
    assert fingerprint(folders[0]) == fingerprint(folders[1])
    for folder in folders:
        seen = [row["images_seen"] for row in fingerprint(folder)[1]]
        assert seen == sorted(set(seen)), "no row stands twice"


def test_resume_with_a_larger_kimg_extends_a_finished_run(tmp_path: Path) -> None:
    first = zeuxis("train", "digits", *TINY, "--kimg", 0.4, "--snapshots", 2, cwd=tmp_path)
    assert first.returncode == 0
    (run,) = runs(tmp_path / "runs")
    refused = zeuxis("train", "digits", "--resume", run, cwd=tmp_path)
    assert refused.returncode == 2 and "a larger --kimg or --budget: this run is finished" in refused.stderr
    longer = zeuxis("train", "digits", "--resume", run, "--kimg", 0.8, cwd=tmp_path)
    assert longer.returncode == 0 and "resumed at 400 images" in longer.stdout
    assert json.loads((run / "finished.json").read_text())["images_seen"] == 800
    assert runs(tmp_path / "runs") == [run]


def test_a_dry_run_prints_json_and_leaves_nothing(tmp_path: Path, bad_folder: Path) -> None:
    done = zeuxis("train", bad_folder, *TINY, "--kimg", 3, "--dry-run", cwd=tmp_path)
    assert done.returncode == 0
    plan = json.loads(done.stdout)
    assert plan["asked"]["kimg"] == 3 and plan["resolved"]["total_images"] == 3000
    assert plan["resolved"]["model"] == "gan/mlp/tiny"
    assert "notes.png" in done.stderr, "what is skipped is said, beside the JSON and not in it"
    assert not (tmp_path / "runs").exists()


def test_bad_files_are_named_and_never_fatal(tmp_path: Path, bad_folder: Path) -> None:
    done = zeuxis("train", bad_folder, *TINY, "--kimg", 0.4, "--snapshots", 1, cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == ""
    for name in ("notes.png", "cut.png", "nothing.png"):
        assert name in done.stdout
    (run,) = runs(tmp_path / "runs")
    assert f"run runs/{run.name}, model runs/{run.name}/model" in done.stdout
    assert json.loads((run / "finished.json").read_text())["images_seen"] == 400


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() or not shutil.which("mount"):
        pytest.skip("only root can mount a small disk to fill")
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(place)], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no small disk to fill: {made.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_ends_with_one_line_and_the_old_state(tmp_path: Path, small_disk: Path) -> None:
    command = ("train", "digits", *TINY, "--kimg", 3, "--snapshots", 3, "--out", small_disk)
    process = begin(*command, cwd=tmp_path)
    until(lambda: len(states(small_disk)) >= 1, process)
    ballast = small_disk / "ballast"
    with pytest.raises(OSError, match="No space"), open(ballast, "wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 4096)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1, errors
    assert errors.startswith("zeuxis: ") and errors.count("\n") == 1 and "No space left on device" in errors
    (run,) = runs(small_disk)
    found, _ = StateStore(run / "state").load_latest()
    assert found is not None, "the old state is whole"
    ballast.unlink()
    again = zeuxis(*command, cwd=tmp_path)
    assert again.returncode == 0 and "resumed at" in again.stdout
    assert zeuxis(*command[:-1], "elsewhere", cwd=tmp_path).returncode == 0
    assert fingerprint(run) == fingerprint(runs(tmp_path / "elsewhere")[0])
