"""`zeuxis compare` as a user has it: trains, goes on, judges foreign pictures, writes a page that a browser likes."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import Browser, find
from PIL import Image

from zeuxis.cli import run
from zeuxis.config import TrainOptions
from zeuxis.data import open_dataset
from zeuxis.families.vae.objective import VAE
from zeuxis.training import start

BAD_CLASS, BAD_NAME = "<script>document.title='class'<&\"", "<script>document.title='name'</script>"
FAST = ("--features", "random", "--metrics", "kid,copy_rate", "--num", "40", "--draws", "2")
MODELS = ("--models", "gan/mlp/tiny,vae/mlp/tiny", "--kimg", "0.2", "--snapshots", "2")


def zeuxis(*arguments: object, cwd: Path) -> tuple[int, str]:
    """The command line in this process: exit code, and all that it printed."""
    said, before, argv = io.StringIO(), Path.cwd(), sys.argv
    try:
        os.chdir(cwd)
        sys.argv = ["zeuxis", *map(str, arguments)]
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = run()
    finally:
        os.chdir(before)
        sys.argv = argv
    return code, " ".join(said.getvalue().split())


def draw_pictures(count: int, seed: int) -> np.ndarray:
    """Smooth RGBA pictures uint8 `[N, 8, 12, 4]`."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 2, 3, 4), dtype=np.uint8)
    return coarse.repeat(4, axis=1).repeat(4, axis=2)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data of two classes, one of a hostile name, foreign pictures, and a finished comparison."""
    folder = tmp_path_factory.mktemp("compare")
    for number, (split, count) in enumerate({"train": 60, "test": 25}.items()):
        for label, name in enumerate((BAD_CLASS, "plain")):
            own = folder / "data" / split / name
            own.mkdir(parents=True)
            for index, pixels in enumerate(draw_pictures(count, 10 * number + label)):
                Image.fromarray(pixels).save(own / f"{index}.png")
    np.savez(folder / "foreign.npz", images=draw_pictures(45, 99))
    code, said = zeuxis("compare", "data", f"{BAD_NAME}=foreign.npz", *MODELS, *FAST, "--conditional",
                        "--html", "page.html", "--json", "page.json", cwd=folder)  # fmt: skip
    assert code == 0, said
    assert "For these 170 pictures (12x8 RGBA)" in said and said.endswith("page page.html")
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find()
    if program is None:
        pytest.skip("no Chromium is installed: the page is not looked at by a browser here")
    with Browser(program, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def test_the_numbers_are_those_of_all_three(place: Path) -> None:
    told = json.loads((place / "page.json").read_text())
    assert [entry["name"] for entry in told["entries"]] == ["gan/mlp/tiny", "vae/mlp/tiny", BAD_NAME]
    for entry in told["entries"]:
        assert {row["num"] for row in entry["rows"]} == {40}
        assert len({row["data_fingerprint"] for row in entry["rows"]}) == 1
    gan, vae, foreign = told["entries"]
    assert gan["cost"]["images_seen"] == vae["cost"]["images_seen"] == 200
    assert gan["cost"]["parameters"] and gan["cost"]["size_bytes"] > 4 * gan["cost"]["parameters"]
    if sys.platform == "linux":
        assert gan["cost"]["peak_bytes"] > 10e6
    assert "encode" in vae["capabilities"] and "encode" not in gan["capabilities"] and foreign["capabilities"] is None
    assert vae["commands"][0] == "zeuxis train data --model vae/mlp/tiny --kimg 0.2 --conditional --snapshots 2"
    assert told["command"].startswith("zeuxis compare data ") and told["command"].endswith("--json page.json")


def test_the_command_on_the_page_is_the_same_command(place: Path) -> None:
    """What is said to repeat it finds both runs again and trains nothing."""

    told = json.loads((place / "page.json").read_text())
    words = shlex.split(told["command"])[1:]
    code, said = zeuxis(*words, "--html", "again.html", "--json", "again.json", cwd=place)
    assert code == 0 and said.count("already trained in runs/0000") == 2
    again = json.loads((place / "again.json").read_text())
    values = [[row["value"] for entry in each["entries"] for row in entry["rows"]] for each in (told, again)]
    assert values[0] == values[1]


def test_a_comparison_goes_on_where_it_was_stopped(place: Path, tmp_path: Path) -> None:
    values = {"model": "gan/mlp/tiny", "kimg": 0.4, "snapshots": 2}
    start(TrainOptions.model_validate(values), open_dataset(place / "data"), tmp_path / "runs").run(
        stop=lambda seen: seen >= 200
    )
    code, said = zeuxis("compare", place / "data", "--models", "gan/mlp/tiny", "--kimg", 0.4, "--snapshots", 2, *FAST,
                        "--html", "sub/page.html", cwd=tmp_path)  # fmt: skip
    assert code == 0 and "resumed at 200 images" in said and "gan/mlp/tiny has a kernel distance of" in said
    assert (tmp_path / "sub/page.html").is_file() and len(list((tmp_path / "runs").glob("0*"))) == 1


def test_runs_find_their_own_data(place: Path, tmp_path: Path) -> None:
    folders = sorted((place / "runs").glob("0*"))
    code, said = zeuxis("compare", *folders, *FAST, cwd=tmp_path)
    assert code == 0, said
    assert "gan/mlp/tiny" in (tmp_path / "report.html").read_text()
    code, said = zeuxis("compare", folders[0] / "model", *FAST, cwd=tmp_path)
    assert code == 0, said
    moved = tmp_path / "moved"
    shutil.copytree(folders[0], moved / "run")
    config = json.loads((moved / "run/config.json").read_text())
    config["resolved"]["source"] = str(tmp_path / "gone")
    (moved / "run/config.json").write_text(json.dumps(config))
    code, said = zeuxis("compare", moved / "run", *FAST, cwd=tmp_path)
    assert code == 2 and "--data: got None, allowed: the real pictures" in said and "gone" in said
    code, said = zeuxis("compare", moved / "run", *FAST, "--data", place / "data", cwd=tmp_path)
    assert code == 0, said


def test_other_data_and_splits_are_remarked_upon(place: Path, tmp_path: Path) -> None:
    folder = sorted((place / "runs").glob("0*"))[0]
    np.savez(tmp_path / "other.npz", images=draw_pictures(300, 5))
    code, said = zeuxis("compare", folder, *FAST, "--data", "other.npz", "--html", "other.html", cwd=tmp_path)
    assert code == 0, said
    assert "it was trained on other data than these" in (tmp_path / "other.html").read_text()
    shutil.copytree(folder, tmp_path / "run")
    config = json.loads((tmp_path / "run/config.json").read_text())
    config["asked"]["options"]["data"]["split_seed"] = 7
    (tmp_path / "run/config.json").write_text(json.dumps(config))
    code, said = zeuxis("compare", "run", *FAST, "--data", place / "data", "--html", "split.html", cwd=tmp_path)
    assert code == 0, said
    assert "it may know the held-out pictures" in (tmp_path / "split.html").read_text()


def test_a_model_that_breaks_is_left_out_and_said_so(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = VAE.losses

    def broken(self: VAE, *arguments: object) -> dict[str, object]:
        return {name: term * float("nan") for name, term in losses(self, *arguments).items()}  # type: ignore[arg-type]

    monkeypatch.setattr(VAE, "losses", broken)
    code, said = zeuxis("compare", place / "data", "--models", "vae/mlp/tiny,gan/mlp/tiny", "--kimg", 2, *FAST,
                        cwd=tmp_path)  # fmt: skip
    assert code == 0 and "vae/mlp/tiny is left out" in said
    page = (tmp_path / "report.html").read_text()
    assert "vae/mlp/tiny is not here, its training broke off" in page.replace("<wbr>", "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("data", "--models", "gan"), "--budget: got None, allowed: the same time for each model"),
        (("data", "--models", "gan", "--budget", "1m", "--kimg", "2"), "--budget: got '1m and --kimg 2'"),
        (("data", "--models", "gan,gan/dcgan", "--kimg", "1"), "--models: got 'gan', allowed: each model once"),
        (("data", "--models", "unknown", "--kimg", "1"), "--models: got 'unknown'"),
        (("nothing",), "RUN: got 'nothing'"),
        (("a=foreign.npz",), "--data: got None, allowed: the real pictures"),
        (("data", "--models", "gan", "--kimg", "1", "--features", "other"), "--features: got 'other'"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(place: Path, arguments: tuple[str, ...], said: str) -> None:
    code, line = zeuxis("compare", *arguments, cwd=place)
    assert code == 2 and line.startswith(f"zeuxis: {said}"), line


def test_models_of_another_size_are_refused(place: Path, tmp_path: Path) -> None:
    options = TrainOptions(model="vae/mlp/tiny", kimg=0.1, snapshots=1, precision="float32", kernels="plain")
    other = start(options, open_dataset("digits"), tmp_path / "runs").run().folder
    code, said = zeuxis("compare", other, "--data", place / "data", *FAST, cwd=tmp_path)
    assert code == 0, said  # the data are read at the size of the run
    own = sorted((place / "runs").glob("0*"))[0]
    code, said = zeuxis("compare", own, other, *FAST, cwd=tmp_path)
    assert code == 2 and "compare models of one size" in said


# -- in a browser ------------------------------------------------------------------------------------------------------
def test_nothing_is_requested_and_nothing_complains(browser: Browser, place: Path) -> None:
    browser.requests.clear()
    browser.console.clear()
    browser.open(place / "page.html")
    assert {url.split(":")[0] for url in browser.requests} <= {"file", "data"}
    assert {url for url in browser.requests if url.startswith("file:")} == {(place / "page.html").as_uri()}
    assert browser.console == []
    assert browser.value("document.images.length") > 50
    assert browser.value("[...document.images].filter(image => !image.naturalWidth).length") == 0


def test_hostile_names_are_text(browser: Browser, place: Path) -> None:
    browser.open(place / "page.html")
    text = browser.value("document.body.innerText")
    assert BAD_CLASS in text and BAD_NAME in text
    assert browser.value("document.scripts.length") == 0
    assert browser.value("document.title").startswith("data: gan/mlp/tiny")


@pytest.mark.parametrize("width", [360, 700, 1280])
def test_only_tables_and_commands_scroll_sideways(browser: Browser, place: Path, width: int) -> None:
    browser.open(place / "page.html", width=width)
    assert browser.value("document.documentElement.scrollWidth") <= width
    beyond = """[...document.querySelectorAll('body *')].filter(each => !each.closest('.wide, pre, .one') &&
                each.getBoundingClientRect().right > innerWidth + 1).map(each => each.outerHTML.slice(0, 80))"""
    assert browser.value(beyond) == []


def test_small_pictures_stay_sharp_and_both_themes_differ(browser: Browser, place: Path) -> None:
    browser.open(place / "page.html")
    assert browser.value("getComputedStyle(document.images[0]).imageRendering") == "pixelated"
    light = browser.value("getComputedStyle(document.body).backgroundColor")
    browser.open(place / "page.html", dark=True)
    assert browser.value("getComputedStyle(document.body).backgroundColor") != light


def test_it_prints_on_a4_with_the_settings_open(browser: Browser, place: Path, tmp_path: Path) -> None:
    browser.open(place / "page.html")
    browser.pdf(tmp_path / "page.pdf")
    content = (tmp_path / "page.pdf").read_bytes()
    assert content.startswith(b"%PDF") and content.count(b"/MediaBox [0 0 594.95996 841.91998]") >= 2


def test_the_check_sees_requests_and_complaints(browser: Browser, tmp_path: Path) -> None:
    """The browser of these tests is no blind one."""
    browser.requests.clear()
    browser.console.clear()
    (tmp_path / "bad.html").write_text("<img src='http://example.invalid/x.png'><script>console.error('oh')</script>")
    browser.open(tmp_path / "bad.html")
    assert any(url.startswith("http:") for url in browser.requests)
    assert any("oh" in line for line in browser.console)
