"""`resnet/small` against the same networks as plain float32 PyTorch code: a training step at 28x28 grey, batch 64, and
sampling of 256 pictures of 32x32.

One step is one discriminator and one generator update with the relativistic loss, R1 and R2. The peer is what one would
write: PyTorch's own layers, R1 and R2 by double backward, `torch.optim.Adam` and an average of the generator's weights.
Zeuxis takes R1 and R2 as finite differences and the arithmetic that it chooses by itself at the start of a run.

Sampling is what `zeuxis sample` does, from seeds to bytes; the peer draws its noise at once. In float32, and with the
products in bfloat16 where the processor has it.
"""

from __future__ import annotations

import argparse
import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from timing import in_turns, report
from zeuxis.checkpoint import Model
from zeuxis.config import ImageSpec
from zeuxis.families import make_family
from zeuxis.families.base import Batch
from zeuxis.memory import keep_large_blocks
from zeuxis.planning import bfloat16_is_fast, choose_arithmetic
from zeuxis.sampling import Sampler
from zeuxis.steps import Stepper

SIZE, BATCH, LATENT = 28, 64, 64
SAMPLES, SAMPLES_SIZE = 256, 32
# The coarsest grid of `resnet/small`, and its channels from the finest grid on, by the side of the picture.
GRIDS = {SIZE: (7, (16, 32)), SAMPLES_SIZE: (4, (16, 32, 64))}


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


def plain_pair(size: int = SIZE) -> tuple[nn.Module, nn.Module]:
    """Generator and discriminator with the layers of `resnet/small`."""
    base, widths = GRIDS[size]
    fine, coarse = widths[0], widths[-1]
    up: list[nn.Module] = [Block(coarse)]
    down: list[nn.Module] = [Block(fine)]
    for lower, higher in zip(widths[:-1], widths[1:], strict=True):
        down += [Resample(lower, up=False), nn.Conv2d(lower, higher, 1), Block(higher)]
    for higher, lower in zip(widths[:0:-1], widths[-2::-1], strict=True):
        up += [nn.Conv2d(higher, lower, 1), Resample(lower, up=True), Block(lower)]
    generator = nn.Sequential(
        nn.Linear(LATENT, coarse * base**2), nn.Unflatten(1, (coarse, base, base)), *up,
        nn.LeakyReLU(0.2), nn.Conv2d(fine, 2 * fine, 3, padding=1), nn.PixelShuffle(2), Blur(fine // 2),
        nn.LeakyReLU(0.2), nn.Conv2d(fine // 2, 1, 3, padding=1), nn.Tanh(),
    )  # fmt: skip
    discriminator = nn.Sequential(
        nn.PixelUnshuffle(2), nn.Conv2d(4, fine, 3, padding=1), *down,
        nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(coarse * base**2, 1, bias=False), nn.Flatten(0),
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


def sampling(turns: int) -> None:
    """Pictures a second, from seeds to bytes."""
    family = make_family("resnet/small", ImageSpec(height=SAMPLES_SIZE, width=SAMPLES_SIZE, channels=1))
    model = Model(family, {"generator": family.build()["generator"].eval()}, "gan/resnet/small", (), ())
    peer = plain_pair(SAMPLES_SIZE)[0].eval()
    sizes = [sum(p.numel() for p in network.parameters()) for network in (model.networks["generator"], peer)]
    assert sizes[0] == sizes[1], f"the networks differ: {sizes}"

    @torch.inference_mode()
    def theirs() -> None:
        ((peer(torch.randn(SAMPLES, LATENT)) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()

    for precision in ("float32", *(["bfloat16"] if bfloat16_is_fast(torch.device("cpu")) else [])):
        sampler = Sampler(model, precision=precision)
        times = in_turns(lambda: list(sampler(range(SAMPLES))), theirs, turns=turns, warm_up=2)  # noqa: B023
        own, other = times.seconds
        report(
            f"resnet/small sampling in {precision}, {SAMPLES_SIZE}x{SAMPLES_SIZE} grey, {SAMPLES} pictures, against "
            "the same generator as plain PyTorch float32", **times.to_json(), threads=torch.get_num_threads(),
            ours_images_per_second=round(SAMPLES / own, 1), peer_images_per_second=round(SAMPLES / other, 1),
            generator_parameters=sizes,
        )  # fmt: skip


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
    sampling(asked.turns)


if __name__ == "__main__":
    main()
