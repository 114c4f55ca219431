"""What only a model can be asked: likelihood, reconstruction and classes of held-out pictures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zeuxis.data import Dataset, Split
from zeuxis.errors import UserError
from zeuxis.images import to_float, to_pixels
from zeuxis.metrics.base import Estimate
from zeuxis.metrics.distances import pairwise_mean
from zeuxis.metrics.extractors import Extractor, split_positions
from zeuxis.metrics.likelihood import bits_per_dimension, dequantise, negative_log_likelihood
from zeuxis.metrics.reconstruction import feature_distance, mean_of, psnr, ssim
from zeuxis.randomness import generator_for

MOST = 2000  # held-out pictures asked about
IMPORTANCE_SAMPLES = 16
CHUNK = 128


class ModelLike(Protocol):
    """A loaded model: this layer knows no families."""

    @property
    def family(self) -> Any: ...
    @property
    def networks(self) -> Any: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def drawn_classes(self) -> tuple[str, ...]: ...


NEEDS = {"likelihood": "log_likelihood", "reconstruction": "reconstruct", "classification": "classify"}


def refusal(name: str, model: ModelLike, dataset: Dataset) -> None:
    """A `UserError` where a metric asked for by name cannot be had from this model on this data."""
    capability = NEEDS.get(name)
    if capability and capability not in model.family.capabilities:
        raise UserError("--metrics", name, f"a model that can {capability}", "`zeuxis info MODEL` says what it can")
    if name in NEEDS and model.classes and model.classes != dataset.classes:
        raise UserError(
            "--metrics", name, "data with the model's own classes", "judge it on the data it was trained on"
        )
    if name == "accuracy_score" and not (model.drawn_classes and model.drawn_classes == dataset.classes):
        step = "train with --conditional on data with classes"
        raise UserError("--metrics", name, "a model that makes pictures of the data's classes", step)


def augmented_by(model: ModelLike) -> tuple[Any, ...]:
    """The kinds of augmentation that the model's pictures were judged behind while it was trained."""
    settings = model.family.settings.get("augment", {})
    return tuple(settings["kinds"]) if settings.get("probability", 0) > 0 else ()


def can(name: str, model: ModelLike, dataset: Dataset) -> bool:
    """Whether the model has what the metric needs."""
    fits = not model.classes or model.classes == dataset.classes
    return fits and NEEDS[name] in model.family.capabilities


def likelihood_estimates(
    model: ModelLike, dataset: Dataset, num: int, device: str | torch.device
) -> dict[str, Estimate]:
    """`nll`, and `bpd` where the model has a density of pixels: exact where the family says so, else bounds from above,
    importance-weighted with 16 samples. Of held-out pictures, 1 and 3 channels dequantised for a density."""
    density = density_of(model)
    generator = generator_for("likelihood")
    parts = []
    for pixels, labels in _held_out(model, dataset, num, device):
        values = dequantise(pixels, generator) if density == "continuous" and pixels.shape[1] != 4 else to_float(pixels)
        found = model.family.log_likelihood(model.networks, values, labels, generator, IMPORTANCE_SAMPLES)
        parts.append(found.double().cpu().numpy())
    nats = np.concatenate(parts)
    levels = model.family.settings.get("objective", {}).get("levels", 256)
    note = {
        "continuous": "density on the [-1, 1] scale",
        "discrete": "probability of the 8-bit levels" if levels == 256 else f"pictures rounded to {levels} levels",
        "none": "cross-entropy of grey levels as probabilities: no normalised density, compares only with its like",
    }[density]  # fmt: skip
    exact = getattr(model.family, "exact_likelihood", False)
    kind = "exact" if exact else f"upper bound, {IMPORTANCE_SAMPLES} importance samples"
    own = negative_log_likelihood(nats)
    rows = {"nll": Estimate(own.value, own.error, note=f"{kind}; {note}")}
    if density == "discrete" or (density == "continuous" and dataset.spec.channels != 4):
        bits = bits_per_dimension(nats, dataset.spec.size, discrete=density == "discrete")
        remark = ", uniform dequantisation" if density == "continuous" else f"; {note}" if levels != 256 else ""
        rows["bpd"] = Estimate(bits.value, bits.error, note=kind + remark)
    return rows


