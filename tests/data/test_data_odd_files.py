"""Every odd file: what is bad is skipped, counted and listed by name; what is unusual is counted and read rightly."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from zlib import compress, crc32

import numpy as np
import pytest
from picture_files import (
    animated,
    bomb,
    encoded,
    picture,
    png,
    pngs,
    rotated_jpeg,
    transparent_palette,
    write_tree,
)
from PIL import Image, features

from zeuxis.config import DataOptions
from zeuxis.data import Dataset, Report, open_dataset
from zeuxis.data import decode as decode_module
from zeuxis.errors import DataError

JPEG = encoded(picture(1, 64, 64), "JPEG")
PNG = png(2, 64, 64)


BAD = {
    "empty.png": (b"", "empty file"),
    "text.png": (b"just some words", "not a picture"),
    "page.jpg": (b"<html></html>", "not a picture"),
    "half.png": (PNG[: len(PNG) // 2], "truncated: the end of the picture is missing"),
    "half.jpg": (JPEG[: len(JPEG) // 2], "truncated: the end of the picture is missing"),
    "half.gif": (encoded(picture(1, 64, 64, 1), "GIF")[:-200], "truncated: the end of the picture is missing"),
    "cut.jpg": (encoded(picture(1, 256, 256), "JPEG")[:3000], "truncated: the end of the picture is missing"),
    "head.png": (PNG[:20], "truncated: the end of the picture is missing"),
    "head.jpg": (JPEG[:12], "truncated: the end of the picture is missing"),
    "header.gif": (b"GIF80a" + b"nonsense" * 9, "broken: its header cannot be read"),
    "bomb.png": (bomb(), "40000x40000 pixels, more than the limit of 100,000,000"),
    "script.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture"),
}


@pytest.mark.parametrize("workers", [1, 2])
def test_bad_files_are_skipped_counted_and_named(workers: int, cache: Path, tmp_path: Path) -> None:
    bad = {name: content for name, (content, _) in BAD.items()}
    folder = write_tree(tmp_path / "d", {**pngs(200 if workers > 1 else 4), **bad})  # many start real processes
    dataset = open_dataset(folder, DataOptions(), cache_dir=cache, workers=workers)
    report = dataset.report
    assert report.files == report.pictures + len(BAD) and len(dataset) == report.pictures
    found = dict(report.skipped)
    assert sorted(found) == sorted(BAD)
    for name, (_, reason) in BAD.items():
        assert found[name].startswith(reason), name
    assert not set(BAD) & set(dataset.names())
    assert Report.from_json(report.to_json()) == report
    rows = {what: number for what, number, _ in report.rows()}
    assert (rows["files"], rows["usable pictures"], rows["skipped"]) == (
        str(report.files), str(report.pictures), str(len(BAD)),
    )  # fmt: skip
    assert f"skipped empty.png: {BAD['empty.png'][1]}" in report.skipped_lines()


def test_a_chunk_with_a_wrong_checksum_is_broken(scanned: Callable[..., Report], tmp_path: Path) -> None:
    damaged = bytearray(PNG)
    damaged[60] ^= 1
    report = scanned(write_tree(tmp_path / "d", {**pngs(1), "x.png": bytes(damaged)}))
    assert [name for name, _ in report.skipped] == ["x.png"] and report.skipped[0][1].startswith("broken")


def test_the_pixel_limit_is_an_option_and_holds_for_every_way_to_decode(
    scanned: Callable[..., Report], tmp_path: Path
) -> None:
    files = {
        "a.png": png(0, 20, 20),
        "b.jpg": encoded(picture(1, 20, 20), "JPEG"),
        "c.gif": animated(),
        "ok.png": png(1),
    }
    report = scanned(write_tree(tmp_path / "d", files), max_pixels=300)
    assert report.pictures == 2
    assert dict(report.skipped) == dict.fromkeys(["a.png", "b.jpg"], "20x20 pixels, more than the limit of 300")


def test_a_file_of_absurd_length_is_skipped(
    scanned: Callable[..., Report], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode_module, "MAX_FILE", 2**20)
    folder = write_tree(tmp_path / "d", pngs(2))
    with open(folder / "long.png", "wb") as file:
        file.truncate(2**20 + 1)
    assert dict(scanned(folder).skipped) == {"long.png": "larger than 1 MiB"}


def test_too_few_pictures_left_is_one_clear_error(cache: Path, tmp_path: Path) -> None:
    folder = write_tree(tmp_path / "mine", {"a.png": b"", "b.png": b"x", "c.png": png()})
    with pytest.raises(DataError) as caught:
        open_dataset(folder, cache_dir=cache)
    assert str(caught.value) == (
        "DATA: got '1 training pictures in mine', allowed: at least 2; "
        "3 files were seen, 2 skipped, first a.png: empty file; see `zeuxis data check`"
    )
    with pytest.raises(DataError, match="got '3 training pictures in few', allowed: at least 8; 3 pictures were found"):
        open_dataset(write_tree(tmp_path / "few", pngs(3)), cache_dir=cache, minimum=8)


def unusual() -> dict[str, bytes]:
    """One file of each kind, all 16x16 as a viewer shows them, beside plain pictures."""
    deep = Image.fromarray(picture(3, channels=1).astype(np.uint16) * 257)
    return {
        **pngs(5, start=20),
        "animated.gif": animated(),
        "cmyk.jpg": encoded(Image.fromarray(picture(2)).convert("CMYK"), "JPEG"),
        "deep.png": encoded(deep),
        "palette.png": transparent_palette(),
        "opaque-palette.png": encoded(Image.fromarray(picture(4)).convert("P")),
        "rotated.jpg": rotated_jpeg(6, 16, 16),
        "rgba.png": png(5, channels=4),
        "opaque.png": encoded(np.dstack([picture(6), np.full((16, 16), 255, np.uint8)])),
        "grey.png": png(7, channels=1),
        "grey-rgb.png": encoded(np.repeat(picture(8, channels=1)[..., None], 3, 2)),
    }


EXPECTED = {
    "animated": ["animated.gif"],
    "CMYK": ["cmyk.jpg"],
    "16-bit": ["deep.png"],
    "palette": ["animated.gif", "opaque-palette.png", "palette.png"],
    "EXIF-rotated": ["rotated.jpg"],
    "with alpha": ["opaque.png", "palette.png", "rgba.png"],
    "transparent": ["palette.png", "rgba.png"],
    "grey": ["deep.png", "grey-rgb.png", "grey.png", "rotated.jpg"],
}


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_each_unusual_file_is_counted_under_its_name(
    channels: int, scanned: Callable[..., Report], tmp_path: Path
) -> None:
    report = scanned(write_tree(tmp_path / "d", unusual()), channels=channels)
    assert report.skipped == [] and report.pictures == 15
    found = {key: sorted(finding.examples) for key, finding in report.findings.items() if finding.count}
    assert found == EXPECTED
    as_json = report.to_json()["findings"]
    assert {key: as_json[key]["count"] for key in EXPECTED} == {key: len(names) for key, names in EXPECTED.items()}
    assert {what for what, _, _ in report.rows()} >= set(EXPECTED)


def only(opened: Callable[..., Dataset], folder: Path, content: bytes, name: str, **options: object) -> np.ndarray:
    """The pixels `[C, H, W]` that one file becomes."""
    return opened(write_tree(folder, {name: content}), **options).train.all()[0]


def test_a_rotated_picture_is_turned_as_a_viewer_does(opened: Callable[..., Dataset], tmp_path: Path) -> None:
    pixels = only(opened, tmp_path / "d", rotated_jpeg(6, 16, 32), "a.jpg", channels=1)
    assert pixels.shape == (1, 32, 16), "32 wide, 16 high and turned by a quarter"
    assert pixels[0, :12].max() < 30 and pixels[0, 20:].min() > 225, "its left side is at the top"
    report = opened(tmp_path / "d", channels=1).report
    assert report.sizes == {"width": [16, 16, 16], "height": [32, 32, 32]}


def test_sixteen_bits_become_eight(opened: Callable[..., Dataset], tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    pixels = only(opened, tmp_path / "d", encoded(Image.fromarray(values)), "a.png")
    assert np.abs(pixels[0].astype(float) - values / 257).max() <= 1
    assert pixels.shape == (1, 16, 16)


def test_a_transparent_palette_becomes_alpha_or_white(opened: Callable[..., Dataset], tmp_path: Path) -> None:
    content = transparent_palette()
    rgba = only(opened, tmp_path / "d", content, "a.png")
    assert rgba.shape[0] == 4, "transparency decides"
    assert (rgba[3, :, :8] == 0).all() and (rgba[3, :, 8:] == 255).all()
    rgb = only(opened, tmp_path / "d", content, "a.png", channels=3)
    assert (rgb[:, :, :8] == 255).all(), "the hidden green is laid over white"
    assert (rgb[0, :, 8:] == 255).all() and (rgb[1:, :, 8:] == 0).all()


def test_cmyk_has_the_colours_that_a_viewer_shows(opened: Callable[..., Dataset], tmp_path: Path) -> None:
    red = Image.new("RGB", (16, 16), (230, 20, 40)).convert("CMYK")
    pixels = only(opened, tmp_path / "d", encoded(red, "JPEG", quality=95), "a.jpg")
    assert np.abs(pixels.mean((1, 2)) - [230, 20, 40]).max() < 6


def test_of_an_animation_the_first_frame_is_read(opened: Callable[..., Dataset], tmp_path: Path) -> None:
    dataset = opened(write_tree(tmp_path / "d", {"a.gif": animated()}))
    assert np.abs(dataset.train.all()[0].transpose(1, 2, 0).astype(int) - picture(0)).mean() < 12
    assert "of animated files the first frame is used" in dataset.report.notes


@pytest.mark.parametrize(
    ("form", "name", "options"),
    [("BMP", "a.bmp", {}), ("TIFF", "a.TIF", {}), ("WEBP", "a.webp", {"lossless": True}),
     ("AVIF", "a.avif", {"quality": 95}), ("JPEG", "a.JPeG", {"quality": 95, "subsampling": 0}),
     ("PNG", "a.jpg", {}), ("MPO", "a.jpg", {"quality": 95})],
)  # fmt: skip
def test_every_format_is_read_whatever_its_name(
    form: str, name: str, options: dict[str, object], opened: Callable[..., Dataset], tmp_path: Path
) -> None:
    if form in ("WEBP", "AVIF") and not features.check(form.lower()):
        pytest.skip(f"this Pillow has no {form}")
    values = picture(3, 32, 32)
    dataset = opened(write_tree(tmp_path / "d", {name: encoded(values, form, **options)}))
    found = dataset.train.all()[0].transpose(1, 2, 0).astype(int)
    assert np.abs(found - values).mean() < (0.01 if form in ("BMP", "TIFF", "WEBP", "PNG") else 4)
    assert dataset.report.findings["animated"].count == 0


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I", "F", "I;16"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_every_mode_of_pillow_is_read(mode: str, channels: int, opened: Callable[..., Dataset], tmp_path: Path) -> None:
    image = Image.new(mode, (8, 8), 1 if mode in ("1", "L", "P", "I", "F", "I;16") else None)
    dataset = opened(write_tree(tmp_path / "d", {"a.tif": encoded(image, "TIFF")}), channels=channels)
    assert dataset.train.all().shape == (1, channels, 8, 8)


def test_pixels_that_are_no_numbers_become_black(opened: Callable[..., Dataset], tmp_path: Path) -> None:
    values = np.full((8, 8), np.nan, np.float32)
    values[:, 4:] = 1.0
    pixels = only(opened, tmp_path / "d", encoded(Image.fromarray(values), "TIFF"), "a.tif", channels=1)
    assert (pixels[0, :, :4] == 0).all() and (pixels[0, :, 4:] == 255).all()


@pytest.mark.parametrize("exif", [b"garbage garbage", b"MM\0*\0\0\0\x08\xff\xff\x01\x12", b"II*\0\xff\xff\xff\xff"])
def test_damaged_exif_does_not_cost_the_picture(exif: bytes, opened: Callable[..., Dataset], tmp_path: Path) -> None:
    content = encoded(picture(), "JPEG", exif=b"Exif\0\0" + exif)
    assert len(opened(write_tree(tmp_path / "d", {"a.jpg": content}))) == 1


def test_a_bomb_in_a_text_chunk_is_not_unpacked(scanned: Callable[..., Report], tmp_path: Path) -> None:
    text = b"zTXt" + b"key\0\0" + compress(b"\0" * 100_000_000, 9)
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", crc32(text))
    files = {"plain.png": png(), "palette.png": transparent_palette()}
    files = {name: content[:33] + chunk + content[33:] for name, content in files.items()}
    tracemalloc.start()
    report = scanned(write_tree(tmp_path / "d", {**pngs(2), **files}))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50_000_000
    assert [name for name, _ in report.skipped] == ["palette.png"]


def test_exact_and_near_duplicates(scanned: Callable[..., Report], tmp_path: Path) -> None:
    base = picture(1, 32, 32)
    files = {
        **pngs(6, start=40, height=32, width=32),
        "copy-a.png": encoded(base),
        "copy-b.png": encoded(base),
        "copy-c.png": encoded(base),
        "jpeg.jpg": encoded(base, "JPEG", quality=90),
        "again.png": encoded(base, compress_level=0),
    }
    report = scanned(write_tree(tmp_path / "d", files))
    assert report.findings["exact duplicates"].count == 2
    assert report.findings["exact duplicates"].examples == ["copy-a.png = copy-b.png = copy-c.png"]
    near = set(report.findings["near duplicates"].examples)
    assert "again.png = jpeg.jpg" in near and not any("0" in pair for pair in near)
    assert report.pictures == 11, "copies are kept"
    assert any("all copies of a picture are on one side" in note for note in report.notes)


def test_pictures_that_only_resemble_are_no_duplicates(scanned: Callable[..., Report], tmp_path: Path) -> None:
    base = picture(1, 32, 32)
    files = {"a.png": encoded(base), "b.png": encoded(base[:, ::-1]), "c.png": encoded(255 - base), **pngs(30, "n", 50)}
    report = scanned(write_tree(tmp_path / "d", files))
    assert report.findings["exact duplicates"].count == report.findings["near duplicates"].count == 0


def test_too_small_and_odd_aspect(scanned: Callable[..., Report], tmp_path: Path) -> None:
    files = {**pngs(8, height=64, width=64), "tiny.png": png(20, 12, 12), "long.png": png(21, 64, 320)}
    report = scanned(write_tree(tmp_path / "d", files))
    assert report.findings["too small"].examples == ["tiny.png"]
    assert report.findings["odd aspect"].examples == ["long.png"]
    assert report.sizes == {"width": [12, 64, 320], "height": [12, 64, 64]}
    assert "pictures less than half as large as what is read are enlarged" in report.notes
