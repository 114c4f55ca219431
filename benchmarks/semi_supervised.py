"""Fashion-MNIST with 1,000 labels: `zeuxis train --semi-supervised` against the same classifier on the labels alone.

Ours sees all training pictures, 1,000 of them with their class. The peer is the same discriminator as a classifier
(same network, head, optimiser, averaging, batch and augmentation) that sees the 1,000 labelled pictures and nothing
else. It is trained for several lengths and the one best on the validation pictures is kept, which ours is not allowed.
Both are judged on the 10,000 test pictures. The aim: 3 points less error.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from timing import report
from zeuxis.augment import augment, draw
from zeuxis.checkpoint import Model, load_model
from zeuxis.config import TrainOptions
from zeuxis.data import Dataset, open_dataset
from zeuxis.ema import Average, decay
from zeuxis.families.gan.objective import GAN, discriminator_of
from zeuxis.feed import Feed
from zeuxis.flat import FlatParameters
from zeuxis.metrics.model import classified_right
from zeuxis.randomness import generator_for
from zeuxis.steps import learning_rate

MOST = 10_000


def train_ours(asked: argparse.Namespace, seed: int, out: Path) -> Model:
    """The finished model."""
    length = ["--kimg", str(asked.kimg)] if asked.kimg else ["--budget", f"{asked.minutes * 60}s"]
    command = [sys.executable, "-m", "zeuxis", "train", asked.data, "--semi-supervised", "--labels", str(asked.labels)]
    command += [*length, "--seed", str(seed), "--out", str(out), *asked.extra]
    subprocess.run(command, check=True)
    return load_model(max(out.iterdir()))


def train_peer(family: GAN, dataset: Dataset, labels: int, seed: int, images: int) -> Model:
    """The discriminator of `family` on the labelled pictures alone, `images` of them shown in all."""
    options = TrainOptions(semi_supervised=True, labels=labels, seed=seed)
    feed = Feed(dataset, False, options, torch.device("cpu"), True)
    torch.manual_seed(seed)
    networks = family.build()
    discriminator = discriminator_of(networks)
    average = Average({"discriminator": discriminator})
    flat = FlatParameters([discriminator])
    training, batch = family.training, family.training.batch
    optimizer = torch.optim.Adam([flat.values], training.learning_rate, (training.beta1, training.beta2))
    for seen in range(0, images, batch):
        labelled = feed.batch(seen, batch).labelled
        assert labelled is not None and labelled.labels is not None
        draws = draw(batch, generator_for(seed, "peer", seen))
        if family.objective.consistency:
            pictures = family.changed(labelled.images, draws)
        else:
            strength = family.augmentation(seen / images)
            pictures = augment(labelled.images, draws, strength, family.augment.kinds, family.spec)
        flat.zero_grad()
        F.cross_entropy(family.classify(networks, pictures), labelled.labels).backward()
        optimizer.param_groups[0]["lr"] = learning_rate(training, seen / images)
        optimizer.step()
        half_life = min(training.ema * images, training.ema_ramp * seen)
        average.update(flat, decay(batch, half_life), torch.zeros(()))
    networks["discriminator"] = average.networks["discriminator"]
    return Model(family, networks, "peer", dataset.classes, (1,) * len(dataset.classes))


def accuracy(model: Model, dataset: Dataset, split: str = "test") -> float:
    """The share of pictures of a split that the model puts into their class."""
    return float(classified_right(model, getattr(dataset, split), MOST, "cpu").mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--labels", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--kimg", type=float, help="a length in thousands of images instead of minutes")
    parser.add_argument("--peer-kimg", default="20,60,200", help="lengths of which the peer may choose")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--extra", nargs=argparse.REMAINDER, default=[], help="more options for `zeuxis train`")
    asked = parser.parse_args()
    dataset = open_dataset(asked.data)
    gains = []
    for seed in range(asked.seeds):
        with tempfile.TemporaryDirectory() as temporary:
            ours = train_ours(asked, seed, Path(temporary) / "runs")
        family = ours.family
        assert isinstance(family, GAN)
        lengths = [round(float(each) * 1000) for each in asked.peer_kimg.split(",")]
        peers = [train_peer(family, dataset, asked.labels, seed, images) for images in lengths]
        on_validation = [accuracy(peer, dataset, "val") for peer in peers]
        best = int(np.argmax(on_validation))
        own, other = 1 - accuracy(ours, dataset), 1 - accuracy(peers[best], dataset)
        gains.append(other - own)
        report(
            "semi_supervised", data=asked.data, labels=asked.labels, seed=seed, extra=asked.extra,
            num=len(dataset.test), images_ours=ours.about["images_seen"], images_peer=lengths[best],
            error_ours=round(own, 4), error_peer=round(other, 4), points_less=round(100 * (other - own), 2),
        )  # fmt: skip
    mean, spread = (round(100 * float(each), 2) for each in (np.mean(gains), np.std(gains)))
    report("semi_supervised_all", labels=asked.labels, seeds=asked.seeds, points_less=mean, spread=spread)


if __name__ == "__main__":
    main()
