"""Does `zeuxis project` come nearer to a held-out picture than the nearest training picture? In each space, by features
that nothing was optimised against and by pixels.

`features_of_N` is the mean distance over that of the nearest of N training pictures. That one is searched for twice, in
the scorer's features and in pixels, and the better one counts. Ratios below 1 beat it. `round trip` says how near the
encoder comes to pictures of the model itself.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from editing_common import Pixels, Scorer, arguments, bootstrap, prepare, spread
from timing import report
from zeuxis.editing import project
from zeuxis.images import to_float, to_pixels


def nearest(wanted: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Positions of the nearest rows of `among` `[M, D]` to each of `wanted` `[N, D]`."""
    squares = np.square(among).sum(1)
    return np.array([(squares - 2 * (among @ row)).argmin() for row in wanted])


def flat(pixels: Pixels) -> np.ndarray:
    return pixels.reshape(len(pixels), -1).astype(np.float64) / 255


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="held-out pictures")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--restarts", type=int, default=4)
    parser.add_argument(
        "--training", type=int, nargs="*", default=[1000, 10_000, 60_000], help="pictures of the control"
    )
    asked = arguments(parser)
    dataset, space, encoder = prepare(asked)
    scorer = Scorer(asked.features, dataset, 10_000)
    pixels = dataset.test.take(spread(len(dataset.test), asked.count))
    images, features = to_float(torch.from_numpy(pixels)), scorer(pixels)

    def distances(found: Pixels) -> tuple[np.ndarray, np.ndarray]:
        by_features = np.linalg.norm(scorer(found) - features, axis=1)
        return by_features, np.sqrt(np.square(flat(found) - flat(pixels)).mean(1))

    common = {"model": space.model.name, "pictures": asked.count, "extractor": asked.features}
    controls: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for count in sorted({min(each, len(dataset.train)) for each in asked.training}):
        bank = dataset.train.take(spread(len(dataset.train), count))
        one = distances(bank[nearest(features, scorer(bank))])
        other = distances(bank[nearest(flat(pixels), flat(bank))])
        controls[count] = np.minimum(one[0], other[0]), np.minimum(one[1], other[1])
        by_features, rmse = (round(float(each.mean()), 5) for each in controls[count])
        report(f"nearest of {count} training pictures of {dataset.name}", **common, features=by_features, rmse=rmse)

    def found(steps: int, rich: bool) -> Tensor:
        return project(space, images, encoder=encoder, steps=steps, restarts=asked.restarts, rich=rich).images

    ways: dict[str, Callable[[], Tensor]] = {
        "encoder alone": lambda: found(0, False),
        "latent": lambda: found(asked.steps, False),
        "latent, then first layers": lambda: found(asked.steps, True),
    }
    for name, way in ways.items():
        started = time.perf_counter()
        made = to_pixels(way()).numpy()
        seconds = time.perf_counter() - started
        own = distances(made)
        ratios: dict[str, object] = {}
        for count, control in controls.items():
            ratios[f"features_of_{count}"] = round(float(own[0].mean() / control[0].mean()), 4)
            ratios[f"features_of_{count}_range"] = bootstrap(own[0] / control[0].mean())
            ratios[f"rmse_of_{count}"] = round(float(own[1].mean() / control[1].mean()), 4)
        report(f"project by {name} on {dataset.name}", **common, **ratios, features=round(float(own[0].mean()), 4),
               rmse=round(float(own[1].mean()), 5), seconds_per_picture=round(seconds / asked.count, 3),
               steps=asked.steps, restarts=asked.restarts)  # fmt: skip
    codes = space.of_seeds(range(10**6, 10**6 + asked.count))
    fakes = space.images(codes)
    error = (space.dismantle(encoder(fakes, labels=codes.labels)) - space.dismantle(codes)).square().mean(1)
    again = space.images(encoder(fakes, labels=codes.labels))
    rmse = round(float((again - fakes).square().mean().sqrt() / 2), 5)
    report(
        f"round trip of the encoder on {dataset.name}", **common, code_error=round(float(error.mean()), 4), rmse=rmse
    )


if __name__ == "__main__":
    main()
