"""What must not be loaded before the first picture or the first step, because it takes a second or more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

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
