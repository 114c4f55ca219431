"""Pictures of any origin against data -> a table of metrics, each value with N, extractor, reference and real floor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t

from zeuxis.checkpoint import Model
from zeuxis.data import Dataset
from zeuxis.errors import DataError, UserError
from zeuxis.metrics import METRICS, Metric, lookup
from zeuxis.metrics.extractors import EXTRACTORS, Extractor, Features, make_extractor, split_features
from zeuxis.metrics.kernel import kernel_distance
from zeuxis.sampling import Sampler

Chunks = Iterable[NDArray[np.uint8]]  # pictures uint8 [n, C, H, W]
Progress = Callable[[str, int, int], None]
Group = Literal["distance", "fidelity and diversity", "memorisation", "likelihood", "appearance"]

LEAST = 20  # pictures on each side: fewer say nothing
SELECTION_GENERATED, SELECTION_REFERENCE = 1000, 2000
SELECTION_FEATURES = "random"
MAX_TRAINING = 200_000  # training pictures among which copies are looked for


@dataclass(frozen=True)
class Row:
    """One value of the table.

    `floor` is what as many real training pictures reach against the same reference: the best that a model which does
    not copy can hope for. `interval` holds the value with 95% confidence. `reference` is the split, `num` the pictures
    on each side, `seeds` the first seeds of the sampling draws (empty for foreign pictures).
    """

    metric: str
    title: str
    group: Group
    value: float
    better: Literal["lower", "higher"]
    floor: float | None
    interval: tuple[float, float] | None
    num: int
    reference: str
    extractor: str
    extractor_sha256: str
    data_fingerprint: str
    seeds: tuple[int, ...] = ()
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "interval": list(self.interval) if self.interval else None, "seeds": list(self.seeds)}


def evaluate(
    pictures: Chunks, dataset: Dataset, *, num: int = 10_000, metrics: Sequence[str] = (),
    features: Sequence[str] = ("dataset",), seeds: tuple[int, ...] = (), progress: Progress | None = None,
) -> list[Row]:  # fmt: skip
    """Judges the first `num` of `pictures` (uint8 `[n, C, H, W]` of the data's spec) against the held-out split.

    Both sides have the same number: `num`, or what the smaller side has. `metrics` are names of `METRICS`, all when
    empty; `features` names of `EXTRACTORS`; `seeds` are noted only. `DataError` where either side has too few.
    """
    progress = progress or (lambda what, done, total: None)
    chosen = {name: lookup(name) for name in (metrics or METRICS)}
    for name in features:
        if name not in EXTRACTORS:
            raise UserError("--features", name, ", ".join(EXTRACTORS), "see docs/evaluation.md")
    num = min(num, len(dataset.test))
    if num < LEAST:
        raise DataError("DATA", f"{num} held-out pictures in {dataset.name}", f"at least {LEAST}", "give more pictures")
    extractors = []
    for name in features:
        progress(f"preparing the extractor `{name}`", 0, 0)
        extractors.append(make_extractor(name, dataset))
    generated = _generated(pictures, dataset, extractors, num, progress)
    rows: list[Row] = []
    for place, (extractor, own) in enumerate(zip(extractors, generated, strict=True)):
        # Copies are looked for in the first extractor alone: all training pictures must go through it.
        wanted = {name: metric for name, metric in chosen.items() if not metric.needs_training or place == 0}
        rows += _judge(own, extractor, dataset, wanted, seeds, progress)
    return rows


def _generated(
    pictures: Chunks, dataset: Dataset, extractors: Sequence[Extractor], num: int, progress: Progress
) -> list[Features]:
    """Features `[num, D]` by extractor; each picture is made once and goes through all of them."""
    parts: list[list[Features]] = [[] for _ in extractors]
    seen = 0
    for chunk in pictures:
        chunk = chunk[: num - seen]
        if chunk.shape[1:] != dataset.spec.shape:
            allowed = f"pictures of {dataset.spec}, as {dataset.name} has them"
            raise DataError("pictures", list(chunk.shape[1:]), allowed, "open the data at the pictures' resolution")
        for extractor, own in zip(extractors, parts, strict=True):
            own.append(extractor([chunk]))
        seen += len(chunk)
        progress("features of the pictures", seen, num)
        if seen >= num:
            break
    if seen < LEAST:
        raise DataError("pictures", seen, f"at least {LEAST} to be judged", "make more")
    return [np.concatenate(own) for own in parts]


def _judge(
    generated: Features, extractor: Extractor, dataset: Dataset, metrics: dict[str, Metric], seeds: tuple[int, ...],
    progress: Progress,
) -> list[Row]:  # fmt: skip
    """All rows of one extractor."""
    num = len(generated)
    reference = split_features(extractor, dataset, "test", num, progress)
    real = split_features(extractor, dataset, "train", num, progress)
    rows = []
    for name, metric in metrics.items():
        progress(name, 0, 0)
        if metric.needs_training:
            training = split_features(extractor, dataset, "train", MAX_TRAINING, progress)
            values = metric.function(generated, reference, training)
            floors = dict.fromkeys(values, 0.0)  # real new pictures copy nothing, by the metric's definition
        else:
            values = metric.function(generated, reference)
            floors = metric.function(real, reference) if len(real) == num else {}
        enough = metric.pictures_per_feature * generated.shape[1]
        note = f"unreliable: needs more than {enough:.0f} pictures" if num < enough else ""
        for key, value in values.items():
            full = f"{key}{_short(num)}_{extractor.name}" if metric.counted else f"{key}_{extractor.name}"
            rows.append(
                Row(
                    full, metric.about, metric.group, value, metric.better[key], floors.get(key), None, num, "test",
                    extractor.name, extractor.sha256, dataset.fingerprint, seeds, note,
                )
            )  # fmt: skip
    return rows


def evaluate_model(
    model: Model, dataset: Dataset, *, num: int = 10_000, metrics: Sequence[str] = (),
    features: Sequence[str] = ("dataset",), draws: int = 3, seed: int = 0, device: str = "cpu",
    progress: Progress | None = None,
) -> list[Row]:  # fmt: skip
    """Judges `draws` draws of `num` pictures each (seeds from `seed` on): means, and 95% intervals over the draws."""
    sampler = Sampler(model, device)
    num = min(num, len(dataset.test))
    firsts = tuple(seed + draw * num for draw in range(draws))
    tables = [
        evaluate(sampler(range(first, first + num)), dataset, num=num, metrics=metrics, features=features,
                 seeds=firsts, progress=progress)
        for first in firsts
    ]  # fmt: skip
    rows = []
    for same in zip(*tables, strict=True):
        values = np.array([row.value for row in same])
        half = float(student_t.ppf(0.975, draws - 1) * values.std(ddof=1) / draws**0.5) if draws > 1 else None
        mean = float(values.mean())
        rows.append(replace(same[0], value=mean, interval=None if half is None else (mean - half, mean + half)))
    return rows


def _short(num: int) -> str:
    """10000 -> `10k`, as the field writes it; 360 -> `360`."""
    return f"{num // 1000}k" if num % 1000 == 0 else str(num)


def selection_score(dataset: Dataset) -> Callable[[Iterator[NDArray[np.uint8]]], tuple[str, float]] | None:
    """The in-training score that chooses the model: lower is better; None where no validation pictures are left.

    Kernel distance to validation pictures (cut from the training split; the test split stays untouched) in a network
    of fixed random weights, so that the extractors that report are never chosen by. Unbiased, so that few validation
    pictures do for it; all snapshots meet the same ones and the same seeds: their differences are steadier than each.
    """
    if len(dataset.val) < LEAST:
        return None
    extractor = make_extractor(SELECTION_FEATURES, dataset)
    reference = split_features(extractor, dataset, "val", SELECTION_REFERENCE)

    def score(pictures: Iterator[NDArray[np.uint8]]) -> tuple[str, float]:
        generated = extractor(_first(pictures, SELECTION_GENERATED))
        return f"kid_val_{SELECTION_FEATURES}", kernel_distance(generated, reference)

    return score


def _first(chunks: Iterator[NDArray[np.uint8]], count: int) -> Iterator[NDArray[np.uint8]]:
    left = count
    while left > 0:
        for chunk in islice(chunks, 1):
            yield chunk[:left]
            left -= len(chunk)
