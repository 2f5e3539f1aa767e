"""The tables of a dependability card, made of its JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from banty.report.results import Sheet
from banty.report.wording import MISSING, count, finite, interval, number, seconds, table

Users = Sequence[Mapping[str, Any]]
_LONGEST_HEAD = 40
TRIALS = " (k\u00a0=\u00a0{})"


def percent(value: Any) -> str:
    found = finite(value)
    return MISSING if found is None else f"{100 * found:.1f} %"


def columns(users: Users) -> tuple[str, ...]:
    """A head for each user's column, which says of an only one that it is a user."""
    names = [str(user.get("name")) for user in users]
    shown = [name if len(name) <= _LONGEST_HEAD else f"{name[: _LONGEST_HEAD - 1]}…" for name in names]
    return ("", *(shown if len(shown) > 1 else [f"user: {name}" for name in shown]))


def _sheet(users: Users, rows: Sequence[tuple[str, Callable[[Mapping[str, Any]], str]]]) -> Sheet:
    """A row a figure and a column a user; rows that nobody has a figure for are left out."""
    made = [(name, *(words(user) for user in users)) for name, words in rows]
    return Sheet(columns(users), tuple(row for row in made if set(row[1:]) - {MISSING, ""}))


def _counted(data: Any) -> str:
    """A share with its interval, and what was counted where that is known."""
    found = table(data)
    of = finite(found.get("of"))
    if of is None:
        return interval(found)
    return f"{interval(found)}; {count(found.get('count'))} of {count(of)}" if of else MISSING


def p_value(value: Any) -> str:
    found = finite(value)
    return "below 0.001" if found is not None and found < 0.001 else number(found)


def passes_and_failures(user: Mapping[str, Any]) -> tuple[str, str]:
    """Of the episodes whose rollouts are there."""
    parts = [table(table(user.get("errors")).get(f"success_{one}_error")) for one in ("with", "without")]
    passes, all_ = (sum(finite(part.get(name)) or 0.0 for part in parts) for name in ("count", "of"))
    return count(passes), count(all_ - passes)


def noise_rows(users: Users) -> Sheet:
    def of(name: str, *inside: str, digits: int = 3) -> Callable[[Mapping[str, Any]], str]:
        def words(user: Mapping[str, Any]) -> str:
            found = table(user.get("noise"))
            for key in inside:
                found = table(found.get(key))
            # Two rates differ by 1 at most.
            beyond = "resolves" in inside and (finite(found.get(name)) or 0.0) > 1.0
            if beyond:
                return "none: more tasks"
            nothing = name in ("trial_error", "trial_variance") and finite(found.get(name)) == 0.0
            return "none seen: no task's trials differ" if nothing else number(found.get(name), digits)

        return words

    def of_draws(user: Mapping[str, Any]) -> str:
        return p_value(table(table(user.get("noise")).get("replicates")).get("p_value"))

    def needed(user: Mapping[str, Any]) -> str:
        return count(table(user.get("noise")).get("tasks_needed"))

    def shared(user: Mapping[str, Any]) -> str:
        return count(table(table(user.get("noise")).get("replicates")).get("num_tasks"))

    effect = next((percent(table(user.get("noise")).get("wanted_effect")) for user in users), "5 %")
    return _sheet(
        users,
        [
            ("standard error of success", of("error")),
            ("of it by draws of the sampler and the user (a rerun on the same tasks)", of("trial_error")),
            ("of it by which tasks were drawn", of("task_error")),
            ("variance of one trial within its task", of("trial_variance")),
            ("variance between tasks", of("task_variance")),
            ("resolves, against a fixed number", of("fixed", "resolves")),
            ("resolves, against another policy on the same tasks, at best", of("paired", "resolves")),
            ("resolves, against another policy on other tasks", of("unpaired", "resolves")),
            (f"tasks it would take to see {effect} against a fixed number", needed),
            ("tasks scored in all replicates", shared),
            ("standard deviation between replicates", of("deviation", "replicates")),
            ("what draws alone would put between them", of("drawn", "replicates")),
            ("beyond draws", of("excess", "replicates")),
            ("p-value that draws are all there is", of_draws),
        ],
    )


def strata_rows(users: Users) -> Sheet:
    """pass^k of tasks with and without a write, with the do-nothing score of each."""
    rows = []
    for user in users:
        for row in map(table, table(user.get("strata")).get("rows") or ()):
            k = number(row.get("k"), 0)
            rows.append(
                (
                    f"{user.get('name')}: {row.get('name')}" if len(users) > 1 else str(row.get("name")),
                    count(row.get("num_tasks")),
                    interval(table(row.get("success")).get("by_task")),
                    f"{interval(table(row.get('pass_hat_k')).get('by_task'))}{TRIALS.format(k)}",
                    _counted(row.get("do_nothing")),
                )
            )
    return Sheet(("", "tasks", "success", "pass^k", "doing nothing"), tuple(rows))


