"""Convolutions by minimal filtering (Winograd 1980; Lavin & Gray 2015, arXiv 1509.09308): fewer multiplications.

For CPUs whose float32 arithmetic is the bottleneck. A tile of m x m outputs of an r x r kernel takes (m + r - 1)^2
multiplications per pair of channels instead of m^2 r^2: F(4, 3) a quarter, F(4, 2) two fifths. A 4x4 kernel of stride 2
is an r = 2 kernel over the four parities of its input as channels, so DCGAN's layers gain as well.

Everything is copies and matrix products: windows are gathered with the tile's positions outermost, so that each
transform is one small matrix times one wide one, and the sum over channels one batched product. The matrices are those
of Toom-Cook at the points 0, 1, -1, 2, -1/2 and infinity, derived here and not looked up: a correlation is the adjoint
of a polynomial product. In float32 the result differs from a direct convolution by about 1e-6 of its size for r = 2 and
1e-5 for r = 3 (tests/parity/test_kernels.py).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

POINTS = (0.0, 1.0, -1.0, 2.0, -0.5)
MOST_TILE = {2: 5, 3: 4}  # outputs per side of a tile by kernel side: more of them lose digits


@lru_cache(maxsize=32)
def transforms(m: int, r: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Matrices of inputs `[n^2, n^2]`, weights `[n^2, r^2]` and outputs `[m^2, n^2]`, n = m + r - 1, as Kronecker
    squares of those of one axis.

    With E_k the values of a polynomial of k coefficients at n points (the last one infinity), the product of
    polynomials is E_n^-1 ((E_r g) * (E_m h)); its adjoint in h is the correlation E_m^T ((E_r g) * (E_n^-T d)).
    """
    n = m + r - 1
    points = POINTS[: n - 1]

    def values(count: int) -> np.ndarray:
        finite = np.array([[point**power for power in range(count)] for point in points])
        return np.vstack([finite, np.eye(count)[-1]])

    inputs, weights, outputs = np.linalg.inv(values(n)).T, values(r), values(m).T
    # Rows of one size on both sides of the product: float32 keeps more digits.
    scale = np.abs(inputs).max(axis=1, keepdims=True)
    inputs, weights = inputs / scale, weights * scale
    square = [torch.from_numpy(np.kron(matrix, matrix)).to(dtype) for matrix in (inputs, weights, outputs)]
    return square[0], square[1], square[2]


