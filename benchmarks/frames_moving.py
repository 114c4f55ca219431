"""Moving Fashion-MNIST, 10 frames given and 10 predicted: `convlstm` and `predrnn` for as many minutes each, beside
copying the last frame.

Zeuxis is run as a user runs it: `zeuxis train moving-fashion-mnist --model convlstm --budget 60m`, then judged on test
clips by `evaluate_clips`: errors summed over a frame's 64x64 values, averaged over clips and frames. One JSON line per
network and seed; `--sheet` draws predictions beside the truth.

The published numbers beside (Tan et al. 2023, arXiv 2306.11249, Moving Fashion-MNIST, 200 epochs of 10,000 clips on a
GPU): ConvLSTM-S 28.87 / 0.8793, PredRNN 22.01 / 0.9091 (MSE / SSIM). `epochs_share` is the share of their 2,000,000
clips that ours saw.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from timing import report
from zeuxis.checkpoint import load_model
from zeuxis.config import DataOptions
from zeuxis.data import open_dataset
from zeuxis.evaluation_frames import evaluate_clips
from zeuxis.images import save_png
from zeuxis.prediction import prediction_sheet

PUBLISHED_CLIPS = 200 * 10_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="for each network and seed")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--networks", default="convlstm,predrnn")
    parser.add_argument("--data", default="moving-fashion-mnist:10000:1000")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--sheet", type=Path, help="folder for a sheet of predictions of each")
    parser.add_argument("--extra", nargs=argparse.REMAINDER, default=[], help="more options for `zeuxis train`")
    asked = parser.parse_args()
    dataset = open_dataset(asked.data, DataOptions(frames=20))
    for network in asked.networks.split(","):
        for seed in range(asked.seeds):
            with tempfile.TemporaryDirectory() as temporary:
                command = [sys.executable, "-m", "zeuxis", "train", asked.data, "--frames", "20", "--model", network]
                command += ["--budget", f"{asked.minutes * 60}s", "--seed", str(seed), "--device", asked.device]
                subprocess.run([*command, "--out", temporary, *asked.extra], check=True)
                run = max(Path(temporary).iterdir())
                finished = json.loads((run / "finished.json").read_text())
                model = load_model(run)
                rows = evaluate_clips(model, dataset)
                if asked.sheet:
                    asked.sheet.mkdir(parents=True, exist_ok=True)
                    save_png(prediction_sheet(model, dataset.test), asked.sheet / f"{network}-{seed}.png")
            record: dict[str, object] = {"seed": seed, "minutes": asked.minutes}
            record |= {"clips_seen": finished["images_seen"], "clips_test": rows[0].num}
            record["epochs_share"] = round(finished["images_seen"] / PUBLISHED_CLIPS, 5)
            for row in rows:
                record[row.metric] = round(row.value, 4)
                record[f"{row.metric}_interval"] = [round(end, 4) for end in row.interval or ()]
                record[f"{row.metric}_copied"] = float(row.note.rsplit(" ", 1)[1])
            record["ratio_to_copying"] = round(float(record["mse"]) / float(record["mse_copied"]), 4)  # type: ignore[arg-type]
            parameters = sum(p.numel() for net in model.networks.values() for p in net.parameters())
            report(f"{asked.data}, {network}", **record, parameters=parameters)


if __name__ == "__main__":
    main()
