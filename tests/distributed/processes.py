"""Several processes of a test: this file is what each of them runs, and `together` starts them.

`python processes.py WORK FOLDER` does one of the functions below; results go to FOLDER as safetensors and JSON.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from zeuxis import shared_memory
from zeuxis.checkpoint import Model, StateStore
from zeuxis.config import TrainOptions
from zeuxis.data import open_dataset
from zeuxis.distributed import Clock, Group, LostProcessError, current, join, leave, spread
from zeuxis.families.gan.objective import GAN
from zeuxis.files import read_json_lines
from zeuxis.nn.together import BatchNorm2d, batch_mean, gather, total
from zeuxis.sampling import Sampler
from zeuxis.shared_memory import SMALL, SharedMemory
from zeuxis.training import Training, start

COMMON = {"precision": "float32", "kernels": "plain", "snapshots": 1, "device": "cpu"}
NARROW = {"network.width": 8, "network.max_width": 8}
# name -> options: 200 steps of what is compared most closely, 50 of the others.
RUNS: dict[str, dict[str, Any]] = {
    "mlp": {"model": "gan/mlp/tiny", "batch": 9, "kimg": 1.8, "mirror": True, "conditional": True},
    "batchnorm": {"model": "dcgan/radford", "batch": 8, "kimg": 1.6, "settings": NARROW},
    "minibatch": {"model": "gan/mlp/tiny", "batch": 8, "kimg": 0.4,
                  "settings": {"objective.minibatch_kernels": 3, "objective.generator": "feature matching"}},
    "unequal": {"model": "gan/mlp/tiny", "batch": 10, "kimg": 0.5},
    "vae": {"model": "vae/mlp/tiny", "batch": 10, "kimg": 0.5, "micro_batch": 3},
}  # fmt: skip


def together(work: str, folder: Path, size: int, seconds: float = 200) -> None:
    """`work` in `size` processes, to their end; an assertion error with their output where one failed."""
    (folder / "meeting").mkdir(parents=True)
    ranks = []
    for rank in range(size):
        environment = {**os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size),
                       "LOCAL_WORLD_SIZE": str(size), "ZEUXIS_LAUNCH": str(folder / "meeting"), "OMP_NUM_THREADS": "1",
                       "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}  # fmt: skip
        command = [sys.executable, __file__, work, str(folder)]
        ranks.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                      text=True))  # fmt: skip
    try:
        outputs = [process.communicate(timeout=seconds)[0] for process in ranks]
    finally:
        for process in ranks:
            process.kill()
    assert all(process.returncode == 0 for process in ranks), "\n".join(outputs)


def training(name: str, folder: Path, **more: Any) -> Training:
    """The run `name` in `folder`, or what was begun of it."""
    options = TrainOptions.model_validate({**COMMON, **RUNS[name], **more})
    return start(options, open_dataset("digits"), folder / name)


def train(name: str, folder: Path, stop_at: int | None = None) -> Training:
    """Trains to the end, or leaves at `stop_at` images."""
    run = training(name, folder)
    run.run(stop=None if stop_at is None else lambda seen: seen >= stop_at)
    return run


def last(folder: Path) -> tuple[dict[str, torch.Tensor], list[dict[str, float]]]:
    """Tensors of the last state of the only run in `folder`, and its statistics."""
    (run,) = folder.iterdir()
    found, _ = StateStore(run / "state").load_latest()
    assert found is not None
    return found[0], read_json_lines(run / "stats.jsonl")


# -- what the processes do ---------------------------------------------------------------------------------------------
def words(folder: Path) -> None:
    """Everything that processes say to each other, checked against what one process computes."""
    world = current()
    torch.manual_seed(0)
    x, weight = torch.randn(6, 4, 3, 3) * 3 + 5, torch.randn(6, 4, 3, 3)
    own = slice(0, 2) if world.rank == 0 else slice(2, 6)
    plain, ours = torch.nn.BatchNorm2d(4), BatchNorm2d(4)
    for norm in (plain, ours):
        torch.nn.init.normal_(norm.weight, 1.0, 0.2, generator=torch.Generator().manual_seed(1))
    whole, part = x.clone().requires_grad_(), x[own].clone().requires_grad_()
    expected, found = plain(whole), ours(part)
    (expected * weight).square().sum().backward()
    (found * weight[own]).square().sum().backward()
    torch.testing.assert_close(found, expected[own])
    torch.testing.assert_close(part.grad, whole.grad[own], rtol=1e-4, atol=1e-4)  # type: ignore[index]
    torch.testing.assert_close(ours.running_mean, plain.running_mean)
    torch.testing.assert_close(ours.running_var, plain.running_var)
    torch.testing.assert_close(world.sum_(ours.weight.grad.clone()), plain.weight.grad)  # type: ignore[union-attr]

    # Gradients of gradients through what is gathered, as a gradient penalty of a coupled discriminator has them.
    def coupled(rows: torch.Tensor, everyone: torch.Tensor) -> torch.Tensor:
        return (rows[:, None] - everyone[None]).square().sum((1, 2)).sin()

    whole, part = x.flatten(1).clone().requires_grad_(), x[own].flatten(1).clone().requires_grad_()
    penalties = []
    for rows, everyone in ((whole, whole), (part, gather(part))):
        (slope,) = torch.autograd.grad(coupled(rows, everyone).sum(), rows, create_graph=True)
        slope.square().sum().backward()
        penalties.append(rows.grad)
    torch.testing.assert_close(penalties[1], penalties[0][own], rtol=1e-3, atol=1e-3)  # type: ignore[index]
    assert torch.equal(gather(x[own]), x)
    torch.testing.assert_close(batch_mean(x[own]), x.mean(0))
    assert total(torch.tensor(2.0)) == 4

    assert world.share({"said": ["by", 0]} if world.is_writer else None) == {"said": ["by", 0]}
    made = [np.full((number + 1, 2), number, np.float64) for number in range(5)]
    assert [each.tolist() for each in spread(world, range(5), made.__getitem__)] == [each.tolist() for each in made]
    clock = Clock(world)
    assert not clock.tick(False) and clock.tick(world.rank == 1), "one raised hand is seen by all"
    readings = world.stack(torch.tensor([clock()], dtype=torch.float64))
    assert (readings == readings[0]).all()
    assert [world.slice(7), world.largest(7)] == [slice(0, 3) if world.rank == 0 else slice(3, 7), 4]


def sums(folder: Path) -> None:
    """What is added up in memory that all processes see, and without it where there is not enough."""
    world = current()
    assert isinstance(world, Group)
    generator = torch.Generator().manual_seed(0)

    def check(numbers: int, dtype: torch.dtype = torch.float32) -> None:
        parts = (torch.randn(world.size, numbers, 3, generator=generator) * 100).to(dtype)
        for turn in range(1, 4):
            found = world.sum_(parts[world.rank] * turn)
            torch.testing.assert_close(found, (parts * turn).sum(0), rtol=1e-5, atol=1e-3)
            everyone = world.stack(found)
            assert everyone.shape == parts.shape and (everyone == everyone[0]).all(), "equal to the bit"
        assert torch.equal(world.stack(parts[world.rank]), parts)

    def rooms() -> tuple[bool, bool]:
        """Whether there is memory for a few numbers, for many."""
        assert world.memory is not None
        few, many = torch.ones(3), torch.ones(SMALL)
        found = world.memory.add_(few), world.memory.add_(many)
        assert all(int(sum_[0]) == (world.size if done else 1) for sum_, done in zip((few, many), found, strict=True))
        return found

    for memory in (world.memory, SharedMemory(world.rank, world.size, world.share, world._all_reduce, str(folder))):
        world.memory = memory
        for numbers in (1, 700, SMALL, 3 * SMALL + 1, 2 * SMALL):  # few, many, more, and fewer than there is room for
            check(numbers)
        check(5, torch.float64)
        check(SMALL, torch.int64)
        world.sum_(torch.tensor(1.0)), world.sum_(torch.zeros(0)), world.stack(torch.zeros(2, 0))
    if not shared_memory.HERE:
        return
    assert rooms() == (True, True) and not list(folder.glob("zeuxis-*")), "nothing is left behind"
    world.wait()  # until all have looked
    # One process cannot open the larger file; or any; or there is no folder for them.
    opened = shared_memory._open
    for most, expected in ((40_000 * world.size, (True, False)), (0, (False, False))):
        world.memory = SharedMemory(world.rank, world.size, world.share, world._all_reduce, str(folder))
        if world.rank == world.size - 1:
            shared_memory._open = lambda path, count, most=most: opened(path + "?" * (count > most), count)
        assert rooms() == rooms() == expected
        check(SMALL)
        assert not list(folder.glob("zeuxis-*"))
        world.wait()
    shared_memory._open = opened
    world.memory = SharedMemory(world.rank, world.size, world.share, world._all_reduce, str(folder / "nowhere"))
    assert rooms() == (False, False)
    check(7)


def ends(folder: Path) -> None:
    """One process ends without a word; the others notice it where they wait for it."""
    world = current()
    world.wait()
    if world.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        world.sum_(torch.ones(3))
    except LostProcessError as error:
        (folder / f"lost{world.rank}.txt").write_text(str(error))
    os._exit(0)


def trainings(folder: Path) -> None:
    """All of `RUNS`, and one that is left in the middle."""
    for name in ("mlp", "batchnorm", "minibatch", "vae"):
        run = train(name, folder / "together")
        parameters = torch.cat([group.flat.values.detach() for group in run.stepper.groups.values()])
        ranks = current().stack(parameters)
        assert (ranks == ranks[0]).all(), "the networks of all processes are the same to the bit"
    train("mlp", folder / "left", stop_at=900)


def four(folder: Path) -> None:
    """Four processes with unequal slices, and a step that is not finite in one of them."""
    train("unequal", folder / "together")
    losses = GAN.losses

    def broken(self: GAN, *arguments: Any) -> dict[str, torch.Tensor]:
        terms = losses(self, *arguments)
        if current().rank == 2 and abs(arguments[-1] - 0.5) < 1e-6:
            terms["loss"] = terms["loss"] * torch.nan
        return terms

    GAN.losses = broken  # type: ignore[method-assign]
    run = train("minibatch", folder / "broken")
    parameters = torch.cat([group.flat.values.detach() for group in run.stepper.groups.values()])
    ranks = current().stack(parameters)
    assert (ranks == ranks[0]).all() and torch.isfinite(ranks).all()


def drawings(folder: Path) -> None:
    """Pictures of seeds, the processes in turns."""
    run = training("mlp", folder / "model")
    model: Model = run.model
    sampler = Sampler(model, "cpu", current())
    sampler.chunk = 8
    pictures = np.concatenate(list(sampler(range(43))))
    save_file({"pictures": torch.from_numpy(pictures)}, folder / f"pictures{current().rank}.safetensors")
    run.folder.close()


def main() -> None:
    work, folder = sys.argv[1], Path(sys.argv[2])
    join("cpu")
    for name in work.split("+"):
        globals()[name](folder)
    (folder / f"done{current().rank}.json").write_text(json.dumps(torch.get_num_threads()))
    leave()
    os._exit(0)  # as the command line leaves


if __name__ == "__main__":
    main()
