"""`zeuxis score` and `zeuxis reconstruct`, and what a score is made of."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from zeuxis.checkpoint import load_model
from zeuxis.config import DataOptions
from zeuxis.data import open_dataset
from zeuxis.errors import UserError
from zeuxis.families.vae.priors import Prior
from zeuxis.metrics.likelihood import BIN
from zeuxis.scoring import compressed_bytes, score

Command = Callable[..., tuple[int, str, str]]


def test_score_ranks_writes_and_warns(command: Command, fitted_vae: Path, tmp_path: Path) -> None:
    code, out, err = command("score", fitted_vae, "digits", "--split", "val", "--samples", "3", "--out", "s")
    assert code == 0 and not err
    assert "Nalisnick" in out and "lower bound, 3 importance" in " ".join(out.split())
    with open(tmp_path / "s" / "scores.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    document = json.loads((tmp_path / "s" / "scores.json").read_text())
    assert len(rows) == len(document["pictures"]) > 50 and document["unit"] == "continuous"
    nats = [float(row["nats"]) for row in rows]
    assert nats == sorted(nats, reverse=True) and len({row["name"] for row in rows}) == len(rows)
    first = document["pictures"][0]
    size = 12 * 8 * 3
    assert first["bits"] == pytest.approx(-(first["nats"] + size * math.log(BIN)) / (size * math.log(2)))
    assert first["unusual"] == pytest.approx(first["bits"] - first["compressed"])
    assert (tmp_path / "s" / "extremes.png").stat().st_size > 0


def test_what_cannot_be_scored_is_one_line(command: Command, gan: Path, vae: Path, tmp_path: Path) -> None:
    code, _, err = command("score", gan, "digits")
    assert code == 2 and "likelihood" in err and err.count("\n") == 1
    code, _, err = command("reconstruct", gan, "digits")
    assert code == 2 and "zeuxis project" in err
    whole = DataOptions(resolution=(8, 12), channels=3, val_fraction=0.0)
    with pytest.raises(UserError, match="--split"):
        score(load_model(vae), open_dataset("digits", whole), split="val")


def test_noise_compresses_worse_than_a_flat_picture() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    assert compressed_bytes(noise) > 0.9 * noise.size
    assert compressed_bytes(np.full_like(noise, 7)) < 40


def test_reconstructions_are_files_and_a_sheet(command: Command, vae: Path, tmp_path: Path) -> None:
    code, out, err = command("reconstruct", vae, "digits", "--num", "10", "--out", "r")
    assert code == 0 and not err and "10 pictures" in out and "dB" in out
    assert len(list((tmp_path / "r").glob("picture*.png"))) == 10 and (tmp_path / "r" / "grid.png").is_file()


def test_a_fitted_prior_is_sampled_and_can_be_left_out(
    command: Command, fitted_vae: Path, gan: Path, tmp_path: Path
) -> None:
    model = fitted_vae
    prior = load_model(model).networks["prior"]
    assert isinstance(prior, Prior) and prior.densities["mixture"].weights.sum() == pytest.approx(1)
    made = []
    for prior in ("fitted", "standard"):
        assert command("sample", model, "--prior", prior, "--out", prior, "--format", "npz", "--seeds", "0-7")[0] == 0
        with np.load(tmp_path / prior / "samples.npz", allow_pickle=False) as archive:
            made.append(archive["images"])
    assert not np.array_equal(*made)
    code, _, err = command("sample", model, "--prior", "best")
    assert code == 2 and "fitted, standard" in err
    code, _, err = command("sample", gan, "--prior", "standard")
    assert code == 2 and "no prior" in err
