"""From a network's features at a pixel to the distribution of the pixel's values; its channels follow each other."""

from __future__ import annotations

from typing import Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zeuxis.families.base import RenderOptions
from zeuxis.nn.logistic import LOG_SCALE_LEAST, mixture_log_prob, quantised


class Output(Protocol):
    """`draws` is the number of uniform random numbers that one pixel takes."""

    draws: int

    def log_prob(self, features: Tensor, images: Tensor) -> Tensor:
        """Features `[N, D, H, W]`, images on their levels `[N, C, H, W]` -> nats per pixel `[N, H, W]`."""

    def draw(self, features: Tensor, uniforms: Tensor, temperature: float) -> Tensor:
        """Features `[N, D]`, uniforms `[N, draws]` -> values on their levels `[N, C]`."""


def inverse_cdf(logits: Tensor, uniforms: Tensor, temperature: float) -> Tensor:
    """Index `[N]` drawn from `softmax(logits / temperature)` `[N, K]` by one uniform number `[N]` each; at 0 the most
    probable."""
    if temperature == 0:
        return logits.argmax(-1)
    edges = torch.softmax(logits if temperature == 1 else logits / temperature, dim=-1).cumsum(-1)
    # Rounding may leave the last edge below 1: the last index takes what is above.
    return (edges[:, :-1] <= uniforms[:, None]).sum(-1)


def choose(logits: Tensor, uniforms: Tensor, options: RenderOptions) -> Tensor:
    """Index `[N]` drawn from logits `[N, K]` after `temperature`, of the `top_k` most probable (0: of all) and of the
    fewest that together have the probability `top_p` (Holtzman et al. 2019, arXiv 1904.09751)."""
    if options.top_k and options.top_k < logits.shape[1]:
        least = logits.topk(options.top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if options.top_p < 1 and options.temperature > 0:
        ordered, places = (logits / options.temperature).sort(dim=-1, descending=True)
        before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)  # probability of all that are more probable
        beyond = torch.zeros_like(before, dtype=torch.bool).scatter(1, places, before >= options.top_p)
        beyond.scatter_(1, places[:, :1], False)  # the most probable always stays
        logits = logits.masked_fill(beyond, -torch.inf)
    return inverse_cdf(logits, uniforms, options.temperature)


class LogisticMixture(nn.Module):
    """Mixture of discretised logistics; the means of later channels move with the values of earlier ones
    (Salimans et al. 2017, arXiv 1701.05517, Eq. 3, carried on to a fourth channel)."""

    def __init__(self, width: int, channels: int, levels: int, components: int) -> None:
        super().__init__()
        self.channels, self.levels, self.components, self.draws = channels, levels, components, 1 + channels
        pairs = channels * (channels - 1) // 2
        self.to_parameters = nn.Linear(width, components * (1 + 2 * channels + pairs))
        with torch.no_grad():  # components spread over the range instead of all in the middle
            bias = self.to_parameters.bias.zero_().view(-1, components)
            bias[1 : 1 + channels] = torch.linspace(-1, 1, components + 2)[1:-1]
            bias[1 + channels : 1 + 2 * channels] = -1.5

    def split(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Features `[..., D]` -> logits `[..., M]`, means and log scales `[..., C, M]`, and the factors by which the
        values of earlier channels move the means of later ones `[..., C (C - 1) / 2, M]`."""
        raw = self.to_parameters(features).float().unflatten(-1, (-1, self.components))
        sizes = [1, self.channels, self.channels, raw.shape[-2] - 1 - 2 * self.channels]
        logits, means, log_scales, factors = raw.split(sizes, dim=-2)
        return logits[..., 0, :], means, log_scales.clamp(min=LOG_SCALE_LEAST), torch.tanh(factors)

    def log_prob(self, features: Tensor, images: Tensor) -> Tensor:
        """Nats per pixel `[N, H, W]` of images on their levels `[N, C, H, W]`."""
        values = images.permute(0, 2, 3, 1)
        logits, means, log_scales, factors = self.split(features.permute(0, 2, 3, 1))
        rows, at = [means[..., 0, :]], 0
        for channel in range(1, self.channels):
            own = factors[..., at : at + channel, :]  # [N, H, W, channel, M]
            rows.append(means[..., channel, :] + (own * values[..., :channel, None]).sum(-2))
            at += channel
        return mixture_log_prob(values, logits, torch.stack(rows, dim=-2), log_scales, self.levels)

    def draw(self, features: Tensor, uniforms: Tensor, temperature: float) -> Tensor:
        """Values on their levels `[N, C]`: one uniform number chooses the component, one each a channel's value."""
        logits, *rest = self.split(features)
        chosen = inverse_cdf(logits, uniforms[:, 0], temperature)[:, None, None]
        means, log_scales, factors = (
            part.gather(-1, chosen.expand(-1, part.shape[1], 1))[..., 0] for part in rest
        )  # [N, C], [N, C], [N, C (C - 1) / 2]
        away = temperature * torch.exp(log_scales) * torch.logit(uniforms[:, 1:].clamp(1e-6, 1 - 1e-6))
        values, at = [quantised(means[:, :1] + away[:, :1], self.levels)], 0
        for channel in range(1, self.channels):
            moved = (factors[:, at : at + channel] * torch.cat(values, dim=1)).sum(1, keepdim=True)
            here = slice(channel, channel + 1)
            values.append(quantised(means[:, here] + moved + away[:, here], self.levels))
            at += channel
        return torch.cat(values, dim=1)


class Categorical(nn.Module):
    """A free distribution over the levels (van den Oord et al. 2016, arXiv 1601.06759, section 3.4); a later channel
    sees the values of the earlier ones."""

    def __init__(self, width: int, channels: int, levels: int, components: int) -> None:
        super().__init__()
        self.levels, self.draws = levels, channels
        self.to_logits = nn.ModuleList(nn.Linear(width, levels) for _ in range(channels))
        self.see = nn.ModuleList(nn.Linear(channel, width, bias=False) for channel in range(1, channels))

    def logits(self, features: Tensor, values: Tensor, channel: int) -> Tensor:
        """Logits `[..., L]` of one channel, given the earlier channels in `values` `[..., C]`."""
        if channel:
            features = features + self.see[channel - 1](values[..., :channel].to(features.dtype))
        return cast(Tensor, self.to_logits[channel](F.elu(features))).float()

    def log_prob(self, features: Tensor, images: Tensor) -> Tensor:
        """Nats per pixel `[N, H, W]` of images on their levels `[N, C, H, W]`."""
        features, values = features.permute(0, 2, 3, 1), images.permute(0, 2, 3, 1)
        levels = ((values + 1) * ((self.levels - 1) / 2)).round().long().clamp(0, self.levels - 1)
        total = torch.zeros_like(values[..., 0])
        for channel in range(values.shape[-1]):
            log_probs = F.log_softmax(self.logits(features, values, channel), dim=-1)
            total = total + log_probs.gather(-1, levels[..., channel, None])[..., 0]
        return total

    def draw(self, features: Tensor, uniforms: Tensor, temperature: float) -> Tensor:
        """Values on their levels `[N, C]`, by one uniform number each."""
        values = torch.zeros(len(features), self.draws, device=features.device)
        for channel in range(self.draws):
            logits = self.logits(features, values, channel)
            index = inverse_cdf(logits, uniforms[:, channel], temperature)
            values[:, channel] = index * (2 / (self.levels - 1)) - 1
        return values


OUTPUTS: dict[str, type[LogisticMixture] | type[Categorical]] = {
    "logistic-mixture": LogisticMixture,
    "categorical": Categorical,
}
