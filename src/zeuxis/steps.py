"""One optimiser step of a phase: precision, accumulation, the skip of a non-finite step, averaging. Used by the loop,
planning and benchmarks alike."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from zeuxis.ema import Average, decay
from zeuxis.families.base import Batch, Family, Noise, Phase, TrainingConfig
from zeuxis.flat import FlatParameters
from zeuxis.nn import kernels

Precision = Literal["float32", "bfloat16"]


def learning_rate(training: TrainingConfig, progress: float) -> float:
    """Linear warm-up over a share of the run, then half a cosine down to `learning_rate_end` times the rate."""
    warm = min(1.0, progress / training.warmup) if training.warmup else 1.0
    end = training.learning_rate_end
    return training.learning_rate * warm * (end + (1 - end) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def average_factor(training: TrainingConfig, images_seen: int, total_images: int) -> float:
    """The averaging factor of a step: a half-life of `ema` times the run, shorter while few images were seen."""
    half_life = min(training.ema * total_images, training.ema_ramp * images_seen)
    return decay(training.batch, half_life)


class Stepper:
    """Networks of a family with everything that steps them: flat parameters, optimisers and averages.

    A step never waits for the device: whether it was finite stays a device scalar that masks the update.
    """

    def __init__(
        self, family: Family, networks: dict[str, nn.Module], precision: Precision, kernel_set: kernels.Kernels = "plain",
        micro_batch: int = 0,
    ) -> None:  # fmt: skip
        self.family, self.networks, self.precision, self.kernels = family, networks, precision, kernel_set
        self.micro_batch = micro_batch or family.training.batch
        self.device = next(p.device for network in networks.values() for p in network.parameters())
        self.averages = {part: Average(networks[part]) for part in family.model_parts}
        self.flats = {part: FlatParameters(network.train()) for part, network in networks.items()}
        self.buffers = [b for network in networks.values() for b in network.buffers() if b.is_floating_point()]
        self.optimizers: dict[str, torch.optim.Adam] = {}
        for stage in family.stages():
            for phase in stage.phases:
                self.optimizers[phase.name] = self._optimizer(phase)

    def _optimizer(self, phase: Phase) -> torch.optim.Adam:
        training = self.family.training
        flats = [self.flats[part].values for part in phase.parts if self.flats[part].values.numel()]
        return torch.optim.Adam(
            flats, lr=training.learning_rate, betas=(training.beta1, training.beta2), eps=training.epsilon, fused=True
        )

    def step(
        self, phase: Phase, batch: Batch, noise: Noise, *, progress: float, average: float | None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """One update of `phase` on a batch; `average` is the averaging factor, or None to leave the averages alone.

        Returns the terms of the loss as device scalars, and a device scalar that is 1 where the step was skipped
        because its gradient was not finite.
        """
        before = [buffer.clone() for buffer in self.buffers]
        for part, network in self.networks.items():
            network.requires_grad_(part in phase.parts)
        for part in phase.parts:
            self.flats[part].zero_grad()
        with kernels.using(self.kernels):
            terms = self._backward(phase, batch, noise, progress)
        norm = torch.stack([self.flats[part].norm() for part in phase.parts]).norm()
        skipped = (~torch.isfinite(norm)).float()
        optimizer = self.optimizers[phase.name]
        optimizer.param_groups[0]["lr"] = learning_rate(self.family.training, progress)
        optimizer.found_inf = skipped  # type: ignore[attr-defined]  # what GradScaler hands to a fused optimiser
        optimizer.step()
        with torch.no_grad():
            for buffer, old in zip(self.buffers, before, strict=True):
                buffer.copy_(torch.where(skipped > 0, old, buffer))
        self.family.after_step(phase, self.networks, batch)
        if average is not None:
            for part in phase.parts:
                if part in self.averages:
                    self.averages[part].update(self.flats[part], average, skipped)
        return {**terms, "gradient norm": norm}, skipped

    def _backward(self, phase: Phase, batch: Batch, noise: Noise, progress: float) -> dict[str, Tensor]:
        """Accumulates gradients over micro-batches, each weighted by its share of the batch; returns mean terms."""
        total = len(batch.images)
        means: dict[str, Tensor] = {}
        for start in range(0, total, self.micro_batch):
            stop = min(start + self.micro_batch, total)
            part_noise = {key: value[start:stop] for key, value in noise.items()}
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16"):
                terms = self.family.losses(phase, self.networks, batch.slice(start, stop), part_noise, progress)
            share = (stop - start) / total
            scalars = {name: term.mean() * share for name, term in terms.items()}
            scalars["loss"].backward()
            for name, scalar in scalars.items():
                means[name] = means[name] + scalar.detach() if name in means else scalar.detach()
        return means

    @property
    def averaged(self) -> dict[str, nn.Module]:
        """The averaged networks, in evaluation mode."""
        return {part: average.network for part, average in self.averages.items()}

    def state(self) -> dict[str, Tensor]:
        """Every tensor that a step changes, by name."""
        state: dict[str, Tensor] = {}
        for part, network in self.networks.items():
            state |= prefixed(f"network.{part}", network.state_dict())
        for part, average in self.averages.items():
            state |= prefixed(f"average.{part}", average.network.state_dict())
        for name, optimizer in self.optimizers.items():
            for index, parameter in enumerate(optimizer.param_groups[0]["params"]):
                state |= prefixed(f"optimizer.{name}.{index}", optimizer.state.get(parameter, {}))
        return state

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `state` returned; a missing or unknown name is an error of the caller."""
        with torch.no_grad():
            for kind, networks in (("network", self.networks), ("average", self.averaged)):
                for part, network in networks.items():
                    network.load_state_dict(under(f"{kind}.{part}", state))
            for name, optimizer in self.optimizers.items():
                for index, parameter in enumerate(optimizer.param_groups[0]["params"]):
                    values = under(f"optimizer.{name}.{index}", state)
                    if values:
                        optimizer.state[parameter] = {key: value.clone() for key, value in values.items()}


def prefixed(prefix: str, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`values` with `prefix.` before every key."""
    return {f"{prefix}.{key}": value for key, value in values.items()}


def under(prefix: str, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The entries of `values` below `prefix.`, without it."""
    return {key[len(prefix) + 1 :]: value for key, value in values.items() if key.startswith(prefix + ".")}
