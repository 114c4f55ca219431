"""Zeuxis's models and other people's tools on the same pictures for the same minutes, judged alike on one page.

    python benchmarks/compare_with_peers.py fashion-mnist --minutes 5 --pythae FOLDER --keras PYTHON --out FOLDER

- `dcgan`: PyTorch's own DCGAN example as plain float32 code (peers.py).
- `pythae`: its VAE with the networks that it takes by itself and its own trainer, sampled by its NormalSampler. No
  dependency of Zeuxis: `pip install --no-deps --target FOLDER pythae==0.1.2 cloudpickle tqdm imageio`.
- `keras-gan`, `keras-vae`: the article's fully connected networks in Keras, as its readers run them, with its two
  mistakes kept: the VAE's sampling line drops the noise and its loss has no KL term. PYTHON is the interpreter of an
  environment of its own with `tensorflow-cpu`. Grey pictures only.

Each peer runs in a process of its own and writes `NAME.npz` with what it took in `NAME.json`; a peer that is there
already is not run again, and `zeuxis compare` goes on with its own models where it was stopped. Minutes are those of
training; imports and sampling are not counted. Times are only fair on a machine with nothing else to do.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Pictures = np.ndarray  # uint8 [N, H, W, C]


class TimeUp(Exception):
    """Ends a trainer that knows only epochs."""


# -- the peers; each trains for `seconds` and returns (pictures, what it took). Zeuxis is not imported here. -----------
def run_dcgan(images: Pictures, seconds: float, count: int) -> tuple[Pictures, dict[str, Any]]:
    """The plain DCGAN of peers.py."""
    import torch

    from peers import PlainDcgan

    torch.manual_seed(0)
    peer = PlainDcgan(images.shape[1], images.shape[3])
    started = time.perf_counter()
    seen = peer.train(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()), seconds)
    cost = _cost(started, seen, sum(p.numel() for p in peer.generator.parameters()))
    started = time.perf_counter()
    pictures = peer.sample(count).permute(0, 2, 3, 1).numpy()
    return pictures, {**cost, "sample_rate": count / (time.perf_counter() - started), "precision": "float32",
                      "about": "PyTorch's DCGAN example, plain float32"}  # fmt: skip


def run_pythae(images: Pictures, seconds: float, count: int) -> tuple[Pictures, dict[str, Any]]:
    """pythae's VAE by its own trainer, stopped by a callback when the time is up."""
    import logging

    import torch
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEConfig
    from pythae.samplers import NormalSampler
    from pythae.trainers import BaseTrainer, BaseTrainerConfig
    from pythae.trainers.training_callbacks import CallbackHandler, TrainingCallback

    logging.getLogger("pythae").setLevel(logging.WARNING)
    torch.manual_seed(0)
    data = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).float() / 255
    config = VAEConfig(input_dim=tuple(data.shape[1:]), latent_dim=16, reconstruction_loss="bce")
    model, batch, steps = VAE(config), 64, 0

    class Clock(TrainingCallback):
        def on_train_step_end(self, training_config: Any, **values: Any) -> None:
            nonlocal steps
            steps += 1
            if time.perf_counter() - started > seconds:
                raise TimeUp

    with tempfile.TemporaryDirectory() as folder:
        settings = BaseTrainerConfig(output_dir=folder, per_device_train_batch_size=batch, learning_rate=1e-3,
                                     no_cuda=True)  # fmt: skip
        trainer = BaseTrainer(model, BaseDataset(data, torch.zeros(len(data))), training_config=settings)
        trainer.prepare_training()
        trainer.callback_handler = CallbackHandler(callbacks=[Clock()], model=trainer.model)
        started = time.perf_counter()
        with contextlib.suppress(TimeUp):
            for epoch in range(1, 10**6):
                trainer.train_step(epoch=epoch)
    cost = _cost(started, steps * batch, sum(p.numel() for p in model.parameters()))
    started = time.perf_counter()
    drawn = NormalSampler(model.eval()).sample(num_samples=count, batch_size=256)
    rate = count / (time.perf_counter() - started)
    pictures = drawn.clamp(0, 1).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return pictures, {**cost, "sample_rate": rate, "precision": "float32", "about": "pythae's VAE, NormalSampler"}


def run_keras_gan(images: Pictures, seconds: float, count: int) -> tuple[Pictures, dict[str, Any]]:
    """The article's GAN, batch 64."""
    import keras

    from keras_article import Gan

    keras.utils.set_random_seed(0)
    data, seen = _flat(images) * 2 - 1, 0
    gan = Gan(images[0].size, 64)
    before = [weights.copy() for weights in gan.discriminator.get_weights()]
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:
        gan.step(data)
        seen += gan.batch
    cost = _cost(started, seen, gan.generator.count_params())
    after = gan.discriminator.get_weights()
    moved = any(np.abs(own - old).max() > 0 for own, old in zip(after, before, strict=True))
    assert moved, "this Keras trains no discriminator that was frozen after it was compiled"
    started = time.perf_counter()
    drawn = gan.generator.predict(gan.noise(count), batch_size=256, verbose=0)
    rate = count / (time.perf_counter() - started)
    return _pictures((drawn + 1) / 2, images), {**cost, "sample_rate": rate, "precision": "float32",
                                                "about": "the article's GAN in Keras"}  # fmt: skip


