"""Seeds to pictures: picture k is the same to the bit in any batch, order or process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from zeuxis.checkpoint import Model
from zeuxis.errors import UserError
from zeuxis.families.base import Noise, RenderOptions
from zeuxis.images import to_pixels
from zeuxis.randomness import generator_for


def parse_seeds(text: str) -> Iterator[int]:
    """`0-63,100` as numbers, lazily: a million seeds need no list."""
    allowed = "numbers and ranges from 0, such as 0-63,100"
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise UserError("--seeds", text, allowed, "try --seeds 0-63")
        yield from range(int(first), int(last or first) + 1)


class Sampler:
    """Makes pictures of a model in padded chunks of one fixed size, which keeps the arithmetic of each picture the same.

    Float32 on `device`. Without a given class, a class-conditional model draws each picture's class from the
    frequencies of its training data, by the picture's seed.
    """

    def __init__(self, model: Model, device: str | torch.device = "cpu") -> None:
        self.model, self.device = model, torch.device(device)
        self.networks = {part: network.to(self.device) for part, network in model.networks.items()}
        self.chunk = chunk_size(model.spec.height * model.spec.width)

    def __call__(
        self, seeds: Iterable[int], *, label: int | None = None, options: RenderOptions | None = None
    ) -> Iterator[NDArray[np.uint8]]:
        """Chunks of pictures uint8 `[n, C, H, W]` (straight alpha), in the order of `seeds`."""
        stream = iter(seeds)
        while chunk := list(islice(stream, self.chunk)):
            yield self.pictures(chunk, label, options or RenderOptions())

    @torch.inference_mode()
    def pictures(self, seeds: list[int], label: int | None, options: RenderOptions) -> NDArray[np.uint8]:
        """At most one chunk of pictures uint8 `[n, C, H, W]`."""
        padded = seeds + [seeds[-1]] * (self.chunk - len(seeds))
        noise = {key: value.to(self.device) for key, value in self.noise(padded).items()}
        labels = self.labels(padded, label)
        images = self.model.family.render(
            self.networks, noise, None if labels is None else labels.to(self.device), options
        )
        return to_pixels(images)[: len(seeds)].cpu().numpy()

    def noise(self, seeds: list[int]) -> Noise:
        """Noise of each seed by its own generator, float32, first axis as long as `seeds`."""
        rows = [self.model.family.noise(1, generator_for("sample", seed), "sample") for seed in seeds]
        return {key: torch.cat([row[key] for row in rows]) for key in rows[0]}

    def labels(self, seeds: list[int], label: int | None) -> torch.Tensor | None:
        """Class indices `[N]`: the given one, or drawn by seed; None for a model without classes."""
        if not self.model.classes:
            return None
        if label is not None:
            return torch.full((len(seeds),), label, dtype=torch.long)
        return torch.from_numpy(draw_labels(seeds, self.model.class_counts))


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
    raise UserError("--class", name, ", ".join(classes[:30]) + (" ..." if len(classes) > 30 else ""), "see `zeuxis info`")


def synthetic_mark(model: Model, seed: int | None = None) -> dict[str, str]:
    """PNG text that says by machine that a picture was generated: tool, model and seed."""
    mark = {"Software": "Zeuxis", "Synthetic": "true", "Model": f"{model.name} {model.hash[:16]}"}
    return mark if seed is None else {**mark, "Seed": str(seed)}
