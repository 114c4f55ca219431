"""A model over tokens as ONNX files: run by onnxruntime alone, they draw what PyTorch draws."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from zeuxis.checkpoint import Model
from zeuxis.config import ImageSpec
from zeuxis.errors import UserError
from zeuxis.export import export_step
from zeuxis.export.token_step import decoder_path, follow
from zeuxis.families import make_family
from zeuxis.families.base import RenderOptions
from zeuxis.sampling import Sampler

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
CLASSES = ("a", "b", "c")


def model_of(name: str, classes: tuple[str, ...], spec: ImageSpec) -> Model:
    family = make_family(name, spec, len(classes))
    torch.manual_seed(1)
    networks = family.build()
    with torch.no_grad():  # a fresh head says next to nothing
        networks["prior"].head.weight.normal_()  # type: ignore[union-attr, operator]
    return Model(family, {part: net.eval() for part, net in networks.items()}, name, classes, (1,) * len(classes), "0")


def test_the_files_alone_draw_the_pictures_of_pytorch(tmp_path: Path) -> None:
    model = model_of("tokens/tiny", CLASSES, ImageSpec(height=12, width=8, channels=3))
    parity = export_step(model, tmp_path / "m.onnx")
    assert parity.largest < 1e-4 and parity.seeds == 64
    step, decoder = (
        onnxruntime.InferenceSession(str(path)) for path in (tmp_path / "m.onnx", tmp_path / "m-decoder.onnx")
    )
    about = step.get_modelmeta().custom_metadata_map
    height, width = json.loads(about["grid"])
    assert json.loads(about["classes"]) == list(CLASSES)
    assert about["Synthetic"] == "true"

    sampler, seeds = Sampler(model), [3, 4, 5]
    noise, labels = sampler.noise(seeds), sampler.labels(seeds, None)
    assert labels is not None
    uniforms, codes = noise["uniforms"].numpy(), int(about["codes"])
    tokens = np.zeros((3, height, width), np.int64)
    state: list[Any] = [np.zeros((3, *json.loads(about[name])), np.float32) for name in ("taps", "memory")]
    distances = json.loads(about["distances"])
    for y in range(height):
        for x in range(width):
            at, drawn = y * width + x, tokens.reshape(3, -1)
            near = [drawn[:, at - distance] if distance <= at else np.full(3, codes) for distance in distances]
            feed = {"near": np.stack(near, 1), "row": np.full(3, y), "column": np.full(3, x), "taps": state[0],
                    "memory": state[1]}  # fmt: skip
            logits, *state = step.run(None, {**feed, "labels": labels.numpy()})
            shares = np.exp(logits - logits.max(1, keepdims=True)).cumsum(1)
            tokens[:, y, x] = (shares / shares[:, -1:] < uniforms[:, y, x, None]).sum(1)
    found = decoder.run(None, {"tokens": tokens})[0]
    wanted = model.family.render(model.networks, noise, labels, RenderOptions())
    assert len({*tokens.ravel().tolist()}) > 3, "a model that always draws the same shows nothing"
    np.testing.assert_allclose(found, wanted.detach().numpy(), atol=1e-4)


def test_a_step_depends_on_its_state_and_on_the_token_before(tmp_path: Path) -> None:
    model = model_of("tokens/tiny", (), ImageSpec(height=8, width=8, channels=1))
    export_step(model, tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
    prior: Any = model.networks["prior"]
    tokens = np.zeros((2, *prior.grid), np.int64)
    tokens[1, 0, 0] = 1
    logits = follow(session, prior, tokens, None)
    assert np.array_equal(logits[0, 0], logits[1, 0]) and not np.allclose(logits[0, 1:], logits[1, 1:])
    wanted = prior(torch.from_numpy(tokens), None).detach().numpy()
    np.testing.assert_allclose(logits, wanted, atol=1e-3)


def test_models_over_pixels_are_refused(tmp_path: Path) -> None:
    family = make_family("pixelcnn/tiny", ImageSpec(height=8, width=8, channels=1), 0)
    with pytest.raises(UserError, match=r"MODEL.*gan, vae or autoregressive/tokens"):
        export_step(Model(family, family.build(), "pixelcnn/tiny"), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())
    assert decoder_path(Path("a/m.onnx")) == Path("a/m-decoder.onnx")
