"""Virtual batch normalisation (Salimans et al. 2016, arXiv 1606.03498, section 3.5).

Each picture is normalised by the statistics of a reference batch and of itself. The reference is chosen once and goes
through the network with every batch, so that its statistics are those of the present weights. No picture influences
another, unlike in batch normalisation; the price is a batch that is larger by the reference.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zeuxis.distributed import current
from zeuxis.nn.together import gather


class VirtualBatchNorm2d(nn.Module):
    """`[reference + N, C, H, W]` with the reference pictures first -> the same, normalised, scaled and shifted.

    Reference pictures are normalised by their own statistics, the others with weight 1 / (reference + 1) by theirs and
    with the rest by the reference's.
    """

    def __init__(self, channels: int, reference: int, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.reference, self.epsilon = reference, epsilon
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        values = x.float()
        mean = values.mean(dim=(2, 3), keepdim=True)  # [R + N, C, 1, 1]
        square = values.square().mean(dim=(2, 3), keepdim=True)
        own = 1 / (self.reference + 1)

        def of_all(each: Tensor) -> Tensor:
            shared = each[: self.reference].mean(0, keepdim=True)
            mixed = own * each[self.reference :] + (1 - own) * shared
            return torch.cat([shared.expand(self.reference, -1, -1, -1), mixed])

        mean, square = of_all(mean), of_all(square)
        scale = (square - mean.square()).clamp(min=0).add(self.epsilon).rsqrt()
        values = (values - mean) * scale * self.weight[:, None, None] + self.bias[:, None, None]
        return values.to(x.dtype)


class Reference(nn.Module):
    """The reference batch, in buffers: `[count, ...]`, empty (zeros) until it is given by `fill`, then the same for
    ever."""

    def __init__(self, count: int, shape: tuple[int, ...], values: Tensor | None = None) -> None:
        super().__init__()
        self.count = count
        self.register_buffer("values", torch.zeros(count, *shape) if values is None else values)
        self.register_buffer("filled", torch.full((), float(values is not None)))

    @torch.no_grad()
    def fill(self, values: Tensor) -> None:
        """Takes the first pictures of `values` `[N, ...]`, again from the start where there are too few. Only the first
        call has an effect; which one that is the device knows, and nobody waits for it."""
        own, filled = self.get_buffer("values"), self.get_buffer("filled")
        if current().size > 1:
            if filled > 0:
                return
            values = gather(values)  # the same reference in all processes
        places = torch.arange(len(own), device=values.device) % len(values)
        own.copy_(torch.where(filled > 0, own, values[places].to(own.dtype)))
        filled.fill_(1.0)

    def before(self, values: Tensor) -> Tensor:
        """The reference and `values` `[N, ...]` as one batch."""
        return torch.cat([self.get_buffer("values").to(values.dtype), values])
