"""Out of memory: half as many pictures at once, and the same training."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from zeuxis.checkpoint import StateStore
from zeuxis.errors import RunFault
from zeuxis.families.vae.objective import VAE
from zeuxis.flat import FlatParameters, HalfCopy
from zeuxis.training import Training

Begin = Callable[..., Training]
OPTIONS = {"model": "vae/mlp/tiny", "batch": 16, "kimg": 0.8}


def fail_above(monkeypatch: pytest.MonkeyPatch, most: int, error: type[Exception] = torch.OutOfMemoryError) -> None:
    """A loss that has no memory for more than `most` pictures, once half of its work is done."""
    real = VAE.losses

    def losses(self: VAE, phase: Any, networks: Any, batch: Any, *rest: Any) -> dict[str, torch.Tensor]:
        terms = real(self, phase, networks, batch, *rest)
        if len(batch.images) > most:
            terms["loss"].mean().backward()  # what a pass had added when it failed must not count
            raise error("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
        return terms

    monkeypatch.setattr(VAE, "losses", losses)


HELD = """
import torch
from zeuxis.memory import _status, keep_large_blocks

def held_after():
    before = _status("RssAnon")
    torch.ones(2**24)  # 64 MB
    return (_status("RssAnon") - before) // 2**20

torch.ones(1)
fresh = held_after()
print(int(keep_large_blocks()), fresh, held_after())
"""


def test_a_large_block_is_kept_for_the_next_one() -> None:
    done = subprocess.run([sys.executable, "-c", HELD], capture_output=True, text=True, check=True)
    told, fresh, kept = map(int, done.stdout.split())
    if not told:
        pytest.skip("only glibc can be told")
    assert fresh < 8 and kept > 56, "megabytes that the process holds once a block of 64 is no longer used"


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError, RuntimeError])
def test_the_training_is_the_same_with_less_at_once(
    begin: Begin, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    whole = begin("whole", **OPTIONS).run()
    fail_above(monkeypatch, 5, error)
    log: list[str] = []
    training = begin("short", log=log, **OPTIONS)
    short = training.run(stop=lambda seen: seen >= 400)
    assert [line for line in log if "out of memory" in line] == [
        "out of memory: 8 pictures at once instead of 16 from here on, and as many to a step as before",
        "out of memory: 4 pictures at once instead of 8 from here on, and as many to a step as before",
    ]
    log.clear()
    resumed = begin("short", log=log, **OPTIONS)
    assert resumed.stepper.micro_batch == 4, "it is not found out again"
    resumed.run()
    assert not [line for line in log if "out of memory" in line]
    found = [StateStore(outcome.folder / "state").load_latest()[0] for outcome in (whole, short)]
    for key, value in found[0][0].items():  # type: ignore[index]
        torch.testing.assert_close(found[1][0][key], value, rtol=2e-3, atol=2e-3)  # type: ignore[index]


def test_one_picture_that_does_not_fit_ends_the_run_with_a_line(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_above(monkeypatch, 0)
    with pytest.raises(RunFault, match="one picture at a time"):
        begin(**OPTIONS).run()


LIMITED = """
import json, resource, sys, torch
from zeuxis.config import ImageSpec
from zeuxis.families import make_family
from zeuxis.families.base import Batch
from zeuxis.randomness import generator_for
from zeuxis.steps import Stepper

family = make_family("vae/mlp/tiny", ImageSpec(height=128, width=128), settings={"training.batch": 512})
stepper, said = Stepper(family, family.build(), "float32"), []
stepper.say = said.append
pictures = torch.rand(512, 3, 128, 128) * 2 - 1
phase, noise = family.stages()[0].phases[0], family.noise(512, generator_for("test"), "train")
stepper.step(phase, Batch(pictures[:4]), {key: value[:4] for key, value in noise.items()}, progress=0.1, average=None)
held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + 250 * 2**20, resource.RLIM_INFINITY))
terms, skipped = stepper.step(phase, Batch(pictures), noise, progress=0.1, average=None)
print(json.dumps([stepper.micro_batch, said, terms["loss"].item(), skipped.item()]))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="limits of memory as Linux has them")
def test_a_limit_of_the_system_is_met_and_kept(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    micro, said, loss, skipped = json.loads(done.stdout)
    assert 1 <= micro < 512 and len(said) >= 1 and skipped == 0 and 0 < loss < 1e9, done.stdout


def test_parts_of_a_batch_add_up_in_bfloat16_too() -> None:
    layer = torch.nn.Linear(3, 2)
    masters = FlatParameters([layer])
    half = HalfCopy([layer], masters)
    for value, first in ((1.0, True), (2.0, False)):
        half.gradient.fill_(value)
        half.hand_over(first=first)
        assert not half.gradient.any()
    assert layer.weight.grad is not None and (layer.weight.grad == 3).all()
    half.gradient.fill_(4.0)
    half.hand_over(first=True)
    assert (layer.weight.grad == 4).all(), "a step begins anew"
