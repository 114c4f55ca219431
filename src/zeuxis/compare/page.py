"""The comparison as one HTML page: no script, no request, every name escaped."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from zeuxis.compare.charts import Line, Top, curves, strip, time_ticks
from zeuxis.compare.entries import Comparison, Curve, Entry, Neighbours, Pixels, Sheet
from zeuxis.compare.html import Html, css, join, named, picture, tag
from zeuxis.compare.tables import abilities_table, cost_table, score_table
from zeuxis.compare.verdict import deciding, rank, verdict
from zeuxis.compare.words import clock, listed, metric_words, number, valued

# Nothing may be loaded or run; pictures and styles are inside the page.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
CELL = 54  # CSS pixels that a small picture is enlarged to, about
LARGEST = 96


def draw(comparison: Comparison) -> str:
    """The whole page."""
    words = verdict(comparison)
    sections = [
        ("samples", "Samples", _about_samples(comparison), _samples(comparison)),
        ("verdict", "Why", None, _findings(words.findings)),
        ("scores", "Scores", _about_scores(comparison), _scores(comparison.entries)),
        ("curves", "Training", "Lower is better. Only pictures cut from the training split are used here.",
         _curves(comparison.entries)),
        ("neighbours", "Nearest real pictures", ABOUT_NEIGHBOURS, _neighbours(comparison.entries)),
        ("cost", "Speed, memory and size", None, cost_table(comparison.entries)),
        ("abilities", "What each can do", None, abilities_table(comparison.entries)),
        ("repeat", "To repeat it", None, _repeat(comparison)),
    ]  # fmt: skip
    shown = [section for section in sections if section[3]]
    nav = tag("nav", [tag("a", title, href=f"#{name}") for name, title, _, _ in shown], aria_label="Sections")
    title = tag("h1", words.headline)
    header = tag(
        "header", tag("p", "Zeuxis compares", class_="kicker"), title, _lede(comparison), _ranked(comparison), nav
    )
    body = [
        tag("section", tag("h2", title, id=f"{name}-title"), tag("p", about, class_="soft") if about else None, content,
            id=name, aria_labelledby=f"{name}-title")
        for name, title, about, content in shown
    ]  # fmt: skip
    head = tag(
        "head", tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", **{"http-equiv": "Content-Security-Policy"}, content=POLICY),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", f"{comparison.data.name}: {listed([entry.name for entry in comparison.entries])} compared"),
        css(files("zeuxis.compare").joinpath("page.css").read_text(encoding="utf-8")),
    )  # fmt: skip
    page = tag("div", header, tag("main", body), _footer(comparison), class_="page")
    return "<!doctype html>\n" + tag("html", head, tag("body", page), lang="en") + "\n"


def _lede(comparison: Comparison) -> Html:
    data = comparison.data
    classes = f", {len(data.classes)} classes" if data.classes else ""
    text = f"{data.name}: {data.train:,} pictures to train on, {data.held_out:,} held out to judge by{classes}."
    return tag("p", text, class_="lede")


def _ranked(comparison: Comparison) -> Html:
    """All entries on one line by the metric that decides, the best on top, with the mark of real pictures."""
    entries = comparison.entries
    wanted = deciding(entries)
    ranking = rank(entries, wanted) if wanted else None
    if ranking is None:
        return Html("")
    pairs = [*ranking.first, *ranking.behind]
    real = ranking.row.floor
    ends = [end for _, row in pairs for end in (row.value, *(row.interval or ()))] + ([] if real is None else [real])
    rows = [
        tag("div", tag("span", chip(place), tag("span", named(entry.name), class_="name")),
            strip(row.value, row.interval, real=real, low=min(ends), high=max(ends), place=place),
            tag("span", valued(row)), class_="row")
        for entry, row in pairs for place in [entries.index(entry)]
    ]  # fmt: skip
    mark = "" if real is None else f" The dashed mark is where as many other real pictures are, {number(real)}."
    number_of = f"{ranking.row.num:,} pictures on each side"
    about = f"{metric_words(ranking.row)[0]} with its 95% interval, {number_of}; {ranking.row.better} is better.{mark}"
    return tag("div", tag("p", about, class_="soft"), rows, class_="rank")


def _findings(findings: Sequence[tuple[str, str]]) -> Html:
    return tag("dl", [[tag("dt", lead), tag("dd", named(text))] for lead, text in findings], class_="findings")


def chip(place: int) -> Html:
    """The colour of an entry."""
    return tag("span", class_=f"chip c{place % 8}", aria_hidden="true")


# -- pictures ----------------------------------------------------------------------------------------------------------
def _about_samples(comparison: Comparison) -> str:
    by_class = any(entry.samples.rows for entry in comparison.entries)
    same = "The first pictures of the same seeds, none picked."
    return f"{same} Where a model knows classes, each row is a class and each column a seed." if by_class else same


def _samples(comparison: Comparison) -> Html:
    real = _sheet(comparison.reals, "Real pictures", "held out", None)
    own = [_sheet(entry.samples, entry.name, entry.about, place) for place, entry in enumerate(comparison.entries)]
    return tag("div", real, own, class_="sheets")


def _sheet(sheet: Sheet, name: str, about: str, place: int | None) -> Html:
    caption = tag("figcaption", chip(place) if place is not None else None, tag("b", named(name), class_="name"),
                  tag("span", about))  # fmt: skip
    seeds = sheet.seeds or (None,) * len(sheet.pixels)
    images = [_image(pixels, name, seed) for pixels, seed in zip(sheet.pixels, seeds, strict=True)]
    label = f"{len(images)} pictures: {name}"
    if not sheet.rows:
        content = tag("div", images, class_=f"flow {_kind(sheet.pixels)}", role="img", aria_label=label)
    else:
        each = len(images) // len(sheet.rows)
        rows = [
            [tag("span", row),
             tag("div", images[index * each : (index + 1) * each], class_=f"flow one {_kind(sheet.pixels)}",
                 style=f"--h: {_side(sheet.pixels)}px", role="img", aria_label=f"{name}, class {row}")]
            for index, row in enumerate(sheet.rows)
        ]  # fmt: skip
        content = tag("div", rows, class_="by-class")
    return tag("figure", caption, content)


def _image(pixels: Pixels, name: str, seed: int | None = None) -> Html:
    """One picture inside a group that has the words for it; a generated one carries the mark that it is synthetic."""
    mark = None if seed is None else {"Software": "Zeuxis", "Synthetic": "true", "Model": name, "Seed": str(seed)}
    return picture(pixels, alt="", scale=_scale(pixels), most=LARGEST, mark=mark)


def _scale(pixels: Pixels) -> int:
    return max(1, round(CELL / max(pixels.shape[-2:])))


def _side(pixels: Pixels) -> int:
    """Height in CSS pixels of a picture of `[N, C, H, W]` on the page."""
    height, longest = pixels.shape[-2], max(pixels.shape[-2:])
    return height * _scale(pixels) if longest <= LARGEST else round(height * LARGEST / longest)


def _kind(pixels: Pixels) -> str:
    """Small pictures are enlarged by whole pixels, transparent ones lie on a chequerboard."""
    pixel = "pixel" if max(pixels.shape[-2:]) <= LARGEST else ""
    return f"{pixel} checks".strip() if pixels.shape[1] == 4 else pixel


ABOUT_NEIGHBOURS = (
    "The samples most suspected of being copies: of all that were searched, those nearest to a training picture by how "
    "near a held-out picture is. A copy looks like its training picture in every detail; a new picture does not."
)


def _neighbours(entries: Sequence[Entry]) -> Html:
    figures = [_near(entry, entry.neighbours, place) for place, entry in enumerate(entries) if entry.neighbours]
    return tag("div", figures, class_="near") if figures else Html("")


def _near(entry: Entry, near: Neighbours, place: int) -> Html:
    ratios = f"{number(near.to_training[0])} to {number(max(near.to_training))}" if len(near.to_training) else ""
    about = (f"distance to training {ratios}; of held-out pictures usually {number(near.usual)} "
             f"(features: {near.extractor})")  # fmt: skip
    rows = [
        [tag("span", name),
         tag("div", [_image(each, entry.name, 0 if synthetic else None) for each in pixels],
             class_=f"flow one {_kind(pixels)}", style=f"--h: {_side(pixels)}px", role="img",
             aria_label=f"{entry.name}: {name}")]
        for name, pixels, synthetic in (
            ("sample", near.samples, entry.capabilities is not None), ("nearest training", near.training, False),
            ("nearest held out", near.held_out, False),
        )
    ]  # fmt: skip
    caption = tag("figcaption", chip(place), tag("b", named(entry.name), class_="name"), tag("span", about))
    return tag("figure", caption, tag("div", rows, class_="duo"))


# -- curves ------------------------------------------------------------------------------------------------------------
def _curves(entries: Sequence[Entry]) -> Html:
    names = dict.fromkeys(curve.name for entry in entries for curve in entry.curves if curve.values)
    charts = [chart for name in names for chart in _metric_charts(name, entries)]
    charts += [_loss_chart(entry, place) for place, entry in enumerate(entries) if any(c.values for c in entry.losses)]
    return tag("div", charts, class_="charts") if charts else Html("")


def _metric_charts(name: str, entries: Sequence[Entry]) -> list[Html]:
    """The same metric of all over images, and over time."""
    found = [
        (place, entry, curve) for place, entry in enumerate(entries) for curve in entry.curves if curve.name == name
    ]
    legend = _legend([(entry.name, place, 0) for place, entry, _ in found])
    over_images = [Line(entry.name, place, curve.images, curve.values) for place, entry, curve in found]
    over_time = [Line(entry.name, place, curve.seconds, curve.values) for place, entry, curve in found]
    title = f"The score that chooses the model ({name})"
    return [
        _panel(f"{title}, over images", curves(over_images, title=name, x_name="images seen"), legend),
        _panel(
            f"{title}, over time",
            curves(over_time, title=name, x_name="time", x_text=clock, x_ticks=time_ticks),
            legend,
        ),
    ]


def _loss_chart(entry: Entry, place: int) -> Html:
    """The losses of one model, over images below and time above: losses of two families cannot be compared."""
    shown: list[Curve] = [curve for curve in entry.losses if curve.values]
    lines = [Line(curve.name, place, curve.images, curve.values, dash) for dash, curve in enumerate(shown)]
    top = Top("time", shown[0].images, shown[0].seconds)
    chart = curves(lines, title=f"Losses of {entry.name}", x_name="images seen", top=top)
    legend = _legend([(curve.name, place, dash) for dash, curve in enumerate(shown)])
    return _panel(f"Losses of {entry.name}", chart, legend)


def _panel(title: str, chart: Html, legend: Html) -> Html:
    return tag("figure", tag("h3", title), chart, legend)


def _legend(items: Sequence[tuple[str, int, int]]) -> Html:
    marks = [
        tag("li", tag("svg", tag("path", d="M0 4H30", class_=f"d{dash % 4}"), viewBox="0 0 30 8", aria_hidden="true"),
            name, class_=f"c{place % 8}")
        for name, place, dash in items
    ]  # fmt: skip
    return tag("ul", marks, class_="legend")


# -- the rest ----------------------------------------------------------------------------------------------------------
def _about_scores(comparison: Comparison) -> str:
    rows = [row for entry in comparison.entries for row in entry.rows]
    if not rows:
        return "Nothing was measured."
    counts = listed([f"{num:,}" for num in dict.fromkeys(row.num for row in rows)])
    drawn = max((len(row.seeds) for row in rows), default=0)
    draws = f" Each model was sampled {drawn} times; the values are means, the ranges hold the true value with 95%." \
        if drawn > 1 else " Ranges hold the true value with 95%."  # fmt: skip
    return (f"{counts} pictures on each side.{draws} A bar shows how far a value is from that of real pictures, "
            "compared with the worst here: shorter is better. Bold is best, where intervals say so.")  # fmt: skip


def _scores(entries: Sequence[Entry]) -> Html:
    """Against held-out pictures, and folded away against the training pictures, as older papers have it."""
    other = score_table(entries, "train")
    folded = tag("details", tag("summary", "the same against the training pictures, as many papers have it"), other)
    return join(score_table(entries), folded if other else None)


def _repeat(comparison: Comparison) -> Html:
    whole = [tag("pre", tag("code", comparison.command), tabindex="0")] if comparison.command else []
    parts = []
    for place, entry in enumerate(comparison.entries):
        lines = "\n".join(entry.commands)
        settings = [tag("li", tag("code", f"{key} = {value}")) for key, value in entry.settings.items()]
        details = tag("details", tag("summary", "all settings"), tag("ul", settings, class_="settings"))
        parts.append(tag("div", tag("h3", chip(place), tag("span", named(entry.name), class_="name")),
                         tag("pre", tag("code", lines), tabindex="0"), details if settings else None,
                         class_="repeat"))  # fmt: skip
    return join(whole, parts)


def _footer(comparison: Comparison) -> Html:
    rows = [row for entry in comparison.entries for row in entry.rows]
    extractors = dict.fromkeys(f"{row.extractor} {row.extractor_sha256[:16]}" for row in rows)
    features = f"Features: {', '.join(extractors)} (name and start of the weights' SHA-256). " if extractors else ""
    seeds = next((row.seeds for row in rows if row.seeds), ())
    drawn = f"Sampling seeds from {', '.join(f'{seed:,}' for seed in seeds)}. " if seeds else ""
    judged = f"{features}{drawn}Data fingerprint {comparison.data.fingerprint}."
    made = f"Made {comparison.made} with {comparison.machine}. The samples on this page are synthetic."
    return tag("footer", tag("p", judged), tag("p", made))
