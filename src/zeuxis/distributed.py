"""Many processes as one: who this process is among them, and the few things they say to each other.

Every process holds whole networks and steps a slice of each batch. A phase's parameters lie in one vector
(`flat.py`), so the gradient of a step is averaged by one all-reduce of it. That takes the place of PyTorch's
DistributedDataParallel: its buckets make the same sum tensor by tensor, to hide it behind the backward pass, and it
wraps one module with one forward per backward, while a phase here goes through several networks several times and
through gradients of gradients, which its hooks do not see. docs/scaling.md says where hiding the sum would pay.

Processes are started by torchrun (or by `zeuxis train --processes`, which starts the same engine); gloo speaks between
processors, nccl between GPUs. Only numbers are sent: no pickled objects. The run folder must be one that all processes
see; the first of them, rank 0, alone writes it.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from zeuxis.errors import UserError, ZeuxisError
from zeuxis.shared_memory import SharedMemory

PATIENCE = timedelta(days=1)  # a process that died is noticed by its connection; others may wait for a long snapshot
MEETING = timedelta(minutes=30)  # processes of a cluster do not all start at the same moment
LAUNCH = "ZEUXIS_LAUNCH"  # a folder of this launch, set where Zeuxis started the processes itself

KINDS = ("|u1", "<i8", "<f4", "<f8")  # of the numbers in arrays that are exchanged

T = TypeVar("T")


class LostProcessError(ZeuxisError):
    """Another process of this training ended; what was saved stays, and torchrun begins anew where it was told to."""

    exit_code = 75  # not an end of this process's own; see zeuxis.cli.launch


class World:
    """One process alone: rank 0 of 1, which has nothing to say to anybody."""

    rank, size = 0, 1

    @property
    def is_writer(self) -> bool:
        """Whether this process writes the run folder."""
        return self.rank == 0

    def slice(self, total: int) -> slice:
        """This process's part of `total` pictures; parts differ by one at most."""
        return slice(self.rank * total // self.size, (self.rank + 1) * total // self.size)

    def largest(self, total: int) -> int:
        """Pictures in the largest part of `total`."""
        return -(-total // self.size)

    def sum_(self, tensor: Tensor) -> Tensor:
        """Replaces `tensor` by its sum over all processes; equal to the bit in all of them."""
        return tensor

    def stack(self, tensor: Tensor) -> Tensor:
        """The tensors of all processes (of one shape), `[size, ...]`."""
        return tensor[None]

    def share(self, value: T | None) -> T:
        """What rank 0 has, plain JSON values, in every process; the others' `value` does not count."""
        assert value is not None
        return value

    def wait(self) -> None:
        """Until all processes are here."""
        return


class Group(World):
    """One of several processes."""

    def __init__(self, rank: int, size: int, one_machine: bool = False) -> None:
        self.rank, self.size = rank, size
        self.memory = SharedMemory(rank, size, self.share, self._all_reduce) if one_machine else None

    def sum_(self, tensor: Tensor) -> Tensor:
        """See `World.sum_`."""
        memory = self.memory
        if memory is None or not _heard(lambda: memory.add_(tensor)):
            self._all_reduce(tensor)
        return tensor

    def stack(self, tensor: Tensor) -> Tensor:
        """See `World.stack`."""
        tensor, memory = tensor.contiguous(), self.memory
        rows = None if memory is None else _heard(lambda: memory.gather(tensor))
        if rows is not None:
            return rows.view(self.size, *tensor.shape)
        parts = [torch.empty_like(tensor) for _ in range(self.size)]
        _heard(lambda: dist.all_gather(parts, tensor))
        return torch.stack(parts)

    def _all_reduce(self, tensor: Tensor) -> None:
        _heard(lambda: dist.all_reduce(tensor))

    def share(self, value: T | None) -> T:
        """See `World.share`."""
        content = json.dumps(value).encode() if self.is_writer else b""
        size = torch.tensor([len(content)])
        _heard(lambda: dist.broadcast(size, 0))
        buffer = torch.zeros(int(size), dtype=torch.uint8)
        if self.is_writer:
            buffer.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
        _heard(lambda: dist.broadcast(buffer, 0))
        return json.loads(bytes(buffer.numpy()))

    def wait(self) -> None:
        """See `World.wait`."""
        self.sum_(torch.zeros(1))


_world: World = World()


def current() -> World:
    """The processes that this one works with; itself alone until `join` was called."""
    return _world


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Within the block this process works by itself, while the others wait: nothing in it speaks to them."""
    global _world
    before, _world = _world, World()
    try:
        yield
    finally:
        _world = before


def asked_for() -> bool:
    """Whether this process was started as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


def join(device: str) -> World:
    """Meets the other processes that torchrun started, if any; sets the GPU and the share of the cores of this one.

    `device` is what was asked for; with "auto", GPUs are used where each process of a machine can have its own.
    """
    global _world
    if not asked_for() or _world.size > 1:
        return _world
    here = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"]))
    backend = "gloo"
    if device.startswith("cuda") or (device == "auto" and torch.cuda.is_available()):
        if torch.cuda.device_count() < here:
            raise UserError("--device", device, f"a GPU for each of {here} processes, {torch.cuda.device_count()} "
                            "are here", "start fewer processes, or try --device cpu")  # fmt: skip
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        backend = "cpu:gloo,cuda:nccl"
    else:
        torch.set_num_threads(max(1, cores() // here))
    if here == int(os.environ["WORLD_SIZE"]) and not sys.platform.startswith("win"):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    _heard(lambda: _begin(backend, rank, size))
    _world = Group(rank, size, one_machine=here == size)
    return _world


def _begin(backend: str, rank: int, size: int) -> None:
    """Connects the processes, by a file or torchrun's store."""
    store: dist.Store
    if folder := os.environ.get(LAUNCH):  # a file, not a port: nothing listens but what gloo opens on the loopback
        file = os.path.join(folder, f"meeting-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}")
        store = dist.FileStore(file, size)
    else:
        store, rank, size = next(dist.rendezvous("env://", timeout=PATIENCE))
    store.set_timeout(MEETING)
    store = dist.PrefixStore(_name_of_start(store, rank, size), store)
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)


def _name_of_start(store: dist.Store, rank: int, size: int) -> str:
    """A name that these processes share and that no earlier start has had.

    A store outlives a restart, and torchrun's count of restarts is each machine's own (pytorch/pytorch#135712): an
    address read there may be a dead process's, and gloo would wait for it. So each process asks with a word of its
    own, rank 0 answers that very word, and whoever has the answer says so under the new name.
    """
    word = uuid.uuid4().hex
    if rank > 0:
        store.set(f"zeuxis/ask/{rank}", word)
        name = store.get(f"zeuxis/answer/{word}").decode()
        store.set(f"{name}/here/{rank}", "yes")
        return name
    name, end = f"zeuxis/{word}", time.monotonic() + MEETING.total_seconds()
    missing, answered = set(range(1, size)), set[str]()
    while missing:
        for other in missing:
            if store.check([f"zeuxis/ask/{other}"]):
                asked = store.get(f"zeuxis/ask/{other}").decode()
                if asked not in answered:
                    store.set(f"zeuxis/answer/{asked}", name)
                    answered.add(asked)
        missing = {other for other in missing if not store.check([f"{name}/here/{other}"])}
        if time.monotonic() > end:
            raise RuntimeError(f"{len(missing)} of {size} processes did not come within {MEETING}")
        time.sleep(0.01)
    return name


def leave() -> None:
    """Ends the connections, where there are any."""
    global _world
    if _world.size > 1:
        dist.destroy_process_group()
        _world = World()


def cores() -> int:
    """Cores that this process may use, at least 1."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _heard(call: Callable[[], T]) -> T:
    """Runs a collective; where another process is gone, one line instead of gloo's."""
    try:
        return call()
    except (RuntimeError, dist.DistError) as error:
        reason = str(error).splitlines()[0][:200]
        raise LostProcessError(f"another process of this training was lost: the state saved last stays, and the same "
                               f"command goes on from it ({reason})") from None  # fmt: skip


class Clock:
    """Seconds that all processes agree on, so that what the clock decides is decided alike everywhere.

    Alone it is the time. Together it is what rank 0 read at the last `tick`, which all must call at the same places.
    """

    def __init__(self, world: World) -> None:
        self.world, self._now = world, time.monotonic()
        self.tick()

    def __call__(self) -> float:
        """Seconds on the common clock."""
        return time.monotonic() if self.world.size == 1 else self._now

    def tick(self, raised: bool = False) -> bool:
        """Reads the clock anew; returns whether any process has `raised` its hand (a signal reached it)."""
        if self.world.size == 1:
            return raised
        said = torch.tensor([time.monotonic() if self.world.is_writer else 0.0, float(raised)], dtype=torch.float64)
        self._now, hands = self.world.sum_(said).tolist()
        return bool(hands > 0)


def spread(
    world: World, items: Iterable[T], work: Callable[[T], NDArray[Any]]
) -> Iterator[NDArray[Any]]:  # fmt: skip
    """`work` of each of `items`, in their order, in every process; the processes take turns in doing it.

    All must ask for all results. Equal to the bit to what one process makes, where `work` depends on its item alone.
    """
    if world.size == 1:
        yield from map(work, items)
        return
    stream = iter(items)
    while True:
        turn = [item for _, item in zip(range(world.size), stream, strict=False)]
        if not turn:
            return
        yield from _exchange(world, work(turn[world.rank]) if world.rank < len(turn) else None, len(turn))


def _exchange(world: World, own: NDArray[Any] | None, count: int) -> Iterator[NDArray[Any]]:
    """The arrays of the first `count` processes; shapes may differ, the kind of number may not."""
    shape = [] if own is None else [KINDS.index(own.dtype.str), own.ndim, *own.shape]
    headers = world.stack(torch.tensor([*shape, *[0] * (10 - len(shape))])).tolist()[:count]
    kinds = [np.dtype(KINDS[header[0]]) for header in headers]
    shapes = [header[2 : 2 + header[1]] for header in headers]
    sizes = [kind.itemsize * int(np.prod(each)) for kind, each in zip(kinds, shapes, strict=True)]
    sent = torch.zeros(max(sizes), dtype=torch.uint8)
    if own is not None:
        sent[: own.nbytes] = torch.from_numpy(np.ascontiguousarray(own).reshape(-1).view(np.uint8))
    for line, size, kind, each in zip(world.stack(sent)[:count].numpy(), sizes, kinds, shapes, strict=True):
        yield line[:size].view(kind).reshape(each)
