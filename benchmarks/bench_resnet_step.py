"""`resnet/small` training step at 28x28 grey, batch 64, against the same networks as plain float32 PyTorch code.

One step is one discriminator and one generator update with the relativistic loss, R1 and R2. The peer is what one would
write: PyTorch's own layers, R1 and R2 by double backward, `torch.optim.Adam` and an average of the generator's weights.
Zeuxis takes R1 and R2 as finite differences and the arithmetic that it chooses by itself at the start of a run.
"""

from __future__ import annotations

import argparse
import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from timing import in_turns, report
from zeuxis.config import ImageSpec
from zeuxis.families import make_family
from zeuxis.families.base import Batch
from zeuxis.nn.kernels import keep_large_blocks
from zeuxis.planning import choose_arithmetic
from zeuxis.steps import Stepper

SIZE, BATCH, LATENT, WIDTHS = 28, 64, 64, (16, 32)  # `resnet/small` at 28 pixels: grids of 14 and 7


class Block(nn.Module):
    """Two 3x3 convolutions, each after a leaky ReLU, beside the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.last = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.last(F.leaky_relu(self.first(F.leaky_relu(x, 0.2)), 0.2))


class Resample(nn.Module):
    """The [1, 2, 1] filter, with stride 2 or before doubling."""

    def __init__(self, channels: int, up: bool) -> None:
        super().__init__()
        line = torch.tensor([0.25, 0.5, 0.25])
        self.register_buffer("filter", torch.outer(line, line).repeat(channels, 1, 1, 1) * (4 if up else 1))
        self.up = up

    def forward(self, x: Tensor) -> Tensor:
        filters: Tensor = self.get_buffer("filter")
        if self.up:
            return F.conv_transpose2d(x, filters, None, 2, 1, 1, groups=len(filters))
        return F.conv2d(x, filters, None, 2, 1, groups=len(filters))


class Blur(nn.Module):
    """The [1, 2, 1] filter in both axes, as wide as the picture."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        line = torch.tensor([0.25, 0.5, 0.25])
        self.register_buffer("filter", torch.outer(line, line).repeat(channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        filters: Tensor = self.get_buffer("filter")
        return F.conv2d(x, filters, None, 1, 1, groups=len(filters))


def plain_pair() -> tuple[nn.Module, nn.Module]:
    """Generator and discriminator with the layers of `resnet/small`."""
    fine, coarse = WIDTHS
    generator = nn.Sequential(
        nn.Linear(LATENT, coarse * 49), nn.Unflatten(1, (coarse, 7, 7)), Block(coarse),
        nn.Conv2d(coarse, fine, 1), Resample(fine, up=True), Block(fine),
        nn.LeakyReLU(0.2), nn.Conv2d(fine, 2 * fine, 3, padding=1), nn.PixelShuffle(2), Blur(fine // 2),
        nn.LeakyReLU(0.2), nn.Conv2d(fine // 2, 1, 3, padding=1), nn.Tanh(),
    )  # fmt: skip
    discriminator = nn.Sequential(
        nn.PixelUnshuffle(2), nn.Conv2d(4, fine, 3, padding=1), Block(fine),
        Resample(fine, up=False), nn.Conv2d(fine, coarse, 1), Block(coarse),
        nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(coarse * 49, 1, bias=False), nn.Flatten(0),
    )  # fmt: skip
    return generator, discriminator


class Plain:
    """The training step as one would write it."""

    def __init__(self) -> None:
        self.generator, self.discriminator = plain_pair()
        self.average = copy.deepcopy(self.generator)
        options = {"lr": 1e-3, "betas": (0.0, 0.99)}
        self.for_generator = torch.optim.Adam(self.generator.parameters(), **options)  # type: ignore[arg-type]
        self.for_discriminator = torch.optim.Adam(self.discriminator.parameters(), **options)  # type: ignore[arg-type]

    def step(self, real: Tensor, gamma: float = 1.0) -> None:
        """One discriminator and one generator update on float `[-1, 1]` `[N, C, H, W]`."""
        with torch.no_grad():
            fake = self.generator(torch.randn(len(real), LATENT))
        real, fake = real.detach().requires_grad_(True), fake.requires_grad_(True)
        of_real, of_fake = self.discriminator(real), self.discriminator(fake)
        (r1,) = torch.autograd.grad(of_real.sum(), real, create_graph=True)
        (r2,) = torch.autograd.grad(of_fake.sum(), fake, create_graph=True)
        squares = r1.square().sum((1, 2, 3)) + r2.square().sum((1, 2, 3))
        self.for_discriminator.zero_grad()
        (F.softplus(of_fake - of_real) + gamma / 2 * squares).mean().backward()
        self.for_discriminator.step()
        self.for_generator.zero_grad()
        with torch.no_grad():
            of_real = self.discriminator(real)
        of_fake = self.discriminator(self.generator(torch.randn(len(real), LATENT)))
        F.softplus(of_real - of_fake).mean().backward()
        self.for_generator.step()
        with torch.no_grad():
            for mine, theirs in zip(self.average.parameters(), self.generator.parameters(), strict=True):
                mine.lerp_(theirs, 0.01)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--steps", type=int, default=2, help="steps of each side in a turn")
    asked = parser.parse_args()
    keep_large_blocks()
    family = make_family("resnet/small", ImageSpec(height=SIZE, width=SIZE, channels=1), 0, {"training.batch": BATCH})
    arithmetic, _ = choose_arithmetic("auto", "auto", family, torch.device("cpu"))
    torch.manual_seed(0)
    stepper = Stepper(family, family.build(), arithmetic.precision, arithmetic.kernels)
    peer = Plain()
    pairs = [(stepper.networks["generator"], peer.generator), (stepper.networks["discriminator"], peer.discriminator)]
    sizes = [[sum(p.numel() for p in module.parameters()) for module in pair] for pair in pairs]
    assert all(own == other for own, other in sizes), f"the networks differ: {sizes}"
    real = torch.rand(BATCH, 1, SIZE, SIZE) * 2 - 1
    generator = torch.Generator().manual_seed(0)

    def ours() -> None:
        for index in range(asked.steps):
            for phase in family.stages()[0].phases_at(index):
                stepper.step(phase, Batch(real), family.noise(BATCH, generator, "train"), progress=0.0, average=0.99)

    def theirs() -> None:
        for _ in range(asked.steps):
            peer.step(real)

    times = in_turns(ours, theirs, turns=asked.turns, warm_up=2)
    own, other = times.seconds
    images = asked.steps * BATCH
    report(
        "resnet/small step, 28x28 grey, batch 64, against the same networks as plain PyTorch float32",
        **times.to_json(), arithmetic=str(arithmetic), threads=torch.get_num_threads(),
        ours_images_per_second=round(images / own, 1), peer_images_per_second=round(images / other, 1),
        generator_parameters=sizes[0], discriminator_parameters=sizes[1],
    )  # fmt: skip


if __name__ == "__main__":
    main()
