"""How often training goes wrong: many seeds of short runs on three data sets, and the share that ends within 1.5 times
the median of its data set.

Each run is `zeuxis train DATA --budget 60s`, judged by the Fréchet distance of 2,000 samples to held-out pictures in
the `random` extractor: cheap, the same for all data, and never below zero as the unbiased kernel distance may be, of
which 1.5 times says nothing. A run that does not finish counts as gone wrong. The aim: 95%.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from timing import report
from zeuxis.checkpoint import load_model
from zeuxis.config import DataOptions
from zeuxis.data import Dataset, open_dataset
from zeuxis.metrics.extractors import make_extractor, split_features
from zeuxis.metrics.frechet import frechet_distance
from zeuxis.sampling import Sampler

DATA = ("digits", "fashion-mnist", "stacked")
WITHIN = 1.5
NUM = 2000


def opened(name: str, folder: Path) -> tuple[str, Dataset]:
    """What to give `zeuxis train`, and the data. `stacked` is Fashion-MNIST with three pictures as colours, 16x16."""
    if name != "stacked":
        return name, open_dataset(name)
    file = folder / "stacked.npz"
    if not file.exists():
        grey = open_dataset("fashion-mnist", DataOptions(resolution=(16, 16))).train.all()[:, 0]
        order = np.random.default_rng(0).permutation(len(grey) // 3 * 3)
        np.savez(file, images=grey[order].reshape(-1, 3, 16, 16).transpose(0, 2, 3, 1))
    return str(file), open_dataset(file)


def one_run(data: str, dataset: Dataset, budget: str, seed: int, extra: list[str]) -> float | None:
    """The distance of a finished run to held-out pictures, or None where it did not finish."""
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary) / "runs"
        command = [sys.executable, "-m", "zeuxis", "train", data, "--budget", budget, "--seed", str(seed)]
        done = subprocess.run([*command, "--out", str(out), *extra], capture_output=True, text=True)
        if done.returncode:
            print(done.stderr[-500:], file=sys.stderr)
            return None
        sampler = Sampler(load_model(max(out.iterdir())))
        pictures = np.concatenate(list(sampler(range(NUM))))
    extractor = make_extractor("random", dataset)
    reference = split_features(extractor, dataset, "test", NUM)
    return frechet_distance(extractor([pictures]), reference)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=",".join(DATA))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--budget", default="60s")
    parser.add_argument("--extra", nargs=argparse.REMAINDER, default=[], help="more options for `zeuxis train`")
    asked = parser.parse_args()
    good = runs = 0
    with tempfile.TemporaryDirectory() as temporary:
        for name in asked.data.split(","):
            data, dataset = opened(name, Path(temporary))
            found = [one_run(data, dataset, asked.budget, seed, asked.extra) for seed in range(asked.seeds)]
            values = [value for value in found if value is not None]
            median = statistics.median(values) if values else float("nan")
            within = sum(value <= WITHIN * median for value in values)
            good, runs = good + within, runs + len(found)
            report(
                "stability", data=name, budget=asked.budget, seeds=asked.seeds, extra=asked.extra,
                median=round(median, 5), worst=round(max(values, default=float("nan")), 5),
                unfinished=len(found) - len(values), share_within=round(within / len(found), 3),
                values=[None if value is None else round(value, 5) for value in found],
            )  # fmt: skip
    report("stability_all", runs=runs, share_within=round(good / runs, 3), within=WITHIN)


if __name__ == "__main__":
    main()
