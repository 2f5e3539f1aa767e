"""The page of a dependability card, made of its JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from banty.report.dependability_sheets import (
    calls_per_tool,
    columns,
    cost_rows,
    episode_rows,
    error_rows,
    graders_of,
    intent_rows,
    making_of,
    noise_rows,
    p_value,
    passes_and_failures,
    price_rows,
    result_rows,
    strata_rows,
)
from banty.report.page import BEGINNING, Tile, template_of
from banty.report.plots import Mark, interval_strip, scale_strip
from banty.report.results import Sheet, Side, StripRow
from banty.report.wording import MISSING, count, finite, interval, number, table
from banty.stats.paired import FEWEST_SEEDS

STYLES = ("c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8")
_MOST_USERS = len(STYLES)


def dependability_page(data: Mapping[str, Any]) -> str:
    """The page as HTML: self-contained, and nothing in it acts."""
    subject, users = table(data.get("subject")), users_in(data)
    audit = table(data.get("audit"))
    return template_of("dependability.html.jinja").render(
        beginning=BEGINNING,
        title=f"{subject.get('policy')} on {subject.get('env')} {subject.get('split')}",
        made=str(table(data.get("manifest")).get("started") or "").replace("T", " ").replace("+00:00", " UTC"),
        headline=card_headline(data),
        tiles=_tiles(data),
        notes=list(map(str, data.get("notes") or [])),
        users=[(STYLES[at % _MOST_USERS], str(user.get("name"))) for at, user in enumerate(users)],
        passes=_strips(users, _pass_names(users), _pass_of),
        in_figures=pass_sheet(data),
        replicates=_replicate_words(users),
        differences=_differences(data),
        noise=noise_rows(users),
        strata=_strata_strips(users),
        strata_sheet=strata_rows(users),
        strata_words=_strata_words(users),
        habits=_rate_strips(users, "habits"),
        habit_sources=_sources(users, "habits"),
        criteria=_rate_strips(users, "criteria"),
        criteria_sources=_sources(users, "criteria"),
        unit=scale_strip(),
        errors=error_rows(users),
        tools=[
            (str(user.get("name")), *passes_and_failures(user), calls_per_tool(user))
            for user in users
            if user.get("tools")
        ],
        intents=[(str(user.get("name")), intent_rows(user)) for user in users if _rows(user, "intents")],
        intent_source=_sources(users, "intents"),
        graders_source=_sources(users, "graders"),
        graders=[
            (str(user.get("name")), graders_of(user)) for user in users if table(user.get("graders")).get("known")
        ],
        audit=audit,
        costs=cost_rows(users),
        prices=price_rows(users),
        cost_sources=_sources(users, "cost"),
        episodes=episode_rows(users),
        results=result_rows(data),
        making=making_of(data),
    )


def users_in(data: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    users = data.get("users")
    return [table(user) for user in users] if isinstance(users, (list, tuple)) else []


def card_headline(data: Mapping[str, Any]) -> str:
    """What the card says, in a sentence or two; held-out only where an audit lets it."""
    subject, users = table(data.get("subject")), users_in(data)
    audit = table(data.get("audit"))
    what = "held-out " if audit.get("audited") and audit.get("may_be_called_held_out") else ""
    told = []
    for user in users:
        most = max(table(user.get("pass_hat")), key=int, default="1")
        whose = f" with the user {user.get('name')}" if len(users) > 1 else ""
        also = f", pass^{most} {interval(_pass_of(user, f'pass^{most}'), 2)}" if most != "1" else ""
        told.append(f"{interval(_success_of(user), 2)}{also}{whose}")
    return (
        f"{subject.get('policy')}{_how_many(subject, users)}: success {'; '.join(told)}; on {subject.get('num_tasks')} "
        f"{what}{subject.get('split')} tasks of {subject.get('env')} (grader {subject.get('grader')}). "
        f"{audit.get('sentence')}"
    )


def _how_many(subject: Mapping[str, Any], users: Sequence[Mapping[str, Any]]) -> str:
    """Of how many evaluations the figures are, where the policy's name does not say it."""
    counts = {f", {user.get('num_replicates')}{_kind(user)}" for user in users if _kind(user)}
    return counts.pop() if len(counts) == 1 and len(subject.get("policies") or ()) < 2 else ""


