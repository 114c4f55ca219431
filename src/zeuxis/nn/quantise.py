"""Quantisers: vectors on a grid to whole-number tokens and back, with a meter of how many codes are in use."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zeuxis.distributed import current
from zeuxis.nn.together import total
from zeuxis.recording import constant

# Levels per channel for about 2^k codes (Mentzer et al. 2023, table 1); the smaller ones by its rule of levels >= 5.
FSQ_LEVELS: dict[int, tuple[int, ...]] = {
    16: (4, 4), 25: (5, 5), 64: (8, 8), 240: (8, 6, 5), 512: (8, 8, 8), 1000: (8, 5, 5, 5), 4375: (7, 5, 5, 5, 5),
    15360: (8, 8, 8, 6, 5), 64000: (8, 8, 8, 5, 5, 5),
}  # fmt: skip
IN_USE = 0.1  # a code is in use while it is taken at least this share of as often as the average code
RARE = 0.01  # of the average frequency: rarer codes attract no more than this
DECAY = 0.99  # of the moving averages per step (van den Oord et al. 2017, appendix A.1)


def fsq_levels(codes: int) -> tuple[int, ...]:
    """The levels of the largest listed FSQ with at most `codes` codes (at least the smallest, 16)."""
    return FSQ_LEVELS[max(size for size in FSQ_LEVELS if size <= max(codes, min(FSQ_LEVELS)))]


class Usage(nn.Module):
    """How often each of `size` codes is taken: a moving average over steps, kept in buffers.

    `count` adds what a step saw (any number of times, so that micro-batches add up), `update` closes the step over all
    processes. A step that saw nothing (it was skipped, and its buffers put back) changes nothing.
    """

    share: Tensor
    seen: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("share", torch.zeros(size))  # sums to 1 after the first step
        self.register_buffer("seen", torch.zeros(size))  # positions of the present step

    @torch.no_grad()
    def count(self, tokens: Tensor) -> None:
        """Adds tokens of any shape to the present step."""
        places = tokens.flatten()  # `bincount` would wait for the device
        self.seen.index_add_(0, places, torch.ones_like(places, dtype=self.seen.dtype))

    @torch.no_grad()
    def update(self) -> Tensor:
        """Closes the step; returns how many positions it saw, a device scalar."""
        seen = total(self.seen)
        count, past = seen.sum(), self.past()
        self.share.mul_(past).add_((1 - past) * seen / count.clamp(min=1))
        self.seen.zero_()
        return count

    def past(self) -> Tensor:
        """The weight of the past in this step, a device scalar: the first step counts in full, one that saw nothing
        not at all."""
        return torch.where(total(self.seen).sum() > 0, torch.where(self.share.sum() > 0, DECAY, 0.0), 1.0)

    def in_use(self) -> Tensor:
        """Share of the codes that are in use, a scalar in [0, 1]."""
        return (self.share >= IN_USE / len(self.share)).float().mean()

    def perplexity(self) -> Tensor:
        """exp(entropy) of the codes' frequencies: as many codes as if all were taken equally often."""
        return torch.special.entr(self.share).sum().exp()


