"""Makes the tables of docs/benchmarks.md from `results/*.json`, so that no figure there is typed by hand.

    ZEUXIS_KEEP_RESULTS=1 python benchmarks/bench_start.py && python benchmarks/write_tables.py

A table stands between `<!-- table SCRIPT -->` and `<!-- end -->`: for each machine that the script was run on, one
line about the machine and one row per line of output. `--check` changes nothing and fails where the page is not up to
date.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from timing import RESULTS

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
MOST_COLUMNS = 14
BLOCK = re.compile(r"(<!-- table (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def cell(value: Any) -> str:
    """A value as the page shows it: lists and names with their values with commas, thousands set apart."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: ""}[value]
    if isinstance(value, list):
        return ", ".join(cell(each) for each in value)
    if isinstance(value, dict):
        return ", ".join(f"{name} {cell(each)}" for name, each in value.items())
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value).replace("|", "\\|")


def entry(key: str, value: Any) -> str:
    """`cell`, with the two ends of a range joined by a word."""
    return " to ".join(map(cell, value)) if key.endswith(("_range", "_interval")) else cell(value)


def table(lines: list[dict[str, Any]]) -> str:
    """Rows per line of output, columns in the order in which their names first occur; stood on its side where it would
    be too wide to read."""
    keys = list(dict.fromkeys(key for line in lines for key in line))
    head = ["what" if key == "benchmark" else key.replace("_", " ") for key in keys]
    rows = [[entry(key, line[key]) if key in line else "" for key in keys] for line in lines]
    if len(keys) > MOST_COLUMNS:
        head, *rows = [list(column) for column in zip(head, *rows, strict=True)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


def about(machine: dict[str, Any]) -> str:
    """One line about where and when."""
    card = f"{machine['gpu']} in " if machine.get("gpu") else ""
    amx = "with AMX" if machine["amx"] else "without AMX"
    load = "" if machine["load_before"] is None else f"; load of other processes at the start {machine['load_before']}"
    return (f"{card}{machine['cpu']}, {machine['cores']} cores, {machine['instructions']} ({amx}), "
            f"{machine['system']}, torch {machine['torch']}, {machine['date']}{load}:")  # fmt: skip


def block(script: str) -> str:
    """Everything between the two marks of a script."""
    documents = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob(f"{script}.*.json"))]
    if not documents:
        return f"No results are kept yet; `python benchmarks/{script}.py` makes them.\n"
    return "\n".join(f"{about(each['machine'])}\n\n{table(each['lines'])}\n" for each in documents)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    before = PAGE.read_text(encoding="utf-8")
    after = BLOCK.sub(lambda found: found[1] + block(found[2]) + found[3], before)
    if parser.parse_args().check:
        sys.exit(0 if after == before else f"{PAGE.name} is not up to date: run python benchmarks/write_tables.py")
    PAGE.write_text(after, encoding="utf-8")


if __name__ == "__main__":
    main()
