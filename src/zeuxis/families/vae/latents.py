"""How a VAE's latents hang together: a vector, a ladder, or a grid of tokens. The objective sees all three alike.

Noise is one vector of standard normals for a picture, `z`; codes are one vector too, of which a picture is decoded.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zeuxis.config import Config, ImageSpec
from zeuxis.families.base import Networks
from zeuxis.families.vae.ladder import Decoder as LadderDecoder
from zeuxis.families.vae.pair import LatentConfig, Network, NetworkCodec, NetworkLadder, NetworkPair
from zeuxis.nn.quantise import FSQ, VQ

ACTIVE = 0.01  # the least variance over pictures of an active latent's mean (Burda et al. 2015, section 5.2)
Features = tuple[Tensor, ...]


def kl_to_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, exp(log_variance)) || N(0, I)) in nats `[N]` (Kingma & Welling 2013, appendix B)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)


@dataclass(frozen=True)
class Inference:
    """What one draw z from q(z|x) gives: the decoder's `output`; `kl` of each group in nats `[N]`, in closed form given
    the groups above; `ratio` gives log p(z) - log q(z|x) of the draw itself `[N]`; `terms` to log, of which
    `commitment` and `crowding` `[N]` belong to the loss."""

    output: Tensor
    kl: dict[str, Tensor]
    ratio: Callable[[], Tensor]
    terms: dict[str, Tensor] = field(default_factory=dict)

    @property
    def log_ratio(self) -> Tensor:
        """What `ratio` gives: most steps never ask, and on small networks it would be a tenth of their operations."""
        return self.ratio()


class Latents(ABC):
    """Bound to a network and its configuration; holds no weights.

    `size` is the number of standard normals for a picture; `flat` says whether the codes have the prior N(0, I) or at
    least a shape that a density can be fitted to.
    """

    parts: tuple[str, ...] = ("encoder", "decoder")
    size: int
    draws = True  # whether training needs noise
    groups: tuple[int, ...] = ()  # of a ladder: latents from coarse to fine, as they follow each other in the codes
    flat = True

    @abstractmethod
    def build(self, outputs: int) -> dict[str, nn.Module]:
        """Fresh networks by part; `outputs` channels for the likelihood."""

    @abstractmethod
    def recognise(self, networks: Networks, images: Tensor, labels: Tensor | None) -> Features:
        """Everything q needs to know of pictures, each with N first: computed once for any number of draws."""

    @abstractmethod
    def infer(self, networks: Networks, seen: Features, labels: Tensor | None, z: Tensor) -> Inference:
        """One draw from q for each row of noise `[N, size]`."""

    @abstractmethod
    def codes(self, networks: Networks, seen: Features, labels: Tensor | None, z: Tensor | None = None) -> Tensor:
        """Codes `[N, size]`: the means of q, or with noise a draw from it."""

    @abstractmethod
    def output(self, networks: Networks, codes: Tensor, labels: Tensor | None) -> Tensor:
        """The decoder's output for codes."""

    @abstractmethod
    def generate(self, networks: Networks, z: Tensor, labels: Tensor | None) -> Tensor:
        """The decoder's output for noise that goes through the model's own prior."""

    def drawn(self, networks: Networks, z: Tensor, labels: Tensor | None) -> Tensor:
        """The codes `[N, size]` of which `generate` decodes, where they lie in a continuous space."""
        raise NotImplementedError("tokens lie in no continuous space")


