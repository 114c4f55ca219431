"""A model folder from a stranger crashes nothing: thousands of odd configs and weights end in one line."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import zeuxis

from zeuxis.checkpoint import load_model
from zeuxis.errors import ZeuxisError
from zeuxis.sampling import Sampler

ODD: list[Any] = [
    None, True, -1, 0, 1, 3, 2**31, 2**63, -(2**70), 10**400, 0.5, 1e308, float("inf"), float("nan"), "", "x", "\x00",
    "../../etc", "é" * 5000, [], {}, [[]], [None], [1, 2, 3], {"a": 1}, [{}] * 50, "[/b]", "\ud800",
]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value inside JSON, the containers too."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


def mutate(config: Any, chance: random.Random) -> Any:
    """The config with one value replaced, removed, doubled or added."""
    config = json.loads(json.dumps(config))
    *parents, last = chance.choice(list(places(config)))
    holder = config
    for key in parents:
        holder = holder[key]
    what = chance.randrange(4)
    if what == 0:
        del holder[last]
    elif what == 1 and isinstance(holder, dict):
        holder[chance.choice(["extra", "__class__", "", "spec"])] = chance.choice(ODD)
    else:
        holder[last] = chance.choice(ODD)
    return config


def use(folder: Path) -> bool:
    """Loads and, where that goes, samples; whether it was accepted. Nothing but a `ZeuxisError` may come out."""
    try:
        model = load_model(folder)
        sampler = Sampler(model)
        next(sampler([0]))
        if model.classes:
            sampler.label_array(np.arange(3), None)
    except ZeuxisError as error:
        assert "\n" not in str(error) and len(str(error)) < 2000
        return False
    return True


@pytest.fixture(params=["gan", "vae"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return Path(shutil.copytree(request.getfixturevalue(request.param) / "model", tmp_path / "model"))


def test_odd_configs(folder: Path) -> None:
    config, chance = json.loads((folder / "config.json").read_text()), random.Random(0)
    assert use(folder)
    accepted = 0
    for _ in range(300):
        odd = config
        for _ in range(chance.choice([1, 1, 1, 2, 5])):
            odd = mutate(odd, chance)
        (folder / "config.json").write_text(json.dumps(odd))
        accepted += use(folder)
    assert 0 < accepted < 200, "some changes are harmless, most are not"


def test_odd_bytes_in_the_config(folder: Path) -> None:
    whole, chance = (folder / "config.json").read_bytes(), random.Random(1)
    for _ in range(150):
        content = bytearray(whole)
        for _ in range(chance.choice([1, 3])):
            content[chance.randrange(len(content))] = chance.randrange(256)
        (folder / "config.json").write_bytes(content[: chance.choice([len(content), chance.randrange(len(content))])])
        use(folder)
    for content in (b"", b"\xff\xfe", b"[" * 200_000, b'{"format_version": 1e999}', b'{"format_version": -5}', b"1"):
        (folder / "config.json").write_bytes(content)
        assert not use(folder)


def test_odd_weights(folder: Path) -> None:
    file, chance = folder / "model.safetensors", random.Random(2)
    whole = file.read_bytes()
    header = int.from_bytes(whole[:8], "little")
    for _ in range(300):
        content = bytearray(whole)
        for _ in range(chance.choice([1, 2, 8])):
            content[chance.randrange(8 + header if chance.random() < 0.8 else len(content))] = chance.randrange(256)
        if chance.random() < 0.3:
            content = content[: chance.randrange(len(content))]
        file.write_bytes(content)
        use(folder)
    for description in ({}, [], {"x": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]}}):
        text = json.dumps(description).encode()
        file.write_bytes(len(text).to_bytes(8, "little") + text + b"\0" * 4)
        assert not use(folder)


def test_the_command_line_says_it_in_one_line(folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "about": [1, 2], "classes": "abc"}))
    for line in (("sample", folder), ("info", folder)):
        done = zeuxis(*line, cwd=tmp_path)
        assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1
        assert "MODEL" in done.stderr and "damaged" in done.stderr
