"""What a machine with a GPU has to show: run it there (`python benchmarks/gpu_check.py`), and keep its lines.

For each preset: losses on the GPU in float32 against the CPU from equal weights; recorded steps (CUDA graphs) against
the same call by call, and bfloat16 against float32; images per second of each, and with pictures copied each step
instead of held on the card; memory; and that sampling gives the same pictures in every batch. `--networks` does the
comparison with recorded steps for every network that there is, at its tiny preset. With two GPUs or more also the same
training by `--processes 2`. `--device cpu` runs what a CPU can, to see that the script works.
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
from zeuxis.config import ImageSpec, TrainOptions
from zeuxis.data import Dataset, open_dataset
from zeuxis.families import FAMILIES, clip_length, make_family
from zeuxis.families.base import Batch, Family
from zeuxis.feed import Feed, training_noise
from zeuxis.memory import MemoryWatch
from zeuxis.nn.kernels import Kernels
from zeuxis.planning import bind, choose_device
from zeuxis.randomness import generator_for
from zeuxis.sampling import Sampler
from zeuxis.steps import Precision, Stepper

PRESETS = (
    "gan/resnet/small", "gan/dcgan/small", "gan/mlp/article", "vae/conv/small", "vae/mlp/article",
    "autoregressive/pixelcnn/small", "gan/r3gan/small",
)  # fmt: skip
STEPS = 8
Way = tuple[Precision, Kernels]


def stepper_on(family: Family, device: torch.device, precision: Precision, kernels: Kernels = "plain") -> Stepper:
    """From the same weights everywhere: they are drawn on the CPU."""
    torch.manual_seed(0)
    stepper = Stepper(family, {part: net.to(device) for part, net in family.build().items()}, precision, kernels)
    stepper.say = lambda line: print(f"  {family.network}: {line}", flush=True)
    return stepper


def losses(family: Family, stepper: Stepper, batches: list[Batch]) -> list[float]:
    """The loss of every phase of every step."""
    found, size = [], len(batches[0].images)
    for index, batch in enumerate(batches):
        for phase in family.stages()[0].phases_at(index):
            noise = family.noise(size, generator_for("check", index, phase.name), "train")
            noise = {key: value.to(stepper.device) for key, value in noise.items()}
            terms, _ = stepper.step(phase, batch, noise, progress=0.1, average=0.9)
            found.append(terms["loss"].clone())
    return torch.stack(found).tolist()


def rate(family: Family, stepper: Stepper, feed: Feed, seconds: float) -> float:
    """Images per second of whole steps with their data and what they need of chance."""
    size, done, started = family.training.batch, -8, 0.0
    while done < 8 or time.perf_counter() - started < seconds:
        if done == 0:
            wait(stepper.device)
            started = time.perf_counter()
        batch = feed.batch(abs(done) * size, size)
        for phase in family.stages()[0].phases_at(abs(done)):
            noise = training_noise(family, size, stepper.device, "rate", done, phase.name)
            stepper.step(phase, batch, noise, progress=0.1, average=0.9)
        done += 1
    wait(stepper.device)
    return done * size / (time.perf_counter() - started)


def gained(rates: dict[str, int]) -> float | None:
    """How many times as fast the fastest recorded steps are as the fastest call by call; both with pictures there."""
    ways = [[rate for way, rate in rates.items() if way.endswith(kind)] for kind in (" graphs", " plain")]
    return round(max(ways[0]) / max(ways[1]), 2) if all(ways) else None


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
    cpu = losses(family, stepper_on(family, torch.device("cpu"), "float32"), batches[0][:2])
    gpu = losses(family, stepper_on(family, device, "float32"), batches[1])
    half = losses(family, stepper_on(family, device, "bfloat16"), batches[1])
    more = {}
    if device.type == "cuda":
        recorded = losses(family, stepper_on(family, device, "float32", "graphs"), batches[1])
        more["recorded_against_call_by_call"] = f"{np.abs(np.subtract(recorded, gpu)).max():.2g}"
    rates = {}
    with MemoryWatch(device) as watch:
        ways: list[Way] = [("float32", "plain")]
        if device.type == "cuda":
            ways += [("bfloat16", "plain"), ("float32", "graphs"), ("bfloat16", "graphs")]
        for precision, kernels in ways:
            stepper = stepper_on(family, device, precision, kernels)
            for resident in (False, True) if precision == "bfloat16" and kernels == "graphs" else (True,):
                feed = Feed(dataset, False, options, device)
                if resident:
                    feed.keep_on_device(2**62)
                found = round(rate(family, stepper, feed, seconds))
                rates[f"{precision} {kernels}{'' if resident else ', copied'}"] = found
                feed.close()
    sampler = Sampler(Model(family, stepper.averaged, name), device)
    whole = np.concatenate(list(sampler(range(70))))
    same = all((sampler(range(seed, seed + 1)).__next__()[0] == whole[seed]).all() for seed in (0, 33, 69))
    report(
        f"GPU check of {name}", device=device.type, images_per_second=rates, recorded_ratio=gained(rates),
        float32_against_cpu=f"{np.abs(np.subtract(gpu[: len(cpu)], cpu)).max():.2g}",
        bfloat16_against_float32=f"{np.abs(np.subtract(half, gpu)).max():.2g}",
        **more, mean_loss=round(float(np.mean(np.abs(gpu))), 3), peak_mb=round(watch.peak / 1e6),
        same_in_any_batch=same,
    )  # fmt: skip


def check_recording(device: torch.device) -> None:
    """One line about every network: recorded steps against the same call by call, from equal weights."""
    found = {}
    for name in (f"{family}/{network}" for family, cls in FAMILIES.items() for network in cls.presets()):
        spec = ImageSpec(height=16, width=16, channels=1, frames=min(4, clip_length(f"{name}/tiny")))
        family = make_family(f"{name}/tiny", spec, 0, {})
        images = torch.rand(8, *spec.item_shape, generator=generator_for("check")) * 2 - 1
        batches = [Batch(images.to(device))] * 10
        try:
            one, two = (losses(family, stepper_on(family, device, "float32", way), batches)
                        for way in ("plain", "graphs"))  # fmt: skip
            stepper = stepper_on(family, device, "bfloat16", "graphs")
            losses(family, stepper, batches)
            recorder = stepper.recorder
            kept = [each is not None for each in recorder.recorded.values()] if recorder else []
            found[name] = f"{np.abs(np.subtract(one, two)).max():.2g} ({sum(kept)} of {len(kept)} recorded)"
        except RuntimeError as error:
            found[name] = str(error).splitlines()[0]
    report("GPU check of recorded steps", device=device.type, difference=found)


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
    parser.add_argument("--networks", action="store_true", help="only recorded steps, of every network")
    parser.add_argument("presets", nargs="*", default=PRESETS)
    asked = parser.parse_args()
    device = choose_device(asked.device)
    if asked.networks:
        check_recording(device)
        return
    dataset = open_dataset(asked.data)
    for name in asked.presets:
        check(name, dataset, device, asked.seconds)
    if device.type == "cuda" and torch.cuda.device_count() > 1:
        check_processes(asked.data, 2)


if __name__ == "__main__":
    main()
