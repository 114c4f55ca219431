"""A model over tokens as two ONNX files: one step of its prior, and the decoder of its tokens.

Whoever runs them draws tokens in raster order: for each place the step takes the tokens that were drawn `distances`
before it (`codes` stands for what is before the first), the place and the state, and gives logits and the next state,
which is zero at first.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from zeuxis import __version__
from zeuxis.checkpoint import Model
from zeuxis.errors import UserError, ZeuxisError
from zeuxis.export.onnx_file import (
    LABELS,
    LARGEST_DIFFERENCE,
    OPSET,
    OUTPUT,
    PARITY_BATCHES,
    PARITY_SEEDS,
    Parity,
    check_graph,
    quiet,
    require,
    session_of,
)
from zeuxis.families.autoregressive.recurrence import State
from zeuxis.families.base import RenderOptions
from zeuxis.files import write_bytes
from zeuxis.images import to_pixels
from zeuxis.sampling import Sampler, synthetic_mark

PLACES = ("near", "row", "column")
STATES = ("taps", "memory")


class Step(nn.Module):
    """Neighbours int64 `[N, K]`, row and column (and label) `[N]`, taps `[N, L, T, D]`, memory `[N, L, D]` -> logits
    `[N, codes]` and both states."""

    def __init__(self, prior: Any) -> None:
        super().__init__()
        self.prior = prior

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        near, row, column = inputs[:3]
        taps, memory = inputs[-2:]
        prior = self.prior
        x = prior.lookup(near) + prior.row[row] + prior.column[column]
        if prior.label is not None:
            x = x + prior.label(inputs[3])
        states = []
        for layer, block in enumerate(prior.blocks):
            x, state = block.step(x, State(taps[:, layer].unbind(1), memory[:, layer]), block.rate())
            states.append(state)
        return prior.head(prior.norm(x)), *_stacked(states)


def _stacked(states: list[State]) -> tuple[Tensor, Tensor]:
    """The states of all layers: taps `[N, L, T, D]` and memory `[N, L, D]`."""
    taps = torch.stack([torch.stack(state.taps, 1) for state in states], 1)
    return taps, torch.stack([state.memory for state in states], 1)


class Decoder(nn.Module):
    """Tokens int64 `[N, h, w]` -> pictures float32 `[N, C, H, W]` in [-1, 1]."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.quantiser, self.decoder = model.networks["quantiser"], model.networks["decoder"]

    def forward(self, tokens: Tensor) -> Tensor:
        decoded: Tensor = self.decoder(cast(Any, self.quantiser).decode_tokens(tokens), None)
        return decoded.float().clamp(-1, 1)


def is_token_model(model: Model) -> bool:
    """Whether a step of it can be exported."""
    return {"prior", "quantiser", "decoder"} <= model.networks.keys() and model.family.name == "autoregressive"


def decoder_path(path: Path) -> Path:
    """`model.onnx` -> `model-decoder.onnx`."""
    return path.with_name(f"{path.stem}-decoder{path.suffix}")


def export_step(model: Model, path: Path, *, opset: int = OPSET) -> Parity:
    """Writes `path` (the step) and `decoder_path(path)`, and says how near both are to PyTorch on 64 seeds: nothing is
    written where logits or pictures are farther than 1e-4 of their range."""
    require()
    import onnx

    if not is_token_model(model):
        raise UserError("MODEL", model.name, "gan, vae or autoregressive/tokens",
                        "what is drawn pixel by pixel is no single function of its noise: sample it here")  # fmt: skip
    prior = cast(Any, model.networks["prior"])
    zeros = [torch.zeros(2, *shape, dtype=torch.long) for shape in ((len(prior.distances),), (), ())]
    labels = [torch.zeros(2, dtype=torch.long)] if prior.label is not None else []
    taps, memory = _stacked([block.first_state(2, prior.head.weight) for block in prior.blocks])
    names = [*PLACES, *([LABELS] if labels else []), *STATES]
    outputs = ["logits", *(f"next_{name}" for name in STATES)]
    step = _exported(Step(prior), (*zeros, *labels, taps, memory), names, outputs, opset)
    decoder = _exported(Decoder(model), (torch.zeros(2, *prior.grid, dtype=torch.long),), ["tokens"], [OUTPUT], opset)
    about = {**synthetic_mark(model), "zeuxis": __version__, "spec": json.dumps(model.spec.to_json()),
             "classes": json.dumps(list(model.classes)), "grid": json.dumps(list(prior.grid)),
             "codes": str(prior.codes), "distances": json.dumps(prior.distances),
             "taps": json.dumps(list(taps.shape[1:])), "memory": json.dumps(list(memory.shape[1:]))}  # fmt: skip
    contents = []
    for proto in (step, decoder):
        onnx.helper.set_model_props(proto, about)
        contents.append(proto.SerializeToString())
    parity = step_parity(model, *contents)
    if not parity.largest <= LARGEST_DIFFERENCE:
        raise ZeuxisError(f"the ONNX files differ from PyTorch by {parity.largest:.2g}, more than "
                          f"{LARGEST_DIFFERENCE:g}: they were not written; please report this model")  # fmt: skip
    for place, content in zip((path, decoder_path(path)), contents, strict=True):
        write_bytes(place, content)
    return parity


