"""Zip files as data: the same rules as folders, and nothing that a forged directory says is believed."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from picture_files import patched_zip, png, pngs, write_tree, zipped

from zeuxis.data import Dataset, Report
from zeuxis.data.listing import TEST
from zeuxis.errors import DataError


@pytest.fixture
def packed_in(tmp_path: Path) -> Callable[..., Path]:
    """Writes bytes as a zip file."""

    def make(content: bytes, name: str = "pictures.zip") -> Path:
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    return make


def test_a_zip_is_what_its_folder_is(
    opened: Callable[..., Dataset], tmp_path: Path, packed_in: Callable[..., Path]
) -> None:
    files = {**pngs(3, "train/a/"), **pngs(3, "train/b/", 3), **pngs(1, "test/a/", 6), **pngs(1, "_unlabelled/", 7),
             "readme.txt": b"hello", "__MACOSX/train/._a.png": b"x"}  # fmt: skip
    folder = opened(write_tree(tmp_path / "pictures", files))
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        dataset = opened(packed_in(zipped(files, method), f"pictures-{method}.zip"))
        assert np.array_equal(dataset.train.all(), folder.train.all())
        assert np.array_equal(dataset.train.labels, folder.train.labels) and dataset.classes == ("a", "b")
        assert dataset.names(TEST) == ["test/a/000.png"]
        assert dataset.fingerprint == folder.fingerprint, "the same content, wherever it lies"
        assert dataset.report.skipped == [("readme.txt", "not a picture (.txt files are not read)")]


def test_labels_inside_a_zip(opened: Callable[..., Dataset], packed_in: Callable[..., Path]) -> None:
    rows = b"file_name,label\n000.png,x\n001.png,y\n"
    dataset = opened(packed_in(zipped({f"set/{k}": v for k, v in {**pngs(2), "metadata.csv": rows}.items()})))
    assert dataset.classes == ("x", "y")


def test_a_zip_in_a_zip_is_not_opened(scanned: Callable[..., Report], packed_in: Callable[..., Path]) -> None:
    report = scanned(packed_in(zipped({**pngs(2), "more.zip": zipped(pngs(2, start=5))})))
    assert report.pictures == 2
    assert report.skipped == [("more.zip", "not a picture (.zip files are not read)")]


def test_names_that_climb_out_are_only_names(
    opened: Callable[..., Dataset], tmp_path: Path, packed_in: Callable[..., Path]
) -> None:
    files = {"../../evil.png": png(0), "/etc/evil.png": png(1), "..\\..\\evil.png": png(2), "ok.png": png(3)}
    before = sorted(path for path in tmp_path.rglob("*") if "cache" not in path.parts)
    dataset = opened(packed_in(zipped(files)))
    assert len(dataset) == 4
    assert sorted(dataset.names()) == ["../../evil.png", "../../evil.png", "etc/evil.png", "ok.png"]
    after = sorted(path for path in tmp_path.rglob("*") if not path.is_relative_to(tmp_path / "cache"))
    assert after == [*before, tmp_path / "pictures.zip"], "nothing was unpacked"


def test_a_member_with_a_password_is_skipped(scanned: Callable[..., Report], packed_in: Callable[..., Path]) -> None:
    content = patched_zip(zipped({**pngs(2), "locked.png": png(5)}), "locked.png", flags=1)
    assert scanned(packed_in(content)).skipped == [("locked.png", "needs a password")]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"method": 14}, "packed by a method that is not read (only stored and deflated)"),
        ({"packed": 2**32 - 2}, "broken: the zip file is smaller than its directory says"),
        ({"size": 2**30}, "unpacks to 1,073,741,824 bytes, more than the limit of 536,870,912"),
        ({"size": 400 * 2**20}, "times its size: a zip bomb"),
        ({"size": 10}, "broken: the zip member is not what the directory says"),
        ({"size": 2000}, "broken: the zip member is not what the directory says"),
        ({"crc": 1}, "broken: the zip member is not what the directory says"),
        ({"offset": 3}, "broken: the zip file has no such member where its directory says"),
        ({"offset": 2**31}, "broken: the zip file is smaller than its directory says"),
        ({"packed": 40}, "broken: the zip member"),
    ],
)
def test_a_directory_that_lies_costs_one_picture(
    fields: dict[str, int], reason: str, scanned: Callable[..., Report], packed_in: Callable[..., Path]
) -> None:
    filler = {"noise.png": np.random.default_rng(0).bytes(2_500_000)}  # so that the whole is not a bomb by itself
    content = patched_zip(zipped({**pngs(2), **filler, "x.png": png(5)}), "x.png", **fields)
    report = scanned(packed_in(content))
    assert report.pictures == 2
    assert reason in dict(report.skipped)["x.png"]


def test_a_place_beyond_64_bits_is_one_skipped_picture(
    scanned: Callable[..., Report], packed_in: Callable[..., Path]
) -> None:
    """Places and sizes of 64 bits come from the extra field of the directory entry."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in pngs(2).items():
            archive.writestr(name, content)
        archive.writestr("x.png", png(5))
    content = bytearray(buffer.getvalue())
    place = content.rfind(b"PK\x01\x02")
    extra = struct.pack("<HHQQQ", 1, 24, 2**63 + 5, 2**63 + 5, 2**64 - 1)
    struct.pack_into("<II", content, place + 20, 2**32 - 1, 2**32 - 1)
    struct.pack_into("<H", content, place + 30, len(extra))
    struct.pack_into("<I", content, place + 42, 2**32 - 1)
    end = content.rfind(b"PK\x05\x06")
    content[end:end] = extra
    end += len(extra)
    struct.pack_into("<I", content, end + 12, struct.unpack_from("<I", content, end + 12)[0] + len(extra))
    with pytest.raises(DataError, match="a zip bomb"):
        scanned(packed_in(bytes(content)))


