"""Seconds that a judgement takes: 10,000 pictures in all metrics, the data's side in the cache; or, with --train, the
training of the `dataset` extractor, with its accuracy."""

from __future__ import annotations

import argparse
import os
import tempfile
import time

import numpy as np

from timing import report, seconds
from zeuxis.data import open_dataset
from zeuxis.evaluation import evaluate
from zeuxis.metrics.accuracy_score import correct
from zeuxis.metrics.extractors import dataset_network, make_extractor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--num", type=int, default=10_000)
    parser.add_argument("--features", default="dataset")
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
    # Other pictures than those of the cache: real ones with a little noise.
    pictures = dataset.train.take(np.arange(arguments.num))
    noise = np.random.default_rng(0).integers(-6, 7, pictures.shape)
    pictures = (pictures + noise).clip(0, 255).astype(np.uint8)
    extractor = make_extractor(arguments.features, dataset)
    features = seconds(lambda: extractor([pictures]))
    last = {"name": "", "at": time.perf_counter()}
    parts: dict[str, float] = {}

    def progress(what: str, done: int, total: int) -> None:
        now = time.perf_counter()
        parts[last["name"]] = parts.get(last["name"], 0.0) + now - last["at"]
        last.update(name=what, at=now)

    def judge() -> None:
        evaluate([pictures], dataset, num=arguments.num, features=(arguments.features,), progress=progress)

    judge()  # the data's side goes into the cache
    parts.clear()
    taken = seconds(judge)
    report(
        "evaluation_speed", data=dataset.name, cores=cores, num=arguments.num, features=arguments.features,
        seconds=round(taken, 2), features_seconds=round(features, 2),
        parts={name: round(value, 2) for name, value in parts.items() if value > 0.05},
    )  # fmt: skip


if __name__ == "__main__":
    main()
