"""A few hundred damaged files of every kind: each is skipped or a `DataError`, nothing else is ever raised."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from picture_files import (
    animated,
    encoded,
    idx,
    npy,
    npz,
    packed,
    picture,
    png,
    pngs,
    rotated_jpeg,
    transparent_palette,
    write_tree,
    zipped,
)
from PIL import Image, features

from zeuxis.config import DataOptions
from zeuxis.data import open_dataset, scan
from zeuxis.data.decode import Job, run_job
from zeuxis.data.records import Flag, has
from zeuxis.errors import DataError, UserError

SMALL = 12  # pixels a side


def pictures_to_damage() -> dict[str, bytes]:
    image = Image.fromarray(picture(1, SMALL, SMALL))
    found = {
        "rgb.png": png(0, SMALL, SMALL),
        "rgba.png": png(0, SMALL, SMALL, 4),
        "grey.png": png(0, SMALL, SMALL, 1),
        "palette.png": transparent_palette(),
        "deep.png": encoded(Image.fromarray(picture(3, SMALL, SMALL, 1).astype(np.uint16) * 257)),
        "interlaced.png": encoded(image.convert("P"), interlace=1),
        "plain.jpg": encoded(image, "JPEG"),
        "progressive.jpg": encoded(image, "JPEG", progressive=True),
        "turned.jpg": rotated_jpeg(),
        "cmyk.jpg": encoded(image.convert("CMYK"), "JPEG"),
        "frames.gif": animated(2),
        "a.bmp": encoded(image, "BMP"),
        "a.tif": encoded(image, "TIFF", compression="tiff_lzw"),
        "b.tif": encoded(image, "TIFF", compression="tiff_adobe_deflate"),
        "frames.png": animated(2, "PNG"),
    }
    found |= {f"a.{form}": encoded(image, form.upper()) for form in ("webp", "avif") if features.check(form)}
    return found


def damaged(content: bytes, chance: random.Random) -> bytes:
    """One to eight bytes changed, a piece cut out, doubled or filled, or the end cut off."""
    data = bytearray(content)
    way = chance.randrange(6)
    place = chance.randrange(len(data))
    length = chance.randrange(1, max(2, len(data) // 4))
    if way <= 2:
        for _ in range(chance.randrange(1, 9)):
            data[chance.randrange(len(data))] = chance.choice((0, 1, 127, 128, 255, chance.randrange(256)))
    elif way == 3:
        end = len(data) if chance.random() < 0.5 else place + length
        del data[place:end]
    elif way == 4:
        data[place:place] = data[place : place + length]
    else:
        data[place : place + length] = bytes([chance.choice((0, 255))]) * len(data[place : place + length])
    return bytes(data)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_damaged_pictures_are_skipped_or_read(channels: int, tmp_path: Path) -> None:
    chance = random.Random(channels)
    kinds = pictures_to_damage()
    files = {f"{index}-{name}": damaged(content, chance) for name, content in kinds.items() for index in range(20)}
    folder = write_tree(tmp_path / "d", files)
    job = Job("folder", str(folder), sorted(files), 0, (channels, 8, 8), "crop", 10**6)
    result = run_job(job)  # in this process: nothing may be raised or printed
    good = has(result.records, Flag.OK)
    assert set(result.reasons) == set(np.flatnonzero(~good).tolist()), "each is read or has its reason"
    assert all(reason and reason.isprintable() and len(reason) <= 120 for reason in result.reasons.values())
    assert 20 < good.sum() < len(files) - 20, "some of each, or this tests little"


def test_a_folder_of_damaged_pictures_can_be_trained_on(tmp_path: Path, cache: Path) -> None:
    chance = random.Random(9)
    kinds = pictures_to_damage()
    files = {f"{index}-{name}": damaged(content, chance) for name, content in kinds.items() for index in range(15)}
    dataset = open_dataset(write_tree(tmp_path / "d", files), DataOptions(), cache_dir=cache, workers=2)
    report = dataset.report
    assert report.pictures + len(report.skipped) == report.files == len(files)
    assert len(dataset.train) + len(dataset.val) + len(dataset.test) == report.pictures > 20


def sources() -> dict[str, bytes]:
    images = np.stack([picture(seed, 8, 8) for seed in range(6)])
    labels = np.arange(6) % 2
    return {
        "a.zip": zipped({**pngs(3, "a/"), **pngs(3, "b/", 3), "metadata.csv": b"file_name,label\na/000.png,x\n"}),
        "stored.zip": zipped(pngs(3), 0),
        "a.npz": npz(x_train=images[:4], y_train=labels[:4], x_test=images[4:], y_test=labels[4:]),
        "names.npz": npz(images=images, labels=labels, class_names=np.array(["a", "b"])),
        "a.npy": npy(images),
        "train-images-idx3-ubyte": idx(images[..., 0]),
        "train-images-idx3-ubyte.gz": packed(idx(images[..., 0])),
    }


@pytest.mark.parametrize("name", list(sources()))
def test_damaged_files_of_many_pictures(name: str, tmp_path: Path, cache: Path) -> None:
    chance, content = random.Random(name), sources()[name]
    refused = 0
    for index in range(60):
        folder = tmp_path / str(index)
        folder.mkdir()
        (folder / name).write_bytes(damaged(content, chance))
        try:
            report = scan(folder / name, DataOptions(), 1, cache_dir=cache)
        except DataError as error:
            refused += 1
            assert "\n" not in str(error) and str(error).isprintable()
        else:
            assert report.pictures + len(report.skipped) == report.files
    assert refused > 5, "some are beyond reading"


@pytest.mark.parametrize("name", ["dataset.json", "metadata.jsonl", "metadata.csv"])
def test_damaged_label_documents(name: str, tmp_path: Path, cache: Path) -> None:
    contents = {
        "dataset.json": b'{"labels": [["000.png", 1], ["001.png", 2.0], ["002.png", "three"]]}',
        "metadata.jsonl": b'{"file_name": "000.png", "label": "a"}\n{"file_name": "001.png", "class": 2}\n',
        "metadata.csv": b'file_name,label,text\n000.png,a,"x, y"\n001.png,b,\n',
    }
    chance = random.Random(name)
    for index in range(60):
        folder = write_tree(tmp_path / str(index), {**pngs(3), name: damaged(contents[name], chance)})
        try:
            report = scan(folder, DataOptions(), 1, cache_dir=cache)
        except UserError as error:
            assert "\n" not in str(error)
        else:
            assert report.pictures == 3


def test_the_same_damage_each_time(cache: Path) -> None:
    make: Callable[[], bytes] = lambda: damaged(png(), random.Random(4))  # noqa: E731
    assert make() == make() != png()