def _exported(module: nn.Module, inputs: tuple[Tensor, ...], names: list[str], outputs: list[str], opset: int) -> Any:
    free = ((*({0: torch.export.Dim.DYNAMIC} for _ in inputs),),) if isinstance(module, Step) else (
        {0: torch.export.Dim.DYNAMIC},)  # fmt: skip
    with quiet():
        program = torch.onnx.export(
            module.cpu().eval(), inputs, dynamo=True, opset_version=opset, input_names=names, output_names=outputs,
            dynamic_shapes=free, external_data=False,
        )  # fmt: skip
    assert program is not None
    check_graph(program.model_proto)
    return program.model_proto


def step_parity(model: Model, step: bytes, decoder: bytes) -> Parity:
    """Follows PyTorch's own tokens of 64 seeds by onnxruntime alone: largest difference of logits (over their largest)
    and of pictures."""
    first, second = session_of(step), session_of(decoder)
    prior, sampler, logits_apart = cast(Any, model.networks["prior"]), Sampler(model), 0.0
    differences, equal, levels = [], [], 0
    for batch in PARITY_BATCHES:
        for start in range(0, PARITY_SEEDS, batch):
            chunk = list(range(start, min(start + batch, PARITY_SEEDS)))
            noise, labels = sampler.noise(chunk), sampler.labels(chunk, None)
            with torch.inference_mode():
                method = cast(Any, model.family).method
                tokens = method.draw(model.networks, noise["uniforms"], labels, RenderOptions(), None, None)
                wanted_logits = prior(tokens, labels)
                wanted = method.decoded(model.networks, tokens)
            found_logits = follow(first, prior, tokens.numpy(), None if labels is None else labels.numpy())
            apart = np.abs(found_logits - wanted_logits.numpy()).max() / max(1.0, float(wanted_logits.abs().max()))
            logits_apart = max(logits_apart, float(apart))
            found = torch.from_numpy(second.run([OUTPUT], {"tokens": tokens.numpy()})[0])
            differences.append((found - wanted).abs().flatten(1))
            steps = (to_pixels(found).int() - to_pixels(wanted).int()).abs()
            equal.append((steps == 0).float().flatten(1))
            levels = max(levels, int(steps.max()))
    every = torch.cat(differences)
    largest = max(float(every.max()), logits_apart)
    return Parity(largest, float(every.mean()), float(torch.cat(equal).mean()), levels, PARITY_SEEDS, PARITY_BATCHES)


def follow(
    session: Any, prior: Any, tokens: NDArray[np.int64], labels: NDArray[np.int64] | None
) -> NDArray[np.float32]:
    """Logits `[N, h * w, codes]` of given tokens `[N, h, w]`, step by step from the file."""
    count, (_, width) = len(tokens), prior.grid
    state = [value.numpy() for value in _stacked([block.first_state(count, torch.zeros(1)) for block in prior.blocks])]
    framed, found = prior.framed(torch.from_numpy(tokens)).numpy(), []
    near = prior.frame - np.array(prior.distances)
    for at in range(tokens[0].size):
        row, column = divmod(at, width)
        feed = {"near": framed[:, near + at], "row": np.full(count, row), "column": np.full(count, column)}
        feed |= dict(zip(STATES, state, strict=True))
        logits, *state = session.run(None, feed if labels is None else {**feed, LABELS: labels})
        found.append(logits)
    return np.stack(found, 1)
