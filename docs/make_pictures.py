"""Makes the pictures of README and docs: `python docs/make_pictures.py [demo|vae ...]`.

Each part trains with the command line as a reader would (`COMMANDS`), then draws from what it made. With `--run FOLDER`
a finished run of the one named part is taken instead of training it again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from zeuxis.checkpoint import Model, load_model
from zeuxis.data import open_dataset
from zeuxis.editing.paths import interpolate
from zeuxis.editing.spaces import space_of
from zeuxis.families.base import RenderOptions
from zeuxis.images import Pixels, grid, save_png, sheet_scale, to_float, to_pixels
from zeuxis.sampling import Sampler, synthetic_mark

PICTURES = Path(__file__).parent / "pictures"
COMMANDS = {
    "demo": ["demo"],
    "vae": ["train", "digits", "--model", "vae", "--conditional", "--kimg", "60"],
    "tokens": ["train", "digits", "--model", "tokens", "--conditional", "--kimg", "24"],
    "pixelcnn": ["train", "digits", "--model", "pixelcnn/tiny", "--kimg", "20"],
    # Long ones, only where they are named: made with OMP_NUM_THREADS=1.
    "fashion-gan": ["train", "fashion-mnist", "--budget", "30m"],
    "fashion-vae": ["train", "fashion-mnist", "--model", "vae", "--budget", "8m"],
    "fashion-tokens": ["train", "fashion-mnist", "--model", "tokens", "--budget", "30m"],
}
USUAL = ("demo", "vae", "tokens", "pixelcnn")
# All networks of a family after as long on Fashion-MNIST, two rows of samples each: parts `gan-networks`, ...
MINUTES, COLUMNS = 4, 20
NETWORKS = {
    "gan-networks": {
        "gan/mlp": [],
        "gan/dcgan": [],
        "gan/resnet": [],
        "gan/r3gan": ["--set", "network.width=32", "--set", "network.max_width=64", "--batch", "32"],  # made for a GPU
        "gan/stylegan2": [],
    },
    "vae-networks": {"vae/mlp": [], "vae/dlgm": [], "vae/conv": [], "vae/ladder": [], "vae/vq": [], "vae/fsq": []},
}


def train(command: list[str], out: Path) -> Path:
    """Runs a command and returns its run folder."""
    subprocess.run([sys.executable, "-m", "zeuxis", *command, "--out", str(out)], check=True)
    return next(out.iterdir())


def networks(part: str) -> None:
    """Trains every network of a family and writes two rows of samples of each, one network below the other."""
    rows = []
    for name, extra in NETWORKS[part].items():
        with tempfile.TemporaryDirectory() as folder:
            command = ["train", "fashion-mnist", "--model", name, "--budget", f"{MINUTES}m", *extra]
            model = load_model(train(command, Path(folder)))
            rows += list(Sampler(model)(range(2 * COLUMNS)))
    save(np.concatenate(rows), COLUMNS, f"{part}.png", model)


def copy_sheet(source: Path, name: str) -> None:
    """The sheet as the program wrote it, mark and all."""
    (PICTURES / name).write_bytes(source.read_bytes())


def strip(model: Model, options: list[RenderOptions], name: str) -> None:
    """One row per setting, one column per class, the same seeds in every row."""
    sampler = Sampler(model)
    rows = [
        np.concatenate([sampler.pictures([label], label, setting) for label in range(len(model.classes))])
        for setting in options
    ]
    save(np.concatenate(rows), len(model.classes), name, model)


def reconstructions(model: Model, name: str) -> None:
    """Held-out pictures, one of each class, and below each what the model makes of it."""
    held_out = open_dataset("digits").test
    positions = np.array([np.flatnonzero(held_out.labels == label)[0] for label in range(len(model.classes))])
    pixels = held_out.take(positions)
    labels = torch.from_numpy(held_out.labels[positions])
    with torch.inference_mode():
        images = model.family.reconstruct(model.networks, to_float(torch.from_numpy(pixels)), labels)
    save(np.concatenate([pixels, to_pixels(images).numpy()]), len(model.classes), name, model)


def walk(model: Model, name: str) -> None:
    """From one seed to another through the latents, a row for each of five classes."""
    space, frames = space_of(model), 11
    rows = [interpolate(space, space.of_seeds([label, label + 50], label), frames) for label in range(0, 10, 2)]
    save(np.concatenate(rows), frames + 1, name, model)


def completions(model: Model, name: str) -> None:
    """Held-out pictures, one of each class, their upper halves, and what is drawn below them by each of four seeds."""
    dataset = open_dataset("digits")
    held_out, classes = dataset.test, len(dataset.classes)
    positions = np.array([np.flatnonzero(held_out.labels == label)[0] for label in range(classes)])
    pixels = held_out.take(positions)
    labels = torch.from_numpy(held_out.labels[positions]) if model.classes else None
    known = torch.zeros(len(pixels), 1, *pixels.shape[2:], dtype=torch.bool)
    known[:, :, : pixels.shape[2] // 2] = True
    images, rows = to_float(torch.from_numpy(pixels)), [pixels, np.where(known.numpy(), pixels, 96).astype(np.uint8)]
    for row in range(4):
        noise = Sampler(model).noise(list(range(row * len(pixels), (row + 1) * len(pixels))))
        with torch.inference_mode():
            whole = model.family.complete(model.networks, images, known, labels, noise, RenderOptions())
        rows.append(to_pixels(whole).numpy())
    save(np.concatenate(rows), len(pixels), name, model)


def save(pixels: Pixels, columns: int, name: str, model: Model) -> None:
    """uint8 `[N, C, H, W]` as a sheet with the mark that it is synthetic."""
    save_png(
        grid(pixels.transpose(0, 2, 3, 1), columns, scale=sheet_scale(*pixels.shape[2:])),
        PICTURES / name,
        synthetic_mark(model),
    )


def draw(part: str, run: Path) -> None:
    """Writes the pictures of a part from its run."""
    model = load_model(run)
    settings = (0.3, 0.7, 1.0, 1.5)
    copy_sheet(run / "model" / "samples.png", f"{part}-samples.png")
    if part == "demo":
        copy_sheet(run / "reals.png", "demo-reals.png")
        strip(model, [RenderOptions(truncation=value) for value in settings], "gan-truncation.png")
    elif part in ("tokens", "pixelcnn"):
        completions(model, f"{part}-completions.png")
    elif part == "vae":
        strip(model, [RenderOptions(temperature=value) for value in settings], "vae-temperature.png")
        reconstructions(model, "vae-reconstructions.png")
        walk(model, "vae-walk.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=USUAL, help=", ".join((*COMMANDS, *NETWORKS)))
    parser.add_argument("--run", type=Path, help="a finished run of the one part that is named")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - {*COMMANDS, *NETWORKS}:
        parser.error(f"no part {', '.join(sorted(unknown))}: the parts are {', '.join((*COMMANDS, *NETWORKS))}")
    if arguments.run and len(arguments.parts) != 1:
        parser.error("--run needs exactly one part")
    PICTURES.mkdir(exist_ok=True)
    for part in arguments.parts:
        if part in NETWORKS:
            networks(part)
            continue
        with tempfile.TemporaryDirectory() as folder:
            draw(part, arguments.run or train(COMMANDS[part], Path(folder)))


if __name__ == "__main__":
    main()
