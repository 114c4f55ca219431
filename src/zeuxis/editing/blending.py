"""Seams that do not show: what is generated is bent towards what is kept, and nothing that is kept changes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zeuxis.images import Pixels

Mask = NDArray[np.bool_]
Images = NDArray[np.float64]


def membrane(generated: Images, kept: Images, known: Mask, wrap: tuple[bool, bool] = (False, False)) -> Images:
    """`kept` where `known` (bool `[H, W]`); elsewhere `generated`, plus the smoothest sheet (a harmonic function) that
    carries their difference from the rim into the hole. All `[N, C, H, W]`; wrapped axes (x, y) continue.

    Poisson blending (Pérez, Gangnet & Blake 2003, Eq. 4) with the generated picture's gradients as guidance.
    """
    from scipy.sparse import csr_matrix
    from scipy.sparse.linalg import splu

    hole = ~known
    if not hole.any() or not known.any():
        return np.where(known, kept, generated)
    count = int(hole.sum())
    number = np.full(known.shape, -1)
    number[hole] = np.arange(count)
    difference = np.where(known, kept - generated, 0.0)  # [N, C, H, W]
    rows, columns, values = [], [], []
    degree, right = np.zeros(count), np.zeros((count, difference.shape[0] * difference.shape[1]))
    flat = difference.reshape(-1, *known.shape)
    for axis, step, wrapped in ((1, 1, wrap[0]), (1, -1, wrap[0]), (0, 1, wrap[1]), (0, -1, wrap[1])):
        neighbour, beside = np.roll(number, -step, axis), np.roll(flat, -step, axis + 1)
        exists = np.ones(known.shape, bool)
        if not wrapped:
            edge = -1 if step == 1 else 0
            exists[(slice(None), edge) if axis == 1 else (edge, slice(None))] = False
        inner = hole & exists
        degree += exists[hole]
        linked = inner & (neighbour >= 0)
        rows.append(number[linked])
        columns.append(neighbour[linked])
        values.append(np.full(int(linked.sum()), -1.0))
        rim = inner & (neighbour < 0)
        right[number[rim]] += beside[:, rim].T
    rows.append(np.arange(count))
    columns.append(np.arange(count))
    values.append(degree + 1e-9)  # a hole that touches nothing known has no rim: it stays as generated
    matrix = csr_matrix((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), (count, count))
    sheet = np.zeros_like(flat)
    sheet[:, hole] = splu(matrix.tocsc()).solve(right).T
    return np.where(known, kept, generated + sheet.reshape(difference.shape))


def feathered(inside: Images, outside: Images, mask: Mask, width: float) -> Images:
    """`inside` in the middle of `mask`, `outside` outside of it, a soft change over `width` pixels within."""
    from scipy.ndimage import distance_transform_edt

    depth = (
        distance_transform_edt(np.pad(mask, 1, mode="edge"))[1:-1, 1:-1]
        if not mask.all()
        else np.full(mask.shape, width + 1)
    )
    t = np.clip(depth / (width + 1), 0, 1)
    weight = t * t * (3 - 2 * t)
    return inside * weight + outside * (1 - weight)


def pasted(result: Pixels, original: Pixels, known: Mask) -> Pixels:
    """uint8 `[N, C, H, W]`: `original` where `known`, to the bit, colour under full transparency included."""
    return np.where(known, original, result)
