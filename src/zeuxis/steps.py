"""One optimiser step of a phase: precision, accumulation, the skip of a non-finite step, averaging. Used by the loop,
planning and benchmarks alike."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from zeuxis.config import Precision
from zeuxis.distributed import current
from zeuxis.ema import Average, PowerAverages, decay
from zeuxis.errors import RunFault
from zeuxis.families.base import Batch, Family, Noise, Phase, Stage, TrainingConfig
from zeuxis.flat import FlatParameters, HalfCopy
from zeuxis.memory import give_back, is_out_of_memory
from zeuxis.nn import kernels
from zeuxis.recording import Recorder
from zeuxis.schedules import cosine, ramp

USUAL_STEPS = 50  # whose gradients say how long one usually is


def learning_rate(training: TrainingConfig, progress: float) -> float:
    """Linear warm-up over a share of the run, then half a cosine down to `learning_rate_end` times the rate."""
    falling = cosine(1.0, training.learning_rate_end, min(1.0, progress))
    return training.learning_rate * ramp(progress, training.warmup) * falling


def average_factor(training: TrainingConfig, images_seen: int, total_images: int) -> float:
    """The averaging factor of a step: a half-life of `ema` times the run, shorter while few images were seen."""
    half_life = min(training.ema * total_images, training.ema_ramp * images_seen)
    return decay(training.batch, half_life)


class Group:
    """The networks that one phase moves, with everything that moves them."""

    def __init__(self, networks: Mapping[str, nn.Module], averaged: bool, training: TrainingConfig, half: bool) -> None:
        self.average = Average(networks) if averaged else None
        self.power: PowerAverages | None = None
        self.flat = FlatParameters([network.train() for network in networks.values()])
        self.half = HalfCopy(list(networks.values()), self.flat) if half else None
        working = self.half.networks if self.half else list(networks.values())
        self.working = dict(zip(networks, working, strict=True))  # what losses are computed with
        self.moments = [torch.zeros_like(self.flat.gradient) for _ in range(2)]
        self.steps = torch.zeros((), device=self.flat.gradient.device)
        self.usual = torch.zeros(2, device=self.flat.gradient.device)  # mean logarithm of the gradient's length; steps
        sizes = [parameter.numel() for parameter in self.flat.parameters]
        self.roots = torch.tensor(sizes, device=self.flat.gradient.device).sqrt()
        self.training = training
        self.needs_gradient: bool | None = None  # not known yet

    @torch.no_grad()
    def update(self, rate: float | Tensor, skipped: Tensor) -> None:
        """One Adam step (Kingma & Ba 2014, Algorithm 1), none where `skipped` (a device scalar) is 1.

        The operator behind `torch.optim.Adam(fused=True)`: its wrappers take longer than a small network's update.
        Weight decay is decoupled (Loshchilov & Hutter 2019, arXiv 1711.05101, Algorithm 2) and spares biases and
        scales, which have one axis or none.
        """
        training = self.training
        self.steps += 1 - skipped
        if training.weight_decay:
            self.flat.values[: self.flat.matrices].mul_(1 - rate * training.weight_decay * (1 - skipped))
        if training.clip_update:
            self._steady_update(rate, skipped)
            return
        torch._fused_adam_(
            [self.flat.values], [self.flat.gradient], [self.moments[0]], [self.moments[1]], [], [self.steps],
            lr=rate,  # type: ignore[arg-type]
            beta1=training.beta1, beta2=training.beta2, weight_decay=0.0, eps=training.epsilon,
            amsgrad=False, maximize=False, found_inf=skipped,
        )  # fmt: skip

    @torch.no_grad()
    def too_long(self, norm: Tensor) -> Tensor:
        """Whether a gradient of length `norm` is over `skip_norm` times its usual length, that is the geometric mean of
        the last 50 or so. A longer one counts as if it were just that long: a single one changes little, and where all
        have become longer no run leaves out its steps for good."""
        (usual, steps), length, most = self.usual, norm.log(), math.log(self.training.skip_norm)
        known = torch.where(steps > 0, usual, length)
        away = (length - known).clamp(max=most)
        moved = torch.stack([known + away / (steps + 1).clamp(max=USUAL_STEPS), steps + 1])
        self.usual.copy_(torch.where(length.isfinite(), moved, self.usual))
        return length.isfinite() & (length - known > most)

    def _steady_update(self, rate: float | Tensor, skipped: Tensor) -> None:
        """The Adam step, but a tensor whose step in units of the rate has an RMS above `clip_update` moves by that much
        (StableAdamW, Wortsman et al. 2023, arXiv 2304.13013, Algorithm 2; Shazeer & Stern 2018, arXiv 1804.04235,
        section 6): after a calm time v is small, and the first large gradients would move far too much."""
        training, gradient, (first, second) = self.training, self.flat.gradient, self.moments
        kept = 1 - skipped
        gradient = torch.where(skipped > 0, 0.0, gradient)  # what is not finite must not reach the moments
        first.lerp_(gradient, kept * (1 - training.beta1))
        second.lerp_(gradient.square(), kept * (1 - training.beta2))
        count = self.steps.clamp(min=1)
        step = (second / (1 - training.beta2**count)).sqrt_().add_(training.epsilon)
        step = (first / (1 - training.beta1**count)).div_(step)
        views = self.flat.shaped(step)
        lengths = torch.stack(torch._foreach_norm(views))
        scales = (training.clip_update * self.roots / lengths).clamp(max=1)
        torch._foreach_mul_(views, list(scales.unbind()))
        self.flat.values.sub_(step.mul_(rate * kept))

    def requires_grad(self, needed: bool) -> None:
        """Switches the gradients of all parameters on or off."""
        if needed != self.needs_gradient:
            for network in self.working.values():
                network.requires_grad_(needed)
            self.needs_gradient = needed


class Stepper:
    """Networks of a family with everything that steps them: flat parameters, moments and averages.

    A step never waits for the device: whether it was finite stays a device scalar that masks the update.
    """

    def __init__(
        self, family: Family, networks: dict[str, nn.Module],
        precision: Precision, kernel_set: kernels.Kernels = "plain",
        micro_batch: int = 0, power: bool = False,
    ) -> None:  # fmt: skip
        self.networks, self.precision = networks, precision
        self.micro_batch = micro_batch or family.training.batch
        self.world = current()
        self.recorder: Recorder[Batch, tuple[dict[str, Tensor], Tensor]] | None = None
        if kernel_set == "graphs" and self.world.size == 1:
            self.recorder = Recorder(lambda line: self.say(line))
        self.kernels: kernels.Kernels = "plain" if kernel_set == "graphs" else kernel_set
        self.family = family
        self.say: Callable[[str], None] = lambda line: None  # told when memory made the micro-batch smaller
        self.device = next(p.device for network in networks.values() for p in network.parameters())
        self.groups: dict[tuple[str, ...], Group] = {}
        for phase in (phase for stage in family.stages() for phase in stage.phases):
            if phase.parts not in self.groups:
                own = {part: networks[part] for part in phase.parts}
                averaged = any(part in family.model_parts for part in phase.parts)
                self.groups[phase.parts] = Group(own, averaged, family.training, precision == "bfloat16")
        # What the last stage moves of the model can be averaged anew after training.
        for phase in family.stages()[-1].phases if power else ():
            if self.groups[phase.parts].average is not None:
                self.groups[phase.parts].power = PowerAverages(self.groups[phase.parts].flat)
        moved = [part for parts in self.groups for part in parts]
        assert sorted([*moved, *family.fitted_parts]) == sorted(networks), (
            f"each of {sorted(networks)} belongs to the phases of one group or is fitted, not {moved}"
        )
        self.fitted = {part: networks[part].eval().requires_grad_(False) for part in family.fitted_parts}
        self.working = {part: network for group in self.groups.values() for part, network in group.working.items()}
        self.working |= self.fitted
        self.buffers = [b for part in moved for b in networks[part].buffers() if b.is_floating_point()]

    def step(
        self, phase: Phase, batch: Batch, noise: Noise, *, progress: float, average: float | None, total: int = 0
    ) -> tuple[dict[str, Tensor], Tensor]:
        """One update of `phase` on a batch; `average` is the averaging factor, or None to leave the averages alone.

        With several processes `batch` and `noise` are this one's slice of a batch of `total` pictures; gradients and
        terms are those of the whole batch, so all processes take the same step.
        Returns the terms of the loss as device scalars (of recorded steps the next one overwrites them), and one that
        says whether the step was skipped: 1 where its gradient was not finite, 2 where it was too long (`skip_norm`),
        else 0.
        """
        numbers = {"progress": progress, "rate": learning_rate(self.family.training, progress)}
        numbers |= {} if average is None else {"average": average}
        total = total or len(batch.images)
        if self.recorder is None:
            terms, reason = self._step(phase, batch, noise, numbers, total)
        else:

            def work(batch: Batch, noise: Noise, scalars: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
                return self._step(phase, batch, noise, scalars, total)

            key = phase, total, average is None, self.micro_batch
            terms, reason = self.recorder(key, work, batch, noise, numbers)
        group = self.groups[phase.parts]
        if average is not None and group.power is not None:
            group.power.update(group.flat, reason.clamp(max=1))
        return terms, reason

    def _step(
        self, phase: Phase, batch: Batch, noise: Noise, numbers: Mapping[str, float | Tensor], total: int
    ) -> tuple[dict[str, Tensor], Tensor]:
        """`step` of `numbers`, which are Python's or scalars on the device: this is what is recorded."""
        before = [buffer.clone() for buffer in self.buffers]
        group = self.groups[phase.parts]
        for other in self.groups.values():
            other.requires_grad(other is group)
            if other.half:
                other.half.fill()
        group.flat.zero_grad()
        with kernels.using(self.kernels):
            terms = self._gradient(phase, group, batch, noise, numbers["progress"], total, before)
        norm = group.flat.norm()
        reason = self._judged(group, norm)
        skipped = reason.clamp(max=1)
        group.update(numbers["rate"], skipped)
        with torch.no_grad():
            for buffer, old in zip(self.buffers, before, strict=True):
                buffer.copy_(torch.where(skipped > 0, old, buffer))
        self.family.after_step(phase, self.networks, batch)
        if "average" in numbers and group.average is not None:
            group.average.update(group.flat, numbers["average"], skipped)
        return {**terms, "gradient norm": norm}, reason

    def _judged(self, group: Group, norm: Tensor) -> Tensor:
        """Whether and why the step is to be skipped, a device scalar; clips the gradient where that is asked for."""
        training = self.family.training
        reason = (norm - norm != 0).float()  # infinity and NaN differ from themselves by NaN
        if training.skip_norm:
            reason = torch.where(group.too_long(norm), 2.0, reason)
        if training.clip_norm:
            group.flat.gradient.mul_((training.clip_norm / norm).clamp(max=1))
        return reason

    def _gradient(
        self, phase: Phase, group: Group, batch: Batch, noise: Noise, progress: float | Tensor, total: int,
        before: list[Tensor],
    ) -> dict[str, Tensor]:  # fmt: skip
        """The gradient of the whole batch; where memory runs out, once more with half as many pictures at once."""
        while True:
            try:
                terms = self._backward(phase, group, batch, noise, progress, total)
                break
            except Exception as error:
                if not is_out_of_memory(error) or (self.recorder is not None and self.recorder.recording):
                    raise
            # Not inside the handler: the error holds on to everything that the failed pass has made.
            self._halve(len(batch.images))
            give_back(self.device)
            with torch.no_grad():
                for buffer, old in zip(self.buffers, before, strict=True):
                    buffer.copy_(old)
            group.flat.zero_grad()
            if group.half:
                group.half.gradient.zero_()
        if self.world.size > 1:
            self.world.sum_(group.flat.gradient)
            sums = self.world.sum_(torch.stack([term.float() for term in terms.values()]))
            terms = dict(zip(terms, sums.unbind(), strict=True))
        return terms

    def _halve(self, count: int) -> None:
        """Half as many pictures at once from here on; the batch, and so the training, stays what it is."""
        at_once = min(self.micro_batch, count)
        coupled = self.family.batch_coupled
        if at_once < 2:
            raise RunFault("out of memory with one picture at a time: take a smaller preset or resolution")
        if coupled and self.world.size > 1:
            raise RunFault(f"out of memory; {coupled} couples the processes, which must all take as many pictures at "
                           f"once: try --micro-batch {(at_once + 1) // 2}")  # fmt: skip
        self.micro_batch = (at_once + 1) // 2
        self.say(f"out of memory: {self.micro_batch} pictures at once instead of {at_once} from here on, and as many "
                 "to a step as before" + (f" ({coupled} sees them in these parts)" if coupled else ""))  # fmt: skip

    def _parts(self, count: int, total: int) -> Iterator[tuple[int, int]]:
        """First and last picture of each micro-batch of `count` pictures; as many parts in every process, because a
        network that couples them waits for the others in each."""
        if self.world.size == 1:
            yield from ((start, min(start + self.micro_batch, count)) for start in range(0, count, self.micro_batch))
            return
        parts = min(-(-self.world.largest(total) // self.micro_batch), total // self.world.size)
        yield from ((part * count // parts, (part + 1) * count // parts) for part in range(parts))

    def _backward(
        self, phase: Phase, group: Group, batch: Batch, noise: Noise, progress: float | Tensor, total: int
    ) -> dict[str, Tensor]:
        """Accumulates gradients over micro-batches, each weighted by its share of the batch; returns mean terms."""
        means: dict[str, Tensor] = {}
        for start, stop in self._parts(len(batch.images), total):
            part_noise = {key: value[start:stop] for key, value in noise.items()}
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16"):
                terms = self.family.losses(phase, self.working, batch.slice(start, stop), part_noise, progress)
            share = (stop - start) / total
            scalars = {name: term.mean() if share == 1 else term.mean() * share for name, term in terms.items()}
            scalars["loss"].backward()
            if group.half:
                group.half.hand_over(first=start == 0)
            for name, scalar in scalars.items():
                means[name] = means[name] + scalar.detach() if name in means else scalar.detach()
        return means

    @property
    def family(self) -> Family:
        """The method, which a rollback makes steadier."""
        return self._family

    @family.setter
    def family(self, family: Family) -> None:
        self._family = family
        if self.recorder is not None:
            self.recorder.forget()

    @property
    def averaged(self) -> dict[str, nn.Module]:
        """The averaged networks of the model's parts, in evaluation mode."""
        found: dict[str, nn.Module] = dict(self.fitted)
        for group in self.groups.values():
            found |= group.average.networks if group.average is not None else {}
        return {part: found[part] for part in self.family.model_parts}

    @contextlib.contextmanager
    def at_rest(self) -> Iterator[dict[str, nn.Module]]:
        """All parts in evaluation mode: averaged where there is an average, else as they are trained."""
        networks = {**self.networks, **self.averaged}
        moved = [network for network in networks.values() if network.training]
        for network in moved:
            network.eval()
        try:
            yield networks
        finally:
            for network in moved:
                network.train()

    @torch.no_grad()
    def weight_norms(self, stage: Stage) -> dict[str, float]:
        """Lengths of the weights that the phases of `stage` move, as statistics; waits for the device."""
        groups = {phase.parts: self.groups[phase.parts] for phase in stage.phases}
        return {f"{'+'.join(parts)}/weight norm": group.flat.values.norm().item() for parts, group in groups.items()}

    def _averages(self) -> dict[str, nn.Module]:
        """The averaged networks that are not the networks themselves."""
        return {part: network for part, network in self.averaged.items() if part not in self.fitted}

    def state(self) -> dict[str, Tensor]:
        """Every tensor that a step or a fit changes, by name."""
        state: dict[str, Tensor] = {}
        for part, network in self.networks.items():
            state |= prefixed(f"network.{part}", network.state_dict())
        for part, network in self._averages().items():
            state |= prefixed(f"average.{part}", network.state_dict())
        for parts, group in self.groups.items():
            moments = {
                "first": group.moments[0],
                "second": group.moments[1],
                "steps": group.steps,
                "usual": group.usual,
            }
            state |= prefixed(f"optimizer.{'+'.join(parts)}", moments)
            if group.power is not None:
                state |= prefixed(f"power.{'+'.join(parts)}", group.power.state())
        return state

    def power_averages(self) -> tuple[dict[str, Tensor], int]:
        """The averages of power profile and how many steps they are of, by name; nothing where none are followed."""
        found: dict[str, Tensor] = {}
        count = 0
        for parts, group in self.groups.items():
            if group.power is not None:
                found |= group.power.named(group.flat, {part: self.networks[part] for part in parts})
                count = group.power.count
        return found, count

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `state` returned; `KeyError` or `RuntimeError` where it does not fit."""
        with torch.no_grad():
            for kind, networks in (("network", self.networks), ("average", self._averages())):
                for part, network in networks.items():
                    network.load_state_dict(under(f"{kind}.{part}", state))
            for parts, group in self.groups.items():
                moments = under(f"optimizer.{'+'.join(parts)}", state)
                own = (*group.moments, group.steps, group.usual)
                for target, name in zip(own, ("first", "second", "steps", "usual"), strict=True):
                    target.copy_(moments[name])
                if group.power is not None:
                    group.power.load_state(under(f"power.{'+'.join(parts)}", state))


def prefixed(prefix: str, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`values` with `prefix.` before every key."""
    return {f"{prefix}.{key}": value for key, value in values.items()}


def under(prefix: str, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The entries of `values` below `prefix.`, without it."""
    return {key[len(prefix) + 1 :]: value for key, value in values.items() if key.startswith(prefix + ".")}