class VectorLatents(Latents):
    """One vector with prior N(0, I), in one or more independent groups (Kingma & Welling 2013; Rezende et al. 2014)."""

    def __init__(self, network: NetworkPair, config: LatentConfig, spec: ImageSpec, classes: int) -> None:
        self.network, self.config, self.bound = network, config, (config, spec, classes)
        self.size = sum(config.groups)

    def build(self, outputs: int) -> dict[str, nn.Module]:
        return {"encoder": self.network.encoder(*self.bound), "decoder": self.network.decoder(*self.bound, outputs)}

    def recognise(self, networks: Networks, images: Tensor, labels: Tensor | None) -> Features:
        mean, log_variance, *direction = networks["encoder"](images, labels)
        # Bounded: an unlucky step must not overflow the exponential (variance from 2e-9 to 2e4).
        # `hardtanh` is `clamp` with a gradient of one pass.
        return (mean, F.hardtanh(log_variance, -20.0, 10.0), *direction)

    def infer(self, networks: Networks, seen: Features, labels: Tensor | None, z: Tensor) -> Inference:
        mean = seen[0]
        code, log_determinant = self._draw(seen, z)
        sizes = self.config.groups
        if len(seen) == 2:  # diagonal
            each = mean.square() + seen[1].exp() - seen[1]
            parts = [each] if len(sizes) == 1 else each.split(sizes, dim=1)
            kls = [0.5 * (part.sum(1) - size) for part, size in zip(parts, sizes, strict=True)]
        else:
            trace = _rank_one_trace(*(part.split(sizes, dim=1) for part in seen[1:]))
            squares = [part.square().sum(1) for part in mean.split(sizes, dim=1)]
            rows = zip(squares, trace, log_determinant().unbind(1), sizes, strict=True)
            kls = [0.5 * (square + own - log_det - size) for square, own, log_det, size in rows]
        names = ["kl"] if len(sizes) == 1 else [f"kl layer {index + 1}" for index in range(len(sizes))]
        output = networks["decoder"](code, labels)

        def ratio() -> Tensor:  # the constants of both normal densities cancel
            return 0.5 * ((z.square() - code.square()).sum(1) + log_determinant().sum(1))

        return Inference(output, dict(zip(names, kls, strict=True)), ratio, {"active units": active_units(mean)})

    def _draw(self, seen: Features, z: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
        """A draw `[N, size]` and what gives the log determinants of the groups' covariances `[N, groups]`."""
        mean, log_variance = seen[:2]
        sizes = self.config.groups
        if len(seen) == 2:
            draw = torch.addcmul(mean, torch.exp(0.5 * log_variance), z)
            return draw, lambda: log_variance.sum(1, keepdim=True)
        parts = [part.split(sizes, dim=1) for part in (*seen, z)]
        draws = [rank_one_draw(*group) for group in zip(*parts, strict=True)]
        determinants = torch.stack([log_det for _, log_det in draws], dim=1)
        return torch.cat([draw for draw, _ in draws], dim=1), lambda: determinants

    def codes(self, networks: Networks, seen: Features, labels: Tensor | None, z: Tensor | None = None) -> Tensor:
        return seen[0] if z is None else self._draw(seen, z)[0]

    def output(self, networks: Networks, codes: Tensor, labels: Tensor | None) -> Tensor:
        output: Tensor = networks["decoder"](codes, labels)
        return output

    def generate(self, networks: Networks, z: Tensor, labels: Tensor | None) -> Tensor:
        return self.output(networks, z, labels)

    def drawn(self, networks: Networks, z: Tensor, labels: Tensor | None) -> Tensor:
        return z


@torch.no_grad()
def active_units(mean: Tensor) -> Tensor:
    """How many latents tell the pictures of a batch apart, by the means `[N, D]` of q. By moments: `var` takes six
    times as long, and ends near the bound do not matter."""
    return ((mean.square().mean(0) - mean.mean(0).square()) > ACTIVE).sum().float()


def rank_one_draw(mean: Tensor, log_variance: Tensor, u: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """A draw `[N, D]` from the normal with precision diag(exp(-log_variance)) + u u^T, and the log determinant of its
    covariance `[N]` (Rezende et al. 2014, section 4.3, Eqs. 11 to 15)."""
    deviation = torch.exp(0.5 * log_variance)
    scaled = deviation * u  # D^-1/2 u
    square = scaled.square().sum(1, keepdim=True)
    shrink = 1 / (1 + square)  # eta
    factor = shrink / (1 + shrink.sqrt())  # (1 - sqrt(eta)) / (u^T D^-1 u) without a division by zero
    along = (scaled * z).sum(1, keepdim=True)
    draw = mean + deviation * (z - factor * scaled * along)
    return draw, log_variance.sum(1) + torch.log(shrink[:, 0])


def _rank_one_trace(log_variances: tuple[Tensor, ...], us: tuple[Tensor, ...]) -> list[Tensor]:
    """Trace of each group's covariance `[N]`."""
    traces = []
    for log_variance, u in zip(log_variances, us, strict=True):
        variance = log_variance.exp()
        shrink = 1 / (1 + (variance * u.square()).sum(1))
        traces.append(variance.sum(1) - shrink * (variance * u).square().sum(1))
    return traces


class LadderLatents(Latents):
    """Groups of latents from coarse to fine, each with a prior and a posterior that depend on the ones above."""

    flat = False

    def __init__(self, network: NetworkLadder, config: Config, spec: ImageSpec, classes: int) -> None:
        self.network, self.bound = network, (config, spec, classes)
        self.groups = LadderDecoder.groups(config, spec)  # type: ignore[arg-type]
        self.size = sum(self.groups)

    def build(self, outputs: int) -> dict[str, nn.Module]:
        return {"encoder": self.network.encoder(*self.bound), "decoder": self.network.decoder(*self.bound, outputs)}

    def recognise(self, networks: Networks, images: Tensor, labels: Tensor | None) -> Features:
        return tuple(networks["encoder"](images, labels))

    def infer(self, networks: Networks, seen: Features, labels: Tensor | None, z: Tensor) -> Inference:
        output, kl, log_ratio, active, _ = networks["decoder"](labels, z=z, features=seen)
        return Inference(output, kl, lambda: log_ratio, {"active units": active})

    def codes(self, networks: Networks, seen: Features, labels: Tensor | None, z: Tensor | None = None) -> Tensor:
        z = seen[0].new_zeros(len(seen[0]), self.size, dtype=torch.float32) if z is None else z
        codes: Tensor = networks["decoder"](labels, z=z, features=seen)[-1]
        return codes

    def output(self, networks: Networks, codes: Tensor, labels: Tensor | None) -> Tensor:
        output: Tensor = networks["decoder"](labels, codes=codes)[0]
        return output

    def generate(self, networks: Networks, z: Tensor, labels: Tensor | None) -> Tensor:
        output: Tensor = networks["decoder"](labels, z=z)[0]
        return output

    def drawn(self, networks: Networks, z: Tensor, labels: Tensor | None) -> Tensor:
        codes: Tensor = networks["decoder"](labels, z=z)[-1]
        return codes


class TokenLatents(Latents):
    """A grid of tokens, each with a uniform prior (van den Oord et al. 2017, section 3.1): q puts all its weight on one
    grid, so the KL term is the constant number of positions times log(codes)."""

    parts = ("encoder", "quantiser", "decoder")
    draws = False

    def __init__(self, network: NetworkCodec, config: Config, spec: ImageSpec, classes: int) -> None:
        self.network, self.bound = network, (config, spec, classes)
        factor = config.factor  # type: ignore[attr-defined]
        self.grid = math.ceil(spec.height / factor), math.ceil(spec.width / factor)
        with torch.device("meta"):
            quantiser = network.quantiser(config)
        self.channels, self.codes_known = quantiser.channels, quantiser.size
        self.size = self.channels * math.prod(self.grid)

    def build(self, outputs: int) -> dict[str, nn.Module]:
        return {
            "encoder": self.network.encoder(*self.bound),
            "quantiser": self.network.quantiser(self.bound[0]),
            "decoder": self.network.decoder(*self.bound, outputs),
        }

    def recognise(self, networks: Networks, images: Tensor, labels: Tensor | None) -> Features:
        return (networks["encoder"](images, labels),)

    def infer(self, networks: Networks, seen: Features, labels: Tensor | None, z: Tensor) -> Inference:
        quantised, _, terms = networks["quantiser"](seen[0])
        output = networks["decoder"](quantised, labels)
        kl = torch.full((len(output),), math.prod(self.grid) * math.log(self.codes_known), device=output.device)
        return Inference(output, {"kl": kl}, lambda: -kl, terms)

    def codes(self, networks: Networks, seen: Features, labels: Tensor | None, z: Tensor | None = None) -> Tensor:
        quantised: Tensor = networks["quantiser"](seen[0])[0]
        return quantised.flatten(1)

    def output(self, networks: Networks, codes: Tensor, labels: Tensor | None) -> Tensor:
        return self.of_tokens(networks, self.tokens(networks, codes), labels)

    def generate(self, networks: Networks, z: Tensor, labels: Tensor | None) -> Tensor:
        uniform = torch.special.ndtr(z[:, : math.prod(self.grid)])  # the rest of the noise is for a fitted prior
        tokens = (uniform * self.codes_known).long().clamp(max=self.codes_known - 1)
        return self.of_tokens(networks, tokens.view(-1, *self.grid), labels)

    def tokens(self, networks: Networks, codes: Tensor) -> Tensor:
        """Tokens int64 `[N, h, w]` nearest to codes `[N, size]`."""
        quantiser = _quantiser(networks)
        return quantiser.nearest(codes.view(-1, self.channels, *self.grid))

    def of_tokens(self, networks: Networks, tokens: Tensor, labels: Tensor | None) -> Tensor:
        """The decoder's output for tokens."""
        output: Tensor = networks["decoder"](_quantiser(networks).decode_tokens(tokens), labels)
        return output


def _quantiser(networks: Networks) -> FSQ | VQ:
    quantiser = networks["quantiser"]
    assert isinstance(quantiser, FSQ | VQ)
    return quantiser


def latents_of(network: Network, config: Config, spec: ImageSpec, classes: int) -> Latents:
    """The latents of a line of the `NETWORKS` table."""
    if isinstance(network, NetworkPair):
        assert isinstance(config, LatentConfig)
        return VectorLatents(network, config, spec, classes)
    kind = LadderLatents if isinstance(network, NetworkLadder) else TokenLatents
    return kind(network, config, spec, classes)  # type: ignore[arg-type]
