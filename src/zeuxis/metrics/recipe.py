"""How the `dataset` extractor is trained, once per data set: a classifier where there are classes, else
contrastively."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from zeuxis.config import ImageSpec
from zeuxis.data import Dataset, Order
from zeuxis.metrics.networks import FeatureNet, visible, visible_channels
from zeuxis.randomness import generator_for

RECIPE = 3  # part of the cache key: a change of anything below needs a new number
BATCH = 128
PEAK_RATE = 4e-3
IMAGES = (20_000, 300_000)  # shown in all: five times the data, within these bounds
PASSES = 5
TEMPERATURE = 0.2


def train_extractor(dataset: Dataset, spec: ImageSpec) -> FeatureNet:
    """A network trained on the training pictures with a fixed recipe and seed, in evaluation mode.

    With classes: cross-entropy with label smoothing 0.1 over pictures as they are (moving them pays in longer training
    only). Without: two random crops of a picture must find each other in the batch (SimCLR's NT-Xent loss, Chen et al.
    2020, Eq. 1).
    """
    labels = dataset.train.labels
    positions = np.flatnonzero(labels >= 0)
    supervised = is_supervised(dataset)
    positions = positions if supervised else np.arange(len(labels))
    images = min(max(IMAGES[0], PASSES * len(positions)), IMAGES[1])

    def take(chosen: NDArray[np.int64]) -> NDArray[np.uint8]:
        return dataset.train.take(positions[chosen])

    return train_network(
        take, labels[positions] if supervised else None, len(positions), spec, len(dataset.classes), images
    )


def is_supervised(dataset: Dataset) -> bool:
    """Whether there are classes, and labelled pictures enough to learn them."""
    return len(dataset.classes) > 1 and int((dataset.train.labels >= 0).sum()) >= 10 * len(dataset.classes)


def train_network(
    take: Callable[[NDArray[np.int64]], NDArray[np.uint8]], labels: NDArray[np.int64] | None, count: int,
    spec: ImageSpec, classes: int, images: int,
) -> FeatureNet:  # fmt: skip
    """Trains on the `count` pictures that `take` gives by position until `images` were shown: a classifier of `labels`
    `[count]`, or contrastively without them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = FeatureNet(visible_channels(spec), spec, 64 if labels is None else classes)
    net.train()
    batch = max(2, min(BATCH, count))
    steps = math.ceil(images / batch)
    order, generator = Order(count, 0), generator_for("extractor")
    optimizer = torch.optim.AdamW(net.parameters(), PEAK_RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=steps)
    for step in range(steps):
        chosen = order.at(step * batch, batch)
        shown = visible(torch.from_numpy(take(chosen)))
        loss = (
            _contrasted(net, shown, generator)
            if labels is None
            else F.cross_entropy(_run(net, shown), torch.from_numpy(labels[chosen]), label_smoothing=0.1)
        )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    return net.eval().requires_grad_(False)


def _contrasted(net: FeatureNet, images: Tensor, generator: torch.Generator) -> Tensor:
    views = torch.cat([_crops(images, generator, least=0.5, shift=0.25) for _ in range(2)])
    codes = F.normalize(_run(net, views), dim=1)
    similar = codes @ codes.T / TEMPERATURE
    similar.fill_diagonal_(-1e9)
    return F.cross_entropy(similar, torch.arange(len(views)).roll(len(images)))


def _run(net: FeatureNet, images: Tensor) -> Tensor:
    return net(images.contiguous(memory_format=torch.channels_last)).float()


def _crops(images: Tensor, generator: torch.Generator, least: float, shift: float) -> Tensor:
    """Each picture zoomed by up to 1 / `least` and moved by up to `shift` of its side; edges continue."""
    count = len(images)
    scale = least + (1 - least) * torch.rand(count, generator=generator)
    moved = (torch.rand(count, 2, generator=generator) * 2 - 1) * 2 * shift
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = scale
    theta[:, :, 2] = moved
    where = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, where, padding_mode="border", align_corners=False)
