"""Seeds to pictures: picture k is the same to the bit in any batch, order or process."""

from __future__ import annotations

import contextlib
import copy
import os
import re
import zipfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from zeuxis.checkpoint import Model
from zeuxis.config import ImageSpec, Precision
from zeuxis.distributed import World, spread
from zeuxis.errors import UserError
from zeuxis.families.base import Noise, RenderOptions
from zeuxis.images import PARTLY, SHEET_MARK, grid, picture_of, save_png, sheet_scale, to_pixels
from zeuxis.memory import keep_large_blocks
from zeuxis.randomness import generator_for, seed_of

SEED = re.compile("[0-9]{1,18}")  # what int64 can hold


def parse_seeds(text: str) -> Iterator[int]:
    """`0-63,100` as numbers, lazily: a million seeds need no list."""
    for first, last in _seed_ranges(text):
        yield from range(first, last + 1)


def count_seeds(text: str) -> int:
    """How many seeds `parse_seeds` will give; checks the whole text at once."""
    return sum(len(range(first, last + 1)) for first, last in _seed_ranges(text))


def seeds_array(text: str) -> NDArray[np.int64]:
    """All seeds as int64 `[N]`."""
    return np.concatenate([np.arange(first, last + 1, dtype=np.int64) for first, last in _seed_ranges(text)])


def _seed_ranges(text: str) -> Iterator[tuple[int, int]]:
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        last = last if dash else first
        if not SEED.fullmatch(first) or not SEED.fullmatch(last) or int(last) < int(first):
            allowed = "numbers of up to 18 digits and ranges from 0, such as 0-63,100"
            raise UserError("--seeds", text, allowed, "try --seeds 0-63")
        yield int(first), int(last)


class Sampler:
    """Makes pictures of a model in padded chunks of one fixed size, which keeps the arithmetic of each picture the
    same.

    On `device`, in float32, or with the products in bfloat16 (`precision`): faster where the processor has it, and
    pictures of its own, since rounding moves what is drawn. Without a given class, a class-conditional model draws each
    picture's class from the frequencies of its training data, by the picture's seed. The processes of `world` take
    turns with the chunks: each then asks for the same seeds, and each gets all pictures.
    """

    def __init__(
        self, model: Model, device: str | torch.device = "cpu", world: World | None = None,
        precision: Precision = "float32",
    ) -> None:  # fmt: skip
        keep_large_blocks()
        self.model, self.device, self.world = model, torch.device(device), world or World()
        self.precision = precision
        self.networks = {part: network.to(self.device) for part, network in model.networks.items()}
        if precision == "bfloat16":
            fitted = model.family.fitted_parts  # densities, whose numbers must stay exact
            self.networks = {part: network if part in fitted else in_bfloat16(network)
                             for part, network in self.networks.items()}  # fmt: skip
        self.chunk = chunk_size(model.spec.frames * model.spec.height * model.spec.width)

    def __call__(
        self, seeds: Iterable[int], *, label: int | None = None, options: RenderOptions | None = None
    ) -> Iterator[NDArray[np.uint8]]:
        """Chunks of pictures uint8 `[n, C, H, W]` (straight alpha), in the order of `seeds`."""
        stream = iter(seeds)
        chunks = iter(lambda: list(islice(stream, self.chunk)), [])
        return spread(self.world, chunks, lambda chunk: self.pictures(chunk, label, options or RenderOptions()))

    @torch.inference_mode()
    def pictures(self, seeds: list[int], label: int | None, options: RenderOptions) -> NDArray[np.uint8]:
        """At most one chunk of pictures uint8 `[n, C, H, W]`, of clips `[n, T, C, H, W]`."""
        padded = seeds + [seeds[-1]] * (self.chunk - len(seeds))
        noise = {key: value.to(self.device) for key, value in self.noise(padded).items()}
        labels = self.labels(padded, label)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16"):
            images = self.model.family.render(
                self.networks, noise, None if labels is None else labels.to(self.device), options
            )
        return to_pixels(images.float())[: len(seeds)].cpu().numpy()

    def noise(self, seeds: list[int]) -> Noise:
        """Noise of each seed by its own generator, float32, first axis as long as `seeds`."""
        generator, family = torch.Generator(), self.model.family  # one for all: made anew it takes as long as it draws
        rows = [family.noise(1, generator.manual_seed(seed_of("sample", seed)), "sample") for seed in seeds]
        return {key: torch.cat([row[key] for row in rows]) for key in rows[0]}

    def label_array(self, seeds: NDArray[np.int64], label: int | None) -> NDArray[np.int64] | None:
        """The class index of each seed as int64 `[N]`; None for a model that makes no picture of a class."""
        if not self.model.drawn_classes:
            return None
        return np.full(len(seeds), label) if label is not None else draw_labels(seeds.tolist(), self.model.class_counts)

    def labels(self, seeds: list[int], label: int | None) -> torch.Tensor | None:
        """Class indices `[N]`: the given one, or drawn by seed; None for a model that makes no picture of a class."""
        if not self.model.drawn_classes:
            return None
        if label is not None:
            return torch.full((len(seeds),), label, dtype=torch.long)
        return torch.from_numpy(draw_labels(seeds, self.model.class_counts))


def in_bfloat16(network: nn.Module) -> nn.Module:
    """A copy whose matrices and kernels are bfloat16, as in training: autocast then need not cast in each pass."""
    copied = copy.deepcopy(network)
    for parameter in copied.parameters():
        if parameter.dim() >= 2:
            parameter.data = parameter.data.bfloat16()
    return copied


