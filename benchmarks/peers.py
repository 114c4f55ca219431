"""What Zeuxis is measured against: the code that people use today, written plainly. Nothing here is used by Zeuxis."""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn


def dcgan_pair(
    size: int, channels: int = 1, latent: int = 100, width: int = 64, levels: int = 0
) -> tuple[nn.Module, nn.Module]:
    """Generator and discriminator of PyTorch's own DCGAN example (batch normalisation, no first-layer normalisation),
    for any `size` whose halvings end at 4 or 7. `latent` comes in as `[N, latent, 1, 1]`."""
    levels = levels or {28: 2, 32: 3, 64: 4}[size]
    base = size // 2**levels
    widths = [width * 2**level for level in range(levels)]
    up: list[nn.Module] = [
        nn.ConvTranspose2d(latent, widths[-1], base, 1, 0, bias=False), nn.BatchNorm2d(widths[-1]), nn.ReLU(True),
    ]  # fmt: skip
    for before, after in zip(widths[::-1][:-1], widths[::-1][1:], strict=True):
        up += [nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(True)]
    up += [nn.ConvTranspose2d(widths[0], channels, 4, 2, 1), nn.Tanh()]
    down: list[nn.Module] = [nn.Conv2d(channels, widths[0], 4, 2, 1), nn.LeakyReLU(0.2, True)]
    for before, after in zip(widths[:-1], widths[1:], strict=True):
        down += [nn.Conv2d(before, after, 4, 2, 1, bias=False), nn.BatchNorm2d(after), nn.LeakyReLU(0.2, True)]
    down += [nn.Conv2d(widths[-1], 1, base, 1, 0), nn.Flatten(0)]
    generator, discriminator = nn.Sequential(*up), nn.Sequential(*down)
    for module in (*generator.modules(), *discriminator.modules()):
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(module.weight, 0.0, 0.02)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
    return generator, discriminator


class PlainDcgan:
    """The training step of PyTorch's DCGAN example: float32, Adam 2e-4, beta1 0.5, the generated batch used twice."""

    def __init__(
        self, size: int, channels: int = 1, width: int = 64, latent: int = 100, device: str = "cpu"
    ) -> None:  # fmt: skip
        pair = dcgan_pair(size, channels, latent, width)
        self.generator, self.discriminator = (network.to(device) for network in pair)
        self.latent, self.device = latent, device
        self.loss = nn.BCEWithLogitsLoss()
        self.for_generator = torch.optim.Adam(self.generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
        self.for_discriminator = torch.optim.Adam(self.discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999))

    def step(self, real: Tensor) -> None:
        """One discriminator and one generator update on float `[-1, 1]` `[N, C, H, W]`."""
        ones, zeros = (torch.full((len(real),), value, device=self.device) for value in (1.0, 0.0))
        self.discriminator.zero_grad()
        self.loss(self.discriminator(real), ones).backward()
        fake = self.generator(torch.randn(len(real), self.latent, 1, 1, device=self.device))
        self.loss(self.discriminator(fake.detach()), zeros).backward()
        self.for_discriminator.step()
        self.generator.zero_grad()
        self.loss(self.discriminator(fake), ones).backward()
        self.for_generator.step()

    def train(self, pictures: Tensor, seconds: float, batch: int = 128) -> int:
        """Trains on uint8 `[N, C, H, W]` for that long, in shuffled epochs; returns the images shown."""
        started, seen, pictures = time.perf_counter(), 0, pictures.to(self.device)
        while True:
            for positions in torch.randperm(len(pictures), device=self.device).split(batch):
                if len(positions) == batch:
                    self.step(pictures[positions].float().div(127.5).sub(1))
                    seen += batch
                if time.perf_counter() - started > seconds:
                    return seen

    @torch.no_grad()
    def sample(self, count: int, batch: int = 256) -> Tensor:
        """uint8 `[count, C, H, W]`, with running statistics."""
        self.generator.eval()
        draws = (torch.randn(batch, self.latent, 1, 1, device=self.device) for _ in range(-(-count // batch)))
        parts = [self.generator(z) for z in draws]
        self.generator.train()
        return torch.cat(parts)[:count].cpu().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
