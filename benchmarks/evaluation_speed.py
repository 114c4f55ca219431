"""Seconds that a judgement takes: 10,000 pictures in all metrics, the data's side in the cache; or, with --train, the
training of the `dataset` extractor, with its accuracy."""

from __future__ import annotations

import argparse
import os
import tempfile
import time

import numpy as np

from timing import report, seconds
from zeuxis.data import Dataset, open_dataset
from zeuxis.evaluation import evaluate
from zeuxis.metrics.accuracy_score import correct
from zeuxis.metrics.extractors import dataset_network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--num", type=int, default=10_000)
    parser.add_argument("--features", default="dataset,efficientnet")
    parser.add_argument("--train", action="store_true", help="train the extractor anew, in a cache of its own")
    arguments = parser.parse_args()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    dataset = open_dataset(arguments.data)
    if arguments.train:
        with tempfile.TemporaryDirectory() as folder:
            before = os.environ.get("ZEUXIS_CACHE", "")
            os.environ["ZEUXIS_CACHE"] = folder
            started = time.perf_counter()
            net = dataset_network(dataset)
            taken = time.perf_counter() - started
            os.environ["ZEUXIS_CACHE"] = before
        accuracy = float(correct(net, dataset.test).mean())
        report("evaluation_extractor", data=dataset.name, cores=cores, seconds=round(taken, 1), accuracy=accuracy)
        return
    for features in arguments.features.split(","):
        judge(dataset, arguments.num, features, cores)


def judge(dataset: Dataset, count: int, features: str, cores: int | None) -> None:
    """Times the judgement of pictures that the cache does not know: real ones with a little noise."""
    pictures = dataset.train.take(np.arange(count))
    noise = np.random.default_rng(0).integers(-6, 7, pictures.shape)
    pictures = (pictures + noise).clip(0, 255).astype(np.uint8)
    last = {"name": "", "at": time.perf_counter()}
    parts: dict[str, float] = {}

    def progress(what: str, done: int, total: int) -> None:
        now = time.perf_counter()
        parts[last["name"]] = parts.get(last["name"], 0.0) + now - last["at"]
        last.update(name=what, at=now)

    def once() -> None:
        evaluate([pictures], dataset, num=count, features=(features,), progress=progress)

    once()  # the data's side goes into the cache
    parts.clear()
    taken = seconds(once)
    slowest = sorted(parts.items(), key=lambda part: -part[1])[:4]
    report(
        f"judging {count:,} pictures of {dataset.name} in {features} features", cores=cores, seconds=round(taken, 1),
        at_most_seconds={"dataset": 15, "efficientnet": 240}.get(features),
        slowest_parts=[f"{name} {value:.1f} s" for name, value in slowest],
    )  # fmt: skip


if __name__ == "__main__":
    main()
