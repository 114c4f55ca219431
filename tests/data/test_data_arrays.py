"""Arrays as data: in memory, `.npy` and `.npz`, the MNIST format and the built-in sets."""

from __future__ import annotations

import hashlib
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from picture_files import forged_npy, idx, npy, npz, packed, patched_zip, picture, write_tree, zipped

from zeuxis.data import Dataset, Report, builtin
from zeuxis.errors import DataError, UserError


def stack(count: int = 6, height: int = 8, width: int = 12, channels: int = 3) -> np.ndarray:
    """uint8 `[N, H, W, C]`, or `[N, H, W]` for one channel."""
    return np.stack([picture(seed, height, width, channels) for seed in range(count)])


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_an_array_in_memory_keeps_every_value(channels: int, opened: Callable[..., Dataset]) -> None:
    images = stack(channels=channels)
    dataset = opened(images, labels=np.array([2, 0, -1, 2, 0, 10]))
    full = images[..., None] if channels == 1 else images
    assert dataset.spec.shape == (channels, 8, 12)
    assert np.array_equal(dataset.train.all(), full.transpose(0, 3, 1, 2))
    assert dataset.classes == ("0", "2", "10") and dataset.train.labels.tolist() == [1, 0, -1, 1, 0, 2]
    assert dataset.names() == []


def test_labels_may_be_names(opened: Callable[..., Dataset]) -> None:
    dataset = opened(stack(3), labels=np.array(["b", "a", ""]))
    assert dataset.classes == ("a", "b") and dataset.train.labels.tolist() == [1, 0, -1]


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((2, 8, 8), np.float32), r"got 'float32 \[2, 8, 8\]'.* convert them with \.astype\(numpy\.uint8\)"),
        (np.zeros((2, 3, 8, 8), np.uint8), r"use \.transpose\(0, 2, 3, 1\)"),
        (np.zeros((8, 8), np.uint8), "reshape the array"),
        (np.zeros((2, 8, 8, 2), np.uint8), "uint8 pictures .* with C = 1, 3 or 4"),
        (np.zeros((2, 0, 8), np.uint8), "sides from 1 to 8192"),
        (np.array([None, 1]), "uint8 pictures"),
        (np.zeros((0, 8, 8), np.uint8), "got '0 training pictures in array', allowed: at least 1"),
    ],
)
def test_arrays_that_are_no_pictures_are_one_line(array: Any, words: str, opened: Callable[..., Dataset]) -> None:
    with pytest.raises(DataError, match=words):
        opened(array)


@pytest.mark.parametrize("labels", [np.zeros(5, np.int64), np.zeros(6, np.float32), np.zeros((6, 2), np.int64)])
def test_labels_that_do_not_fit_are_one_line(labels: np.ndarray, opened: Callable[..., Dataset]) -> None:
    with pytest.raises(DataError, match=r"allowed: whole numbers or names, \[6\]"):
        opened(stack(6), labels=labels)


def test_labels_belong_to_arrays_only(opened: Callable[..., Dataset]) -> None:
    with pytest.raises(UserError, match=r"put them in metadata\.jsonl"):
        opened("digits", labels=np.zeros(1797, np.int64))


def test_what_is_no_form_of_data_is_one_line(opened: Callable[..., Dataset]) -> None:
    with pytest.raises(DataError, match="got 'list', allowed: a folder"):
        opened([1, 2])


@pytest.mark.parametrize("channels", [1, 3])
def test_npy_files(channels: int, opened: Callable[..., Dataset], tmp_path: Path) -> None:
    images = stack(channels=channels)
    path = write_tree(tmp_path, {"a.npy": npy(images)}) / "a.npy"
    assert np.array_equal(opened(path).train.all(), opened(images).train.all())


@pytest.mark.parametrize("key", ["images", "arr_0", "x_train", "whatever"])
def test_npz_files_under_each_name(key: str, opened: Callable[..., Dataset], tmp_path: Path) -> None:
    images = stack()
    path = write_tree(tmp_path, {"a.npz": npz(**{key: images})}) / "a.npz"
    assert np.array_equal(opened(path).train.all(), images.transpose(0, 3, 1, 2))