class FSQ(nn.Module):
    """Finite scalar quantisation: each channel is rounded to a few levels, the token is their mixed-radix number
    (Mentzer et al. 2023, arXiv 2309.15505, section 3.2 and appendix A.1). Nothing to learn, nothing to collapse."""

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__()
        assert all(level >= 2 for level in levels), f"two levels or more per channel, not {levels}"
        self.levels, self.size, self.channels = tuple(levels), math.prod(levels), len(levels)
        self.usage = Usage(self.size)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """`z` `[N, D, h, w]`, any range -> quantised float32 of the same shape in [-1, 1] (gradient passed straight
        through the rounding), tokens int64 `[N, h, w]`, and terms: `crowding` `[N]` is log(codes p(token)) in nats,
        summed, p by the meter; its mean is the divergence of the tokens' frequencies from equal ones, less of which is
        a larger H[E[q]] (Yu et al. 2023, arXiv 2310.05737, section 3.1, the second term of the entropy penalty)."""
        steps = self._levels(z)
        bounded = self._bound(z.float(), steps)
        whole = bounded + (bounded.round() - bounded).detach()
        tokens = self._tokens(whole.detach(), steps)
        if self.training:
            self.usage.count(tokens)
        terms = {
            "crowding": self._crowding(bounded, tokens, steps).sum(dim=(1, 2)),
            "codes in use": self.usage.in_use(),
            "perplexity": self.usage.perplexity(),
        }
        return whole / (steps // 2), tokens, terms

    def nearest(self, quantised: Tensor) -> Tensor:
        """Tokens `[N, h, w]` of the grid points nearest to any vectors `[N, D, h, w]` on the quantised scale."""
        levels = self._levels(quantised)
        half = levels // 2
        whole = (quantised.float() * half).round()
        return self._tokens(torch.minimum(torch.maximum(whole, -half), levels - 1 - half), levels)

    def decode_tokens(self, tokens: Tensor) -> Tensor:
        """Tokens `[N, h, w]` -> the quantised float32 `[N, D, h, w]` they stand for."""
        digits, rest = [], tokens
        for level in self.levels:
            digits.append((rest % level - level // 2) / (level // 2))
            rest = rest // level
        return torch.stack(digits, dim=1).float()

    def update(self) -> None:
        """After a step of the optimiser: closes the meter's step."""
        self.usage.update()

    def _crowding(self, bounded: Tensor, tokens: Tensor, steps: Tensor) -> Tensor:
        """The excess `[N, h, w]` in log frequency of the codes taken. Its slope along each channel is by the codes one
        level below and above: an interpolation over all corners of a cell would cost 2^D terms. The meter's average and
        not the batch: no picture's loss depends on its neighbours."""
        average = self.usage.share * self.size
        excess = torch.log(torch.where(average.sum() > 0, average, 1.0).clamp(min=RARE))
        digits, place, slopes = (bounded.detach().round() + steps // 2).long(), 1, []
        for channel, level in enumerate(self.levels):
            below = tokens - place * (digits[:, channel] > 0).long()
            above = tokens + place * (digits[:, channel] < level - 1).long()
            slopes.append((excess[above] - excess[below]) * place / (above - below))
            place *= level
        moved = bounded - bounded.detach()
        return excess[tokens] + (torch.stack(slopes, dim=1) * moved).sum(1)

    def _levels(self, like: Tensor) -> Tensor:
        return constant(self.levels, like.device).view(-1, 1, 1)  # [D, 1, 1]

    @staticmethod
    def _bound(z: Tensor, levels: Tensor) -> Tensor:
        """Values whose rounding takes exactly `levels` whole numbers: -2..2 of five, -2..1 of four."""
        half = (levels - 1) * (1 + 1e-3) / 2
        offset = torch.where(levels % 2 == 0, 0.5, 0.0)
        return torch.tanh(z + torch.atanh(offset / half)) * half - offset

    def _tokens(self, whole: Tensor, levels: Tensor) -> Tensor:
        digits = (whole + levels // 2).long()  # [N, D, h, w], 0 to level - 1
        tokens, place = torch.zeros_like(digits[:, 0]), 1
        for channel, level in enumerate(self.levels):
            tokens, place = tokens + digits[:, channel] * place, place * level
        return tokens


class VQ(nn.Module):
    """Vector quantisation: the nearest of `size` learned codes (van den Oord et al. 2017, arXiv 1711.00937).

    The codebook follows the encoder by moving averages (appendix A.1); a code that is no longer in use starts again at
    a vector of the present batch (Dhariwal et al. 2020, arXiv 2005.00341, section 3.1), and so does every code at the
    first step.
    """

    codebook: Tensor
    moment: Tensor
    seen_sum: Tensor
    candidates: Tensor

    def __init__(self, size: int, channels: int) -> None:
        super().__init__()
        self.size, self.channels = size, channels
        self.usage = Usage(size)
        self.register_buffer("codebook", torch.randn(size, channels))
        self.register_buffer("moment", torch.zeros(size, channels))  # codebook = moment / usage.share
        self.register_buffer("seen_sum", torch.zeros(size, channels))  # sum of the present step's vectors by code
        self.register_buffer("candidates", torch.zeros(size, channels))  # vectors of the present step

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """`z` `[N, D, h, w]` -> quantised float32 of the same shape (gradient passed straight through), tokens int64
        `[N, h, w]`, and terms: `commitment` `[N]` is the squared distance to the codes, summed (Eq. 3, third term)."""
        with torch.autocast(z.device.type, enabled=False):  # nearest by small differences
            z = z.float()
            tokens = self.nearest(z.detach())
        if self.training:
            self._see(z.detach().permute(0, 2, 3, 1).flatten(0, 2), tokens.flatten())
        codes = self.decode_tokens(tokens)
        terms = {
            "commitment": (z - codes).square().sum(dim=(1, 2, 3)),
            "codes in use": self.usage.in_use(),
            "perplexity": self.usage.perplexity(),
        }
        return z + (codes - z).detach(), tokens, terms

    def nearest(self, quantised: Tensor) -> Tensor:
        """Tokens `[N, h, w]` of the codes nearest to vectors `[N, D, h, w]`."""
        vectors = quantised.float().permute(0, 2, 3, 1).flatten(0, 2)  # [N * h * w, D]
        scores = torch.addmm(self.codebook.square().sum(1), vectors, self.codebook.t(), alpha=-2)
        return scores.argmin(dim=1).view(quantised.shape[0], *quantised.shape[2:])

    def decode_tokens(self, tokens: Tensor) -> Tensor:
        """Tokens `[N, h, w]` -> the codes `[N, D, h, w]`."""
        return self.codebook[tokens].permute(0, 3, 1, 2)

    @torch.no_grad()
    def _see(self, vectors: Tensor, tokens: Tensor) -> None:
        self.usage.count(tokens)
        self.seen_sum.index_add_(0, tokens, vectors)
        spread = torch.linspace(0, len(vectors) - 1, self.size, device=vectors.device).long()
        self.candidates.copy_(vectors[spread])

    @torch.no_grad()
    def update(self) -> None:
        """After a step of the optimiser: moves the codes to the mean of what took them, restarts those out of use."""
        past = self.usage.past()
        count = self.usage.update()
        self.moment.mul_(past).add_((1 - past) * total(self.seen_sum) / count.clamp(min=1))
        share = self.usage.share[:, None]
        moved = self.moment / share.clamp(min=1e-12)
        candidates = total(self.candidates if current().rank == 0 else torch.zeros_like(self.candidates))
        restart = (share < IN_USE / self.size) & (count > 0)
        self.codebook.copy_(torch.where(count > 0, torch.where(restart, candidates, moved), self.codebook))
        share.copy_(torch.where(restart, 1 / self.size, share))
        self.moment.copy_(torch.where(count > 0, share * self.codebook, self.moment))
        self.seen_sum.zero_()
        self.candidates.zero_()
