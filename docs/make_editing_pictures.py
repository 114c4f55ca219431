"""Makes the pictures of docs/editing.md: `python docs/make_editing_pictures.py [--model FOLDER] [VERB ...]`.

Without `--model`, a GAN is trained on Fashion-MNIST as the page says, and taught an encoder. Own pictures are held-out
ones. What a verb writes is what the page shows, as the command line wrote it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from zeuxis.data import open_dataset
from zeuxis.images import picture_of, save_png

PICTURES = Path(__file__).parent / "pictures"
TRAIN = ["train", "fashion-mnist", "--model", "gan", "--budget", "15m"]
ENCODER = ["--data", "fashion-mnist", "--budget", "3m"]
COAT = 4  # a label
OWN = (0, 62, 93, 124, 155, 217)  # places in the test split


def zeuxis(*arguments: object, cwd: Path) -> None:
    """The command line in `cwd`."""
    subprocess.run([sys.executable, "-m", "zeuxis", *map(str, arguments)], cwd=cwd, check=True)


def own_pictures(folder: Path) -> list[Path]:
    """Held-out pictures as files, and a layout of two others."""
    split = open_dataset("fashion-mnist").test
    paths = []
    for number, picture in enumerate(split.take(np.array(OWN))):
        paths.append(folder / f"own{number}.png")
        save_png(picture_of(picture.transpose(1, 2, 0)), paths[-1])
    coats = split.take(np.flatnonzero(split.labels == COAT)[3:5])
    for part, picture in zip(("upper", "lower"), coats, strict=True):
        save_png(picture_of(picture.transpose(1, 2, 0)), folder / f"{part}.png")
    elements = [
        {"picture": "upper.png", "box": [0, 0, 28, 13]},
        {"picture": "lower.png", "box": [0, 15, 28, 13], "at": [0, 15]},
    ]
    (folder / "layout.json").write_text(json.dumps({"elements": elements}))
    return paths


def interpolate(model: Path, folder: Path, own: list[Path]) -> Path:
    zeuxis("interpolate", model, "--keys", f"0,5,{own[0].name}", "--frames", 10, "--loop", "--fps", 12, "--scale", 3,
           cwd=folder)  # fmt: skip
    return folder / "interpolation" / "interpolation.gif"


def mix(model: Path, folder: Path, own: list[Path]) -> Path:
    zeuxis("mix", model, "--coarse", "0-4", "--fine", "10-17", cwd=folder)
    return folder / "mixed" / "sheet.png"


def project(model: Path, folder: Path, own: list[Path]) -> Path:
    zeuxis("project", model, *(path.name for path in own), cwd=folder)
    return folder / "projected" / "sheet.png"


def inpaint(model: Path, folder: Path, own: list[Path]) -> Path:
    zeuxis("inpaint", model, own[2].name, "--box", "6,8,16,12", "--seeds", "0-6", cwd=folder)
    return folder / "inpainted" / "sheet.png"


def directions(model: Path, folder: Path, own: list[Path]) -> Path:
    zeuxis("directions", model, "--count", 4, "--seeds", "0,3", cwd=folder)
    return folder / "directions" / "closed-form.png"


def compose(model: Path, folder: Path, own: list[Path]) -> Path:
    zeuxis("compose", model, "layout.json", "--seeds", "0-7", cwd=folder)
    return folder / "composed" / "sheet.png"


def atlas(model: Path, folder: Path, own: list[Path]) -> Path:
    zeuxis("sample", model, "--seeds", "0-23", "--pixel-art", 4, "--enlarge", 2, "--format", "atlas", cwd=folder)
    return folder / "samples" / "atlas.png"


VERBS: dict[str, Callable[[Path, Path, list[Path]], Path]] = {
    function.__name__: function for function in (interpolate, mix, project, inpaint, directions, compose, atlas)
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verbs", nargs="*", default=list(VERBS), metavar="VERB", help=", ".join(VERBS))
    parser.add_argument("--model", type=Path, help="a trained model of Fashion-MNIST, with its encoder")
    asked = parser.parse_args()
    if unknown := set(asked.verbs) - set(VERBS):
        parser.error(f"no verb {', '.join(sorted(unknown))}: the verbs are {', '.join(VERBS)}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = asked.model
        if model is None:
            zeuxis(*TRAIN, cwd=folder)
            model = next((folder / "runs").iterdir())
            zeuxis("encoder", model, *ENCODER, cwd=folder)
        own = own_pictures(folder)
        for verb in asked.verbs:
            made = VERBS[verb](model.resolve(), folder, own)
            (PICTURES / f"editing-{verb}{made.suffix}").write_bytes(made.read_bytes())


if __name__ == "__main__":
    main()
