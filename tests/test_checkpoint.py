"""Model folders and resume states: what was written comes back, and nothing foreign can crash or run anything."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from zeuxis import checkpoint
from zeuxis.checkpoint import Model, StateStore, load_model, save_model
from zeuxis.config import ImageSpec
from zeuxis.errors import StateError, UserError
from zeuxis.families import make_family
from zeuxis.files import read_json_lines, recover_folder, replacing_folder, write_bytes
from zeuxis.sampling import Sampler

GOLDEN = Path(__file__).parent / "golden" / "models"


def model_of(name: str = "gan/dcgan/tiny", classes: tuple[str, ...] = ("a", "b")) -> Model:
    family = make_family(name, ImageSpec(height=8, width=12, channels=3), len(classes))
    torch.manual_seed(0)
    networks = {part: net.eval() for part, net in family.build().items() if part in family.model_parts}
    return Model(family, networks, name, classes, tuple(range(1, len(classes) + 1)), "", {"images_seen": 5})


@pytest.mark.parametrize("name", ["gan/dcgan/tiny", "vae/conv/tiny"])
def test_a_model_comes_back_and_makes_the_same_pictures(name: str, tmp_path: Path) -> None:
    model = model_of(name)
    digest = save_model(model, tmp_path / "m")
    again = load_model(tmp_path / "m")
    assert (again.name, again.classes, again.class_counts, again.hash, again.about) == (
        name, ("a", "b"), (1, 2), digest, {"images_seen": 5},
    )  # fmt: skip
    assert again.spec == model.spec and again.family.settings == model.family.settings
    (expected,), (found,) = Sampler(model)(range(7)), Sampler(again)(range(7))
    assert np.array_equal(expected, found)


def test_a_model_is_replaced_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "m"
    save_model(model_of(), target)
    (target / "stray").write_text("old")
    before = {file.name: file.read_bytes() for file in target.iterdir()}
    with pytest.raises(OSError, match="disk"), replacing_folder(target) as place:
        (place / "config.json").write_text("half")
        raise OSError("disk")
    assert {file.name: file.read_bytes() for file in target.iterdir()} == before
    save_model(model_of(classes=()), target)
    assert sorted(file.name for file in target.iterdir()) == ["config.json", "model.safetensors"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["m"]


def test_a_kill_between_the_two_renames_is_mended(tmp_path: Path) -> None:
    save_model(model_of(), tmp_path / "m")
    (tmp_path / "m").rename(tmp_path / ".m.old")
    recover_folder(tmp_path / "m")
    assert load_model(tmp_path / "m").classes == ("a", "b")
    (tmp_path / "m").rename(tmp_path / ".m.old")
    assert load_model(tmp_path / "m").classes == ("a", "b"), "the loader mends it by itself"


def edited(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"format_version": 99}, "format 99"),
        ({"format_version": None}, "damaged"),
        ({"family": "diffusion"}, "'diffusion'"),
        ({"network": "unet"}, "'unet'"),
        ({"spec": {"height": 10**9, "width": 8}}, "spec height"),
        ({"spec": "large"}, "damaged"),
        ({"settings": {"network": {"width": 10**12}}}, "network width"),
        ({"settings": {"network": {"code": "import os"}}}, "network code"),
        ({"settings": []}, "damaged"),
        ({"classes": ["a"]}, "damaged"),
        ({"class_counts": [-1, 2]}, "damaged"),
        ({"spec": {"height": 8, "width": 8, "channels": 4}}, "does not fit its config"),
        ({"settings": {"network": {"width": 1024, "max_width": 4096, "latent": 4096}}}, "does not fit its config"),
    ],
)
def test_a_foreign_config_is_one_line(changes: dict[str, Any], word: str, tmp_path: Path) -> None:
    save_model(model_of(), tmp_path / "m")
    edited(tmp_path / "m", **changes)
    with pytest.raises(UserError) as error:
        load_model(tmp_path / "m")
    assert word in str(error.value) and "\n" not in str(error.value)


def test_foreign_weights_are_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    save_model(model_of(), folder)
    whole = (folder / "model.safetensors").read_bytes()
    wrong_type = {key: value.half() for key, value in checkpoint.load_tensors(whole).items()}
    huge = struct.pack("<Q", 2**62) + whole[8:]
    for content in (whole[:-7], whole[:5], b"", b"\x80\x04." + whole, huge, whole[:8] + b"x" + whole[9:]):
        (folder / "model.safetensors").write_bytes(content)
        with pytest.raises(UserError, match=r"damaged|claims|does not fit"):
            load_model(folder)
    save_file(wrong_type, folder / "model.safetensors")
    with pytest.raises(UserError, match="float16"):
        load_model(folder)
    with pytest.raises(UserError, match="train one with"):
        load_model(tmp_path / "absent")


@pytest.mark.parametrize("folder", sorted(GOLDEN.iterdir()) if GOLDEN.exists() else [], ids=lambda path: path.name)
def test_every_released_format_loads_and_makes_its_pictures(folder: Path) -> None:
    model = load_model(folder)
    expected = np.load(folder / "pictures.npy", allow_pickle=False)
    (found,) = Sampler(model)(range(len(expected)))
    # Other processors round otherwise in the last bit: one level of difference is allowed.
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1


def test_there_is_a_golden_model_of_the_present_format() -> None:
    formats = {json.loads((folder / "config.json").read_text())["format_version"] for folder in GOLDEN.iterdir()}
    assert formats == set(range(1, checkpoint.MODEL_FORMAT + 1))


def tensors(value: float) -> dict[str, torch.Tensor]:
    return {"a": torch.full((3, 4), value), "b": torch.arange(6).view(2, 3).t()}


def test_states_come_back_and_only_two_and_the_best_stay(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "state")
    for index in range(6):
        store.save(index * 100, tensors(index), {"images_seen": index * 100, "float": 0.1 + index}, best=index == 1)
    assert store.names() == ["000000000100", "000000000400", "000000000500"]
    (found, values), notes = store.load_latest()  # type: ignore[misc]
    assert notes == [] and values == {"images_seen": 500, "float": 5.1}
    assert torch.equal(found["a"], tensors(5)["a"]) and torch.equal(found["b"], tensors(5)["b"])
    assert store.best_name() == "000000000100"


@pytest.mark.parametrize("damage", ["torn", "flipped", "missing tensors", "torn json", "missing json"])
def test_a_damaged_state_falls_back_to_the_one_before_and_says_so(damage: str, tmp_path: Path) -> None:
    store = StateStore(tmp_path / "state")
    store.save(100, tensors(1), {"n": 1})
    store.save(200, tensors(2), {"n": 2})
    weights, values = tmp_path / "state/000000000200.safetensors", tmp_path / "state/000000000200.json"
    if damage == "torn":
        weights.write_bytes(weights.read_bytes()[:-3])
    elif damage == "flipped":
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(bytes(content))
    elif damage == "missing tensors":
        weights.unlink()
    elif damage == "torn json":
        values.write_text(values.read_text()[:-9])
    else:
        values.unlink()
    (_, found), notes = store.load_latest()  # type: ignore[misc]
    assert found == {"n": 1}
    assert damage == "missing json" or ("000000000200" in notes[0] and "falling back" in notes[0])
    with pytest.raises(StateError):
        store.load("000000000200")


def test_a_state_that_cannot_be_written_leaves_the_old_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = StateStore(tmp_path / "state")
    store.save(100, tensors(1), {"n": 1})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("zeuxis.files.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        store.save(200, tensors(2), {"n": 2})
    monkeypatch.undo()
    (_, found), notes = store.load_latest()  # type: ignore[misc]
    assert found == {"n": 1} and notes == []
    assert not list((tmp_path / "state").glob("*.tmp"))


def test_atomic_files_and_torn_lines(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"one")
    write_bytes(tmp_path / "a", b"two")
    assert (tmp_path / "a").read_bytes() == b"two" and len(list(tmp_path.iterdir())) == 1
    (tmp_path / "rows").write_text('{"a": 1}\n{"a": 2}\n{"a"')
    assert read_json_lines(tmp_path / "rows") == [{"a": 1}, {"a": 2}]
