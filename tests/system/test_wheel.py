"""The wheel that users get: it builds, is complete, and works where nothing else of this project is."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
import setuptools
from command_line import TINY, environment

import zeuxis

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the sources, so that nothing is left beside them."""
    place = tmp_path_factory.mktemp("wheel")
    (place / "source").mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, place / "source" / name)
    shutil.copytree(ROOT / "src", place / "source" / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    # Without isolation where the build's own tool is here: then no package index is needed.
    here = ["--no-isolation"] if int(setuptools.__version__.split(".")[0]) >= 77 else []
    command = [sys.executable, "-m", "build", "--wheel", *here, "--outdir", str(place), str(place / "source")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    if done.returncode and not here:
        pytest.skip(f"setuptools 77 or newer is neither here nor to be had: {done.stdout[-200:]}")
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = place.glob("*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_holds_the_whole_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (archive.read(name).decode() for name in names if name.endswith("METADATA"))
    source = ROOT / "src" / "zeuxis"
    wanted = {
        f"zeuxis/{file.relative_to(source).as_posix()}"
        for file in source.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts and not file.name.startswith(".")
    }
    assert "zeuxis/py.typed" in wanted and wanted <= names, sorted(wanted - names)
    assert {name.split("/")[0] for name in names} == {"zeuxis", f"zeuxis-{zeuxis.__version__}.dist-info"}
    assert "License-Expression: Apache-2.0" in metadata and "Requires-Python: >=3.11" in metadata
    assert any(name.endswith("licenses/LICENSE") for name in names)


@pytest.mark.slow
def test_the_wheel_trains_and_samples_in_a_clean_environment(wheel: Path, tmp_path: Path) -> None:
    """Only the dependencies are borrowed from here, by a path file; the package comes from the wheel."""
    clean = tmp_path / "clean"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", clean], check=True, timeout=120)
    (site,) = clean.glob("lib/python*/site-packages")
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", clean / "bin" / "python", "install", "--no-deps", "--no-index",
         "--quiet", "--disable-pip-version-check", wheel],
        check=True, timeout=120,
    )  # fmt: skip
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    command = clean / "bin" / "zeuxis"
    for arguments in (
        ["--help"],
        ["train", "digits", *TINY, "--kimg", "0.2", "--snapshots", "1"],
        ["sample", "runs/00000-gan-digits", "--seeds", "0-3"],
    ):
        done = subprocess.run(
            [command, *arguments], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0 and done.stderr == "", done.stderr
    assert (tmp_path / "samples" / "grid.png").exists()
    where = subprocess.run(
        [clean / "bin" / "python", "-c", "import zeuxis; print(zeuxis.__file__)"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert Path(where.stdout.strip()).is_relative_to(site)
