"""Binarised Fashion-MNIST: test negative log-likelihood of Zeuxis's VAE networks and of pythae's VAE, IWAE and HVAE.

Protocol: each of 60,000 training and 10,000 test pictures is binarised once, by uniform numbers of generator seed 0 (a
pixel is white with its intensity as probability); all models see the same number of pictures in batches of 64 and are
judged by the importance-weighted bound with K = 500 on the first 2,000 test pictures, and with K = 5,000 on the first
100 as a check. pythae has its own ResNet for 28x28, 32 latents and Adam 1e-3.

python benchmarks/vae_likelihood.py --kimg 600 --seeds 3
python benchmarks/vae_likelihood.py --kimg 1 --pictures 50 --samples 20 --check 0 --ours conv --peers VAE    (a try)
python benchmarks/vae_likelihood.py --bits --ours conv ladder --peers    (8 bits: bits per dimension)
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench_vae_mlp import find_pythae
from timing import report, seconds
from vae_peers import MODELS, log_likelihood, pythae_resnet, train
from zeuxis.checkpoint import load_model
from zeuxis.config import TrainOptions
from zeuxis.data import open_dataset
from zeuxis.images import to_float
from zeuxis.metrics.likelihood import BIN, dequantise
from zeuxis.randomness import generator_for
from zeuxis.training import start

OURS = ("conv", "dlgm", "ladder")
CHUNK = 20  # pictures whose K draws are weighted at once


def binarised() -> tuple[Tensor, Tensor]:
    """Training and test pictures, uint8 0 or 255, `[N, 1, 28, 28]`."""
    data = open_dataset("fashion-mnist")
    generator = torch.Generator().manual_seed(0)
    splits = [np.concatenate([data.train.all(), data.val.all()]), data.test.all()]
    found = [torch.from_numpy(split) for split in splits]
    drawn = [torch.rand(part.shape, generator=generator) * 255 < part for part in found]
    return drawn[0].to(torch.uint8) * 255, drawn[1].to(torch.uint8) * 255


def ours(network: str, pictures: Any, kimg: float, seed: int, likelihood: dict[str, Any], folder: Path) -> Any:
    """A trained model; `pictures` is what `open_dataset` takes."""
    options = TrainOptions(model=f"vae/{network}", kimg=kimg, seed=seed, snapshots=1, batch=64, settings=likelihood)
    everything = options.data.model_copy(update={"test_fraction": 0.0, "val_fraction": 0.0})
    whole = pictures if isinstance(pictures, str) else pictures.permute(0, 2, 3, 1).numpy()
    dataset = open_dataset(whole, everything, cache_dir=folder / "cache")
    training = start(options.model_copy(update={"data": everything}), dataset, folder / "runs")
    outcome = training.run()
    return load_model(outcome.folder)


@torch.inference_mode()
def bound(model: Any, pictures: Tensor, samples: int, seed: int) -> Tensor:
    """Nats `[N]` of uint8 pictures; a density gets them dequantised."""
    generator = generator_for("benchmark", seed)
    parts = []
    for part in pictures.split(CHUNK):
        continuous = model.family.likelihood_unit == "continuous"
        images = dequantise(part, generator) if continuous else to_float(part)
        parts.append(model.family.log_likelihood(model.networks, images, None, generator, samples))
    return torch.cat(parts)


def say(name: str, nats: Tensor, asked: argparse.Namespace, seed: int, took: float, **more: object) -> None:
    error = float(nats.std() / math.sqrt(len(nats)))
    report(name, nll=round(-float(nats.mean()), 3), standard_error=round(error, 3), pictures=len(nats),
           kimg=asked.kimg, seed=seed, training_seconds=round(took), **more)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kimg", type=float, default=600.0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--check", type=int, default=100, help="pictures of the check with ten times the samples")
    parser.add_argument("--ours", nargs="*", default=list(OURS))
    parser.add_argument("--peers", nargs="*", default=list(MODELS))
    parser.add_argument("--bits", action="store_true", help="8-bit pictures: bits per dimension of our networks")
    parser.add_argument("--peer-path", default=os.environ.get("PYTHAE_PATH"), help="folder that holds pythae")
    asked = parser.parse_args()
    if asked.bits:
        bits(asked)
        return
    if asked.peers:
        find_pythae(asked.peer_path)
        warnings.filterwarnings("ignore", message="Carefull")  # HVAE is given the logits that it asks for
    pictures, test = binarised()
    for seed in range(asked.seeds):
        for network in asked.ours:
            with tempfile.TemporaryDirectory() as temporary:
                models: list[Any] = []
                settings = {"objective.likelihood": "bernoulli"} | (
                    {} if network == "ladder" else {"objective.prior": "standard"}
                )
                make = lambda: models.append(ours(network, pictures, asked.kimg, seed, settings, Path(temporary)))  # noqa: E731, B023
                took = seconds(make)
                own = bound(models[0], test[: asked.pictures], asked.samples, seed)
                more = {"K": asked.samples}
                if asked.check:
                    tight = bound(models[0], test[: asked.check], 10 * asked.samples, seed)
                    more |= {"nll_on_check": round(-float(own[: asked.check].mean()), 3),
                             "nll_on_check_10K": round(-float(tight.mean()), 3)}  # fmt: skip
                say(f"binarised Fashion-MNIST, vae/{network}", own, asked, seed, took, **more)
        for kind in asked.peers:
            torch.manual_seed(seed)
            model = pythae_resnet(kind, 32, "bce")
            took = seconds(lambda: train(model, pictures, images=round(asked.kimg * 1000)))  # noqa: B023
            chunks = test[: asked.pictures].split(CHUNK * 10)
            own = torch.cat([log_likelihood(model, part, asked.samples) for part in chunks])
            say(f"binarised Fashion-MNIST, pythae {kind}", own, asked, seed, took, K=asked.samples)


def bits(asked: argparse.Namespace) -> None:
    """Bits per dimension on 8-bit Fashion-MNIST, each network with the likelihood of its preset."""
    test = torch.from_numpy(open_dataset("fashion-mnist").test.take(range(asked.pictures)))
    for seed in range(asked.seeds):
        for network in asked.ours:
            with tempfile.TemporaryDirectory() as temporary:
                models: list[Any] = []
                settings = {} if network == "ladder" else {"objective.prior": "standard"}
                took = seconds(lambda: models.append(  # noqa: B023
                    ours(network, "fashion-mnist", asked.kimg, seed, settings, Path(temporary))))  # noqa: B023  # fmt: skip
                nats = bound(models[0], test, min(asked.samples, 100), seed)
                shift = 784 * math.log(BIN) if models[0].family.likelihood_unit == "continuous" else 0.0
                own = -(nats + shift) / (784 * math.log(2))
                likelihood = models[0].family.settings["objective"]["likelihood"]
                say(f"8-bit Fashion-MNIST, vae/{network}", nats, asked, seed, took, likelihood=likelihood,
                    bits_per_dimension=round(float(own.mean()), 4), K=min(asked.samples, 100))  # fmt: skip


if __name__ == "__main__":
    main()
