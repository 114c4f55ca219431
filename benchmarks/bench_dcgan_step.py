"""`dcgan/radford` training step at 32x32 grey, batch 128, against the same as plain float32 PyTorch code.

One step is one discriminator and one generator update, non-saturating, no penalty, equal parameters. Zeuxis runs with
the arithmetic that it chooses by itself at the start of a run.
"""

from __future__ import annotations

import argparse

import torch

from peers import PlainDcgan
from timing import in_turns, report
from zeuxis.config import ImageSpec
from zeuxis.families import make_family
from zeuxis.families.base import Batch
from zeuxis.memory import keep_large_blocks
from zeuxis.planning import choose_arithmetic
from zeuxis.steps import Stepper

SIZE, BATCH = 32, 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--steps", type=int, default=1, help="steps of each side in a turn")
    arguments = parser.parse_args()
    steps = arguments.steps
    keep_large_blocks()
    family = make_family("dcgan/radford", ImageSpec(height=SIZE, width=SIZE, channels=1))
    arithmetic, _ = choose_arithmetic("auto", "auto", family, torch.device("cpu"))
    torch.manual_seed(0)
    stepper = Stepper(family, family.build(), arithmetic.precision, arithmetic.kernels)
    peer = PlainDcgan(SIZE, width=128)
    sizes = [sum(p.numel() for p in module.parameters()) for module in (stepper.networks["generator"], peer.generator)]
    sizes += [
        sum(p.numel() for p in module.parameters())
        for module in (stepper.networks["discriminator"], peer.discriminator)
    ]
    real = torch.rand(BATCH, 1, SIZE, SIZE) * 2 - 1
    generator = torch.Generator().manual_seed(0)

    def ours() -> None:
        for _ in range(steps):
            for phase in family.stages()[0].phases:
                stepper.step(phase, Batch(real), family.noise(BATCH, generator, "train"), progress=0.0, average=None)

    def theirs() -> None:
        for _ in range(steps):
            peer.step(real)

    times = in_turns(ours, theirs, turns=arguments.turns, warm_up=2)
    own, other = times.seconds
    report(
        "dcgan/radford step, 32x32 grey, batch 128, against plain PyTorch float32", **times.to_json(),
        arithmetic=str(arithmetic), threads=torch.get_num_threads(),
        ours_images_per_second=round(steps * BATCH / own, 1), peer_images_per_second=round(steps * BATCH / other, 1),
        generator_parameters=sizes[:2], discriminator_parameters=sizes[2:],
    )  # fmt: skip


if __name__ == "__main__":
    main()
