"""The cache: decoded once, whole or absent, shared by processes, safe from kills, torn files and full disks."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from picture_files import picture, pngs, write_tree

from zeuxis.config import DataOptions
from zeuxis.data import Dataset, open_dataset
from zeuxis.data import cache as cache_module
from zeuxis.errors import RunFault

ALL = DataOptions(test_fraction=0.0, val_fraction=0.0)


def read(data: Path, cache: Path, options: DataOptions = ALL, workers: int = 1) -> tuple[Dataset, set[str]]:
    """The data set, and what the progress said was done for it (nothing where the cache had it)."""
    said: set[str] = set()
    dataset = open_dataset(
        data, options, cache_dir=cache, workers=workers, progress=lambda what, done, total: said.add(what)
    )
    return dataset, said


def only_set(cache: Path) -> Path:
    (folder,) = (cache / "data" / "sets").iterdir()
    return folder


def nothing_half_done(cache: Path) -> bool:
    return not list((cache / "data" / "building").iterdir())


def test_pictures_stay_on_the_disk(cache: Path, tmp_path: Path) -> None:
    dataset, _ = read(write_tree(tmp_path / "d", pngs(12)), cache, DataOptions())
    for split in (dataset.train, dataset.val, dataset.test):
        assert isinstance(split._pixels, np.memmap) and split._pixels.mode == "r"
        assert Path(split._pixels.filename) == only_set(cache) / "pixels.u8"
    assert type(dataset.train.take([3, 1, 1])) is np.ndarray and dataset.train.take([3, 1, 1]).shape == (3, 3, 16, 16)


def test_the_second_start_decodes_nothing(cache: Path, tmp_path: Path) -> None:
    folder = write_tree(tmp_path / "d", {**pngs(5), "bad.png": b"x"})
    first, said = read(folder, cache)
    assert said == {"reading pictures"}
    names = sorted(os.listdir(folder))
    before = {name: (folder / name).stat() for name in names}
    for name in names:  # the same sizes and times, but nothing that could be decoded
        size = before[name].st_size
        (folder / name).write_bytes(b"\0" * size)
        os.utime(folder / name, ns=(before[name].st_atime_ns, before[name].st_mtime_ns))
    second, said = read(folder, cache)
    assert said == set()
    assert np.array_equal(second.train.all(), first.train.all())
    assert (second.key, second.fingerprint, second.report) == (first.key, first.fingerprint, first.report)
    assert second.names() == first.names()
    assert second.report.sheet() is not None, "a report from the cache still shows the pictures"


@pytest.mark.parametrize("change", ["content", "added", "removed", "renamed", "labels"])
def test_changed_data_are_read_again(change: str, cache: Path, tmp_path: Path) -> None:
    folder = write_tree(tmp_path / "d", {**pngs(4), "metadata.csv": b"file_name,label\n000.png,1\n001.png,2\n"})
    before, _ = read(folder, cache)
    if change == "content":
        (folder / "001.png").write_bytes(next(iter(pngs(1, start=50).values())))
    elif change == "added":
        write_tree(folder, pngs(1, "x", 50))
    elif change == "removed":
        (folder / "001.png").unlink()
    elif change == "renamed":
        (folder / "001.png").rename(folder / "1.png")
    else:
        (folder / "metadata.csv").write_bytes(b"file_name,label\n000.png,1\n001.png,20\n")
    after, said = read(folder, cache)
    assert said == {"reading pictures"}
    assert after.fingerprint != before.fingerprint
    expected = 5 if change == "added" else 3 if change == "removed" else 4
    assert len(after) == expected
    if change == "content":
        assert np.array_equal(after.train.all()[1].transpose(1, 2, 0), picture(50))
    if change == "labels":
        assert after.classes == ("1", "20")


def test_options_that_change_pixels_make_another_set_and_others_do_not(cache: Path, tmp_path: Path) -> None:
    folder = write_tree(tmp_path / "d", pngs(12))
    read(folder, cache)
    assert read(folder, cache, DataOptions(split_seed=3, test_fraction=0.2))[1] == set(), (
        "splits are cut from the cache"
    )
    for options in (DataOptions(resolution=(8, 8)), DataOptions(channels=1), DataOptions(resolution=(8, 8), fit="pad")):
        assert read(folder, cache, options)[1] != set()
    assert len(list((cache / "data" / "sets").iterdir())) == 4


def test_the_same_content_elsewhere_is_stored_once(cache: Path, tmp_path: Path) -> None:
    one, _ = read(write_tree(tmp_path / "one", pngs(4)), cache)
    other, said = read(write_tree(tmp_path / "other", pngs(4)), cache)
    assert one.fingerprint == other.fingerprint and only_set(cache) and said == {"reading pictures"}
    assert other.report.name == "other"


def test_arrays_of_other_sides_with_the_same_bytes_are_other_data(opened: Callable[..., Dataset]) -> None:
    values = np.arange(4 * 8 * 16, dtype=np.uint8).reshape(4, 8, 16)
    wide = opened(values, resolution=(8, 8), fit="stretch")
    high = opened(values.reshape(4, 16, 8), resolution=(8, 8), fit="stretch")
    assert wide.fingerprint != high.fingerprint
    assert not np.array_equal(wide.train.all(), high.train.all())


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def lengthen(path: Path) -> None:
    with open(path, "ab") as file:
        file.write(b"\0")


def blank(path: Path) -> None:
    """What a power cut can leave: the length is there, the content is not."""
    size = path.stat().st_size
    path.write_bytes(b"\0" * size)


def swap(path: Path) -> None:
    """JSON that is whole but says something else."""
    text = path.read_text()
    path.write_text(text.replace("1", "2", 1) if "1" in text else "{}")


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("pixels.u8", cut), ("pixels.u8", lengthen), ("pixels.u8", blank), ("pixels.u8", Path.unlink),
        ("index.json", cut), ("index.json", blank), ("index.json", swap), ("index.json", Path.unlink),
        ("columns.npz", cut), ("columns.npz", blank), ("columns.npz", Path.unlink),
        ("names.json", cut), ("names.json", blank), ("names.json", Path.unlink),
        ("known", cut), ("known", swap), ("known", blank), ("known", Path.unlink),
    ],
)  # fmt: skip
def test_a_torn_cache_is_built_anew(name: str, damage: Callable[[Path], None], cache: Path, tmp_path: Path) -> None:
    folder = write_tree(tmp_path / "d", pngs(5))
    before, _ = read(folder, cache)
    expected, names = before.train.all(), before.names()
    known = next((cache / "data" / "known").iterdir())
    damage(known if name == "known" else only_set(cache) / name)
    after, said = read(folder, cache)
    assert said == {"reading pictures"}
    assert np.array_equal(after.train.all(), expected) and after.names() == names
    assert read(folder, cache)[1] == set() and nothing_half_done(cache)


def test_foreign_json_in_the_cache_is_no_traceback(cache: Path, tmp_path: Path) -> None:
    folder = write_tree(tmp_path / "d", pngs(3))
    read(folder, cache)
    for path in (next((cache / "data" / "known").iterdir()), only_set(cache) / "index.json"):
        for content in (b"[]", b"null", b"3", b'"x"', b'{"body": 1}', b"{}", b"\xff\xfe", b"[" * 5000):
            path.write_bytes(content)
            assert len(read(folder, cache)[0]) == 3


SCRIPT = """
import os, signal, sys
from pathlib import Path
from zeuxis.config import DataOptions
from zeuxis.data import open_dataset

