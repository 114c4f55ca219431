"""Class labels and splits of files, from `dataset.json`, `metadata.jsonl` or `.csv`, or the sub-folders, in
that order."""

from __future__ import annotations

import csv
import io
import json
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeuxis.data.listing import NO_SPLIT, SPLIT_NAMES
from zeuxis.errors import DataError

DOCUMENTS = ("dataset.json", "metadata.jsonl", "metadata.csv")
MAX_DOCUMENT = 256 * 2**20  # bytes
UNLABELLED = ("_unlabelled", "_unlabeled")
LABEL_KEYS = ("label", "class")


@dataclass
class Labels:
    """int64 `labels` (-1 without) into `classes`, int8 `splits`, and remarks."""

    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    splits: NDArray[np.int8]
    notes: list[str]


def label_files(names: Sequence[str], documents: Mapping[str, bytes]) -> Labels:
    """Labels and splits of files; `names` are paths with `/`, `documents` the label files found, by path."""
    parts = _without_common([name.split("/") for name in names])
    splits, parts = _split_folders(parts)
    notes: list[str] = []
    found = _from_dataset_json(names, documents, notes)
    if found is None:
        found = _from_metadata(names, documents, notes)
    if found is None:
        below = _without_common(parts)
        found = [path[0] if len(path) > 1 and path[0].lower() not in UNLABELLED else None for path in below]
    classes = order_classes({label for label in found if label is not None})
    if len(classes) < 2:
        if classes:
            notes.append(f"a single class ({classes[0]}) is no class: the pictures are taken as unlabelled")
        return Labels(np.full(len(names), -1, np.int64), (), splits, notes)
    number = {label: index for index, label in enumerate(classes)}
    labels = np.fromiter((-1 if label is None else number[label] for label in found), np.int64, len(names))
    return Labels(labels, classes, splits, notes)


def order_classes(labels: Iterable[str]) -> tuple[str, ...]:
    """Class names in their order: by value where all are whole numbers, else alphabetically."""
    names = list(labels)
    if all(name.isascii() and name.lstrip("-").isdigit() and len(name) < 19 for name in names):
        return tuple(sorted(names, key=int))
    return tuple(sorted(names, key=lambda name: (name.casefold(), name)))


def _without_common(parts: list[list[str]]) -> list[list[str]]:
    """Drops folders that all files share, except one that means something (`train`, `_unlabelled`)."""
    depth = 0
    while parts:
        first = parts[0][depth : depth + 1]
        if not first or first[0].lower() in SPLIT_NAMES or first[0].lower() in UNLABELLED:
            break
        if any(len(path) < depth + 2 or path[depth] != first[0] for path in parts):
            break
        depth += 1
    return [path[depth:] for path in parts] if depth else parts


def _split_folders(parts: list[list[str]]) -> tuple[NDArray[np.int8], list[list[str]]]:
    """Splits by top folder, where the top folders are splits and nothing else; `train`, `bus` and `car` are
    classes."""
    splits = np.full(len(parts), NO_SPLIT, np.int8)
    tops = {path[0].lower() for path in parts if len(path) > 1}
    if "train" not in tops or not tops <= {*SPLIT_NAMES, *UNLABELLED}:
        return splits, parts
    for index, path in enumerate(parts):
        splits[index] = (
            SPLIT_NAMES.get(path[0].lower(), SPLIT_NAMES["train"]) if len(path) > 1 else SPLIT_NAMES["train"]
        )
    return splits, [path[1:] if len(path) > 1 and path[0].lower() in SPLIT_NAMES else path for path in parts]


def _from_dataset_json(
    names: Sequence[str], documents: Mapping[str, bytes], notes: list[str]
) -> list[str | None] | None:
    """`{"labels": [["00000/img.png", 3], ...]}`, or null for no labels (then folders are no classes
    either)."""
    path = min((name for name in documents if posixpath.basename(name) == DOCUMENTS[0]), key=len, default=None)
    if path is None:
        return None
    try:
        rows = json.loads(documents[path])["labels"]
        table = (
            {} if rows is None else {posixpath.join(posixpath.dirname(path), str(name)): label for name, label in rows}
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        raise DataError(
            path, "something else", 'JSON such as {"labels": [["00000/img.png", 3]]}', "repair or remove it"
        ) from None
    return _look_up(names, table, path, notes)


def _from_metadata(names: Sequence[str], documents: Mapping[str, bytes], notes: list[str]) -> list[str | None] | None:
    """`file_name` with `label` or `class`, each file for its own folder; None where no such column exists."""
    table: dict[str, Any] = {}
    used = []
    for path in sorted(documents):
        if posixpath.basename(path) not in DOCUMENTS[1:]:
            continue
        rows = _csv_rows(documents[path], path) if path.endswith(".csv") else _json_rows(documents[path], path)
        for row in rows:
            name, key = row.get("file_name"), next((key for key in LABEL_KEYS if key in row), None)
            if isinstance(name, str) and key is not None:
                table[posixpath.normpath(posixpath.join(posixpath.dirname(path), name))] = row[key]
                used.append(path)
    return _look_up(names, table, used[0], notes) if used else None


def _json_rows(content: bytes, path: str) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(content.decode("utf-8-sig", "replace").splitlines(), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            if not isinstance(row, dict):
                raise DataError(
                    f"{path} line {number}",
                    line[:60],
                    'JSON such as {"file_name": "a.png", "label": "cat"}',
                    "repair it",
                )
            rows.append(row)
    return rows


def _csv_rows(content: bytes, path: str) -> list[dict[str, Any]]:
    try:
        return list(csv.DictReader(io.StringIO(content.decode("utf-8-sig", "replace"))))
    except csv.Error as error:
        raise DataError(path, str(error), "comma-separated values with a column file_name", "repair it") from None


def _look_up(names: Sequence[str], table: Mapping[str, Any], path: str, notes: list[str]) -> list[str | None]:
    """The label of every file as text; remarks on rows without a file and files without a row."""
    missing = len(table.keys() - set(names))
    if missing:
        notes.append(f"{path} names {missing:,} files that are not there")
    if any(isinstance(label, (list, dict)) for label in table.values()):
        notes.append(f"{path} has labels that are not class names or numbers: they are left out")
    labels = [_text(table.get(name)) for name in names]
    without = sum(label is None for label in labels)
    if table and without:
        notes.append(f"{path} has no label for {without:,} pictures")
    return labels


def _text(label: Any) -> str | None:
    if isinstance(label, float) and label.is_integer():
        label = int(label)
    return str(label) if isinstance(label, (str, int, float)) and str(label).strip() else None