def pass_sheet(data: Mapping[str, Any]) -> Sheet:
    """pass^k and pass@k by user, with both intervals where there are replicates."""
    users = users_in(data)
    rows: list[tuple[str, ...]] = []
    for name in ("pass_hat", "pass_at"):
        sign = "pass^" if name == "pass_hat" else "pass@"
        ks = sorted({k for user in users for k in table(user.get(name)) if name == "pass_hat" or k != "1"}, key=int)
        for k in ks:
            found = [table(table(user.get(name)).get(k)) for user in users]
            rows.append((f"{sign}{k}", *(interval(one.get("by_task")) for one in found)))
            if any(one.get("over_replicates") for one in found):
                rows.append((f"{sign}{k}, over replicates", *(interval(one.get("over_replicates")) for one in found)))
    rows.append(("tasks", *(count(table(_success_of(user)).get("n")) for user in users)))
    rows.append(("episodes scored", *(_scored(user) for user in users)))
    rows.append(("user's version", *(str(user.get("version") or MISSING) for user in users)))
    rows.append(("user's temperature", *(number(user.get("temperature"), 2) for user in users)))
    rows.append(("replicates", *(f"{user.get('num_replicates')}{_kind(user)}" for user in users)))
    rows.append(("figures are from", *(str(user.get("source")) for user in users)))
    return Sheet(columns(users), tuple(rows))


def _scored(user: Mapping[str, Any]) -> str:
    found = table(user.get("episodes"))
    return f"{count(found.get('num_scored'))} of {count(found.get('num_episodes'))}"


def _kind(user: Mapping[str, Any]) -> str:
    return "" if user.get("replicates") == "none" else f" {user.get('replicates')}"


def _success_of(user: Mapping[str, Any]) -> Any:
    return table(user.get("success")).get("by_task")


def _pass_of(user: Mapping[str, Any], name: str) -> Any:
    return table(table(user.get("pass_hat")).get(name.removeprefix("pass^"))).get("by_task")


def _pass_names(users: Sequence[Mapping[str, Any]]) -> list[str]:
    return [f"pass^{k}" for k in sorted({k for user in users for k in table(user.get("pass_hat"))}, key=int)] or [
        "pass^1"
    ]


def _tiles(data: Mapping[str, Any]) -> list[Tile]:
    tiles = []
    users = users_in(data)
    for user in users[:3]:
        whose = f" · {user.get('name')}" if len(users) > 1 else ""
        names = _pass_names([user])
        for name in dict.fromkeys((names[0], names[-1])):
            found = table(_pass_of(user, name))
            ends = interval(found, 2)
            tiles.append(
                Tile(f"{name}{whose}", number(found.get("estimate"), 2), ends[ends.index("[") :] if "[" in ends else "")
            )
    if len(users) == 1:
        noise = table(users[0].get("noise"))
        least = finite(table(noise.get("resolves")).get("unpaired"))
        trial = finite(noise.get("trial_error"))
        if trial:  # 0 where no task's trials differed, which is no proof that none would
            tiles.append(Tile("noise of a rerun, standard error", number(trial, 3)))
        if least is not None:
            tiles.append(Tile("smallest difference it can show", number(least, 2), "to a policy on other tasks"))
    return tiles


def _strips(
    users: Sequence[Mapping[str, Any]], names: Sequence[str], found: Callable[[Mapping[str, Any], str], Any]
) -> list[StripRow]:
    return [_strip(name, [found(user, name) for user in users]) for name in names]


def _strip(label: str, estimates: Sequence[Any], note: str = "") -> StripRow:
    """A row with a dot a user, in the users' colours."""
    marks, sides = [], []
    for at, data in enumerate(estimates):
        style = STYLES[at % _MOST_USERS]
        known = table(data)
        marks.append(Mark(style, *(finite(known.get(name)) for name in ("estimate", "low", "high"))))
        sides.append(Side(style, "", interval(known)))
    title = f"{label}: {', '.join(side.text for side in sides) or MISSING}"
    return StripRow(label, interval_strip(title, marks), tuple(sides), note)


