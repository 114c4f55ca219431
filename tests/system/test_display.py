"""What a run shows: a live bar on a terminal of any width, plain lines elsewhere, and the TensorBoard mirror."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import PATIENCE, TINY, environment, runs, zeuxis
from rich.console import Console

from zeuxis.cli.show import RunDisplay, brief, clock
from zeuxis.training import Event

Command = Callable[..., tuple[int, str, str]]
TERMS = {"discriminator/real": 0.25, "discriminator/loss": 0.5, "generator/loss": 1.25, "skipped steps": 0.0}
HALF = Event("progress", "", 150_000, 300_000, 3043.4, 62.0, TERMS)


def shown(width: int, event: Event | None) -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None, legacy_windows=False)
    display = RunDisplay(console)
    if event is not None:
        display(event)
    console.print(display.render())
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [200, 120, 100, 80, 60, 50])
def test_the_bar_says_speed_time_left_and_losses_at_any_width(width: int) -> None:
    lines = shown(width, HALF)
    assert all(len(line) < width for line in lines) and len(lines) == (1 if width >= 120 else 2)
    for words in ("150/300 kimg", "3043 images/s", "1:02 left", "discriminator 0.5", "generator 1.25"):
        assert words in " ".join(lines)
    assert "━" in lines[0]


def test_a_very_narrow_terminal_is_cut_and_not_folded() -> None:
    lines = shown(30, HALF)
    assert len(lines) == 2 and all(len(line) <= 30 for line in lines) and "150/300 kimg" in lines[0]


def test_before_the_first_step() -> None:
    assert shown(80, None) == ["preparing"]
    nothing_yet = Event("progress", "", 64, 1000, 100.0, float("nan"), {})
    assert "? left" in " ".join(shown(80, nothing_yet))


def test_losses_come_first_and_as_many_as_fit() -> None:
    assert brief(TERMS, 200) == "discriminator 0.5  generator 1.25  discriminator/real 0.25  skipped steps 0"
    assert brief(TERMS, 33) == "discriminator 0.5  generator 1.25" and brief(TERMS, 32) == "discriminator 0.5"
    assert (clock(62.4), clock(3723), clock(float("inf"))) == ("1:02", "1:02:03", "?")


def test_elsewhere_ten_plain_lines() -> None:
    console = Console(file=io.StringIO(), width=40)
    with RunDisplay(console) as display:
        display(Event("log", "a [bold]log[/] line that is far longer than forty characters, with a/path/in/it"))
        for step in range(101):
            display(Event("progress", "", step * 1000, 100_000, 50.0, 1.0, TERMS))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert lines[0] == "a [bold]log[/] line that is far longer than forty characters, with a/path/in/it"
    assert len(lines) == 11 and lines[1].startswith("10/100 kimg  50 images/s  0:01 left  discriminator 0.5")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_real_terminal_of_80_columns(tmp_path: Path) -> None:
    import fcntl
    import pty
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [sys.executable, "-m", "zeuxis", "train", "digits", *TINY, "--kimg", "2", "--snapshots", "1"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env={**environment(), "TERM": "xterm"}, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    output = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the other side is closed
            break
        if not part:
            break
        output += part
    os.close(ours)
    assert process.wait(timeout=PATIENCE) == 0
    lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output.decode()))
    bars = [line for line in lines if "images/s" in line and "━" in line]
    assert bars and all(re.search(r"[0-2]/2 kimg  \d+ images/s  \d+:\d\d left", bar) for bar in bars)
    assert any(line.startswith("discriminator ") and "generator " in line for line in lines)
    assert max(len(line) for line in bars) < 80 and any("finished: 2000 images" in line for line in lines)


def test_without_the_extra_tensorboard_is_one_line(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    code, out, errors = command("train", "digits", *TINY, "--kimg", "0.2", "--tensorboard")
    assert code == 2 and out == "" and errors.count("\n") == 1
    for words in ("--tensorboard", "extra `tensorboard`", "pip install 'zeuxis[tensorboard]'"):
        assert words in errors
    assert not Path("runs").exists()


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="the extra tensorboard is not installed")
def test_tensorboard_mirrors_rows_and_sheets_also_over_two_sittings(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    first = zeuxis("train", "digits", *TINY, "--kimg", 2, "--snapshots", 2, "--tensorboard", cwd=tmp_path)
    assert first.returncode == 0 and "tensorboard --logdir runs/00000-gan-digits/tensorboard" in first.stdout
    (run,) = runs(tmp_path / "runs")
    second = zeuxis("train", "digits", "--resume", run, "--kimg", 4, "--tensorboard", cwd=tmp_path)
    assert second.returncode == 0
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    for file, key, tag in (
        ("stats.jsonl", "generator/loss", "generator/loss"),
        ("metrics.jsonl", "value", "metrics/kid_val_random"),
    ):
        rows = [json.loads(line) for line in (run / file).read_text().splitlines()]
        mirrored = [(event.step, event.value) for event in events.Scalars(tag)]
        assert mirrored == [(row["images_seen"], pytest.approx(row[key], rel=1e-5)) for row in rows if key in row]
    assert [event.step for event in events.Images("samples")] == [1000, 2000, 4000]