def test_npz_with_labels_and_names(opened: Callable[..., Dataset], tmp_path: Path) -> None:
    content = npz(images=stack(3), labels=np.array([[1], [0], [1]]), class_names=np.array(["cat", "dog"]))
    dataset = opened(write_tree(tmp_path, {"a.npz": content}) / "a.npz")
    assert dataset.classes == ("cat", "dog") and dataset.train.labels.tolist() == [1, 0, 1]


def test_npz_with_its_own_test_split(opened: Callable[..., Dataset], tmp_path: Path) -> None:
    images = stack(10)
    content = npz(x_train=images[:7], y_train=np.arange(7) % 2, x_test=images[7:], y_test=np.arange(3) % 2)
    dataset = opened(write_tree(tmp_path, {"a.npz": content}) / "a.npz", test_fraction=0.5)
    assert np.array_equal(dataset.test.all(), images[7:].transpose(0, 3, 1, 2)), "kept, and nothing added"
    assert np.array_equal(dataset.train.all(), images[:7].transpose(0, 3, 1, 2))
    assert dataset.test.labels.tolist() == [0, 1, 0]


class Payload:
    """Runs code when unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("an object array was unpickled",))


@pytest.mark.parametrize("kind", ["npy", "npz", "labels"])
def test_objects_are_refused_and_never_loaded(kind: str, scanned: Callable[..., Report], tmp_path: Path) -> None:
    objects = np.array([Payload(), Payload()], object)
    content = npy(objects, allow_pickle=True)
    assert b"an object array was unpickled" in content
    if kind == "npz":
        content = zipped({"images.npy": content})
    if kind == "labels":
        content = zipped({"images.npy": npy(stack(2)), "labels.npy": content})
    path = write_tree(tmp_path, {f"a.{'npy' if kind == 'npy' else 'npz'}": content}).joinpath
    with pytest.raises(DataError, match="objects would run code when loaded: save plain arrays"):
        scanned(path("a.npy" if kind == "npy" else "a.npz"))


HUGE = [(10**12, 8, 8), (2**62, 64, 64, 3), (3, 8, 9), (10**400, 8, 8)]


@pytest.mark.parametrize("shape", HUGE)
@pytest.mark.parametrize("kind", ["npy", "npz", "npz with a lying directory"])
def test_a_forged_header_allocates_nothing(
    shape: tuple[int, ...], kind: str, scanned: Callable[..., Report], tmp_path: Path, peak: Callable[[], int]
) -> None:
    content = forged_npy(shape)
    if kind != "npy":
        content = zipped({"images.npy": content})
    if kind.endswith("directory"):
        claimed = 2**32 - 2
        content = patched_zip(content, "images.npy", size=claimed, packed=claimed)
    path = tmp_path / f"a.{kind[:3]}"
    path.write_bytes(content)
    with pytest.raises(DataError):
        scanned(path)
    assert peak() < 32 * 2**20


@pytest.fixture
def peak() -> Iterator[Callable[[], int]]:
    """Most bytes allocated since the test began (numpy reports its own to tracemalloc)."""
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (npy(np.asfortranarray(stack())), "in Fortran order"),
        (npy(stack().astype(np.float64)), r"scale the values to 0\.\.255"),
        (npy(stack())[:-5], "a header that fits the"),
        (b"\x93NUMPY\x01\x00\xff\x0f{", "it cannot be read"),
        (b"\x93NUMPY\x09\x00" + b"\0" * 40, "version 1 or 2"),
        (forged_npy((2, 8, 8)).replace(b"}", b"("), "its header cannot be read"),
        (b"\x93NUMPY\x02\x00" + b"\xff" * 4 + b"{", r"a header of 4,294,967,295 bytes', allowed: at most 10,000"),
    ],
)
def test_damaged_npy_files_are_one_line(
    content: bytes, words: str, scanned: Callable[..., Report], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=words) as caught:
        scanned(write_tree(tmp_path, {"a.npy": content}) / "a.npy")
    assert "\n" not in str(caught.value)


def test_npz_without_pictures_names_what_it_has(scanned: Callable[..., Report], tmp_path: Path) -> None:
    path = write_tree(tmp_path, {"a.npz": npz(first=np.zeros(3), second=np.zeros(3))}) / "a.npz"
    with pytest.raises(DataError, match=r"a\.npz with \['first', 'second'\].*under `images`"):
        scanned(path)


def idx_pair(folder: Path, gz: bool, count: int = 6) -> Path:
    ending, wrap = (".gz", packed) if gz else ("", bytes)
    images, labels = stack(count, 8, 8, 1), (np.arange(count) % 3).astype(np.uint8)
    return write_tree(folder, {
        f"train-images-idx3-ubyte{ending}": wrap(idx(images)),
        f"train-labels-idx1-ubyte{ending}": wrap(idx(labels)),
        f"t10k-images-idx3-ubyte{ending}": wrap(idx(images[::-1][:2])),
        f"t10k-labels-idx1-ubyte{ending}": wrap(idx(labels[::-1][:2])),
    })  # fmt: skip


@pytest.mark.parametrize("gz", [False, True])
@pytest.mark.parametrize("given", ["folder", "images", "labels"])
def test_idx_pairs(gz: bool, given: str, opened: Callable[..., Dataset], tmp_path: Path) -> None:
    folder = idx_pair(tmp_path / "mnist", gz)
    ending = ".gz" if gz else ""
    data = {"folder": folder, "images": folder / f"train-images-idx3-ubyte{ending}",
            "labels": folder / f"train-labels-idx1-ubyte{ending}"}[given]  # fmt: skip
    dataset = opened(data, test_fraction=0.5)
    images = stack(6, 8, 8, 1)[:, None]
    assert np.array_equal(dataset.train.all(), images) and np.array_equal(dataset.test.all(), images[::-1][:2])
    assert dataset.train.labels.tolist() == [0, 1, 2, 0, 1, 2] and dataset.test.labels.tolist() == [2, 1]
    assert dataset.classes == ("0", "1", "2")


def test_an_idx_file_alone_has_no_labels(opened: Callable[..., Dataset], tmp_path: Path) -> None:
    path = write_tree(tmp_path, {"some-images-idx3-ubyte": idx(stack(4, 8, 8, 1))}) / "some-images-idx3-ubyte"
    dataset = opened(path)
    assert len(dataset) == 4 and dataset.classes == ()


@pytest.mark.parametrize("shape", [(2**31, 28, 28), (2**32 - 1, 2**32 - 1, 2**32 - 1), (7, 8, 8), (6, 8, 9)])
@pytest.mark.parametrize("gz", [False, True])
def test_forged_idx_counts_allocate_nothing(
    shape: tuple[int, ...], gz: bool, scanned: Callable[..., Report], tmp_path: Path, peak: Callable[[], int]
) -> None:
    content = idx(stack(6, 8, 8, 1), shape)
    path = tmp_path / f"train-images-idx3-ubyte{'.gz' if gz else ''}"
    path.write_bytes(packed(content) if gz else content)
    with pytest.raises(DataError, match=r"a header that fits|a complete file; it cannot be read|sides from 1"):
        scanned(path)
    assert peak() < 32 * 2**20


def test_idx_labels_must_be_as_many_as_pictures(scanned: Callable[..., Report], tmp_path: Path) -> None:
    files = {"train-images-idx3-ubyte": idx(stack(4, 8, 8, 1)), "train-labels-idx1-ubyte": idx(np.zeros(3, np.uint8))}
    with pytest.raises(DataError, match=r"with 3 labels', allowed: one for each of 4 pictures; check the pair"):
        scanned(write_tree(tmp_path, files))


def test_a_folder_with_two_pairs_asks_which(scanned: Callable[..., Report], tmp_path: Path) -> None:
    files = {f"{name}-images-idx3-ubyte": idx(stack(2, 8, 8, 1)) for name in ("one", "two")}
    with pytest.raises(DataError, match=r"one pair of idx files; name one file, such as .*one-images"):
        scanned(write_tree(tmp_path, files))


def test_damaged_gz_files_are_one_line(scanned: Callable[..., Report], tmp_path: Path) -> None:
    content = bytearray(packed(idx(stack(6, 8, 8, 1))))
    content[40] ^= 0xFF
    path = tmp_path / "train-images-idx3-ubyte.gz"
    for damaged in (bytes(content), bytes(content[:30]), b"\x1f\x8b"):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="allowed: a complete file; it cannot be read"):
            scanned(path)


def test_digits_are_scikit_learns(opened: Callable[..., Dataset]) -> None:
    from sklearn.datasets import load_digits

    dataset, bunch = opened("digits"), load_digits()
    assert np.array_equal(dataset.train.all()[:, 0], (bunch.images * (255 / 16)).round().astype(np.uint8))
    assert np.array_equal(dataset.train.labels, bunch.target)
    assert dataset.classes == tuple("0123456789") and dataset.spec.shape == (1, 8, 8)


@pytest.mark.skipif(not builtin.FASHION_FOLDER.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_fashion_mnist_has_its_own_test_split(opened: Callable[..., Dataset]) -> None:
    dataset = opened("fashion-mnist", val_fraction=0.05)
    assert (len(dataset.train), len(dataset.val), len(dataset.test)) == (57_000, 3_000, 10_000)
    assert dataset.spec.shape == (1, 28, 28) and dataset.classes[9] == "Ankle boot"
    assert np.bincount(dataset.test.labels).tolist() == [1000] * 10


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """A server on this machine in place of the public home of Fashion-MNIST; it serves what is put into the dict."""
    files: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = files.get(self.path.rsplit("/", 1)[-1])
            self.send_response(404 if content is None else 200)
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    monkeypatch.setattr(builtin, "FASHION_FOLDER", tmp_path / "nowhere")
    monkeypatch.setattr(builtin, "FASHION_HOME", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield files
    server.shutdown()
    thread.join()
    server.server_close()


def tiny_fashion(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Four small files in the place of the real ones, and the checksums that fit them."""
    images, labels = stack(12, 28, 28, 1), (np.arange(12) % 10).astype(np.uint8)
    contents = dict(
        zip(builtin.FASHION_FILES, (idx(images), idx(labels), idx(images[:3]), idx(labels[:3])), strict=True)
    )
    sums = {name: (hashlib.sha256(content).hexdigest(), len(content)) for name, content in contents.items()}
    monkeypatch.setattr(builtin, "FASHION_FILES", sums)
    return {name: packed(content) for name, content in contents.items()}