def _rows(user: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    rows = table(user.get(name)).get("rows")
    return [table(row) for row in rows] if isinstance(rows, (list, tuple)) else []


def _rate_strips(users: Sequence[Mapping[str, Any]], name: str) -> list[StripRow]:
    """Rates by name, the worst of them first."""
    by_user = [{str(row.get("name")): row for row in _rows(user, name)} for user in users]
    names = list(dict.fromkeys(key for rows in by_user for key in rows))

    def worst(key: str) -> float:
        return max((finite(rows[key].get("estimate")) or 0.0 for rows in by_user if key in rows), default=0.0)

    strips = []
    for key in sorted(names, key=lambda key: (-worst(key), key)):
        found = [rows.get(key, {}) for rows in by_user]
        label = next((str(row["lapse"]) for row in found if row.get("lapse")), key)
        counts = [_episodes(row) for row in found if row.get("of")]
        strips.append(_strip(label, found, ", ".join(counts)))
    return strips


def _episodes(row: Mapping[str, Any]) -> str:
    return f"{count(row.get('count'))} of {count(row.get('of'))} in {count(row.get('n'))} tasks"


def _sources(users: Sequence[Mapping[str, Any]], name: str) -> str:
    return ", ".join(dict.fromkeys(str(table(user.get(name)).get("source")) for user in users))


def _strata_strips(users: Sequence[Mapping[str, Any]]) -> list[StripRow]:
    """Success on tasks with and without a write, and beneath each what doing nothing scores there."""
    strips = []
    by_user = [{str(row.get("name")): row for row in _rows(user, "strata")} for user in users]
    for name in dict.fromkeys(key for rows in by_user for key in rows):
        first = next(rows[name] for rows in by_user if name in rows)
        note = f"{number(first.get('num_tasks'), 0)} tasks"
        label = {"write": "tasks that take a write", "no write": "tasks that take none"}.get(name, "all tasks")
        strips.append(
            _strip(label, [table(rows.get(name, {}).get("success")).get("by_task") for rows in by_user], note)
        )
        idle = table(first.get("do_nothing"))
        if finite(idle.get("estimate")) is None:
            continue
        mark = Mark("baseline", *(finite(idle.get(key)) for key in ("estimate", "low", "high")))
        svg = interval_strip(f"doing nothing on {label}: {interval(idle)}", [mark])
        note = f"{count(idle.get('count'))} of {count(idle.get('of'))} tasks"
        strips.append(StripRow("doing nothing there", svg, (Side("baseline", "", interval(idle)),), note))
    return strips


def _strata_words(users: Sequence[Mapping[str, Any]]) -> str:
    why = next((str(table(user.get("strata")).get("why_not")) for user in users), "")
    return f"Not known: {why}." if why else ""


def _replicate_words(users: Sequence[Mapping[str, Any]]) -> str:
    kinds = {user.get("replicates") for user in users} - {"none"}
    if not kinds:
        return (
            "One evaluation a user: the intervals, clustered by task, are about these very weights, over other tasks "
            "of the kind. They do not say what another training seed would have learned."
        )
    few = any((finite(user.get("num_replicates")) or 0) < FEWEST_SEEDS for user in users)
    verdict = f" Fewer than {FEWEST_SEEDS} replicates carry no verdict about a method." if few else ""
    return (
        "Intervals by task are about the mean of these evaluations, over other tasks of the kind, and so is the noise "
        "below. Those over replicates are t intervals over whole evaluations: with checkpoints they speak of the "
        f"method, with repetitions of the draws alone.{verdict}"
    )


def _differences(data: Mapping[str, Any]) -> Sheet:
    """Success under the second user of a pair minus that under the first."""
    rows = data.get("differences")
    said = [
        (
            f"{row.get('b')} minus {row.get('a')}",
            interval(row.get("difference")),
            p_value(row.get("p_holm")),
            number(row.get("minimum_detectable_effect")),
            str(row.get("verdict")),
        )
        for row in map(table, rows if isinstance(rows, (list, tuple)) else ())
    ]
    return Sheet(("", "difference of success", "p (Holm)", "smallest detectable", "success is"), tuple(said))
