"""Does each metric notice the fault that it exists for? Known faults at four strengths, put into held-out pictures.

The pictures are one half of the data's test split, the reference is the other half, so that strength 0 is real against
real. `--data` (Fashion-MNIST) gets noise, blur, dropped classes, training copies, duplicates; `--rgba FOLDER` (pictures
with transparency, generated shapes without the option) a colour shift, jagged alpha and dust; generated textures that
wrap around get seams. A fault is noticed at a strength when the value leaves the interval of strength 0 on the bad side
by more than its half width. Curves go to results/evaluation_sanity_*.json, the table into docs/evaluation.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from timing import report
from zeuxis.config import DataOptions
from zeuxis.data import Dataset, open_dataset
from zeuxis.evaluation import Row, evaluate

HERE = Path(__file__).parent
RESULTS, PAGE = HERE / "results", HERE.parent / "docs" / "evaluation.md"
BEGIN, END = "<!-- made by benchmarks/evaluation_sanity.py -->", "<!-- end -->"
Pixels = np.ndarray  # uint8 [N, C, H, W]
Fault = Callable[[Pixels, int, "Source"], Pixels]


class Source:
    """What a fault may take from: random numbers, labels of the pictures, training pictures."""

    def __init__(self, dataset: Dataset, labels: np.ndarray) -> None:
        self.rng, self.labels, self.train = np.random.default_rng(0), labels, dataset.train

    def training(self, count: int) -> Pixels:
        return self.train.take(self.rng.choice(len(self.train), count, replace=False))


def noise(pixels: Pixels, strength: int, source: Source) -> Pixels:
    """Gaussian noise of 4, 8, 16, 32 levels."""
    noisy = pixels + source.rng.normal(0, 2 ** (strength + 1), pixels.shape)
    return noisy.round().clip(0, 255).astype(np.uint8)


def blur(pixels: Pixels, strength: int, source: Source) -> Pixels:
    """[1, 2, 1] smoothing along both axes, 1, 2, 4, 8 times, a quarter as strong each."""
    values = pixels.astype(np.float32)
    for _ in range(2 ** (strength - 1)):
        for axis in (2, 3):
            around = np.roll(values, 1, axis) + np.roll(values, -1, axis)
            values = 0.75 * values + 0.125 * around
    return values.round().astype(np.uint8)


def dropped_classes(pixels: Pixels, strength: int, source: Source) -> Pixels:
    """1, 2, 4, 8 of the classes are missing; the others fill their places."""
    kept = np.flatnonzero(source.labels >= min(2 ** (strength - 1), int(source.labels.max())))
    return pixels[np.resize(kept, len(pixels))] if len(kept) >= len(pixels) else _filled(pixels, kept)


def _filled(pixels: Pixels, kept: np.ndarray) -> Pixels:
    # Mirror images fill the places: new pictures, so that nothing is there twice.
    more = np.resize(kept, len(pixels) - len(kept))
    return np.concatenate([pixels[kept], pixels[more][..., ::-1]])


def training_copies(pixels: Pixels, strength: int, source: Source) -> Pixels:
    """5, 10, 20, 40 percent are training pictures."""
    count = round(len(pixels) * 0.025 * 2**strength)
    return np.concatenate([source.training(count), pixels[count:]])


def duplicates(pixels: Pixels, strength: int, source: Source) -> Pixels:
    """5, 10, 20, 40 percent are there twice."""
    count = round(len(pixels) * 0.025 * 2**strength)
    return np.concatenate([pixels[-count:], pixels[count:]])


def colour_shift(pixels: Pixels, strength: int, source: Source) -> Pixels:
    """Red up and blue down (grey: up) by 8, 16, 32, 64 levels."""
    shifted = pixels.astype(np.int16)
    shifted[:, 0] += 4 * 2**strength
    if pixels.shape[1] > 1:
        shifted[:, 2] -= 4 * 2**strength
    return shifted.clip(0, 255).astype(np.uint8)


def jagged_alpha(pixels: Pixels, strength: int, source: Source) -> Pixels:
    """Alpha's steps are made 2, 4, 8, 16 times steeper, up to a staircase."""
    hard = pixels.copy()
    alpha = pixels[:, 3].astype(np.float32) - 127.5
    hard[:, 3] = (alpha * 2**strength + 127.5).round().clip(0, 255).astype(np.uint8)
    return hard


