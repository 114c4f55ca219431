"""What is decided at the start of a run: device, number format and kernels."""

from __future__ import annotations

import pytest
import torch

from zeuxis import planning
from zeuxis.config import ImageSpec
from zeuxis.errors import UserError
from zeuxis.families import make_family
from zeuxis.planning import Arithmetic, choose_arithmetic, choose_device

CPU = torch.device("cpu")


def rates(monkeypatch: pytest.MonkeyPatch, supported: bool, speed: dict[str, float], asked: str = "auto") -> list[str]:
    """What would be timed, in order, and last what would be chosen, were the speeds these."""
    monkeypatch.setattr(planning, "bfloat16_is_fast", lambda device: supported)
    monkeypatch.setattr(planning, "measure", lambda family, device, arithmetic, most: speed[str(arithmetic)])
    family = make_family("dcgan/tiny", ImageSpec(height=8, width=8))
    chosen, timed = choose_arithmetic(asked, "auto", family, CPU)
    return [*timed, str(chosen)]


def test_bfloat16_is_timed_only_where_the_processor_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    speed = {"float32/plain": 100.0, "bfloat16/plain": 300.0, "float32/patches": 120.0, "bfloat16/patches": 310.0,
             "float32/winograd": 130.0}  # fmt: skip
    tried = ["float32/plain", "float32/patches", "float32/winograd"]
    assert rates(monkeypatch, False, speed) == [*tried, "float32/winograd"]
    # Minimal filters have too few digits in bfloat16 and are not timed there.
    # 310 is within 5% of 300: the plainer one stays.
    assert rates(monkeypatch, True, speed) == ["float32/plain", "bfloat16/plain", "bfloat16/patches", "bfloat16/plain"]
    assert rates(monkeypatch, False, speed, "bfloat16")[-1] == "bfloat16/plain", "what was asked for is done"


def test_no_candidate_is_begun_after_the_time_for_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    family = make_family("dcgan/tiny", ImageSpec(height=8, width=8))
    monkeypatch.setattr(planning, "bfloat16_is_fast", lambda device: True)
    chosen, timed = choose_arithmetic("auto", "auto", family, CPU, most=0.0)
    assert list(timed) == ["float32/plain"] and str(chosen) == "float32/plain"


def test_the_probe_tells_slow_from_fast() -> None:
    assert not planning.bfloat16_is_fast(CPU, most=0.0)
    assert planning.bfloat16_is_fast(CPU, most=1e9)


def test_measuring_steps_moves_no_random_numbers() -> None:
    family = make_family("dcgan/tiny", ImageSpec(height=8, width=8))
    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert planning.measure(family, CPU, Arithmetic("float32", "plain")) > 0
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("asked", ["cuda:77", "warp", "meta9"])
def test_an_absent_device_is_one_line(asked: str) -> None:
    with pytest.raises(UserError, match=r"--device.*try --device cpu"):
        choose_device(asked)
