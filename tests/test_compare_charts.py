"""Scales, ticks, curves and colours of the page of a comparison."""

from __future__ import annotations

import re
from importlib.resources import files

import numpy as np

from zeuxis.compare.charts import Line, Scale, Top, curves, scale_for, ticks, time_ticks


def luminance(colour: str) -> float:
    """Relative luminance of `#rrggbb` (WCAG 2)."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_colours_have_contrast_in_both_themes() -> None:
    text = files("zeuxis.compare").joinpath("page.css").read_text()
    light, dark = (dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", part)) for part in text.split("@media")[:2])
    for theme in (light, dark):
        assert len(theme) == 14
        for name, least in [("ink", 7.0), ("soft", 4.5), *((f"p{place}", 3.0) for place in range(8))]:
            for ground in ("paper", "card"):
                pair = sorted((luminance(theme[name]), luminance(theme[ground])))
                assert (pair[1] + 0.05) / (pair[0] + 0.05) >= least, (name, ground)


def test_ticks_are_round_and_inside() -> None:
    assert ticks(0, 0.023) == [0, 0.005, 0.01, 0.015, 0.02]
    assert ticks(-1, 1, 4) == [-1, -0.5, 0, 0.5, 1]
    assert ticks(3, 3) == [3]
    assert time_ticks(0, 20) == [0, 5, 10, 15, 20] and time_ticks(0, 600) == [0, 120, 240, 360, 480, 600]


def test_scales_bend_only_over_decades() -> None:
    straight = scale_for([1.0, 2.0, 3.0], True)
    assert not straight.bend and straight(1.0) < straight(2.0) < straight(3.0)
    bent = scale_for([100.0, 10.0, 1.0, 0.1, -0.05], True)
    assert bent.bend and 0 in bent.ticks() and bent(0.0) < bent(0.1) < bent(1.0) < bent(10.0) <= 1
    assert Scale(1.0, 1.0)(1.0) == 0.5
    spiked = scale_for([*np.linspace(1, 2, 99).tolist(), 1000.0], False)
    assert 2 < spiked.high < 3 and spiked(1000.0) == 1


def test_curves_cope_with_nothing_one_point_and_equal_values() -> None:
    assert curves([Line("a", 0, (), ())], title="t", x_name="x") == ""
    for values in ((1.0,), (2.0, 2.0), (0.0, 0.0)):
        chart = curves([Line("a", 0, range(1, len(values) + 1), values)], title="t", x_name="x",
                       top=Top("time", (0, 2), (0.0, 2.0)))  # fmt: skip
        assert "nan" not in chart and "t over x: a ends at" in chart
