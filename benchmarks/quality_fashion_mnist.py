"""Fashion-MNIST at its own 28x28: the default GAN for some minutes against PyTorch's DCGAN example for as many.

Both train in a process of their own on the same pictures, one after the other, by the clock; or, with `--together`, at
the same time with one thread each, so that both meet the same machine. On a machine with a GPU both train there. Both
are judged by 10,000 samples against the 10,000 test pictures. Zeuxis is run as a user runs it: `zeuxis train
fashion-mnist --budget 15m`.
Appends one JSON line per seed to benchmarks/results/quality_fashion_mnist.jsonl.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from peers import PlainDcgan
from timing import machine, report
from zeuxis.checkpoint import load_model
from zeuxis.data import Dataset, open_dataset
from zeuxis.evaluation import evaluate
from zeuxis.images import grid, save_png
from zeuxis.sampling import Sampler

NUM = 10_000
METRICS = ("fd", "kid", "pr", "dc")


def train_ours(minutes: float, seed: int, out: Path, extra: list[str], threads: int) -> Path:
    """The run folder of a finished training; `threads` 0 means all."""
    command = [sys.executable, "-m", "zeuxis", "train", "fashion-mnist", "--budget", f"{minutes * 60}s"]
    environment = os.environ | ({"OMP_NUM_THREADS": str(threads)} if threads else {})
    subprocess.run([*command, "--seed", str(seed), "--out", str(out), *extra], check=True, env=environment)
    return max(out.iterdir())


def train_peer(minutes: float, seed: int, file: Path, threads: int) -> None:
    """Writes NUM samples and the number of images shown. The clock starts with the first step."""
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(seed)
    pictures = torch.from_numpy(open_dataset("fashion-mnist").train.all())
    peer = PlainDcgan(28, device="cuda" if torch.cuda.is_available() else "cpu")
    seen = peer.train(pictures, minutes * 60)
    np.savez(file, samples=peer.sample(NUM).numpy(), seen=seen)


def judged(who: str, samples: np.ndarray, dataset: Dataset, features: list[str]) -> dict[str, float]:
    """What the metrics say of uint8 `[N, 1, 28, 28]`, by `METRIC_WHO`, and of real pictures by `METRIC_floor`."""
    rows = evaluate([samples], dataset, num=NUM, metrics=METRICS, features=features)
    rows = [row for row in rows if row.reference == "test"]  # there is one for training pictures beside it
    found = {f"{row.metric}_{who}": round(row.value, 5) for row in rows}
    return found | {f"{row.metric}_floor": round(row.floor, 5) for row in rows if row.floor is not None}


def samples_of(run: Path) -> np.ndarray:
    """NUM samples of a run's model."""
    return np.concatenate(list(Sampler(load_model(run))(range(NUM))))


def compare(asked: argparse.Namespace, dataset: Dataset, seed: int, folder: Path) -> dict[str, object]:
    """Trains and judges both, and ours once more for fewer minutes where that is asked for."""
    threads, file = 1 if asked.together else 0, folder / "peer.npz"
    # A process of its own, as ours is; spawned, so that it starts with no threads of this one.
    process = multiprocessing.get_context("spawn").Process(
        target=train_peer, args=(asked.minutes, seed, file, threads)
    )  # fmt: skip
    if asked.together:
        process.start()
    run = train_ours(asked.minutes, seed, folder / "runs", asked.extra, threads)
    if not asked.together:
        process.start()
    process.join()
    finished, theirs = json.loads((run / "finished.json").read_text()), np.load(file)
    pictures = {"ours": samples_of(run), "peer": theirs["samples"]}
    record: dict[str, object] = {
        "minutes": asked.minutes, "seed": seed, "extra": asked.extra, "threads": threads or torch.get_num_threads(),
        "images_ours": finished["images_seen"], "images_peer": int(theirs["seen"]),
        "seconds_ours": round(finished["seconds"], 1),
    }  # fmt: skip
    if asked.short:
        pictures["short"] = samples_of(train_ours(asked.short, seed, folder / "short", asked.extra, threads))
        record["minutes_short"] = asked.short
    names, found = asked.features.split(","), dict[str, float]()
    for name, samples in pictures.items():
        found |= judged(name, samples, dataset, names)
        if asked.sheets:
            asked.sheets.mkdir(parents=True, exist_ok=True)
            save_png(grid(samples[:100].transpose(0, 2, 3, 1), scale=2), asked.sheets / f"{name}-{seed}.png")
    for name in names:
        own, other, floor = (found[f"fd10k_{name}_{who}"] for who in ("ours", "peer", "floor"))
        found[f"ratio_{name}"] = round(own / other, 3)
        found[f"ratio_above_floor_{name}"] = round((own - floor) / (other - floor), 3)
        if asked.short:
            found[f"ratio_above_floor_{name}_short"] = round(
                (found[f"fd10k_{name}_short"] - floor) / (other - floor), 3
            )
    return {**record, **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument(
        "--short", type=float, help="minutes of one more training of ours: is it there before the peer?"
    )
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--features", default="dataset")
    parser.add_argument("--sheets", type=Path, help="folder for a sheet of samples of each")
    parser.add_argument("--together", action="store_true", help="one thread each, at the same time")
    parser.add_argument("--extra", nargs=argparse.REMAINDER, default=[], help="more options for `zeuxis train`")
    asked = parser.parse_args()
    dataset = open_dataset("fashion-mnist")
    for seed in range(asked.seeds):
        with tempfile.TemporaryDirectory() as temporary:
            record = compare(asked, dataset, seed, Path(temporary))
        results = Path(__file__).parent / "results"
        results.mkdir(exist_ok=True)
        with open(results / "quality_fashion_mnist.jsonl", "a", encoding="utf-8") as lines:
            lines.write(json.dumps({**record, "machine": machine()}) + "\n")
        report("quality_fashion_mnist", **record)


if __name__ == "__main__":
    main()
