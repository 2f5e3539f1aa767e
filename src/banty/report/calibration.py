"""The page of a calibration, made of the JSON that `banty calibrate` writes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from banty.report.page import BEGINNING, Tile, template_of
from banty.report.plots import Line, Mark, interval_strip, line_chart, scale_strip
from banty.report.results import Sheet, Side, StripRow
from banty.report.training import Chart, Key
from banty.report.wording import MISSING, count, finite, interval, number, table

SIGNED = (-1.0, 1.0)
_STYLES = ("c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8")
_CHANGES = {
    "mismatches": "mismatches of direction",
    "dead_turns": "dead turns, share",
    "dead_tokens": "dead turns, share of tokens",
    "rms": "size of advantages (root mean square)",
    "corr": "correlation of advantage and outcome, over turns",
    "corr_within": "the same within groups",
    "push": "push on length",
    "reward_corr": "correlation of mean turn reward and outcome",
}


def calibration_page(
    data: Mapping[str, Any], place: str, history: Sequence[Mapping[str, Any]] = (), notes: Sequence[str] = ()
) -> str:
    """The page as HTML. `history` are the decisions a run made by itself, in order; `place` names the rollouts."""
    rewards, counts = table(data.get("rewards")), table(data.get("counts"))
    rows, held_out = _rows(data, "tiers"), {row.get("tier"): row for row in _rows(data, "held_out")}
    before, after = table(data.get("before")), table(data.get("after"))
    reach = _reach(before, after)
    credit = table(data.get("credit"))
    level = finite(table(data.get("rules")).get("level")) or 0.95
    return template_of("calibration.html.jinja").render(
        beginning=BEGINNING,
        title=f"{rewards.get('name')}, version {rewards.get('version')}",
        place=place,
        started=str(data.get("made") or "").replace("T", " ").replace("+00:00", " UTC"),
        headline=calibration_headline(data),
        tiles=_tiles(data),
        notes=notes,
        values=_values(data),
        reasons=[(str(one.get("tier")), str(one.get("reason"))) for one in _rows(data, "proposals")],
        diff="\n".join(map(str, data.get("diff") or ["nothing changes"])),
        stops=stop_sheet(data),
        presence=[_presence(row) for row in rows],
        unit=scale_strip(),
        counts=_counts(rows),
        correlation=[_correlation(row, held_out.get(row.get("tier"))) for row in rows],
        signed=scale_strip(SIGNED),
        sides=[("within", None), *([("others", None)] if held_out else []), ("pooled", None)],
        level=f"{100 * level:g}",
        direction=_directions(before, after, reach),
        reach=scale_strip(reach),
        estimator=estimator_words(credit),
        before=_direction_sheet(before),
        after=_direction_sheet(after),
        changes=change_sheet(data),
        criteria=_criteria(data),
        charts=_charts(history),
        making=[
            ("rollouts", f"{count(counts.get('scored'))} scored of {count(counts.get('rollouts'))}"),
            ("tasks", count(counts.get("tasks"))),
            ("reward file", f"{rewards.get('name')}, version {rewards.get('version')}"),
            ("sha256 of it", str(rewards.get("sha256", MISSING))),
            ("estimator", estimator_words(credit)),
            *((name, str(value)) for name, value in table(data.get("rules")).items()),
        ],
    )


def calibration_headline(data: Mapping[str, Any]) -> str:
    """What came of it, in a sentence."""
    proposals = _rows(data, "proposals")
    moved = [one for one in proposals if finite(one.get("move"))]
    refused = [str(one.get("tier")) for one in proposals if one.get("decision") == "refused"]
    told = ", ".join(f"{one['tier']} {_value(one.get('current'))} to {_value(one.get('proposed'))}" for one in moved)
    before = table(data.get("before"))
    wrong = before.get("mismatches") or []
    words = f"Move {told}" if told else "No value is to move"
    words += f"; for {', '.join(refused)} the rollouts do not say enough" if refused else ""
    if wrong:
        pushed = f"{', '.join(map(str, wrong))} {'is' if len(wrong) == 1 else 'are'} pushed another way than intended"
    elif any(row.get("intended") and finite(row.get("actual")) is not None for row in _rows(before, "directions")):
        pushed = "every tier is pushed the way it is intended"
    else:
        pushed = "which way tiers are pushed, nothing here tells"
    return f"{words}; {pushed}."


def _value(value: Any) -> str:
    found = finite(value)
    return MISSING if found is None else f"{found:g}"


def estimator_words(credit: Mapping[str, Any]) -> str:
    """The estimator with its options."""
    options = [f"{name} {value}" for name, value in credit.items() if name != "estimator"]
    told = f" ({', '.join(options)})" if options else ""
    return f"{credit.get('estimator')}{told}"


def stop_sheet(data: Mapping[str, Any]) -> Sheet:
    """The stop rules and how they stand."""
    rows = [
        (str(one.get("name")), "yes" if one.get("met") else "no", str(one.get("words"))) for one in _rows(data, "stop")
    ]
    return Sheet(("", "holds", ""), tuple(rows))


def change_sheet(data: Mapping[str, Any]) -> Sheet:
    """Each figure before and after."""
    rows = []
    for name, pair in table(data.get("changes")).items():
        if isinstance(pair, (list, tuple)) and len(pair) == 2 and any(value is not None for value in pair):
            said = _CHANGES.get(name) or f"share of the gradient: {name.removeprefix('share_')}"
            rows.append((said, number(pair[0]), number(pair[1])))
    return Sheet(("", "before", "after"), tuple(rows))


def _tiles(data: Mapping[str, Any]) -> list[Tile]:
    counts, found = table(data.get("counts")), table(data.get("changes"))
    passes, scored = finite(counts.get("passes")), finite(counts.get("scored"))
    dead = found.get("dead_turns") or (None, None)
    wrong = [len(table(data.get(side)).get("mismatches") or []) for side in ("before", "after")]
    return [
        Tile("rollouts", count(scored), f"of {count(counts.get('tasks'))} tasks"),
        Tile("success", number(passes / scored if passes is not None and scored else None, 2)),
        Tile("mismatches", f"{wrong[0]}", f"{wrong[1]} after"),
        Tile("dead turns", number(dead[0], 2), f"{number(dead[1], 2)} after"),
    ]


def _values(data: Mapping[str, Any]) -> Sheet:
    rows = [
        (
            str(one.get("tier")),
            _value(one.get("current")),
            _value(one.get("proposed")),
            str(one.get("decision")),
            interval(one.get("held_out")),
        )
        for one in _rows(data, "proposals")
    ]
    return Sheet(("tier", "value", "proposed", "", "correlation on held-out tasks"), tuple(rows))


def _counts(rows: Sequence[Mapping[str, Any]]) -> Sheet:
    columns = ("tier", "with it", "without", "turns", "turns in passes", "first turn", "share of tokens", "by count")
    return Sheet(
        columns,
        tuple(
            (
                str(row.get("tier")),
                count(row.get("present")),
                count(row.get("absent")),
                count(row.get("turns")),
                number(row.get("share_in_passes")),
                number(row.get("first"), 1),
                number(row.get("tokens")),
                number(row.get("count_within")),
            )
            for row in rows
        ),
    )


def _criteria(data: Mapping[str, Any]) -> Sheet:
    rows = [
        (
            str(row.get("tier")),
            number(row.get("in_passes")),
            number(row.get("in_fails")),
            interval(row.get("within")),
            interval(row.get("pooled")),
        )
        for row in _rows(data, "criteria")
    ]
    return Sheet(("", "met in passes", "met in fails", "phi within tasks", "phi pooled"), tuple(rows))


def _presence(row: Mapping[str, Any]) -> StripRow:
    found = [("passes", row.get("in_passes")), ("fails", row.get("in_fails"))]
    svg = interval_strip(f"Presence of {row.get('tier')}", [Mark(style, finite(value)) for style, value in found])
    return StripRow(str(row.get("tier")), svg, tuple(Side(style, style, number(value)) for style, value in found))


def _correlation(row: Mapping[str, Any], other: Mapping[str, Any] | None) -> StripRow:
    found = [("within", row.get("within")), ("pooled", row.get("pooled"))]
    if other is not None:
        found.insert(1, ("others", other.get("within")))
    return _strip(str(row.get("tier")), f"Correlation of {row.get('tier')} with success", found, SIGNED)


def _directions(before: Mapping[str, Any], after: Mapping[str, Any], reach: tuple[float, float]) -> list[StripRow]:
    later = {row.get("tier"): row for row in _rows(after, "directions")}
    rows = []
    for row in _rows(before, "directions"):
        other = table(later.get(row.get("tier")))
        found = [("before", row.get("mean")), ("after", other.get("mean"))]
        told = "another way than intended" if other.get("mismatch") else ""
        rows.append(_strip(str(row.get("tier")), f"Mean advantage of {row.get('tier')}", found, reach, told))
    return rows


def _strip(
    label: str, title: str, found: Sequence[tuple[str, Any]], bounds: tuple[float, float], note: str = ""
) -> StripRow:
    marks = [
        Mark(style, *(finite(table(value).get(name)) for name in ("estimate", "low", "high"))) for style, value in found
    ]
    svg = interval_strip(title, marks, bounds)
    return StripRow(label, svg, tuple(Side(style, style, interval(value, 2)) for style, value in found), note)


def _direction_sheet(standing: Mapping[str, Any]) -> Sheet:
    columns = ("tier", "turns", "meant", "E[A^I]", "E[A^O]", "E[A]", "goes", "", "flips at", "dead", "share")
    rows = [
        (
            str(row.get("tier")),
            count(row.get("turns")),
            sign(row.get("intended")),
            number(row.get("own")),
            number(row.get("outcome")),
            interval(row.get("mean")),
            sign(row.get("actual")),
            "mismatch" if row.get("mismatch") else "",
            number(row.get("flip")),
            number(row.get("dead")),
            number(row.get("share")),
        )
        for row in _rows(standing, "directions")
    ]
    return Sheet(columns, tuple(rows))


def sign(value: Any) -> str:
    """+, − or 0 for a direction; nothing where there is none, since a dash would read as a minus."""
    found = finite(value)
    return "" if found is None else "+" if found > 0 else "−" if found < 0 else "0"


def _charts(history: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """Values and correlations over the steps at which a run decided."""
    if not history:
        return []
    steps = [int(finite(line.get("step")) or 0) for line in history]
    tiers = list(dict.fromkeys(name for line in history for name in table(line.get("tiers"))))
    charts = []
    for key, title in (("value", "Values"), ("rho", "Correlation within tasks")):
        lines = [
            Line(tier, [finite(table(table(line.get("tiers")).get(tier)).get(key)) for line in history], style)
            for tier, style in zip(tiers, _STYLES * len(tiers), strict=False)
        ]
        lines = [line for line in lines if any(line.values)]  # one that is 0 throughout would hide the axis
        if lines:
            bounds = SIGNED if all(abs(value or 0.0) <= 1.0 for line in lines for value in line.values) else None
            legend = tuple(Key(line.style, line.name) for line in lines)
            charts.append(Chart(title, line_chart(title, steps, lines, bounds), legend))
    return charts


def _reach(*standings: Mapping[str, Any]) -> tuple[float, float]:
    """Bounds around 0 that hold all mean advantages with their intervals."""
    ends = [
        abs(value)
        for standing in standings
        for row in _rows(standing, "directions")
        for name in ("estimate", "low", "high")
        if (value := finite(table(row.get("mean")).get(name))) is not None
    ]
    most = max(ends, default=0.0)
    if most <= 0.0:
        return SIGNED
    power = 10.0 ** math.floor(math.log10(most))
    rounded = math.ceil(most / power - 1e-9) * power
    return -rounded, rounded


def _rows(data: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    found = data.get(name)
    return [table(one) for one in found] if isinstance(found, (list, tuple)) else []