def dust(pixels: Pixels, strength: int, source: Source) -> Pixels:
    """0.5, 1, 2, 4 percent of the clear pixels are faintly visible."""
    dusty = pixels.copy()
    chosen = (pixels[:, 3] == 0) & (source.rng.random(pixels[:, 3].shape) < 0.0025 * 2**strength)
    dusty[:, 3][chosen] = 12
    return dusty


def seam(pixels: Pixels, strength: int, source: Source) -> Pixels:
    """A ramp of 8, 16, 32, 64 levels from left to right breaks the wrap-around."""
    ramp = np.linspace(-1, 1, pixels.shape[3]) * 2 * 2**strength
    return (pixels + ramp).round().clip(0, 255).astype(np.uint8)


# Each fault with the metric named for it.
FAULTS: dict[str, dict[str, tuple[Fault, str]]] = {
    "data": {
        "noise": (noise, "sharpness_gap"), "blur": (blur, "sharpness_gap"),
        "dropped classes": (dropped_classes, "coverage_k5"), "training copies": (training_copies, "copy_rate"),
        "duplicates": (duplicates, "duplicate_rate"),
    },
    "rgba": {
        "colour shift": (colour_shift, "colour_gap"), "jagged alpha": (jagged_alpha, "edges_gap"),
        "dust in clear parts": (dust, "fringe_gap"),
    },
    "textures": {"seam": (seam, "seam_ratio_x")},
}  # fmt: skip


def shapes(count: int, side: int = 32) -> np.ndarray:
    """Coloured discs with smooth edges on nothing, uint8 `[N, H, W, 4]`: for when there are no pictures with alpha."""
    rng = np.random.default_rng(0)
    at = np.arange(side) - side / 2 + 0.5
    centre = rng.uniform(-side / 6, side / 6, (count, 2, 1, 1))
    radius = rng.uniform(side / 6, side / 3, (count, 1, 1))
    distance = np.hypot(at[None, :, None] - centre[:, 0], at[None, None, :] - centre[:, 1])
    alpha = np.clip(radius - distance + 0.5, 0, 1)[..., None]
    colour = np.broadcast_to(rng.integers(40, 216, (count, 1, 1, 3)), (count, side, side, 3))
    return np.concatenate([np.where(alpha > 0, colour, 0), 255 * alpha], axis=3).round().astype(np.uint8)


def textures(count: int, side: int = 32) -> np.ndarray:
    """Sums of waves that wrap around both axes, uint8 `[N, H, W, 3]`."""
    rng = np.random.default_rng(1)
    at = 2 * np.pi * np.arange(side) / side
    values = np.zeros((count, side, side, 3))
    for _ in range(6):
        x, y = rng.integers(0, 5, (2, count, 1, 1, 1))
        phase, height = rng.uniform(0, 2 * np.pi, (count, 1, 1, 3)), rng.uniform(5, 20, (count, 1, 1, 3))
        values += height * np.sin(x * at[None, None, :, None] + y * at[None, :, None, None] + phase)
    return (127.5 + values).round().clip(0, 255).astype(np.uint8)


