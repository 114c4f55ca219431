"""Directions in the latent space along which one thing changes: found in closed form, from samples, or from labels."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from zeuxis.checkpoint import Model
from zeuxis.editing.layers import latent_layers
from zeuxis.editing.shelf import read_header, read_tensors, write_tensors
from zeuxis.editing.spaces import FIRST_STATISTICS_SEED, Codes, Space
from zeuxis.errors import UserError
from zeuxis.images import Pixels

Method = Literal["closed-form", "principal", "classes"]
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
SAMPLES = 4096
LEAST_ACCURACY = 0.65  # held out; below it a boundary is not worth a name
HELD_OUT = 0.3


@dataclass(frozen=True)
class Direction:
    """`vector`, of the shape of one code, is what one unit of strength adds: as much as samples differ along it by one
    standard deviation. `about` says in words where it comes from."""

    name: str
    vector: Tensor
    about: str = ""


def closed_form(space: Space) -> tuple[Tensor, Tensor]:
    """All directions `[K, ...]`, orthonormal, by falling effect `[K]` on the first layers behind the latent (Shen &
    Zhou 2020, arXiv 2007.06600, Eq. 6): eigenvectors and eigenvalues of W'W, each row of W (one output) of unit length.

    Needs neither data nor samples. With levels the same step is taken in all of them.
    """
    rows = []
    for entry in latent_layers(space):
        weight = entry.layer.weight.detach().float()[:, : entry.size]  # [outputs, D]
        rows.append(weight / weight.norm(dim=1, keepdim=True).clamp_min(1e-12))
    width = max(row.shape[1] for row in rows)
    stacked = torch.cat([torch.nn.functional.pad(row, (0, width - row.shape[1])) for row in rows]).double()
    effects, vectors = torch.linalg.eigh(stacked.T @ stacked)  # smallest first
    return _signed(_as_codes(space, vectors.flip(1).T.float())), effects.flip(0).clamp_min(0).float()


def principal(space: Space, samples: int = SAMPLES) -> Tensor:
    """Principal components `[K, ...]` of samples, of unit length (Härkönen et al. 2020, arXiv 2004.02546): of w where
    there is a mapping, else of pictures, carried back to the latent by least squares."""
    codes = space.of_seeds(range(FIRST_STATISTICS_SEED, FIRST_STATISTICS_SEED + samples))
    values = codes.values.flatten(1)[:, space.free.flatten()].double()
    centred = values - values.mean(0)
    if space.levels > 1:
        one = codes.values[:, 0].double()
        vectors = torch.linalg.svd(one - one.mean(0), full_matrices=False)[2]
        return _signed(_as_codes(space, vectors.float()))
    seen = space.images(codes).flatten(1).double()
    seen = seen - seen.mean(0)
    most = min(centred.shape[1], seen.shape[1])
    scores, sizes, _ = torch.svd_lowrank(seen, q=min(most, 64), niter=4)
    carried = torch.linalg.lstsq(centred, scores * sizes).solution.T  # [K, D]
    carried = carried / carried.norm(dim=1, keepdim=True).clamp_min(1e-12)
    vectors = torch.zeros(len(carried), space.free.numel(), dtype=torch.float64, device=carried.device)
    vectors[:, space.free.flatten()] = carried
    return _signed(vectors.float().unflatten(1, space.free.shape))


def _as_codes(space: Space, vectors: Tensor) -> Tensor:
    """Vectors `[K, D]` of one level as codes `[K, ...]`, the same step in every level."""
    shape = space.free.shape
    if space.levels > 1:
        return vectors[:, None, :].expand(-1, *shape).clone()
    full = torch.zeros(len(vectors), *shape, device=vectors.device).flatten(1)
    full[:, : vectors.shape[1]] = vectors
    return full.unflatten(1, shape)


def _signed(vectors: Tensor) -> Tensor:
    """The same directions `[K, ...]` with their largest entry positive, so that a sign is no accident."""
    flat = vectors.flatten(1)
    largest = flat.gather(1, flat.abs().argmax(1, keepdim=True)).sign()
    return (flat * largest).view_as(vectors)


def boundary(space: Space, codes: Codes, positive: Tensor, seed: int = 0) -> tuple[Tensor, float]:
    """The direction from codes that are not `positive` (bool `[N]`) to those that are, and how often the boundary is
    right on the 30% of codes that it was not fitted to (mean over both sides).

    The normal of logistic regression (Shen et al. 2019, arXiv 1907.10786, section 3.2, with a linear machine).
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import train_test_split

    free = space.free.flatten()
    values = codes.values.flatten(1)[:, free].double().cpu()
    spread = values.std(0).clamp_min(1e-6)
    inputs, targets = (values / spread).numpy(), positive.cpu().numpy()
    if min(targets.sum(), (~targets).sum()) < 4:
        raise UserError("--labelled", f"{int(targets.sum())} of {len(targets)} pictures",
                        "at least 4 on each side", "add pictures to the smaller side")  # fmt: skip
    fitted_x, held_x, fitted_y, held_y = train_test_split(
        inputs, targets, test_size=HELD_OUT, stratify=targets, random_state=seed
    )
    model = LogisticRegression(C=0.1, class_weight="balanced", max_iter=1000).fit(fitted_x, fitted_y)
    accuracy = float(balanced_accuracy_score(held_y, model.predict(held_x)))
    normal = torch.from_numpy(model.coef_[0]) / spread
    vector = torch.zeros(free.numel())
    vector[free.cpu()] = (normal / normal.norm().clamp_min(1e-12)).float()
    return vector.view(space.free.shape).to(space.device), accuracy


