"""Every metric against an independent float64 reference, against closed forms, and against torch-fidelity's values."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from metric_references import (
    auth_pct,
    classifier_score,
    density_coverage,
    features,
    frechet,
    kernel,
    precision_recall,
    radii,
    ssim,
)
from scipy.spatial.distance import cdist
from scipy.stats import wasserstein_distance

from zeuxis.metrics import appearance, classifier, frames, memorisation, neighbours, reconstruction
from zeuxis.metrics.base import Pair, Side, Training
from zeuxis.metrics.copy_rate import company, copy_rate
from zeuxis.metrics.diversity import metric as diversity
from zeuxis.metrics.frechet import between_gaussians, extrapolated_distance, frechet_distance
from zeuxis.metrics.kernel import kernel_distance
from zeuxis.metrics.likelihood import bits_per_dimension, negative_log_likelihood

GOLDEN = Path(__file__).parents[1] / "golden" / "metrics" / "torch_fidelity.json"


A, B = features(150, 12, 1, 0.2), features(150, 12, 2, 0.0, 1.2)


def test_frechet_distance_is_that_of_the_general_matrix_root() -> None:
    assert frechet_distance(A, B) == pytest.approx(frechet(A, B), rel=1e-6)


def test_frechet_distance_of_gaussians_has_its_closed_form() -> None:
    mean, other = np.array([1.0, -2.0, 0.5]), np.array([0.0, 1.0, 0.5])
    spread, other_spread = np.array([1.0, 4.0, 0.25]), np.array([9.0, 4.0, 0.0])
    exact = 1 + 9 + 4 + 0 + 0.25  # squared means, then squared differences of the deviations
    assert between_gaussians(mean, np.diag(spread), other, np.diag(other_spread)) == pytest.approx(exact, rel=1e-12)
    assert frechet_distance(A, A) == pytest.approx(0, abs=1e-9)


def test_the_extrapolated_distance_leaves_no_bias_where_the_plain_one_has_it() -> None:
    rng = np.random.default_rng(0)
    plain, extrapolated = [], []
    for _ in range(12):
        a, b = rng.normal(size=(2, 600, 20))
        plain.append(frechet_distance(a, b))
        extrapolated.append(extrapolated_distance(a, b))
    assert np.mean(plain) > 0.3, "two samples of one Gaussian are apart by their size alone"
    assert abs(np.mean(extrapolated)) < 0.04


def test_kernel_distance_is_that_of_the_loops_over_pairs() -> None:
    assert kernel_distance(A[:40], B[:30]) == pytest.approx(kernel(A[:40], B[:30]), rel=1e-6)


def test_kernel_distance_of_two_points_has_its_closed_form() -> None:
    a, b = np.array([[1.0], [1.0]]), np.array([[-1.0], [-1.0]])
    assert kernel_distance(a, b) == pytest.approx(8 + 8 - 2 * 0, rel=1e-12)


@pytest.mark.parametrize("k", [3, 5])
def test_precision_recall_density_and_coverage_are_those_of_full_matrices(k: int) -> None:
    assert neighbours.precision_recall(A, B, k) == pytest.approx(precision_recall(A, B, k), rel=1e-6)
    assert neighbours.density_coverage(A, B, k) == pytest.approx(density_coverage(A, B, k), rel=1e-6)


def test_precision_and_recall_tell_a_missing_half_from_a_wrong_half() -> None:
    rng = np.random.default_rng(0)
    real = np.concatenate([rng.normal(0, 1, (200, 4)), rng.normal(100, 1, (200, 4))])
    half = rng.normal(0, 1, (400, 4))
    precision, recall = neighbours.precision_recall(half, real)
    assert precision > 0.9 and recall < 0.6
    precision, recall = neighbours.precision_recall(real, rng.normal(0, 1, (400, 4)))
    assert precision < 0.6 and recall > 0.9


def test_the_jackknife_of_recall_and_coverage_is_that_of_leaving_out_one_by_one() -> None:
    a, b = A[:40], B[:40]
    pair = Pair(Side(a), Side(b))
    left_out = [np.delete(a, at, axis=0) for at in range(len(a))]
    for k in (3, 5):
        error = neighbours.precision_recall_estimates(pair, (k,))[f"recall_k{k}"].error
        covering = (cdist(a, b) <= radii(a, k)[:, None]).sum(axis=0)
        found = (error or 0) / neighbours.shrinkage(covering)
        recalls = [precision_recall(rest, b, k)[1] for rest in left_out]
        assert found == pytest.approx(
            np.sqrt(39 / 40 * np.square(np.array(recalls) - np.mean(recalls)).sum()), rel=1e-9
        )
    coverages = [density_coverage(rest, b, 5)[1] for rest in left_out]
    exact = np.sqrt(39 / 40 * np.square(np.array(coverages) - np.mean(coverages)).sum())
    error = neighbours.density_coverage_estimates(pair)["coverage_k5"].error
    covering = (cdist(a, b) <= radii(b, 5)[None, :]).sum(axis=0)
    assert (error or 0) / neighbours.shrinkage(covering) == pytest.approx(exact, rel=1e-9)
    assert exact > 0


def test_classifier_score_is_the_formula_and_its_ends_are_one_and_the_classes() -> None:
    logits = np.random.default_rng(0).normal(0, 3, (200, 7))
    assert classifier.classifier_score(logits).value == pytest.approx(classifier_score(logits), rel=1e-9)
    assert classifier.classifier_score(np.zeros((30, 7))).value == pytest.approx(1)
    assert classifier.classifier_score(1e4 * np.eye(7)[np.arange(70) % 7]).value == pytest.approx(7)


def test_auth_pct_is_that_of_full_matrices_and_zero_for_copies() -> None:
    training = features(200, 12, 3)
    pair = Pair(Side(A), Side(B), Training(training))
    assert memorisation.auth_metric(pair)["auth_pct"].value == pytest.approx(auth_pct(A, training))
    copies = Pair(Side(training[:50]), Side(B), Training(training))
    assert memorisation.auth_metric(copies)["auth_pct"].value == 0


def test_mann_whitney_counts_pairs() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 9, 30).astype(float), rng.integers(2, 11, 40).astype(float)
    u = sum((x > y) + (x == y) / 2 for x in a for y in b)
    expected = (u - 30 * 40 / 2) / math.sqrt(30 * 40 * 71 / 12)
    z, error = memorisation.mann_whitney(a, b)
    assert z == pytest.approx(expected) and expected < -1 and error > 0


def test_the_data_copying_statistic_is_low_for_copies_and_near_zero_for_new_pictures() -> None:
    training, new = features(2000, 6, 5), features(1000, 6, 6)
    copies = training[:500] + 1e-3
    for generated, low, high in ((copies, -math.inf, -5), (new[:500], -3, 3)):
        pair = Pair(Side(generated), Side(new[500:]), Training(training))
        assert low < memorisation.copying_metric(pair)["c_t"].value < high


def test_copy_rate_counts_planted_copies_and_nothing_among_new_pictures() -> None:
    training, new = features(3000, 6, 7), features(2000, 6, 8)
    planted = np.concatenate([training[:100], new[:900]])
    assert copy_rate(planted, new[1000:], training) == pytest.approx(0.1, abs=0.012)
    assert abs(copy_rate(new[:1000], new[1000:], training)) < 0.012


def test_diversity_is_one_for_equal_spread_and_half_for_half_of_it() -> None:
    assert diversity(Pair(Side(B), Side(B)))["diversity"].value == pytest.approx(1)
    assert diversity(Pair(Side(B / 2), Side(B)))["diversity"].value == pytest.approx(0.5)


def test_the_gap_of_a_statistic_is_the_wasserstein_distance_in_deviations() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(3, 2, 200), rng.normal(0, 1, 150)
    expected = wasserstein_distance(a, b) / b.std()
    assert appearance.distribution_gap(a, b).value == pytest.approx(expected, rel=1e-9)


def test_nearest_neighbours_agree_with_full_matrices_also_for_exact_copies() -> None:
    rng = np.random.default_rng(0)
    training = rng.random((6000, 40))
    asked = np.concatenate([training[[5, 4100]], rng.random((20, 40))])
    distance, which = neighbours.nearest(asked, training)
    full = np.square(asked[:, None] - training[None]).sum(-1)
    assert which.tolist() == full.argmin(1).tolist()
    assert distance == pytest.approx(full.min(1), rel=1e-12) and distance[:2].tolist() == [0, 0]


def test_psnr_and_ssim_have_their_closed_forms_and_agree_with_the_loops() -> None:
    rng = np.random.default_rng(0)
    one = rng.integers(20, 230, (2, 1, 16, 14), dtype=np.uint8)
    other = (one + rng.integers(0, 20, one.shape)).astype(np.uint8)
    assert reconstruction.psnr(one + 5, one) == pytest.approx([20 * math.log10(255 / 5)] * 2)
    assert reconstruction.psnr(one, one) == pytest.approx([10 * math.log10(255**2 * 12)] * 2)
    assert reconstruction.ssim(one, one) == pytest.approx([1, 1])
    at = np.arange(11) - 5
    weights = np.exp(-(at**2) / 4.5)
    window = np.outer(weights, weights) / weights.sum() ** 2
    expected = [ssim(a[0].astype(float), b[0].astype(float), window, 255.0) for a, b in zip(other, one, strict=True)]
    assert reconstruction.ssim(other, one) == pytest.approx(expected, rel=1e-9)


def test_frame_metrics_sum_over_pixels_and_average_over_frames() -> None:
    rng = np.random.default_rng(0)
    true = rng.random((2, 3, 1, 10, 9))
    assert frames.mean_squared_error(true + 0.5, true) == pytest.approx(0.25 * 90)
    assert frames.mean_absolute_error(true - 0.5, true) == pytest.approx(0.5 * 90)
    predicted = (true + rng.normal(0, 0.1, true.shape)).clip(0, 1)
    window = np.full((7, 7), 1 / 49)
    expected = np.mean(
        [ssim(predicted[b, t, 0], true[b, t, 0], window, 2.0, 49 / 48) for b in range(2) for t in range(3)]
    )
    assert frames.frame_ssim(predicted, true) == pytest.approx(expected, rel=1e-9)


def test_bits_per_dimension_of_a_uniform_density_are_eight() -> None:
    # Uniform over the 256 bins of the [-1, 1] scale, each 2/255 wide.
    nats = np.full(10, -12 * math.log(256 * 2 / 255))
    assert bits_per_dimension(nats, 12, discrete=False).value == pytest.approx(8)
    assert bits_per_dimension(np.full(10, -12 * math.log(256)), 12, discrete=True).value == pytest.approx(8)
    assert negative_log_likelihood(np.array([-1.0, -3.0])).value == 2


def test_values_of_torch_fidelity_are_met() -> None:
    golden = json.loads(GOLDEN.read_text())
    assert golden["torch_fidelity"].startswith("0.4")
    for case in golden["cases"]:
        a, b = (features(case["count"], case["dimension"], **case[side]) for side in ("first", "second"))
        assert frechet_distance(a, b) == pytest.approx(case["frechet"], rel=1e-4)
        assert kernel_distance(a, b) == pytest.approx(case["kernel"], rel=1e-6)
        for k in (3, 5):
            assert neighbours.precision_recall(a, b, k) == pytest.approx(case[f"precision_recall_k{k}"], rel=1e-6)
        assert classifier.classifier_score(a).value == pytest.approx(case["inception_score"], rel=1e-6)


def test_pictures_that_lie_together_are_counted_as_one_group() -> None:
    apart = 100.0 * np.arange(20)
    rows = np.concatenate([apart, [0.1, 100.1, 100.2], [300.1, 300.3, 300.6]])[:, None]
    # Groups of 2, 3 and 4: a picture that counts has (4 + 9 + 16) / 9 in its group on average.
    assert company(Side(rows), 1.0) == pytest.approx(29 / 9)
    assert company(Side(rows), 1e-6) == 2.0  # nobody counts: as if they came in pairs
    assert company(Side(apart[:, None]), 1.0) == 2.0
