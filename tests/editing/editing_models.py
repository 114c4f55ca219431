"""Models as they are built, for tests of editing."""

from __future__ import annotations

import numpy as np
import torch

from zeuxis.checkpoint import Model
from zeuxis.config import ImageSpec
from zeuxis.families import make_family
from zeuxis.sampling import Sampler

NAMES = ["gan/dcgan/tiny", "gan/mlp/tiny", "gan/stylegan2/tiny", "vae/conv/tiny", "vae/ladder/tiny"]
FLAT = NAMES[:-1]  # with one vector for a picture or for each level


def tiny(
    name: str = "gan/dcgan/tiny",
    channels: int = 3,
    classes: int = 0,
    side: int = 16,
    settings: dict[str, object] | None = None,
    **spec: bool,
) -> Model:
    """A model as it is built, its outputs spread out so that pictures differ."""
    torch.manual_seed(1)
    family = make_family(name, ImageSpec(height=side, width=side, channels=channels, **spec), classes, settings)
    networks = {
        part: net.eval().requires_grad_(False) for part, net in family.build().items() if part in family.model_parts
    }
    for network in networks.values():
        for child in network.modules():
            if isinstance(child, torch.nn.Linear | torch.nn.ConvTranspose2d) and name != "gan/stylegan2/tiny":
                torch.nn.init.normal_(child.weight, 0, 1.2 / child.weight[0].numel() ** 0.5)
    names = tuple(f"class {index}" for index in range(classes))
    return Model(family, networks, name, names, (1,) * classes, "0" * 64)


def sampled(model: Model, seeds: range, label: int | None = None) -> np.ndarray:
    return np.concatenate(list(Sampler(model)(seeds, label=label)))
