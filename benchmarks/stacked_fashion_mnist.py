"""Stacked Fashion-MNIST: three pictures as colour channels, so 1,000 modes that a classifier can count.

A sample's mode is the class of each of its channels by a classifier of Fashion-MNIST, trained here (its accuracy is in
the record). Counted are the modes that at least one of 25,600 samples falls into, and KL(samples || data) over the
1,000 modes in nats, where the data's modes are equally likely. Real triples, of test pictures, are the floor. Ours is
`zeuxis train`; the same with the minimax loss and no penalty is shown beside it (it covers fewer).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from timing import report
from zeuxis.checkpoint import load_model
from zeuxis.config import DataOptions
from zeuxis.data import Dataset, open_dataset
from zeuxis.metrics.accuracy_score import correct
from zeuxis.metrics.networks import FeatureNet, visible
from zeuxis.metrics.recipe import train_network
from zeuxis.sampling import Sampler

TRIPLES = 100_000  # training pictures
SAMPLES = 25_600
SIDES: dict[str, list[str]] = {
    "ours": [],
    "minimax without penalty": [
        "--set", "objective.loss=minimax", "--set", "objective.gamma=0", "--set", "objective.gamma_end=0",
    ],
}  # fmt: skip


def triples(pictures: NDArray[np.uint8], count: int, seed: int) -> NDArray[np.uint8]:
    """`count` pictures of three of `pictures` `[N, 1, H, W]` each, drawn anew, as uint8 `[count, 3, H, W]`."""
    chosen = np.random.default_rng(seed).integers(len(pictures), size=(count, 3))
    return pictures[chosen, 0]


def modes(net: FeatureNet, pictures: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The mode of each picture uint8 `[N, 3, H, W]`, 0 to 999."""
    grey = pictures.reshape(-1, 1, *pictures.shape[2:])
    parts = []
    with torch.inference_mode():
        for start in range(0, len(grey), 1024):
            parts.append(net(visible(torch.from_numpy(grey[start : start + 1024]))).argmax(1).numpy())
    digits = np.concatenate(parts).reshape(-1, 3)
    return digits @ np.array([100, 10, 1])


def counted(found: NDArray[np.int64], classes: int = 10) -> tuple[int, float]:
    """How many modes were met, and KL(found || uniform) in nats."""
    share = np.bincount(found, minlength=classes**3) / len(found)
    met = share[share > 0]
    return len(met), float((met * np.log(met * classes**3)).sum())


def train(side: str, data: Path, asked: argparse.Namespace, seed: int, out: Path) -> Path:
    """The run folder of a finished training."""
    length = ["--kimg", str(asked.kimg)] if asked.kimg else ["--budget", f"{asked.minutes * 60}s"]
    command = [sys.executable, "-m", "zeuxis", "train", str(data), *length, "--seed", str(seed), "--out", str(out)]
    # A run that the watchdog stops early leaves its best model, which is then what is judged.
    subprocess.run([*command, *asked.extra, *SIDES[side]], check=False)
    return max(out.iterdir())


def classifier(dataset: Dataset, images: int) -> tuple[FeatureNet, float]:
    """A classifier (the `dataset` extractor's network and recipe) and its accuracy on test pictures."""
    train, classes = dataset.train, len(dataset.classes)
    net = train_network(train.take, train.labels, len(train), dataset.spec, classes, images)
    return net, float(correct(net, dataset.test).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--kimg", type=float, help="a length in thousands of images instead of minutes")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--triples", type=int, default=TRIPLES)
    parser.add_argument("--classifier-kimg", type=float, default=300.0, help="how long the classifier is trained")
    parser.add_argument("--sides", default=",".join(SIDES))
    parser.add_argument("--extra", nargs=argparse.REMAINDER, default=[], help="more options for `zeuxis train`")
    asked = parser.parse_args()
    grey = open_dataset("fashion-mnist", DataOptions(val_fraction=0.0))
    net, accuracy = classifier(grey, round(asked.classifier_kimg * 1000))
    floor_modes, floor_kl = counted(modes(net, triples(grey.test.all(), asked.samples, seed=1)))
    floor = {"classifier_accuracy": round(accuracy, 4), "modes_floor": floor_modes, "kl_floor": round(floor_kl, 4)}
    with tempfile.TemporaryDirectory() as temporary:
        data = Path(temporary) / "stacked.npz"
        np.savez(data, images=triples(grey.train.all(), asked.triples, seed=0).transpose(0, 2, 3, 1))
        for seed in range(asked.seeds):
            for side in asked.sides.split(","):
                run = train(side, data, asked, seed, Path(temporary) / f"{side.split()[0]}{seed}")
                samples = np.concatenate(list(Sampler(load_model(run))(range(asked.samples))))
                met, kl = counted(modes(net, samples))
                end = run / "finished.json"
                seen = json.loads(end.read_text())["images_seen"] if end.exists() else None
                report("stacked_fashion_mnist", side=side, seed=seed, samples=asked.samples, modes=met, kl=round(kl, 4),
                       images=seen, extra=asked.extra, **floor)  # fmt: skip


if __name__ == "__main__":
    main()
