"""Every network of the gan and vae tables goes into an ONNX file that draws what PyTorch draws."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from zeuxis.checkpoint import Model
from zeuxis.config import ImageSpec
from zeuxis.export.onnx_file import LARGEST_DIFFERENCE, export_onnx
from zeuxis.families import FAMILIES, make_family

pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")

SPEC = ImageSpec(height=12, width=16, channels=4, wrap_x=True)
NETWORKS = [(f"{family}/{network}", {}) for family in ("gan", "vae") for network in FAMILIES[family].presets()]
PRIORS = [("vae/mlp", {"objective.prior": kind}) for kind in ("mixture", "second-stage", "flow")]


def words(value: str | dict[str, str]) -> str:
    return value if isinstance(value, str) else "-".join(value.values())


@pytest.mark.parametrize(("name", "settings"), NETWORKS + PRIORS, ids=words)
def test_the_file_draws_what_pytorch_draws(name: str, settings: dict[str, str], tmp_path: Path) -> None:
    torch.manual_seed(0)
    family = make_family(f"{name}/tiny", SPEC, 3, settings)
    networks = family.build()
    if "prior" in networks:  # fitted to nothing it is the standard normal, whatever its kind
        networks["prior"].fit(torch.randn(200, family.latents.size).exp(), torch.arange(200) % 3, 0)
    networks = {part: net.eval().requires_grad_(False) for part, net in networks.items() if part in family.model_parts}
    model = Model(family, networks, name, classes=("a", "b", "c"), class_counts=(2, 1, 1), hash="0" * 64)
    parity = export_onnx(model, tmp_path / "model.onnx")
    assert parity.largest <= LARGEST_DIFFERENCE and parity.seeds == 64
