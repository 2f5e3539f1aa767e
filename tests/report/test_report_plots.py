"""Plots: well-formed whatever they are given, and points where the numbers say."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import pytest

from banty.report.plots import (
    MOST_POINTS,
    Frame,
    Line,
    Mark,
    interval_strip,
    line_chart,
    moving_mean,
    stacked_chart,
    ticks,
    window_of,
)


def test_ticks_are_round_and_inside() -> None:
    assert ticks(0.0, 1.0) == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert ticks(-0.06, 0.0) == pytest.approx([-0.06, -0.04, -0.02, 0.0])
    assert ticks(0, 3, 5, whole=True) == [0.0, 1.0, 2.0, 3.0]
    assert ticks(2.0, 2.0) == [2.0]
    for low, high in ((0.0, 7e-5), (0.0, 123456.0), (-3.0, 11.0)):
        found = ticks(low, high)
        assert 3 <= len(found) <= 7
        assert low - 1e-12 <= found[0] <= found[-1] <= high + 1e-12


def test_a_moving_mean_is_centred_and_keeps_gaps() -> None:
    assert moving_mean([1.0, 2.0, 6.0, None, 4.0], 3) == [1.5, 3.0, 4.0, None, 4.0]
    assert [window_of(count) for count in (1, 4, 5, 37, 100, 400)] == [1, 1, 3, 3, 11, 41]


def test_points_are_where_the_numbers_say() -> None:
    chart = ElementTree.fromstring(line_chart("Success", [0, 1, 2], [Line("success", [0.0, 0.5, 1.0])], (0.0, 1.0)))
    frame = Frame(0, 2, 0.0, 1.0)
    dots = list(chart.iter("circle"))
    assert [float(dot.attrib["cx"]) for dot in dots] == pytest.approx([frame.x(step) for step in range(3)], abs=0.06)
    assert [float(dot.attrib["cy"]) for dot in dots] == pytest.approx([frame.y(0.5 * at) for at in range(3)], abs=0.06)
    assert [title.text for title in chart.iter("title")][1] == "step 0: success 0"


@pytest.mark.parametrize(
    "values", [[None] * 6, [0.0] * 6, [3.0, None, 3.0, 3.0, None, 3.0], [1e-9 * step for step in range(6)], [-5.0] * 6]
)
def test_charts_of_gaps_constants_and_tiny_numbers(values: list[float | None]) -> None:
    for steps, shown in ((list(range(6)), values), ([3], values[:1])):
        for chart in (line_chart("x", steps, [Line("a", shown)]), stacked_chart("x", steps, [Line("a", shown)] * 2)):
            picture = ElementTree.fromstring(chart)
            numbers = [
                float(number)
                for element in picture.iter()
                for pair in element.get("points", "").split()
                for number in pair.split(",")
            ]
            assert all(math.isfinite(number) for number in numbers)


def test_long_runs_are_thinned_and_end_where_they_end() -> None:
    count = 10 * MOST_POINTS + 3
    chart = ElementTree.fromstring(line_chart("x", range(count), [Line("a", [float(step) for step in range(count)])]))
    lines = [line.attrib["points"].split() for line in chart.iter("polyline")]
    assert all(len(line) <= MOST_POINTS + 2 for line in lines)
    assert all(line[-1].split(",")[0] == f"{Frame(0, count - 1, 0, 1).x(count - 1):.1f}" for line in lines)
    assert not list(chart.iter("circle"))


def test_text_cannot_become_markup() -> None:
    planted = "<script>\x1b\ud800\ufffe"
    for chart in (
        interval_strip(planted, [Mark("after", 0.5, 0.1, 2.0), Mark("before", None)]),
        line_chart(planted, [0], [Line(planted, [1.0])]),
        stacked_chart(planted, [0], [Line(planted, [1.0])]),
    ):
        assert "<script" not in chart
        assert "<script>␛" in str(ElementTree.fromstring(chart).get("aria-label"))