def error_rows(users: Users) -> Sheet:
    def of(name: str, words: Callable[[Any], str]) -> Callable[[Mapping[str, Any]], str]:
        return lambda user: words(table(user.get("errors")).get(name))

    def kinds(user: Mapping[str, Any]) -> str:
        found = table(table(user.get("errors")).get("by_kind"))
        return "; ".join(f"{count(amount)} {name}" for name, amount in found.items()) or MISSING

    def mended(data: Any) -> str:
        found = table(data)
        of = finite(found.get("of"))
        return f"{percent(found.get('estimate'))}; {count(found.get('count'))} of {count(of)}" if of else MISSING

    return _sheet(
        users,
        [
            ("calls", of("num_calls", count)),
            ("calls that failed", of("num_errors", count)),
            ("share of calls that failed", of("error_share", percent)),
            ("by kind", kinds),
            ("episodes with a failed call", of("episodes_with_error", _counted)),
            ("recovery: success of episodes with a failed call", of("success_with_error", _counted)),
            ("success of episodes without one", of("success_without_error", _counted)),
            ("failed calls followed by one of the same tool that did not fail", of("mended", mended)),
        ],
    )


def calls_per_tool(user: Mapping[str, Any]) -> Sheet:
    columns = (
        "tool",
        "effect",
        "calls",
        "failed",
        "of calls",
        "made good",
        "calls a pass",
        "calls a failure",
        "in passes",
        "in failures",
    )
    rows = [
        (
            str(row.get("name")),
            str(row.get("effect")),
            count(row.get("num_calls")),
            count(row.get("num_errors")),
            percent(row.get("error_share")),
            percent(row.get("mended_share")),
            number(row.get("calls_per_pass"), 2),
            number(row.get("calls_per_failure"), 2),
            percent(row.get("in_passes")),
            percent(row.get("in_failures")),
        )
        for row in map(table, user.get("tools") or ())
    ]
    return Sheet(columns, tuple(rows))


def intent_rows(user: Mapping[str, Any]) -> Sheet:
    columns = ("intent", "tasks", "episodes", "success", "pass^k", "turns", "calls", "calls that failed")
    rows = [
        (
            str(row.get("name")),
            count(row.get("num_tasks")),
            count(row.get("num_episodes")) if row.get("num_episodes") else MISSING,
            interval(table(row.get("success")).get("by_task")),
            f"{interval(table(row.get('pass_hat_k')).get('by_task'))}{TRIALS.format(number(row.get('k'), 0))}",
            number(row.get("turns_per_episode"), 1),
            number(row.get("calls_per_episode"), 1),
            percent(row.get("error_share")),
        )
        for row in map(table, table(user.get("intents")).get("rows") or ())
    ]
    return Sheet(columns, tuple(rows))


def graders_of(user: Mapping[str, Any]) -> tuple[Sheet, Sheet]:
    """The two graders' verdicts, and the tasks on which they differ."""
    found = table(user.get("graders"))
    counts = table(found.get("counts"))
    verdicts = table(found.get("verdicts"))
    rows = [(f"success by {name}", _counted(verdicts.get(name))) for name in verdicts]
    rows += [
        ("agree", _counted(found.get("agreement"))),
        ("only tau2 says success", count(counts.get("tau2"))),
        ("only semantic says success", count(counts.get("semantic"))),
    ]
    differing = [
        (
            str(row.get("task")),
            f"{count(row.get('tau2'))} of {count(row.get('num_trials'))}",
            f"{count(row.get('semantic'))} of {count(row.get('num_trials'))}",
            "; ".join(f"{reason} ({count(amount)})" for reason, amount in table(row.get("reasons")).items()),
        )
        for row in map(table, found.get("rows") or ())
    ]
    return Sheet(("", ""), tuple(rows)), Sheet(("task", "tau2", "semantic", "why"), tuple(differing))


def cost_rows(users: Users) -> Sheet:
    def of(name: str, words: Callable[[Any], str]) -> Callable[[Mapping[str, Any]], str]:
        def told(user: Mapping[str, Any]) -> str:
            found = table(table(table(user.get("cost")).get("per_episode")).get(name))
            ends = [finite(found.get(key)) for key in ("low", "high")]
            if finite(found.get("estimate")) is None:
                return MISSING
            span = f" [{words(ends[0])}, {words(ends[1])}]" if None not in ends else ""
            return (words(found["estimate"]) + span).replace(" ", "\u00a0").replace("\u00a0[", " [")

        return told

    return _sheet(
        users,
        [
            ("prompt tokens, each turn's whole prompt", of("prompt_tokens", count)),
            ("sampled tokens", of("sampled_tokens", count)),
            ("prompt tokens of the user and others", of("others_prompt_tokens", count)),
            ("sampled tokens of the user and others", of("others_sampled_tokens", count)),
            ("turns", of("turns", lambda value: number(value, 1))),
            ("wall time", of("episode_s", seconds)),
            ("of it waiting for the policy", of("policy_s", seconds)),
        ],
    )


