"""`vae/mlp/article` training, batch 64, against pythae's VAE with the same layers (784-256, 256 latents, 256-784).

Two comparisons. "training" is everything that happens between two steps of a run: pythae's `BaseTrainer.train_step`
(its data loader, device placement, callbacks, `loss.item()`) against Zeuxis's loop (order, cache, noise, statistics,
averaged weights, states on the disk). "step" is the bare minimum of both: pythae's model, its loss, backward and Adam
in a plain loop over batches that lie ready, against `Stepper.step` on the same.

pythae is no dependency: put it into a folder of its own with
`pip install --no-deps --target FOLDER pythae==0.1.2 cloudpickle tqdm imageio` and name that by `--peer-path` or
`PYTHAE_PATH`.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from timing import Turns, in_turns, report, seconds
from zeuxis.config import TrainOptions
from zeuxis.data import Dataset, open_dataset
from zeuxis.families.base import Batch
from zeuxis.images import to_float
from zeuxis.planning import bind
from zeuxis.steps import Precision, Stepper, average_factor
from zeuxis.training import start

SIDE, BATCH, HIDDEN, LATENT = 28, 64, 256, 256
PICTURES = 64 * BATCH  # an epoch
EPOCHS = 100  # longer than anything timed here, so that no run comes to its end


def find_pythae(path: str | None) -> None:
    """Makes `import pythae` work, or ends with one line."""
    if path:
        sys.path.append(path)
    try:
        import pythae.trainers  # noqa: F401
    except ImportError as error:
        print(f"bench_vae_mlp: pythae cannot be imported ({error}); install it into a folder of its own "
              "(see the head of this file) and give --peer-path FOLDER or PYTHAE_PATH", file=sys.stderr)  # fmt: skip
        sys.exit(2)
    logging.getLogger("pythae").setLevel(logging.WARNING)


def pythae_model() -> nn.Module:
    """pythae's VAE with the article's layers and the Bernoulli likelihood."""
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.hidden = nn.Linear(SIDE * SIDE, HIDDEN)
            self.mean, self.log_variance = nn.Linear(HIDDEN, LATENT), nn.Linear(HIDDEN, LATENT)

        def forward(self, x: Tensor) -> Any:
            hidden = torch.relu(self.hidden(x.flatten(1)))
            return ModelOutput(embedding=self.mean(hidden), log_covariance=self.log_variance(hidden))

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(LATENT, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, SIDE * SIDE),
                                        nn.Sigmoid())  # fmt: skip

        def forward(self, z: Tensor) -> Any:
            return ModelOutput(reconstruction=self.layers(z).unflatten(1, (1, SIDE, SIDE)))

    config = VAEConfig(input_dim=(1, SIDE, SIDE), latent_dim=LATENT, reconstruction_loss="bce")
    return VAE(config, encoder=Encoder(), decoder=Decoder())


def pythae_epoch(images: Tensor, folder: Path) -> Callable[[], None]:
    """One epoch by pythae's own trainer over `images` float [0, 1] `[N, 1, H, W]`; its progress bar is left off."""
    from pythae.data.datasets import BaseDataset
    from pythae.trainers import BaseTrainer, BaseTrainerConfig
    from pythae.trainers.training_callbacks import CallbackHandler, TrainingCallback

    config = BaseTrainerConfig(output_dir=str(folder), per_device_train_batch_size=BATCH, learning_rate=1e-3,
                               no_cuda=True)  # fmt: skip
    trainer = BaseTrainer(pythae_model(), BaseDataset(images, torch.zeros(len(images))), training_config=config)
    trainer.prepare_training()
    trainer.callback_handler = CallbackHandler(callbacks=[TrainingCallback()], model=trainer.model)
    return lambda: trainer.train_step(epoch=1)


def compare_training(dataset: Dataset, turns: int, folder: Path) -> tuple[Turns, dict[str, Any]]:
    """Epochs of both loops in turns: pythae's turn comes inside the `stop` callback of Zeuxis's loop."""
    images = torch.from_numpy(dataset.train.all()).float() / 255
    theirs = pythae_epoch(images, folder / "pythae")
    options = TrainOptions(model="vae/mlp/article", kimg=EPOCHS * PICTURES / 1000, snapshots=1)
    training = start(options, dataset, folder / "runs")
    own: list[float] = []
    other: list[float] = []

    def stop(images_seen: int) -> bool:
        if images_seen % PICTURES == 0:
            own.append(training.elapsed - sum(other))
            other.append(seconds(theirs))
        return len(other) == turns + 2

    training.run(stop=stop)
    epochs = [after - before for before, after in zip(own, own[1:], strict=False)]
    return Turns(epochs[1:], other[2:]), training.resolved  # the first epoch of both was the warm-up


def compare_step(dataset: Dataset, turns: int, precision: Precision) -> tuple[Turns, list[int]]:
    """The same number of bare steps of both in turns, over batches that lie ready."""
    from pythae.data.datasets import DatasetOutput

    _, family = bind(TrainOptions(model="vae/mlp/article"), dataset)
    torch.manual_seed(0)
    stepper = Stepper(family, family.build(), precision)
    phase = family.stages()[0].phases[0]
    pixels = torch.from_numpy(dataset.train.all()).split(BATCH)
    batches = [Batch(to_float(part)) for part in pixels]
    plain = [DatasetOutput(data=part.float() / 255) for part in pixels]
    generator, factor = torch.Generator().manual_seed(0), average_factor(family.training, 10**5, 10**6)
    model = pythae_model().train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def ours() -> None:
        for batch in batches:
            noise = family.noise(BATCH, generator, "train")
            stepper.step(phase, batch, noise, progress=0.0, average=factor)

    def theirs() -> None:
        for batch in plain:
            loss = model(batch).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    sizes = [sum(p.numel() for network in stepper.networks.values() for p in network.parameters())]
    sizes.append(sum(p.numel() for p in model.parameters()))
    return in_turns(ours, theirs, turns=turns, warm_up=2), sizes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--peer-path", default=os.environ.get("PYTHAE_PATH"), help="folder that holds pythae")
    arguments = parser.parse_args()
    find_pythae(arguments.peer_path)
    from importlib.metadata import version

    # Smooth random pictures: the time of a step does not depend on what is in them.
    coarse = torch.rand(PICTURES, 1, 7, 7, generator=torch.Generator().manual_seed(0))
    pictures = torch.nn.functional.interpolate(coarse, (SIDE, SIDE), mode="bilinear")[:, 0]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        everything = TrainOptions().data.model_copy(update={"test_fraction": 0.0, "val_fraction": 0.0})
        dataset = open_dataset((pictures * 255).numpy().astype(np.uint8), everything, cache_dir=folder / "cache")
        assert len(dataset.train) == PICTURES
        times, resolved = compare_training(dataset, arguments.turns, folder)
        bare, sizes = compare_step(dataset, arguments.turns, resolved["precision"])
    common = {"arithmetic": resolved["precision"], "threads": torch.get_num_threads(), "pythae": version("pythae"),
              "parameters": sizes}  # fmt: skip
    for what, turns in (("training", times), ("step", bare)):
        own, other = turns.seconds
        report(f"vae/mlp/article {what}, 28x28 grey, batch 64, against pythae", **turns.to_json(), **common,
               ours_images_per_second=round(PICTURES / own),
               peer_images_per_second=round(PICTURES / other))  # fmt: skip


if __name__ == "__main__":
    main()
