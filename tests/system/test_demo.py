"""`zeuxis demo`, shortened: what a newcomer sees first."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from command_line import runs, zeuxis


@pytest.mark.slow
def test_the_demo_trains_judges_and_says_where_the_pictures_are(tmp_path: Path) -> None:
    done = zeuxis("demo", "--kimg", 2, cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == ""
    (run,) = runs(tmp_path / "runs")
    for label in ("samples", "real pictures"):
        (path,) = re.findall(rf"^{label} +(\S+\.png)$", done.stdout, re.MULTILINE)
        assert (tmp_path / path).is_file() and (tmp_path / path).is_relative_to(run)
    assert "images/s" in done.stdout and "left" in done.stdout
    for metric in ("fd", "kid", "precision", "coverage", "copy_rate"):
        assert metric in done.stdout
    share = re.search(r"agree on the class of (\d+)% of 1000 samples", done.stdout.replace("\n", " "))
    assert share is not None and 6 < int(share[1]) <= 100
    (more,) = re.findall(r"^more +zeuxis (sample .*)$", done.stdout, re.MULTILINE)
    assert zeuxis(*more.split(), "--seeds", "0-3", cwd=tmp_path).returncode == 0
