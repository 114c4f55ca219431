"""Adaptive strength of augmentation (Karras et al. 2020, arXiv 2006.06676, section 3.1): as much as keeps D from
learning the training pictures by heart.

Of the paper's two measures of that, r_v is taken (Eq. 1): (E D(train) - E D(validation)) / (E D(train) - E D(fake)), 0
where D takes validation pictures for training pictures, 1 where it takes them for generated ones. The other, r_t =
E[sign(D(train))], supposes that the sign of a logit means something. Under a relativistic or Wasserstein loss it does
not: a constant added to D changes no loss; in r_v it cancels. The sign of D(train) - D(fake) is no way out either:
where few pictures are learned by heart the generator learns to copy them, and that sign falls instead of rising.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zeuxis.nn.together import total

STEPS = 4  # steps from one change of the probability to the next, as in the paper


class Adaptive(nn.Module):
    """The probability of augmentation and what it follows, in buffers: part of the resume state, on the device.

    `see` adds up logits, `update` moves the probability every few steps, up or down by as much as the run went on
    since, divided by `reach` (the share of a run in which it can go from 0 to 1). It stays within 0 and `most`.
    """

    def __init__(self) -> None:
        super().__init__()
        for name in ("probability", "progress", "moved_at"):
            self.register_buffer(name, torch.zeros(()))
        # Sums of logits of training, validation and generated pictures, and how many of each there were.
        self.register_buffer("step", torch.zeros(4))  # in the present step, here
        self.register_buffer("sums", torch.zeros(4))  # since the last move, of all processes

    @property
    def probability_now(self) -> Tensor:
        """The probability, a scalar on the device."""
        return self.get_buffer("probability")

    @torch.no_grad()
    def see(self, train: Tensor, validation: Tensor, fake: Tensor, progress: float | Tensor) -> None:
        """Takes D's logits `[N]` of three kinds of pictures, all of them augmented, at `progress` of the run."""
        sums = [each.detach().float().sum() for each in (train, validation, fake)]
        self.get_buffer("step").add_(torch.stack([*sums, torch.full_like(sums[0], len(train))]))
        self.get_buffer("progress").fill_(progress)

    @torch.no_grad()
    def update(self, target: float, most: float, reach: float, batch: int) -> None:
        """Moves the probability where `STEPS` batches were seen since it moved last."""
        step, sums = self.get_buffer("step"), self.get_buffer("sums")
        sums.add_(total(step))
        step.zero_()
        progress, moved_at, now = self.get_buffer("progress"), self.get_buffer("moved_at"), self.probability_now
        due = sums[3] >= STEPS * batch
        train, validation, fake = sums[0], sums[1], sums[2]
        # r_v > target, without a division by what is next to nothing where D tells nothing apart.
        way = torch.sign(train - validation - target * (train - fake).clamp(min=0))
        # A finished run that is made longer begins again at a smaller progress.
        went_on = (progress - moved_at).clamp(min=0)
        now.copy_(torch.where(due, (now + way * went_on / reach).clamp(0, most), now))
        moved_at.copy_(torch.where(due, progress, moved_at))
        sums.mul_(~due)
