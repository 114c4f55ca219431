"""The latent space in which a model is edited: seeds and pictures to codes, codes to pictures, and blends of codes.

Written over the family contract: a family with `map` and `synthesise` (GAN) is edited in w, one with `encode` and
`decode` (VAE) in its codes. What has neither (pixels one after the other) has no space; its `complete` fills gaps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import cast

import torch
from torch import Tensor

from zeuxis.checkpoint import Model
from zeuxis.errors import UserError
from zeuxis.families.base import Noise, RenderOptions
from zeuxis.families.gan.objective import GAN
from zeuxis.families.vae.latents import TokenLatents
from zeuxis.families.vae.objective import VAE
from zeuxis.images import Pixels, to_pixels
from zeuxis.sampling import Sampler

STATISTICS_SEEDS = 2048  # from which mean and spread of the codes are measured
FIRST_STATISTICS_SEED = 10**9  # far from the seeds that people look at


@dataclass(frozen=True)
class Codes:
    """Latents of N pictures: `values` float32 `[N, ...]`, `labels` int64 `[N]` or None, and `noise`, the rest of what
    a picture is made from (per-pixel noise inputs), which edits leave alone."""

    values: Tensor
    labels: Tensor | None = None
    noise: Noise = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: slice | Tensor | list[int]) -> Codes:
        labels = None if self.labels is None else self.labels[index]
        return Codes(self.values[index], labels, {key: value[index] for key, value in self.noise.items()})

    def with_values(self, values: Tensor) -> Codes:
        """The same pictures' labels and noise with other latents."""
        return replace(self, values=values)

    @staticmethod
    def cat(parts: Sequence[Codes]) -> Codes:
        """Several as one."""
        labels = [part.labels for part in parts if part.labels is not None]
        noise = {key: torch.cat([part.noise[key] for part in parts]) for key in parts[0].noise}
        return Codes(torch.cat([part.values for part in parts]), torch.cat(labels) if labels else None, noise)


