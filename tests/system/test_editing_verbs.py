"""The editing verbs and export as a user has them: files, marks, one line for every mistake."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from zeuxis.checkpoint import Model, save_model
from zeuxis.config import ImageSpec
from zeuxis.editing.sprites import cleaned
from zeuxis.families import make_family

Command = Callable[..., tuple[int, str, str]]
XMP = "XML:com.adobe.xmp"


def png(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def text_of(path: Path) -> dict[str, str]:
    with Image.open(path) as picture:
        return dict(picture.text)  # type: ignore[attr-defined]


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """An own picture of the models' size."""
    path = tmp_path / "own picture.png"
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 3), dtype=np.uint8).repeat(4, axis=0).repeat(4, axis=1)
    Image.fromarray(pixels).save(path)
    return path


def test_interpolate_writes_frames_gif_and_video(command: Command, gan: Path, tmp_path: Path) -> None:
    asked = ("interpolate", gan, "--keys", "0,3-4", "--frames", 3, "--class", "7", "--scale", 2)
    code, out, errors = command(*asked, "--format", "png", "--out", "frames")
    assert (code, errors) == (0, "") and "7 frames: frames" in out
    assert command("sample", gan, "--seeds", "0,3,4", "--class", "7")[0] == 0
    for number, seed in ((0, 0), (3, 3), (6, 4)):
        frame = png(tmp_path / "frames" / f"frame{number:05d}.png")
        assert np.array_equal(frame[::2, ::2], png(tmp_path / "samples" / f"seed{seed:06d}.png"))
    assert "trainedAlgorithmicMedia" in text_of(tmp_path / "frames" / "frame00001.png")[XMP]
    assert command(*asked, "--loop", "--out", "gif")[0] == 0
    with Image.open(tmp_path / "gif" / "interpolation.gif") as picture:
        assert picture.n_frames >= 8 and picture.size == (24, 16)  # type: ignore[attr-defined]
        assert b"Synthetic: true" in picture.info["comment"]
    av = pytest.importorskip("av")
    assert command(*asked, "--format", "mp4", "--out", "video")[0] == 0
    with av.open(str(tmp_path / "video" / "interpolation.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == 7


def test_mix_and_project_take_own_pictures(command: Command, gan: Path, own: Path, tmp_path: Path) -> None:
    code, out, errors = command("mix", gan, "--coarse", "0-1", "--fine", f"5,{own}", "--steps", 4)
    assert (code, errors) == (0, "") and "4 pictures: mixed" in out
    assert text_of(tmp_path / "mixed" / "row000-column001.png")["Synthetic"] == "partly"
    code, out, errors = command("project", gan, own, "--steps", 6, "--restarts", 2)
    assert (code, errors) == (0, "") and "distance" in out
    with np.load(tmp_path / "projected" / "latents.npz", allow_pickle=False) as archive:
        assert archive["values"].shape[0] == 1 and archive["labels"].shape == (1,)
    distances = json.loads((tmp_path / "projected" / "distances.json").read_text())
    given, found = png(own) / 255.0, png(tmp_path / "projected" / "0000-own picture.png") / 255.0
    assert distances["rmse"][0] == pytest.approx(np.sqrt(np.square(given - found).mean()), abs=1e-5)
    assert text_of(tmp_path / "projected" / "0000-own picture.png")["Synthetic"] == "true"


@pytest.mark.parametrize("family", ["gan", "vae"])
def test_inpaint_changes_the_hole_alone(
    command: Command, family: str, own: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(family)
    assert command("inpaint", model, own, "--box", "4,2,5,4", "--seeds", "0-2", "--steps", 4)[0] == 0
    known = np.ones((8, 12), bool)
    known[2:6, 4:9] = False
    for seed in range(3):
        made = png(tmp_path / "inpainted" / f"seed{seed:06d}.png")
        assert np.array_equal(made[known], png(own)[known]) and not np.array_equal(made, png(own))
    mark = text_of(tmp_path / "inpainted" / "seed000001.png")
    assert mark["Seed"] == "1" and "compositeWithTrainedAlgorithmicMedia" in mark[XMP]
    mask = np.zeros((8, 12), np.uint8)
    mask[2:6, 4:9] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    asked = ("inpaint", model, own, "--mask", "mask.png", "--seeds", 1, "--steps", 4, "--out", "again", "--no-mark")
    assert command(*asked)[0] == 0
    again = png(tmp_path / "again" / "seed000001.png")
    assert np.abs(again.astype(int) - png(tmp_path / "inpainted" / "seed000001.png")).max() <= 1
    assert text_of(tmp_path / "again" / "seed000001.png") == {}


def test_outpaint_makes_a_set_of_formats(command: Command, gan: Path, own: Path, tmp_path: Path) -> None:
    asked = ("outpaint", gan, own, "--formats", "1:1,2:1", "--seeds", 0, "--steps", 2)
    assert command(*asked)[0] == 0
    names = sorted(path.name for path in (tmp_path / "outpainted").iterdir())
    assert names == ["12x12-seed000000.png", "16x8-seed000000.png"]
    assert np.array_equal(png(tmp_path / "outpainted" / "12x12-seed000000.png")[2:10], png(own))


def test_directions_are_found_kept_and_used(command: Command, gan: Path, tmp_path: Path) -> None:
    code, out, errors = command("directions", gan, "--count", 2, "--strengths=-1,0,1")
    assert (code, errors) == (0, "") and "closed-form0" in out and "--edit closed-form0=1.5" in out
    assert command("directions", gan, "--method", "principal", "--index", 1, "--name", "light", "--seeds", 3)[0] == 0
    assert command("sample", gan, "--seeds", "0-1", "--edit", "light=2", "--edit", "closed-form1=-1")[0] == 0
    assert command("sample", gan, "--seeds", "0-1", "--edit", "light=0", "--out", "same")[0] == 0
    assert command("sample", gan, "--seeds", "0-1", "--out", "plain")[0] == 0
    plain = png(tmp_path / "plain" / "seed000000.png")
    assert np.array_equal(png(tmp_path / "same" / "seed000000.png"), plain)
    assert not np.array_equal(png(tmp_path / "samples" / "seed000000.png"), plain)
    code, _, errors = command("sample", gan, "--edit", "dark=1", "--out", "none")
    assert code == 2 and "closed-form0, closed-form1, light" in errors and not (tmp_path / "none").exists()


def test_labelled_pictures_become_a_direction(command: Command, vae: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for label, low in (("dark", 0), ("light", 160)):
        (tmp_path / "labelled" / label).mkdir(parents=True)
        for index in range(30):
            pixels = rng.integers(low, low + 90, (8, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "labelled" / label / f"{index}.png")
    asked = ("directions", vae, "--method", "labels", "--labelled", "labelled", "--name", "bright")
    code, out, errors = command(*asked)
    assert (code, errors) == (0, "") and "bright: towards light" in out
    from zeuxis.checkpoint import load_model
    from zeuxis.editing import load_directions, space_of
    from zeuxis.images import to_float

    space = space_of(load_model(vae))
    codes = space.encode(
        to_float(torch.tensor([40, 200], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 8, 12)), None
    )
    assert codes is not None
    dark, light = codes.values @ load_directions(vae / "model", space)["bright"].vector
    assert light > dark
    assert command("sample", vae, "--seeds", "0-7", "--edit", "bright=3")[0] == 0


def test_encoder_then_compose(command: Command, gan: Path, own: Path, tmp_path: Path) -> None:
    assert command("encoder", gan, "--kimg", 0.1, "--data", "digits")[0] == 0
    assert (gan / "model" / "edits" / "encoder.safetensors").exists()
    shown = command("info", gan / "model")[1]
    assert re.search(r"encoder\s+│?\s*for editing", shown), shown
    layout = {"elements": [{"seed": 1, "box": [0, 0, 6, 8]}, {"picture": own.name, "box": [6, 0, 6, 8], "at": [6, 0]}]}
    (tmp_path / "layout.json").write_text(json.dumps(layout))
    code, out, errors = command("compose", gan, "layout.json", "--seeds", "0-1", "--steps", 3, "--blend", "kept")
    assert (code, errors) == (0, "") and "2 pictures: composed" in out
    assert np.abs(png(tmp_path / "composed" / "seed000001.png")[:, 6:].astype(int) - png(own)[:, 6:]).max() <= 1
    assert text_of(tmp_path / "composed" / "seed000001.png")["Synthetic"] == "partly"
    assert command("compose", gan, "--grid", "0,1/2,3", "--seeds", 0, "--steps", 2, "--out", "grid")[0] == 0
    assert text_of(tmp_path / "grid" / "seed000000.png")["Synthetic"] == "true"
    (gan / "model" / "edits" / "encoder.safetensors").unlink()


def test_sample_for_games(command: Command, gan: Path, tmp_path: Path) -> None:
    assert command("sample", gan, "--seeds", "0-4")[0] == 0
    assert command("sample", gan, "--seeds", "0-4", "--format", "atlas", "--out", "atlas")[0] == 0
    sheet, document = png(tmp_path / "atlas" / "atlas.png"), json.loads((tmp_path / "atlas" / "atlas.json").read_text())
    for seed in range(5):
        box = document["frames"][f"seed{seed:06d}"]["frame"]
        cut = sheet[box["y"] : box["y"] + box["h"], box["x"] : box["x"] + box["w"]]
        assert np.array_equal(cut, png(tmp_path / "samples" / f"seed{seed:06d}.png"))
    assert command("sample", gan, "--seeds", "0-4", "--pixel-art", 4, "--enlarge", 3, "--out", "art")[0] == 0
    pictures = np.stack([png(tmp_path / "art" / f"seed{seed:06d}.png") for seed in range(5)])
    assert pictures.shape == (5, 24, 36, 3) and len(np.unique(pictures.reshape(-1, 3), axis=0)) <= 4
    assert np.array_equal(pictures[:, ::3, ::3].repeat(3, 1).repeat(3, 2), pictures)
    code, out, _ = command("sample", gan, "--seeds", "0-1", "--format", "tiles", "--out", "tiles")
    assert code == 0 and "difference across the edge" in out
    assert png(tmp_path / "tiles" / "tiled000001.png").shape == (24, 36, 3)
    code, _, errors = command("sample", gan, "--pixel-art", 4, "--format", "npz", "--out", "none")
    assert code == 2 and "--format" in errors and not (tmp_path / "none").exists()


def test_sprites_have_clean_edges_where_they_are_asked_for(command: Command, gan: Path, tmp_path: Path) -> None:
    family = make_family("gan/mlp/tiny", ImageSpec(height=16, width=16, channels=4))
    networks = {part: network.eval() for part, network in family.build().items() if part in family.model_parts}
    with torch.no_grad():
        networks["generator"].to_picture.bias.view(4, -1)[3].normal_(0, 2)  # alpha of all kinds
    save_model(Model(family, networks, "gan/mlp/tiny"), tmp_path / "rgba")
    made = {}
    for name, extra in {"raw": (), "clean": ("--clean-edges",)}.items():
        assert command("sample", "rgba", "--seeds", "0-3", *extra, "--out", name)[0] == 0
        made[name] = np.stack([png(tmp_path / name / f"seed{seed:06d}.png") for seed in range(4)])
    assert np.array_equal(made["clean"], to_rows(cleaned(made["raw"].transpose(0, 3, 1, 2))))
    assert not np.array_equal(made["clean"], made["raw"])
    for name, extra in {"clean": (), "raw": ("--raw-edges",)}.items():
        assert (
            command("sample", "rgba", "--seeds", "0-3", "--format", "atlas", *extra, "--out", f"atlas-{name}")[0] == 0
        )
        box = json.loads((tmp_path / f"atlas-{name}" / "atlas.json").read_text())["frames"]["seed000002"]["frame"]
        sheet = png(tmp_path / f"atlas-{name}" / "atlas.png")
        assert np.array_equal(sheet[box["y"] : box["y"] + 16, box["x"] : box["x"] + 16], made[name][2])
    code, _, errors = command("sample", gan, "--clean-edges", "--out", "none")
    assert code == 2 and "--clean-edges" in errors and "transparency" in errors and not (tmp_path / "none").exists()


def to_rows(pixels: np.ndarray) -> np.ndarray:
    """uint8 `[N, C, H, W]` as files have it."""
    return pixels.transpose(0, 2, 3, 1)


def test_cubemap_keeps_the_mark(command: Command, tmp_path: Path) -> None:
    from zeuxis.images import picture_of, save_png

    pixels = np.random.default_rng(0).integers(0, 256, (8, 16, 3), dtype=np.uint8)
    save_png(picture_of(pixels), tmp_path / "round.png", {"Software": "Zeuxis", "Synthetic": "true", "Model": "m"})
    assert command("cubemap", "round.png")[0] == 0
    assert png(tmp_path / "cubemap" / "py.png").shape == (4, 4, 3)
    assert "trainedAlgorithmicMedia" in text_of(tmp_path / "cubemap" / "nz.png")[XMP]
    assert json.loads((tmp_path / "cubemap" / "cubemap.json").read_text())["side"] == 4
    Image.fromarray(pixels[:, :8]).save(tmp_path / "square.png")
    code, _, errors = command("cubemap", "square.png")
    assert code == 2 and "twice as wide as high" in errors


@pytest.mark.parametrize("family", ["gan", "vae"])
def test_onnx_runs_without_us(command: Command, family: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
    model = request.getfixturevalue(family)
    code, out, errors = command("export", model, "--out", "deep/model.onnx")
    assert (code, errors) == (0, "") and "differs from PyTorch by at most" in out and "64 seeds" in out
    from zeuxis.checkpoint import load_model
    from zeuxis.images import to_pixels
    from zeuxis.sampling import Sampler

    sampler = Sampler(load_model(model))
    session = runtime.InferenceSession(tmp_path / "deep" / "model.onnx", providers=["CPUExecutionProvider"])
    noise, labels = sampler.noise([0, 1, 2]), sampler.labels([0, 1, 2], None)
    feed = {name: value.numpy() for name, value in noise.items()}
    feed |= {} if labels is None else {"labels": labels.numpy()}
    made = to_pixels(torch.from_numpy(session.run(["pictures"], feed)[0])).numpy()
    wanted = next(iter(sampler([0, 1, 2])))
    assert np.abs(made.astype(int) - wanted).max() <= 1
    properties = session.get_modelmeta().custom_metadata_map
    assert properties["Synthetic"] == "true" and json.loads(properties["spec"])["width"] == 12


def test_mistakes_are_one_line(command: Command, gan: Path, own: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text('{"elements": [{"seed": 1, "colour": 3}]}')
    (tmp_path / "text.png").write_text("no picture")
    for arguments, words in [
        (("interpolate", gan, "--keys", "0"), ["--keys", "two or more"]),
        (("interpolate", gan, "--keys", "0,none.png"), ["--keys", "none.png", "no such file"]),
        (("interpolate", gan, "--keys", "0,text.png"), ["--keys", "text.png", "it is none"]),
        (("inpaint", gan, own), ["--mask", "--box"]),
        (("inpaint", gan, own, "--box", "1,2,3"), ["--box", "1,2,3", "x,y,width,height inside 12x8"]),
        (("inpaint", gan, own, "--box", "12,0,1,1"), ["--box", "inside 12x8"]),
        (("outpaint", gan, own), ["--size", "--formats"]),
        (("outpaint", gan, own, "--size", "4x4"), ["--size", "12x8 or larger"]),
        (("compose", gan), ["LAYOUT", "--grid"]),
        (("compose", gan, "broken.json"), ["LAYOUT", "elements.0.colour"]),
        (("compose", gan, "--grid", "0,x"), ["--seeds", "0,x"]),
        (("directions", gan, "--method", "labels"), ["--labelled", "--method labels"]),
        (("directions", gan, "--index", 99), ["--index", "99"]),
        (("directions", gan, "--strengths", "1,two"), ["--strengths", "1,two"]),
        (("encoder", gan, "--budget", "soon"), ["--budget", "soon"]),
        (("export", gan, "--format", "web", "--runtime", "nowhere"), ["--runtime", "nowhere", "npm install"]),
        (("project", gan, "none.png"), ["PICTURE", "no such file"]),
    ]:  # fmt: skip
        code, out, errors = command(*arguments)
        assert code == 2 and out == "" and errors.startswith("zeuxis: ") and errors.count("\n") == 1, arguments
        for word in words:
            assert word in errors, (errors, word)
