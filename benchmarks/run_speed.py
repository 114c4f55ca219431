"""`make bench`: every bench_*.py in a short form, its results kept, then the tables and the plot of docs/benchmarks.md.

Each script runs Zeuxis and its peer in turns. The whole takes under 20 minutes on two cores: a script that is not done
within its share is stopped and its older results stay. A script whose peer is not installed says so and is passed over.
Longer runs of one script are more exact: `ZEUXIS_KEEP_RESULTS=1 python benchmarks/bench_dcgan_step.py --turns 21`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from html import escape
from pathlib import Path

import timing

HERE = Path(__file__).parent
PLOT = HERE.parent / "docs" / "pictures" / "benchmarks.svg"
MINUTES = 19.0
SHORT = {"bench_memory": ["--pictures", "60000"]}  # what takes long by itself, shortened
LAST = ("bench_memory", "bench_demo")  # the longest, when the others are done
BAR, ROW, LEFT = 160, 26, 560  # pixels: of a ratio of 1; of a line; of the names
MOST, LETTERS = 3.0, 92  # the longest bar, and name: the number tells the rest


def run(minutes: float, only: list[str]) -> list[str]:
    """Runs the scripts; returns what went wrong."""
    end, wrong = time.monotonic() + 60 * minutes, []
    scripts = [path for path in sorted(HERE.glob("bench_*.py")) if not only or path.stem in only]
    scripts.sort(key=lambda path: LAST.index(path.stem) if path.stem in LAST else -1)
    for done, script in enumerate(scripts):
        left = end - time.monotonic()
        share = max(30.0, left / (len(scripts) - done) * 2)
        if left < 30:
            wrong.append(f"{script.stem}: no time was left")
            continue
        print(f"== {script.stem}", flush=True)
        command = [sys.executable, str(script), *SHORT.get(script.stem, [])]
        try:
            code = subprocess.run(
                command, env={**os.environ, "ZEUXIS_KEEP_RESULTS": "1"}, timeout=min(share, left)
            ).returncode
        except subprocess.TimeoutExpired:
            wrong.append(f"{script.stem}: stopped after {min(share, left):.0f} s")
            continue
        if code:
            wrong.append(f"{script.stem}: ended with {code}")
    return wrong


def plot() -> None:
    """Bars of every kept ratio to a peer, from the least to the greatest turn; 1 is the peer. Ratios beyond `MOST` end
    there."""
    bars = []
    for path in sorted(timing.RESULTS.glob("bench_*.json")):
        document = json.loads(path.read_text(encoding="utf-8"))
        bars += [
            (f"{line['benchmark']} ({document['machine']['instructions']})", line["ratio"], line["ratio_range"])
            for line in document["lines"]
            if "ratio" in line and "ratio_range" in line
        ]
    height = ROW * (len(bars) + 1) + 10
    width = LEFT + round(BAR * MOST) + 70
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
             f'font-size="12"><rect width="{width}" height="{height}" fill="#fff"/>']  # fmt: skip
    for place, (name, ratio, (least, greatest)) in enumerate(bars):
        y = ROW * place + 8
        what, instructions = name.rsplit(" (", 1)
        short = name if len(name) <= LETTERS else f"{what[: LETTERS - len(instructions) - 5]}... ({instructions}"
        drawn, least, greatest = (min(value, MOST) for value in (ratio, least, greatest))
        parts.append(f'<text x="{LEFT - 8}" y="{y + 13}" text-anchor="end" fill="#222">{escape(short)}</text>')
        parts.append(f'<rect x="{LEFT}" y="{y}" width="{BAR * drawn:.1f}" height="16" fill="#4a7fb5"/>')
        parts.append(f'<path d="M{LEFT + BAR * least:.1f} {y + 8}H{LEFT + BAR * greatest:.1f}" stroke="#222"/>')
        parts.append(
            f'<text x="{LEFT + BAR * max(drawn, greatest) + 6:.1f}" y="{y + 13}" fill="#222">{ratio:.2f}</text>'
        )
    parts.append(f'<path d="M{LEFT + BAR} 2V{height - 22}" stroke="#b33" stroke-dasharray="4 3"/>')
    parts.append(f'<text x="{LEFT + BAR}" y="{height - 6}" text-anchor="middle" fill="#b33">the peer</text></svg>')
    PLOT.write_text("\n".join(parts) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scripts", nargs="*", help="names such as bench_start; all of them when empty")
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--plot", action="store_true", help="only draw what is kept")
    asked = parser.parse_args()
    wrong = [] if asked.plot else run(asked.minutes, asked.scripts)
    subprocess.run([sys.executable, str(HERE / "write_tables.py")], check=True)
    plot()
    print(f"docs/benchmarks.md and {PLOT.name} are up to date")
    for line in wrong:
        print(line, file=sys.stderr)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
