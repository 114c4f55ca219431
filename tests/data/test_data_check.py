"""`zeuxis data check` as a user runs it: table, JSON, contact sheet, words and exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from picture_files import encoded, patched_zip, picture, png, pngs, rotated_jpeg, write_tree, zipped
from PIL import Image

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def check(tmp_path: Path) -> Run:
    """Runs the command in a process of its own with the test's cache, in `tmp_path`, 120 columns wide."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        values = {**os.environ, "ZEUXIS_CACHE": str(tmp_path / "cache"), "COLUMNS": "120", "PYTHONIOENCODING": "utf-8",
                  **environment}  # fmt: skip
        command = [sys.executable, "-m", "zeuxis", "data", "check", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=values, capture_output=True, encoding="utf-8", timeout=120)

    return run


def rows(output: str) -> dict[str, tuple[str, str]]:
    """The table: what -> (number, remark); lines that go on are joined."""
    found: dict[str, tuple[str, str]] = {}
    last = ""
    for line in output.splitlines():
        if line.startswith("│"):
            what, number, remark = (cell.strip() for cell in line.strip("│").split("│"))
            if what:
                last = what
                found[what] = (number, remark)
            else:
                found[last] = (found[last][0], f"{found[last][1]} {remark}".strip())
    return found


def messy(folder: Path) -> Path:
    files = {**pngs(6, "cat/", height=24, width=24), **pngs(5, "dog/", 6, height=24, width=24), "dog/copy.png": b"",
             "cat/broken.png": png(3)[:60], "notes.txt": b"x", "dog/turned.jpg": rotated_jpeg(6, 24, 24)}  # fmt: skip
    files["dog/again.png"] = files["cat/000.png"]
    return write_tree(folder, files)


def test_the_table_and_the_list(check: Run, tmp_path: Path) -> None:
    messy(tmp_path / "mine")
    done = check("mine")
    assert done.returncode == 0 and done.stderr == ""
    table = rows(done.stdout)
    assert "mine" in done.stdout.splitlines()[0]
    assert table["files"][0] == "16" and table["usable pictures"][0] == "13"
    assert table["skipped"] == ("3", "listed below")
    assert table["exact duplicates"] == ("1", "cat/000.png = dog/again.png")
    assert table["EXIF-rotated"] == ("1", "dog/turned.jpg")
    assert (table["class cat"][0], table["class dog"][0]) == ("6", "7")
    assert table["width"] == ("24", "all the same")
    assert table["read as"] == ("24x24 RGB", "all pictures are 24x24; in colour")
    assert done.stdout.splitlines()[-3:] == [
        "skipped notes.txt: not a picture (.txt files are not read)",
        "skipped cat/broken.png: truncated: the end of the picture is missing",
        "skipped dog/copy.png: empty file",
    ]
    assert check("mine").stdout == done.stdout, "from the cache the same"


def test_json_and_sheet(check: Run, tmp_path: Path) -> None:
    messy(tmp_path / "mine")
    done = check("mine", "--json", "report.json", "--sheet", "sheet.png", "--resolution", "12x8", "--channels", "4",
                 "--fit", "pad", "--workers", "2")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == ["report: report.json", "contact sheet: sheet.png"]
    report = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert (report["name"], report["files"], report["pictures"]) == ("mine", 16, 13)
    assert {"name": "dog/copy.png", "reason": "empty file"} in report["skipped"] and len(report["skipped"]) == 3
    assert report["findings"]["exact duplicates"] == {"count": 1, "examples": ["cat/000.png = dog/again.png"]}
    assert set(report["findings"]) == {
        "exact duplicates", "near duplicates", "too small", "odd aspect", "animated", "CMYK", "16-bit", "palette",
        "EXIF-rotated", "with alpha", "transparent", "grey",
    }  # fmt: skip
    assert report["classes"] == {"cat": 6, "dog": 7} and report["unlabelled"] == 0
    suggested = report["suggested"]
    assert (suggested["height"], suggested["width"], suggested["channels"]) == (8, 12, 4)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.format == "PNG" and sheet.mode == "RGBA"
        scale = 64 // 12
        assert sheet.size == (4 * (12 * scale + 2) + 2, 4 * (8 * scale + 2) + 2), "13 pictures in 4 rows of 4"


def test_the_sheet_shows_the_pictures(check: Run, tmp_path: Path) -> None:
    values = np.zeros((3, 32, 32, 3), np.uint8)
    values[0, ..., 0] = values[1, ..., 1] = values[2, ..., 2] = 255
    write_tree(tmp_path / "d", {f"{index}.png": encoded(value) for index, value in enumerate(values)})
    assert check("d", "--sheet", "s.png").returncode == 0
    with Image.open(tmp_path / "s.png") as sheet:
        found = np.asarray(sheet)
    centres = [tuple(found[2 + 32, 2 + 32 + 66 * column]) for column in range(2)] + [tuple(found[2 + 32 + 66, 34])]
    assert centres == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]


NASTY = ["[red]<script>", "[/b]", "a\x1b[31mb", "c\x07d\x08", "e\u202ef", "g\nh", "i\x9bj"]


