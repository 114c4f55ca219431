"""`zeuxis compare fashion-mnist --models gan,vae --budget 5m` from its start to its page, in minutes.

The cache is empty, as for a newcomer: reading the data and training the extractor count too (`--warm` takes the usual
cache). Wanted on two cores: 15 minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from timing import report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--models", default="gan,vae")
    parser.add_argument("--budget", default="5m")
    parser.add_argument("--warm", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        command = [sys.executable, "-m", "zeuxis", "compare", asked.data, "--models", asked.models]
        command += ["--budget", asked.budget, "--out", str(folder / "runs"), "--html", str(folder / "report.html")]
        command += ["--json", str(folder / "report.json")]
        environment = os.environ | ({} if asked.warm else {"ZEUXIS_CACHE": str(folder / "cache")})
        started = time.perf_counter()
        subprocess.run(command, check=True, env=environment)
        minutes = (time.perf_counter() - started) / 60
        page, found = folder / "report.html", json.loads((folder / "report.json").read_text(encoding="utf-8"))
        distances = {
            f"{entry['name']} {row['metric']}": round(row["value"], 3)
            for entry in found["entries"]
            for row in entry["rows"]
            if row["metric"].startswith("fd1") and row["reference"] == "test"
        }
        report(
            f"zeuxis compare {asked.data} --models {asked.models} --budget {asked.budget}", minutes=round(minutes, 1),
            at_most_minutes=15, cache="usual" if asked.warm else "empty", page_kb=round(page.stat().st_size / 1000),
            **distances,
        )  # fmt: skip


if __name__ == "__main__":
    main()
