"""`vae/vq` and `vae/fsq`: how many of 512 codes held-out pictures use, and how well `fsq` with 256 tokens of 1,000
reconstructs held-out 64x64 pictures.

python benchmarks/codes.py --minutes 10 --data fashion-mnist EMOJI_FOLDER
python benchmarks/codes.py --reconstruct EMOJI_FOLDER --minutes 30
python benchmarks/codes.py --minutes 0.5 --data fashion-mnist                 (a try)

EMOJI_FOLDER is any folder of 64x64 pictures, such as `img/twitter/64` of the npm package emoji-datasource-twitter.
Pictures with transparency are composited on grey before the error is taken.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from timing import report
from zeuxis.checkpoint import load_model
from zeuxis.config import DataOptions
from zeuxis.data import Dataset, open_dataset
from zeuxis.images import composite, to_float, to_pixels
from zeuxis.metrics.reconstruction import psnr

CHUNK = 64
GREY = 128


def trained(data: str, model: str, minutes: float, seed: int, settings: list[str]) -> Any:
    with tempfile.TemporaryDirectory() as temporary:
        command = [sys.executable, "-m", "zeuxis", "train", data, "--model", model, "--budget", f"{minutes * 60}s"]
        command += ["--seed", str(seed), "--out", temporary, "--snapshots", "2"]
        subprocess.run([*command, *(part for pair in settings for part in ("--set", pair))], check=True)
        return load_model(max(Path(temporary).iterdir()))


@torch.inference_mode()
def codes_in_use(model: Any, dataset: Dataset) -> tuple[float, float]:
    """Share of the codes that held-out pictures use, and exp(entropy) as a share."""
    size = model.family.latents.codes_known
    counts = torch.zeros(size, dtype=torch.float64)
    for pixels in dataset.test.batches(CHUNK):
        tokens = model.family.encode_tokens(model.networks, to_float(torch.from_numpy(pixels)), None)
        counts += torch.bincount(tokens.flatten(), minlength=size)
    share = counts / counts.sum()
    return float((counts > 0).double().mean()), float(torch.special.entr(share).sum().exp() / size)


@torch.inference_mode()
def quality(model: Any, dataset: Dataset) -> np.ndarray:
    """PSNR in dB of each held-out picture."""
    found = []
    for pixels in dataset.test.batches(CHUNK):
        again = to_pixels(model.family.reconstruct(model.networks, to_float(torch.from_numpy(pixels)), None)).numpy()
        sides = [composite(side, GREY) if side.shape[1] == 4 else side for side in (again, pixels)]
        found.append(psnr(*sides))
    return np.concatenate(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--data", nargs="*", default=["fashion-mnist"])
    parser.add_argument("--networks", nargs="*", default=["vq", "fsq"])
    parser.add_argument("--reconstruct", metavar="FOLDER", help="PSNR of 64x64 pictures by fsq with 256 tokens")
    asked = parser.parse_args()
    for seed in range(asked.seeds):
        for data in [] if asked.reconstruct else asked.data:
            for network in asked.networks:
                model = trained(data, f"vae/{network}", asked.minutes, seed, ["objective.prior=standard"])
                dataset = open_dataset(data)
                used, even = codes_in_use(model, dataset)
                report(f"codes in use, vae/{network}, {dataset.name}", codes=model.family.latents.codes_known,
                       in_use=round(used, 4), perplexity_share=round(even, 4), minutes=asked.minutes, seed=seed,
                       test_pictures=len(dataset.test),
                       psnr=round(float(quality(model, dataset).mean()), 2))  # fmt: skip
        if asked.reconstruct:
            settings = ["network.codes=1024", "network.factor=4", "objective.prior=standard"]
            model = trained(asked.reconstruct, "vae/fsq", asked.minutes, seed, settings)
            own = DataOptions(resolution=(model.spec.height, model.spec.width), channels=model.spec.channels)
            values = quality(model, open_dataset(asked.reconstruct, own))
            report("reconstruction of held-out pictures, vae/fsq", pictures=len(values), minutes=asked.minutes,
                   seed=seed, tokens=int(np.prod(model.family.latents.grid)), codes=model.family.latents.codes_known,
                   psnr=round(float(values.mean()), 2),
                   standard_error=round(float(values.std() / len(values) ** 0.5), 3))  # fmt: skip


if __name__ == "__main__":
    main()