def price_rows(users: Users) -> Sheet:
    rows = []
    for user in users:
        for row in map(table, table(user.get("cost")).get("per_solved") or ()):
            terms = table(row.get("price"))
            name = f"{user.get('name')}: {row.get('name')}" if len(users) > 1 else str(row.get("name"))
            price = f"${terms['prompt']:g} and ${terms['sampled']:g}" if terms else "as paid"
            rows.append((name, money_interval(row), money(row.get("per_episode")), price, str(row.get("method"))))
    columns = ("price", "a solved task", "an episode", "per million prompt and sampled tokens", "interval")
    return Sheet(columns, tuple(rows))


def money(value: Any) -> str:
    """Dollars with as many digits as they need: 1.20, 0.034, 0.000050."""
    found = finite(value)
    if found is None:
        return MISSING
    digits = 2 if found >= 0.1 or found < 1e-12 else 1 - math.floor(math.log10(found))
    return f"${found:.{digits}f}"


def money_interval(data: Mapping[str, Any]) -> str:
    ends = [finite(data.get(key)) for key in ("low", "high")]
    span = f" [{money(ends[0])}, {money(ends[1])}]" if None not in ends else ""
    return money(data.get("estimate")) + span


def episode_rows(users: Users) -> Sheet:
    def counts(name: str) -> Callable[[Mapping[str, Any]], str]:
        def words(user: Mapping[str, Any]) -> str:
            found = table(table(user.get("episodes")).get(name))
            return "; ".join(f"{count(amount)} {key}" for key, amount in sorted(found.items())) or MISSING

        return words

    def of(name: str) -> Callable[[Mapping[str, Any]], str]:
        return lambda user: count(table(user.get("episodes")).get(name))

    return _sheet(
        users,
        [
            ("episodes", of("num_episodes")),
            ("scored", of("num_scored")),
            ("left out of every rate", of("num_excluded")),
            ("how they ended", counts("statuses")),
            ("causes", counts("causes")),
            ("faults of the user", counts("user_faults")),
        ],
    )


def result_rows(data: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """What each evaluation says of itself: folder, versions, hashes."""
    found = []
    for row in map(table, data.get("results") or ()):
        made, provenance = table(row.get("made_with")), table(row.get("provenance"))
        reward = table(row.get("reward_file"))
        no_reward = "none: the outcome alone" if row.get("training_run") else "not known"
        pairs = [
            ("policy", row.get("policy")),
            ("success, as its card has it", interval(row.get("success"))),
            ("figures are from", row.get("from")),
            ("seed, trials a task", f"{row.get('seed')}, {row.get('num_trials')}"),
            *((name, value) for name, value in provenance.items()),
            *((f"played by, as {name}", value) for name, value in table(row.get("user")).items()),
            *((name, value) for name, value in table(row.get("policy_details")).items()),
            ("sha256 of the tasks", row.get("tasks_sha256")),
            ("sha256 of card.json", row.get("card_sha256")),
            ("reward file", f"{reward.get('file')}, sha256 {reward.get('sha256')}" if reward else no_reward),
            ("Banty", " ".join(str(made[name]) for name in ("banty", "commit") if made.get(name))),
            ("packages", ", ".join(f"{name} {at}" for name, at in table(made.get("packages")).items() if at)),
            ("Python, platform", ", ".join(str(made[name]) for name in ("python", "platform") if made.get(name))),
            ("measured", made.get("started")),
        ]
        found.append(
            (str(row.get("folder")), [(str(name), str(value)) for name, value in pairs if value not in (None, "")])
        )
    return found


def making_of(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    made, subject, audit = table(data.get("manifest")), table(data.get("subject")), table(data.get("audit"))
    pairs = [
        ("tasks", f"{count(subject.get('num_tasks'))} of {subject.get('env')} {subject.get('split')}"),
        ("grader", subject.get("grader")),
        ("temperature", subject.get("temperature")),
        ("most turns", subject.get("max_turns")),
        ("sha256 of the audit", ", ".join(map(str, audit.get("sha256") or ()))),
        ("card made by Banty", " ".join(str(made[name]) for name in ("banty", "commit") if made.get(name))),
    ]
    return [(name, str(value)) for name, value in pairs if value not in (None, "")]
