"""A learned encoder for a finished model: from a picture with holes to the code whose picture fills them (masked latent
regression; Chai, Wulff & Isola 2021, arXiv 2103.10426).

It is trained on the model's own pictures, of which there are endlessly many, so that what it gives is always of the
model's world: a collage of pieces goes in, one picture comes out. Real pictures beside them close the gap between what
the model makes and what people bring.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zeuxis.checkpoint import Model
from zeuxis.config import Config, ImageSpec, parse
from zeuxis.editing.shelf import read_header, read_tensors, write_tensors
from zeuxis.editing.spaces import Codes, Space
from zeuxis.errors import StateError
from zeuxis.nn.conv import Conv2d, base_sides, halvings
from zeuxis.randomness import generator_for

Progress = Callable[[str, int, int], None]
Reals = Callable[[torch.Generator, int], Tensor]  # (generator, count) -> pictures float [-1, 1] [count, C, H, W]
FILE = "encoder"
MASK_SIDE = 6  # of the noise that becomes a mask (the authors' `utils/masking.py`)
ALL_KNOWN = 0.25  # share of training pictures without a hole
BOXES = 0.25  # share of which only boxes are known, as of a collage


class EncoderConfig(Config):
    """Size and training of an encoder; `reals` is the share of real pictures in a batch, where there are any."""

    width: int = 48
    max_width: int = 256
    batch: int = 32
    learning_rate: float = 1e-3
    reals: float = 0.5


class MaskedEncoder(nn.Module):
    """Pictures `[N, C, H, W]` and what of them is known `[N, 1, H, W]` -> a code's free values, scaled to unit spread,
    `[N, D]`, and logits of its class `[N, classes]`."""

    def __init__(self, config: EncoderConfig, spec: ImageSpec, outputs: int, classes: int) -> None:
        super().__init__()
        levels = max(1, halvings(spec))
        self.base, wrap = base_sides(spec, levels), (spec.wrap_x, spec.wrap_y)
        self.padding = self.base[1] * 2**levels - spec.width, self.base[0] * 2**levels - spec.height
        widths = [min(config.width * 2**level, config.max_width) for level in range(levels)]
        inputs = [spec.channels + 1, *widths[:-1]]
        self.downs = nn.ModuleList(
            Conv2d(before, after, 4, stride=2, padding=1, wrap=wrap)
            for before, after in zip(inputs, widths, strict=True)
        )
        self.blocks = nn.ModuleList(Conv2d(width, width, 3, padding=1, wrap=wrap) for width in widths)
        self.norms = nn.ModuleList(nn.GroupNorm(math.gcd(8, width), width) for width in widths)
        self.head = nn.Linear(widths[-1] * math.prod(self.base), outputs + classes)
        self.outputs, self.classes = outputs, classes

    def features(self, images: Tensor, known: Tensor) -> list[Tensor]:
        """One map `[N, c, h, w]` per halving."""
        seen = known.to(images)
        x = torch.cat([images * seen, seen.expand(len(images), -1, -1, -1) - 0.5], dim=1)
        x = F.pad(x, (0, self.padding[0], 0, self.padding[1])) if any(self.padding) else x
        maps = []
        for down, block, norm in zip(self.downs, self.blocks, self.norms, strict=True):
            x = down(x)
            x = x + block(F.silu(norm(x)))
            maps.append(x)
            x = F.silu(x)
        return maps

    def forward(self, images: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        out = self.head(F.silu(self.features(images, known)[-1]).flatten(1))
        return out[:, : self.outputs], out[:, self.outputs :]


class Encoder:
    """A trained `MaskedEncoder` with the space that its codes belong to."""

    def __init__(self, space: Space, network: MaskedEncoder) -> None:
        self.space, self.network = space, network

    @torch.no_grad()
    def __call__(self, images: Tensor, known: Tensor | None = None, labels: Tensor | None = None) -> Codes:
        """Codes of pictures float `[-1, 1]` of which `known` (bool `[N, 1, H, W]`, all without it) is to be kept. A
        class that is not given is guessed."""
        known = torch.ones_like(images[:, :1], dtype=torch.bool) if known is None else known
        values, logits = self.network(images, known)
        if labels is None and self.network.classes:
            labels = logits.argmax(1)
        return self.space.assemble(values, labels)

    def features(self, images: Tensor, known: Tensor) -> list[Tensor]:
        """Maps with channels of unit length at every place, which a feature distance compares; differentiable."""
        return [F.normalize(each, dim=1) for each in self.network.features(images, known)]


def draw_known(count: int, spec: ImageSpec, generator: torch.Generator) -> Tensor:
    """Masks bool `[N, 1, H, W]`, true where a picture is known: smooth random shapes, boxes, some without a hole."""
    noise = torch.rand(count, 1, MASK_SIDE, MASK_SIDE, generator=generator)
    smooth = F.interpolate(noise, (spec.height, spec.width), mode="bilinear", align_corners=False)
    known = smooth < 0.3 + 0.7 * torch.rand(count, 1, 1, 1, generator=generator)
    kind = torch.rand(count, generator=generator)
    known[kind < ALL_KNOWN] = True
    corners = torch.rand(count, 2, 4, generator=generator)
    for index in torch.nonzero((kind >= ALL_KNOWN) & (kind < ALL_KNOWN + BOXES)).flatten().tolist():
        known[index] = False
        for box in corners[index].tolist():
            top, left = int(box[0] * 0.7 * spec.height), int(box[1] * 0.7 * spec.width)
            height, width = math.ceil((0.2 + 0.5 * box[2]) * spec.height), math.ceil((0.2 + 0.5 * box[3]) * spec.width)
            known[index, :, top : top + height, left : left + width] = True
    return known


def train_encoder(
    space: Space, *, kimg: float, config: EncoderConfig | None = None, reals: Reals | None = None, seed: int = 0,
    budget: float | None = None, progress: Progress | None = None,
) -> Encoder:  # fmt: skip
    """Trains an encoder of `space`'s codes on `kimg` thousand pictures, or for `budget` seconds where those are over
    first.

    Loss, all weights 1: squared error of the code and absolute error of the whole picture, holes included, which is
    what makes it fill them. Real pictures have no code: theirs is the picture's error, and that the code is a
    plausible one.
    """
    config, spec = config or EncoderConfig(), space.model.spec
    torch.manual_seed(generator_for("encoder weights", seed).initial_seed())
    network = MaskedEncoder(config, spec, space.size, len(space.model.classes)).to(space.device)
    optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate, betas=(0.9, 0.99))
    steps, started = max(1, math.ceil(kimg * 1000 / config.batch)), time.monotonic()
    for step in range(steps):
        spent = 0.0 if budget is None else (time.monotonic() - started) / budget
        if spent >= 1:
            break
        share = max(step / steps, spent)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * min(1.0, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * share))
        generator = generator_for("encoder", seed, step)
        loss = _loss(space, network, config, reals, generator)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        if loss.isfinite():
            optimizer.step()
        if progress and step % 10 == 0:
            done = step if budget is None or spent <= step / steps else int(spent * steps)
            progress(f"encoder, error {float(loss.detach()):.3f}", done, steps)
    return Encoder(space, network.eval().requires_grad_(False))


def _loss(
    space: Space, network: MaskedEncoder, config: EncoderConfig, reals: Reals | None, generator: torch.Generator
) -> Tensor:
    spec = space.model.spec
    codes = space.draw(config.batch, generator)
    with torch.no_grad():
        images = space.decode(codes)
    own = config.batch  # of the batch, how many are the model's own
    if reals is not None:
        own = config.batch - round(config.reals * config.batch)
        images = torch.cat([images[:own], reals(generator, config.batch - own).to(images)])
    known = draw_known(config.batch, spec, generator).to(space.device)
    values, logits = network(images, known)
    wanted = space.dismantle(codes)[:own]
    loss = (
        F.mse_loss(values[:own], wanted) + 0.1 * (values[own:].square().mean(1) - 1).clamp_min(0).sum() / config.batch
    )
    labels = codes.labels
    if labels is not None:
        loss = loss + 0.1 * F.cross_entropy(logits[:own], labels[:own])
        labels = torch.cat([labels[:own], logits[own:].argmax(1)])
    return loss + (space.decode(space.assemble(values, labels)) - images).abs().mean() * 2


def save_encoder(folder: Path, model: Model, encoder: Encoder, config: EncoderConfig, kimg: float) -> Path:
    """Writes the encoder into the model folder, where every verb finds it."""
    about = {"config": config.to_json(), "kimg": kimg}
    return write_tensors(folder, model, FILE, encoder.network.state_dict(), about)


def load_encoder(folder: Path, space: Space) -> Encoder | None:
    """The encoder in a model folder; None where there is none, or one of other weights."""
    header = read_header(folder, space.model, FILE)
    if header is None:
        return None
    try:
        values: Any = header.get("config")
        config = parse(EncoderConfig, values, "encoder")
        with torch.device("meta"):
            network = MaskedEncoder(config, space.model.spec, space.size, len(space.model.classes))
    except (TypeError, ValueError, RuntimeError) as error:
        raise StateError(f"the encoder in {folder} is damaged ({error}): train it again") from None
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    held = read_tensors(folder, space.model, FILE, shapes)
    if held is None:
        return None
    network.load_state_dict(held, assign=True)
    return Encoder(space, network.to(space.device).eval().requires_grad_(False))
