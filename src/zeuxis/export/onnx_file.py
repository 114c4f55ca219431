"""A generator as an ONNX file: noise (and classes) in, pictures out, any batch; nothing random inside."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from zeuxis import __version__
from zeuxis.checkpoint import Model
from zeuxis.errors import UserError, ZeuxisError
from zeuxis.families.base import RenderOptions
from zeuxis.files import write_bytes
from zeuxis.images import to_pixels
from zeuxis.sampling import Sampler, synthetic_mark

OPSET = 20  # the first with a circular `Pad` that browsers' onnxruntime knows too
LARGEST_DIFFERENCE = 1e-4  # in [-1, 1]; beyond it the file is not written
PARITY_SEEDS, PARITY_BATCHES = 64, (1, 3, 16)
RANDOM_NODES = ("Random", "Multinomial", "Bernoulli")
OUTPUT, LABELS = "pictures", "labels"


@dataclass(frozen=True)
class Parity:
    """How far onnxruntime's pictures are from PyTorch's, over `seeds` seeds in batches of several sizes: `largest` and
    `mean` absolute difference in [-1, 1], `equal_pixels` the share of 8-bit values that are the same, `most_levels` by
    how many levels the others differ."""

    largest: float
    mean: float
    equal_pixels: float
    most_levels: int
    seeds: int
    batches: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


class Rendered(nn.Module):
    """`render` of a model as a module of positional tensors: the noise by name in alphabetical order, then labels."""

    def __init__(self, model: Model, options: RenderOptions, names: list[str]) -> None:
        super().__init__()
        self.networks = nn.ModuleDict(model.networks)
        self.family, self.options, self.names = model.family, options, names

    def forward(self, *inputs: Tensor) -> Tensor:
        noise = dict(zip(self.names, inputs, strict=False))
        labels = inputs[len(self.names)] if len(inputs) > len(self.names) else None
        return self.family.render(dict(self.networks.items()), noise, labels, self.options)


def input_names(model: Model) -> list[str]:
    """Names of the file's inputs in order."""
    return [*sorted(Sampler(model).noise([0])), *([LABELS] if model.classes else [])]


def export_onnx(model: Model, path: Path, *, options: RenderOptions | None = None, opset: int = OPSET) -> Parity:
    """Writes `path` and says how near it is to PyTorch; nothing is left where that is too far.

    Inputs: each noise of the family float32 `[N, ...]` (standard normal unless the family says otherwise) and, for a
    model with classes, `labels` int64 `[N]`. Output: `pictures` float32 `[N, C, H, W]` in [-1, 1], RGB premultiplied by
    alpha. Truncation or temperature in `options` are built in.
    """
    require()
    import onnx

    if model.family.name == "autoregressive":
        raise UserError("MODEL", model.name, "a gan or vae",
                        "a model over tokens goes by --format onnx, one step and its decoder")  # fmt: skip
    names = input_names(model)
    noise = Sampler(model).noise([0, 1])
    inputs = [noise[name] for name in names if name != LABELS]
    inputs += [torch.zeros(2, dtype=torch.long)] if model.classes else []
    module = Rendered(model, options or RenderOptions(), sorted(noise)).cpu().eval()
    with quiet():
        program = torch.onnx.export(
            module, tuple(inputs), dynamo=True, opset_version=opset, input_names=names, output_names=[OUTPUT],
            dynamic_shapes=((*({0: torch.export.Dim.DYNAMIC} for _ in inputs),),), external_data=False,
        )  # fmt: skip
    assert program is not None
    proto = program.model_proto
    check_graph(proto)
    notes = {**synthetic_mark(model), "zeuxis": __version__, "spec": json.dumps(model.spec.to_json()),
             "classes": json.dumps(list(model.classes))}  # fmt: skip
    onnx.helper.set_model_props(proto, notes)
    content = proto.SerializeToString()
    parity = measure_parity(model, content, options=options)
    if not parity.largest <= LARGEST_DIFFERENCE:
        raise ZeuxisError(f"the ONNX file differs from PyTorch by {parity.largest:.2g}, more than "
                          f"{LARGEST_DIFFERENCE:g}: it was not written; please report this model")  # fmt: skip
    write_bytes(path, content)
    return parity


def check_graph(proto: Any) -> None:
    """A valid graph without randomness whose first axes are free."""
    import onnx

    onnx.checker.check_model(proto)
    onnx.shape_inference.infer_shapes(proto, strict_mode=True)
    kinds = {node.op_type for node in proto.graph.node}
    drawn = [kind for kind in kinds if kind.startswith(RANDOM_NODES)]
    fixed = [value.name for value in (*proto.graph.input, *proto.graph.output)
             if not value.type.tensor_type.shape.dim[0].dim_param]  # fmt: skip
    if drawn or fixed:
        raise ZeuxisError(f"the graph draws numbers ({drawn}) or has a fixed batch ({fixed}): please report this model")


def measure_parity(
    model: Model, content: bytes | Path, *, options: RenderOptions | None = None, seeds: int = PARITY_SEEDS,
    batches: tuple[int, ...] = PARITY_BATCHES,
) -> Parity:  # fmt: skip
    """Runs the file by onnxruntime alone beside PyTorch in float32, on the same noise."""
    require()
    session = session_of(content)
    sampler, differences, equal, levels = Sampler(model), [], [], 0
    for batch in batches:
        for first in range(0, seeds, batch):
            chunk = list(range(first, min(first + batch, seeds)))
            noise, labels = sampler.noise(chunk), sampler.labels(chunk, None)
            with torch.inference_mode():
                wanted = model.family.render(model.networks, noise, labels, options or RenderOptions())
            feed = {name: value.numpy() for name, value in noise.items()}
            feed |= {} if labels is None else {LABELS: labels.numpy()}
            found = torch.from_numpy(session.run([OUTPUT], feed)[0])
            differences.append((found - wanted).abs().flatten(1))
            apart = (to_pixels(found).int() - to_pixels(wanted).int()).abs()
            equal.append((apart == 0).float().flatten(1))
            levels = max(levels, int(apart.max()))
    every = torch.cat(differences)
    return Parity(float(every.max()), float(every.mean()), float(torch.cat(equal).mean()), levels, seeds, batches)


def session_of(content: bytes | Path) -> Any:
    """The file in onnxruntime, on the processor, with as many threads as PyTorch has."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    settings.intra_op_num_threads = torch.get_num_threads()
    given = content if isinstance(content, bytes) else content.read_bytes()
    return onnxruntime.InferenceSession(given, settings, providers=["CPUExecutionProvider"])


def require() -> None:
    """`UserError` where the extra `export` is not installed."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(
            "--format", "onnx", "an installed extra `export`", f"pip install 'zeuxis[export]' ({error})"
        ) from None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """PyTorch's exporter talks at length, and warns of its own parts."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    before = [logger.level for logger in loggers]
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, before, strict=True):
                logger.setLevel(level)


def fixed_noise(model: Model, count: int) -> dict[str, Any]:
    """Inputs of the first `count` seeds as flat lists, for a check elsewhere."""
    sampler, seeds = Sampler(model), list(range(count))
    labels = sampler.labels(seeds, None)
    inputs: dict[str, Any] = {
        name: np.round(value.double().numpy(), 8).ravel().tolist() for name, value in sampler.noise(seeds).items()
    }
    return inputs if labels is None else {**inputs, LABELS: labels.tolist()}
