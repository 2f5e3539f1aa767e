"""Plots as inline SVG. Colours, weights and type come from the page's style sheet, so that both colour schemes work.

Elements are built as trees and written by the standard library: what a plot shows cannot become markup.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from banty.report.wording import visible

WIDTH, HEIGHT = 360, 190
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 10, 34
MOST_POINTS = 400  # more than a chart has pixels for
QUARTERS = (0.0, 0.25, 0.5, 0.75, 1.0)
MOST_HINTS = 150  # points with a tooltip of their own


@dataclass(frozen=True)
class Line:
    """One value a step, None where it was not measured. `style` is a CSS class that sets --ink."""

    name: str
    values: Sequence[float | None]
    style: str = "c1"


@dataclass(frozen=True)
class Mark:
    """An estimate with the ends of its interval, each None where unknown."""

    style: str
    estimate: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Frame:
    """Data coordinates onto the drawing."""

    first: float
    last: float
    low: float
    high: float

    def x(self, step: float) -> float:
        span = (self.last - self.first) or 1.0
        return LEFT + (step - self.first) / span * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (value - self.low) / (self.high - self.low) * (HEIGHT - TOP - BOTTOM)


def window_of(num_steps: int) -> int:
    """How many neighbouring steps the mean of a line chart is over: odd, about a tenth of the run."""
    return 1 if num_steps < 5 else max(3, num_steps // 10 // 2 * 2 + 1)


def moving_mean(values: Sequence[float | None], window: int) -> list[float | None]:
    """The mean of the `window` steps around each one, fewer at the ends; None where a step has no value itself."""
    half = window // 2
    means: list[float | None] = []
    for place, value in enumerate(values):
        near = [one for one in values[max(0, place - half) : place + half + 1] if one is not None]
        means.append(math.fsum(near) / len(near) if value is not None else None)
    return means


def line_chart(
    title: str, steps: Sequence[int], lines: Sequence[Line], bounds: tuple[float, float] | None = None
) -> str:
    """Values over steps: each step faint, a moving mean over them in full colour."""
    found = [value for line in lines for value in line.values if value is not None]
    low, high = bounds or _bounds(found)
    frame = Frame(steps[0], steps[-1], low, high)
    picture = _picture(title, "chart")
    _axes(picture, frame)
    window = window_of(len(steps))
    for line in lines:
        group = ElementTree.SubElement(picture, "g", {"class": line.style})
        for kind, values in (("raw", line.values), ("mean", moving_mean(line.values, window))):
            if kind == "raw" and window == 1:
                continue
            for run in _runs(steps, values):
                ElementTree.SubElement(group, "polyline", {"class": kind, "points": _points(frame, run)})
        if len(steps) <= MOST_HINTS:
            for step, value in zip(steps, line.values, strict=True):
                if value is not None:
                    spot = _spot(group, frame.x(step), frame.y(value), 2.0 if window == 1 else 3.5)
                    spot.set("class", "dot" if window == 1 else "hint")
                    _title(spot, f"step {step}: {line.name} {value:.4g}")
    return _written(picture)


def stacked_chart(title: str, steps: Sequence[int], layers: Sequence[Line]) -> str:
    """Shares of a whole over steps, one upon the other; the first lies at the bottom. A missing value is nothing."""
    places = _thinned(range(len(steps)))
    floor = [0.0] * len(steps)
    tops: list[tuple[Line, list[float], list[float]]] = []
    for layer in layers:
        top = [below + (value or 0.0) for below, value in zip(floor, layer.values, strict=True)]
        tops.append((layer, floor, top))
        floor = top
    frame = Frame(steps[0], steps[-1], *_bounds([0.0, *floor]))
    picture = _picture(title, "chart")
    _axes(picture, frame)
    for layer, below, above in tops:
        ring = [(frame.x(steps[at]), frame.y(above[at])) for at in places]
        ring += [(frame.x(steps[at]), frame.y(below[at])) for at in reversed(places)]
        if len(steps) == 1:  # one step has no width of its own
            ring = [(x, y) for y in (frame.y(above[0]), frame.y(below[0])) for x in (LEFT, WIDTH - RIGHT)]
            ring[2], ring[3] = ring[3], ring[2]
        group = ElementTree.SubElement(picture, "g", {"class": layer.style})
        area = ElementTree.SubElement(group, "polygon", {"class": "area", "points": _pairs(ring)})
        _title(area, layer.name)
    return _written(picture)


UNIT = (0.0, 1.0)


def interval_strip(title: str, marks: Sequence[Mark], bounds: tuple[float, float] = UNIT) -> str:
    """Dots with their intervals on a line between `bounds`, one under the other; as wide as its place on the page."""
    height = 10 + 14 * max(len(marks), 1)
    picture = _picture(title, "strip", f"{height}")
    _grid(picture, height)
    for place, mark in enumerate(marks):
        y = f"{12 + 14 * place}"
        group = ElementTree.SubElement(picture, "g", {"class": mark.style})
        if mark.low is not None and mark.high is not None:
            ends = {"x1": _percent(mark.low, bounds), "x2": _percent(mark.high, bounds), "y1": y, "y2": y}
            ElementTree.SubElement(group, "line", {"class": "interval", **ends})
        if mark.estimate is not None:
            ElementTree.SubElement(
                group, "circle", {"class": "estimate", "cx": _percent(mark.estimate, bounds), "cy": y, "r": "4"}
            )
    return _written(picture)


def scale_strip(bounds: tuple[float, float] = UNIT) -> str:
    """The axis of the strips above it."""
    low, high = bounds
    picture = _picture(f"Scale from {low:g} to {high:g}", "strip scale", "18")
    for part in QUARTERS:
        place = {"x": _percent(part), "y": "13", "text-anchor": "middle", "class": "tick"}
        ElementTree.SubElement(picture, "text", place).text = f"{low + part * (high - low):g}"
    return _written(picture)


def ticks(low: float, high: float, count: int = 5, whole: bool = False) -> list[float]:
    """Round numbers from `low` to `high`: steps of 1, 2 or 5 times a power of ten, about `count` of them."""
    rough = (high - low) / max(count, 1)
    if rough <= 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(size * power for size in (1.0, 2.0, 5.0, 10.0) if size * power >= rough * 0.999)
    if whole:
        step = max(1.0, round(step))
    first = math.ceil(low / step - 1e-9)
    return [place * step for place in range(first, math.floor(high / step + 1e-9) + 1)]


def _bounds(values: Sequence[float]) -> tuple[float, float]:
    """Ends of an axis that hold all values, on round numbers; from 0 where nothing is below."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    low = min(low, 0.0) if low >= 0.0 else low
    if high - low < 1e-12:
        return (low, low + 1.0) if low == 0.0 else (low - abs(low) * 0.5, low + abs(low) * 0.5)
    marks = ticks(low, high)
    step = marks[1] - marks[0] if len(marks) > 1 else high - low
    return math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step