def run_keras_vae(images: Pictures, seconds: float, count: int) -> tuple[Pictures, dict[str, Any]]:
    """The article's VAE, batch 64, sampled as the article does, by decoding standard normal noise."""
    import keras

    from keras_article import LATENT, vae

    keras.utils.set_random_seed(0)
    data, batch, steps = _flat(images), 64, 0
    model, decoder = vae(images[0].size)

    class Clock(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            nonlocal steps
            steps += 1
            if time.perf_counter() - started > seconds:
                raise TimeUp

    started = time.perf_counter()
    with contextlib.suppress(TimeUp):
        model.fit(data, data, batch_size=batch, epochs=10**6, verbose=0, callbacks=[Clock()])
    cost = _cost(started, steps * batch, model.count_params())
    noise = np.random.default_rng(0).standard_normal((count, LATENT)).astype("float32")
    started = time.perf_counter()
    drawn = decoder.predict(noise, batch_size=256, verbose=0)
    rate = count / (time.perf_counter() - started)
    return _pictures(drawn, images), {**cost, "sample_rate": rate, "precision": "float32",
                                      "about": "the article's VAE in Keras, its mistakes kept"}  # fmt: skip


def _cost(started: float, seen: int, parameters: int) -> dict[str, Any]:
    took = time.perf_counter() - started
    return {"train_seconds": took, "images_seen": seen, "train_rate": seen / took, "parameters": parameters,
            "size_bytes": 4 * parameters, "device": "cpu"}  # fmt: skip


def _flat(images: Pictures) -> np.ndarray:
    """uint8 `[N, H, W, C]` -> float32 `[N, H * W * C]` in [0, 1]."""
    return (images.reshape(len(images), -1) / 255).astype("float32")


def _pictures(flat: np.ndarray, like: Pictures) -> Pictures:
    return (flat.clip(0, 1) * 255).round().astype(np.uint8).reshape(-1, *like.shape[1:])


PEERS: dict[str, Callable[[Pictures, float, int], tuple[Pictures, dict[str, Any]]]] = {
    "dcgan": run_dcgan,
    "pythae": run_pythae,
    "keras-gan": run_keras_gan,
    "keras-vae": run_keras_vae,
}


def work(name: str, data: Path, seconds: float, count: int, out: Path) -> None:
    """Runs one peer in this process, writes its pictures, then what it took."""
    with np.load(data, allow_pickle=False) as archive:
        images = archive["images"]
    pictures, cost = PEERS[name](images, seconds, count)
    np.savez(out / f"{name}.part.npz", images=pictures)
    (out / f"{name}.json").write_text(json.dumps(cost))
    (out / f"{name}.part.npz").rename(out / f"{name}.npz")


def main() -> None:
    """Trains the peers one after the other, then calls `zeuxis compare` with them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", default="fashion-mnist")
    parser.add_argument("--minutes", type=float, default=5.0, help="of training, for each")
    parser.add_argument("--models", default="gan,vae", help="of Zeuxis")
    parser.add_argument("--pythae", type=Path, help="folder that holds pythae")
    parser.add_argument("--keras", help="interpreter of an environment with tensorflow-cpu")
    parser.add_argument("--num", type=int, default=10_000, help="pictures on each side, at most")
    parser.add_argument("--features", default="dataset", help="extractors, as of zeuxis compare")
    parser.add_argument("--out", type=Path, default=Path("peers"))
    parser.add_argument("--worker", choices=PEERS, help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, default=10_000, help=argparse.SUPPRESS)
    options = parser.parse_args()
    seconds = options.minutes * 60
    if options.worker:
        if options.pythae:
            sys.path.append(str(options.pythae))
        work(options.worker, Path(options.data), seconds, options.count, options.out)
        return
    from zeuxis.data import open_dataset

    options.out.mkdir(parents=True, exist_ok=True)
    dataset = open_dataset(options.data)
    pixels = options.out / "data.npz"
    np.savez(pixels, images=dataset.train.all().transpose(0, 2, 3, 1))
    here = sys.executable
    chosen = {"dcgan": here} | ({"pythae": here} if options.pythae else {})
    chosen |= dict.fromkeys(("keras-gan", "keras-vae"), options.keras) if options.keras else {}
    count = str(min(options.num, len(dataset.test)))
    for name, python in chosen.items():
        if not (options.out / f"{name}.npz").exists():
            print(f"{name}: {options.minutes:g} minutes", flush=True)
            command = [python, __file__, str(pixels), "--worker", name, "--minutes", str(options.minutes)]
            command += ["--out", str(options.out), "--count", count]
            command += ["--pythae", str(options.pythae.resolve())] if name == "pythae" else []
            subprocess.run(command, check=True)
    peers = [f"{name}={options.out / name}.npz" for name in chosen]
    compare = [here, "-m", "zeuxis", "compare", options.data, *peers, "--models", options.models, "--budget"]
    compare += [f"{seconds:g}s", "--out", str(options.out / "runs"), "--html", str(options.out / "report.html")]
    compare += ["--num", count, "--features", options.features]
    subprocess.run([*compare, "--json", str(options.out / "report.json")], check=True)


if __name__ == "__main__":
    main()
