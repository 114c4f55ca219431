"""Makes the picture of predicted frames of docs/autoregressive.md: `python docs/make_frame_pictures.py`.

Trains with the command line as a reader would (`COMMAND`), then draws clips of the test split with the predictions
below them. With `--run FOLDER` a finished run is taken instead.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from zeuxis.checkpoint import load_model
from zeuxis.config import DataOptions
from zeuxis.data import open_dataset
from zeuxis.images import save_png
from zeuxis.prediction import prediction_sheet
from zeuxis.sampling import synthetic_mark

PICTURE = Path(__file__).parent / "pictures" / "frames-predictions.png"
COMMAND = ["train", "moving-digits", "--model", "convlstm", "--kimg", "20"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, help="a finished run of the same command")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if not arguments.run:
            subprocess.run([sys.executable, "-m", "zeuxis", *COMMAND, "--out", folder], check=True)
        model = load_model(arguments.run or next(Path(folder).iterdir()))
        test = open_dataset("moving-digits", DataOptions(frames=model.spec.frames)).test
        save_png(prediction_sheet(model, test), PICTURE, synthetic_mark(model, composite=True))


if __name__ == "__main__":
    main()
