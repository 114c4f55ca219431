"""A model's predictions for held-out clips -> rows of the table, beside what copying the last frame reaches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from zeuxis.checkpoint import Model
from zeuxis.data import Dataset
from zeuxis.errors import DataError, UserError
from zeuxis.evaluation import LEAST, Row
from zeuxis.families.base import RenderOptions
from zeuxis.metrics import METRICS
from zeuxis.metrics.base import Z
from zeuxis.metrics.extractors import Progress
from zeuxis.metrics.frames import absolute_errors, best_of, similarities, spread, squared_errors
from zeuxis.prediction import Predictor, held_out, predicted_windows, unit

MOST, MOST_WITH_SEEDS = 1000, 200  # windows
FUTURES = 10
CHUNK = 64


def evaluate_clips(
    model: Model, dataset: Dataset, *, num: int = 10_000, metrics: Sequence[str] = (), features: Sequence[str] = (),
    draws: int = 1, seed: int = 0, device: str = "cpu", progress: Progress | None = None,
) -> list[Row]:  # fmt: skip
    """Errors of the frames that follow the context of up to 1,000 held-out windows, by the definitions of
    `metrics.frames`.

    A model with chance is asked for its likeliest future (temperature 0), and for ten seeds from `seed` on: the best of
    them by clip, their mean, and how far they are apart. Intervals count clips, not windows. `features` and `draws` are
    of no use here.
    """
    if any(name != "prediction" for name in metrics):
        raise UserError("--metrics", ",".join(metrics), "prediction", "a network over frames is judged by what follows")
    said = progress or (lambda what, done, total: None)
    positions = held_out(dataset.test, model, min(num, MOST))
    if len(positions) < LEAST:
        more = "give more clips"
        raise DataError("DATA", f"{len(positions)} held-out windows in {dataset.name}", f"at least {LEAST}", more)
    predictor, context = Predictor(model, device), model.family.context
    own: dict[str, list[NDArray[np.float64]]] = {}
    for start in range(0, len(positions), CHUNK):
        said("predicting", start, len(positions))
        part = positions[start : start + CHUNK]
        true, predicted = (
            unit(side) for side in predicted_windows(predictor, dataset.test, part, RenderOptions(temperature=0.0))
        )
        copied = np.broadcast_to(unit(dataset.test.take(part)[:, context - 1 : context]), true.shape)
        for name, function in (("mse", squared_errors), ("mae", absolute_errors), ("frame_ssim", similarities)):
            own.setdefault(name, []).append(function(predicted, true).mean(axis=1))
            own.setdefault(f"copied {name}", []).append(function(copied, true).mean(axis=1))
    found = {name: np.concatenate(values) for name, values in own.items()}
    rows = [
        _row(name, found[name], dataset, positions, f"copying the last frame: {found[f'copied {name}'].mean():.4g}")
        for name in ("mse", "mae", "frame_ssim")
    ]
    return rows + _futures(predictor, dataset, positions[:: -(-len(positions) // MOST_WITH_SEEDS)], seed, said)


def _futures(
    predictor: Predictor, dataset: Dataset, positions: NDArray[np.int64], seed: int, said: Progress
) -> list[Row]:
    """Rows of ten seeds; none where all are equal."""
    own: dict[str, list[NDArray[np.float64]]] = {}
    seeds = tuple(range(seed, seed + FUTURES))
    for start in range(0, len(positions), CHUNK // 4):
        said("predicting ten futures", start, len(positions))
        part = positions[start : start + CHUNK // 4]
        made = [predicted_windows(predictor, dataset.test, part, seed=each) for each in seeds]
        true, futures = unit(made[0][0]), np.stack([unit(predicted) for _, predicted in made])
        if (futures == futures[:1]).all():
            return []
        own.setdefault("mse_mean", []).append(squared_errors(futures.mean(axis=0), true).mean(axis=1))
        own.setdefault("mse_best", []).append(best_of(futures, true))
        own.setdefault("future_diversity", []).append(spread(futures))
    return [_row(name, np.concatenate(values), dataset, positions, "", seeds) for name, values in own.items()]


def _row(
    name: str, values: NDArray[np.float64], dataset: Dataset, positions: NDArray[np.int64], note: str,
    seeds: tuple[int, ...] = (),
) -> Row:  # fmt: skip
    """Mean over windows `[N]`, with the standard error of the mean over the clips that they were cut from."""
    title, better = METRICS["prediction"].values[name]
    _, clip = np.unique(dataset.test.clips[positions], return_inverse=True)
    by_clip = np.bincount(clip, values) / np.bincount(clip)
    value, interval = float(values.mean()), None
    if len(by_clip) > 1:
        half = Z * float(by_clip.std(ddof=1) / np.sqrt(len(by_clip)))
        interval = (value - half, value + half)
    note = f"{len(by_clip)} clips" + (f"; {note}" if note else "")
    return Row(
        name, title, "prediction", value, better, None, interval, len(values), "test", "", "", dataset.fingerprint,
        seeds, note,
    )  # fmt: skip
