"""What the comparison says and draws: words no stronger than intervals, safe markup, records that may be hostile."""

from __future__ import annotations

import json
import math
import re
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from zeuxis.compare import record
from zeuxis.compare.charts import bar
from zeuxis.compare.entries import Comparison, Cost, Curve, DataFacts, Entry, Neighbours, Sheet
from zeuxis.compare.gather import unique_names
from zeuxis.compare.html import css, join, named, picture, tag
from zeuxis.compare.looks import SUSPECTS, real_sheet, suspects
from zeuxis.compare.page import draw
from zeuxis.compare.subjects import parse_subject
from zeuxis.compare.tables import ends
from zeuxis.compare.usage import peak_bytes, reset_peak
from zeuxis.compare.verdict import rank, row_id, verdict
from zeuxis.compare.words import clock, counted, listed, metric_key, number
from zeuxis.config import DataOptions, TrainOptions
from zeuxis.data import Dataset
from zeuxis.errors import UserError
from zeuxis.evaluation import Row
from zeuxis.metrics.extractors import make_extractor

TITLES = {
    "fd": "Fréchet distance",
    "kid": "kernel distance (squared MMD, unbiased)",
    "precision": "precision (3 neighbours)",
}
CPU = torch.device("cpu")
NASTY = "<script>alert('x')</script>"


def row(
    metric: str = "kid", value: float = 1.0, low: float | None = None, high: float | None = None, **more: Any
) -> Row:
    """One row in the extractor `dataset`; an interval where `low` is given."""
    interval = None if low is None or high is None else (low, high)
    title = TITLES.get(re.sub("_?k?[0-9].*", "", metric), metric)
    values = {
        "metric": f"{metric}_dataset", "title": title, "group": "distance", "value": value, "better": "lower",
        "floor": 0.1, "interval": interval, "num": 100, "reference": "test", "extractor": "dataset",
        "extractor_sha256": "0" * 64, "data_fingerprint": "f" * 64, "seeds": (0, 100), "note": "", **more,
    }  # fmt: skip
    return Row(**values)


def entry(name: str, *rows: Row, **more: Any) -> Entry:
    """An entry with four black pictures."""
    sheet = Sheet(np.zeros((4, 1, 8, 8), np.uint8), (0, 1, 2, 3))
    return replace(Entry(name, "about", rows, sheet, None), **more)


def comparison(*entries: Entry, **more: Any) -> Comparison:
    data = DataFacts("cats", "8x8 grey", 3786, 3000, 400, ("a", "b"), "f" * 64)
    whole = Comparison(data, entries, Sheet(np.zeros((4, 1, 8, 8), np.uint8)), "zeuxis compare", "today", "here")
    return replace(whole, **more)


def finding(lead: str, *entries: Entry) -> str:
    """The sentences behind a lead word."""
    return " ".join(text for word, text in verdict(comparison(*entries)).findings if word == lead)


# -- words -------------------------------------------------------------------------------------------------------------
def test_a_winner_is_named_only_where_intervals_are_apart() -> None:
    a, b, c = entry("a", row(value=1, low=0.9, high=1.1)), entry("b", row(value=2, low=1.8, high=2.2)), None
    assert (
        verdict(comparison(b, a)).headline == "For these 3,786 pictures (8x8 grey): a comes closest to the real ones."
    )
    b = entry("b", row(value=1.15, low=1.05, high=1.25))
    assert "a and b cannot be told apart." in verdict(comparison(b, a)).headline
    assert "no order is claimed" in finding("How close", a, b)
    c = entry("c", row(value=9, low=8, high=10))
    assert "a and b cannot be told apart; c is behind." in verdict(comparison(c, b, a)).headline
    assert "a has a kernel distance of 1.00, where other real pictures have 0.100" in verdict(comparison(a)).headline


def test_values_without_intervals_are_called_single_measurements() -> None:
    text = finding("How close", entry("a", row(value=1.0)), entry("b", row(value=1.1)))
    assert "single measurements: small differences mean nothing" in text


