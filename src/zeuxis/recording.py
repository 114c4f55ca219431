"""A step recorded once as a CUDA graph and replayed: starting the hundreds of kernels of a small network one by one
takes a GPU many times as long as computing them.

What is recorded must be the same calls each time, on the same memory: nothing waits for the device, and what changes
from step to step comes in as a tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Generic, Protocol, Self, TypeVar

import torch
from torch import Tensor

WARM_UP = 3  # calls before one is recorded: libraries choose their kernels, networks fill what they keep
Numbers = dict[str, float]


class Tensors(Protocol):
    """Something made of tensors: a batch."""

    def map(self, change: Callable[[Tensor], Tensor]) -> Self: ...
    def tensors(self) -> list[Tensor]: ...


B = TypeVar("B", bound=Tensors)
R = TypeVar("R")
Work = Callable[[B, dict[str, Tensor], dict[str, Tensor]], R]  # (batch, noise, scalars on the device) -> results


def constant(values: Sequence[float], device: torch.device) -> Tensor:
    """Python's numbers as a tensor `[len(values)]` on the device, made there: copied from the CPU they would be waited
    for. Whole numbers become int64, booleans bool, the rest float32."""
    dtype = torch.float32 if isinstance(values[0], float) else None
    return torch.stack([torch.full((), value, dtype=dtype, device=device) for value in values])


class _Recorded(Generic[B, R]):
    """One recorded call, its inputs and its results, which the next replay overwrites."""

    def __init__(self, work: Work[B, R], batch: B, noise: Mapping[str, Tensor], numbers: Numbers, pool: Any,
                 stream: torch.cuda.Stream) -> None:  # fmt: skip
        self.batch = batch.map(torch.clone)
        self.noise = {name: value.clone() for name, value in noise.items()}
        self.scalars = _scalars(numbers, self.batch.tensors()[0].device)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            self.results = work(self.batch, self.noise, self.scalars)

    def replay(self, batch: B, noise: Mapping[str, Tensor], numbers: Numbers) -> R:
        for mine, theirs in zip(self.batch.tensors(), batch.tensors(), strict=True):
            mine.copy_(theirs)
        for name, value in noise.items():
            self.noise[name].copy_(value)
        for name, number in numbers.items():
            self.scalars[name].fill_(number)
        self.graph.replay()
        return self.results


class Recorder(Generic[B, R]):
    """Calls on a CUDA device by what they are of; each kind is recorded after `WARM_UP` calls.

    What cannot be recorded is computed call by call for good, and `say` is told why once.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say, self.recording = say, False
        self.calls: dict[Hashable, int] = {}
        self.recorded: dict[Hashable, _Recorded[B, R] | None] = {}
        self.stream, self.pool = torch.cuda.Stream(), torch.cuda.graph_pool_handle()

    def __call__(
        self, key: Hashable, work: Work[B, R], batch: B, noise: Mapping[str, Tensor], numbers: Numbers
    ) -> R:  # fmt: skip
        """`work` on these inputs; the results are overwritten by the next call of the same `key`."""
        key = key, tuple(tuple(each.shape) for each in (*batch.tensors(), *noise.values()))
        count = self.calls[key] = self.calls.get(key, 0) + 1
        if count > WARM_UP and key not in self.recorded:
            self.recorded[key] = self._record(work, batch, noise, numbers)
        known = self.recorded.get(key)
        return self._apart(work, batch, noise, numbers) if known is None else known.replay(batch, noise, numbers)

    def _apart(self, work: Work[B, R], batch: B, noise: Mapping[str, Tensor], numbers: Numbers) -> R:
        """Call by call on the stream that recording uses: what autograd keeps of parameters belongs to a stream."""
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            results = work(batch, dict(noise), _scalars(numbers, batch.tensors()[0].device))
        torch.cuda.current_stream().wait_stream(self.stream)
        return results

    def _record(
        self, work: Work[B, R], batch: B, noise: Mapping[str, Tensor], numbers: Numbers
    ) -> _Recorded[B, R] | None:
        self.recording = True
        try:
            return _Recorded(work, batch, noise, numbers, self.pool, self.stream)
        except RuntimeError as error:
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            self.say(f"steps are computed call by call: they cannot be recorded as a CUDA graph ({reason})")
            return None
        finally:
            self.recording = False

    def forget(self) -> None:
        """Drops what was recorded: the calls are others from now on."""
        self.calls.clear()
        self.recorded.clear()


def _scalars(numbers: Numbers, device: torch.device) -> dict[str, Tensor]:
    return {name: torch.full((), float(number), device=device) for name, number in numbers.items()}
