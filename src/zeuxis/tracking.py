"""Running statistics that stay on the device until they are due, so that no step waits for it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class Statistics:
    """Sums and counts of named device scalars; `read` is the only wait for the device.

    A skipped step is counted, by its reason, and its terms are left out, on the device.
    """

    def __init__(self, device: torch.device) -> None:
        self.names: dict[str, tuple[str, ...]] = {}
        self.sums: dict[str, Tensor] = {}  # phase -> [2, terms]: sums and counts
        self.skipped = torch.zeros(2, device=device)  # steps that were not finite: in all, in a row
        self.too_large = torch.zeros((), device=device)  # steps above `skip_norm`

    def add(self, phase: str, terms: Mapping[str, Tensor], skipped: Tensor) -> None:
        """Adds the terms of one step; `skipped` is a device scalar: 1 not finite, 2 above `skip_norm`, else 0."""
        values = torch.stack([term.detach().float() for term in terms.values()])
        good, unfinite, large = (skipped == 0).float(), (skipped == 1).float(), (skipped == 2).float()
        row = torch.stack([torch.nan_to_num(values, posinf=0.0, neginf=0.0) * good, good.expand(len(values))])
        self.names[phase] = tuple(terms)
        self.sums[phase] = self.sums[phase] + row if phase in self.sums else row
        self.skipped = torch.stack([self.skipped[0] + unfinite, (self.skipped[1] + unfinite) * unfinite])
        self.too_large = self.too_large + large

    def read(self) -> dict[str, float]:
        """Means since the last `read` by `phase/term`, and the skipped steps so far; clears the sums."""
        means: dict[str, float] = {}
        for phase, row in self.sums.items():
            sums, counts = row.tolist()
            for name, value, count in zip(self.names[phase], sums, counts, strict=True):
                if count:
                    means[f"{phase}/{name}"] = value / count
        self.sums.clear()
        means["skipped steps"] = self.skipped[0].item()
        if large := self.too_large.item():
            means["steps above skip_norm"] = large
        return means

    @property
    def skipped_in_a_row(self) -> int:
        """How many of the last steps were not finite without another between them; waits for the device."""
        return int(self.skipped[1].item())

    def state(self) -> dict[str, Tensor]:
        """Everything that `add` changes, by name; the terms are in the order of `names`."""
        return {
            "skipped": self.skipped,
            "too_large": self.too_large,
            **{f"sums.{phase}": row for phase, row in self.sums.items()},
        }

    def load_state(self, state: Mapping[str, Tensor], names: Mapping[str, list[str]]) -> None:
        """Takes over what `state` returned and the names of the terms that went with it."""
        device = self.skipped.device
        self.skipped, self.too_large = state["skipped"].to(device), state["too_large"].to(device)
        self.names = {phase: tuple(terms) for phase, terms in names.items()}
        self.sums = {key[len("sums.") :]: row.to(device) for key, row in state.items() if key.startswith("sums.")}
