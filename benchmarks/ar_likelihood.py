"""Likelihood of held-out pictures by networks over pixels, exact, in two tables.

"bits": 8-bit pictures, bits per dimension: `pixelcnn` against the VAE family's best bound (16 importance samples), both
trained for as long on the same pictures and asked about the same test pictures.

"nats": black and white (cut at half brightness), nats per picture: Row LSTM, Diagonal BiLSTM, gated PixelCNN and
WaveNet, each trained for as long, with the number of parameters and of pictures seen.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from timing import report
from zeuxis.checkpoint import load_model
from zeuxis.data import Dataset, open_dataset
from zeuxis.metrics.model import likelihood_estimates

BINARY = ["--set", "objective.likelihood=categorical", "--set", "objective.levels=2"]
NETWORKS = {"Row LSTM": "pixelrnn/row", "Diagonal BiLSTM": "pixelrnn/diagonal", "gated PixelCNN": "pixelcnn/binary",
            "WaveNet": "wavenet/small"}  # fmt: skip


def train(model: str, data: str, seed: int, asked: argparse.Namespace, extra: list[str], out: Path) -> Path:
    """The run folder of a finished training."""
    length = ["--kimg", str(asked.kimg)] if asked.kimg else ["--budget", f"{asked.minutes * 60}s"]
    command = [sys.executable, "-m", "zeuxis", "train", data, "--model", model, *length, "--seed", str(seed)]
    subprocess.run([*command, "--out", str(out), *extra, *asked.extra], check=True, stdout=subprocess.DEVNULL)
    return max(out.iterdir())


@torch.inference_mode()
def judged(run: Path, dataset: Dataset, num: int) -> dict[str, object]:
    """`nll` in nats and `bpd` where there is one, each with its error and what it is; size and length of training."""
    model = load_model(run)
    finished = json.loads((run / "finished.json").read_text())
    rows = likelihood_estimates(model, dataset, min(num, len(dataset.test)), "cpu")
    values = {name: round(row.value, 4) for name, row in rows.items()}
    return {
        **values, **{f"{name}_error": round(row.error or 0.0, 4) for name, row in rows.items()},
        "note": rows["nll"].note, "images_seen": finished["images_seen"], "seconds": round(finished["seconds"], 1),
        "parameters": sum(p.numel() for network in model.networks.values() for p in network.parameters()),
    }  # fmt: skip


def bits(asked: argparse.Namespace, data: str, seed: int) -> None:
    dataset = open_dataset(data)
    found = {}
    for name in filter(None, (asked.pixels, asked.vae)):
        with tempfile.TemporaryDirectory() as temporary:
            found[name] = judged(train(name, data, seed, asked, [], Path(temporary)), dataset, asked.num)
        report(f"8-bit {data}, bits per dimension, {name}", seed=seed, minutes=asked.minutes, **found[name])
    ours, peer = (found.get(name, {}).get("bpd") for name in (asked.pixels, asked.vae))
    if isinstance(ours, float) and isinstance(peer, float):
        report(f"8-bit {data}, {asked.pixels} against {asked.vae}", seed=seed, minutes=asked.minutes,
               bpd_ours=ours, bpd_peer=peer, ratio=round(ours / peer, 4))  # fmt: skip


def nats(asked: argparse.Namespace, data: str, seed: int) -> None:
    dataset = open_dataset(data)
    for title, name in NETWORKS.items():
        with tempfile.TemporaryDirectory() as temporary:
            found = judged(train(name, data, seed, asked, BINARY, Path(temporary)), dataset, asked.num)
        found.pop("bpd"), found.pop("bpd_error")
        report(f"binarised {data}, nats, {title}", seed=seed, model=name, minutes=asked.minutes, **found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", choices=["bits", "nats"], help="one of the two")
    parser.add_argument("--minutes", type=float, default=60.0, help="of each training of `bits`; a third for `nats`")
    parser.add_argument("--kimg", type=float, help="instead of minutes")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--num", type=int, default=10_000, help="test pictures asked about")
    parser.add_argument("--pixels", default="pixelcnn/small")
    parser.add_argument("--vae", default="vae/ladder", help="compared with; '' for either leaves it out")
    parser.add_argument("--data", nargs="+", default=["digits", "fashion-mnist"], help="of `nats`")
    parser.add_argument("--extra", nargs=argparse.REMAINDER, default=[], help="more options for `zeuxis train`")
    asked = parser.parse_args()
    for seed in range(asked.seeds):
        if asked.table in (None, "bits"):
            bits(asked, "fashion-mnist", seed)
        if asked.table in (None, "nats"):
            shorter = argparse.Namespace(**{**vars(asked), "minutes": asked.minutes / 3})
            for data in asked.data:
                nats(shorter, data, seed)


if __name__ == "__main__":
    main()
