"""The sections about results: success with intervals, the table of passes, habits before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from banty.evals import Card
from banty.report.plots import Mark, interval_strip
from banty.report.source import Evaluation, Source
from banty.report.wording import MISSING, count, finite, interval, number, table

BEHAVIOUR = (
    ("turns_per_episode", "turns an episode", 1),
    ("calls_per_episode", "calls an episode", 1),
    ("call_error_share", "share of calls that erred", 3),
    ("capped_share", "share of episodes that hit a cap", 3),
)


@dataclass(frozen=True)
class Side:
    """One estimate of a row: whose it is, and how it reads."""

    style: str
    label: str
    text: str


@dataclass(frozen=True)
class StripRow:
    """A label, dots with intervals, and the same in figures."""

    label: str
    svg: str
    sides: tuple[Side, ...]
    note: str = ""


@dataclass(frozen=True)
class Sheet:
    """A table: its column heads, and rows whose first cell is a head too."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def cards_of(source: Source) -> list[tuple[str, Card]]:
    """The cards of the main evaluation with the side each is on; of a plain evaluation the only one."""
    pairs = [("result", source.single)] if source.is_eval else []
    pairs += [("before", source.main.before), ("after", source.main.after)]
    return [(side, card) for side, card in pairs if card is not None]


def success_rows(source: Source) -> list[StripRow]:
    rows = []
    if source.single is not None and source.is_eval:
        title = str(source.single.data["identity"]["split"]) + " tasks"
        rows.append(_strip_row(title, [("result", "", source.single.data["success"])]))
    for one in source.evaluations:
        sides = [("before", one.before), ("after", one.after)]
        found = [(style, style, card.data["success"]) for style, card in sides if card is not None]
        rows.append(_strip_row(_evaluation_name(one), found, difference_words(one)))
    for name, found in _newest_baselines(source).items():
        rows.append(_strip_row(name, [("baseline", "baseline", found)]))
    return rows


def difference_words(one: Evaluation) -> str:
    """The paired comparison in a line; empty where there is nothing to compare."""
    if one.comparison is None:
        return f"not comparable: {one.refused}" if one.refused else ""
    found = one.comparison.to_json()
    notes = "".join(f"; {note}" for note in found["notes"])
    least = found["minimum_detectable_effect"]
    detectable = "" if least is None else f", smallest detectable {number(least)}"
    return f"difference {interval(found['difference'])}{detectable}: {found['verdict']}{notes}"


def pass_sheet(source: Source) -> Sheet:
    """Success, pass^k and pass@k, as far as both the trials and their scores go."""
    cards = cards_of(source)
    rows = [("success (pass^1)", *(interval(card.data["success"]) for _, card in cards))]
    for key, name in (("pass_hat", "pass^"), ("pass_at", "pass@")):
        ks = sorted({k for _, card in cards for k in table(card.data.get(key)) if k.isdigit() and k != "1"}, key=int)
        rows += [(f"{name}{k}", *(interval(table(card.data.get(key)).get(k)) for _, card in cards)) for k in ks]
    rows += [
        ("minimum detectable effect", *(number(card.data.get("minimum_detectable_effect")) for _, card in cards)),
        ("episodes", *(_episodes(card) for _, card in cards)),
    ]
    for key, name, digits in BEHAVIOUR:
        rows.append((name, *(number(table(card.data.get("behaviour")).get(key), digits) for _, card in cards)))
    return Sheet(("", *(side for side, _ in cards)), tuple(rows))


def component_sheet(source: Source) -> Sheet:
    """The mean of each part of the outcome over scored episodes; lowest at the end first."""
    cards = cards_of(source)
    names = {name for _, card in cards for name in table(card.data.get("components"))}

    def values(name: str) -> list[float | None]:
        return [finite(table(card.data.get("components")).get(name)) for _, card in cards]

    ordered = sorted(names, key=lambda name: (values(name)[-1] is None, values(name)[-1] or 0.0, name))
    rows = tuple((name, *(number(value) for value in values(name))) for name in ordered)
    return Sheet(("", *(side for side, _ in cards)), rows)


def missing_passes(source: Source) -> list[str]:
    """What errors took away, a sentence each: pass^k needs k scored trials of every task."""
    said = []
    for side, card in cards_of(source):
        wanted, most = int(finite(card.data["identity"].get("num_trials")) or 1), len(table(card.data.get("pass_hat")))
        lacking = sum(sum(value is not None for value in trials) < wanted for trials in card.successes)
        if most < wanted and lacking:
            which = f"pass^{wanted} is" if most + 1 == wanted else f"pass^{most + 1} to pass^{wanted} are"
            when = "" if side == "result" else f" {side} training"
            said.append(f"{which} not known{when}: {lacking} of {len(card.successes)} tasks lack scored trials.")
    return said


def habit_rows(source: Source) -> list[StripRow]:
    """Every decision point, the greatest change first."""
    cards = cards_of(source)
    tables = [(side, table(card.data.get("habits"))) for side, card in cards]
    points = sorted({point for _, found in tables for point in found})

    def change(point: str) -> float:
        known = [finite(table(found.get(point)).get("estimate")) for _, found in tables]
        return abs((known[0] or 0.0) - (known[-1] or 0.0)) if None not in known else -1.0

    rows = []
    for point in sorted(points, key=lambda point: (-change(point), point)):
        found = [(side, table(habits[point])) for side, habits in tables if point in habits]
        words = next((entry["lapse"] for _, entry in reversed(found) if entry.get("lapse")), point)
        counts = ", ".join(
            f"{side + ' ' if len(cards) > 1 else ''}{count(entry.get('lapses'))} of {count(entry.get('chances'))}"
            for side, entry in found
        )
        rows.append(_strip_row(str(words), [(side, side, entry) for side, entry in found], counts))
    return rows


def _evaluation_name(one: Evaluation) -> str:
    card = one.after or one.before
    split = f"{card.data['identity']['split']} tasks" if card is not None else "tasks"
    return one.name or split


def _newest_baselines(source: Source) -> Mapping[str, Any]:
    cards = [card for _, card in reversed(cards_of(source))]
    return next((found for card in cards if (found := table(card.data.get("baselines")))), {})


def _strip_row(label: str, sides: Sequence[tuple[str, str, Any]], note: str = "") -> StripRow:
    marks = [
        Mark(style, *(finite(table(data).get(name)) for name in ("estimate", "low", "high")))
        for style, _, data in sides
    ]
    texts = tuple(Side(style, name, interval(data)) for style, name, data in sides)
    title = f"{label}: " + (", ".join(f"{side.label} {side.text}".strip() for side in texts) or MISSING)
    return StripRow(label, interval_strip(title, marks), texts, note)


def _episodes(card: Card) -> str:
    causes = ", ".join(f"{count(amount)} {cause}" for cause, amount in sorted(table(card.data.get("causes")).items()))
    scored, episodes = finite(card.data.get("num_scored")), finite(card.data.get("num_episodes"))
    if scored is None or episodes is None:
        return MISSING
    text = f"{count(scored)} scored, {count(episodes - scored)} excluded"
    return f"{text} ({causes})" if causes else text
