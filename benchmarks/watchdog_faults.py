"""Faults put into trainings, and trainings without any: does the watchdog notice the first and leave the second alone?

Each fault comes at 45% of a run and stays (but for the weights that become NaN and the burst, which come once): NaN
weights, the learning rate times 100, the same for 5% of the run, a discriminator that no longer moves, data cut to 50
pictures. Noticed within one evaluation means: before the second snapshot after the fault. Mended means that the run
reached its end; where a fault stays, that cannot be, and the run must stop with the best model so far kept. The best
score of a healthy run of the same seed stands beside each. Every healthy run in which the watchdog went back, stopped
or told anything is a false alarm.

python benchmarks/watchdog_faults.py --data digits --model dcgan/small --kimg 60 --seeds 2 --healthy 4
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from timing import report
from zeuxis import steps
from zeuxis.config import TrainOptions
from zeuxis.data import open_dataset
from zeuxis.errors import RunFault
from zeuxis.files import read_json_lines
from zeuxis.metrics.selection import selection_score
from zeuxis.training import Training, start

AT, BURST = 0.45, 0.05


def nan_weights(training: Training) -> None:
    """Every weight of the generator is NaN."""
    for group in training.stepper.groups.values():
        if "generator" in group.working:
            with torch.no_grad():
                group.flat.values.fill_(torch.nan)


def frozen_discriminator(training: Training) -> None:
    """The discriminator is not moved any more."""
    for group in training.stepper.groups.values():
        if "discriminator" in group.working:
            group.update = lambda rate, skipped: None  # type: ignore[method-assign]


def fifty_pictures(training: Training) -> None:
    """Only 50 training pictures are left."""
    training.feed.positions = np.resize(training.feed.positions[:50], len(training.feed.positions))


def rate_times_100(training: Training) -> None:
    """Every step is 100 times as large."""
    plain = steps.learning_rate
    steps.learning_rate = lambda settings, progress: 100 * plain(settings, progress)  # type: ignore[assignment]


FAULTS: dict[str, Callable[[Training], None]] = {
    "NaN weights": nan_weights,
    "learning rate x100": rate_times_100,
    "learning rate x100 for a while": rate_times_100,
    "frozen discriminator": frozen_discriminator,
    "50 pictures": fifty_pictures,
}


@contextlib.contextmanager
def plain_rate() -> Iterator[None]:
    """Whatever a fault did to the learning rate is taken back at the end."""
    plain = steps.learning_rate
    try:
        yield
    finally:
        steps.learning_rate = plain


def train(asked: argparse.Namespace, seed: int, fault: str, out: Path) -> dict[str, Any]:
    """One run, with `fault` from 45% on ("": none), and what became of it."""
    dataset = open_dataset(asked.data)
    options = TrainOptions.model_validate({"model": asked.model, "kimg": asked.kimg, "seed": seed,
                                           "precision": "float32", "kernels": "plain"})  # fmt: skip
    plain, state = steps.learning_rate, {"fault": 0, "over": 0}
    training = start(options, dataset, out)

    def hook(seen: int) -> bool:
        share = seen / (asked.kimg * 1000)
        if fault and not state["fault"] and share >= AT:
            state["fault"] = seen
            FAULTS[fault](training)
        if fault.endswith("for a while") and state["fault"] and not state["over"] and share >= AT + BURST:
            state["over"] = seen
            steps.learning_rate = plain
        return False

    began, ended = time.perf_counter(), "failed"
    with plain_rate(), contextlib.suppress(RunFault):
        ended = training.run(score=selection_score(dataset), stop=hook).status
    seconds = time.perf_counter() - began
    decisions = [row for row in read_json_lines(training.folder.path / "stats.jsonl") if "watchdog" in row]
    log = (training.folder.path / "log.txt").read_text()
    record: dict[str, Any] = {
        "fault": fault or "none", "seed": seed, "ended": ended, "seconds": round(seconds, 1),
        "decisions": [f"{row['watchdog']}: {row['action']}" for row in decisions],
        "sentences": [row["sentence"] for row in decisions],
        "best": None if training.selection.best is None else round(training.selection.best[1], 6),
    }  # fmt: skip
    if fault:
        lines = [line for line in log.splitlines() if "snapshot at" in line or "noticed at" in line]
        first = next((place for place, line in enumerate(lines) if "noticed at" in line), None)
        before = lines[: len(lines) if first is None else first]
        after = [line for line in before if int(line.split("snapshot at ")[1].split()[0]) > state["fault"]]
        record |= {"fault_at": state["fault"], "noticed": first is not None, "evaluations_until_noticed": len(after)}
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--model", default="gan")
    parser.add_argument("--kimg", type=float, default=200.0)
    parser.add_argument("--seeds", type=int, default=3, help="runs of each fault")
    parser.add_argument("--healthy", type=int, default=20, help="runs without a fault")
    parser.add_argument("--faults", nargs="*", default=list(FAULTS), choices=list(FAULTS))
    parser.add_argument("--keep", type=Path, help="where the run folders stay")
    asked = parser.parse_args()
    records = []
    with tempfile.TemporaryDirectory() as temporary:
        out = asked.keep or Path(temporary)
        runs = [*itertools.product([""], range(asked.healthy)), *itertools.product(asked.faults, range(asked.seeds))]
        for fault, seed in runs:
            record = train(asked, seed, fault, out / (fault or "healthy").replace(" ", "-") / str(seed))
            records.append(record)
            print(record, flush=True)
    for fault in ("none", *asked.faults):
        own = [record for record in records if record["fault"] == fault]
        if own:
            report(f"{fault}, {asked.model} on {asked.data}", kimg=asked.kimg, runs=len(own), **summed(own))


def summed(records: list[dict[str, Any]]) -> dict[str, Any]:
    """What became of the runs of one fault, or of none."""
    ended = {f"runs_{status}": sum(record["ended"] == status for record in records) for status in
             ("finished", "stopped", "failed")}  # fmt: skip
    rules = sorted({decision.split(":")[0] for record in records for decision in record["decisions"]})
    if "noticed" not in records[0]:
        return {"false_alarms": sum(bool(record["decisions"]) for record in records), **ended, "rules": rules}
    soon = [record["noticed"] and record["evaluations_until_noticed"] <= 1 for record in records]
    return {"noticed": sum(record["noticed"] for record in records), "noticed_within_one_evaluation": sum(soon),
            **ended, "rules": rules}  # fmt: skip


if __name__ == "__main__":
    main()
