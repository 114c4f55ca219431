"""Samples of `vae/conv` on Fashion-MNIST: the fitted prior against N(0, I), and against pythae's ResNet VAE after as
long.

Zeuxis is run as a user runs it. pythae's VAE has its own ResNet, mean squared error, 16 latents and Adam 1e-3, and is
sampled by its Gaussian-mixture sampler (10 components) and from N(0, I). All are judged by as many samples against the
held-out pictures.

python benchmarks/vae_samples.py --minutes 10
python benchmarks/vae_samples.py --minutes 0.5 --num 500     (a try)
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench_vae_mlp import find_pythae
from timing import report
from vae_peers import pythae_resnet, train
from zeuxis.checkpoint import load_model
from zeuxis.data import open_dataset
from zeuxis.evaluation import evaluate
from zeuxis.families.base import RenderOptions
from zeuxis.images import grid, save_png
from zeuxis.sampling import Sampler

METRICS = ("fd", "kid", "pr", "dc")


def our_samples(asked: argparse.Namespace, seed: int) -> dict[str, np.ndarray]:
    with tempfile.TemporaryDirectory() as temporary:
        command = [sys.executable, "-m", "zeuxis", "train", "fashion-mnist", "--model", "vae/conv"]
        command += ["--budget", f"{asked.minutes * 60}s", "--seed", str(seed), "--out", temporary, *asked.extra]
        subprocess.run(command, check=True)
        model = load_model(max(Path(temporary).iterdir()))
        return {
            f"vae/conv, {prior} prior": np.concatenate(
                list(Sampler(model)(range(asked.num), options=RenderOptions(prior=prior)))
            )
            for prior in ("fitted", "standard")
        }


def peer_samples(asked: argparse.Namespace, seed: int, pictures: torch.Tensor) -> dict[str, np.ndarray]:
    from pythae.samplers import (
        GaussianMixtureSampler,
        GaussianMixtureSamplerConfig,
        NormalSampler,
    )

    torch.manual_seed(seed)
    model: Any = pythae_resnet("VAE", 16, "mse")
    train(model, pictures, seconds=asked.minutes * 60)
    found = {}
    for name, sampler in (
        ("Gaussian mixture", GaussianMixtureSampler(model, GaussianMixtureSamplerConfig(n_components=10))),
        ("N(0, I)", NormalSampler(model)),
    ):
        sampler.fit(train_data=pictures[:10_000].float() / 255) if name != "N(0, I)" else None
        drawn = sampler.sample(num_samples=asked.num, batch_size=500, return_gen=True)
        found[f"pythae ResNet VAE, {name}"] = (drawn * 255).round().clamp(0, 255).to(torch.uint8).numpy()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--num", type=int, default=10_000)
    parser.add_argument("--features", default="dataset")
    parser.add_argument("--sheets", type=Path, help="folder for a sheet of samples of each")
    parser.add_argument("--peer-path", default=os.environ.get("PYTHAE_PATH"), help="folder that holds pythae")
    parser.add_argument("--extra", nargs=argparse.REMAINDER, default=[], help="more options for `zeuxis train`")
    asked = parser.parse_args()
    find_pythae(asked.peer_path)
    dataset = open_dataset("fashion-mnist")
    pictures = torch.from_numpy(dataset.train.all())
    for seed in range(asked.seeds):
        for name, samples in {**our_samples(asked, seed), **peer_samples(asked, seed, pictures)}.items():
            rows = evaluate(iter([samples]), dataset, num=asked.num, metrics=METRICS, features=(asked.features,))
            values = {row.metric: round(row.value, 5) for row in rows if row.reference == "test"}
            report(f"Fashion-MNIST samples, {name}", minutes=asked.minutes, seed=seed, num=asked.num, **values)
            if asked.sheets:
                asked.sheets.mkdir(parents=True, exist_ok=True)
                sheet = grid(samples[:64].transpose(0, 2, 3, 1), 8, scale=2)
                save_png(sheet, asked.sheets / f"{name.replace('/', '-').replace(' ', '-')}-{seed}.png")


if __name__ == "__main__":
    main()
