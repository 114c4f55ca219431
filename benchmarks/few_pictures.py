"""A thousand pictures of Fashion-MNIST: the adaptive augmentation that `zeuxis train` chooses for few pictures that are
shown often, against none.

Both train for the same time on the same 1,000 pictures (50 of them for validation) and are judged by 10,000 samples
against the 10,000 test pictures: the Fréchet distance in the extractor of the whole data set, and the rate of copies of
the training pictures beyond chance. The aim: half the distance, and at most one point of copies at the upper end of the
interval.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from timing import report
from zeuxis.checkpoint import load_model
from zeuxis.config import DataOptions
from zeuxis.data import open_dataset
from zeuxis.evaluation import evaluate_model
from zeuxis.families.gan.choose import KINDS
from zeuxis.files import read_json_lines
from zeuxis.images import picture_of, save_png

AUGMENTED = {"probability": "0.8", "adaptive": "true", "kinds": json.dumps(KINDS)}
SIDES = {
    "augmented": [part for key, value in AUGMENTED.items() for part in ("--set", f"augment.{key}={value}")],
    "plain": ["--set", "augment.probability=0"],
}


def write_pictures(count: int, folder: Path) -> None:
    """The first `count` training pictures and all test pictures, as PNG files of a data set with these splits."""
    dataset = open_dataset("fashion-mnist", DataOptions(val_fraction=0.0))
    for name, pictures in (("train", dataset.train.take(np.arange(count))), ("test", dataset.test.all())):
        (folder / name).mkdir(parents=True)
        for index, picture in enumerate(pictures.transpose(0, 2, 3, 1)):
            save_png(picture_of(picture), folder / name / f"{index:05d}.png")


def train(side: str, data: Path, length: list[str], seed: int, out: Path, extra: list[str]) -> Path:
    """The run folder of a finished training."""
    command = [sys.executable, "-m", "zeuxis", "train", str(data), *length, "--seed", str(seed), "--out", str(out)]
    subprocess.run([*command, *SIDES[side], *extra], check=True)
    return max(out.iterdir())


def judged(run: Path, data: Path, num: int, features: str) -> dict[str, object]:
    """What one run is worth."""
    model, few, whole = load_model(run), open_dataset(data), open_dataset("fashion-mnist")
    rows = evaluate_model(model, whole, num=num, metrics=("fd", "dc"), features=(features,), draws=1)
    rows += evaluate_model(model, few, num=num, metrics=("copy_rate",), features=(features,), draws=1)
    found: dict[str, object] = {}
    for row in rows:
        if row.reference == "test":
            found[row.metric] = round(row.value, 5)
            found |= {f"{row.metric}_floor": round(row.floor, 5)} if row.floor is not None else {}
            found |= {f"{row.metric}_upper": round(row.interval[1], 5)} if row.interval else {}
    strengths = [each["discriminator/augmentation"] for each in read_json_lines(run / "stats.jsonl")
                 if "discriminator/augmentation" in each]  # fmt: skip
    if strengths:
        found["strength_most"], found["strength_last"] = round(max(strengths), 3), round(strengths[-1], 3)
    return found | {"images": json.loads((run / "finished.json").read_text())["images_seen"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--kimg", type=float, help="a length in thousands of images instead of minutes")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--num", type=int, default=10_000)
    parser.add_argument("--features", default="dataset")
    parser.add_argument("--extra", nargs=argparse.REMAINDER, default=[], help="more options for `zeuxis train`")
    asked = parser.parse_args()
    length = ["--kimg", str(asked.kimg)] if asked.kimg else ["--budget", f"{asked.minutes * 60}s"]
    with tempfile.TemporaryDirectory() as temporary:
        data = Path(temporary) / "few"
        write_pictures(asked.pictures, data)
        for seed in range(asked.seeds):
            found = {}
            for side in SIDES:
                run = train(side, data, length, seed, Path(temporary) / f"{side}{seed}", asked.extra)
                found[side] = judged(run, data, asked.num, asked.features)
                report("few_pictures", side=side, pictures=asked.pictures, seed=seed, **found[side])
            name = next(key for key in found["plain"] if key.startswith("fd") and key.count("_") == 1)
            ratio = float(found["augmented"][name]) / float(found["plain"][name])  # type: ignore[arg-type]
            report("few_pictures_ratio", pictures=asked.pictures, seed=seed, metric=name, ratio=round(ratio, 3))


if __name__ == "__main__":
    main()
