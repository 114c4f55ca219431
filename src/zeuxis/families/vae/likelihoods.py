"""What p(x|z) is: how a decoder's output becomes a distribution of pictures. One short class each."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zeuxis.nn.logistic import LOG_SCALE_LEAST, mixture_log_prob

# Of a density on the [-1, 1] scale, of probabilities of the 8-bit levels, or of neither on grey levels.
Unit = Literal["continuous", "discrete", "none"]
LOG_SIGMA_LEAST = -6.0  # a third of an 8-bit level: sharper would reward rounding noise without bound


def bounded_log_sigma(raw: Tensor) -> Tensor:
    """Softly bounded below (Rybkin et al. 2021, appendix A.1), so that the gradient never dies at the bound."""
    return LOG_SIGMA_LEAST + F.softplus(raw.float() - LOG_SIGMA_LEAST)


def latitude_weights(height: int, device: torch.device | None = None) -> Tensor:
    """How much sphere each row of an equirectangular panorama shows, `[H]`, 1 on average: the cosine of its latitude
    (as in WS-PSNR, Sun, Lu & Yu 2017). Without it a loss counts the poles, stretched over whole rows, as much as the
    horizon."""
    latitude = (torch.arange(height, device=device) + 0.5) / height * math.pi - math.pi / 2
    weights = torch.cos(latitude)
    return weights / weights.mean()


def total(values: Tensor, rows: Tensor | None) -> Tensor:
    """Nats of every value, `[N, C, H, W]` or `[N, H, W]` -> `[N]`; `rows` are weights `[H]`."""
    if rows is not None:
        values = values * rows.to(values.device)[:, None]
    return values.flatten(1).sum(dim=1)


class Likelihood(nn.Module, ABC):
    """`outputs` is how many channels it needs from the decoder."""

    unit: ClassVar[Unit]

    def __init__(self, channels: int, components: int) -> None:
        super().__init__()
        self.outputs = channels

    @abstractmethod
    def log_prob(self, output: Tensor, images: Tensor, rows: Tensor | None = None) -> Tensor:
        """Decoder output `[N, outputs, H, W]` and `images` float `[-1, 1]` `[N, C, H, W]` -> nats `[N]`.

        With weights of the rows `[H]` it is a loss, no log of a probability.
        """

    @abstractmethod
    def mean(self, output: Tensor) -> Tensor:
        """The expected picture, float `[-1, 1]` `[N, C, H, W]`."""


class Bernoulli(Likelihood):
    """log p(x|z) with intensities in [0, 1] as probabilities (Kingma & Welling 2013, appendix C.1).

    On grey levels between 0 and 1 this is the usual cross-entropy and not the log of a normalised density.
    """

    unit: ClassVar[Unit] = "none"

    def __init__(self, channels: int = 1, components: int = 1) -> None:
        super().__init__(channels, components)

    def log_prob(self, output: Tensor, images: Tensor, rows: Tensor | None = None) -> Tensor:
        """`output` are logits."""
        target = (images + 1) / 2
        return -total(F.binary_cross_entropy_with_logits(output.float(), target, reduction="none"), rows)

    def mean(self, output: Tensor) -> Tensor:
        return torch.sigmoid(output.float()) * 2 - 1


class Gaussian(Likelihood):
    """log p(x|z) = log N(x; output, sigma^2) with one learned sigma for the data set, on the [-1, 1] scale
    (Rybkin, Daniilidis, Levine 2021, arXiv 2006.13202, section 4.1). A density: nats may be positive."""

    unit: ClassVar[Unit] = "continuous"

    LOG_SIGMA_LEAST = LOG_SIGMA_LEAST

    LOG_SIGMA_FIRST = -1.0  # about the spread of pictures: from 1 it takes thousands of steps to come down, during
    # which the KL term outweighs the pictures and the latents fall silent

    def __init__(self, channels: int = 1, components: int = 1) -> None:
        super().__init__(channels, components)
        self.log_sigma = nn.Parameter(torch.tensor(self.LOG_SIGMA_FIRST))

    def log_prob(self, output: Tensor, images: Tensor, rows: Tensor | None = None) -> Tensor:
        """`output` are means."""
        log_sigma = bounded_log_sigma(self.log_sigma)
        scaled = (images - output.float()) * torch.exp(-log_sigma)
        return -total(0.5 * scaled.square() + log_sigma + 0.5 * math.log(2 * math.pi), rows)

    def mean(self, output: Tensor) -> Tensor:
        return output.float().clamp(-1, 1)


class GaussianPixel(Likelihood):
    """log N(x; mean, sigma^2) with a sigma for every pixel and channel out of the decoder (Kingma & Welling 2013,
    appendix C.2). A density: it learns where a data set is always alike."""

    unit: ClassVar[Unit] = "continuous"

    def __init__(self, channels: int, components: int = 1) -> None:
        super().__init__(channels, components)
        self.outputs = 2 * channels

    def log_prob(self, output: Tensor, images: Tensor, rows: Tensor | None = None) -> Tensor:
        """`output` are means, then log sigmas."""
        mean, raw = output.float().chunk(2, dim=1)
        log_sigma = bounded_log_sigma(raw + Gaussian.LOG_SIGMA_FIRST)
        scaled = (images - mean) * torch.exp(-log_sigma)
        return -total(0.5 * scaled.square() + log_sigma + 0.5 * math.log(2 * math.pi), rows)

    def mean(self, output: Tensor) -> Tensor:
        return output.float().chunk(2, dim=1)[0].clamp(-1, 1)


class LogisticMixture(Likelihood):
    """Probabilities of the 256 levels by a mixture of discretised logistics for each pixel (Salimans et al. 2017,
    arXiv 1701.05517, section 2.1 and Eq. 3): one component is drawn for all channels of a pixel, and the means of
    later channels move with the values of earlier ones. No dequantisation: bits per dimension are exact."""

    unit: ClassVar[Unit] = "discrete"

    LEVELS = 256
    LOG_SCALE_FIRST = -1.5

    def __init__(self, channels: int, components: int) -> None:
        super().__init__(channels, components)
        self.channels, self.components = channels, components
        self.parts = [1, channels, channels, channels * (channels - 1) // 2]  # logits, means, log scales, factors
        self.outputs = components * sum(self.parts)

    def log_prob(self, output: Tensor, images: Tensor, rows: Tensor | None = None) -> Tensor:
        values = images.float().permute(0, 2, 3, 1)  # [N, H, W, C]
        logits, means, log_scales, factors = self._split(output)
        each = [means[..., 0, :]]
        at = 0
        for channel in range(1, self.channels):
            own = factors[..., at : at + channel, :]
            each.append(means[..., channel, :] + (own * values[..., :channel, None]).sum(-2))
            at += channel
        return total(mixture_log_prob(values, logits, torch.stack(each, dim=-2), log_scales, self.LEVELS), rows)

    def mean(self, output: Tensor) -> Tensor:
        logits, means, _, factors = self._split(output)
        rows = [means[..., 0, :]]
        at = 0
        for channel in range(1, self.channels):  # a logistic's mean is linear in the earlier channels' means
            earlier = torch.stack(rows, dim=-2)  # [N, H, W, channel, M]
            rows.append(means[..., channel, :] + (factors[..., at : at + channel, :] * earlier).sum(-2))
            at += channel
        weights = torch.softmax(logits, dim=-1)[..., None, :]
        mean = (weights * torch.stack(rows, dim=-2).clamp(-1, 1)).sum(-1)
        return mean.clamp(-1, 1).permute(0, 3, 1, 2)  # weights sum to one up to rounding

    def _split(self, output: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Output `[N, outputs, H, W]` -> logits `[N, H, W, M]`, means and log scales `[N, H, W, C, M]`, factors of the
        earlier channels `[N, H, W, C (C - 1) / 2, M]`."""
        raw = output.float().permute(0, 2, 3, 1).unflatten(-1, (-1, self.components))
        logits, means, log_scales, factors = raw.split(self.parts, dim=-2)
        centres = torch.linspace(-1, 1, self.components + 2, device=output.device)[1:-1]
        log_scales = (log_scales + self.LOG_SCALE_FIRST).clamp(min=LOG_SCALE_LEAST)
        return logits[..., 0, :], means + centres, log_scales, torch.tanh(factors)


LIKELIHOODS: dict[str, type[Likelihood]] = {
    "bernoulli": Bernoulli,
    "gaussian": Gaussian,
    "gaussian-pixel": GaussianPixel,
    "logistic-mixture": LogisticMixture,
}
