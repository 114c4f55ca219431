"""A bouncing picture with random turns: is the best of ten futures of `svg` nearer to the truth than their mean?

One handwritten digit goes over a canvas of 32x32 and is thrown back by an edge in a random direction, so that after a
few given frames the future is open. Beside it `convlstm`, which knows one future, on the same clips for as long. One
JSON line per network: errors summed over a frame, of the likeliest future (`mse`), of the mean of ten (`mse_mean`), of
the best of ten by clip (`mse_best`), and the squared difference of two futures of a clip (`future_diversity`).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from timing import report
from zeuxis.checkpoint import load_model
from zeuxis.config import DataOptions
from zeuxis.data import open_dataset
from zeuxis.data.builtin import load_digits
from zeuxis.data.moving import moving_clips
from zeuxis.evaluation_frames import evaluate_clips
from zeuxis.film import strips
from zeuxis.images import save_png
from zeuxis.prediction import Predictor
from zeuxis.sampling import synthetic_mark

FRAMES, CANVAS, SIDE = 16, 32, 16
SHOWN = 4


def turning_clips(count: int, seed: int) -> np.ndarray:
    """uint8 `[count, FRAMES, CANVAS, CANVAS]`."""
    digits = [
        np.asarray(Image.fromarray(each).resize((SIDE, SIDE), Image.Resampling.BILINEAR)) for each in load_digits()[0]
    ]
    return moving_clips(np.stack(digits), count, frames=FRAMES, canvas=CANVAS, seed=seed, objects=1, turns=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0, help="for each network and seed")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--clips", type=int, default=10_000)
    parser.add_argument("--networks", default="svg,convlstm")
    parser.add_argument("--sheet", type=Path, help="PNG with the truth and futures of a few clips")
    parser.add_argument("--extra", nargs=argparse.REMAINDER, default=[], help="more options for `zeuxis train`")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        data = Path(temporary) / "turning.npz"
        np.savez(data, images=turning_clips(asked.clips, 0))
        dataset = open_dataset(data, DataOptions(frames=FRAMES))
        for network in asked.networks.split(","):
            for seed in range(asked.seeds):
                out = Path(temporary) / f"{network}-{seed}"
                command = [sys.executable, "-m", "zeuxis", "train", str(data), "--frames", str(FRAMES)]
                command += ["--model", network, "--budget", f"{asked.minutes * 60}s", "--seed", str(seed)]
                subprocess.run([*command, "--out", str(out), *asked.extra], check=True)
                run = max(out.iterdir())
                model = load_model(run)
                rows = evaluate_clips(model, dataset)
                record: dict[str, object] = {"seed": seed, "minutes": asked.minutes}
                record["clips_seen"] = json.loads((run / "finished.json").read_text())["images_seen"]
                record |= {row.metric: round(row.value, 4) for row in rows}
                record |= {f"{row.metric}_interval": [round(end, 4) for end in row.interval or ()] for row in rows}
                record["copied"] = float(rows[0].note.rsplit(" ", 1)[1])
                report(f"a bouncing digit with random turns, {network}", **record)
                if asked.sheet and network == "svg":
                    clips, context = dataset.test.take(range(SHOWN)), model.family.context
                    futures = [
                        Predictor(model)(clips[:, :context], FRAMES - context, [each] * SHOWN) for each in range(3)
                    ]
                    whole = [np.concatenate([clips[:, :context], future], axis=1) for future in futures]
                    stacked = np.stack([clips, *whole], axis=1)  # [clips, truth and futures, T, C, H, W]
                    mark = synthetic_mark(model, composite=True)
                    save_png(strips(stacked.reshape(-1, *clips.shape[1:])), asked.sheet, mark)


if __name__ == "__main__":
    main()
