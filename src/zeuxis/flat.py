"""All parameters of a phase as one vector, so that optimiser, average and norm are one pass over memory each."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class FlatParameters:
    """Moves the parameters of `networks` into one float32 vector and makes them views of it; keys and shapes stay.

    Matrices and kernels come first, what has one axis or none after them. Gradients accumulate into views of
    `gradient`, which the optimiser of `values` sees as its `.grad`: one pass more over memory than taking each tensor
    over, and one small operation per parameter less everywhere else.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        self.parameters = sorted((p for network in networks for p in network.parameters()), key=lambda p: p.dim() < 2)
        self.matrices = sum(p.numel() for p in self.parameters if p.dim() >= 2)
        flat = torch.cat([_line(p.detach()).float() for p in self.parameters]) if self.parameters else torch.zeros(0)
        self.values = nn.Parameter(flat)
        self.gradient = torch.zeros_like(flat)
        self.values.grad = self.gradient
        self.view(self.parameters, flat, self.gradient)

    @staticmethod
    def view(parameters: Sequence[nn.Parameter], values: Tensor, gradient: Tensor) -> None:
        """Makes `parameters`, in order, views of `values`, and their gradients views of `gradient`."""
        offset = 0
        for parameter in parameters:
            stop = offset + parameter.numel()
            parameter.data = _shaped(values[offset:stop], parameter.shape)
            if parameter.requires_grad:
                parameter.grad = _shaped(gradient[offset:stop], parameter.shape)
            offset = stop

    def shaped(self, values: Tensor) -> list[Tensor]:
        """Views of a vector like `values`, one for each of `parameters`, in their order and shape."""
        views, offset = [], 0
        for parameter in self.parameters:
            views.append(_shaped(values[offset : offset + parameter.numel()], parameter.shape))
            offset += parameter.numel()
        return views

    def zero_grad(self) -> None:
        """Sets the gradient to zero in place (the views must stay)."""
        self.gradient.zero_()

    def norm(self) -> Tensor:
        """Euclidean norm of the gradient, a device scalar."""
        return torch.dot(self.gradient, self.gradient).sqrt()


class HalfCopy:
    """Copies of networks whose matrices and kernels are bfloat16, filled from the float32 masters once per step.

    Autocast would cast each of them in every pass. What has one axis or none, and all buffers, are the masters' own:
    normalisation and scales stay float32.
    """

    def __init__(self, networks: Sequence[nn.Module], masters: FlatParameters) -> None:
        self.masters = masters
        shared: dict[int, object] = {id(p): p for p in masters.parameters if p.dim() < 2}
        shared |= {id(buffer): buffer for network in networks for buffer in network.buffers()}
        copies: dict[int, object] = dict(shared)  # deepcopy's memo: what is in it is not copied
        self.networks = [copy.deepcopy(network, copies) for network in networks]
        self.values = masters.values.detach()[: masters.matrices].bfloat16()
        self.gradient = torch.zeros_like(self.values)
        matrices = [copies[id(p)] for p in masters.parameters if p.dim() >= 2]
        FlatParameters.view(matrices, self.values, self.gradient)  # type: ignore[arg-type]

    def fill(self) -> None:
        """Takes over the masters' values and forgets the gradient."""
        self.values.copy_(self.masters.values.detach()[: self.masters.matrices])

    def hand_over(self, first: bool = False) -> None:
        """Adds the gradient to the masters' and forgets it; the first one of a step finds zeros, which need no sum."""
        masters = self.masters.gradient[: self.masters.matrices]
        masters.copy_(self.gradient) if first else masters.add_(self.gradient)
        self.gradient.zero_()


def _line(tensor: Tensor) -> Tensor:
    """A parameter as a vector; a convolution's weight with channels innermost, as its kernels read it."""
    return (tensor.permute(0, 2, 3, 1) if tensor.dim() == 4 else tensor).reshape(-1)


def _shaped(line: Tensor, shape: torch.Size) -> Tensor:
    """The view of a vector that `_line` came from."""
    if len(shape) == 4:
        return line.view(shape[0], shape[2], shape[3], shape[1]).permute(0, 3, 1, 2)
    return line.view(shape)