data, cache, workers, die = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
def progress(what, done, total):
    print(what, done, flush=True)
    if die and done >= die:
        os.kill(os.getpid(), signal.SIGKILL)
dataset = open_dataset(data, DataOptions(), cache_dir=cache, workers=workers, progress=progress)
print("key", dataset.key, dataset.train.all().sum())
"""


def start(data: Path, cache: Path, workers: int = 1, die: int = 0) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", SCRIPT, str(data), str(cache), str(workers), str(die)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def children_of_killed(marker: str) -> list[int]:
    """Processes whose command line is a worker's and whose environment names `marker`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            is_worker = b"zeuxis.data.worker" in (entry / "cmdline").read_bytes()
            if is_worker and marker.encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
    return found


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no kill -9 here")
@pytest.mark.parametrize("workers", [1, 2])
def test_after_a_kill_in_the_middle_the_next_build_works(
    workers: int, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_tree(tmp_path / "d", pngs(400))
    monkeypatch.setenv("ZEUXIS_TEST_MARK", str(tmp_path))
    killed = start(folder, cache, workers, die=128)
    output, _ = killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL and "key" not in output
    assert len(list((cache / "data" / "building").iterdir())) == 1, "what was half done is there"
    assert not list((cache / "data" / "sets").iterdir()), "and nothing that looks whole"
    dataset, said = read(folder, cache, DataOptions())
    assert said == {"reading pictures"} and len(dataset) == 400
    assert np.array_equal(dataset.train.take([7])[0].transpose(1, 2, 0), picture(int(dataset.names()[7][:3])))
    assert nothing_half_done(cache)
    if Path("/proc").is_dir():
        deadline = time.monotonic() + 20
        while children_of_killed(str(tmp_path)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not children_of_killed(str(tmp_path)), "workers end with their parent"


def test_what_a_killed_build_of_other_data_left_is_swept(cache: Path, tmp_path: Path) -> None:
    left = cache / "data" / "building" / "0123456789abcdef-x"
    left.mkdir(parents=True)
    (left / "pixels.u8").write_bytes(b"x" * 1000)
    read(write_tree(tmp_path / "d", pngs(3)), cache)
    assert not left.exists()


def test_a_build_under_way_is_not_swept(cache: Path, tmp_path: Path) -> None:
    store = cache_module.Cache(cache)
    with store.building("0123456789abcdef") as under_way:
        read(write_tree(tmp_path / "d", pngs(3)), cache)
        assert under_way.is_dir()


def test_two_processes_at_once_end_with_one_good_set(cache: Path, tmp_path: Path) -> None:
    folder = write_tree(tmp_path / "d", pngs(300))
    processes = [start(folder, cache) for _ in range(3)]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], [error for _, error in outputs]
    ends = {output.splitlines()[-1] for output, _ in outputs}
    assert len(ends) == 1 and ends.pop().startswith("key ")
    assert sum("reading pictures 300" in output for output, _ in outputs) == 1, "one decodes, the others wait for it"
    assert only_set(cache) and nothing_half_done(cache)
    assert read(folder, cache, DataOptions())[1] == set()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], capture_output=True)
    if done.returncode:
        pytest.skip("no small disk can be mounted here (it needs root)")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(small_disk: Path, tmp_path: Path) -> None:
    folder = write_tree(tmp_path / "d", pngs(5))
    with pytest.raises(RunFault) as caught:
        read(folder, small_disk)
    text = str(caught.value)
    assert text.startswith(f"the disk of the cache {small_disk / 'data'} is full: the decoded pictures need 3.8 kB, 2.")
    assert text.endswith("MB are free; free space or set ZEUXIS_CACHE to another disk") and "\n" not in text


