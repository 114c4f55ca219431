"""From a data set to the batches of a training."""

from __future__ import annotations

import numpy as np
import torch

from zeuxis import augment
from zeuxis.config import TrainOptions
from zeuxis.data import Dataset, Order
from zeuxis.families.base import Batch
from zeuxis.images import to_float
from zeuxis.randomness import generator_for, seed_of


class Feed:
    """Pictures of the training split in a resumable order, as batches on the device."""

    def __init__(self, dataset: Dataset, conditional: bool, options: TrainOptions, device: torch.device) -> None:
        self.split, self.conditional, self.device = dataset.train, conditional, device
        self.mirror, self.seed = options.mirror, options.seed
        everything = np.arange(len(self.split))
        # A class-conditional model learns from the pictures that have a class.
        self.positions = everything[self.split.labels >= 0] if conditional else everything
        self.order = Order(len(self.positions), seed_of(self.seed, "order"))

    def batch(self, images_seen: int, count: int) -> Batch:
        """The `count` pictures that follow after `images_seen`."""
        positions = self.positions[self.order.at(images_seen, count)]
        images = to_float(torch.from_numpy(self.split.take(positions)).to(self.device))
        images = images.contiguous(memory_format=torch.channels_last)
        if self.mirror:
            images = augment.mirror(images, generator_for(self.seed, "mirror", images_seen))
        labels = torch.from_numpy(self.split.labels[positions]).to(self.device) if self.conditional else None
        return Batch(images, labels)
