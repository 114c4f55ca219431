"""Averages of other lengths for a trained run: each is made, judged on validation pictures, and the best becomes the
run's model."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from zeuxis import posthoc
from zeuxis.checkpoint import AverageStore, Model, load_model
from zeuxis.config import TrainOptions, parse
from zeuxis.data import Dataset
from zeuxis.errors import UserError
from zeuxis.feed import Feed
from zeuxis.randomness import seed_of
from zeuxis.runs import RunFolder
from zeuxis.sampling import Sampler
from zeuxis.selection import Score
from zeuxis.snapshot import sample_sheet, write_model

LENGTHS = (0.03, 0.04, 0.05, 0.075, 0.10, 0.15, 0.20)  # sigma_rel; what eight moments span within a tenth
Moments = list[tuple[int, dict[str, Tensor]]]


@dataclass(frozen=True)
class Tried:
    """One line of the table: the length (sigma_rel), or None for the model as it was, its score, and whether it is the
    run's model now."""

    length: float | None
    metric: str
    value: float
    chosen: bool = False


def tune(
    run: Path, dataset: Dataset, score: Score, *, lengths: Sequence[float] = LENGTHS,
    device: str | torch.device = "cpu", progress: Callable[[str], None] | None = None,
) -> list[Tried]:  # fmt: skip
    """Tries averages of `lengths` (sigma_rel) for the last stage of `run`; returns what was tried, the model as it was
    first.

    The model folder is replaced as a whole, and only by a better one. `UserError` where the run kept no averages.
    """
    folder = RunFolder.open(run, "RUN")
    try:
        model, moments = load_model(run), AverageStore(run / "ema").load()
        if not moments:
            allowed = "a run with averages in its folder `ema`"
            raise UserError("RUN", str(run), allowed, "runs of 2,000 steps and more keep them")
        asked = folder.config["asked"]
        if asked["data"] != dataset.key:
            raise UserError("--data", dataset.name, "the data that the run was trained on", "leave --data out")
        options = parse(TrainOptions, asked["options"], "RUN")
        say = progress or (lambda text: None)
        say("the model as it is")
        tried, best = [_tried(None, model, score, device)], model
        feed = Feed(dataset, model.family.conditional, options, torch.device(device), model.family.semi_supervised)
        for length in lengths:
            say(f"length {length:g}")
            other = _averaged(model, moments, length)
            with torch.no_grad():
                model.family.fit(other.networks, feed.once, seed_of(options.seed, "fit", length))
            tried.append(_tried(length, other, score, device))
            if tried[-1].value < min(
                (each.value for each in tried[:-1] if math.isfinite(each.value)), default=math.inf
            ):
                best = other
        least = min(range(len(tried)), key=lambda place: _finite(tried[place].value))
        if best is not model:
            chosen = tried[least]
            best.about["chosen_by"] = f"{chosen.metric} {chosen.value:.5g}, average of length {chosen.length:g}"
            write_model(best, sample_sheet(Sampler(best, device)), run / "model")
            folder.log(f"tune-ema: the average of length {chosen.length:g} is the model now, "
                       f"{chosen.metric} {chosen.value:.5g} instead of {tried[0].value:.5g}")  # fmt: skip
        return [replace(each, chosen=place == least) for place, each in enumerate(tried)]
    finally:
        folder.close()


def _finite(value: float) -> float:
    return value if math.isfinite(value) else math.inf


def _tried(length: float | None, model: Model, score: Score, device: str | torch.device) -> Tried:
    sampler = Sampler(model, device)
    metric, value, *_ = score(sampler(range(10**9)))
    return Tried(length, metric, value)


def _averaged(model: Model, moments: Moments, length: float) -> Model:
    """`model` with the parts that were averaged as they would be with an average of `length`; the rest as it is, and
    running statistics as they were at the end of the run."""
    last, tensors = moments[-1]
    names = {key.split(".", 2)[2] if key.startswith("0.") else "" for key in tensors}
    names = {name for name in names if name and name.split(".")[0] in model.networks}
    kept = [(posthoc.gamma_of(sigma), count / last) for count, _ in moments for sigma in posthoc.FOLLOWED]
    factors = posthoc.coefficients(kept, (posthoc.gamma_of(length), 1.0))
    networks: dict[str, nn.Module] = {part: copy.deepcopy(network) for part, network in model.networks.items()}
    for part, network in networks.items():
        state = network.state_dict()
        for key, value in state.items():
            if f"{part}.{key}" in names:
                each = _each(moments, f"{part}.{key}")
                total = sum(float(factor) * other.double() for factor, other in zip(factors, each, strict=True))
                value.copy_(torch.as_tensor(total))
            elif f"buffer.{part}.{key}" in tensors:
                value.copy_(tensors[f"buffer.{part}.{key}"])
    return replace(model, networks=networks, about=dict(model.about))


def _each(moments: Moments, name: str) -> Iterator[Tensor]:
    """A parameter's averages in the order of moments and of the followed lengths."""
    return (tensors[f"{sigma}.{name}"] for _, tensors in moments for sigma in posthoc.FOLLOWED)
