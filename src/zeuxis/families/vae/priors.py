"""Priors fitted to the codes of the training pictures after the network is trained: draws from N(0, I) fall where the
decoder never was, draws from the aggregate posterior do not (Dai & Wipf 2019, arXiv 1903.05789; Ghosh et al. 2020,
arXiv 1903.12436, section 4). Which one is used is chosen on codes held out from the fit."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zeuxis.families.base import Noise
from zeuxis.randomness import generator_for

PriorName = Literal["standard", "mixture", "flow", "second-stage", "auto"]
COMPONENTS = (1, 8, 32)  # of mixtures that are tried
MOST_VALUES = 2**21  # numbers in the axes of a mixture
FULL_COVARIANCE = 256  # latents up to which a mixture of several components is tried
HELD_OUT = 5  # every fifth code is held out
STEPS, BATCH, RATE = 400, 256, 2e-3  # of the flow and of the second stage


class Density(nn.Module, ABC):
    """A density of standardised codes `[N, L]`."""

    @abstractmethod
    def sample(self, noise: Noise) -> Tensor:
        """Codes `[N, L]` of noise: `z` normal `[N, L]`, `u` uniform `[N, 1]`, `second` normal `[N, L]`."""

    @abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """Nats `[N]`, or a lower bound of them."""

    @abstractmethod
    def fit(self, x: Tensor, held_out: Tensor, seed: int) -> None:
        """Learns from `x` `[N, L]`; what is left to choose is chosen on `held_out`."""


class Mixture(Density):
    """Normals with the covariance of their largest axes and one variance for the rest (Tipping & Bishop 1999): all axes
    where there are few latents."""

    weights: Tensor
    means: Tensor
    axes: Tensor
    deviations: Tensor
    rest: Tensor

    def __init__(self, latents: int) -> None:
        super().__init__()
        self.rank = min(latents, 256 if latents <= 4096 else 64)
        self.most = max(1, min(max(COMPONENTS), MOST_VALUES // (latents * self.rank)))
        self.register_buffer("weights", torch.zeros(self.most))
        self.register_buffer("means", torch.zeros(self.most, latents))
        self.register_buffer("axes", torch.zeros(self.most, latents, self.rank))
        self.register_buffer("deviations", torch.ones(self.most, self.rank))  # along the axes
        self.register_buffer("rest", torch.ones(self.most))  # across them

    def sample(self, noise: Noise) -> Tensor:
        z, edges = noise["z"], self.weights.cumsum(0)
        chosen = (noise["u"] > edges[:-1]).sum(1)  # [N]
        axes, deviations, rest = self.axes[chosen], self.deviations[chosen], self.rest[chosen, None]
        along = torch.einsum("nlr,nl->nr", axes, z)
        return self.means[chosen] + rest * z + torch.einsum("nlr,nr->nl", axes, (deviations - rest) * along)

    def log_prob(self, x: Tensor) -> Tensor:
        parts = []
        for weight, mean, axes, deviation, rest in zip(
            self.weights, self.means, self.axes, self.deviations, self.rest, strict=True
        ):
            centred = x - mean
            along = centred @ axes
            across = (centred.square().sum(1) - along.square().sum(1)).clamp(min=0)
            square = (along / deviation).square().sum(1) + across / rest.square()
            left = x.shape[1] - self.rank
            log_det = 2 * deviation.log().sum() + 2 * left * rest.log()
            parts.append(weight.log() - 0.5 * (square + log_det + x.shape[1] * math.log(2 * math.pi)))
        return torch.logsumexp(torch.stack(parts), dim=0)

    def fit(self, x: Tensor, held_out: Tensor, seed: int) -> None:
        best, kept = -math.inf, None
        for count in COMPONENTS:
            several = x.shape[1] <= FULL_COVARIANCE and len(x) >= count * x.shape[1]
            if count > self.most or (count > 1 and not several):
                continue
            self._fit(x, count, seed)
            score = float(self.log_prob(held_out).mean())
            if score > best:
                best, kept = score, {key: value.clone() for key, value in self.state_dict().items()}
        if kept is not None:
            self.load_state_dict(kept)

    def _fit(self, x: Tensor, count: int, seed: int) -> None:
        self.weights.zero_()
        if count == 1:
            self.weights[0] = 1.0
            self._place(0, x.mean(0), torch.cov(x.t()).view(x.shape[1], -1))
            return
        from sklearn.mixture import GaussianMixture  # takes a second to load

        with warnings.catch_warnings():  # "did not converge" is no fault: what comes of it is judged
            warnings.simplefilter("ignore")
            found = GaussianMixture(count, reg_covar=1e-3, max_iter=30, random_state=seed % 2**32).fit(
                x.cpu().numpy().astype(np.float64)
            )
        self.weights[:count] = torch.from_numpy(found.weights_).to(self.weights)
        for index in range(count):
            of = torch.from_numpy(found.means_[index]), torch.from_numpy(found.covariances_[index])
            self._place(index, *(part.to(self.means) for part in of))

    def _place(self, index: int, mean: Tensor, covariance: Tensor) -> None:
        """Sets a component to a normal."""
        ridge = 1e-3 * torch.eye(len(mean), device=mean.device)
        values, vectors = torch.linalg.eigh((covariance + ridge).double())
        rest = values[: len(values) - self.rank]
        self.means[index] = mean
        self.axes[index] = vectors[:, -self.rank :].to(self.axes)
        self.deviations[index] = values[-self.rank :].clamp(min=1e-6).sqrt().to(self.deviations)
        self.rest[index] = rest.mean().clamp(min=1e-6).sqrt().to(self.rest) if len(rest) else 1.0


class Coupling(nn.Module):
    """Scales and moves one half of the values by a network of the other (Dinh et al. 2017, arXiv 1605.08803, Eqs. 7
    and 8)."""

    mask: Tensor

    def __init__(self, latents: int, hidden: int, even: bool) -> None:
        super().__init__()
        mask = torch.arange(latents) % 2 == (0 if even else 1)
        self.register_buffer("mask", mask.float())
        self.net = nn.Sequential(
            nn.Linear(latents, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 2 * latents)
        )
        nn.init.zeros_(self.net[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.net[-1].bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
        """Values and the log determinant `[N]` of this direction."""
        shift, raw = self.net(x * self.mask).chunk(2, dim=1)
        log_scale = torch.tanh(raw) * (1 - self.mask)
        shift = shift * (1 - self.mask)
        if inverse:
            return (x - shift) * torch.exp(-log_scale), -log_scale.sum(1)
        return x * torch.exp(log_scale) + shift, log_scale.sum(1)


class Flow(Density):
    """Affine couplings from N(0, I) to the codes."""

    def __init__(self, latents: int, couplings: int = 6, hidden: int = 128) -> None:
        super().__init__()
        self.couplings = nn.ModuleList(Coupling(latents, hidden, index % 2 == 0) for index in range(couplings))

    def sample(self, noise: Noise) -> Tensor:
        x = noise["z"]
        for coupling in self.couplings:
            x, _ = coupling(x, inverse=False)
        return x

    def log_prob(self, x: Tensor) -> Tensor:
        total = torch.zeros(len(x), device=x.device)
        for coupling in reversed(self.couplings):
            x, log_det = coupling(x, inverse=True)
            total = total + log_det
        return total - 0.5 * (x.square().sum(1) + x.shape[1] * math.log(2 * math.pi))

    def fit(self, x: Tensor, held_out: Tensor, seed: int) -> None:
        learn(self, x, seed, lambda part, noise: -self.log_prob(part))


class SecondStage(Density):
    """A second VAE whose pictures are the codes, with as many latents and a learned scale (Dai & Wipf 2019, section
    4)."""

    DRAWS = 16  # of the bound that it is judged by

    def __init__(self, latents: int, hidden: int = 256) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(latents, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 2 * latents)
        )
        self.decoder = nn.Sequential(
            nn.Linear(latents, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, latents)
        )
        self.log_scale = nn.Parameter(torch.zeros(()))

    def sample(self, noise: Noise) -> Tensor:
        mean: Tensor = self.decoder(noise["z"])
        return mean + torch.exp(self._scale()) * noise["second"]

    def _scale(self) -> Tensor:
        return self.log_scale.clamp(-4, 2)

    def _weights(self, x: Tensor, noise: Tensor) -> Tensor:
        """log p(x, u) - log q(u|x) of one draw `[N]`."""
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        log_variance = log_variance.clamp(-12, 6)
        u = mean + torch.exp(0.5 * log_variance) * noise
        scaled = (x - self.decoder(u)) * torch.exp(-self._scale())
        fit = -(0.5 * scaled.square() + self._scale() + 0.5 * math.log(2 * math.pi)).sum(1)
        ratio: Tensor = 0.5 * (noise.square() + log_variance - u.square()).sum(1)
        return fit + ratio

    def log_prob(self, x: Tensor) -> Tensor:
        generator = generator_for("second stage")
        draws = [torch.randn(x.shape, generator=generator).to(x.device) for _ in range(self.DRAWS)]
        return torch.logsumexp(torch.stack([self._weights(x, draw) for draw in draws]), dim=0) - math.log(self.DRAWS)

    def fit(self, x: Tensor, held_out: Tensor, seed: int) -> None:
        learn(self, x, seed, lambda part, noise: -self._weights(part, noise))


def learn(density: nn.Module, x: Tensor, seed: int, loss: object) -> None:
    """A short training by Adam from fresh weights, whose rate falls to zero by a cosine."""
    parameters = [parameter.requires_grad_(True) for parameter in density.parameters()]
    generator = generator_for("prior", seed)
    optimizer = torch.optim.Adam(parameters, lr=RATE)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = RATE * 0.5 * (1 + math.cos(math.pi * step / STEPS))
        part = x[torch.randint(len(x), (min(BATCH, len(x)),), generator=generator).to(x.device)]
        noise = torch.randn(part.shape, generator=generator).to(x.device)
        optimizer.zero_grad()
        loss(part, noise).mean().backward()  # type: ignore[operator]
        nn.utils.clip_grad_norm_(parameters, 100.0)
        optimizer.step()
    density.requires_grad_(False)


DENSITIES: dict[str, type[Mixture] | type[Flow] | type[SecondStage]] = {
    "mixture": Mixture,
    "flow": Flow,
    "second-stage": SecondStage,
}


class Prior(nn.Module):
    """The fitted prior of a model: `kind` is one density, or `auto` for the best of all on held-out codes.

    With classes, each has a mean of its own; the density is of what is left, standardised.
    """

    shift: Tensor
    scale: Tensor
    held_out: Tensor

    def __init__(self, kind: PriorName, latents: int, classes: int) -> None:
        super().__init__()
        names = list(DENSITIES) if kind == "auto" else [kind]
        self.densities = nn.ModuleDict({name: DENSITIES[name](latents) for name in names})
        self.register_buffer("shift", torch.zeros(max(1, classes), latents))
        self.register_buffer("scale", torch.ones(latents))
        self.register_buffer("held_out", torch.zeros(len(names)))  # nats of held-out codes under each density
        self.requires_grad_(False)
        self.chosen = names[0]  # the density that is best on held-out codes; a plain word, so that a trace follows it
        self.register_load_state_dict_post_hook(lambda module, keys: module._choose())

    def _choose(self) -> None:
        self.chosen = list(self.densities)[int(self.held_out.argmax())]

    def forward(self, noise: Noise, labels: Tensor | None) -> Tensor:
        """Codes `[N, L]` of noise (and labels)."""
        density = self.densities[self.chosen]
        assert isinstance(density, Density)
        return self._shift(labels) + self.scale * density.sample(noise)

    def log_prob(self, codes: Tensor, labels: Tensor | None) -> Tensor:
        """Nats `[N]` of codes, or a lower bound of them."""
        density = self.densities[self.chosen]
        assert isinstance(density, Density)
        return density.log_prob((codes - self._shift(labels)) / self.scale) - self.scale.log().sum()

    def _shift(self, labels: Tensor | None) -> Tensor:
        return self.shift[torch.zeros((), dtype=torch.long, device=self.shift.device) if labels is None else labels]

    def fit(self, codes: Tensor, labels: Tensor | None, seed: int) -> None:
        """Fits every density to codes `[N, L]`, float32, drawn from the aggregate posterior."""
        with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng(devices=[]):
            codes = codes.detach().clone()
            torch.manual_seed(seed % 2**63)
            with torch.no_grad():
                self._standardise(codes, labels)
                x = (codes - self._shift(labels)) / self.scale
            held = torch.arange(len(x), device=x.device) % HELD_OUT == HELD_OUT - 1
            if not held.any():
                held = ~held  # fewer pictures than that: nothing can be held out
            train = x[~held] if (~held).any() else x
            for index, name in enumerate(self.densities):
                fresh = DENSITIES[name](x.shape[1]).to(x.device)
                fresh.requires_grad_(False)
                fresh.fit(train, x[held], seed)
                with torch.no_grad():
                    self.densities[name].load_state_dict(fresh.state_dict())
                    self.held_out[index] = fresh.log_prob(x[held]).mean().nan_to_num(-1e30)
            self._choose()

    def _standardise(self, codes: Tensor, labels: Tensor | None) -> None:
        whole = codes.mean(0)
        if labels is None:
            self.shift.copy_(whole.expand_as(self.shift))
        else:
            counts = F.one_hot(labels, len(self.shift)).sum(0)[:, None].to(codes)
            sums = torch.zeros_like(self.shift).index_add_(0, labels, codes)
            self.shift.copy_((sums + 10 * whole) / (counts + 10))  # a class of few pictures leans on all
        self.scale.copy_((codes - self._shift(labels)).std(0, correction=0).clamp(min=1e-4))
