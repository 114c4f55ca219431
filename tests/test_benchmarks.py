"""The tables of docs/benchmarks.md are what the kept results say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
WRITER = ROOT / "benchmarks" / "write_tables.py"


def test_tables_are_made_from_the_kept_results() -> None:
    done = subprocess.run([sys.executable, str(WRITER), "--check"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_every_benchmark_has_its_place_on_the_page() -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    for script in sorted((ROOT / "benchmarks").glob("bench_*.py")):
        assert f"<!-- table {script.stem} -->" in page, f"docs/benchmarks.md has no table of {script.name}"


def test_results_name_the_machine_but_not_its_name() -> None:
    for path in sorted((ROOT / "benchmarks" / "results").glob("bench_*.json")):
        document = json.loads(path.read_text(encoding="utf-8"))
        assert {"cpu", "cores", "amx", "torch", "date"} <= set(document["machine"]), path.name
        assert document["lines"], path.name
        assert not {"host", "hostname", "node"} & set(document["machine"]), path.name


def test_results_of_another_run_stay_where_they_are_added_to(tmp_path: Path) -> None:
    (tmp_path / "bench_none.py").write_text(
        "import sys; from pathlib import Path; import timing\n"
        "timing.RESULTS = Path(sys.argv[1])\n"
        "for name in sys.argv[3:]: timing.report(name, value=int(sys.argv[2]))\n"
    )

    def kept(mode: str, value: str, *names: str) -> dict[str, int]:
        command = [sys.executable, str(tmp_path / "bench_none.py"), str(tmp_path), value, *names]
        environment = os.environ | {"ZEUXIS_KEEP_RESULTS": mode, "PYTHONPATH": str(ROOT / "benchmarks")}
        subprocess.run(command, check=True, env=environment, capture_output=True)
        (found,) = tmp_path.glob("bench_none.*.json")
        return {line["benchmark"]: line["value"] for line in json.loads(found.read_text())["lines"]}

    assert kept("1", "1", "a", "b") == {"a": 1, "b": 1}
    assert kept("add", "2", "b", "c") == {"a": 1, "b": 2, "c": 2}
    assert kept("1", "3", "d") == {"d": 3}