def chunk_size(pixels: int) -> int:
    """Pictures per chunk by the pixels of one: fixed by the model alone, so that no setting can change a picture."""
    return max(1, min(64, 2**19 // pixels))


def draw_labels(seeds: Iterable[int], counts: tuple[int, ...]) -> NDArray[np.int64]:
    """One class index per seed, drawn with the frequencies `counts`."""
    edges = np.cumsum(np.asarray(counts, dtype=np.float64)) / max(1, sum(counts))
    draws = [torch.rand((), generator=generator_for("class", seed), dtype=torch.float64).item() for seed in seeds]
    return np.minimum(np.searchsorted(edges, draws, side="right"), len(counts) - 1).astype(np.int64)


def class_index(name: str | None, classes: tuple[str, ...]) -> int | None:
    """The index of a class given by name (or by number where no class has that name)."""
    if name is None:
        return None
    if not classes:
        raise UserError("--class", name, "no class: this model is not class-conditional", "train with --conditional")
    if name in classes:
        return classes.index(name)
    if name.isdecimal() and int(name) < len(classes):
        return int(name)
    raise UserError(
        "--class", name, ", ".join(classes[:30]) + (" ..." if len(classes) > 30 else ""), "see `zeuxis info`"
    )


# The range of each option of sampling, in words, and what to try.
TURNS: dict[str, tuple[float, float, str, str]] = {
    "truncation": (0, 10, "0 to 10 (1 leaves the noise as it was trained)", "0.7"),
    "temperature": (0, 10, "0 to 10 (1 leaves the noise as it was trained)", "0.7"),
    "top_k": (0, 65535, "a number of tokens from 1, or 0 for all", "100"),
    "top_p": (0, 1, "a probability from 0 to 1 (1 leaves all tokens)", "0.95"),
    "guidance": (0, 20, "0 to 20 (1 is none)", "1.5"),
}


def render_options(
    model: Model, *, truncation: float | None = None, temperature: float | None = None, top_k: int | None = None,
    top_p: float | None = None, guidance: float | None = None, prior: str | None = None,
) -> RenderOptions:  # fmt: skip
    """The options that were given, each checked against what the model's family can turn."""
    given = {"truncation": truncation, "temperature": temperature, "top_k": top_k, "top_p": top_p, "guidance": guidance,
             "prior": prior}  # fmt: skip
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if name not in model.family.render_options:
            turnable = ", ".join(f"--{option.replace('_', '-')}" for option in model.family.render_options)
            step = f"the network {model.family.network} of family {model.family.name} has no {name.replace('_', '-')}"
            raise UserError(flag, value, turnable or "no such option for this model", step)
        if name == "prior":
            if value not in ("fitted", "standard"):
                raise UserError(flag, value, "fitted, standard", "try --prior standard")
            continue
        low, high, words, example = TURNS[name]
        if not low <= value <= high:
            raise UserError(flag, value, words, f"try {flag} {example}")
    return RenderOptions(**options)


def write_pngs(
    chunks: Iterable[NDArray[np.uint8]], seeds: Iterable[int], model: Model, out: Path, *, mark: bool = True,
    each: bool = True, sheet_most: int = 256,
) -> list[Path]:  # fmt: skip
    """One `seed000042.png` per picture (with `each`) and one `grid.png` of the first `sheet_most`; returns what to
    open."""
    shown: list[NDArray[np.uint8]] = []
    stream = iter(seeds)
    for chunk in chunks:
        if len(shown) * len(shown[0] if shown else chunk) < sheet_most:
            shown.append(chunk)
        for picture, seed in zip(chunk.transpose(0, 2, 3, 1), stream, strict=False) if each else ():
            save_png(picture_of(picture), out / f"seed{seed:06d}.png", synthetic_mark(model, seed) if mark else None)
    sheet = np.concatenate(shown)[:sheet_most].transpose(0, 2, 3, 1)
    scale = sheet_scale(*sheet.shape[1:3])
    note = {SHEET_MARK: "Zeuxis"}  # who reads the folder as pictures again leaves the sheet out
    save_png(grid(sheet, scale=scale), out / "grid.png", note | synthetic_mark(model) if mark else note)
    return [out, out / "grid.png"] if each else [out / "grid.png"]


def write_npz(
    chunks: Iterable[NDArray[np.uint8]],
    seeds: NDArray[np.int64],
    labels: NDArray[np.int64] | None,
    spec: ImageSpec,
    path: Path,
) -> None:
    """`images` uint8 `[N, H, W, C]` (clips `[N, T, H, W, C]`), `seeds` and, with classes, `labels`: never whole in
    memory."""
    frames = () if spec.frames == 1 else (spec.frames,)
    shape = (len(seeds), *frames, spec.height, spec.width, spec.channels)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            with archive.open("images.npy", "w", force_zip64=True) as member:
                header = {"descr": "|u1", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(member, header)
                for chunk in chunks:
                    member.write(np.ascontiguousarray(np.moveaxis(chunk, -3, -1)).tobytes())
            for name, values in (("seeds", seeds), ("labels", labels)):
                if values is not None:
                    with archive.open(f"{name}.npy", "w") as member:
                        np.lib.format.write_array(member, values, allow_pickle=False)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def synthetic_mark(model: Model, seed: int | None = None, *, composite: bool = False) -> dict[str, str]:
    """PNG text that says by machine that a picture was generated: tool, model and seed; `composite` where it holds
    parts of somebody's own picture."""
    kind = PARTLY if composite else "true"
    mark = {"Software": "Zeuxis", "Synthetic": kind, "Model": f"{model.name} {model.hash[:16]}"}
    return mark if seed is None else {**mark, "Seed": str(seed)}