def tile_side(r: int, sides: tuple[int, int]) -> int:
    """Outputs per side of a tile that need the fewest multiplications for `sides` outputs."""

    def cost(m: int) -> int:
        return (m + r - 1) ** 2 * -(-sides[0] // m) * -(-sides[1] // m)

    return min(range(2, MOST_TILE[r] + 1), key=lambda m: (cost(m), m))


class Tiles:
    """How `outputs` = (h, w) of a kernel of side `r` (per parity, where `phases` is 2) are cut into tiles."""

    def __init__(self, r: int, phases: int, padding: int, outputs: tuple[int, int]) -> None:
        self.r, self.phases, self.padding, self.outputs = r, phases, padding, outputs
        self.m = tile_side(r, outputs)
        self.n = self.m + r - 1
        self.counts = (-(-outputs[0] // self.m), -(-outputs[1] // self.m))

    def of_inputs(self, x: Tensor) -> Tensor:
        """`[N, C, H, W]` -> transformed windows `[n^2, N * tiles, phases^2 * C]`."""
        rows = x.permute(0, 2, 3, 1)  # [N, H, W, C]
        needed = [self.phases * (self.m * count + self.r - 1) for count in self.counts]
        after = [max(0, need - self.padding - side) for need, side in zip(needed, rows.shape[1:3], strict=True)]
        rows = F.pad(rows, (0, 0, self.padding, after[1], self.padding, after[0])).contiguous()
        count, _, _, channels = rows.shape
        of_picture, of_row, of_pixel, _ = rows.stride()
        n, phases, step = self.n, self.phases, self.m * self.phases
        windows = rows.as_strided(
            (n, n, count, *self.counts, phases, phases, channels),
            (phases * of_row, phases * of_pixel, of_picture, step * of_row, step * of_pixel, of_row, of_pixel, 1),
        )
        matrix = transforms(self.m, self.r, x.dtype)[0]
        return (matrix @ windows.reshape(n * n, -1)).view(n * n, -1, phases * phases * channels)

    def of_weights(self, taps: Tensor) -> Tensor:
        """`[r^2, inputs, outputs]` -> `[n^2, inputs, outputs]`."""
        matrix = transforms(self.m, self.r, taps.dtype)[1]
        return (matrix @ taps.reshape(self.r**2, -1)).view(self.n**2, *taps.shape[1:])

    def weights_back(self, transformed: Tensor) -> Tensor:
        """The adjoint of `of_weights`."""
        matrix = transforms(self.m, self.r, transformed.dtype)[1]
        return (matrix.t() @ transformed.reshape(self.n**2, -1)).view(self.r**2, *transformed.shape[1:])

    def to_outputs(self, products: Tensor) -> Tensor:
        """`[n^2, N * tiles, K]` -> `[N, h, w, K]`."""
        matrix = transforms(self.m, self.r, products.dtype)[2]
        tiles = (matrix @ products.view(self.n**2, -1)).view(self.m, self.m, -1, *self.counts, products.shape[2])
        whole = tiles.permute(2, 3, 0, 4, 1, 5)  # [N, tiles, m, tiles, m, K]
        sides = [self.m * count for count in self.counts]
        return whole.reshape(whole.shape[0], *sides, -1)[:, : self.outputs[0], : self.outputs[1]]

    def outputs_back(self, gradient: Tensor) -> Tensor:
        """The adjoint of `to_outputs`: `[N, h, w, K]` -> `[n^2, N * tiles, K]`."""
        missing = [self.m * count - side for count, side in zip(self.counts, self.outputs, strict=True)]
        if any(missing):
            gradient = F.pad(gradient, (0, 0, 0, missing[1], 0, missing[0]))
        count, channels = gradient.shape[0], gradient.shape[3]
        tiles = gradient.reshape(count, self.counts[0], self.m, self.counts[1], self.m, channels)
        matrix = transforms(self.m, self.r, gradient.dtype)[2]
        flat = tiles.permute(2, 4, 0, 1, 3, 5).reshape(self.m**2, -1)
        return (matrix.t() @ flat).view(self.n**2, -1, channels)


def fits(kernel: int, stride: int) -> bool:
    """Whether there is a minimal filter for it: 3x3 of stride 1 and 4x4 of stride 2."""
    return (kernel, stride) in ((3, 1), (4, 2))


def tiles_of_convolution(x: Tensor, kernel: int, stride: int, padding: int) -> Tiles:
    """The tiles of a convolution of `x` `[N, C, H, W]`."""
    h, w = ((side + 2 * padding - kernel) // stride + 1 for side in x.shape[2:])
    return Tiles(kernel // stride, stride, padding, (h, w))


def convolve(tiles: Tiles, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolution from transformed windows (`Tiles.of_inputs`) with `weight` `[K, C, k, k]`: `[N, K, h, w]`."""
    y = tiles.to_outputs(torch.bmm(inputs, tiles.of_weights(_taps(weight, tiles))))
    return (y.contiguous() if bias is None else y + bias).permute(0, 3, 1, 2)


def weight_gradient(tiles: Tiles, inputs: Tensor, gradient: Tensor, shape: torch.Size) -> Tensor:
    """Gradient of a weight of `shape` `[K, C, k, k]` from transformed windows and the outputs' gradient
    `[N, K, h, w]`."""
    of_outputs = tiles.outputs_back(gradient.permute(0, 2, 3, 1))
    taps = tiles.weights_back(torch.bmm(inputs.transpose(1, 2), of_outputs))  # [r^2, phases^2 C, K]
    r, phases, channels = tiles.r, tiles.phases, shape[1]
    split = taps.view(r, r, phases, phases, channels, shape[0])
    return split.permute(5, 4, 0, 2, 1, 3).reshape(shape)


def transpose(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int, sides: tuple[int, int]
) -> Tensor:
    """The adjoint of a convolution that makes `x` `[N, K, h, w]` of `[N, C, *sides]`: a convolution with the taps
    reversed, whose outputs are, for stride 2, the four parities of the picture."""
    kernel, channels = weight.shape[2], weight.shape[1]
    r = kernel // stride
    # Of stride 2 whole pairs of rows are made and the edge is cut off; of stride 1 only what is asked for.
    outputs = (-(-(sides[0] + padding) // 2), -(-(sides[1] + padding) // 2)) if stride == 2 else sides
    tiles = Tiles(r, 1, 1 if stride == 2 else r - 1 - padding, outputs)
    split = weight.view(-1, channels, r, stride, r, stride).flip(2, 4)
    taps = split.permute(2, 4, 0, 3, 5, 1).reshape(r * r, weight.shape[0], -1)  # [r^2, K, stride^2 C]
    y = tiles.to_outputs(torch.bmm(tiles.of_inputs(x), tiles.of_weights(taps)))  # [N, h', w', stride^2 C]
    if stride == 2:
        halves = y.reshape(len(x), *outputs, 2, 2, channels).permute(0, 1, 3, 2, 4, 5)
        whole = halves.reshape(len(x), 2 * outputs[0], 2 * outputs[1], channels)
        y = whole[:, padding : padding + sides[0], padding : padding + sides[1]]
    return (y.contiguous() if bias is None else y + bias).permute(0, 3, 1, 2)


def _taps(weight: Tensor, tiles: Tiles) -> Tensor:
    """`[K, C, k, k]` -> `[r^2, phases^2 * C, K]`."""
    r, phases = tiles.r, tiles.phases
    split = weight.reshape(*weight.shape[:2], r, phases, r, phases)
    return split.permute(2, 4, 3, 5, 1, 0).reshape(r * r, -1, weight.shape[0])
