"""The section about training: what each step logged, as curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from banty.report.plots import Line, line_chart, stacked_chart, window_of
from banty.report.results import Sheet
from banty.report.source import Source
from banty.report.wording import finite, seconds

Values = list[float | None]


@dataclass(frozen=True)
class Key:
    """An entry of a chart's legend."""

    style: str
    text: str


@dataclass(frozen=True)
class Chart:
    """A picture with its title and, where it needs one, a legend."""

    title: str
    svg: str
    legend: tuple[Key, ...] = ()


PLAIN = (
    ("rollout/turns", "Turns an episode"),
    ("train/entropy", "Entropy of the policy, nats a token"),
    ("train/loss", "Loss"),
    ("train/grad_norm", "Norm of the gradient"),
    ("mismatch/abs", "Sampler against trainer, mean |log ratio|"),
    ("credit/corr", "Correlation of advantage and outcome"),
    ("credit/dead_turns", "Share of turns without an advantage"),
    ("credit/push", "Push on length"),
    ("rewards/corr", "Correlation of turn rewards and outcome"),
    ("train/learning_rate", "Learning rate"),
)
FLAT_SAYS_NOTHING = ("train/learning_rate", "credit/push")
TROUBLES = (
    ("rollout/errored", "errored", "c2"),
    ("rollout/truncated", "hit a cap", "c1"),
    ("rollout/cut_answers", "answers cut short", "c4"),
)
MOST_TIERS = 8
"""Lines that can be told apart."""
PHASES = {
    "sample": ("sampling", "c1"),
    "score": ("scoring", "c4"),
    "train": ("training", "c2"),
    "publish": ("publishing", "c5"),
    "store": ("storing", "c3"),
}


def charts_of(source: Source) -> list[Chart]:
    """The curves there are metrics for, what matters most first."""
    rows, steps = source.rows, [row["step"] for row in source.rows]
    if not rows:
        return []
    charts = []
    success = _column(rows, "rollout/success")
    if _known(success):
        title = "Success of training episodes"
        charts.append(Chart(title, line_chart(title, steps, [Line("success", success)], (0.0, 1.0))))
    tokens = _ratio(rows, "tokens/sampled", "rollout/episodes")
    for metric, title in PLAIN:
        values = _column(rows, metric)
        constant = metric in FLAT_SAYS_NOTHING and len({value for value in values if value is not None}) < 2
        if _known(values) and not constant:
            charts.append(Chart(title, line_chart(title, steps, [Line(title, values)])))
        if metric == "rollout/turns" and _known(tokens):
            title = "Sampled tokens an episode"
            charts.append(Chart(title, line_chart(title, steps, [Line(title, tokens)])))
    charts += _trouble(rows, steps)
    flat = _ratio(rows, "group/zero_variance", "group/num_groups")
    if _known(flat):
        title = "Share of groups that taught nothing"
        charts.append(Chart(title, line_chart(title, steps, [Line("share of groups", flat)], (0.0, 1.0))))
    charts += _by_tier(rows, steps, "credit/share_", "Share of the gradient, by tier")
    if len({value for value in _column(rows, "rewards/version") if value is not None}) > 1:
        charts += _by_tier(rows, steps, "rewards/value_", "Value of a turn, by tier")
    return charts + _phases(rows, steps)


def trouble_words(source: Source) -> str:
    """A sentence for what no chart shows: that nothing went wrong."""
    logged = [source.total(metric) for metric, _, _ in TROUBLES]
    if not any(value is not None for value in logged) or any(logged):
        return ""
    return "No training episode errored, hit a cap or had an answer cut."


def curve_words(source: Source) -> str:
    """How to read the curves."""
    window = window_of(len(source.rows))
    mean = f"Lines are means over {window} neighbouring steps, each step faint behind them. " if window > 1 else ""
    return f"{mean}Steps count from 0, as in metrics.jsonl."


def phase_totals(source: Source) -> list[tuple[str, str]]:
    """Seconds of the whole training by phase, with their share."""
    whole = source.total("time/step_s")
    found = [(name, source.total(f"time/{phase}_s")) for phase, (name, _) in PHASES.items()]
    found.append(("everything else", _rest(whole, [value for _, value in found])))
    return [(name, f"{seconds(value)}{f' ({value / whole:.0%})' if whole else ''}") for name, value in found if value]


def metric_sheet(source: Source) -> Sheet:
    """Every metric that was logged: first, last, lowest, highest, mean."""
    names = sorted({name for row in source.rows for name in row if name != "step"})
    rows = []
    for name in names:
        values = [value for value in _column(source.rows, name) if value is not None]
        if values:
            shown = (values[0], values[-1], min(values), max(values), sum(values) / len(values))
            rows.append((name, *(f"{value:.4g}" for value in shown)))
    return Sheet(("", "first", "last", "lowest", "highest", "mean"), tuple(rows))


def _by_tier(rows: Sequence[Mapping[str, Any]], steps: Sequence[int], prefix: str, title: str) -> list[Chart]:
    """One line a tier, for metrics that are named after tiers."""
    tiers = sorted({name.removeprefix(prefix) for row in rows for name in row if name.startswith(prefix)})
    known = [(tier, values) for tier in tiers if any(values := _column(rows, f"{prefix}{tier}"))][:MOST_TIERS]
    lines = [Line(tier, values, f"c{place}") for place, (tier, values) in enumerate(known, 1)]
    legend = tuple(Key(line.style, line.name) for line in lines)
    return [Chart(title, line_chart(title, steps, lines), legend)] if lines else []


def _trouble(rows: Sequence[Mapping[str, Any]], steps: Sequence[int]) -> list[Chart]:
    lines = [Line(name, _ratio(rows, metric, "rollout/episodes"), style) for metric, name, style in TROUBLES]
    lines = [line for line in lines if any(line.values)]
    if not lines:
        return []
    title = "Trouble, for each episode"
    legend = tuple(Key(line.style, line.name) for line in lines)
    return [Chart(title, line_chart(title, steps, lines), legend)]


def _phases(rows: Sequence[Mapping[str, Any]], steps: Sequence[int]) -> list[Chart]:
    layers = [Line(name, _column(rows, f"time/{phase}_s"), style) for phase, (name, style) in PHASES.items()]
    whole = _column(rows, "time/step_s")
    if not _known(whole):
        return []
    rest: Values = [_rest(spent, [layer.values[place] for layer in layers]) for place, spent in enumerate(whole)]
    layers.append(Line("everything else", rest, "c6"))
    total = sum(value for value in whole if value is not None)
    # What is too thin to be seen is left to "Cost and speed".
    layers = [layer for layer in layers if sum(value or 0.0 for value in layer.values) >= 0.005 * total]
    title = "Seconds a step, by phase"
    return [Chart(title, stacked_chart(title, steps, layers), tuple(Key(one.style, one.name) for one in layers))]


def _rest(whole: float | None, parts: Sequence[float | None]) -> float | None:
    return None if whole is None else max(whole - sum(part or 0.0 for part in parts), 0.0)


def _column(rows: Sequence[Mapping[str, Any]], metric: str) -> Values:
    return [finite(row.get(metric)) for row in rows]


def _ratio(rows: Sequence[Mapping[str, Any]], metric: str, of: str) -> Values:
    pairs = zip(_column(rows, metric), _column(rows, of), strict=True)
    return [None if top is None or not bottom else top / bottom for top, bottom in pairs]


def _known(values: Values) -> bool:
    return any(value is not None for value in values)
