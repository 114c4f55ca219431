"""Convolutions as matrix products where a CPU is faster that way: above all the gradient of the weight (`patches`), or
with fewer multiplications in float32 (`winograd`).

`convolve` and `transpose` are each other's adjoints, and each one's backward pass is written with the other, so any
order of differentiation works and stays fast. Keys and shapes of weights are those of `nn.Conv2d` and
`nn.ConvTranspose2d`; `plain()` (the state at import, and what export uses) calls PyTorch's own operators.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from zeuxis.nn import winograd

Kernels = Literal["plain", "patches", "winograd", "graphs"]  # graphs: plain ones, a step of them recorded (steps.py)
# Fewer channels (by kernel side) or positions than these: the transforms cost more than the multiplications that they
# save.
LEAST_CHANNELS, LEAST_POSITIONS = {3: 192, 4: 64}, 2048
_kernels: Kernels = "plain"
_weight_gradients = True


@contextlib.contextmanager
def using(kernels: Kernels) -> Iterator[None]:
    """Within the block, convolutions of this process use `kernels`."""
    global _kernels
    before, _kernels = _kernels, kernels
    try:
        yield
    finally:
        _kernels = before


@contextlib.contextmanager
def input_gradients_only() -> Iterator[None]:
    """Within the block, backward passes skip the gradients of weights (a gradient penalty asks for those of pictures;
    `autograd.grad` alone cannot tell that to a custom function)."""
    global _weight_gradients
    before, _weight_gradients = _weight_gradients, False
    try:
        yield
    finally:
        _weight_gradients = before


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
    """`F.conv2d` of `[N, C, H, W]` with `weight` `[K, C, k, k]`."""
    if _kernels == "plain" or (_kernels == "winograd" and not _saves_multiplications(x, weight, stride, stride)):
        return F.conv2d(x, weight, bias, stride, padding)
    x, weight, bias = _cast(x, weight, bias)
    return _Convolve.apply(x, weight, bias, stride, padding)


def transpose(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
    """`F.conv_transpose2d` of `[N, K, h, w]` with `weight` `[K, C, k, k]`."""
    if _kernels == "plain" or (_kernels == "winograd" and not _saves_multiplications(x, weight, stride, 1)):
        return F.conv_transpose2d(x, weight, bias, stride, padding)
    x, weight, bias = _cast(x, weight, bias)
    sides = [(side - 1) * stride - 2 * padding + weight.shape[2] for side in x.shape[2:]]
    return _Transpose.apply(x, weight, bias, stride, padding, sides)


class _Convolve(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = stride, padding
        ctx.windows = None
        if _saves_multiplications(x, weight, stride, stride):
            tiles = winograd.tiles_of_convolution(x, weight.shape[2], stride, padding)
            windows = tiles.of_inputs(x)
            if ctx.needs_input_grad[1]:  # what the gradient of the weight needs again
                ctx.windows = tiles, windows
            return winograd.convolve(tiles, windows, weight, bias)
        return _forward(x, weight, bias, stride, padding)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        need_x, need_weight, need_bias, *_ = ctx.needs_input_grad
        of_x = _Transpose.apply(gradient, weight, None, *ctx.geometry, list(x.shape[2:])) if need_x else None
        of_weight = None
        if need_weight and _weight_gradients:
            if ctx.windows is not None and not torch.is_grad_enabled():
                tiles, windows = ctx.windows
                of_weight = winograd.weight_gradient(tiles, windows, gradient, weight.shape)
            else:
                of_weight = weight_gradient(x, gradient, weight.shape[2], *ctx.geometry)
        of_bias = gradient.sum(dim=(0, 2, 3)) if need_bias and _weight_gradients else None
        return of_x, of_weight, of_bias, None, None


class _Transpose(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int, sides: list[int]
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = stride, padding
        extra = [
            side - ((own - 1) * stride - 2 * padding + weight.shape[2])
            for side, own in zip(sides, x.shape[2:], strict=True)
        ]
        if _saves_multiplications(x, weight, stride, 1):
            return winograd.transpose(x, weight, bias, stride, padding, (sides[0], sides[1]))
        if (
            _few_positions(x.shape[2] * x.shape[3])
            and weight.shape[2] == 2 * stride == 4
            and padding == 1
            and not any(extra)
        ):
            return _transpose_doubling(x, weight, bias)
        with torch.autocast(x.device.type, enabled=False):
            return F.conv_transpose2d(_nhwc(x), weight, bias, stride, padding, output_padding=extra)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        need_x, need_weight, need_bias, *_ = ctx.needs_input_grad
        stride, padding = ctx.geometry
        of_weight = None
        if _saves_multiplications(x, weight, stride, 1) and not torch.is_grad_enabled():
            tiles = winograd.tiles_of_convolution(gradient, weight.shape[2], stride, padding)
            windows = tiles.of_inputs(gradient)  # for both gradients
            of_x = winograd.convolve(tiles, windows, weight, None) if need_x else None
            if need_weight and _weight_gradients:
                of_weight = winograd.weight_gradient(tiles, windows, x, weight.shape)
        else:
            of_x = _Convolve.apply(gradient, weight, None, stride, padding) if need_x else None
            if need_weight and _weight_gradients:
                of_weight = weight_gradient(gradient, x, weight.shape[2], stride, padding)
        of_bias = gradient.sum(dim=(0, 2, 3)) if need_bias and _weight_gradients else None
        return of_x, of_weight, of_bias, None, None, None


def patches(x: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    """`[N, C, H, W]` -> `[N * h * w, kernel * kernel * C]`: one row per position of the kernel, channels innermost."""
    rows = x.permute(0, 2, 3, 1)  # [N, H, W, C]
    rows = (F.pad(rows, (0, 0, padding, padding, padding, padding)) if padding else rows).contiguous()
    count, height, width, channels = rows.shape
    h, w = (height - kernel) // stride + 1, (width - kernel) // stride + 1
    of_picture, of_row, of_pixel, of_channel = rows.stride()
    windows = rows.as_strided(
        (count, h, w, kernel, kernel, channels),
        (of_picture, stride * of_row, stride * of_pixel, of_row, of_pixel, of_channel),
    )
    shape = (count * h * w, kernel * kernel * channels)
    if torch.is_grad_enabled():  # a graph keeps what it is given: the scratch memory must not be in it
        return windows.reshape(shape)
    place = _scratch(shape, x)
    place.view(windows.shape).copy_(windows)
    return place


_memory: dict[tuple[torch.dtype, torch.device], Tensor] = {}


def _scratch(shape: tuple[int, int], like: Tensor) -> Tensor:
    """Memory that the next call overwrites: a fresh block of this size would cost more than what is done with it."""
    key, size = (like.dtype, like.device), shape[0] * shape[1]
    if key not in _memory or _memory[key].numel() < size:
        _memory[key] = torch.empty(size, dtype=like.dtype, device=like.device)
    return _memory[key][:size].view(shape)


def weight_gradient(x: Tensor, gradient: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    """Gradient `[K, C, k, k]` of the weight that maps `x` `[N, C, H, W]` to what `gradient` `[N, K, h, w]` belongs
    to."""
    outputs = gradient.permute(0, 2, 3, 1).reshape(-1, gradient.shape[1])
    product = outputs.t() @ patches(x, kernel, stride, padding)  # [K, k * k * C]
    return product.view(gradient.shape[1], kernel, kernel, x.shape[1]).permute(0, 3, 1, 2)


def _forward(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
    """One matrix product where PyTorch's convolution is slow: few input channels, or few positions of many channels."""
    kernel, sides = weight.shape[2], [(side + 2 * padding - weight.shape[2]) // stride + 1 for side in x.shape[2:]]
    if weight.shape[1] >= 8 and not _few_positions(sides[0] * sides[1]):
        with torch.autocast(x.device.type, enabled=False):
            return F.conv2d(_nhwc(x), weight, bias, stride, padding)
    rows = patches(x, kernel, stride, padding)
    columns = weight.permute(2, 3, 1, 0).reshape(-1, weight.shape[0])
    product = rows @ columns if bias is None else torch.addmm(bias, rows, columns)
    return product.view(x.shape[0], *sides, -1).permute(0, 3, 1, 2)


def _transpose_doubling(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`[N, K, h, w]` -> `[N, C, 2h, 2w]` for a 4x4 kernel of stride 2: one matrix product, then four shifted sums.

    Row 2i + 2a + p of the padded output gets tap 2a + p (a, p in 0, 1) of input row i, so that with rows and columns
    split into (half, parity) each of the four (a, b) is one addition of whole blocks.
    """
    count, inputs, h, w = x.shape
    outputs = weight.shape[1]
    taps = weight.permute(0, 2, 3, 1).reshape(inputs, 16 * outputs)
    columns = (x.permute(0, 2, 3, 1).reshape(-1, inputs) @ taps).view(count, h, w, 2, 2, 2, 2, outputs)  # a, p, b, q
    padded = x.new_zeros(count, h + 1, 2, w + 1, 2, outputs)
    for a in (0, 1):
        for b in (0, 1):
            padded[:, a : a + h, :, b : b + w] += columns[:, :, :, a, :, b].permute(0, 1, 3, 2, 4, 5)
    y = padded.view(count, 2 * h + 2, 2 * w + 2, outputs)[:, 1:-1, 1:-1]
    y = y.contiguous() if bias is None else y + bias
    return y.permute(0, 3, 1, 2)


def _saves_multiplications(x: Tensor, weight: Tensor, stride: int, step: int) -> bool:
    """Whether a convolution of `x` (with `step` 1 its adjoint) goes by minimal filtering. Not in bfloat16, which has
    too few digits for the transforms."""
    if _kernels != "winograd" or x.dtype.itemsize < 4 or not winograd.fits(weight.shape[2], stride):
        return False
    positions = x.shape[0] * x.shape[2] * x.shape[3] // step**2
    return min(weight.shape[:2]) >= LEAST_CHANNELS[weight.shape[2]] and positions >= LEAST_POSITIONS


def _few_positions(count: int) -> bool:
    """PyTorch's convolutions fall to a half of a matrix product's speed at 4x4 positions of many channels."""
    return count <= 16


def _nhwc(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _cast(*tensors: Any) -> list[Any]:
    """What autocast does at the door of a convolution."""
    kind = tensors[0].device.type
    if not torch.is_autocast_enabled(kind):
        return list(tensors)
    dtype = torch.get_autocast_dtype(kind)
    return [None if tensor is None else tensor.to(dtype) for tensor in tensors]