def density_of(model: ModelLike) -> str:
    """What `log_likelihood` is of: `continuous` (a density on the [-1, 1] scale), `discrete` (the 8-bit levels), or
    `none` (not normalised)."""
    return str(model.family.likelihood_unit)


def reconstruction_estimates(
    model: ModelLike, dataset: Dataset, extractor: Extractor, num: int, device: str | torch.device
) -> dict[str, Estimate]:
    """`reconstruction_psnr`, `_ssim`, and `_distance` in the extractor's features, over held-out pictures."""
    originals, own = [], []
    for pixels, labels in _held_out(model, dataset, num, device):
        originals.append(pixels.cpu().numpy())
        own.append(to_pixels(model.family.reconstruct(model.networks, to_float(pixels), labels)).cpu().numpy())
    real, made = np.concatenate(originals), np.concatenate(own)
    real_features, made_features = extractor([real]), extractor([made])
    typical = max(pairwise_mean(real_features)[0], np.finfo(np.float64).tiny)
    return {
        "reconstruction_psnr": mean_of(psnr(made, real)),
        "reconstruction_ssim": mean_of(ssim(made, real)),
        "reconstruction_distance": mean_of(feature_distance(made_features, real_features, typical)),
    }


@torch.inference_mode()
def classified_right(model: ModelLike, split: Split, most: int, device: str | torch.device) -> NDArray[np.float64]:
    """1 or 0 for each of up to `most` pictures with a class, spread over the split: whether the model's first guess is
    that class."""
    places = np.flatnonzero(split.labels >= 0)
    places = places[split_positions(len(places), min(most, len(places)))]
    parts = []
    for start in range(0, len(places), CHUNK):
        chosen = places[start : start + CHUNK]
        logits = model.family.classify(model.networks, to_float(torch.from_numpy(split.take(chosen)).to(device)))
        parts.append(logits.argmax(1).cpu().numpy() == split.labels[chosen])
    return np.concatenate(parts).astype(np.float64) if parts else np.zeros(0)


@torch.inference_mode()
def held_out_nats(model: ModelLike, split: Split, most: int, device: str | torch.device) -> float:
    """Mean `nats` of up to `most` pictures spread over the split, of a model that is chosen by them; only of those with
    a class for a model that needs one. NaN without any."""
    places = np.flatnonzero(split.labels >= 0) if model.classes else np.arange(len(split))
    places = places[split_positions(len(places), min(most, len(places)))]
    total = 0.0
    for start in range(0, len(places), CHUNK):
        chosen = places[start : start + CHUNK]
        images = to_float(torch.from_numpy(split.take(chosen)).to(device))
        labels = torch.from_numpy(split.labels[chosen]).to(device) if model.classes else None
        total += float(model.family.nats(model.networks, images, labels).double().sum())
    return total / len(places) if len(places) else float("nan")


@torch.inference_mode()
def model_estimates(
    name: str, model: ModelLike, dataset: Dataset, extractor: Extractor, num: int, device: str | torch.device
) -> tuple[dict[str, Estimate], int]:
    """The estimates of a name of `NEEDS`, nothing where the model lacks the capability, and how many
    held-out pictures were asked about."""
    if name == "classification" and can(name, model, dataset):
        right = classified_right(model, dataset.test, num, device)
        return ({"accuracy": mean_of(right)} if len(right) > 1 else {}), len(right)
    count = min(num, MOST, len(_places(model, dataset)))
    if not can(name, model, dataset) or count < 2:
        return {}, 0
    if name == "likelihood":
        return likelihood_estimates(model, dataset, count, device), count
    return reconstruction_estimates(model, dataset, extractor, count, device), count


def _places(model: ModelLike, dataset: Dataset) -> NDArray[np.int64]:
    """Held-out pictures in random order; only those with a class for a model that needs one."""
    places = split_positions(len(dataset.test), len(dataset.test))
    return places[dataset.test.labels[places] >= 0] if model.classes else places


def _held_out(
    model: ModelLike, dataset: Dataset, num: int, device: str | torch.device
) -> Iterator[tuple[Tensor, Tensor | None]]:
    places = _places(model, dataset)[:num]
    for start in range(0, len(places), CHUNK):
        chosen = places[start : start + CHUNK]
        labels = torch.from_numpy(dataset.test.labels[chosen]).to(device) if model.classes else None
        yield torch.from_numpy(dataset.test.take(chosen)).to(device), labels