def test_metrics_that_warn_do_not_decide() -> None:
    def pair(name: str, fd: float, kid: float) -> Entry:
        note = "unreliable: needs more than 256 pictures"
        return entry(name, row("fd100", fd, fd - 0.1, fd + 0.1, note=note), row("kid100", kid, kid - 0.1, kid + 0.1))

    words = verdict(comparison(pair("a", 1, 8), pair("b", 2, 4)))
    assert "b comes closest" in words.headline
    assert (
        "Be careful",
        "100 pictures are too few for Fréchet distance: see the marks in the table.",
    ) in words.findings
    sure = [entry("a", row("fd100", 1, 0.9, 1.1)), entry("b", row("fd100", 2, 1.9, 2.1))]
    assert "a comes closest" in verdict(comparison(*sure)).headline


def test_rows_of_other_numbers_or_references_are_not_compared() -> None:
    a, b = entry("a", row("fd100", 1, 0.9, 1.1)), entry("b", row("fd200", 2, 1.9, 2.1))
    assert "nothing was measured that all of them share" in verdict(comparison(a, b)).headline
    both = entry("a", row("fd", 5, 4, 6), row("fd", 1, 0.9, 1.1, reference="train"))
    ranking = rank([both], row_id(both.rows[0]))
    assert ranking is not None and ranking.row.value == 5


@pytest.mark.parametrize(
    ("value", "low", "high", "said"),
    [(0.12, 0.09, 0.15, "12.0% of the samples of a"), (0.01, -0.01, 0.03, "no sign of it in a"),
     (0.02, 0.005, 0.035, "2.0% of the samples of a"), (0.1, -0.05, 0.25, "no sign of it in a"),
     (0.2, None, None, "20.0% of the samples of a"), (0.01, None, None, "no sign of it in a")],
)  # fmt: skip
def test_copying_is_said_where_the_interval_says_so(value: float, low: float, high: float, said: str) -> None:
    copying = row("copy_rate", value, low, high, group="memorisation", floor=0.0)
    assert said in finding("Copying", entry("a", row(), copying))


def test_aspects_name_who_leads_or_that_nobody_does() -> None:
    def one(name: str, value: float, wide: float) -> Entry:
        return entry(name, row(), row("precision_k3", value, value - wide, value + wide, better="higher", floor=0.9))

    assert finding("Most faithful", one("a", 0.5, 0.05), one("b", 0.8, 0.05)).startswith(
        "b, with a precision of 0.800 (0.750 to 0.850) against 0.500 (0.450 to 0.550) for a"
    )
    assert "cannot be told apart" in finding("Most faithful", one("a", 0.7, 0.2), one("b", 0.8, 0.2))
    assert finding("Most faithful", one("a", 0.7, 0.2)) == ""


def test_costs_abilities_remarks_and_luck_are_told() -> None:
    long = Cost(train_seconds=600.0, sample_rate=300.0, size_bytes=4_000_000)
    short = Cost(train_seconds=598.0, sample_rate=100.0, size_bytes=1_000_000)
    able = entry("v", row(), cost=long, capabilities=frozenset({"encode", "--temperature"}),
                 remarks=("It was trained on other data.",))  # fmt: skip
    other = entry("g", row(), cost=short, capabilities=frozenset({"--truncation"}))
    text = " ".join(text for _, text in verdict(comparison(able, other)).findings)
    assert "v samples fastest, 300 pictures a second (3.0 times g); g is the smallest, 1 MB (v is 4.0 times" in text
    assert "only v can turn a picture into a code." in text
    assert "v: it was trained on other data." in text
    assert "each model was trained once (10 min)." in text


