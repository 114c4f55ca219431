"""Are the edges of generated sprites as clean as the data's, on black and on white?

Looked at are half-transparent pixels (5% to 95%) of pictures with transparency. Each is compared with the nearest opaque
pixel of its picture, both as they are seen on black and on white: a halo is a pixel that is brighter or darker than its
object by more than nearly all (97.5%) of the data's are. Reported for held-out pictures and for a model's: the share of
such pixels on each ground, of half-transparent pixels, and of fog (5% to 10%, more than three pixels from anything half
opaque), with 95% intervals over pictures. A model is clean where its shares lie within the interval of the data's.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from scipy.ndimage import distance_transform_edt

from timing import report
from zeuxis.checkpoint import load_model
from zeuxis.config import DataOptions, TrainOptions
from zeuxis.data import open_dataset
from zeuxis.images import composite
from zeuxis.sampling import Sampler
from zeuxis.training import start

LOW, HIGH, OPAQUE, FOG_DISTANCE = 0.05, 0.95, 0.95, 3


def looked_at(pixels: np.ndarray) -> list[dict[str, np.ndarray]]:
    """For each picture uint8 `[4, H, W]` what its half-transparent pixels differ by from the nearest opaque one, in
    levels of brightness, composited on black and on white; which pixels are half transparent, and which are fog."""
    found = []
    for picture in pixels:
        alpha = picture[3] / 255
        edge, solid = (alpha > LOW) & (alpha < HIGH), alpha > OPAQUE
        result = {"edge": edge, "fog": np.zeros_like(edge)}
        if solid.any():
            _, (rows, columns) = distance_transform_edt(~solid, return_indices=True)
            straight = picture[:3].astype(float).mean(0)
            for name, grey in (("black", 0), ("white", 255)):
                seen = composite(picture[None], grey)[0].astype(float).mean(0)
                wanted = straight[rows, columns] * alpha + grey * (1 - alpha)  # its object's colour, as transparent
                result[name] = (seen - wanted)[edge]
        if (alpha > 0.5).any():
            far = distance_transform_edt(alpha <= 0.5) > FOG_DISTANCE
            result["fog"] = (alpha > LOW) & (alpha < 0.1) & far
        found.append(result)
    return found


def shares(found: list[dict[str, np.ndarray]], bounds: dict[str, tuple[float, float]]) -> dict[str, np.ndarray]:
    """Per picture: share of halo pixels on each ground, of half-transparent pixels, of fog."""
    rows: dict[str, list[float]] = {"halo on black": [], "halo on white": [], "edge": [], "fog": []}
    for result in found:
        for ground, (low, high) in bounds.items():
            values = result.get(ground, np.zeros(0))
            if len(values):
                rows[f"halo on {ground}"].append(float(((values < low) | (values > high)).mean()))
        rows["edge"].append(float(result["edge"].mean()))
        rows["fog"].append(float(result["fog"].mean()))
    return {name: np.array(values) for name, values in rows.items()}


def interval(values: np.ndarray, count: int) -> tuple[float, float]:
    """95% interval of the mean of `count` pictures."""
    drawn = np.random.default_rng(0).choice(values, (1000, count)).mean(1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return round(float(low), 5), round(float(high), 5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a folder of pictures with transparency")
    parser.add_argument("--model", default="gan", help="a model folder, or a model name to train")
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--budget", type=float, default=240)
    parser.add_argument("--count", type=int, default=300)
    asked = parser.parse_args()
    given = Path(asked.model)
    side = load_model(given).spec.height if given.is_dir() else asked.resolution
    options = DataOptions.model_validate({"resolution": (side, side), "channels": 4})
    dataset = open_dataset(asked.data, options)
    if not given.is_dir():
        training = TrainOptions(model=asked.model, budget=asked.budget, snapshots=3, data=options)
        given = start(training, dataset, Path(tempfile.mkdtemp())).run().folder
    model = load_model(given)
    known = looked_at(dataset.train.take(np.random.default_rng(0).permutation(len(dataset.train))[:2000]))
    bounds = {}
    for ground in ("black", "white"):
        low, high = np.quantile(np.concatenate([each[ground] for each in known if ground in each]), [0.0125, 0.9875])
        bounds[ground] = float(low), float(high)
    count = min(asked.count, len(dataset.test))
    real = shares(looked_at(dataset.test.all()[:count]), bounds)
    made = shares(looked_at(np.concatenate(list(Sampler(model)(range(count))))), bounds)
    for name in real:
        low, high = interval(real[name], count)
        value = float(made[name].mean())
        report(f"{name} of {dataset.name}", model=model.name, pictures=count, generated=round(value, 5),
               generated_interval=interval(made[name], count), held_out=round(float(real[name].mean()), 5),
               held_out_interval=(low, high), within=bool(low <= value <= high))  # fmt: skip


if __name__ == "__main__":
    main()