def halves(pictures: np.ndarray | str, options: DataOptions, num: int) -> tuple[Dataset, Pixels, np.ndarray]:
    """Data whose test split is one half of the held-out pictures, and the other half with its labels."""
    whole = open_dataset(pictures, options)
    test = whole.test.all()
    order = np.random.default_rng(3).permutation(len(test))[: 2 * min(num, len(test) // 2)]
    own, reference = order[: len(order) // 2], order[len(order) // 2 :]
    # The same training pictures and features; only the reference is cut.
    whole.test._slots = whole.test._slots[reference]
    labels = whole.test.labels[own]
    whole.test.labels = whole.test.labels[reference]
    whole.pictures_key += f"-half-{len(reference)}"
    return whole, test[own], labels


def curves(
    name: str, dataset: Dataset, pixels: Pixels, labels: np.ndarray, features: str
) -> dict[str, list[list[Row]]]:
    """Rows by fault and strength, 0 first (the same for all)."""

    def judged(pictures: Pixels) -> list[Row]:
        return evaluate([pictures], dataset, num=len(pictures), features=(features,))

    clean = judged(pixels)
    mixed = judged(pixels[np.random.default_rng(4).permutation(len(pixels))])
    assert clean == mixed, "the order of the pictures must not change anything"
    found = {}
    for fault, (function, _) in FAULTS[name].items():
        source = Source(dataset, labels)
        found[fault] = [clean, *(judged(function(pixels, strength, source)) for strength in (1, 2, 3, 4))]
    return found


def noticed(clean: Row, row: Row) -> bool:
    """Whether the value is on the bad side of the clean one, outside its interval by another half width."""
    assert clean.interval is not None
    width = clean.interval[1] - clean.interval[0]
    worse = row.value - clean.value if clean.better == "lower" else clean.value - row.value
    return worse > width


def first_noticed(rows: list[list[Row]]) -> dict[str, int]:
    """The first strength from which on a metric notices, by metric; left out where it never does."""
    result = {}
    for at, clean in enumerate(rows[0]):
        if clean.reference != "test" or clean.interval is None:
            continue
        flags = [noticed(clean, rows[strength][at]) for strength in range(1, len(rows))]
        after = [strength for strength in range(1, len(rows)) if all(flags[strength - 1 :])]
        if after:
            result[clean.metric] = after[0]
    return result


def table(results: dict[str, dict[str, int]], names: list[str]) -> str:
    """Markdown: metrics down, faults across, the first strength noticed."""
    faults = list(results)
    lines = ["| metric | " + " | ".join(faults) + " |", "|---" * (len(faults) + 1) + "|"]
    named = {fault: metric for group in FAULTS.values() for fault, (_, metric) in group.items()}
    for name in names:
        cells = []
        for fault in faults:
            strength = results[fault].get(name)
            text = "" if strength is None else str(strength)
            cells.append(f"**{text or 'no'}**" if name.startswith(named[fault]) else text)
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--rgba", default="", help="a folder of pictures with transparency")
    parser.add_argument("--num", type=int, default=5000, help="pictures on each side, at most")
    parser.add_argument("--features", default="dataset")
    parser.add_argument("--only", default="", help="data, rgba or textures")
    parser.add_argument("--table", action="store_true", help="write the table into the page from the results at hand")
    arguments = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    openers = {
        "data": lambda: halves(arguments.data, DataOptions(), arguments.num),
        "rgba": lambda: halves(arguments.rgba or shapes(4000), DataOptions(test_fraction=0.5), arguments.num),
        "textures": lambda: halves(textures(4000), DataOptions(test_fraction=0.5, wrap="xy"), arguments.num),
    }  # fmt: skip
    for name in () if arguments.table else (arguments.only.split(",") if arguments.only else FAULTS):
        dataset, pixels, labels = openers[name]()
        found = curves(name, dataset, pixels, labels, arguments.features)
        faults = {}
        for fault, rows in found.items():
            values = {
                f"{row.metric} ({row.reference})": [each[at].value for each in rows] for at, row in enumerate(rows[0])
            }
            first = first_noticed(rows)
            metric = FAULTS[name][fault][1]
            own = {key: value for key, value in first.items() if key.startswith(metric)}
            faults[fault] = {"named_for_it": metric, "first_noticed": first, "values": values}
            report("evaluation_sanity", fault=fault, metric=metric, first_noticed=own, num=len(pixels))
        document = {"data": dataset.name, "num": len(pixels), "features": arguments.features, "faults": faults}
        (RESULTS / f"evaluation_sanity_{name}.json").write_text(json.dumps(document, indent=1) + "\n")
    write_table()


def write_table() -> None:
    """Puts the tables of all results at hand between the marks of the page."""
    parts = []
    for name in FAULTS:
        file = RESULTS / f"evaluation_sanity_{name}.json"
        if file.is_file():
            document = json.loads(file.read_text())
            results = {fault: own["first_noticed"] for fault, own in document["faults"].items()}
            first = next(iter(document["faults"].values()))["values"]
            names = [key.removesuffix(" (test)") for key in first if key.endswith("(test)")]
            about = f"{document['data']}, {document['num']:,} pictures on each side, features `{document['features']}`:"
            parts += [about, "", table(results, names), ""]
    if PAGE.is_file() and BEGIN in (text := PAGE.read_text()):
        before, rest = text.split(BEGIN, 1)
        after = rest.split(END, 1)[1]
        PAGE.write_text(f"{before}{BEGIN}\n\n" + "\n".join(parts) + f"\n{END}{after}")


if __name__ == "__main__":
    main()
