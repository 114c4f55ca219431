"""Makes torch_fidelity.json: what torch-fidelity's own functions say of fixed features.

In an environment with torch-fidelity 0.4 or newer: `python tests/golden/metrics/make_torch_fidelity.py`. Its package
imports torchvision, which its functions on features do not use; where there is none, an empty stand-in will do.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "metrics"))

import torch  # noqa: E402
from metric_references import features  # noqa: E402
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric  # noqa: E402
from torch_fidelity.metric_isc import isc_features_to_metric  # noqa: E402
from torch_fidelity.metric_kid import kid_features_to_metric  # noqa: E402
from torch_fidelity.metric_prc import prc_features_to_metric  # noqa: E402
from torch_fidelity.version import __version__  # noqa: E402

CASES = [
    {"count": 400, "dimension": 16, "first": {"seed": 1, "shift": 0.2}, "second": {"seed": 2, "scale": 1.2}},
    {"count": 1000, "dimension": 64, "first": {"seed": 3}, "second": {"seed": 4}},
    {"count": 300, "dimension": 8, "first": {"seed": 5, "shift": 1.0}, "second": {"seed": 6, "shift": -0.5}},
]


def main() -> None:
    cases = []
    for case in CASES:
        a, b = (
            torch.from_numpy(features(case["count"], case["dimension"], **case[side])) for side in ("first", "second")
        )
        options = {"kid_subsets": 1, "kid_subset_size": case["count"], "verbose": False}
        found = {
            "frechet": fid_statistics_to_metric(*map(fid_features_to_statistics, (a, b)), False),
            "kernel": kid_features_to_metric(a, b, **options),
            "inception_score": isc_features_to_metric(a, splits=1),
        }
        names = {"frechet": "frechet_inception_distance", "kernel": "kernel_inception_distance_mean",
                 "inception_score": "inception_score_mean"}  # fmt: skip
        values = {key: value[names[key]] for key, value in found.items()}
        for k in (3, 5):
            shares = prc_features_to_metric(a, b, prc_neighborhood=k, verbose=False)
            values[f"precision_recall_k{k}"] = [shares["precision"], shares["recall"]]
        cases.append({**case, **values})
    document = {"torch_fidelity": __version__, "torch": torch.__version__, "cases": cases}
    (HERE / "torch_fidelity.json").write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
