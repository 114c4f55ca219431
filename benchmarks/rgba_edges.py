"""Are the edges of generated sprites as clean as the data's, on black and on white?

Looked at are half-transparent pixels (5% to 95%) of pictures with transparency. Each is compared with the nearest
opaque pixel of its picture, as transparent as itself: on any ground the two differ by alpha times the difference of
their colours, so one number serves black and white. A halo is a pixel that is brighter or darker than its object by
more than nearly all (97.5%) of the data's are. Reported for held-out pictures and for a model's: the share of such
pixels, of half-transparent pixels, and of fog (5% to 10%, more than three pixels from anything half opaque), with 95%
intervals over pictures, as the model makes them and with `--clean-edges`. A model is clean where its shares are not
above the interval of the data's.
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
from zeuxis.editing.sprites import cleaned
from zeuxis.sampling import Sampler
from zeuxis.training import start

LOW, HIGH, OPAQUE, FOG_DISTANCE = 0.05, 0.95, 0.95, 3


def looked_at(pixels: np.ndarray) -> list[dict[str, np.ndarray]]:
    """For each picture uint8 `[4, H, W]` what its half-transparent pixels differ by from the nearest opaque one, in
    levels of brightness on any ground; which pixels are half transparent, and which are fog."""
    found = []
    for picture in pixels:
        alpha = picture[3] / 255
        edge, solid = (alpha > LOW) & (alpha < HIGH), alpha > OPAQUE
        result = {"edge": edge, "fog": np.zeros_like(edge)}
        if solid.any():
            _, (rows, columns) = distance_transform_edt(~solid, return_indices=True)
            straight = picture[:3].astype(float).mean(0)
            result["halo"] = (alpha * (straight - straight[rows, columns]))[edge]
        if (alpha > 0.5).any():
            far = distance_transform_edt(alpha <= 0.5) > FOG_DISTANCE
            result["fog"] = (alpha > LOW) & (alpha < 0.1) & far
        found.append(result)
    return found


def shares(found: list[dict[str, np.ndarray]], low: float, high: float) -> dict[str, np.ndarray]:
    """Per picture: share of half-transparent pixels outside of `low` to `high`, of half-transparent pixels, of fog."""
    halo = [float(((each["halo"] < low) | (each["halo"] > high)).mean()) for each in found if each["edge"].any()
            and "halo" in each]  # fmt: skip
    rows = {"halo": halo, **{name: [float(each[name].mean()) for each in found] for name in ("edge", "fog")}}
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
    low, high = np.quantile(np.concatenate([each["halo"] for each in known if "halo" in each]), [0.0125, 0.9875])
    count = min(asked.count, len(dataset.test))
    real = shares(looked_at(dataset.test.all()[:count]), low, high)
    pictures = np.concatenate(list(Sampler(model)(range(count))))
    for way, drawn in {"as made": pictures, "--clean-edges": cleaned(pictures)}.items():
        made = shares(looked_at(drawn), low, high)
        for name in real:
            least, most = interval(real[name], count)
            value = float(made[name].mean())
            report(f"{name} of {dataset.name}, {way}", model=model.name, pictures=count, generated=round(value, 5),
                   generated_range=interval(made[name], count), held_out=round(float(real[name].mean()), 5),
                   held_out_range=(least, most), within=bool(least <= value <= most),
                   at_most=bool(value <= most))  # fmt: skip


if __name__ == "__main__":
    main()
