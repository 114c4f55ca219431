"""Writes the golden model folders of the present format; run once per new format, never over an old one.

python tests/golden/make_models.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from zeuxis.checkpoint import MODEL_FORMAT, Model, save_model
from zeuxis.config import ImageSpec
from zeuxis.families import make_family
from zeuxis.sampling import Sampler


def main() -> None:
    for name, classes, channels in (
        ("gan/dcgan/tiny", ("cat", "dog"), 1),
        ("gan/mlp/tiny", (), 1),
        ("gan/mlp/tiny", (), 4),
        ("vae/conv/tiny", (), 1),
        ("vae/mlp/tiny", ("cat", "dog"), 1),
    ):
        kind = f"{name.replace('/', '-')}{'-rgba' if channels == 4 else ''}"
        folder = Path(__file__).parent / "models" / f"format{MODEL_FORMAT}-{kind}"
        if folder.exists():
            continue
        family = make_family(name, ImageSpec(height=8, width=8, channels=channels), len(classes))
        torch.manual_seed(0)
        networks = {part: net.eval() for part, net in family.build().items() if part in family.model_parts}
        model = Model(family, networks, name, classes, (3, 1)[: len(classes)], "", {"images_seen": 0})
        save_model(model, folder)
        (pictures,) = Sampler(model)(range(8))
        np.save(folder / "pictures.npy", pictures)


if __name__ == "__main__":
    main()
