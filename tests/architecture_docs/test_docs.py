"""README and docs: their Python runs, every verb and option that they name exists, the reference is up to date, links
lead somewhere."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Programs beside zeuxis whose options a page may show in a command.
FOREIGN = {"pip", "python", "git", "make", "npm", "tar", "pytest", ".venv/bin/python", ".venv/bin/pip"}


def blocks(page: Path) -> list[tuple[str, str]]:
    """What stands after the three ticks, and the text, of each block of code."""
    return [(kind.strip(), text) for kind, text in FENCE.findall(page.read_text(encoding="utf-8"))]


def runnable(page: Path) -> str:
    """All blocks marked as python, in order; one that names a file is a part of that file and not run here."""
    return "\n".join(text for kind, text in blocks(page) if kind == "python")


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_reference", DOCS / "make_reference.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_reference"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", [page for page in PAGES if runnable(page)], ids=lambda page: page.name)
def test_python_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands, but for lengths: what a page trains for minutes is trained for a few steps."""
    monkeypatch.chdir(tmp_path)
    short = re.sub(r"\b(epochs|budget)=\d+", "epochs=0.1", runnable(page))
    exec(compile(short, page.name, "exec"), {"__name__": "page"})


def commands_of(page: Path) -> list[str]:
    """Every command line of zeuxis in blocks without a language, and in text between ticks."""
    text = page.read_text(encoding="utf-8")
    lines = [line.removeprefix("$ ") for kind, block in blocks(page) if kind in ("", "sh", "console", "bash")
             for line in block.replace("\\\n", " ").splitlines()]  # fmt: skip
    inline = re.findall(r"`([^`\n]+)`", FENCE.sub("", text))
    return [line.strip() for line in lines + inline if re.match(r"(\.venv/bin/)?zeuxis( |$)", line.strip())]


def as_words(command: str) -> list[str]:
    """As a shell splits it; at spaces where the text is no whole command."""
    try:
        return shlex.split(command)
    except ValueError:
        return command.split()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_verb_and_option_of_a_page_exists(page: Path, reference: ModuleType) -> None:
    verbs = {verb.name: verb for verb in reference.verbs()}
    for command in commands_of(page):
        words = as_words(command.split(" #")[0])[1:]
        name = next((" ".join(words[:n]) for n in (2, 1) if " ".join(words[:n]) in verbs), None)
        general = {"--help", "--version"}
        if not words or words[0] in general or words[0].isupper():
            continue
        assert name, f"{page.name}: `{command}` names no verb of {', '.join(verbs)}"
        known = {flag for each in verbs[name].parameters for flag in each.flags} | general
        used = {word.split("=")[0] for word in words if word.startswith("--")}
        assert used <= known, f"{page.name}: `{command}` has options that `zeuxis {name}` has not: {used - known}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_option_in_the_text_of_a_page_exists(page: Path, reference: ModuleType) -> None:
    known = {flag for verb in reference.verbs() for each in verb.parameters for flag in each.flags}
    known |= {"--help", "--version"}
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    spans = [span for span in re.findall(r"`([^`\n]+)`", text) if span.split()[0] not in FOREIGN]
    used = {flag for span in spans for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]*", span)}
    assert used <= known, f"{page.name} names options that no verb has: {used - known}"


def test_models_and_settings_named_in_commands_exist() -> None:
    from zeuxis.config import ImageSpec, parse_settings
    from zeuxis.families import clip_length, make_family, resolve_name

    checked = 0
    for page in PAGES:
        for command in commands_of(page):
            found = re.search(r"--model(?: |=)(\S+)", command)
            if "vae/linear" in command or (found and found[1].isupper()):
                continue  # the example of add-a-network.md
            name = resolve_name(found[1] if found else "gan")
            words = as_words(command)
            pairs = [after for word, after in zip(words, words[1:], strict=False) if word == "--set"]
            if "VALUE" not in command:
                make_family(name, ImageSpec(height=32, width=32, frames=clip_length(name)), 0, parse_settings(pairs))
            checked += bool(found) + len(pairs)
    assert checked > 5


def test_the_reference_is_up_to_date(reference: ModuleType) -> None:
    assert (DOCS / "reference.md").read_text(encoding="utf-8") == reference.page(), "run `make docs`"


def anchor(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("https://", "http://")):
            continue
        path, _, part = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.exists(), f"{page.name}: {target} is not there"
        assert place.is_relative_to(ROOT), f"{page.name}: {target} leaves the repository"
        if part:
            headings = re.findall(r"^#+ (.*)$", place.read_text(encoding="utf-8"), re.MULTILINE)
            assert part in map(anchor, headings), f"{page.name}: no heading for {target}"


def test_pictures_are_small_shown_and_marked_as_synthetic() -> None:
    from PIL import Image

    shown = {Path(target).name for page in PAGES for target in re.findall(r"\(([^)\s]+\.png)\)", page.read_text())}
    pictures = sorted((DOCS / "pictures").glob("*.png"))
    assert pictures and {picture.name for picture in pictures} == shown
    assert sum(picture.stat().st_size for picture in pictures) < 2**20
    for picture in pictures:
        if "real" not in picture.name:
            with Image.open(picture) as opened:
                assert opened.info.get("Synthetic") in ("true", "partly"), picture.name


def put_in(path: Path, text: str) -> None:
    """A whole new file, or a new entry at the end of the table that the file ends with."""
    if not path.exists():
        path.write_text(text, encoding="utf-8")
        return
    before, brace, after = path.read_text(encoding="utf-8").rpartition("\n}\n")
    assert brace, f"{path.name} ends with a table"
    path.write_text(f"{before}\n{text}}}\n{after}", encoding="utf-8")


@pytest.mark.slow
def test_add_a_network_works_as_the_page_says(tmp_path: Path) -> None:
    """Puts the page's blocks into a copy of the package; the contract tests pass on the network that it adds."""
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copytree(ROOT / "tests" / "contract", tmp_path / "tests" / "contract")
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path / "tests" / "conftest.py")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    parts = [(kind.split()[1], text) for kind, text in blocks(DOCS / "add-a-network.md") if kind.startswith("python ")]
    assert len(parts) == 3
    for name, text in parts:
        put_in(tmp_path / name, text)
    table = tmp_path / "src/zeuxis/families/vae/__init__.py"
    table.write_text(re.sub(r"(families\.vae import [a-z, ]+)", r"\1, linear", table.read_text(), count=1))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "src"), "OMP_NUM_THREADS": "1"}
    arguments = ["-m", "pytest", "-o", "addopts=--strict-markers", "tests/contract", "-k", "vae and linear"]
    done = subprocess.run([sys.executable, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed and int(passed[1]) >= 15, done.stdout
    where = "import zeuxis, zeuxis.families as f; print(zeuxis.__file__, f.resolve_name('vae/linear'))"
    found = subprocess.run([sys.executable, "-c", where], env=environment, capture_output=True, text=True, check=True)
    assert str(tmp_path) in found.stdout and "vae/linear/small" in found.stdout
