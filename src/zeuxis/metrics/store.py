"""Arrays that depend on the data alone, computed once and read from the cache afterwards."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeuxis.config import fingerprint
from zeuxis.data.cache import cache_root
from zeuxis.files import write_bytes


def stored(key: list[Any], compute: Callable[[], NDArray[Any]]) -> NDArray[Any]:
    """The array kept under `key` (plain JSON values), or that of `compute`, which is then kept. A damaged file is made
    again."""
    place = cache_root() / "features" / f"{fingerprint(key)[:32]}.npy"
    if place.is_file():
        try:
            return np.asarray(np.load(place, allow_pickle=False))
        except (ValueError, OSError, EOFError):
            place.unlink(missing_ok=True)
    value = compute()
    buffer = io.BytesIO()
    np.save(buffer, value, allow_pickle=False)
    place.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(place, buffer.getvalue())
    return value