@pytest.mark.parametrize("workers", [1, 2])
def test_a_disk_that_fills_up_on_the_way_is_one_line_and_nothing_is_left(
    workers: int, small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "SPARE", -(10**9))  # as if another process takes the space after the look
    folder = write_tree(tmp_path / "d", pngs(250, height=64, width=64))
    with pytest.raises(
        RunFault, match="is full: nothing of the unfinished cache was kept; free space or set ZEUXIS_CACHE"
    ):
        read(folder, small_disk, workers=workers)
    assert nothing_half_done(small_disk) and not list((small_disk / "data" / "sets").iterdir())
    assert shutil.disk_usage(small_disk).used < 200_000


def test_a_limit_on_the_size_of_files_is_one_line(cache: Path, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    folder = write_tree(tmp_path / "d", pngs(30, height=64, width=64))
    limit = (100_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    code = (
        f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, {limit})\n"
        "from zeuxis.cli import main; import sys; sys.argv = ['zeuxis', 'data', 'check', sys.argv[1]]; main()"
    )
    environment = {**os.environ, "ZEUXIS_CACHE": str(cache)}
    done = subprocess.run([sys.executable, "-c", code, str(folder)], env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "allows no file as large as the decoded pictures; set ZEUXIS_CACHE to another disk" in done.stderr


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write anywhere")
def test_a_cache_that_may_not_be_written_is_one_line(cache: Path, tmp_path: Path) -> None:
    cache.mkdir()
    cache.chmod(0o500)
    with pytest.raises(RunFault, match=r"cannot be written: .*; set ZEUXIS_CACHE to another folder"):
        read(write_tree(tmp_path / "d", pngs(3)), cache)


def test_a_cache_that_is_a_file_is_one_line(cache: Path, tmp_path: Path) -> None:
    cache.write_bytes(b"")
    with pytest.raises(RunFault, match=r"cannot be written: .*; set ZEUXIS_CACHE to another folder"):
        read(write_tree(tmp_path / "d", pngs(3)), cache)


def test_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZEUXIS_CACHE", str(tmp_path / "mine"))
    assert cache_module.cache_root() == tmp_path / "mine"
    assert cache_module.cache_root(tmp_path / "given") == tmp_path / "given"
    monkeypatch.delenv("ZEUXIS_CACHE")
    if sys.platform == "linux":
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        assert cache_module.cache_root() == tmp_path / "xdg" / "zeuxis"
        monkeypatch.delenv("XDG_CACHE_HOME")
        assert cache_module.cache_root() == Path.home() / ".cache" / "zeuxis"


def test_the_index_names_its_format(cache: Path, tmp_path: Path) -> None:
    read(write_tree(tmp_path / "d", pngs(3)), cache)
    body = json.loads((only_set(cache) / "index.json").read_text())["body"]
    assert body["format"] == cache_module.FORMAT and body["shape"] == [3, 3, 16, 16]
