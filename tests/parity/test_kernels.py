"""Fast kernels against PyTorch's own operators, in float64 and to any order of differentiation that training uses."""

from __future__ import annotations

import itertools

import pytest
import torch

from zeuxis.nn import kernels
from zeuxis.nn.conv import Conv2d, UpConv2d

SHAPES = [(4, 4), (8, 8), (9, 12)]


@pytest.mark.parametrize("channels", [1, 9, 33])
@pytest.mark.parametrize("sides", SHAPES, ids=str)
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("kind", ["convolve 4x4/2", "convolve 3x3/1", "transpose 4x4/2"])
@pytest.mark.parametrize("fast", ["patches", "winograd"])
def test_values_gradients_and_penalty_gradients_are_pytorchs(
    fast: kernels.Kernels, kind: str, padding: int, sides: tuple[int, int], channels: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(kernels, "LEAST_POSITIONS", 1)
    monkeypatch.setattr(kernels, "LEAST_CHANNELS", {3: 32, 4: 32})
    generator = torch.Generator().manual_seed(0)
    kernel, stride = (3, 1) if "3x3" in kind else (4, 2)
    others = 34 if channels > 32 else 7
    shape = (channels, others, kernel, kernel) if "transpose" in kind else (others, channels, kernel, kernel)
    operator = kernels.transpose if "transpose" in kind else kernels.convolve

    def results(kernel_set: kernels.Kernels) -> list[torch.Tensor]:
        generator.manual_seed(0)
        x, weight, bias = (
            torch.randn(*size, generator=generator, dtype=torch.float64).requires_grad_()
            for size in ((3, channels, *sides), shape, (others,))
        )
        with kernels.using(kernel_set):
            y = operator(x, weight, bias, stride, padding)
            with kernels.input_gradients_only():
                (of_x,) = torch.autograd.grad(y.tanh().sum(), x, create_graph=True)
            total = of_x.square().sum() + y.square().sum()  # a gradient penalty beside an ordinary loss
            return [y, of_x, *torch.autograd.grad(total, (x, weight, bias))]

    for expected, found in zip(results("plain"), results(fast), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize(("kernel", "stride", "digits"), [(4, 2, 1e-5), (3, 1, 2e-5)])
def test_minimal_filters_keep_their_digits_in_float32(
    kernel: int, stride: int, digits: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against float64, in root mean square over the spread of the outputs; a direct convolution has 3e-7."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(8, 192, 16, 16, generator=generator)
    weight = torch.randn(192, 192, kernel, kernel, generator=generator)
    exact = torch.nn.functional.conv2d(x.double(), weight.double(), None, stride, 1)
    plain = torch.nn.functional.conv2d(x, weight, None, stride, 1)
    monkeypatch.setattr(kernels, "LEAST_POSITIONS", 1)
    with kernels.using("winograd"):
        found = kernels.convolve(x, weight, None, stride, 1)
    error = ((found - exact).square().mean().sqrt() / exact.std()).item()
    assert error < digits and not torch.equal(found, plain)


def test_without_weight_gradients_none_are_computed() -> None:
    x, weight = torch.randn(2, 8, 8, 8, requires_grad=True), torch.randn(8, 8, 4, 4, requires_grad=True)
    with kernels.using("patches"), kernels.input_gradients_only():
        kernels.convolve(x, weight, None, 2, 1).sum().backward()
    assert x.grad is not None and weight.grad is None


@pytest.mark.parametrize("wrap", list(itertools.product((False, True), repeat=2)), ids=str)
@pytest.mark.parametrize("layer", ["down", "same", "up"])
def test_a_wrapped_axis_has_no_edge(layer: str, wrap: tuple[bool, bool]) -> None:
    """Shifting the input around a wrapped axis shifts the output; on an axis that does not wrap the edge shows."""
    torch.manual_seed(0)
    module = {
        "down": lambda: Conv2d(3, 5, 4, stride=2, padding=1, wrap=wrap),
        "same": lambda: Conv2d(3, 5, 3, padding=1, wrap=wrap),
        "up": lambda: UpConv2d(3, 5, wrap=wrap),
    }[layer]()
    x = torch.randn(2, 3, 8, 12)
    factor = {"down": (2, 1), "same": (1, 1), "up": (1, 2)}[layer]
    for axis, wrapped in ((3, wrap[0]), (2, wrap[1])):
        moved = module(x.roll(2, dims=axis))
        expected = module(x).roll(2 * factor[1] // factor[0], dims=axis)
        assert torch.allclose(moved, expected, atol=1e-5) == wrapped
