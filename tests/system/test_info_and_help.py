"""`zeuxis info` on everything, `--help` of every verb, and the way the command line leaves."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import environment

from zeuxis import __version__
from zeuxis.checkpoint import load_model
from zeuxis.families import model_names

Command = Callable[..., tuple[int, str, str]]


def flat(text: str) -> str:
    """A table's words without its lines and folds."""
    return re.sub(r"[\s│]+", " ", text)


def test_info_lists_every_model_name(command: Command) -> None:
    code, out, errors = command("info")
    assert code == 0 and errors == ""
    for name, preset in model_names():
        assert name in out and preset.about.split()[0] in out


def test_info_on_a_preset_lists_what_can_be_set(command: Command) -> None:
    code, out, _ = command("info", "dcgan/tiny")
    assert code == 0
    for words in ("gan/dcgan/tiny", "--set network.width", "--set objective.loss", "--set training.learning_rate"):
        assert words in out


def test_info_on_data(command: Command, bad_folder: Path) -> None:
    code, out, _ = command("info", "digits")
    assert code == 0 and "8x8 grey" in out and "1527 / 90 / 180" in out and "0, 1, 2, 3" in out
    code, out, _ = command("info", bad_folder)
    assert code == 0 and "12x12 RGB" in out


def test_info_on_a_run_and_its_model(command: Command, gan: Path, vae: Path) -> None:
    code, out, _ = command("info", gan)
    assert code == 0
    for words in ("gan/dcgan/tiny", "digits", "200 (100% of the run)", "finished yes"):
        assert words in flat(out)
    code, out, _ = command("info", gan / "model")
    assert code == 0
    for words in ("gan/dcgan/tiny", "12x8 RGB", "sample only", "truncation", "0, 1, 2, 3, 4, 5, 6, 7, 8, 9"):
        assert words in flat(out)
    assert load_model(gan).hash in re.sub(r"[\s│]", "", out), "in full, even where it has to be folded"
    code, out, _ = command("info", vae / "model")
    assert code == 0 and "encode" in out and "log_likelihood" in out and "temperature" in out


def test_names_of_strangers_are_shown_and_not_obeyed(command: Command, gan: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.safetensors").write_bytes((gan / "model" / "model.safetensors").read_bytes())
    config = json.loads((gan / "model" / "config.json").read_text())
    config["classes"][:3] = ["[/red]", "[bold]fat", "\x1b]0;owned\x07"]
    config["about"]["data"] = "[link=file:///etc/passwd]"
    (model / "config.json").write_text(json.dumps(config))
    code, out, errors = command("info", model)
    assert code == 0 and errors == ""
    assert "[/red], [bold]fat" in out and "[link=file:///etc/passwd]" in out and "\x1b" not in out
    for line in ("sample", "info"):
        code, _, errors = command(line, model, *(["--class", "x"] if line == "sample" else []))
        assert "\x1b" not in errors and errors.count("\n") <= 1


VERBS = [[], ["demo"], ["data"], ["data", "check"], ["train"], ["sample"], ["evaluate"], ["info"]]


def test_help_of_every_verb_works_and_does_not_load_torch() -> None:
    code = (
        "import sys\n"
        "from zeuxis.cli import app, run\n"
        "verbs = {verb.name for verb in [*app.registered_commands, *app.registered_groups]}\n"
        f"for verb in {VERBS!r} + [[name] for name in verbs]:\n"
        "    sys.argv = ['zeuxis', *verb, '--help']\n"
        "    assert run() == 0, verb\n"
        "print([name for name in ('torch', 'numpy', 'sklearn', 'PIL', 'scipy') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=120)
    assert done.stderr == "" and done.stdout.endswith("[]\n")
    for words in ("FAMILY[/NETWORK[/PRESET]]", "--resume", "--class", "--tensorboard", "Usage: zeuxis data check"):
        assert words in done.stdout


def test_python_dash_m_and_the_version() -> None:
    for arguments, words in ((["--help"], "Usage: zeuxis"), (["--version"], f"zeuxis {__version__}\n"), ([], "Usage")):
        command = [sys.executable, "-m", "zeuxis", *arguments]
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120)
        assert done.returncode == 0 and words in done.stdout and done.stderr == ""


def test_a_closed_pipe_is_no_traceback() -> None:
    line = f"{sys.executable} -m zeuxis --help | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode in (0, 1, 141) and done.stderr == ""


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), PermissionError(13, "Permission denied")])
def test_what_the_machine_refuses_is_one_line(
    error: OSError, command: Command, gan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("zeuxis.sampling.save_png", refuse)
    code, _, errors = command("sample", gan, "--seeds", "0-3")
    assert code == 1 and errors == f"zeuxis: {error.strerror}\n"
