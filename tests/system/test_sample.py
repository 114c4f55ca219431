"""`zeuxis sample`: the same seed is the same picture, and every mistake is one line."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from command_line import environment, zeuxis
from PIL import Image

from zeuxis.checkpoint import load_model
from zeuxis.sampling import Sampler, draw_labels, seeds_array, write_npz

Command = Callable[..., tuple[int, str, str]]


def png(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_png_per_seed_grid_and_npz_show_the_same_pictures(command: Command, gan: Path, tmp_path: Path) -> None:
    code, out, _ = command("sample", gan, "--seeds", "0-4,9", "--out", "png")
    assert code == 0 and "6 pictures: png, png/grid.png" in out
    names = [*(f"seed{seed:06d}.png" for seed in (0, 1, 2, 3, 4, 9)), "grid.png"]
    assert sorted(path.name for path in (tmp_path / "png").iterdir()) == sorted(names)
    assert command("sample", gan, "--seeds", "0-4,9", "--out", "npz", "--format", "npz")[0] == 0
    with np.load(tmp_path / "npz" / "samples.npz", allow_pickle=False) as archive:
        images, seeds, labels = archive["images"], archive["seeds"], archive["labels"]
    assert (images.dtype, images.shape) == (np.uint8, (6, 8, 12, 3))
    assert seeds.tolist() == [0, 1, 2, 3, 4, 9]
    assert labels.tolist() == draw_labels(seeds.tolist(), load_model(gan).class_counts).tolist()
    for name, picture in zip(names[:-1], images, strict=True):
        assert np.array_equal(png(tmp_path / "png" / name), picture)
    assert command("sample", gan, "--seeds", "0-3", "--out", "grid", "--format", "grid")[0] == 0
    assert [path.name for path in (tmp_path / "grid").iterdir()] == ["grid.png"]
    sheet, scale = png(tmp_path / "grid" / "grid.png"), 64 // 12
    assert sheet.shape == (2 * (8 * scale + 2) + 2, 2 * (12 * scale + 2) + 2, 3)
    assert np.array_equal(sheet[2 : 2 + 8 * scale : scale, 2 : 2 + 12 * scale : scale], images[0])


def test_the_same_seed_is_the_same_picture_in_another_process_batch_and_order(gan: Path, tmp_path: Path) -> None:
    here = Sampler(load_model(gan))
    expected = {seed: picture for seed in range(70, 140) for chunk in here([seed]) for picture in chunk}
    backwards = [picture for chunk in here(range(139, 69, -1)) for picture in chunk][::-1]
    done = zeuxis("sample", gan, "--seeds", "70-139", "--format", "npz", cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == ""
    with np.load(tmp_path / "samples" / "samples.npz", allow_pickle=False) as archive:
        other = archive["images"].transpose(0, 3, 1, 2)
    for index, seed in enumerate(range(70, 140)):
        assert np.array_equal(expected[seed], other[index]) and np.array_equal(expected[seed], backwards[index])
    assert len({picture.tobytes() for picture in other}) == 70, "other seeds, other pictures"


def test_products_in_bfloat16_change_little(command: Command, gan: Path, tmp_path: Path) -> None:
    for precision in ("float32", "bfloat16"):
        out = ("--out", precision, "--format", "npz", "--precision", precision)
        assert command("sample", gan, "--seeds", "0-9", *out)[0] == 0
    exact, rounded = (np.load(tmp_path / each / "samples.npz")["images"] for each in ("float32", "bfloat16"))
    assert 0 < np.abs(exact.astype(int) - rounded).mean() < 3


def test_a_class_by_its_name(command: Command, gan: Path, tmp_path: Path) -> None:
    for name in ("3", "7"):
        code, _, _ = command("sample", gan, "--class", name, "--seeds", "0-9", "--out", name, "--format", "npz")
        assert code == 0
    pictures = {}
    for name in ("3", "7"):
        with np.load(tmp_path / name / "samples.npz", allow_pickle=False) as archive:
            assert archive["labels"].tolist() == [int(name)] * 10
            pictures[name] = archive["images"]
    assert not np.array_equal(pictures["3"], pictures["7"])
    sampler = Sampler(load_model(gan))
    assert np.array_equal(np.concatenate(list(sampler(range(10), label=7))).transpose(0, 2, 3, 1), pictures["7"])


def test_truncation_and_temperature_turn_the_noise(command: Command, gan: Path, vae: Path, tmp_path: Path) -> None:
    for model, option in ((gan, "--truncation"), (vae, "--temperature")):
        spread = []
        for value in ("1", "0"):
            out = f"{option}{value}"
            assert command("sample", model, option, value, "--out", out, "--format", "npz", "--seeds", "0-31")[0] == 0
            with np.load(tmp_path / out / "samples.npz", allow_pickle=False) as archive:
                kept = archive["labels"] == archive["labels"][0] if "labels" in archive else slice(None)
                spread.append(archive["images"][kept].astype(float).std(axis=0).mean())
        assert spread[0] > spread[1], "without noise, pictures of a class are one picture"
        assert spread[1] < 1e-6


def test_pngs_say_that_they_are_synthetic(command: Command, gan: Path, tmp_path: Path) -> None:
    digest = load_model(gan).hash[:16]
    assert command("sample", gan, "--seeds", "5", "--out", "marked")[0] == 0
    assert command("sample", gan, "--seeds", "5", "--out", "plain", "--no-mark")[0] == 0
    with Image.open(tmp_path / "marked" / "seed000005.png") as picture:
        text = dict(picture.text)  # type: ignore[attr-defined]
        xmp = text.pop("XML:com.adobe.xmp")
        described = ElementTree.fromstring(xmp).find(".//{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description")
        assert described is not None
        assert described.attrib["{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"] == (
            "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
        )
        assert text == {
            "Software": "Zeuxis", "Synthetic": "true", "Model": f"gan/dcgan/tiny {digest}", "Seed": "5",
        }  # fmt: skip
    with Image.open(tmp_path / "marked" / "grid.png") as picture:
        assert picture.text["Synthetic"] == "true"  # type: ignore[attr-defined]
    for name, text in (("seed000005.png", {}), ("grid.png", {"Sheet": "Zeuxis"})):
        with Image.open(tmp_path / "plain" / name) as picture:
            assert picture.text == text  # type: ignore[attr-defined]


@pytest.mark.parametrize("mark", ["--mark", "--no-mark"])
def test_a_folder_of_samples_is_read_without_its_sheet(command: Command, gan: Path, tmp_path: Path, mark: str) -> None:
    assert command("sample", gan, "--seeds", "0-5", "--out", "png", mark)[0] == 0
    assert command("data", "check", "png", "--json", "report.json")[0] == 0
    report = json.loads((tmp_path / "report.json").read_text())
    skipped = [(file["name"], "a sheet of pictures" in file["reason"]) for file in report["skipped"]]
    assert (report["pictures"], skipped) == (6, [("grid.png", True)])


MISTAKES = [
    (("--class", "seven"), ["--class", "'seven'", "0, 1, 2, 3, 4, 5, 6, 7, 8, 9", "zeuxis info"]),
    (("--seeds", "9-1"), ["--seeds", "'9-1'", "numbers of up to 18 digits and ranges", "--seeds 0-63"]),
    (("--seeds", "-3"), ["--seeds", "'-3'", "ranges from 0", "--seeds 0-63"]),
    (("--seeds", "1,,2"), ["--seeds", "'1,,2'", "ranges from 0", "--seeds 0-63"]),
    (("--seeds", "0-9999999999999999999"), ["--seeds", "'0-9999999999999999999'", "18 digits", "--seeds 0-63"]),
    (("--seeds", "٣"), ["--seeds", "ranges from 0", "--seeds 0-63"]),
    (("--temperature", "0.5"), ["--temperature", "0.5", "--truncation", "family gan has no temperature"]),
    (("--truncation", "-1"), ["--truncation", "-1.0", "0 to 10", "try --truncation 0.7"]),
    (("--truncation", "nan"), ["--truncation", "nan", "0 to 10", "try --truncation 0.7"]),
    (("--device", "toaster"), ["--device", "'toaster'", "auto, cpu", "try --device cpu"]),
    (("--format", "gif"), ["--format", "gif", "'png'", "'npz'", "zeuxis sample --help"]),
]


@pytest.mark.parametrize(("arguments", "words"), MISTAKES, ids=[" ".join(entry[0]) for entry in MISTAKES])
def test_mistakes_are_one_line(
    arguments: tuple[str, ...], words: list[str], command: Command, gan: Path, tmp_path: Path
) -> None:
    code, out, errors = command("sample", gan, *arguments)
    assert code == 2 and out == "" and errors.startswith("zeuxis: ") and errors.count("\n") == 1
    for word in words:
        assert word in errors
    assert not (tmp_path / "samples").exists()


def test_more_mistakes(command: Command, vae: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    for arguments, words in [
        ((vae, "--truncation", 0.5), ["--truncation", "0.5", "--temperature", "family vae has no truncation"]),
        ((vae, "--precision", "bfloat16", "--edit", "a=1"), ["--precision", "'bfloat16'", "float32 with --edit"]),
        ((vae, "--class", "7"), ["--class", "'7'", "not class-conditional", "--conditional"]),
        ((vae, "--out", "file"), ["--out", "'file'", "a folder that can be written"]),
        (("nowhere",), ["MODEL", "'nowhere'", "config.json and model.safetensors", "zeuxis train DATA"]),
        (("empty",), ["MODEL", "'empty'", "config.json and model.safetensors", "zeuxis train DATA"]),
        (("file",), ["MODEL", "'file'", "config.json and model.safetensors", "zeuxis train DATA"]),
    ]:
        code, out, errors = command("sample", *arguments)
        assert code == 2 and out == "" and errors.count("\n") == 1
        for word in words:
            assert word in errors


PEAK = """
import resource, sys
from zeuxis.cli import run
code = run()
print(code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_thousands_of_pictures_need_no_more_memory_than_a_few(tmp_path: Path) -> None:
    """96x96 RGB: 6,000 of them are 166 MB, and the process must not grow by half of that."""
    from conftest import trained

    model = trained(tmp_path, model="gan/mlp/tiny", data={"resolution": (96, 96)})
    peaks = []
    for seeds in ("0-99", "0-5999"):
        done = subprocess.run(
            [sys.executable, "-c", PEAK, "sample", str(model), "--seeds", seeds, "--format", "npz"],
            cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=250, check=True,
        )  # fmt: skip
        code, peak = done.stdout.split()[-2:]
        assert code == "0"
        peaks.append(int(peak) * 1024)
    written = tmp_path / "samples" / "samples.npz"
    assert written.stat().st_size > 6000 * 96 * 96 * 3
    assert peaks[1] - peaks[0] < 60 * 2**20
    written.unlink()


def test_an_archive_is_written_chunk_by_chunk_and_whole_or_not_at_all(gan: Path, tmp_path: Path) -> None:
    model = load_model(gan)
    chunk = np.zeros((64, *model.spec.shape), np.uint8)

    def breaking() -> object:
        yield chunk
        raise OSError(28, "No space left on device")

    path = tmp_path / "samples.npz"
    path.write_bytes(b"what was there before")
    with pytest.raises(OSError, match="No space"):
        write_npz(breaking(), np.arange(128), None, model.spec, path)  # type: ignore[arg-type]
    assert path.read_bytes() == b"what was there before" and list(tmp_path.iterdir()) == [path]
    tracemalloc.start()
    write_npz((chunk for _ in range(1000)), seeds_array("0-63999"), None, model.spec, path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert path.stat().st_size > 64_000 * chunk[0].size > 10 * peak