class Space(ABC):
    """Codes of one model on one device. `levels` above 1: axis 1 of the codes goes from coarse to fine."""

    levels: int = 1
    groups: tuple[int, ...] = ()  # where codes are one vector: how many values each group has, from coarse to fine

    def __init__(self, model: Model, device: str | torch.device = "cpu", options: RenderOptions | None = None) -> None:
        self.model, self.options = model, options or RenderOptions()
        self.sampler = Sampler(model, device)
        self.device, self.networks, self.chunk = self.sampler.device, self.sampler.networks, self.sampler.chunk
        self._zero_noise = self.sampler.noise([0])
        self._statistics: tuple[Tensor, Tensor] | None = None

    # -- codes -----------------------------------------------------------------------------------------------------
    @torch.inference_mode(False)
    @torch.no_grad()
    def of_seeds(self, seeds: Iterable[int], label: int | None = None) -> Codes:
        """Codes of the pictures that `zeuxis sample` makes from these seeds."""
        parts, stream = [], iter(seeds)
        while chunk := list(islice(stream, self.chunk)):
            padded = [*chunk, *[chunk[-1]] * (self.chunk - len(chunk))]  # the sampler's own chunks: the same bits
            noise = {key: value.to(self.device) for key, value in self.sampler.noise(padded).items()}
            labels = self.sampler.labels(padded, label)
            parts.append(self._of_noise(noise, None if labels is None else labels.to(self.device))[: len(chunk)])
        return Codes.cat(parts)

    def pictures(self, codes: Codes) -> Pixels:
        """Pictures uint8 `[N, C, H, W]` (straight alpha) of codes, each the same in any company."""
        return torch.cat([to_pixels(part) for part in self._chunks(codes)]).cpu().numpy()

    @torch.no_grad()
    def images(self, codes: Codes) -> Tensor:
        """Pictures float `[-1, 1]` `[N, C, H, W]` of codes, without gradients."""
        return torch.cat(self._chunks(codes))

    @torch.no_grad()
    def _chunks(self, codes: Codes) -> list[Tensor]:
        parts = []
        for start in range(0, len(codes), self.chunk):
            part = codes[start : start + self.chunk]
            padded = part[list(range(len(part))) + [0] * (self.chunk - len(part))]
            parts.append(self.decode(padded)[: len(part)])
        return parts

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of every value of a code, over 2,048 seeds."""
        if self._statistics is None:
            values = self.of_seeds(range(FIRST_STATISTICS_SEED, FIRST_STATISTICS_SEED + STATISTICS_SEEDS)).values
            self._statistics = values.mean(0), values.std(0).clamp_min(1e-6)
        return self._statistics

    # -- the free part, as one flat vector per picture ---------------------------------------------------------------
    @property
    def size(self) -> int:
        """How many values describe a picture where all levels are alike."""
        return int(self.free[0].sum() if self.levels > 1 else self.free.sum())

    def draw(self, count: int, generator: torch.Generator) -> Codes:
        """Codes of new random pictures, classes with the frequencies of the training data."""
        noise = self.model.family.noise(count, generator, "sample")
        labels = None
        if self.model.classes:
            counts = torch.tensor(self.model.class_counts, dtype=torch.float64)
            labels = torch.multinomial(counts, count, replacement=True, generator=generator).to(self.device)
        with torch.no_grad():
            return self._of_noise({key: value.to(self.device) for key, value in noise.items()}, labels)

    def dismantle(self, codes: Codes) -> Tensor:
        """Free values `[N, D]` of codes, the mean over levels, scaled to mean 0 and spread 1."""
        mean, spread = self.statistics()
        scaled = (codes.values - mean) / spread
        if self.levels > 1:
            return scaled.mean(1)[:, self.free[0]]
        return scaled.flatten(1)[:, self.free.flatten()]

    def assemble(self, values: Tensor, labels: Tensor | None) -> Codes:
        """Codes of free values `[N, D]` as `dismantle` gives them, differentiable; the rest is of seed 0 and class."""
        mean, spread = self.statistics()
        frame = self._frame(len(values), labels)
        if self.levels > 1:
            full = values[:, None, :].expand(-1, self.levels, -1)
        else:
            full = torch.zeros(len(values), self.free.numel(), device=values.device)
            full = full.masked_scatter(self.free.flatten().expand_as(full), values).view_as(frame.values)
        return frame.with_values(torch.where(self.free, full * spread + mean, frame.values))

    def _frame(self, count: int, labels: Tensor | None) -> Codes:
        """Codes of seed 0 with these classes (class 0 without any)."""
        noise = {key: value.to(self.device).expand(count, *value.shape[1:]) for key, value in self._zero_noise.items()}
        if labels is None and self.model.classes:
            labels = torch.zeros(count, dtype=torch.long, device=self.device)
        with torch.no_grad():
            return self._of_noise(noise, labels)

    @property
    @abstractmethod
    def free(self) -> Tensor:
        """Bool, of the shape of one code: the values that an edit may move (a class's embedding stays)."""

    @abstractmethod
    def _of_noise(self, noise: Noise, labels: Tensor | None) -> Codes: ...

    @abstractmethod
    def decode(self, codes: Codes) -> Tensor:
        """Pictures float `[-1, 1]` `[N, C, H, W]`, differentiable in the codes' values."""

    def encode(self, images: Tensor, labels: Tensor | None) -> Codes | None:
        """Codes of pictures float `[-1, 1]` by the model's own encoder; None where it has none."""
        return None

    @abstractmethod
    def blend(self, keys: Codes, weights: Tensor) -> Codes:
        """Codes between K keys, one per row of weights `[F, K]`; a row with a single 1 gives that key to the bit."""

    @abstractmethod
    def off_prior(self, values: Tensor) -> Tensor:
        """How far codes lie from where the model's own do, `[N]`, 0 for typical ones; differentiable."""


def spherical(values: Tensor, weights: Tensor) -> Tensor:
    """sum a_k z_k / sqrt(sum a_k^2) for rows a of weights `[F, K]` and values `[K, ...]`: standard normal where the
    keys are independent and standard normal (Bodin et al. 2024, arXiv 2408.08558). Straight lines would pass through
    lengths that the model never saw (White 2016, arXiv 1609.04468)."""
    return linear(values, weights / weights.square().sum(1, keepdim=True).sqrt())


def linear(values: Tensor, weights: Tensor) -> Tensor:
    """sum a_k v_k for rows a of weights `[F, K]` and values `[K, ...]`; exact where a row is one 1 and zeros."""
    return (weights.to(values) @ values.flatten(1)).unflatten(1, values.shape[1:])


class GanSpace(Space):
    """w `[N, L, W]` of a generator. Where z itself is the latent, its part of w is blended as the noise it is."""

    def __init__(self, model: Model, device: str | torch.device = "cpu", options: RenderOptions | None = None) -> None:
        super().__init__(model, device, options)
        self.family = cast(GAN, model.family)
        probe = self._zero_noise
        label = None if not model.classes else torch.zeros(1, dtype=torch.long, device=self.device)
        noise = {key: value.to(self.device) for key, value in probe.items()}
        with torch.no_grad():
            w = self.family.map(self.networks, noise, label, RenderOptions())
        self.levels, latent = w.shape[1], probe["z"].shape[1]
        same = self.levels == 1 and w.shape[2] >= latent and torch.equal(w[0, 0, :latent], noise["z"][0])
        self.latent = latent if same else 0  # of w, how many of the first values are z
        self._shape = w.shape[1:]

    @property
    def free(self) -> Tensor:
        free = torch.ones(self._shape, dtype=torch.bool, device=self.device)
        if self.latent:
            free[:, self.latent :] = False
        return free

    def _of_noise(self, noise: Noise, labels: Tensor | None) -> Codes:
        w = self.family.map(self.networks, noise, labels, self.options)
        return Codes(w, labels, {key: value for key, value in noise.items() if key == "inputs"})

    def decode(self, codes: Codes) -> Tensor:
        return self.family.synthesise(self.networks, codes.values, codes.noise)

    def blend(self, keys: Codes, weights: Tensor) -> Codes:
        weights = weights.to(keys.values)
        values = linear(keys.values, weights / weights.sum(1, keepdim=True))
        if self.latent and not self.family.config.uniform_latent:
            values[..., : self.latent] = spherical(keys.values[..., : self.latent], weights)
        # Noise inputs stay those of the first key: they would flicker.
        first = [0] * len(weights)
        return Codes(values, None if keys.labels is None else keys.labels[weights.argmax(1)], keys[first].noise)

    def off_prior(self, values: Tensor) -> Tensor:
        if self.latent:
            z = values[..., : self.latent].flatten(1)
            expected = 1 / 3 if self.family.config.uniform_latent else self.options.truncation**2
            return (z.square().mean(1) / max(expected, 1e-6) - 1).square() + outside(z, 3.0)
        mean, spread = self.statistics()
        scaled = (values - mean) / spread
        apart = (scaled - scaled.mean(1, keepdim=True)).square().mean((1, 2))  # levels that leave each other
        return outside(scaled.flatten(1), 2.0) + 0.1 * scaled.square().mean((1, 2)) + 0.1 * apart


def outside(values: Tensor, most: float) -> Tensor:
    """Mean square of what of values `[N, D]` lies beyond `most`."""
    return (values.abs() - most).clamp_min(0).square().mean(1)


class CodeSpace(Space):
    """Codes of a VAE: those that its prior (N(0, I), or one fitted after training) draws and its encoder answers."""

    def __init__(self, model: Model, device: str | torch.device = "cpu", options: RenderOptions | None = None) -> None:
        super().__init__(model, device, options)
        self.family = cast(VAE, model.family)
        self._shape = self.of_seeds([0], 0 if model.classes else None).values.shape[1:]
        self.groups = self.family.latents.groups
        self.normal = self.family.latents.flat and not self.family.fitted_parts  # whether the codes are N(0, I)

    @property
    def free(self) -> Tensor:
        return torch.ones(self._shape, dtype=torch.bool, device=self.device)

    def _of_noise(self, noise: Noise, labels: Tensor | None) -> Codes:
        return Codes(self.family.latent_codes(self.networks, noise, labels, self.options), labels)

    def decode(self, codes: Codes) -> Tensor:
        return self.family.decode(self.networks, codes.values, codes.labels)

    def encode(self, images: Tensor, labels: Tensor | None) -> Codes | None:
        if labels is None and self.model.classes:  # what class it is, the model cannot say
            labels = torch.zeros(len(images), dtype=torch.long, device=images.device)
        with torch.no_grad():
            return Codes(self.family.encode(self.networks, images, labels), labels)

    def blend(self, keys: Codes, weights: Tensor) -> Codes:
        weights = weights.to(keys.values)
        labels = None if keys.labels is None else keys.labels[weights.argmax(1)]
        if self.normal:
            return Codes(spherical(keys.values, weights), labels)
        mean, spread = self.statistics()
        values = spherical((keys.values - mean) / spread, weights) * spread + mean
        at_key = ((weights != 0).sum(1) == 1).view(-1, *[1] * (values.ndim - 1))
        return Codes(torch.where(at_key, linear(keys.values, weights), values), labels)

    def off_prior(self, values: Tensor) -> Tensor:
        if self.normal:
            flat = values.flatten(1)
        else:
            mean, spread = self.statistics()
            flat = ((values - mean) / spread).flatten(1)
        # A posterior mean is shorter than a sample of the prior: only length beyond it counts.
        return (flat.square().mean(1) - 1).clamp_min(0) + outside(flat, 3.0)


def space_of(model: Model, device: str | torch.device = "cpu", options: RenderOptions | None = None) -> Space:
    """The space that suits a model; `UserError` with the reason where it has none."""
    if isinstance(model.family, GAN):
        return GanSpace(model, device, options)
    if isinstance(model.family, VAE) and not isinstance(model.family.latents, TokenLatents):
        return CodeSpace(model, device, options)
    instead = "; `zeuxis inpaint` completes its pictures" if "complete" in model.family.capabilities else ""
    raise UserError("MODEL", model.name, "a gan, or a vae without tokens: models with a continuous latent space",
                    f"{model.name} has none to move in{instead}")  # fmt: skip
