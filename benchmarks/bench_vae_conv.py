"""`vae/conv` training, batch 64, 28x28 grey, against pythae's ResNet VAE of about as many parameters.

"step" is the bare minimum of both: pythae's model, its loss, backward and Adam in a plain loop over batches that lie
ready, against `Stepper.step` on the same, in the arithmetic and with the kernels that `zeuxis train` picks on this
machine. See bench_vae_mlp.py for how to install pythae.
"""

from __future__ import annotations

import argparse
import os

import torch

from bench_vae_mlp import BATCH, find_pythae
from timing import in_turns, report
from vae_peers import pythae_resnet
from zeuxis.config import ImageSpec
from zeuxis.families import make_family
from zeuxis.families.base import Batch
from zeuxis.images import to_float
from zeuxis.planning import choose_arithmetic
from zeuxis.steps import Stepper, average_factor

LATENT = 16
STEPS = 8  # in a turn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--peer-path", default=os.environ.get("PYTHAE_PATH"), help="folder that holds pythae")
    asked = parser.parse_args()
    find_pythae(asked.peer_path)
    from importlib.metadata import version

    from pythae.data.datasets import DatasetOutput

    model = pythae_resnet("VAE", LATENT, "mse").train()
    theirs_size = sum(p.numel() for p in model.parameters())
    spec = ImageSpec(height=28, width=28, channels=1)

    def size_of(width: int) -> int:
        sized = make_family("vae/conv", spec, 0, settings_of(width))
        with torch.device("meta"):
            return sum(p.numel() for network in sized.build().values() for p in network.parameters())

    def settings_of(width: int) -> dict[str, object]:
        return {"network.latent": LATENT, "network.width": width, "network.max_width": 2 * width,
                "objective.prior": "standard", "training.batch": BATCH}  # fmt: skip

    width = min(range(16, 161, 16), key=lambda own: abs(size_of(own) - theirs_size))  # multiples of 16 compute well
    family = make_family("vae/conv", spec, 0, settings_of(width))
    arithmetic, _ = choose_arithmetic("auto", "auto", family, torch.device("cpu"))
    torch.manual_seed(0)
    stepper = Stepper(family, family.build(), arithmetic.precision, arithmetic.kernels)
    phase = family.stages()[0].phases[0]
    generator, factor = torch.Generator().manual_seed(0), average_factor(family.training, 10**5, 10**6)
    pixels = torch.randint(0, 256, (STEPS, BATCH, 1, 28, 28), generator=generator, dtype=torch.uint8)
    batches = [Batch(to_float(part).contiguous(memory_format=torch.channels_last)) for part in pixels]
    plain = [DatasetOutput(data=part.float() / 255) for part in pixels]
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

    turns = in_turns(ours, theirs, turns=asked.turns, warm_up=1)
    own, other = turns.seconds
    report("vae/conv step, 28x28 grey, batch 64, against pythae's ResNet VAE", **turns.to_json(),
           arithmetic=str(arithmetic), threads=torch.get_num_threads(), pythae=version("pythae"),
           parameters=[size_of(width), theirs_size], width=width, ours_images_per_second=round(STEPS * BATCH / own),
           peer_images_per_second=round(STEPS * BATCH / other))  # fmt: skip


if __name__ == "__main__":
    main()