def unit_of(space: Space, vector: Tensor) -> Tensor:
    """`vector` as long as the spread (standard deviation) of 2,048 samples along it: strength 1."""
    codes = space.of_seeds(range(FIRST_STATISTICS_SEED, FIRST_STATISTICS_SEED + 2048)).values.flatten(1)
    normal = (vector / vector.norm().clamp_min(1e-12)).flatten()
    return vector / vector.norm().clamp_min(1e-12) * (codes @ normal).std()


def move(codes: Codes, vector: Tensor, strength: float) -> Codes:
    """Codes moved along a direction's vector."""
    return codes.with_values(codes.values + strength * vector.to(codes.values))


def sweep(space: Space, codes: Codes, directions: Sequence[Direction], strengths: Sequence[float]) -> Pixels:
    """Pictures uint8 `[D * N * S, C, H, W]`: for each direction and code a row of strengths."""
    rows = [
        move(codes[index : index + 1], direction.vector, strength)
        for direction in directions for index in range(len(codes)) for strength in strengths
    ]  # fmt: skip
    return space.pictures(Codes.cat(rows))


# -- on the shelf --------------------------------------------------------------------------------------------------
def save_direction(folder: Path, model: Model, direction: Direction) -> Path:
    """Writes a direction into the model folder, where `zeuxis sample --edit NAME=1.5` finds it."""
    if not NAME.fullmatch(direction.name):
        raise UserError("--name", direction.name, "letters, digits, dot, dash and underscore, up to 64",
                        "choose another name")  # fmt: skip
    return write_tensors(folder, model, f"direction-{direction.name}", {"vector": direction.vector},
                         {"from": direction.about})  # fmt: skip


def load_directions(folder: Path, space: Space) -> dict[str, Direction]:
    """The directions of a model folder by name, those made for other weights left out."""
    found = {}
    for path in sorted((folder / "edits").glob("direction-*.safetensors")):
        name = path.stem.removeprefix("direction-")
        header = read_header(folder, space.model, path.stem)
        held = read_tensors(folder, space.model, path.stem, {"vector": tuple(space.free.shape)})
        if header is not None and held is not None:
            found[name] = Direction(name, held["vector"].to(space.device), str(header.get("from", "")))
    return found


def parse_edits(texts: Iterable[str], known: Mapping[str, Direction]) -> list[tuple[Direction, float]]:
    """`["smile=1.5"]` as directions and strengths; every mistake is a `UserError`."""
    edits = []
    for text in texts:
        name, equals, number = text.partition("=")
        try:
            strength = float(number) if equals else float("nan")
        except ValueError:
            strength = float("nan")
        if name not in known:
            names = ", ".join(known) or "no direction: the model folder has none"
            raise UserError("--edit", text, names, "find directions with `zeuxis directions MODEL`")
        if not -10 <= strength <= 10:
            raise UserError("--edit", text, "NAME=STRENGTH with a strength from -10 to 10", f"try --edit {name}=1.5")
        edits.append((known[name], strength))
    return edits


def edited(
    space: Space, seeds: Iterable[int], edits: Sequence[tuple[Direction, float]], label: int | None = None
) -> Iterator[Pixels]:
    """Chunks of pictures uint8 `[n, C, H, W]` of seeds, moved along directions: `Sampler` with edits."""
    stream = iter(seeds)
    while chunk := list(islice(stream, space.chunk)):
        codes = space.of_seeds(chunk, label)
        for direction, strength in edits:
            codes = move(codes, direction.vector, strength)
        yield space.pictures(codes)
