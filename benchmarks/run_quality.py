"""`make bench-quality`: every script of this folder that trains over seeds, one after another, for as many hours as it
takes.

Each JSON line that a script reports (one per seed, and sums of them) is appended to `results/quality.jsonl` as soon as
it is there, with the script and the machine; every later quality table is made from that file. A script that came to
its end is not run again with the same arguments and the same text; a stopped one begins anew, and its earlier lines
stay. `--list` shows what would be run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import timing

HERE = Path(__file__).parent
RECORDS = timing.RESULTS / "quality.jsonl"


def scripts() -> list[Path]:
    """The scripts that take `--seeds` and are no speed benchmarks."""
    found = [path for path in sorted(HERE.glob("*.py")) if not path.stem.startswith(("bench_", "run_"))]
    return [path for path in found if '"--seeds"' in path.read_text(encoding="utf-8")]


def key_of(script: Path, arguments: list[str]) -> str:
    """What a finished script is known by: its name, its text, its arguments."""
    return hashlib.sha256(json.dumps([script.stem, script.read_text(), arguments]).encode()).hexdigest()[:16]


def done() -> set[str]:
    """Keys of the scripts that came to their end."""
    if not RECORDS.exists():
        return set()
    lines = RECORDS.read_text(encoding="utf-8").splitlines()
    return {record["finished"] for record in map(json.loads, lines) if "finished" in record}


def append(record: dict[str, object]) -> None:
    RECORDS.parent.mkdir(exist_ok=True)
    with open(RECORDS, "a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def run(script: Path, arguments: list[str]) -> int:
    """Runs one script and keeps its lines as they come."""
    machine = timing.machine()
    command = [sys.executable, "-u", str(script), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                continue
            if isinstance(record, dict) and "benchmark" in record:
                append({"script": script.stem, "arguments": arguments, "machine": machine, **record})
    return process.returncode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scripts", nargs="*", help="names without .py; all of them when empty")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--again", action="store_true", help="also what came to its end before")
    parser.add_argument("--list", action="store_true")
    asked = parser.parse_args()
    arguments, finished, failed = ["--seeds", str(asked.seeds)], done(), []
    for script in scripts():
        if asked.scripts and script.stem not in asked.scripts:
            continue
        key = key_of(script, arguments)
        if asked.list or (key in finished and not asked.again):
            print(f"{script.stem}: {'done' if key in finished else 'to do'}")
            continue
        print(f"== {script.stem}", flush=True)
        if run(script, arguments):
            failed.append(script.stem)
        else:
            append({"script": script.stem, "finished": key})
    if failed:
        sys.exit(f"these ended with an error: {', '.join(failed)}")


if __name__ == "__main__":
    main()
