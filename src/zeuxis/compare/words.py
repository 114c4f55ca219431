"""Numbers and metrics in words."""

from __future__ import annotations

import re
from collections.abc import Sequence

from zeuxis.evaluation import Row

# What a metric says, by its name without extractor and numbers; one that is not here has its title alone.
MEANINGS: dict[str, str] = {
    "fd": "how far the middle and the spread of the features lie from those of real pictures",
    "fd_inf": "the same, without what a limited number of pictures adds",
    "kid": "how well samples and real pictures can be told apart; fair to small numbers too",
    "precision": "share of the samples that could pass for a real picture",
    "recall": "share of the real pictures that the model could have made",
    "density": "how close the samples crowd around real pictures",
    "coverage": "share of the real pictures that have a sample beside them",
    "diversity": "how different two samples are, with real pictures at 1",
    "classifier_score": "sure about each sample, and every class equally often",
    "accuracy_score": "what a classifier learns from the samples, tried on real pictures",
    "copy_rate": "more samples near training pictures than chance explains",
    "duplicate_rate": "more samples near each other than chance explains",
    "auth_pct": "samples that are not copies of one training picture with a little noise",
    "c_t": "whether samples sit nearer to the training pictures than new pictures do",
    "bpd": "how surprising real pictures are to the model",
    "reconstruction_psnr": "real pictures through the model and back",
}
CAPABILITY_WORDS: dict[str, str] = {
    "encode": "turn a picture into a code",
    "decode": "turn a code into a picture",
    "reconstruct": "redraw a given picture",
    "log_likelihood": "say how likely a picture is",
    "complete": "fill in the rest of a picture",
    "predict": "go on with a sequence",
    "classify": "name the class of a picture",
    "--class": "make a wanted class",
    "--truncation": "trade variety for safety by truncation",
    "--temperature": "trade variety for safety by temperature",
}


def metric_key(row: Row) -> str:
    """`fd10k_dataset` -> `fd`, `recall_k3_dataset` -> `recall`: without extractor, pictures and neighbours counted."""
    return re.sub(r"(\d+k?|_k\d+)$", "", row.metric.removesuffix(f"_{row.extractor}"))


def metric_words(row: Row) -> tuple[str, str]:
    """What a row's metric is called, with a capital, and one line about it or ""."""
    title = row.title or metric_key(row)
    return title[:1].upper() + title[1:], MEANINGS.get(metric_key(row), "")


def metric_name(row: Row) -> str:
    """The name in the middle of a sentence: without what the title has in brackets."""
    title = re.sub(r" \([^()]*\)$", "", row.title or metric_key(row))
    return title if title.startswith(("Fréchet", "Inception")) else title[:1].lower() + title[1:]


def number(value: float) -> str:
    """Three digits: `0.0123`, `9.20`, `1,230`; a real minus sign."""
    text = f"{value:,.0f}" if abs(value) >= 100 or not value else f"{value:#.3g}"
    return text.replace("-", "\N{MINUS SIGN}")


def interval(row: Row) -> str:
    """`9.1 to 9.4`, or "" where there is none."""
    return f"{number(row.interval[0])} to {number(row.interval[1])}" if row.interval else ""


def valued(row: Row) -> str:
    """`9.23 (9.1 to 9.4)`."""
    return f"{number(row.value)} ({interval(row)})" if row.interval else number(row.value)


def listed(names: Sequence[str], last: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {last} {names[-1]}"


def ability(name: str) -> str:
    """What a capability lets one do."""
    return CAPABILITY_WORDS.get(name, name.replace("_", " "))


def times(ratio: float) -> str:
    """How many times more, in as few digits as make sense."""
    return f"{ratio:.2f}" if ratio < 1.95 else f"{ratio:.1f}" if ratio < 9.95 else f"{ratio:,.0f}"


def clock(seconds: float) -> str:
    """`45 s`, `5 min`, `1 h 20 min`."""
    if seconds < 100:
        return f"{seconds:.3g} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def counted(value: float) -> str:
    """`950`, `45k`, `1.2M`: for axes."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def megabytes(size: float) -> str:
    """`3.4 MB`."""
    return f"{size / 1e6:.3g} MB" if size < 1e9 else f"{size / 1e9:.3g} GB"
