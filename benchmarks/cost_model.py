"""The cost model of docs/scaling.md: operations and bytes of a step, counted, and the time that follows from the rates
of a machine. `--write` puts the tables into the page; the rows of measured points come from `results/`.

Operations are counted by PyTorch's formulas (`flop_registry`) on the float32 step, a multiplication and an addition as
two; calls are those of operators; bytes those of gradients (4 a parameter) and of what optimiser and average touch (9
passes of 4 bytes a parameter). Rates of machines are their makers' figures, of which a share is taken to be reached.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from timing import RESULTS
from zeuxis.config import ImageSpec
from zeuxis.families import make_family
from zeuxis.families.base import Batch
from zeuxis.randomness import generator_for
from zeuxis.steps import Stepper

PAGE = Path(__file__).parent.parent / "docs" / "scaling.md"
# (preset, side, channels, batch of one GPU)
COUNTED = (("gan/mlp/article", 28, 1, 64), ("vae/mlp/article", 28, 1, 64), ("gan/dcgan/small", 32, 3, 64),
           ("gan/dcgan/radford", 32, 1, 128), ("vae/conv/small", 64, 3, 64),
           ("autoregressive/pixelcnn", 32, 3, 16))  # fmt: skip
TFLOPS, MEMORY, CALL = 989e12, 3.35e12, 6e-6  # H100 SXM: bfloat16 matrix rate, bytes/s, seconds to start a kernel
NVLINK, NETWORK, LATENCY = 450e9, 50e9, 15e-6  # bytes/s each way per GPU within a machine, between machines; seconds
REACHED = 0.35  # of the matrix rate, by convolutions of these sizes
EIGHT = 8  # GPUs of one machine


@dataclass(frozen=True)
class Counted:
    """One step of a preset with its batch."""

    operations: float
    calls: int
    parameters: int
    batch: int


class Counter(TorchDispatchMode):
    """Counts calls of operators that compute, and their operations."""

    calls, operations = 0, 0
    VIEWS = ("view", "detach", "permute", "expand", "slice", "aten.t.", "transpose", "select", "squeeze", "alias")

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        self.calls += not any(word in str(function) for word in self.VIEWS)
        packet = getattr(function, "_overloadpacket", None)
        if packet in flop_registry:
            self.operations += flop_registry[packet](*args, **(kwargs or {}), out_val=result)
        return result


def counted(preset: str, side: int, channels: int, batch: int) -> Counted:
    """Counts a step on 8 pictures; operations grow with the batch, calls do not."""
    spec = ImageSpec(height=side, width=side, channels=channels)  # type: ignore[arg-type]
    family = make_family(preset, spec, settings={"training.batch": 8})
    torch.manual_seed(0)
    stepper = Stepper(family, family.build(), "float32")
    data = Batch(torch.rand(8, *spec.shape) * 2 - 1)

    def step() -> None:
        for phase in family.stages()[0].phases:
            noise = family.noise(8, generator_for("count"), "train")
            stepper.step(phase, data, noise, progress=0.1, average=0.9)

    with Counter() as count:
        step()
    parameters = sum(p.numel() for network in stepper.networks.values() for p in network.parameters())
    return Counted(count.operations / 8 * batch, count.calls, parameters, batch)


def seconds(step: Counted, gpus: int) -> tuple[float, float, str]:
    """Seconds of the step itself, of the all-reduce that nothing hides, and what bounds it; the batch grows with the
    GPUs."""
    parts = {"matrix rate": step.operations / (REACHED * TFLOPS), "memory": 9 * 4 * step.parameters / MEMORY,
             "starting kernels": step.calls * CALL}  # fmt: skip
    sent = 0.0
    if gpus > 1:
        link = NVLINK if gpus <= EIGHT else NETWORK
        sent = 2 * (gpus - 1) / gpus * 4 * step.parameters / link + 2 * LATENCY * math.log2(gpus)
    bound = max(parts, key=parts.__getitem__)
    # Kernels are started while others run: what is longest counts, the others hide behind it.
    return parts[bound], sent, bound if parts[bound] > sent else "gradients"


def model_table() -> str:
    """Rows per preset, columns per number of GPUs."""
    head = ["preset", "operations a picture", "calls a step", "parameters",
            *(f"{gpus} GPU{'s' * (gpus > 1)}: images/s (efficiency), bound" for gpus in (1, 8, 256))]  # fmt: skip
    rows = [head, ["---"] * len(head)]
    for preset, side, channels, batch in COUNTED:
        step = counted(preset, side, channels, batch)
        cells = [f"`{preset}` {side}x{side}, batch {batch}", f"{step.operations / batch / 1e6:,.4g} M",
                 f"{step.calls:,}", f"{step.parameters:,}"]  # fmt: skip
        for gpus in (1, 8, 256):
            own, sent, bound = seconds(step, gpus)
            cells.append(f"{gpus * batch / (own + sent):,.3g} ({own / (own + sent):.0%}), {bound}")
        rows.append(cells)
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def measured_table() -> str:
    """What the counted operations and the kept rates of this project's benchmarks say of a processor."""
    rows = [["what", "machine", "images/s", "operations/s that follow", "calls/s that follow"], ["---"] * 5]
    wanted = {"dcgan/radford step": ("gan/dcgan/radford", 32, 1, 128),
              "vae/mlp/article step": ("vae/mlp/article", 28, 1, 64)}  # fmt: skip
    for path in sorted(RESULTS.glob("bench_*.json")):
        document = json.loads(path.read_text(encoding="utf-8"))
        for line in document["lines"]:
            for start, key in wanted.items():
                if line["benchmark"].startswith(start) and "ours_images_per_second" in line:
                    step, rate = counted(*key), line["ours_images_per_second"]
                    machine = f"{document['machine']['cpu']}, {document['machine']['instructions']}"
                    rows.append([line["benchmark"], machine, f"{rate:,}",
                                 f"{step.operations / step.batch * rate / 1e9:,.3g} G",
                                 f"{step.calls * rate / step.batch:,.0f}"])  # fmt: skip
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="into docs/scaling.md")
    asked = parser.parse_args()
    tables = {"model": model_table(), "measured": measured_table()}
    if not asked.write:
        print("\n\n".join(tables.values()))
        return
    page = PAGE.read_text(encoding="utf-8")
    for name, table in tables.items():
        found = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        page = found.sub(lambda marks, table=table: f"{marks[1]}{table}\n{marks[2]}", page)
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
