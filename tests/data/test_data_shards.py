"""Tar shards: labels, splits, ranges, servers, and what is refused."""

from __future__ import annotations

import functools
import http.server
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zeuxis.config import DataOptions
from zeuxis.data import open_dataset, scan
from zeuxis.data.shards import expand
from zeuxis.errors import DataError

WHOLE = DataOptions(test_fraction=0.0, val_fraction=0.0)


def png(value: int) -> bytes:
    """A picture of its own for each value: no two are duplicates."""
    pixels = np.random.default_rng(value).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Three shards of four samples, classes in .cls or .json."""
    folder = tmp_path / "shards"
    folder.mkdir()
    for shard in range(3):
        members: dict[str, bytes] = {}
        for sample in range(4):
            key = f"{shard * 4 + sample:04d}"
            members[f"{key}.png"] = png(shard * 4 + sample)
            name = ("cat", "dog")[sample % 2]
            members |= {f"{key}.json": json.dumps({"label": name}).encode()} if shard else {f"{key}.cls": name.encode()}
        write(folder / f"train-{shard:02d}.tar", members)
    return folder


def test_a_range_and_a_folder_are_the_same_pictures(shards: Path, tmp_path: Path) -> None:
    ranged = open_dataset(f"{shards}/train-{{00..02}}.tar", WHOLE, cache_dir=tmp_path / "a")
    folder = open_dataset(shards, WHOLE, cache_dir=tmp_path / "b")
    assert len(ranged.train) == len(folder.train) == 12 and ranged.fingerprint == folder.fingerprint
    assert ranged.classes == ("cat", "dog") and ranged.class_counts == (6, 6)
    for index in range(12):
        expected = np.asarray(Image.open(io.BytesIO(png(index)))).transpose(2, 0, 1)
        assert (ranged.train.take([index])[0] == expected).all()
    assert ranged.train.labels.tolist() == [0, 1] * 6


def test_a_shard_named_test_is_held_out(shards: Path, tmp_path: Path) -> None:
    write(shards / "test-00.tar", {f"t{k}.png": png(100 + k) for k in range(3)})
    dataset = open_dataset(shards, cache_dir=tmp_path / "cache")
    assert len(dataset.test) == 3


@pytest.fixture
def server(shards: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(shards))) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


def test_shards_from_a_server_are_kept_until_they_are_read(
    server: str, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    cache = tmp_path / "cache"
    dataset = open_dataset(f"{server}/train-{{00..02}}.tar", WHOLE, cache_dir=cache)
    assert dataset.fingerprint == open_dataset(shards, WHOLE, cache_dir=tmp_path / "other").fingerprint
    assert list((cache / "data" / "shards").iterdir()) == []
    with pytest.raises(DataError, match=r"absent\.tar.*404"):
        open_dataset(f"{server}/absent.tar", WHOLE, cache_dir=cache)


@pytest.mark.parametrize("data", ["pipe:cat /etc/passwd", "file:///a.tar", "s3://bucket/a.tar", "gs://a/b.tar"])
def test_no_other_scheme_is_opened(data: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"tar shards: a path or an http"):
        open_dataset(data, WHOLE, cache_dir=tmp_path)


def test_a_redirection_to_another_scheme_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    class Away(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(302)
            self.send_header("Location", "ftp://127.0.0.1/a.tar")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            return

    with http.server.HTTPServer(("127.0.0.1", 0), Away) as running:
        thread = threading.Thread(target=running.handle_request)
        thread.start()
        with pytest.raises(DataError, match="can be fetched"):
            open_dataset(f"http://127.0.0.1:{running.server_address[1]}/a.tar", WHOLE, cache_dir=tmp_path)
        thread.join()


def test_what_is_odd_in_a_shard_is_left_out_and_nothing_else_is_opened(shards: Path, tmp_path: Path) -> None:
    odd = {"x.pyd": b"cos\nsystem\n(S'touch /tmp/x'\ntR.", "x.pkl": b"\x80\x04.", "x.json": b"{" * 5000,
           "../../y.png": png(50), "broken.png": b"\x89PNG\r\n\x1a\nno", ".hidden.png": png(51)}  # fmt: skip
    write(shards / "train-03.tar", odd)
    report = scan(shards, WHOLE, cache_dir=tmp_path / "cache")
    assert report.pictures == 13, "the twelve and the one whose name climbs, which is a name and no path"
    assert [name for name, _ in report.skipped] == ["000003/broken.png"]


def test_a_cut_shard_is_one_line(shards: Path, tmp_path: Path) -> None:
    whole = (shards / "train-02.tar").read_bytes()
    (shards / "train-02.tar").write_bytes(whole[:700])
    report = scan(shards, WHOLE, cache_dir=tmp_path / "cut")
    assert report.pictures == 8
    assert [reason.partition(":")[0] for _, reason in report.skipped] == ["truncated", "truncated"]
    (shards / "train-02.tar").write_bytes(b"not a tar file" * 100)
    with pytest.raises(DataError, match=r"train-02\.tar.*complete tar file"):
        scan(shards, WHOLE, cache_dir=tmp_path / "foreign")


def test_ranges() -> None:
    assert expand("a-{08..11}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]
    assert expand("{0..1}-{2..3}.tar") == ["0-2.tar", "0-3.tar", "1-2.tar", "1-3.tar"]
    assert expand("plain.tar") == ["plain.tar"]
    for wrong in ("{5..1}.tar", "{0..999999999}.tar"):
        with pytest.raises(DataError, match="range that rises"):
            expand(wrong)
