"""Runs, models and foreign pictures -> `Comparison`: opened, sampled from the same seeds, judged alike."""

from __future__ import annotations

import os
import platform
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zeuxis import __version__
from zeuxis.checkpoint import WEIGHTS, Model, find_model, load_model
from zeuxis.compare import record
from zeuxis.compare.entries import Comparison, DataFacts, Entry, Pixels, Sheet
from zeuxis.compare.looks import SEARCHED, SHOWN, real_sheet, sample_sheet, sampling_rate, suspects
from zeuxis.compare.subjects import Subject, options_for
from zeuxis.data import Dataset, open_dataset
from zeuxis.errors import DataError, UserError
from zeuxis.evaluation import LEAST, evaluate, evaluate_model
from zeuxis.metrics import lookup
from zeuxis.metrics.extractors import Extractor, make_extractor
from zeuxis.metrics.model import refusal
from zeuxis.planning import choose_device
from zeuxis.sampling import Sampler

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Judging:
    """How all are judged: pictures on each side at most, metrics (all when empty), extractors, draws, first seed."""

    num: int = 10_000
    metrics: tuple[str, ...] = ()
    features: tuple[str, ...] = ("dataset",)
    draws: int = 3
    seed: int = 0
    device: str = "auto"


def compare(
    subjects: Sequence[Subject], dataset: Dataset, judging: Judging, *, command: str = "",
    missing: Sequence[str] = (), progress: Progress | None = None,
) -> Comparison:  # fmt: skip
    """Judges every subject with equal numbers of pictures; a model of another size than the data's is a `UserError`."""
    progress = progress or (lambda what, done, total: None)
    judge = _Judge(dataset, judging, progress)
    opened = [judge.open(subject) for subject in subjects]
    names = unique_names([subject.name for subject, _ in opened], [subject.path.name for subject, _ in opened])
    foreign = [len(content.train) for _, content in opened if isinstance(content, Dataset)]
    judge.num = min(judging.num, len(dataset.test), *foreign) if foreign else min(judging.num, len(dataset.test))
    entries = []
    for name, (subject, content) in zip(names, opened, strict=True):
        judge.prefix = f"{name}: "
        if isinstance(content, Dataset):
            entries.append(judge.pictures(name, subject, content))
        else:
            entries.append(judge.model(name, subject, content))
    by_class = any(entry.samples.rows for entry in entries)
    facts = DataFacts(
        dataset.name, str(dataset.spec), len(dataset), len(dataset.train), len(dataset.test), dataset.classes,
        dataset.fingerprint,
    )  # fmt: skip
    return Comparison(
        facts, entries, real_sheet(dataset.test, dataset.classes if by_class else ()), command,
        time.strftime("%Y-%m-%d %H:%M"), machine(), missing,
    )  # fmt: skip


def check(judging: Judging, dataset: Dataset, progress: Progress | None = None) -> None:
    """Finds before any training what would stop the judging after it, and prepares the extractors."""
    for name in judging.metrics:
        lookup(name)
    if min(judging.num, len(dataset.test)) < LEAST:
        raise DataError("DATA", f"{len(dataset.test)} held-out pictures in {dataset.name}", f"at least {LEAST}",
                        "give more pictures, or a larger --num")  # fmt: skip
    for name in judging.features:
        if progress:
            progress(f"preparing the extractor `{name}`", 0, 0)
        make_extractor(name, dataset)


