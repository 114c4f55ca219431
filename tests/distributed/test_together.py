"""Several processes train, sample and stop as one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from processes import last, together, train, training
from safetensors.torch import load_file

from zeuxis.sampling import Sampler

# Sums are made in another order, and 200 steps carry the difference on.
TOLERANCE = 2e-3
# Not losses: the clock, and a count that depends on which pictures are looked at at once.
OTHER = {"seconds", "waiting for data", "autoencoder/active units"}


def compare(one: Path, several: Path) -> None:
    """The same losses in every row, and the same weights, averages and moments at the end, within the tolerance."""
    (own, rows), (other, others) = last(one), last(several)
    assert len(rows) == len(others) >= 50
    for row, another in zip(rows, others, strict=True):
        assert row.keys() == another.keys()
        for key in row.keys() - OTHER:
            assert another[key] == pytest.approx(row[key], rel=TOLERANCE, abs=TOLERANCE), (key, row["images_seen"])
    assert own.keys() == other.keys()
    for key, value in own.items():
        torch.testing.assert_close(other[key], value, rtol=TOLERANCE, atol=TOLERANCE, msg=lambda m, k=key: f"{k}: {m}")


def test_two_processes_train_as_one_does(tmp_path: Path) -> None:
    together("words+sums+trainings+drawings", tmp_path, 2)
    assert [json.loads((tmp_path / f"done{rank}.json").read_text()) for rank in (0, 1)] == [1, 1]
    for name in ("mlp", "batchnorm", "minibatch", "vae"):
        train(name, tmp_path / "one")
        compare(tmp_path / "one" / name, tmp_path / "together" / name)
    # What two processes began, one goes on with.
    resumed = train("mlp", tmp_path / "left")
    assert resumed.folder.path.parent == tmp_path / "left" / "mlp"
    compare(tmp_path / "one" / "mlp", tmp_path / "left" / "mlp")
    assert "resumed at 900 images" in (resumed.folder.path / "log.txt").read_text()
    # Pictures are the same to the bit, in both.
    sampler = Sampler(training("mlp", tmp_path / "again").model)
    sampler.chunk = 8
    expected = np.concatenate(list(sampler(range(43))))
    for rank in (0, 1):
        found = load_file(tmp_path / f"pictures{rank}.safetensors")["pictures"].numpy()
        assert (found == expected).all()


def test_four_processes_with_unequal_parts_of_a_batch(tmp_path: Path) -> None:
    together("sums+four", tmp_path, 4)
    train("unequal", tmp_path / "one")
    compare(tmp_path / "one" / "unequal", tmp_path / "together" / "unequal")
    # What was not finite in one process is skipped by all.
    _, rows = last(tmp_path / "broken" / "minibatch")
    assert rows[-1]["skipped steps"] == 2, "both phases of one step"


def test_a_process_that_ended_is_noticed_by_those_who_wait_for_it(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):  # one of them was killed
        together("ends", tmp_path, 3)
    for rank in (0, 2):
        assert "another process of this training was lost" in (tmp_path / f"lost{rank}.txt").read_text()
