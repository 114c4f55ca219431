"""What a run folder tells about its training: curves, cost, and the commands that repeat it.

Run folders may come from strangers: whatever is not a finite number where one belongs is passed over.
"""

from __future__ import annotations

import json
import math
import os
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from zeuxis.compare.entries import Cost, Curve
from zeuxis.config import DataOptions, TrainOptions, dotted_keys
from zeuxis.data.builtin import BUILTIN
from zeuxis.files import read_json_lines, write_json

LOSS = "/loss"  # terms of this ending are what phases minimise
MOST_TERMS = 4
USAGE = "usage.json"


def number(value: Any) -> float | None:
    """`value` where it is a finite number."""
    fits = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if fits else None


def metric_curves(run: Path) -> list[Curve]:
    """The in-training scores of `metrics.jsonl`, one curve per metric."""
    rows = [row for row in read_json_lines(run / "metrics.jsonl") if isinstance(row, dict)]
    names = dict.fromkeys(str(row.get("metric")) for row in rows)
    return [_curve(name, [row for row in rows if str(row.get("metric")) == name], "value") for name in names]


def loss_curves(run: Path) -> list[Curve]:
    """The losses of `stats.jsonl`, one curve per phase; the first few terms where nothing is called a loss."""
    rows = [row for row in read_json_lines(run / "stats.jsonl") if isinstance(row, dict)]
    terms = dict.fromkeys(str(key) for row in rows for key in row if "/" in str(key))
    chosen = [term for term in terms if term.endswith(LOSS)] or list(terms)[:MOST_TERMS]
    return [curve for term in chosen if (curve := _curve(term, rows, term)).values]


def _curve(name: str, rows: Iterable[Mapping[str, Any]], key: str) -> Curve:
    points = [[number(row.get(column)) for column in ("images_seen", "seconds", key)] for row in rows]
    whole = [point for point in points if None not in point]
    images, seconds, values = zip(*whole, strict=True) if whole else ((), (), ())
    return Curve(name, images, seconds, values)


def training_cost(run: Path, resolved: Mapping[str, Any]) -> Cost:
    """Time, images and memory as far as the run recorded them; an unfinished run by its last row of statistics."""
    last = read_json_lines(run / "stats.jsonl")[-1:] or [{}]
    ended = _json(run / "finished.json") or last[0]
    seconds, images = number(ended.get("seconds")), number(ended.get("images_seen"))
    peak = number(_json(run / USAGE).get("peak_bytes"))
    return Cost(
        train_seconds=seconds, images_seen=None if images is None else int(images),
        train_rate=images / seconds if images and seconds else None, peak_bytes=None if peak is None else int(peak),
        device=str(resolved.get("device", "")), precision=str(resolved.get("precision", "")),
    )  # fmt: skip


def foreign_cost(pictures: Path) -> tuple[Cost, str]:
    """What a JSON file beside foreign pictures (`samples.json` beside `samples.npz`) says: cost, and one line about it.

    Its keys are the numbers of `Cost`, `device`, `precision` and `about`; all may be missing.
    """
    told = _json(pictures.with_suffix(".json"))
    whole = {field.name for field in fields(Cost) if field.type == "int | None"}
    numbers = {
        field.name: int(value) if field.name in whole else value
        for field in fields(Cost) if (value := number(told.get(field.name))) is not None
    }  # fmt: skip
    words = {name: str(told[name]) for name in ("device", "precision") if isinstance(told.get(name), str)}
    return Cost(**numbers, **words), str(told.get("about", ""))  # type: ignore[arg-type]


def note_peak(run: Path, peak: int | None) -> None:
    """Notes the most memory that a sitting took; the largest of all sittings stays."""
    if peak is not None:
        before = number(_json(run / USAGE).get("peak_bytes")) or 0
        write_json(run / USAGE, {"peak_bytes": max(peak, int(before))})


def _json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def train_command(asked: Mapping[str, Any], source: str) -> str:
    """The `zeuxis train` command of the options that differ from the defaults; "" where the record is not whole."""
    options = asked.get("options")
    if not isinstance(options, dict) or not source:
        return ""
    words = ["zeuxis", "train", near(source)]
    defaults, data_defaults = TrainOptions().to_json(), DataOptions().to_json()
    own = options.get("data")
    data = own if isinstance(own, dict) else {}
    for key, value, default in [
        *((key, options.get(key, default), default) for key, default in defaults.items() if key != "data"),
        *((key, data.get(key, default), default) for key, default in data_defaults.items()),
    ]:
        if key == "settings" and isinstance(value, dict):
            words += [word for name in value for word in ("--set", f"{name}={_text(value[name])}")]
        elif key == "model" or value != default:
            words += _flag(key, value)
    return shlex.join(words)


def _flag(key: str, value: Any) -> list[str]:
    name = "--" + key.replace("_", "-")
    if isinstance(value, bool):
        return [name] if value else []
    if key == "budget" and isinstance(value, (int, float)):
        return [name, f"{value / 60:g}m" if value % 60 == 0 else f"{value:g}s"]
    if key == "resolution" and isinstance(value, list) and len(value) == 2:
        return [name, f"{value[1]}x{value[0]}"]
    return [name, _text(value)]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def near(source: str) -> str:
    """A path as it would be typed here: relative where it lies below the working folder."""
    if source in BUILTIN:
        return source
    relative = os.path.relpath(source) if os.path.isabs(source) else source
    return source if relative.startswith("..") else relative


def flat_settings(settings: Any) -> dict[str, Any]:
    """Nested settings by dotted key."""
    if not isinstance(settings, dict):
        return {}
    result = {}
    for dotted in dotted_keys(settings):
        value: Any = settings
        for part in dotted.split("."):
            value = value[part]
        result[dotted] = value
    return result
