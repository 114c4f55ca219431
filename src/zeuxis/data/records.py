"""What one look at one picture file leaves behind: a fixed record of 48 bytes, so that a million fit in 48
MB."""

from __future__ import annotations

from enum import IntFlag

import numpy as np
from numpy.typing import NDArray

RECORD = np.dtype(
    [
        ("digest", "<u8", (2,)),  # 128 bits of the SHA-256 of the file's bytes (of the pixels for arrays)
        ("look", "<u8"),  # difference hash of 8x8 bits
        ("width", "<i4"),  # as a viewer shows it, after EXIF rotation
        ("height", "<i4"),
        ("bytes", "<i8"),
        ("flags", "<u2"),
        ("mean", "u1", (4,)),  # mean red, green, blue and alpha
        ("pad", "u1", (2,)),
    ]
)
Records = NDArray[np.void]


class Flag(IntFlag):
    """Properties of a picture that a user may want to know about; OK means that it was decoded to the end."""

    OK = 1
    CMYK = 2
    DEEP = 4
    PALETTE = 8
    ROTATED = 16
    ALPHA = 32
    TRANSPARENT = 64
    GREY = 128
    ANIMATED = 256


def empty_records(count: int) -> Records:
    """`count` records of zeros, none of them OK."""
    return np.zeros(count, RECORD)


def has(records: Records, flag: Flag) -> NDArray[np.bool_]:
    """Which records carry `flag`, bool `[N]`."""
    return np.asarray(records["flags"] & np.uint16(flag)) != 0
