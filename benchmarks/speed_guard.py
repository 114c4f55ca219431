"""A short guard against becoming slower: steps of small networks against a fixed piece of plain PyTorch, by ratio.

Both run in turns, so that what else the machine does hits both, and the median ratio of the turns is compared with the
one in `guard.json` for this processor: a loss of more than 25% fails. It is measured again, twice, before it is
believed. A processor without an entry is passed over. `--record` writes the entry.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

from timing import in_turns, instructions, machine
from zeuxis.config import ImageSpec
from zeuxis.families import make_family
from zeuxis.families.base import Batch
from zeuxis.randomness import generator_for
from zeuxis.steps import Stepper

FILE = Path(__file__).parent / "guard.json"
MODELS = ("gan/mlp/article", "vae/mlp/article", "gan/dcgan/small", "vae/conv/small")
SIDE, BATCH, TURNS, MOST_LOSS, TRIES = 16, 32, 15, 0.25, 3


def fixed() -> Callable[[], None]:
    """A convolution and two matrix products, forward and backward: what networks are made of, and nothing of ours."""
    images, kernel = torch.rand(BATCH, 32, SIDE, SIDE), torch.rand(32, 32, 3, 3, requires_grad=True)
    rows, first = torch.rand(4 * BATCH, 784), torch.rand(784, 256, requires_grad=True)
    second = torch.rand(256, 784, requires_grad=True)

    def work() -> None:
        (F.conv2d(images, kernel, padding=1).square().mean() + (rows @ first @ second).square().mean()).backward()

    return work


def step(name: str) -> Callable[[], None]:
    """One step of all phases of a network on 16x16 grey pictures."""
    family = make_family(name, ImageSpec(height=SIDE, width=SIDE, channels=1), settings={"training.batch": BATCH})
    torch.manual_seed(0)
    stepper = Stepper(family, family.build(), "float32")
    batch = Batch(torch.rand(BATCH, 1, SIDE, SIDE) * 2 - 1)

    def work() -> None:
        for phase in family.stages()[0].phases:
            noise = family.noise(BATCH, generator_for("guard"), "train")
            stepper.step(phase, batch, noise, progress=0.5, average=0.9)

    return work


def ratio(name: str) -> float:
    """How many of the fixed pieces take as long as a step: less is faster."""
    times = in_turns(step(name), fixed(), turns=TURNS, warm_up=3)
    return statistics.median(1 / each for each in times.ratios)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)  # threads that wait for each other on a busy machine are no measure of anything
    kept = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    kind = f"{machine()['cpu']}, {instructions()}, torch {torch.__version__.split('+')[0]}"
    if asked.record:
        kept[kind] = {name: round(ratio(name), 3) for name in MODELS}
        FILE.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    if kind not in kept:
        print(f"speed guard: nothing is kept for {kind}; `python benchmarks/speed_guard.py --record` does it")
        return
    slow = []
    for name, before in kept[kind].items():
        now = ratio(name)
        for _ in range(TRIES - 1):
            if now <= before / (1 - MOST_LOSS):
                break
            now = min(now, ratio(name))
        print(f"speed guard: {name} takes {now:.3g} of the fixed piece, {before:.3g} before")
        if now > before / (1 - MOST_LOSS):
            slow.append(name)
    if slow:
        sys.exit(f"speed guard: {', '.join(slow)} lost more than {MOST_LOSS:.0%} of the speed")


if __name__ == "__main__":
    main()
