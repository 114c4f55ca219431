"""Adaptive strength of augmentation (Karras et al. 2020, arXiv 2006.06676, section 3.1): as much as keeps D from
learning the training pictures by heart.

The paper's measure of that is r_t = E[sign(D(x))] over training pictures. It supposes that D's sign means something.
For a relativistic or Wasserstein loss it does not: a constant added to D changes no loss. There the measure is
E[sign(D(x) - D(G(z)))] over the pairs that the loss compares, in which the constant cancels; it costs nothing. (The
paper's other measure, r_v, is free of the constant too, but needs pictures held back, of which there are few where this
matters.) A pair is two pictures, so its signs agree more often: if logits of both kinds are normal with one spread, a
share q of right signs of single pictures goes with Phi(sqrt(2) Phi^-1(q)) of right pairs. `paired_target` is that.
"""

from __future__ import annotations

from statistics import NormalDist

import torch
from torch import Tensor, nn

from zeuxis.nn.together import total

STEPS = 4  # steps from one change of the probability to the next, as in the paper


def paired_target(target: float) -> float:
    """The mean sign of pairs that goes with a mean sign `target` (0 to 1) of single pictures; 0.6 gives 0.77."""
    normal = NormalDist()
    right = (1 + min(target, 0.999)) / 2
    return 2 * normal.cdf(2**0.5 * normal.inv_cdf(right)) - 1


class Adaptive(nn.Module):
    """The probability of augmentation and what it follows, in buffers: part of the resume state, on the device.

    `see` adds up signs, `update` moves the probability every few steps, up by as much as the run went on since, divided
    by `reach` (the share of a run in which it can go from 0 to 1), or down. It stays within 0 and `most`.
    """

    def __init__(self) -> None:
        super().__init__()
        for name in ("probability", "progress", "moved_at"):
            self.register_buffer(name, torch.zeros(()))
        self.register_buffer("step", torch.zeros(2))  # sum of signs, and pictures, of the present step here
        self.register_buffer("sums", torch.zeros(2))  # the same since the last move, of all processes

    @property
    def probability_now(self) -> Tensor:
        """The probability, a scalar on the device."""
        return self.get_buffer("probability")

    @torch.no_grad()
    def see(self, margins: Tensor, progress: float) -> None:
        """Takes D's `margins` `[N]` of training pictures, positive where it is right, at `progress` of the run."""
        signs = margins.sign().sum()
        self.get_buffer("step").add_(torch.stack([signs, torch.full_like(signs, len(margins))]))
        self.get_buffer("progress").fill_(progress)

    @torch.no_grad()
    def update(self, target: float, most: float, reach: float, batch: int) -> None:
        """Moves the probability where `STEPS` batches were seen since it moved last."""
        step, sums = self.get_buffer("step"), self.get_buffer("sums")
        sums.add_(total(step))
        step.zero_()
        progress, moved_at, now = self.get_buffer("progress"), self.get_buffer("moved_at"), self.probability_now
        due = sums[1] >= STEPS * batch
        # A finished run that is made longer begins again at a smaller progress.
        went_on = (progress - moved_at).clamp(min=0)
        moved = now + torch.sign(sums[0] / sums[1].clamp(min=1) - target) * went_on / reach
        now.copy_(torch.where(due, moved.clamp(0, most), now))
        moved_at.copy_(torch.where(due, progress, moved_at))
        sums.mul_(~due)
