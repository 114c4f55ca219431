"""`gan/mlp/article` and `vae/mlp/article`, batch 32, against the article's own Keras code.

Ours is everything that happens between two steps of a run: order, cache, noise, statistics, averaged weights. Keras
trains as in the article, by `train_on_batch` and `fit`, in a process of its own that waits while we work; its VAE has
less to do, as the article's leaves out the sampling and the KL term.

`--keras` or KERAS_PYTHON names the interpreter of an environment with `tensorflow-cpu`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from timing import Turns, report
from zeuxis.config import TrainOptions
from zeuxis.data import Dataset, open_dataset
from zeuxis.training import start

BATCH, PICTURES = 32, 200 * 32  # pictures of a turn
TURNS = 7


class Keras:
    """The article's code in its process."""

    def __init__(self, python: str) -> None:
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        script = str(Path(__file__).with_name("keras_article.py"))
        self.process = subprocess.Popen(
            [python, script, str(BATCH)], env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.version = self._line()

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        if not line:
            sys.exit(f"bench_article: the Keras process ended with {self.process.wait()}")
        return line

    def seconds(self, what: str) -> float:
        """Trains on the pictures of a turn."""
        assert self.process.stdin is not None
        print(what, PICTURES, file=self.process.stdin, flush=True)
        return float(self._line())


def compare(what: str, dataset: Dataset, keras: Keras, folder: Path) -> Turns:
    """Turns of both; Keras's come inside the `stop` callback of our loop."""
    options = TrainOptions(
        model=f"{what}/mlp/article", kimg=100 * PICTURES / 1000, snapshots=1, settings={"training.batch": BATCH}
    )
    training = start(options, dataset, folder / what)
    own: list[float] = []
    other: list[float] = []

    def stop(images_seen: int) -> bool:
        if images_seen % PICTURES == 0:
            own.append(training.elapsed - sum(other))
            other.append(keras.seconds(what))
        return len(other) == TURNS + 2

    training.run(stop=stop)
    turns = [after - before for before, after in zip(own, own[1:], strict=False)]
    return Turns(turns[1:], other[2:])  # the first of both was the warm-up


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keras", default=os.environ.get("KERAS_PYTHON"), help="interpreter with tensorflow-cpu")
    asked = parser.parse_args()
    if not asked.keras:
        sys.exit("bench_article: name the interpreter of an environment with tensorflow-cpu by --keras or KERAS_PYTHON")
    keras = Keras(asked.keras)
    pictures = np.random.default_rng(0).integers(0, 256, (PICTURES, 28, 28), dtype=np.uint8)
    everything = TrainOptions().data.model_copy(update={"test_fraction": 0.0, "val_fraction": 0.0})
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        dataset = open_dataset(pictures, everything, cache_dir=folder / "cache")
        for what in ("gan", "vae"):
            turns = compare(what, dataset, keras, folder)
            own, other = turns.seconds
            report(f"{what}/mlp/article training, 28x28 grey, batch {BATCH}, against the article's Keras code",
                   **turns.to_json(), threads=torch.get_num_threads(), keras=keras.version,
                   ours_images_per_second=round(PICTURES / own),
                   peer_images_per_second=round(PICTURES / other))  # fmt: skip


if __name__ == "__main__":
    main()
