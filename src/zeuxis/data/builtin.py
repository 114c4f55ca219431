"""Data sets that have a name: `digits`, which scikit-learn brings along, and `fashion-mnist`."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import urllib.error
import urllib.request
import zlib
from http.client import HTTPException
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zeuxis.data.arrays import MemoryStack, stacked_listing
from zeuxis.data.idx import IdxSource
from zeuxis.data.listing import Listing
from zeuxis.errors import DataError

BUILTIN = ("digits", "fashion-mnist")
DIGITS_TOP = 16  # the values of scikit-learn's digits go from 0 to 16
FASHION_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # where Debian's package puts it
FASHION_HOME = "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/"
_CLOTHES = ("T-shirt or top", "Trouser", "Pullover", "Dress", "Coat")
FASHION_CLASSES = (*_CLOTHES, "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
# SHA-256 of what the files unpack to (their compression differs between places), and that many bytes.
FASHION_FILES = {
    "train-images-idx3-ubyte.gz": (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        47040016,
    ),
    "train-labels-idx1-ubyte.gz": ("bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9", 60008),
    "t10k-images-idx3-ubyte.gz": (
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        7840016,
    ),
    "t10k-labels-idx1-ubyte.gz": ("0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34", 10008),
}
MAX_DOWNLOAD = 64 * 2**20  # bytes
TIMEOUT = 30  # seconds


class DigitsSource:
    """1,797 handwritten digits, 8x8 grey, ten classes."""

    name = "digits"
    count = bytes = 0  # nothing to decode

    def quick(self) -> str:
        """They never change."""
        return "digits 1"

    def listing(self) -> Listing:
        """All digits in scikit-learn's order."""
        images, labels = load_digits()
        return stacked_listing(MemoryStack(images), labels, tuple(str(digit) for digit in range(10)))


def load_digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """(uint8 `[1797, 8, 8]`, int64 `[1797]`); read without importing scikit-learn, which takes a second."""
    found = importlib.util.find_spec("sklearn")
    table = Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz" if found and found.origin else None
    if table is not None and table.exists():
        with gzip.open(table, "rt") as file:
            values = np.loadtxt(file, delimiter=",")
    elif found:
        from sklearn.datasets import load_digits as load

        bunch = load()
        values = np.concatenate([bunch.data, bunch.target[:, None]], axis=1)
    else:
        raise DataError("DATA", "digits", "scikit-learn installed", "pip install scikit-learn")
    images = (values[:, :64] * (255 / DIGITS_TOP)).round().astype(np.uint8).reshape(-1, 8, 8)
    return images, values[:, 64].astype(np.int64)


class FashionSource(IdxSource):
    """70,000 pictures of clothing, 28x28 grey, ten classes, with its own test split of 10,000."""

    def __init__(self, cache: Path) -> None:
        super().__init__(find_fashion(cache) / "train-images-idx3-ubyte.gz", "fashion-mnist")

    def listing(self) -> Listing:
        """As of any idx pair, with the names of the classes."""
        listing = super().listing()
        listing.classes = FASHION_CLASSES
        return listing


def find_fashion(cache: Path) -> Path:
    """The folder with the four files: Debian's, else the user's cache, filled from the public home when
    empty."""
    for folder in (FASHION_FOLDER, cache / "fashion-mnist"):
        if all((folder / name).is_file() for name in FASHION_FILES):
            return folder
    try:
        return _download(cache / "fashion-mnist")
    except (OSError, HTTPException) as error:  # urllib's errors are OSErrors
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        allowed = f"its four files in {FASHION_FOLDER} or {cache / 'fashion-mnist'} (no download: {error})"
        raise DataError("DATA", "fashion-mnist", allowed, "apt-get install dataset-fashion-mnist") from None


def _download(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, (digest, size) in FASHION_FILES.items():
        with urllib.request.urlopen(FASHION_HOME + name, timeout=TIMEOUT) as answer:
            packed = answer.read(MAX_DOWNLOAD)
        try:
            with gzip.GzipFile(fileobj=BytesIO(packed)) as file:
                content = file.read(size + 1)
        except (EOFError, gzip.BadGzipFile, zlib.error):
            raise urllib.error.URLError(f"{name} is incomplete or damaged") from None
        if hashlib.sha256(content).hexdigest() != digest:
            raise urllib.error.URLError(f"{name} does not have the SHA-256 {digest}")
        temporary = folder / f".{name}.part"
        temporary.write_bytes(packed)
        temporary.replace(folder / name)
    return folder
