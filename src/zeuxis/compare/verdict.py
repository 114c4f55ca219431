"""The numbers in words, no stronger than their intervals allow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from zeuxis.compare.entries import Comparison, Entry
from zeuxis.compare.words import (
    ability,
    clock,
    listed,
    megabytes,
    metric_key,
    metric_name,
    metric_words,
    number,
    times,
    valued,
)
from zeuxis.evaluation import Row

WARNING = "unreliable"  # how a note begins that says the value should not be trusted
NAMED = 4  # metrics that are listed by name before "more"
COPYING_WITHOUT_INTERVAL = 0.03  # a copy rate above this is called copying where no interval says more


@dataclass(frozen=True)
class Ranking:
    """Entries by one metric, the best first: `first` cannot be told apart from the best, `behind` can."""

    first: tuple[tuple[Entry, Row], ...]
    behind: tuple[tuple[Entry, Row], ...]

    @property
    def row(self) -> Row:
        """The best value."""
        return self.first[0][1]

    @property
    def names(self) -> list[str]:
        """Those that share the first place."""
        return [entry.name for entry, _ in self.first]


@dataclass(frozen=True)
class Verdict:
    """One sentence, and findings, each a lead word or two and its sentences."""

    headline: str
    findings: tuple[tuple[str, str], ...]


def overlap(a: Row, b: Row) -> bool:
    """Whether two values cannot be told apart: their 95% intervals overlap; without intervals, whether they are equal.

    A value without an interval is taken as a point.
    """
    (low, high), (other_low, other_high) = (row.interval or (row.value, row.value) for row in (a, b))
    return low <= other_high and other_low <= high


def row_id(row: Row) -> tuple[str, str]:
    """What makes rows of two entries comparable: the full name (with N and extractor) and the reference split."""
    return row.metric, row.reference


def rank(entries: Sequence[Entry], wanted: tuple[str, str]) -> Ranking | None:
    """Entries that have the row `wanted` (a `row_id`), best first; None where no entry has a value."""
    rows = [(entry, row) for entry in entries for row in entry.rows if row_id(row) == wanted]
    found = [(entry, row) for entry, row in rows if math.isfinite(row.value)]
    if not found:
        return None
    sign = -1.0 if found[0][1].better == "higher" else 1.0
    found.sort(key=lambda pair: sign * pair[1].value)
    best = found[0][1]
    first = tuple(pair for pair in found if overlap(best, pair[1]))
    return Ranking(first, tuple(pair for pair in found if not overlap(best, pair[1])))


def deciding(entries: Sequence[Entry]) -> tuple[str, str] | None:
    """The row that decides: the first distance to held-out pictures without a warning, else the kernel distance."""
    own = [frozenset(row_id(row) for row in entry.rows) for entry in entries]
    shared = [row for row in entries[0].rows if all(row_id(row) in each for each in own)]
    shared.sort(key=lambda row: row.reference != "test")
    distances = [row for row in shared if row.group == "distance"]
    warned = {row_id(row) for entry in entries for row in entry.rows if row.note.startswith(WARNING)}
    choices = [row for row in distances if row_id(row) not in warned]
    choices += [row for row in distances if metric_key(row) == "kid"]
    return row_id((choices + distances + shared)[0]) if shared else None


def verdict(comparison: Comparison) -> Verdict:
    """What the page says first."""
    entries = comparison.entries
    wanted = deciding(entries)
    ranking = rank(entries, wanted) if wanted else None
    findings = [
        *(_closeness(ranking) if ranking else []),
        *_aspect("Most faithful", entries, ("precision", "density")),
        *_aspect("Most varied", entries, ("coverage", "recall")),
        *_copying(entries),
        *_warnings(entries),
        *_costs(entries),
        *_abilities(entries),
        *_luck(entries),
        *(("Missing", text) for text in comparison.missing),
    ]
    return Verdict(_headline(comparison, ranking), tuple(findings))


def _headline(comparison: Comparison, ranking: Ranking | None) -> str:
    data = comparison.data
    these = f"For these {data.total:,} pictures ({data.pictures}): "
    if ranking is None:
        return these + "nothing was measured that all of them share."
    if len(comparison.entries) == 1:
        real = ranking.row.floor
        beside = "" if real is None else f", where other real pictures have {number(real)}"
        return f"{these}{ranking.names[0]} has a {metric_name(ranking.row)} of {number(ranking.row.value)}{beside}."
    if len(ranking.first) == 1:
        return f"{these}{ranking.names[0]} comes closest to the real ones."
    behind = [entry.name for entry, _ in ranking.behind]
    rest = f"; {listed(behind)} {'is' if len(behind) == 1 else 'are'} behind" if behind else ""
    return f"{these}{listed(ranking.names)} cannot be told apart{rest}."


def _closeness(ranking: Ranking) -> list[tuple[str, str]]:
    row = ranking.row
    pairs = [*ranking.first, *ranking.behind]
    values = [f"{valued(own)} for {entry.name}" for entry, own in pairs]
    text = f"{metric_words(row)[0]}, {row.better} is better: {listed(values)}."
    if row.floor is not None:
        text += f" As many other real pictures have {number(row.floor)}"
        like_real = any(own.interval and own.interval[0] <= row.floor for _, own in pairs)
        text += ", which the best reaches." if like_real and row.better == "lower" else "."
    if len(ranking.first) > 1:
        text += " Where the 95% intervals overlap, no order is claimed."
    if any(own.interval is None for _, own in pairs):
        text += " Values without an interval are single measurements: small differences mean nothing."
    return [("How close", text)]


def _aspect(lead: str, entries: Sequence[Entry], keys: Sequence[str]) -> list[tuple[str, str]]:
    """Who leads by the first of the metrics that is there; nothing where only one entry is."""
    for key in keys:
        wanted = next((row_id(row) for entry in entries for row in entry.rows if metric_key(row) == key), None)
        ranking = rank(entries, wanted) if wanted and len(entries) > 1 else None
        if ranking is None or len(ranking.first) + len(ranking.behind) < 2:
            continue
        return [(lead, _led(ranking))]
    return []


def _led(ranking: Ranking) -> str:
    """`a: precision 0.86, against 0.61 for b and 0.87 for real pictures`; no leader where none can be told."""
    name, rest = metric_name(ranking.row), [(row, entry.name) for entry, row in ranking.behind]
    real = [] if ranking.row.floor is None else [f"{number(ranking.row.floor)} for real pictures"]
    own = listed([f"{valued(row)} for {entry.name}" for entry, row in ranking.first])
    if not rest:
        return f"by {name} they cannot be told apart: {own}{'; ' if real else ''}{''.join(real)}."
    against = listed([f"{valued(row)} for {other}" for row, other in rest] + real)
    if len(ranking.first) == 1:
        return f"{ranking.names[0]}, with a {name} of {valued(ranking.row)} against {against}."
    return f"{listed(ranking.names)}: by {name}, {own}, against {against}."


def _copying(entries: Sequence[Entry]) -> list[tuple[str, str]]:
    """An entry copies where any of its copy rates, in features or in pixels, says so."""
    copies: list[str] = []
    clean: list[str] = []
    for entry in entries:
        rates = [row for row in entry.rows if metric_key(row) == "copy_rate"]
        found = [row for row in rates if _lowest(row) > 0]
        if found:
            copies.append(f"{max(row.value for row in found):.1%} of the samples of {entry.name}")
        elif rates:
            clean.append(entry.name)
    texts = []
    if copies:
        texts.append(f"{listed(copies)} are nearer to a training picture than new real pictures are, beyond chance: "
                     "look at the nearest real pictures below before using them.")  # fmt: skip
    if clean:
        texts.append(f"no sign of it in {listed(clean)}, within what so many samples can show.")
    return [("Copying", " ".join(texts))] if texts else []


def _lowest(row: Row) -> float:
    """The least copy rate that is still believable."""
    return row.interval[0] if row.interval else row.value - COPYING_WITHOUT_INTERVAL


def _warnings(entries: Sequence[Entry]) -> list[tuple[str, str]]:
    """One line for all metrics that need more pictures, and the remarks on single entries."""
    warned = [row for entry in entries for row in entry.rows if row.note.startswith(WARNING)]
    names = list(dict.fromkeys(metric_name(row) for row in warned))
    found = []
    if names:
        more = [f"{len(names) - NAMED} more"] if len(names) > NAMED else []
        counts = listed([f"{num:,}" for num in dict.fromkeys(row.num for row in warned)], "or")
        text = f"{counts} pictures are too few for {listed([*names[:NAMED], *more])}: see the marks in the table."
        found.append(("Be careful", text))
    for entry in entries:
        found += [("Be careful", f"{entry.name}: {remark[0].lower()}{remark[1:]}") for remark in entry.remarks]
    return found


def _costs(entries: Sequence[Entry]) -> list[tuple[str, str]]:
    rates = sorted(((entry.cost.sample_rate, entry.name) for entry in entries if entry.cost.sample_rate), reverse=True)
    sizes = sorted((entry.cost.size_bytes, entry.name) for entry in entries if entry.cost.size_bytes)
    if len(rates) < 2 or len(sizes) < 2:
        return []
    return [
        (
            "Speed and size",
            f"{rates[0][1]} samples fastest, {number(rates[0][0])} pictures a second "
            f"({times(rates[0][0] / rates[-1][0])} times {rates[-1][1]}); {sizes[0][1]} is the smallest, "
            f"{megabytes(sizes[0][0])} ({sizes[-1][1]} is {times(sizes[-1][0] / sizes[0][0])} times as large).",
        )
    ]


def _abilities(entries: Sequence[Entry]) -> list[tuple[str, str]]:
    known = [entry for entry in entries if entry.capabilities is not None]
    texts = []
    for entry in known:
        others = frozenset().union(*(other.capabilities or frozenset() for other in known if other is not entry))
        alone = sorted(name for name in (entry.capabilities or frozenset()) - others if not name.startswith("--"))
        if alone and len(known) > 1:
            texts.append(f"only {entry.name} can {listed([ability(name) for name in alone])}")
    return [("Beyond sampling", "; ".join(texts) + ".")] if texts else []


def _luck(entries: Sequence[Entry]) -> list[tuple[str, str]]:
    trained = [entry for entry in entries if entry.cost.train_seconds]
    if not trained:
        return []
    times = dict.fromkeys(clock(entry.cost.train_seconds or 0) for entry in trained)
    return [("Luck", f"each model was trained once ({listed(list(times))}). The intervals hold the chance of sampling, "
             "not that of training: with another --seed, models that are close may change places.")]  # fmt: skip
