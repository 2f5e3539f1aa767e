"""The figure of the estimator study, as SVG: learning curves beside where gradients point."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement, tostring

WIDTH, HEIGHT, PANEL = 860, 330, 330
INKS = ("#1b1b1b", "#2a78d6", "#1a8a5a", "#c2410c", "#e0952b", "#8b3fa8")
DASHES = ("", "", "6 3", "", "2 3", "8 2 2 2")


@dataclass(frozen=True)
class Curve:
    """An arm: its mean success after each step, and the cosine of its mean gradient with the exact one."""

    name: str
    success: Sequence[float]
    cosines: Sequence[float]


def figure(curves: Sequence[Curve], targets: Sequence[float], steps: int) -> str:
    top = Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "viewBox": f"0 0 {WIDTH} {HEIGHT}",
            "font-family": "sans-serif",
            "font-size": "11",
        },
    )
    SubElement(top, "rect", {"width": str(WIDTH), "height": str(HEIGHT), "fill": "#ffffff"})
    _text(
        top,
        10,
        16,
        "Turn rewards speed learning up, except where they are normalised apart, turn by turn (MT-GRPO)",
        size="13",
    )
    left = _panel(top, 45, "success, exact (mean of 1,000 seeds)", (0.2, 0.4, 0.6, 0.8, 1.0), (0.0, steps), "step")
    for ink, dash, curve in zip(INKS, DASHES, curves, strict=True):
        _line(top, [left(step, value) for step, value in enumerate(curve.success)], ink, dash)
    for tick in (0, steps // 3, 2 * steps // 3, steps):
        x, _ = left(tick, 0.2)
        _text(top, x, 292, str(tick), anchor="middle")
    places = [0.0, 1.0, 2.0]
    right = _panel(
        top, 435, "cosine of mean gradient with that of success", (0.7, 0.8, 0.9, 1.0), (-0.2, 2.2), "measured at"
    )
    for ink, dash, curve in zip(INKS, DASHES, curves, strict=True):
        points = [right(place, value) for place, value in zip(places, curve.cosines, strict=True)]
        _line(top, points, ink, dash)
        for x, y in points:
            SubElement(top, "circle", {"cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": "3", "fill": ink})
    for place, target in zip(places, targets, strict=True):
        x, _ = right(place, 0.7)
        _text(top, x, 292, "start" if not target else f"success {target:g}", anchor="middle")
    for place, (ink, dash, curve) in enumerate(zip(INKS, DASHES, curves, strict=True)):
        y = 60 + 20 * place
        _line(top, [(742, y - 4), (762, y - 4)], ink, dash)
        _text(top, 767, y, curve.name, size="10")
    return tostring(top, encoding="unicode") + "\n"


def _panel(
    top: Element, left: float, title: str, ticks: Sequence[float], span: tuple[float, float], under: str
) -> Callable[[float, float], tuple[float, float]]:
    """Axes; what places a point in them."""
    width, low, high = 290.0, ticks[0], ticks[-1]

    def place(x: float, y: float) -> tuple[float, float]:
        return left + (x - span[0]) / (span[1] - span[0]) * width, 276 - (y - low) / (high - low) * (PANEL - 110)

    _text(top, left, 42, title)
    for tick in ticks:
        _, y = place(span[0], tick)
        _line(top, [(left, y), (left + width, y)], "#dddddd", "")
        _text(top, left - 6, y + 4, f"{tick:g}", anchor="end")
    _text(top, left + width / 2, 312, under, anchor="middle")
    return place


def _line(top: Element, points: Sequence[tuple[float, float]], ink: str, dash: str) -> None:
    told = {
        "points": " ".join(f"{x:.1f},{y:.1f}" for x, y in points),
        "fill": "none",
        "stroke": ink,
        "stroke-width": "1.8",
    }
    SubElement(top, "polyline", {**told, **({"stroke-dasharray": dash} if dash else {})})


def _text(top: Element, x: float, y: float, words: str, *, anchor: str = "start", size: str = "11") -> None:
    SubElement(top, "text", {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor, "font-size": size}).text = words