def test_numbers_in_words() -> None:
    assert [number(value) for value in (0, 0.01234, 9.2, 123.4, 1234.5, -0.5)] == [
        "0", "0.0123", "9.20", "123", "1,234", "\N{MINUS SIGN}0.500"
    ]  # fmt: skip
    assert [clock(value) for value in (4.25, 300, 4800)] == ["4.25 s", "5 min", "1 h 20 min"]
    assert [counted(value) for value in (950, 45_000, 1.2e6)] == ["950", "45k", "1.2M"]
    assert listed(["a"]) == "a" and listed(["a", "b", "c"]) == "a, b and c"
    assert [metric_key(row(name)) for name in ("fd10k", "kid360", "recall_k3", "bpd")] == ["fd", "kid", "recall", "bpd"]
    assert unique_names(["a", "b", "a", "a"], ["x", "x", "y", "y"]) == ["a (x)", "b", "a (y) #1", "a (y) #2"]


# -- markup ------------------------------------------------------------------------------------------------------------
def test_text_is_escaped_and_markup_is_not() -> None:
    assert tag("b", NASTY) == "<b>&lt;script&gt;alert('x')&lt;/script&gt;</b>"
    assert tag("p", tag("b", "x"), ["a", tag("i", "&")], None) == "<p><b>x</b>a<i>&amp;</i></p>"
    assert (
        tag("img", alt='"><script>', width=3, hidden=False, title=None)
        == '<img alt="&quot;&gt;&lt;script&gt;" width="3">'
    )
    assert named("a/<b>") == "a/<wbr>&lt;b&gt;"
    assert join("<", tag("br")) == "&lt;<br></br>"
    with pytest.raises(AssertionError, match="must not contain"):
        css("</style><script>")


def test_pictures_are_enlarged_by_whole_pixels_and_large_ones_made_smaller() -> None:
    small = picture(np.zeros((1, 8, 8), np.uint8), alt="", scale=6)
    assert 'width="48" height="48"' in small and small.startswith('<img src="data:image/png;base64,')
    assert 'width="96" height="48"' in picture(np.zeros((3, 300, 600), np.uint8), alt="")