def test_names_are_shown_as_text(check: Run, tmp_path: Path) -> None:
    """Classes and files called like markup, HTML or terminal commands."""
    folder = tmp_path / "[bold]x[" / "i]\x1b[0m"
    for index, name in enumerate(NASTY):
        if "/" not in name:
            write_tree(folder / name, pngs(2, start=index * 2))
            (folder / name / f"{name}.png").write_bytes(b"broken")
    write_tree(folder / "[" / "b]", {**pngs(2, start=70), "[/i].png": b""})
    done = check(str(folder.relative_to(tmp_path)), "--json", "report.json", "--sheet", "[red]s.png")
    assert done.returncode == 0, done.stderr
    steering = [char for char in done.stdout + done.stderr if not char.isprintable() and char != "\n"]
    assert steering == []
    table = rows(done.stdout)
    assert table["class [red]<script>"][0] == "2" and table["class ["][0] == "2"
    assert "class a�[31mb" in table and "class g�h" in table
    assert "skipped [red]<script>/[red]<script>.png: not a picture" in done.stdout
    assert "skipped [/b]/[/i].png: empty file" in done.stdout
    assert "contact sheet: [red]s.png" in done.stdout and (tmp_path / "[red]s.png").exists()
    report = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert report["classes"]["a\x1b[31mb"] == 2, "programs get the names as they are"


def test_names_that_are_not_unicode(check: Run, tmp_path: Path) -> None:
    folder = write_tree(tmp_path / "d", pngs(2, "a/"))
    try:
        write_tree(folder / os.fsdecode(b"\xff"), {**pngs(2, start=5), os.fsdecode(b"\xfe.png"): b"x"})
    except OSError:
        pytest.skip("this file system takes no such names")
    done = check("d", "--json", "r.json")
    assert done.returncode == 0, done.stderr
    assert rows(done.stdout)["class �"][0] == "2"
    report = json.loads((tmp_path / "r.json").read_bytes())
    assert report["classes"][os.fsdecode(b"\xff")] == 2


@pytest.mark.parametrize("lang", ["C", "C.UTF-8"])
def test_a_plain_terminal_is_no_trouble(lang: str, check: Run, tmp_path: Path) -> None:
    write_tree(tmp_path / "d", {**pngs(3), "ü–漢.png": b"x"})
    done = check("d", LC_ALL=lang, PYTHONIOENCODING="", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "got '0 files, 0 skipped, no usable picture'"),
        ({"a.png": b"", "b.txt": b"x"}, "got '2 files, 2 skipped, no usable picture'"),
    ],
)
def test_nothing_usable_is_exit_code_2_and_one_line(
    files: dict[str, bytes], words: str, check: Run, tmp_path: Path
) -> None:
    write_tree(tmp_path / "d", files)
    done = check("d", "--json", "r.json", "--sheet", "s.png")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("zeuxis: DATA: " + words)
    assert "allowed: at least one picture that can be decoded" in done.stderr
    assert json.loads((tmp_path / "r.json").read_text())["pictures"] == 0, "the report says why"
    if files:
        assert "skipped a.png: empty file" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("nowhere",),
            "DATA: got 'nowhere', allowed: a folder, a .zip, .npz, .npy or idx file, .tar shards, or one of digits,",
        ),
        (("x" * 300,), "File name too long"),
        (("digits", "--resolution", "30"), "--resolution: got '30', allowed: auto, a side such as 64, or WIDTHxHEIGHT"),
        (("digits", "--channels", "2"), "'2' is not one of 'auto', '1', '3', '4'"),
        (("digits", "--fit", "squeeze"), "'squeeze' is not one of 'crop', 'pad', 'stretch'"),
        (("digits", "--json", "no/where.json"), "--json: got 'no/where.json', allowed: a file that can be written; No"),
        (("digits", "--sheet", "no/where.png"), "--sheet: got 'no/where.png', allowed: a file that can be written; No"),
        (("a.zip",), "DATA: got 'a.zip', allowed: a complete zip file; it cannot be read: File is not a zip file"),
        (("b\x1b[31m.zip",), "DATA: got 'b\\x1b[31m.zip', allowed: an honest"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line_and_exit_code_2(
    arguments: tuple[str, ...], words: str, check: Run, tmp_path: Path
) -> None:
    (tmp_path / "a.zip").write_bytes(zipped(pngs(2))[:50])
    (tmp_path / "b\x1b[31m.zip").write_bytes(patched_zip(zipped(pngs(2)), "000.png", size=2**31))
    done = check(*arguments)
    assert done.returncode == 2
    assert words in done.stderr and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    assert "\x1b" not in done.stderr


def test_arrays_and_built_in_sets_are_checked_too(check: Run, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.stack([picture(seed, 8, 8) for seed in (0, 1, 1)]))
    table = rows(check("a.npy").stdout)
    assert table["exact duplicates"] == ("1", "picture 1 = picture 2")
    assert rows(check("digits").stdout)["class 9"][0] == "180"
