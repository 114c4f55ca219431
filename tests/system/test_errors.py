"""Every mistake on the command line is one line that names option, value, what is allowed and what to do now."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., tuple[int, str, str]]

# Arguments behind `zeuxis`, and the words that must be in the one line: option, value, allowed, next step.
TABLE: list[tuple[str, list[str]]] = [
    # -- the command line itself
    ("paint", ["'paint'", "train", "sample", "info", "zeuxis --help"]),
    ("train", ["'data'", "zeuxis train --help"]),
    ("train digits --bacth 3", ["--bacth", "--batch", "zeuxis train --help"]),
    ("train digits --batch many", ["--batch", "'many'", "integer", "zeuxis train --help"]),
    ("train digits --kimg", ["--kimg", "requires an argument"]),
    ("train digits extra", ["extra", "zeuxis train --help"]),
    ("train digits --precision float16", ["--precision", "float16", "bfloat16", "zeuxis train --help"]),
    ("train digits --kernels fast", ["--kernels", "fast", "patches", "zeuxis train --help"]),
    ("train digits --kernels graphs --device cpu", ["--kernels", "graphs", "a CUDA GPU", "leave --kernels out"]),
    ("train digits --channels 2", ["--channels", "'2'", "auto", "4", "zeuxis train --help"]),
    ("train digits --fit squeeze", ["--fit", "squeeze", "stretch", "zeuxis train --help"]),
    ("train digits --wrap z", ["--wrap", "'z'", "xy", "zeuxis train --help"]),
    # -- config
    ("train digits --resolution 30", ["--resolution", "'30'", "multiple of 4", "--resolution 32x32"]),
    ("train digits --resolution wide", ["--resolution", "'wide'", "WIDTHxHEIGHT", "try --resolution auto"]),
    ("train digits --resolution 99999", ["--resolution", "'99999'", "multiple of 4", "--resolution 8192x8192"]),
    ("train digits --budget soon", ["--budget", "'soon'", "90s, 10m or 1.5h", "try --budget 10m"]),
    ("train digits --budget -5m", ["--budget", "'-5m'", "90s, 10m or 1.5h", "try --budget 10m"]),
    ("train digits --kimg 0", ["--kimg", "0.0", "greater than 0", "zeuxis train --help"]),
    ("train digits --kimg nan", ["--kimg", "nan", "Input should be", "zeuxis train --help"]),
    ("train digits --kimg inf", ["--kimg", "inf", "less than", "zeuxis train --help"]),
    ("train digits --batch 0", ["--batch", "0", "greater than or equal to 1", "zeuxis train --help"]),
    ("train digits --batch 99999", ["--batch", "99999", "65536", "zeuxis train --help"]),
    ("train digits --micro-batch 0", ["--micro-batch", "0", "greater than or equal to 1", "zeuxis train --help"]),
    ("train digits --seed -1", ["--seed", "-1", "greater than or equal to 0", "zeuxis train --help"]),
    ("train digits --snapshots 0", ["--snapshots", "0", "greater than or equal to 1", "zeuxis train --help"]),
    ("train digits --set width", ["--set", "'width'", "key=value", "equals sign"]),
    ("train digits --set network.depth=3", ["--set", "'network.depth'", "network.width", "spelling"]),
    ("train digits --set network=3", ["--set", "'network'", "network.width", "spelling"]),
    ("train digits --set network.width=wide", ["network width", "'wide'", "integer", "zeuxis info"]),
    ("train digits --set training.beta1=2", ["training beta1", "2", "less than 1", "zeuxis info"]),
    ("train digits --kimg 0.1 --set objective.loss=best", ["objective loss", "'best'", "minimax", "zeuxis info"]),
    # -- models
    ("train digits --model stylegan", ["--model", "'stylegan'", "gan/dcgan/tiny", "short form"]),
    ("train digits --model mlp", ["--model", "'mlp'", "gan/mlp, vae/mlp", "which family"]),
    ("info stylegan", ["WHAT", "'stylegan'", "gan/dcgan/tiny", "short form"]),
    # -- planning
    ("train FOLDER --conditional", ["--conditional", "'pictures'", "data with classes", "sub-folder"]),
    ("train digits --device toaster --kimg 1", ["--device", "'toaster'", "auto, cpu", "try --device cpu"]),
    # -- runs
    ("train digits --resume nowhere", ["--resume", "'nowhere'", "config.json", "cannot be read"]),
    ("train digits --out FILE --kimg 0.1 TINY", ["--out", "FILE", "a folder that can be written"]),
    # -- data
    ("train nowhere", ["DATA", "'nowhere'", "a folder, a .zip", "spelling"]),
    ("train FILE", ["DATA", "FILE", "a folder, a .zip", "the folder that the pictures are in"]),
    ("train EMPTY", ["DATA", "0 training pictures", "at least 2"]),
    ("info FILE", ["DATA", "FILE", "a folder, a .zip"]),
    ("data check nowhere", ["DATA", "'nowhere'", "a folder, a .zip", "spelling"]),
    ("demo --kimg 0", ["--kimg", "0.0", "greater than 0"]),
]


@pytest.mark.parametrize(("line", "words"), TABLE, ids=[entry[0] for entry in TABLE])
def test_a_mistake_is_one_line(line: str, words: list[str], command: Command, tmp_path: Path, bad_folder: Path) -> None:
    (tmp_path / "file.txt").write_text("no picture")
    (tmp_path / "nothing").mkdir()
    tiny = "--model gan/mlp/tiny --precision float32 --kernels plain"
    places = {"FOLDER": str(bad_folder), "FILE": "file.txt", "EMPTY": "nothing", "TINY": tiny}
    for word, place in places.items():
        line = line.replace(word, place)
    code, _, errors = command(*line.split(" "))
    assert code == 2 and errors.startswith("zeuxis: ") and errors.count("\n") == 1, errors
    for word in words:
        assert places.get(word, word) in errors
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("config", ["{}", "[]", "nonsense", '{"asked": 3}', '{"asked": {"options": {"model": 4}}}'])
def test_a_damaged_run_is_one_line(config: str, command: Command, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "00000-gan-digits"
    run.mkdir(parents=True)
    (run / "log.txt").touch()
    (run / "config.json").write_text(config)
    for arguments in (("info", run), ("train", "digits", "--resume", run)):
        code, out, errors = command(*arguments)
        assert code == 2 and out == "" and errors.count("\n") == 1, errors
        assert str(run) in errors or "--resume" in errors


def test_a_run_of_another_format_is_one_line(command: Command, gan: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "00000-gan-digits"
    run.mkdir(parents=True)
    config = json.loads((gan / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "format_version": 99}))
    code, _, errors = command("train", "digits", "--resume", run)
    assert code == 1 and "run format 99, not 1" in errors and errors.count("\n") == 1
    del config["resolved"]
    (run / "config.json").write_text(json.dumps(config))
    code, _, errors = command("train", "digits", "--resume", run)
    assert code == 1 and "resolved" in errors and errors.count("\n") == 1