def test_a_download_is_checked_and_kept(
    home: dict[str, bytes], opened: Callable[..., Dataset], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.update(tiny_fashion(monkeypatch))
    assert len(opened("fashion-mnist").test) == 3
    home.clear()
    assert len(opened("fashion-mnist").train) == 12, "the second time from the cache"
    assert not list((cache / "fashion-mnist").glob(".*")), "no parts are left"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda content: content[:20], "is incomplete or damaged"),
        (lambda content: content[:30] + b"\xff" * 20 + content[50:], "is incomplete or damaged|not have the SHA-256"),
        (lambda content: b"<html>sorry</html>", "is incomplete or damaged"),
        (lambda content: packed(b"other"), "does not have the SHA-256"),
        (None, "Not Found"),
    ],
)  # fmt: skip
def test_a_bad_download_is_one_line_that_says_how_to_get_it(
    damage: Callable[[bytes], bytes] | None,
    words: str,
    home: dict[str, bytes],
    opened: Callable[..., Dataset],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = tiny_fashion(monkeypatch)
    home.update({name: damage(content) for name, content in files.items()} if damage else {})
    with pytest.raises(DataError, match=words) as caught:
        opened("fashion-mnist")
    assert str(caught.value).endswith("apt-get install dataset-fashion-mnist") and "\n" not in str(caught.value)
