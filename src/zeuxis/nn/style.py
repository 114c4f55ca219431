"""What makes a generator style-based: modulated convolution and latents by level (Karras et al. 2020, arXiv
1912.04958)."""

from __future__ import annotations

import torch
from torch import Tensor


def mix_levels(w: Tensor, other: Tensor, at: Tensor, probability: float) -> Tensor:
    """w `[N, L, W]` whose levels from a random one on are `other`'s: style mixing (Karras et al. 2018, arXiv
    1812.04948, section 3.1).

    `at` `[N]`, uniform in [0, 1), says which pictures are mixed (those below `probability`) and from which level 1 to
    L - 1 on; level 0 is always w's.
    """
    levels = w.shape[1]
    first = 1 + (at / max(probability, 1e-12) * (levels - 1)).floor()
    taken = (at < probability)[:, None] & (torch.arange(levels, device=w.device) >= first[:, None])  # [N, L]
    return torch.where(taken[:, :, None], other, w)
