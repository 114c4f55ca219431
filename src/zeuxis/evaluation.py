"""Pictures of any origin, or a model, against data -> a table of metrics, each value with its interval, N, extractor,
reference and real-versus-real floor."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeuxis.augment import KINDS, Kind
from zeuxis.checkpoint import Model
from zeuxis.data import Dataset
from zeuxis.distributed import current
from zeuxis.errors import DataError, UserError
from zeuxis.metrics import METRICS, Better, Group, Metric, lookup
from zeuxis.metrics.accuracy_score import accuracy_score
from zeuxis.metrics.base import Estimate, Pair, Side, Training, combine
from zeuxis.metrics.distances import nearest
from zeuxis.metrics.extractors import (
    EXTRACTORS,
    Extractor,
    Progress,
    features_key,
    make_extractor,
    of_appearance,
    of_classifier,
    of_pixels,
    split_features,
    split_positions,
)
from zeuxis.metrics.leak import leak
from zeuxis.metrics.model import NEEDS, augmented_by, model_estimates, refusal
from zeuxis.metrics.recipe import is_supervised
from zeuxis.metrics.selection import LEAST, SELECTION_FEATURES, first
from zeuxis.metrics.store import stored
from zeuxis.sampling import Sampler

Chunks = Iterable[NDArray[np.uint8]]  # pictures uint8 [n, C, H, W]

QUICK_STEPS = 128  # passes per picture up to which ten thousand pictures take minutes
MAX_TRAINING = 200_000  # training pictures among which copies are looked for
LEAK_PICTURES = 1000  # generated, that are looked at for traces of augmentation
METRICS_VERSION = 3  # part of the cache key of floors
FIXED = {"pixels": of_pixels, "appearance": of_appearance, "classifier": of_classifier}
# Numbers in the name of a model selected by them would be no judgement: `random` is for choosing alone.
REPORTING = tuple(name for name in EXTRACTORS if name != SELECTION_FEATURES)


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
    better: Better
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


@dataclass(frozen=True)
class Draw:
    """One set of pictures to judge: chunks uint8 `[n, C, H, W]`, and a class for each where they were made by class."""

    pictures: Chunks
    labels: NDArray[np.int64] | None = None


def evaluate(
    pictures: Chunks, dataset: Dataset, *, num: int = 10_000, metrics: Sequence[str] = (),
    features: Sequence[str] = ("dataset",), seeds: tuple[int, ...] = (), labels: NDArray[np.int64] | None = None,
    progress: Progress | None = None,
) -> list[Row]:  # fmt: skip
    """Judges the first `num` of `pictures` (uint8 `[n, C, H, W]` of the data's spec) against the held-out split.

    Both sides have the same number: `num`, or what the smaller side has. `metrics` are names of `METRICS`, all that
    apply when empty; `features` names of `EXTRACTORS`; `seeds` are noted only; `labels` are the classes the pictures
    were made as. `DataError` where either side has too few.
    """
    judge = _Judge(dataset, metrics, features, num, progress, makes_labels=labels is not None)
    for name in metrics:
        if "model" in METRICS[name].inputs and not (name == "accuracy_score" and labels is not None):
            raise UserError("--metrics", name, "metrics of pictures alone", "it needs a model folder to be asked")
    return judge.rows([Draw(pictures, labels)], seeds)


def evaluate_model(
    model: Model, dataset: Dataset, *, num: int = 10_000, metrics: Sequence[str] = (),
    features: Sequence[str] = ("dataset",), draws: int = 3, seed: int = 0, device: str = "cpu",
    progress: Progress | None = None,
) -> list[Row]:  # fmt: skip
    """Judges `draws` draws of `num` pictures each, of the seeds from `seed` on, and what only a model can be asked:
    likelihood, reconstruction, accuracy of a classifier trained on its pictures. A capability that it lacks makes no
    row; one asked for by name is a `UserError`."""
    if model.family.context:
        raise UserError("MODEL", model.name, "a model of pictures", "`zeuxis evaluate` judges predicted frames")
    if draws < 1:
        raise UserError("draws", draws, "1 or more", "3 are the protocol")
    labelled = bool(model.drawn_classes) and model.drawn_classes == dataset.classes
    judge = _Judge(dataset, metrics, features, num, progress, makes_labels=labelled)
    for name in metrics:
        refusal(name, model, dataset)
    sampler, num = Sampler(model, device, current()), judge.num
    firsts = tuple(seed + draw * num for draw in range(draws))
    made = []
    for start in firsts if any(name not in NEEDS for name in judge.metrics) else ():  # else no picture need be drawn
        seeds = np.arange(start, start + num)
        made.append(Draw(sampler(range(start, start + num)), sampler.label_array(seeds, None) if labelled else None))
    rows = judge.rows(made, firsts) if made else []
    if "leak" in judge.metrics:
        # Asked for by name, also of a model without augmentation: that is what one with it is compared with.
        kinds = augmented_by(model) or (KINDS if "leak" in metrics else ())
        rows += judge.leak_rows(kinds, sampler, firsts[:1])
    for name, metric in judge.metrics.items():
        if name in NEEDS:
            judge.progress(name, 0, 0)
            extractor = judge.extractors[judge.features[0]]
            found, count = model_estimates(name, model, dataset, extractor, num, device)
            for key, estimate in found.items():
                slot = judge.features[0] if key.endswith("distance") else ""
                rows.append(judge.row(metric, key, slot, "test", [estimate], None, count, ()))
    return rows


def usual_protocol(model: Model) -> tuple[int, int]:
    """Pictures on each side and draws for a model: 10,000 and 3, and fewer where a picture takes hundreds of passes of
    the network one after the other."""
    steps = model.family.steps_per_picture
    if steps <= QUICK_STEPS:
        return 10_000, 3
    return max(500, 100 * round(100 * QUICK_STEPS / steps)), 1


class _Judge:
    """The data's side, computed once for all draws: extractors, references, floors."""

    def __init__(
        self, dataset: Dataset, metrics: Sequence[str], features: Sequence[str], num: int,
        progress: Progress | None, *, makes_labels: bool,
    ) -> None:  # fmt: skip
        self.dataset, self.progress = dataset, progress or (lambda what, done, total: None)
        self.metrics = {name: lookup(name) for name in (metrics or METRICS)}
        self.features = tuple(features)
        for name in features:
            if name not in EXTRACTORS:
                raise UserError("--features", name, ", ".join(REPORTING), "see docs/evaluation.md")
        self.num = min(num, len(dataset.test))
        if self.num < LEAST:
            more = "give more pictures"
            raise DataError("DATA", f"{self.num} held-out pictures in {dataset.name}", f"at least {LEAST}", more)
        self.supervised = is_supervised(dataset)
        if metrics and "classifier_score" in metrics and not self.supervised:
            raise UserError("--metrics", "classifier_score", "data with classes", "put the classes into sub-folders")
        if not (makes_labels and self.supervised):
            self.metrics.pop("accuracy_score", None)
        self.extractors: dict[str, Extractor] = {}
        for slot in dict.fromkeys(slot for metric in self.metrics.values() for slot in self.slots(metric)):
            self.progress(f"preparing the extractor `{slot}`", 0, 0)
            self.extractors[slot] = FIXED[slot](dataset) if slot in FIXED else make_extractor(slot, dataset)
        for slot in self.features[:1]:  # a model's reconstructions are compared in it
            self.extractors.setdefault(slot, make_extractor(slot, dataset))
        self._sides: dict[tuple[str, str], Side] = {}
        self._pairs: dict[tuple[Side, str, str], Pair] = {}
        self._training: dict[str, tuple[Training, tuple[NDArray[np.float64], NDArray[np.int64]]]] = {}

    def slots(self, metric: Metric) -> list[str]:
        """The extractors that a metric is computed in."""
        named = {"features": self.features, "first": self.features[:1], "model": ()}
        found = [slot for kind in metric.inputs for slot in named.get(kind, (kind,))]
        return [slot for slot in found if slot != "classifier" or self.supervised]

    # -- the pictures to judge -------------------------------------------------------------------------------------
    def rows(self, draws: Sequence[Draw], seeds: tuple[int, ...]) -> list[Row]:
        """The whole table for one or more independent draws."""
        read = [
            self._read(draw, f" ({at + 1} of {len(draws)})" if len(draws) > 1 else "") for at, draw in enumerate(draws)
        ]
        self.num = min(len(next(iter(sides.values()))) for sides, _ in read)
        rows: list[Row] = []
        for name, metric in self.metrics.items():
            for slot in self.slots(metric):
                for reference in ("test", "train") if metric.beside_training else ("test",):
                    self.progress(f"{name} in {slot}", 0, 0)
                    rows += self._rows_of(name, metric, slot, reference, [sides[slot] for sides, _ in read], seeds)
        if "accuracy_score" in self.metrics:
            rows += self._accuracy_row([score for _, score in read if score is not None], seeds)
        return rows

    def _read(self, draw: Draw, place: str) -> tuple[dict[str, Side], Estimate | None]:
        """Features by extractor; each picture is made once and goes through all of them. In an order that depends on
        the pictures alone, so that nothing depends on how they came in."""
        kept, seen = [], 0
        for chunk in draw.pictures:
            chunk = chunk[: self.num - seen]
            if chunk.shape[1:] != self.dataset.spec.shape:
                allowed = f"pictures of {self.dataset.spec}, as {self.dataset.name} has them"
                raise DataError("pictures", list(chunk.shape[1:]), allowed, "open the data at the pictures' resolution")
            kept.append(chunk)
            seen += len(chunk)
            self.progress(f"pictures{place}", seen, self.num)
            if seen >= self.num:
                break
        if seen < LEAST:
            raise DataError("pictures", seen, f"at least {LEAST} to be judged", "make more")
        pictures = np.concatenate(kept)
        order = np.argsort(_content_keys(pictures), kind="stable")
        pictures = pictures[order]
        sides = {}
        for slot, extractor in self.extractors.items():
            chunks = _chunks(pictures, 1024, lambda done, slot=slot: self.progress(  # type: ignore[misc]
                f"features in {slot}{place}", done, seen))  # fmt: skip
            sides[slot] = Side(extractor(chunks, current()), extractor.columns)
        score = None
        if "accuracy_score" in self.metrics and draw.labels is not None:
            self.progress(f"accuracy score{place}", 0, 0)
            score = self._accuracy(pictures, np.asarray(draw.labels)[:seen][order])
        return sides, score

    # -- the data's side -------------------------------------------------------------------------------------------
    def _side(self, split: str, slot: str) -> Side:
        if (split, slot) not in self._sides:
            extractor = self.extractors[slot]
            features = split_features(extractor, self.dataset, split, self.num, self.progress)
            key = features_key(extractor, self.dataset, split, self.num)
            self._sides[split, slot] = Side(features, extractor.columns, key)
        return self._sides[split, slot]

    def _training_side(self, slot: str) -> tuple[Training, tuple[NDArray[np.float64], NDArray[np.int64]]]:
        """All training pictures, and the nearest of them to each held-out picture."""
        if slot not in self._training:
            extractor, count = self.extractors[slot], min(MAX_TRAINING, len(self.dataset.train))
            features = split_features(extractor, self.dataset, "train", count, self.progress)
            training = Training(features, key=features_key(extractor, self.dataset, "train", count))

            def compute() -> NDArray[np.float64]:
                return np.stack(nearest(self._side("test", slot).features, training.features))

            key = ["nearest", features_key(extractor, self.dataset, "test", self.num), count]
            distance, which = stored(key, compute)
            self._training[slot] = training, (distance, which.astype(np.int64))
        return self._training[slot]

    def _pair(self, metric: Metric, generated: Side, slot: str, reference: str) -> Pair:
        key = generated, slot, reference
        if key not in self._pairs:  # several metrics share what is computed of a pair
            self._pairs[key] = Pair(generated, self._side(reference, slot))
        pair = self._pairs[key]
        if metric.needs_training and pair.training is None:
            pair.training, pair.held_out_nearest = self._training_side(slot)
        return pair

    def _floors(self, name: str, metric: Metric, slot: str, reference: str) -> dict[str, float]:
        """What real pictures have, by name; kept in the cache."""
        if metric.floor == "zero":
            return dict.fromkeys(metric.values, 0.0)
        other = "held-out" if metric.floor == "held-out" else {"test": "train", "train": "test"}[reference]

        def compute() -> NDArray[np.float64]:
            side = self._side("test" if other == "held-out" else other, slot)
            pair = self._pair(metric, side, slot, reference)
            assert metric.function is not None
            found = metric.function(pair) if len(side) == self.num else {}
            return np.array([found[key].value if key in found else np.nan for key in metric.values])

        key = [
            "floor",
            METRICS_VERSION,
            name,
            reference,
            features_key(self.extractors[slot], self.dataset, "test", self.num),
        ]
        return {key: float(value) for key, value in zip(metric.values, stored(key, compute), strict=True)
                if not np.isnan(value)}  # fmt: skip

    # -- rows ------------------------------------------------------------------------------------------------------
    def _rows_of(
        self, name: str, metric: Metric, slot: str, reference: str, draws: Sequence[Side], seeds: tuple[int, ...]
    ) -> list[Row]:
        assert metric.function is not None
        found = [metric.function(self._pair(metric, side, slot, reference)) for side in draws]
        floors = self._floors(name, metric, slot, reference) if found[0] else {}
        return [
            self.row(metric, key, slot, reference, [draw[key] for draw in found], floors.get(key), self.num, seeds)
            for key in found[0]
        ]

    def row(
        self, metric: Metric, key: str, slot: str, reference: str, estimates: Sequence[Estimate], floor: float | None,
        num: int, seeds: tuple[int, ...],
    ) -> Row:  # fmt: skip
        """One row from the estimates of all draws; `slot` empty where no extractor takes part."""
        value, interval = combine(estimates)
        if interval and metric.bounds:
            interval = max(interval[0], metric.bounds[0]), min(interval[1], metric.bounds[1])
        extractor = self.extractors.get(slot)
        name = f"{key}{_short(num)}" if metric.counted else key
        title, better = metric.values[key]
        notes = [estimates[0].note, self._warning(metric, slot, num), self._remark(metric, slot)]
        return Row(
            f"{name}_{extractor.name}" if extractor else name, title, metric.group, value, better, floor, interval, num,
            reference, extractor.name if extractor else "", extractor.sha256 if extractor else "",
            self.dataset.fingerprint, seeds, "; ".join(note for note in notes if note),
        )  # fmt: skip

    def _warning(self, metric: Metric, slot: str, num: int) -> str:
        """Words where N is too small."""
        features = self._side("test", slot).features.shape[1] if metric.pictures_per_feature else 0
        enough = max(metric.least, round(metric.pictures_per_feature * features))
        return f"unreliable: {num:,} pictures are too few, it takes {enough:,}" if num < enough else ""

    def _remark(self, metric: Metric, slot: str) -> str:
        if metric.needs_training and len(self.dataset.train) > MAX_TRAINING:
            return f"looked for among {MAX_TRAINING:,} of {len(self.dataset.train):,} training pictures"
        if slot == "classifier":
            test = self.dataset.test
            labels = test.labels[split_positions(len(test), self.num)]
            right = (self._side("test", slot).features.argmax(axis=1) == labels)[labels >= 0].mean()
            return f"the classifier is right on {right:.1%} of held-out pictures"
        return ""

    def leak_rows(self, kinds: tuple[Kind, ...], sampler: Sampler, seeds: tuple[int, ...]) -> list[Row]:
        """How many pictures look as after a change of these kinds; nothing without kinds."""
        if not kinds:
            return []
        self.progress("leak of augmentation", 0, 0)
        generated = first(sampler(range(seeds[0], seeds[0] + LEAK_PICTURES)), LEAK_PICTURES)
        found = leak(np.concatenate(list(generated)), self.dataset, kinds)
        if found is None:
            return []
        beside = "compare only with the same model trained without augmentation"
        estimate = Estimate(found.share, found.error, note="; ".join(note for note in (found.note, beside) if note))
        metric = METRICS["leak"]
        return [self.row(metric, "augmentation_leak", "", "test", [estimate], found.floor, LEAK_PICTURES, seeds)]

    # -- accuracy of a classifier trained on the pictures ----------------------------------------------------------
    def _accuracy(self, pictures: NDArray[np.uint8], labels: NDArray[np.int64]) -> Estimate:
        data = self.dataset
        return accuracy_score(pictures, labels, data.test, data.spec, len(data.classes))

    def _accuracy_row(self, scores: Sequence[Estimate], seeds: tuple[int, ...]) -> list[Row]:
        def compute() -> NDArray[np.float64]:
            train = self.dataset.train
            places = split_positions(len(train), len(train))
            places = places[train.labels[places] >= 0][: self.num]
            return np.array([self._accuracy(train.take(places), train.labels[places]).value])

        self.progress("accuracy score of real pictures", 0, 0)
        key = ["accuracy", METRICS_VERSION, self.dataset.pictures_key, self.num]
        floor = float(stored(key, compute)[0])
        return [self.row(METRICS["accuracy_score"], "accuracy_score", "", "test", scores, floor, self.num, seeds)]


def _content_keys(pictures: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """A number per picture that depends on its pixels alone, `[N]`."""
    digests = b"".join(hashlib.blake2b(picture.tobytes(), digest_size=8).digest() for picture in pictures)
    return np.frombuffer(digests, np.uint64)


def _chunks(pictures: NDArray[np.uint8], size: int, said: Callable[[int], None]) -> Iterator[NDArray[np.uint8]]:
    for start in range(0, len(pictures), size):
        said(start)
        yield pictures[start : start + size]


def _short(num: int) -> str:
    """10000 -> `10k`, as the field writes it; 360 -> `360`."""
    return f"{num // 1000}k" if num % 1000 == 0 else str(num)