class Parsed(HTMLParser):
    """Tags with their attributes, and all text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def nasty_comparison() -> Comparison:
    """Everything that has a name bears a hostile one."""
    pixels = np.random.default_rng(0).integers(0, 256, (4, 4, 8, 12), dtype=np.uint8)
    curve = Curve(NASTY, (1, 2, 3), (0.5, 1.0, 1.5), (3.0, 2.0, 1.0))
    one = entry(
        NASTY, row(), row(NASTY, note=NASTY, title=NASTY, group=NASTY, extractor=NASTY), about=NASTY,
        samples=Sheet(pixels, (0, 1, 2, 3), (NASTY, "b")),
        neighbours=Neighbours(pixels, pixels, pixels, (1.0,) * 4, (2.0,) * 4, 3.0, NASTY),
        cost=Cost(1.0, 2, 3.0, 4.0, 5, 6, 7, NASTY, NASTY), capabilities=frozenset({NASTY, "encode"}),
        curves=(curve,), losses=(curve,), commands=(NASTY,), settings={NASTY: NASTY}, remarks=(NASTY,),
    )  # fmt: skip
    data = DataFacts(NASTY, NASTY, 10, 5, 3, (NASTY, "b"), NASTY)
    return Comparison(
        data, [one, entry("other", row())], Sheet(pixels, (), (NASTY, "b")), NASTY, NASTY, NASTY, (NASTY,)
    )


def test_the_page_has_no_script_no_request_and_words_for_every_picture() -> None:
    parsed = Parsed(draw(nasty_comparison()))
    assert parsed.text.count(NASTY) > 15
    for name, attributes in parsed.tags:
        assert name not in ("script", "iframe", "object", "embed", "link", "form", "base"), name
        assert not [key for key in attributes if key.startswith("on")]
        for key in ("src", "href"):
            assert str(attributes.get(key, "#")).startswith(("#", "data:image/png;base64,"))
        if name == "img":
            assert attributes["alt"] is not None
    policy = next(a["content"] for tag, a in parsed.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None and policy.startswith("default-src 'none'; img-src data:")
    assert "script-src" not in policy
    groups = [
        attributes for _, attributes in parsed.tags if attributes.get("role") == "img" and "viewbox" not in attributes
    ]
    assert groups and all(attributes.get("aria-label") for attributes in groups)
    headers = [attributes for name, attributes in parsed.tags if name == "th"]
    assert headers and all(attributes.get("scope") for attributes in headers)
    assert [attributes["lang"] for name, attributes in parsed.tags if name == "html"] == ["en"]


def test_the_page_of_foreign_pictures_alone_has_no_empty_sections() -> None:
    parsed = Parsed(draw(comparison(entry("a", row()))))
    sections = [attributes["id"] for name, attributes in parsed.tags if name == "section"]
    assert sections == ["samples", "verdict", "scores", "repeat"]


def test_values_that_are_no_numbers_are_left_out() -> None:
    nothing = [entry(name, row(value=math.nan), row("fd", 2.0, math.nan, math.inf)) for name in ("a", "b")]
    page = draw(comparison(*nothing))
    assert "nan" not in re.sub('base64,[^"]*', "", page).lower() and "inf" not in page.lower().replace("infin", "")
    assert "b comes closest" in draw(comparison(entry("a", row(value=math.nan)), entry("b", row(value=1.0))))


def test_page_values_are_plain_json() -> None:
    value = json.loads(json.dumps(nasty_comparison().to_json()))
    assert value["entries"][0]["name"] == NASTY and value["data"]["total"] == 10


# -- charts ------------------------------------------------------------------------------------------------------------
def test_bars_go_from_real_to_the_worst() -> None:
    lower = [row(value=1, low=0.5, high=1.5), row(value=3, low=2.5, high=4)]
    assert ends(lower) == (0.1, 4)
    higher = [row(value=0.6, better="higher", floor=0.9), row(value=0.3, better="higher", floor=0.9)]
    assert ends(higher) == (0.9, 0.3)
    assert ends([row(value=2, floor=None)]) == (0.0, 2)
    better_than_real = [row(value=0.95, better="higher", floor=0.9)]
    assert ends(better_than_real) == (0.9, 0.9)

    def width(value: float, real: float, worst: float) -> float:
        return float(
            re.findall(
                r'class="fill c0" x="0" y="2" width="([\d.]+)"', bar(value, None, real=real, worst=worst, place=0)
            )[0]
        )

    assert (
        width(2.05, 0.1, 4) == 50
        and width(0.6, 0.9, 0.3) == 50
        and width(0.95, 0.9, 0.9) < 1
        and width(9, 0.1, 4) == 100
    )


# -- records -----------------------------------------------------------------------------------------------------------
def test_records_of_strangers_are_passed_over(tmp_path: Path) -> None:
    lines = [
        "[1]",
        '"x"',
        '{"images_seen": "many", "seconds": 1, "a/loss": 2}',
        '{"images_seen": 1, "seconds": NaN, "a/loss": 2}',
        '{"images_seen": 2, "seconds": 1, "a/loss": 3, "a/other": true}',
        '{"images_seen": 3, "seconds": 2, "a/loss": Infinity}',
        "{torn",
    ]
    (tmp_path / "stats.jsonl").write_text("\n".join(lines))
    assert record.loss_curves(tmp_path) == [Curve("a/loss", (2.0,), (1.0,), (3.0,))]
    (tmp_path / "metrics.jsonl").write_text('{"images_seen": 5, "seconds": 1, "metric": ["x"], "value": 2}\n')
    assert [curve.values for curve in record.metric_curves(tmp_path)] == [(2.0,)]
    (tmp_path / "finished.json").write_text('{"seconds": "long", "images_seen": 1e400}')
    assert record.training_cost(tmp_path, {"device": 3}) == Cost(device="3")
    assert record.train_command({"options": [1]}, "digits") == ""


def test_the_command_repeats_what_differs_from_the_defaults() -> None:
    options = TrainOptions(model="dcgan/tiny", budget=600, conditional=True, settings={"network.width": 64},
                           data=DataOptions(resolution=(32, 48), channels=3))  # fmt: skip
    words = shlex.split(record.train_command({"options": options.to_json()}, "fashion-mnist"))
    assert words == ["zeuxis", "train", "fashion-mnist", "--model", "dcgan/tiny", "--budget", "10m", "--conditional",
                     "--set", "network.width=64", "--resolution", "48x32", "--channels", "3"]  # fmt: skip
    quoted = record.train_command({"options": TrainOptions(kimg=2.5).to_json()}, "my cats; rm")
    assert quoted == "zeuxis train 'my cats; rm' --model gan --kimg 2.5"


def test_what_stands_beside_foreign_pictures_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(
        '{"train_seconds": 60, "images_seen": 1000.0, "parameters": "many", "about": "a peer", "device": "cpu", "x": 1}'
    )
    cost, about = record.foreign_cost(tmp_path / "x.npz")
    assert (cost.train_seconds, cost.images_seen, cost.parameters, cost.device, about) == (
        60,
        1000,
        None,
        "cpu",
        "a peer",
    )
    assert isinstance(cost.images_seen, int)
    assert record.foreign_cost(tmp_path / "y.npz") == (Cost(), "")


def test_peaks_of_memory_start_anew() -> None:
    if not reset_peak(CPU):
        assert sys.platform != "linux"
        pytest.skip("this system does not let a process reset its peak")
    before = peak_bytes(CPU)
    assert before is not None
    block = np.ones(25_000_000)  # 200 MB
    block += 1
    del block
    high = peak_bytes(CPU)
    assert high is not None and 150e6 < high - before < 400e6
    assert reset_peak(CPU) and (peak_bytes(CPU) or math.inf) < high - 100e6


def test_the_largest_peak_of_all_sittings_stays(tmp_path: Path) -> None:
    for peak in (5, 9, 7, None):
        record.note_peak(tmp_path, peak)
    assert record.training_cost(tmp_path, {}).peak_bytes == 9


# -- pictures ----------------------------------------------------------------------------------------------------------
def test_planted_copies_are_the_suspects(digits: Dataset) -> None:
    copies = digits.train.take(np.arange(100, 100 + SUSPECTS))
    rng = np.random.default_rng(0)
    blurred = digits.train.take(np.arange(200, 300)) // 2 + rng.integers(0, 60, (100, 1, 8, 8), dtype=np.uint8)
    found = suspects(np.concatenate([blurred, copies]), digits, make_extractor("random", digits), 100)
    assert {each.tobytes() for each in found.samples} == {each.tobytes() for each in copies}
    np.testing.assert_array_equal(found.training, found.samples)
    assert max(found.to_training) < 1e-3 < found.usual


def test_real_pictures_are_laid_out_by_class(digits: Dataset) -> None:
    sheet = real_sheet(digits.test, digits.classes)
    assert sheet.rows == digits.classes and len(sheet.pixels) == 80
    first = digits.test.take(np.flatnonzero(digits.test.labels == 3)[:1])
    np.testing.assert_array_equal(sheet.pixels[24:25], first)
    assert real_sheet(digits.test, ()).rows == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [("nothing", r"RUN: got 'nothing'.*NAME=PICTURES"), ("peer=nowhere.npz", r"peer: got 'nowhere.npz'"),
     ("=x", r"RUN: got '=x'")],
)  # fmt: skip
def test_what_cannot_be_compared_is_one_line(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=said):
        parse_subject(text)


def test_foreign_pictures_have_the_name_that_was_given(pictures: Callable[..., np.ndarray], tmp_path: Path) -> None:
    np.savez(tmp_path / "a=b.npz", images=pictures())
    subject = parse_subject(f"their gan={tmp_path}/a=b.npz")
    assert (subject.kind, subject.name, subject.path) == ("pictures", "their gan", tmp_path / "a=b.npz")
