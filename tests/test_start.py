"""What must not be loaded before the first picture or the first step, because it takes a second or more."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from zeuxis.cli import share_cores

GOLDEN = Path(__file__).parent / "golden"
SAMPLES = """
from zeuxis.checkpoint import load_model
from zeuxis.sampling import Sampler
next(Sampler(load_model({model!r}))(range(2)))
"""
TRAINS = """
import zeuxis.cli.demo, zeuxis.cli.train, zeuxis.evaluation, zeuxis.training
"""


@pytest.mark.parametrize("code", [SAMPLES, TRAINS], ids=["sampling", "training"])
def test_slow_modules_wait(code: str) -> None:
    model = GOLDEN / "models" / "format1-gan-dcgan-tiny"
    code = code.format(model=str(model)) + "import sys; print([m for m in {slow!r} if m in sys.modules])"
    slow = ["torch._dynamo", "sympy", "scipy", "sklearn.cluster", "torchvision", "fastapi"]
    done = subprocess.run([sys.executable, "-c", code.format(slow=slow)], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[-2] == "[]"


@pytest.mark.parametrize(("load", "cores", "spins"), [(1.6, 2, "10000"), (0.4, 2, None), (1.6, 16, None)])
def test_threads_spin_less_on_a_busy_machine_alone(
    monkeypatch: pytest.MonkeyPatch, load: float, cores: int, spins: str | None
) -> None:
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    share_cores()
    assert os.environ.get("GOMP_SPINCOUNT") == spins
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    share_cores()
    assert os.environ["GOMP_SPINCOUNT"] == "7", "what the user set stays"