class _Judge:
    """What all subjects share: the data, the extractor of the neighbours, the number of pictures."""

    def __init__(self, dataset: Dataset, judging: Judging, progress: Progress) -> None:
        self.dataset, self.judging, self._progress = dataset, judging, progress
        self.num, self.prefix = judging.num, ""
        self.device = choose_device(judging.device)
        self._extractor: Extractor | None = None

    def progress(self, what: str, done: int, total: int) -> None:
        """Says of which subject it is."""
        self._progress(self.prefix + what, done, total)

    @property
    def extractor(self) -> Extractor:
        """The first of the asked ones, made when first needed."""
        if self._extractor is None:
            self._extractor = make_extractor(self.judging.features[0], self.dataset)
        return self._extractor

    def open(self, subject: Subject) -> tuple[Subject, Model | Dataset]:
        """The model, or the foreign pictures read at the data's size; the subject gets its name."""
        spec = self.dataset.spec
        if subject.kind == "pictures":
            options = options_for(spec, test_fraction=0.0, val_fraction=0.0)
            return subject, open_dataset(subject.path, options, progress=self.progress)
        model = load_model(subject.path)
        if model.spec.shape != spec.shape:
            raise UserError(
                "RUN", f"{subject.path} ({model.spec})", f"models of {spec}, as {self.dataset.name} is read here",
                "compare models of one size, each size on a page of its own",
            )  # fmt: skip
        return replace(subject, name=model.name), model

    def model(self, name: str, subject: Subject, model: Model) -> Entry:
        """Everything about a run or a model folder."""
        judging, folder = self.judging, find_model(subject.path)
        sampler = Sampler(model, self.device)
        metrics = [name for name in judging.metrics if self._applies(name, model)]
        rows = evaluate_model(
            model, self.dataset, num=self.num, metrics=metrics, features=judging.features,
            draws=judging.draws, seed=judging.seed, device=str(self.device), progress=self.progress,
        ) if metrics or not judging.metrics else []  # fmt: skip
        self.progress("nearest real pictures", 0, 0)
        searched = range(judging.seed, judging.seed + min(SEARCHED, max(self.num, SHOWN)))
        cost = record.training_cost(subject.path, subject.resolved) if subject.kind == "run" else record.Cost()
        parameters = sum(p.numel() for network in model.networks.values() for p in network.parameters())
        cost = replace(cost, sample_rate=sampling_rate(sampler), size_bytes=(folder / WEIGHTS).stat().st_size,
                       parameters=parameters)  # fmt: skip
        source = self.dataset.source if subject.asked.get("data") == self.dataset.key else ""
        return Entry(
            name, _about_model(model), rows, sample_sheet(sampler, judging.seed),
            suspects(np.concatenate(list(sampler(searched))), self.dataset, self.extractor, self.num),
            cost=cost, capabilities=_capabilities(model),
            curves=record.metric_curves(subject.path), losses=record.loss_curves(subject.path),
            commands=self._commands(subject, source), settings=record.flat_settings(model.family.settings),
            remarks=self._remarks(subject, model),
        )  # fmt: skip

    def pictures(self, name: str, subject: Subject, foreign: Dataset) -> Entry:
        """Everything about pictures of which only the pictures are known."""
        judging, split = self.judging, foreign.train
        metrics = [name for name in judging.metrics if "model" not in lookup(name).inputs]
        rows = evaluate(
            split.batches(256), self.dataset, num=self.num, metrics=metrics, features=judging.features,
            progress=self.progress,
        ) if metrics or not judging.metrics else []  # fmt: skip
        self.progress("nearest real pictures", 0, 0)
        searched: Pixels = split.take(np.arange(min(SEARCHED, len(split))))
        skipped = len(foreign.report.skipped)
        cost, about = record.foreign_cost(subject.path)
        return Entry(
            name, about or f"{len(split):,} pictures made elsewhere", rows,
            Sheet(split.take(np.arange(min(SHOWN, len(split))))),
            suspects(searched, self.dataset, self.extractor, self.num), cost=cost,
            commands=self._commands(subject, record.near(str(subject.path))),
            remarks=[f"{skipped} of its files could not be used."] if skipped else [],
        )  # fmt: skip

    def _applies(self, metric: str, model: Model) -> bool:
        """Whether a metric that was asked for by name can be had of this model; others on the page may have it."""
        try:
            refusal(metric, model, self.dataset)
        except UserError:
            return False
        return True

    def _commands(self, subject: Subject, source: str) -> list[str]:
        judging = self.judging
        trained = [record.train_command(subject.asked, source)] if subject.kind == "run" else []
        path = record.near(str(subject.path))
        sampled = [] if subject.kind == "pictures" else [shlex.join(["zeuxis", "sample", path, "--seeds", "0-63"])]
        words = ["zeuxis", "evaluate", path, "--data", record.near(self.dataset.source) or "DATA"]
        words += ["--num", str(self.num), "--features", ",".join(judging.features)]
        words += [] if subject.kind == "pictures" else ["--seed", str(judging.seed)]
        return [line for line in [*trained, *sampled, shlex.join(words)] if line]

    def _remarks(self, subject: Subject, model: Model) -> list[str]:
        """What a reader must know before he believes the numbers."""
        remarks = []
        fingerprint = model.about.get("fingerprint")
        if fingerprint not in (None, self.dataset.fingerprint):
            remarks.append("It was trained on other data than these.")
        elif subject.kind == "run" and subject.asked.get("data") != self.dataset.key:
            remarks.append("It was trained with another split of these data: it may know the held-out pictures.")
        if subject.kind == "run" and not (subject.path / "finished.json").is_file():
            remarks.append("Its training has not finished.")
        return remarks


def _about_model(model: Model) -> str:
    seen = model.about.get("images_seen")
    classes = "knows the classes" if model.classes else "knows no classes"
    return f"{classes}, best at {seen:,} images" if isinstance(seen, int) else classes


def _capabilities(model: Model) -> frozenset[str]:
    """What the family can, what can be turned when sampling, and classes."""
    turned = {f"--{option}" for option in model.family.render_options}
    return frozenset({*model.family.capabilities, *turned, *(["--class"] if model.drawn_classes else [])})


def unique_names(names: Sequence[str], folders: Sequence[str]) -> list[str]:
    """Names as they are; where two are the same, the folder's name is put behind, then a number."""
    named = [
        f"{name} ({folder})" if names.count(name) > 1 else name for name, folder in zip(names, folders, strict=True)
    ]
    return [
        f"{name} #{named[: place + 1].count(name)}" if named.count(name) > 1 else name
        for place, name in enumerate(named)
    ]


def machine() -> str:
    """What it was judged on, in words without the machine's name."""
    system: dict[str, Any] = {"zeuxis": __version__, "PyTorch": torch.__version__}
    versions = ", ".join(f"{key} {value}" for key, value in system.items())
    return f"{versions}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores"


def write_page(comparison: Comparison, path: Path) -> None:
    """Draws the page and writes it whole or not at all."""
    from zeuxis.compare.page import draw
    from zeuxis.files import write_bytes

    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, draw(comparison).encode("utf-8", "replace"))
