"""What a machine with a GPU has to show: run it there (`python benchmarks/gpu_check.py`), and keep its lines.

For each preset: losses on the GPU in float32 against the CPU from equal weights; bfloat16 against float32 on the GPU;
images per second in both, and in plain PyTorch's layout (channels first) for comparison; memory; pictures held on the
card against pictures copied each step; and that sampling gives the same pictures in every batch. With two GPUs or more
also the same training by `--processes 2`. `--device cpu` runs all of it on a CPU, to see that the script works.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from timing import report
from zeuxis.checkpoint import Model
from zeuxis.config import TrainOptions
from zeuxis.data import Dataset, open_dataset
from zeuxis.families.base import Batch, Family
from zeuxis.feed import Feed
from zeuxis.memory import MemoryWatch
from zeuxis.planning import bind, choose_device
from zeuxis.randomness import generator_for
from zeuxis.sampling import Sampler
from zeuxis.steps import Precision, Stepper

PRESETS = ("gan/dcgan/small", "gan/mlp/article", "vae/conv/small", "vae/mlp/article")
STEPS = 20


def stepper_on(family: Family, device: torch.device, precision: Precision) -> Stepper:
    """From the same weights everywhere: they are drawn on the CPU."""
    torch.manual_seed(0)
    return Stepper(family, {part: net.to(device) for part, net in family.build().items()}, precision)


def losses(family: Family, stepper: Stepper, batches: list[Batch]) -> list[float]:
    """The loss of every phase of every step."""
    found, size = [], len(batches[0].images)
    for index, batch in enumerate(batches):
        for phase in family.stages()[0].phases_at(index):
            noise = family.noise(size, generator_for("check", index, phase.name), "train")
            noise = {key: value.to(stepper.device) for key, value in noise.items()}
            terms, _ = stepper.step(phase, batch, noise, progress=0.1, average=0.9)
            found.append(terms["loss"])
    return torch.stack(found).tolist()


def rate(family: Family, stepper: Stepper, feed: Feed, seconds: float) -> float:
    """Images per second of whole steps with their data."""
    size, done, started = family.training.batch, -5, 0.0
    while done < 5 or time.perf_counter() - started < seconds:
        if done == 0:
            wait(stepper.device)
            started = time.perf_counter()
        losses(family, stepper, [feed.batch(abs(done) * size, size)])
        done += 1
    wait(stepper.device)
    return done * size / (time.perf_counter() - started)


def wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize()


def check(name: str, dataset: Dataset, device: torch.device, seconds: float) -> None:
    """One line about a preset."""
    options = TrainOptions(model=name)
    _, family = bind(options, dataset)
    size = family.training.batch
    feeds = [Feed(dataset, False, options, torch.device("cpu")), Feed(dataset, False, options, device)]
    batches = [[feed.batch(step * size, size) for step in range(STEPS)] for feed in feeds]
    cpu = losses(family, stepper_on(family, torch.device("cpu"), "float32"), batches[0])
    gpu = losses(family, stepper_on(family, device, "float32"), batches[1])
    half = losses(family, stepper_on(family, device, "bfloat16"), batches[1])
    rates = {}
    with MemoryWatch(device) as watch:
        precisions: tuple[Precision, ...] = ("float32", "bfloat16") if device.type != "cpu" else ("float32",)
        for precision in precisions:
            stepper = stepper_on(family, device, precision)
            for resident in (False, True):
                feed = Feed(dataset, False, options, device)
                if resident:
                    feed.keep_on_device(2**62)
                rates[f"{precision}{' resident' if resident else ''}"] = round(rate(family, stepper, feed, seconds))
                feed.close()
    sampler = Sampler(Model(family, stepper.averaged, name), device)
    whole = np.concatenate(list(sampler(range(70))))
    same = all((sampler(range(seed, seed + 1)).__next__()[0] == whole[seed]).all() for seed in (0, 33, 69))
    report(
        f"GPU check of {name}", device=device.type, images_per_second=json.dumps(rates),
        float32_against_cpu=f"{np.abs(np.subtract(gpu, cpu)).max():.2g}",
        bfloat16_against_float32=f"{np.abs(np.subtract(half, gpu)).max():.2g}",
        mean_loss=round(float(np.mean(np.abs(gpu))), 3), peak_mb=round(watch.peak / 1e6), same_in_any_batch=same,
    )  # fmt: skip


def check_processes(dataset: str, count: int) -> None:
    """`--processes` against one process: the last row of the statistics."""
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for processes in (1, count):
            out = Path(temporary) / str(processes)
            command = [sys.executable, "-m", "zeuxis", "train", dataset, "--model", "gan/dcgan/small", "--kimg", "20",
                       "--precision", "float32", "--snapshots", "1", "--out", str(out)]  # fmt: skip
            started = time.perf_counter()
            subprocess.run([*command, "--processes", str(processes)], check=True, stdout=subprocess.DEVNULL)
            (file,) = out.glob("*/stats.jsonl")
            row = json.loads(file.read_text().splitlines()[-1])
            rows.append({"seconds": time.perf_counter() - started, "loss": row["generator/loss"]})
    report(f"GPU check of {count} processes", seconds=[round(row["seconds"], 1) for row in rows],
           last_loss=[round(row["loss"], 4) for row in rows])  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each timing")
    parser.add_argument("presets", nargs="*", default=PRESETS)
    asked = parser.parse_args()
    device, dataset = choose_device(asked.device), open_dataset(asked.data)
    for name in asked.presets:
        check(name, dataset, device, asked.seconds)
    if device.type == "cuda" and torch.cuda.device_count() > 1:
        check_processes(asked.data, 2)


if __name__ == "__main__":
    main()
