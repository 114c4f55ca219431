"""The tables of the page: scores with intervals and bars, cost, and what each can do."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from zeuxis.compare.charts import bar
from zeuxis.compare.entries import Cost, Entry
from zeuxis.compare.html import Html, named, tag
from zeuxis.compare.verdict import WARNING, rank, row_id
from zeuxis.compare.words import CAPABILITY_WORDS, ability, clock, interval, megabytes, metric_words, number
from zeuxis.evaluation import Row
from zeuxis.families.base import CAPABILITIES

RowId = tuple[str, str]
SPLITS = {"test": "held-out", "train": "training"}
NONE = "\N{EN DASH}"


def wide(head: Html, *bodies: Html, label: str) -> Html:
    """A table that scrolls inside its own frame where the screen is narrow."""
    table = tag("table", tag("thead", head), bodies, aria_label=label)
    return tag("div", table, class_="wide", tabindex="0", role="region", aria_label=label)


def _head(entries: Sequence[Entry], first: str, *last: str) -> Html:
    names = [
        tag("th", tag("span", class_=f"chip c{place % 8}", aria_hidden="true"),
            tag("span", named(entry.name), class_="name"), scope="col")
        for place, entry in enumerate(entries)
    ]  # fmt: skip
    return tag("tr", tag("th", first, scope="col"), names, [tag("th", each, scope="col") for each in last])


# -- scores ------------------------------------------------------------------------------------------------------------
def score_table(entries: Sequence[Entry], reference: str = "test") -> Html:
    """A row per metric against that split, a column per entry, and what real pictures have; grouped by the metrics."""
    rows = {row_id(row): row for entry in entries for row in entry.rows if row.reference == reference and _finite(row)}
    bodies = []
    for group in dict.fromkeys(row.group for row in rows.values()):
        title = f"{group[:1].upper()}{group[1:]}"
        heading = tag("tr", tag("th", title, scope="rowgroup", colspan=len(entries) + 2), class_="group")
        own = [_score_row(key, entries) for key, row in rows.items() if row.group == group]
        bodies.append(tag("tbody", heading, own))
    label = f"Scores against the {SPLITS.get(reference, reference)} pictures"
    return wide(_head(entries, "Metric", "Real pictures"), *bodies, label=label) if rows else Html("")


def _score_row(key: RowId, entries: Sequence[Entry]) -> Html:
    found = {place: row for place, entry in enumerate(entries) for row in entry.rows
             if row_id(row) == key and _finite(row)}  # fmt: skip
    row = next(iter(found.values()))
    name, about = metric_words(row)
    shared, *others = dict.fromkeys(each.note for each in found.values())
    heading = tag(
        "th", tag("strong", name), tag("small", about) if about else None,
        tag("small", f"{row.better} is better \N{MIDDLE DOT} ", tag("span", row.metric, class_="id")),
        _note(shared) if not others else None, scope="row",
    )  # fmt: skip
    real, worst = ends(list(found.values()))
    ranking = rank(entries, key)
    best = {entry.name for entry, _ in ranking.first} if ranking and ranking.behind else set()
    alone = len(found) == 1 and row.floor is None  # then there is nothing to be compared with
    cells = []
    for place, entry in enumerate(entries):
        own = found.get(place)
        if own is None:
            cells.append(tag("td", NONE))
            continue
        drawn = None if alone else bar(own.value, own.interval, real=real, worst=worst, place=place)
        ranges = tag("small", interval(own)) if own.interval else None
        note = _note(own.note) if others else None
        cells.append(tag("td", number(own.value), ranges, drawn, note, class_="best" if entry.name in best else None))
    floors = [each.floor for each in found.values() if each.floor is not None]
    return tag("tr", heading, cells, tag("td", number(floors[0]) if floors else NONE))


def _finite(row: Row) -> bool:
    return math.isfinite(row.value) and all(map(math.isfinite, row.interval or ()))


def _note(text: str) -> Html | None:
    return tag("small", text, class_="warn" if text.startswith(WARNING) else "note") if text else None


def ends(rows: Sequence[Row]) -> tuple[float, float]:
    """Where a bar begins (what real pictures have, else the best here) and where it ends (the worst here)."""
    values = [value for row in rows for value in (row.value, *(row.interval or ()))]
    lower = rows[0].better == "lower"
    floor = next((row.floor for row in rows if row.floor is not None), None)
    best, worst = (min(values), max(values)) if lower else (max(values), min(values))
    begin = best if floor is None else floor
    if floor is None and lower and best >= 0:
        begin = 0.0
    return (begin, worst) if (worst > begin) == lower else (begin, begin)


# -- cost --------------------------------------------------------------------------------------------------------------
def _costs(cost: Cost) -> Iterator[tuple[str, str, float | None, Callable[[float], str]]]:
    """What is shown of a cost: name, remark, value, and how it is written."""
    yield "Trained for", "all sittings, snapshots and in-training scores included", cost.train_seconds, clock
    yield "Images shown", "while training", cost.images_seen, lambda value: f"{value:,.0f}"
    yield "Training speed", "images a second over the whole run", cost.train_rate, number
    yield "Sampling speed", "pictures a second, float32", cost.sample_rate, number
    yield "Peak memory", "the most that the program held while training", cost.peak_bytes, megabytes
    yield "Size", "the weights' file", cost.size_bytes, megabytes
    yield "Parameters", "of what is needed to sample", cost.parameters, lambda value: f"{value:,.0f}"


def cost_table(entries: Sequence[Entry]) -> Html:
    """A row per kind of cost that any entry has; bars are shares of the largest."""
    columns = [list(_costs(entry.cost)) for entry in entries]
    rows = []
    for lines in zip(*columns, strict=True):
        name, about, _, written = lines[0]
        values = [value for _, _, value, _ in lines]
        largest = max((value for value in values if value is not None), default=None)
        if largest is None:
            continue
        cells = [
            tag("td", NONE) if value is None
            else tag("td", written(value), bar(value, None, real=0.0, worst=largest, place=place))
            for place, value in enumerate(values)
        ]  # fmt: skip
        rows.append(tag("tr", tag("th", tag("strong", name), tag("small", about), scope="row"), cells))
    if any(entry.cost.device for entry in entries):
        where = [tag("td", f"{entry.cost.device} {entry.cost.precision}".strip() or NONE) for entry in entries]
        rows.append(tag("tr", tag("th", tag("strong", "Trained on"), scope="row"), where))
    return wide(_head(entries, "Cost"), tag("tbody", rows), label="Speed, memory and size") if rows else Html("")


# -- abilities ---------------------------------------------------------------------------------------------------------
def abilities_table(entries: Sequence[Entry]) -> Html:
    """A row per ability that any model has, as its family says."""
    known = [entry for entry in entries if entry.capabilities is not None]
    every = frozenset().union(*(entry.capabilities or frozenset() for entry in known))
    order = [*CAPABILITIES, *CAPABILITY_WORDS]
    names = sorted(every, key=lambda name: (order.index(name) if name in order else len(order), name))
    rows = [tag("tr", tag("th", tag("strong", "Sample new pictures"), scope="row"), [_mark(True, e) for e in entries])]
    for name in names:
        words = ability(name)
        heading = tag(
            "th", tag("strong", f"{words[:1].upper()}{words[1:]}"), tag("small", name, class_="id"), scope="row"
        )
        rows.append(tag("tr", heading, [_mark(name in (entry.capabilities or ()), entry) for entry in entries]))
    return wide(_head(entries, "Ability"), tag("tbody", rows), label="What each can do") if known else Html("")


def _mark(able: bool, entry: Entry) -> Html:
    if entry.capabilities is None:
        return tag("td", "unknown", class_="no")
    return tag("td", "\N{CHECK MARK} yes", class_="yes") if able else tag("td", "no", class_="no")
