"""What a snapshot shows, and which model is kept: sheets, the score, and the model folder where it is the best so
far."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from zeuxis.checkpoint import Model
from zeuxis.data import Dataset
from zeuxis.images import save_png
from zeuxis.metrics.model import classified_right, held_out_nats
from zeuxis.prediction import prediction_score, prediction_sheet
from zeuxis.runs import RunFolder
from zeuxis.sampling import Sampler, synthetic_mark
from zeuxis.snapshot import reconstruction_sheet, sample_sheet, write_model
from zeuxis.watchdog import diversity

DIVERSITY_PICTURES = 64
CLASSIFIED_PICTURES = 2000  # validation pictures whose classes are guessed at a snapshot, at most
LIKELIHOOD_PICTURES = 1000  # validation pictures whose likelihood is computed at a snapshot, at most

# (pictures uint8 [n, C, H, W] of the averaged networks from fixed seeds) -> (metric, value), lower is better; or that
# and more for the watchdog to see, such as coverage.
Scored = tuple[str, float] | tuple[str, float, Mapping[str, float]]
Score = Callable[[Iterator[NDArray[np.uint8]]], Scored]


@dataclass(frozen=True)
class Evaluation:
    """What a snapshot found: whether the model is the best so far, what the watchdog sees of it, and what to say."""

    better: bool = False
    seen: dict[str, float] = field(default_factory=dict)
    said: str = ""


class Selection:
    """The snapshots of a run folder and its best model; `best` is (metric, value) of the model that is kept."""

    def __init__(self, folder: RunFolder, dataset: Dataset, device: torch.device) -> None:
        self.folder, self.dataset, self.device = folder, dataset, device
        self.best: tuple[str, float] | None = None

    def show(self, model: Model) -> None:
        """Sheets of what the model makes of pictures that it is given, where it can."""
        if "reconstruct" in model.family.capabilities:
            sheet = reconstruction_sheet(model, self.dataset, self.device)
            save_png(sheet, self._file("reconstructions", model), synthetic_mark(model))
        if "predict" in model.family.capabilities:
            split = self.dataset.val if len(self.dataset.val) else self.dataset.train
            sheet = prediction_sheet(model, split, self.device)
            save_png(sheet, self._file("predictions", model), synthetic_mark(model, composite=True))

    def choose(self, model: Model, score: Score | None, seconds: float) -> Evaluation:
        """Samples of fixed seeds, their score, and the model folder where they are the best so far.

        Without a score the last snapshot is the best. Weights that are not finite are never kept.
        """
        sampler = Sampler(model, self.device)
        sheet = sample_sheet(sampler)
        save_png(sheet, self._file("samples", model), synthetic_mark(model))
        first: list[NDArray[np.uint8]] = []
        scored: Scored | None = None
        if model.family.context:
            scored = prediction_score(model, self.dataset.val, self.device)
        elif score and model.family.chosen_by_nats and len(self.dataset.val):
            # What was trained is what is asked for; and a thousand pictures drawn value by value would take minutes.
            scored = "nll_val", held_out_nats(model, self.dataset.val, LIKELIHOOD_PICTURES, self.device)
        elif score:
            scored = score(_kept(sampler(range(10**9)), first))
        seen: dict[str, float] = {}
        if model.spec.frames == 1 and len(self.dataset.train) > 1:
            seen["diversity"] = self._diversity(first or list(sampler(range(DIVERSITY_PICTURES))))
        name, value = scored[:2] if scored else ("images seen", -float(model.about["images_seen"]))
        if scored:
            seen |= {"metric": value, **(scored[2] if len(scored) > 2 else {})}
            more = {key: round(number, 5) for key, number in seen.items() if key != "metric"}
            self._row(model, {"metric": name, "value": value, **more}, seconds)
        improved = self.best is None or not math.isfinite(self.best[1]) or value < self.best[1]
        better = improved and _finite(model)
        if better:
            self.best = (name, value)
            model.about["chosen_by"] = f"{name} {value:.5g}" if scored else "last snapshot"
            write_model(model, sheet, self.folder.path / "model")
        said = f": {name} {value:.5g}{', the best so far' if better else ''}" if scored else ""
        return Evaluation(better, seen, said + self._classified(model, seconds))

    def untrained(self, model: Model, score: Score | None) -> dict[str, float]:
        """What the score says of networks that have learned nothing, roughly: what the watchdog measures losses by."""
        if score is None or model.family.context or model.family.chosen_by_nats:
            return {}
        pictures = np.concatenate(list(Sampler(model, self.device)(range(DIVERSITY_PICTURES))))
        return {"untrained": score(repeat(pictures))[1]}

    def _classified(self, model: Model, seconds: float) -> str:
        """What to say of how many validation pictures the model puts into the right class."""
        if "classify" not in model.family.capabilities:
            return ""
        right = classified_right(model, self.dataset.val, CLASSIFIED_PICTURES, self.device)
        if not len(right):
            return ""
        self._row(model, {"metric": "accuracy_val", "value": right.mean()}, seconds)
        return f"; {right.mean():.2%} of {len(right)} validation pictures are put into their class"

    def _diversity(self, samples: list[NDArray[np.uint8]]) -> float:
        """How diverse the first samples are beside as many training pictures spread over the split."""
        places = np.linspace(0, len(self.dataset.train) - 1, min(DIVERSITY_PICTURES, len(self.dataset.train)))
        pictures = self.dataset.train.take(places.astype(np.int64))
        return diversity(np.concatenate(samples)[:DIVERSITY_PICTURES], pictures)

    def _row(self, model: Model, row: dict[str, Any], seconds: float) -> None:
        self.folder.row(
            "metrics.jsonl", {"images_seen": model.about["images_seen"], **row, "seconds": round(seconds, 3)}
        )

    def _file(self, what: str, model: Model) -> Path:
        # Short runs have several in one kimg.
        return self.folder.path / f"{what}-{model.about['images_seen'] / 1000:010.3f}kimg.png"


def _kept(chunks: Iterator[NDArray[np.uint8]], first: list[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    """`chunks`, of which those with the first pictures are put into `first` as they go by."""
    for chunk in chunks:
        if sum(len(other) for other in first) < DIVERSITY_PICTURES:
            first.append(chunk)
        yield chunk


def _finite(model: Model) -> bool:
    return all(bool(value.isfinite().all()) for network in model.networks.values()
               for value in network.state_dict().values() if value.is_floating_point())  # fmt: skip