def test_many_members_on_the_same_bytes_are_a_bomb(
    scanned: Callable[..., Report], packed_in: Callable[..., Path]
) -> None:
    one = io.BytesIO()
    with zipfile.ZipFile(one, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.bmp", b"\0" * 150_000)
        info = archive.infolist()[0]
        for index in range(400):
            copy = zipfile.ZipInfo(f"{index}.bmp")
            copy.compress_type, copy.CRC, copy.header_offset = info.compress_type, info.CRC, info.header_offset
            copy.compress_size, copy.file_size = info.compress_size, info.file_size
            archive.filelist.append(copy)
    with pytest.raises(DataError, match=r"claim to hold 60,150,000: a zip bomb"):
        scanned(packed_in(one.getvalue()))


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: content[:4],
        lambda content: content[:-30] + b"\xff" * 30,
    ],
)
def test_a_torn_zip_is_one_line(
    damage: Callable[[bytes], bytes], scanned: Callable[..., Report], packed_in: Callable[..., Path]
) -> None:
    with pytest.raises(DataError) as caught:
        scanned(packed_in(damage(zipped(pngs(3)))))
    assert "allowed: a complete zip file" in str(caught.value) and "\n" not in str(caught.value)


def test_a_zip_without_pictures_is_one_line(opened: Callable[..., Dataset], packed_in: Callable[..., Path]) -> None:
    words = (
        "got '0 training pictures in pictures', allowed: at least 1; 1 files were seen, 1 skipped, first a.txt: not a"
    )
    with pytest.raises(DataError, match=words):
        opened(packed_in(zipped({"a.txt": b"x"})))
    with pytest.raises(DataError, match="0 pictures were found"):
        opened(packed_in(zipped({}), "empty.zip"))


def test_what_is_only_called_zip_is_refused(scanned: Callable[..., Report], packed_in: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match=r"a complete \.zip file; its first bytes are not those of one"):
        scanned(packed_in(png(), "picture.zip"))


@pytest.mark.parametrize("fields", [{"flags": 1}, {"method": 14}, {"packed": 2**32 - 2}])
def test_a_document_that_cannot_be_read_is_one_line(
    fields: dict[str, int], scanned: Callable[..., Report], packed_in: Callable[..., Path]
) -> None:
    content = patched_zip(zipped({**pngs(2), "metadata.csv": b"file_name,label\n"}), "metadata.csv", **fields)
    with pytest.raises(DataError, match=r"metadata\.csv: got .*, allowed: a readable member"):
        scanned(packed_in(content))