def _picture(title: str, style: str, height: str = "") -> Element:
    """An SVG with a name: charts keep their proportions, strips are as wide as their place and `height` high."""
    size = {"width": "100%", "height": height} if height else {"viewBox": f"0 0 {WIDTH} {HEIGHT}"}
    picture = Element("svg", {"class": style, "role": "img", "aria-label": visible(title), **size})
    _title(picture, title)
    return picture


def _title(parent: Element, text: str) -> None:
    ElementTree.SubElement(parent, "title").text = visible(text)


def _axes(picture: Element, frame: Frame) -> None:
    marks = ticks(frame.low, frame.high)
    step = marks[1] - marks[0] if len(marks) > 1 else 1.0
    for value in marks:
        y = frame.y(value)
        _line(picture, "grid", LEFT, y, WIDTH - RIGHT, y)
        _label(picture, LEFT - 6, y + 3.5, _tick_label(value, step), "end")
    for value in ticks(frame.first, frame.last, 5, whole=True):
        x = frame.x(value)
        _line(picture, "axis", x, HEIGHT - BOTTOM, x, HEIGHT - BOTTOM + 4)
        _label(picture, x, HEIGHT - BOTTOM + 15, f"{value:.0f}", "middle")
    _line(picture, "axis", LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM)
    _label(picture, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 5, "step", "middle")


def _tick_label(value: float, step: float) -> str:
    if value == 0.0:
        return "0"
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k" if abs(value) < 1e6 else f"{value:.1e}"
    if step < 1e-3:
        return f"{value:.0e}".replace("e-0", "e-")
    return f"{value:.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"


def _grid(picture: Element, height: int) -> None:
    for value in QUARTERS:
        ends = {"x1": _percent(value), "x2": _percent(value), "y1": "0", "y2": str(height)}
        ElementTree.SubElement(picture, "line", {"class": "grid", **ends})


def _percent(value: float, bounds: tuple[float, float] = UNIT) -> str:
    """A place on a strip; the ends keep room for a dot."""
    low, high = bounds
    return f"{2 + 96 * min(max((value - low) / (high - low), 0.0), 1.0):.2f}%"


def _line(parent: Element, style: str, x1: float, y1: float, x2: float, y2: float) -> None:
    ends = {"x1": f"{x1:.1f}", "y1": f"{y1:.1f}", "x2": f"{x2:.1f}", "y2": f"{y2:.1f}"}
    ElementTree.SubElement(parent, "line", {"class": style, **ends})


def _label(parent: Element, x: float, y: float, text: str, anchor: str) -> None:
    place = {"class": "tick", "x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor}
    ElementTree.SubElement(parent, "text", place).text = text


def _spot(parent: Element, x: float, y: float, radius: float) -> Element:
    return ElementTree.SubElement(parent, "circle", {"cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": f"{radius}"})


def _runs(steps: Sequence[int], values: Sequence[float | None]) -> Iterator[list[tuple[int, float]]]:
    """The stretches without a gap, thinned to what can be seen."""
    run: list[tuple[int, float]] = []
    for step, value in zip(steps, values, strict=True):
        if value is not None:
            run.append((step, value))
        elif run:
            yield [run[at] for at in _thinned(range(len(run)))]
            run = []
    if run:
        yield [run[at] for at in _thinned(range(len(run)))]


def _thinned(places: range) -> list[int]:
    stride = max(1, math.ceil(len(places) / MOST_POINTS))
    kept = list(places[::stride])
    return kept if not kept or kept[-1] == places[-1] else [*kept, places[-1]]


def _points(frame: Frame, run: Sequence[tuple[int, float]]) -> str:
    return _pairs([(frame.x(step), frame.y(value)) for step, value in run])


def _pairs(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _written(picture: Element) -> str:
    return ElementTree.tostring(picture, encoding="unicode")
