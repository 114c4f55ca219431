"""Do pictures of `--wrap xy` meet at their edges, without paying for it in sharpness?

Two sets of textures are made here: periodic ones, and crops of larger ones, whose own edges do not meet. On each a GAN
is trained with `--wrap xy` and one without. Reported per axis: the mean difference across the edge over that inside
(1: no seam), and the mean difference inside over the data's own (1: as sharp as the data; a blurred texture would have
no seam either). The same for the data.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from timing import report
from zeuxis.checkpoint import load_model
from zeuxis.config import DataOptions, TrainOptions
from zeuxis.data import open_dataset
from zeuxis.editing.seams import seam_ratio, sharpness
from zeuxis.images import grid, save_png
from zeuxis.sampling import Sampler
from zeuxis.training import start

SIDE = 32
KINDS = {"periodic": "periodic textures", "crops": "crops that do not wrap"}


def textures(count: int, periodic: bool) -> np.ndarray:
    """uint8 `[N, 32, 32, 3]`: band-passed noise, turned into bands of colour as of marble; periodic, or a quarter of a
    periodic picture of twice the side."""
    rng = np.random.default_rng(0)
    side = SIDE if periodic else 2 * SIDE
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.rfftfreq(side), indexing="ij"))
    band = np.exp(-((frequency - 0.1) ** 2) / 0.002)
    made = []
    for _ in range(count):
        field = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(side, side))) * band, (side, side))
        value = np.sin(3 * field / field.std())
        colour = np.stack([0.55 + 0.4 * value, 0.45 + 0.3 * value, 0.35 + 0.15 * value], axis=-1)
        made.append(colour[:SIDE, :SIDE])
    return (np.stack(made) * 255).round().clip(0, 255).astype(np.uint8)


def interval(ratios: np.ndarray) -> list[float]:
    """95% interval of the median."""
    drawn = np.random.default_rng(0).choice(ratios, (1000, len(ratios)))
    return [round(float(bound), 4) for bound in np.quantile(np.median(drawn, axis=1), [0.025, 0.975])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="dcgan/small")
    parser.add_argument("--kimg", type=float, default=200, help="length of each of the four trainings")
    parser.add_argument("--pictures", type=int, default=5000)
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--sheets", type=Path, help="a folder for 2x2 tiled samples")
    asked = parser.parse_args()
    for kind, periodic in ((KINDS[name], name == "periodic") for name in asked.kinds):
        pixels = textures(asked.pictures, periodic)
        own = pixels.transpose(0, 3, 1, 2)
        level = sharpness(own)
        report(f"data: {kind}", **{f"seam_{axis}": round(float(np.median(seam_ratio(own, axis))), 4) for axis in "xy"})  # type: ignore[arg-type]
        for wrap in ("xy", ""):
            with tempfile.TemporaryDirectory() as folder:
                options = DataOptions.model_validate({"wrap": wrap})
                dataset = open_dataset(pixels, options, cache_dir=Path(folder) / "cache")
                training = TrainOptions(model=asked.model, kimg=asked.kimg, snapshots=1, data=options)
                model = load_model(start(training, dataset, Path(folder) / "runs").run().folder)
            made = np.concatenate(list(Sampler(model)(range(asked.samples))))
            seams = {axis: seam_ratio(made, axis) for axis in ("x", "y")}  # type: ignore[arg-type]
            intervals = {axis: interval(ratios) for axis, ratios in seams.items()}
            report(f"{kind}, {'--wrap xy' if wrap else 'without wrap'}", model=model.name, kimg=asked.kimg,
                   samples=asked.samples, sharpness_of_data=round(sharpness(made) / level, 4),
                   **{f"seam_{axis}": round(float(np.median(ratios)), 4) for axis, ratios in seams.items()},
                   **{f"interval_{axis}": bounds for axis, bounds in intervals.items()})  # fmt: skip
            if asked.sheets:
                asked.sheets.mkdir(parents=True, exist_ok=True)
                sheet = grid(np.tile(made[:16], (1, 1, 2, 2)).transpose(0, 2, 3, 1), 8)
                save_png(sheet, asked.sheets / f"{'periodic' if periodic else 'crops'}-{wrap or 'none'}.png")


if __name__ == "__main__":
    main()
