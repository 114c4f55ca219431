"""All parameters of a network as one vector, so that optimiser, average and norm are one pass over memory each."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class FlatParameters:
    """Moves the parameters of `network` into one float32 vector and makes them views of it; keys and shapes stay.

    Gradients accumulate into views of `gradient`, which the optimiser of `values` sees as its `.grad`. Adding into
    place costs one pass more than taking the tensor over, and saves one small operation per parameter everywhere else.
    """

    def __init__(self, network: nn.Module) -> None:
        parameters = list(network.parameters())
        flat = torch.cat([_line(p.detach()).float() for p in parameters]) if parameters else torch.zeros(0)
        self.values = nn.Parameter(flat)
        self.gradient = torch.zeros_like(flat)
        self.values.grad = self.gradient
        offset = 0
        for parameter in parameters:
            stop = offset + parameter.numel()
            parameter.data = _shaped(flat[offset:stop], parameter.shape)
            if parameter.requires_grad:
                parameter.grad = _shaped(self.gradient[offset:stop], parameter.shape)
            offset = stop

    def zero_grad(self) -> None:
        """Sets the gradient to zero in place (the views must stay)."""
        self.gradient.zero_()

    def norm(self) -> Tensor:
        """Euclidean norm of the gradient, a device scalar."""
        return torch.linalg.vector_norm(self.gradient)


def _line(tensor: Tensor) -> Tensor:
    """A parameter as a vector; a convolution's weight with channels innermost, as its kernels read it."""
    return (tensor.permute(0, 2, 3, 1) if tensor.dim() == 4 else tensor).reshape(-1)


def _shaped(line: Tensor, shape: torch.Size) -> Tensor:
    """The view of a vector that `_line` came from."""
    if len(shape) == 4:
        return line.view(shape[0], shape[2], shape[3], shape[1]).permute(0, 3, 1, 2)
    return line.view(shape)
