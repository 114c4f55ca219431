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
        flat = torch.cat([p.detach().reshape(-1).float() for p in parameters]) if parameters else torch.zeros(0)
        self.values = nn.Parameter(flat)
        self.gradient = torch.zeros_like(flat)
        self.values.grad = self.gradient
        offset = 0
        for parameter in parameters:
            stop = offset + parameter.numel()
            parameter.data = flat[offset:stop].view(parameter.shape)
            if parameter.requires_grad:
                parameter.grad = self.gradient[offset:stop].view(parameter.shape)
            offset = stop

    def zero_grad(self) -> None:
        """Sets the gradient to zero in place (the views must stay)."""
        self.gradient.zero_()

    def norm(self) -> Tensor:
        """Euclidean norm of the gradient, a device scalar."""
        return torch.linalg.vector_norm(self.gradient)
