"""Results as tables on the terminal. Whatever came from outside is shown as plain text, never as markup."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table

from banty.cli.plain import plain
from banty.evals import GRADERS, Card, CardComparison, user_of_card, user_words
from banty.evals.audit import Standing
from banty.evals.graders import disagreement_in
from banty.evals.suite import published_id
from banty.records import Message, Rollout, ToolCall, Turn
from banty.sweeps import SweepTable


def number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def detectable(effect: float | None) -> str:
    """The smallest difference that would be found, of two rates."""
    return number(effect) if effect is None or effect <= 1.0 else "none: two rates differ by 1 at most; more tasks"


def interval(data: Mapping[str, Any], digits: int = 3) -> str:
    estimate, low, high = (number(data[name], digits) for name in ("estimate", "low", "high"))
    return estimate if data["low"] is None else f"{estimate} [{low}, {high}]"


def bare_table(title: str, *columns: str) -> Table:
    """A table without lines, so that it fits eighty columns."""
    table = Table(title=plain(title, style="bold"), title_justify="left", box=None, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(plain(column, style="dim"))
    return table


def _p(value: float | None) -> str:
    return "below 0.0001" if value is not None and value < 1e-4 else number(value, 4)


def show_card(console: Console, card: Card) -> None:
    data = card.data
    identity = data["identity"]
    table = Table(title=plain(card.title), show_header=False, title_justify="left")
    table.add_column("what")
    table.add_column("value")
    rows: list[tuple[str, str]] = [
        ("success (pass^1), 95 % by task", interval(data["success"])),
        *((f"pass^{k}", interval(value)) for k, value in data["pass_hat"].items() if k != "1"),
        *((f"pass@{k}", interval(value)) for k, value in data["pass_at"].items() if k != "1"),
        *_missing_ks(data),
        ("minimum detectable effect", detectable(data["minimum_detectable_effect"])),
        *((f"baseline {name}", interval(value)) for name, value in data["baselines"].items()),
        *((f"habit: {value.get('lapse', name)}", interval(value)) for name, value in data["habits"].items()),
        ("episodes", _episodes(data)),
        (
            "turns, calls an episode",
            f"{number(data['behaviour']['turns_per_episode'], 1)}, {number(data['behaviour']['calls_per_episode'], 1)}",
        ),
        ("calls that erred", number(data["behaviour"]["call_error_share"])),
        *amiss_rows(data),
        *grader_rows(data),
        ("grader, user", f"{identity['provenance'].get('grader', '-')}, {user_words(user_of_card(data))}"),
        *_simulator(data.get("simulator") or {}),
        ("temperature, seed", f"{identity['params']['temperature']:g}, {identity['seed']}"),
        ("tasks", f"{len(data['tasks'])} x {identity['num_trials']}, sha256 {identity['tasks_sha256'][:12]}"),
        *_task_file(identity.get("provenance") or {}),
        ("cost", _cost(data["cost"])),
    ]
    for what, value in rows:
        table.add_row(plain(what), plain(value))
    console.print(table)
    for line in disagreement_lines(data):
        console.print(plain(line))


def amiss_rows(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Rows for what rather points at a server or its settings than at a policy; none where there is nothing of it."""
    rows = []
    if share := data["behaviour"].get("empty_answer_share"):  # a card written before had none
        hint = ": all of them; look at what the server sends, and try another --tool-calls" if share == 1 else ""
        rows.append(("answers with neither text nor a call", f"{number(share)}{hint}"))
    if unknown := data.get("unknown_tools"):
        named = ", ".join(f"{count} {name}" for name, count in unknown.items())
        rows.append(("calls of tools that are not there", named))
    return rows


def _task_file(provenance: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A row for the published file that tasks are from, if any: figures compare under the same one alone."""
    found = provenance.get("tasks_sha256")
    return [("task file", f"{provenance.get('tasks_version', '-')}, sha256 {found[:12]}")] if found else []


def grader_rows(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A row for each grader, where episodes have two verdicts."""
    found = data.get("graders") or {}  # a card written before had none
    rows = [(f"under {name}", interval(found[name])) for name in GRADERS if name in found]
    if rows:
        where = f"of {found['num_judged']} episodes, in {found['num_tasks_disagree']} tasks"
        rows.append(("graders disagree", f"over {found['num_disagree']} {where}"))
    return rows


def disagreement_lines(data: Mapping[str, Any]) -> list[str]:
    """Where the graders disagree and why, a line a task and reason."""
    listed = (data.get("graders") or {}).get("disagreements", [])
    trials: dict[tuple[str, str], list[str]] = {}
    for one in listed:
        if told := disagreement_in(one["reason"]):
            place = published_id(one["public"], one["task"]), told
            trials.setdefault(place, []).append(str(one["trial"]))
    lines = [
        f"task {name}, trial{'s' if len(of) > 1 else ''} {', '.join(of)}: {why}" for (name, why), of in trials.items()
    ]
    more = [f"... and {len(lines) - _MOST_SHOWN} more, in the card"] if len(lines) > _MOST_SHOWN else []
    return [*lines[:_MOST_SHOWN], *more]


_MOST_SHOWN = 20


def _cost(cost: Mapping[str, Any]) -> str:
    usd = "unknown price" if cost["usd"] is None else f"${cost['usd']:.2f}"
    return f"{usd}, {cost['prompt_tokens']} prompt and {cost['sampled_tokens']} sampled tokens, {cost['wall_s']:.1f} s"


def _simulator(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A row for what simulated users did wrong, if anything, with the first example of each."""
    first = {(example["kind"], example["excluded"]): example for example in reversed(found.get("examples", ()))}
    rows = []
    for excluded, name in ((True, "faults"), (False, "suspicions")):
        counts = found.get(name) or {}
        examples = [first[kind, excluded] for kind in counts if (kind, excluded) in first]
        if counts:
            told = ", ".join(f"{count} {kind}" for kind, count in counts.items())
            shown = "".join(f"\n{example['rollout_id']}: {example['told']}" for example in examples)
            rows.append((f"user {name} ({'excluded' if excluded else 'counted only'})", told + shown))
    return rows


def _missing_ks(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A row for the k that errors took away: pass^k needs k scored trials of every task."""
    wanted, most = data["identity"]["num_trials"], len(data["pass_hat"])
    if most >= wanted:
        return []
    lacking = sum(sum(value is not None for value in task["successes"]) < wanted for task in data["tasks"])
    return [(f"pass^{most + 1} to pass^{wanted}", f"not known: {lacking} tasks lack scored trials; --resume runs them")]


def _episodes(data: Mapping[str, Any]) -> str:
    causes = ", ".join(f"{count} {_CAUSES.get(cause, cause)}" for cause, count in sorted(data["causes"].items()))
    excluded = data["num_episodes"] - data["num_scored"]
    text = f"{data['num_scored']} scored, {excluded} excluded"
    return f"{text} ({causes})" if causes else text


_CAUSES = {"turns": "cut by the cap of turns", "tokens": "cut by a cap of tokens", "errors": "cut by errors in a row"}


def show_comparison(console: Console, comparison: CardComparison) -> None:
    result = comparison.result
    table = Table(title=plain("paired by task: B minus A"), show_header=False, title_justify="left")
    table.add_column("what")
    table.add_column("value")
    a, b = comparison.first, comparison.second
    for what, value in (
        ("A", f"{a.title}: {a.success}"),
        ("B", f"{b.title}: {b.success}"),
        ("difference, 95 %", str(result.difference)),
        ("p", f"{_p(result.p_value)} ({result.test})"),
        ("minimum detectable effect", detectable(result.mde)),
        ("verdict", f"B is {result.verdict}" if result.verdict in ("better", "worse") else result.verdict),
        *(("note", note) for note in comparison.notes),
    ):
        table.add_row(plain(what), plain(value))
    console.print(table)


def show_training(
    console: Console, comparison: CardComparison, name: str = "", standing: Standing | None = None
) -> None:
    """Before and after training: the success rates, and the habits that changed most. `name` is that of an evaluation
    beside the main one; `standing` says whether its tasks may be called held-out."""
    before, after = comparison.first, comparison.second
    identity = before.data["identity"]
    held_out = "held-out " if standing is not None and standing.held_out else ""
    title = f"{identity['env']}, {held_out}{identity['split']} tasks{f', {name}' if name else ''}"
    table = Table(title=plain(title), title_justify="left")
    for column in ("", "before", "after"):
        table.add_column(column)
    rows = [("success (pass^1)", before.data["success"], after.data["success"])]
    rows += [
        (f"pass^{k}", before.data["pass_hat"][k], after.data["pass_hat"][k])
        for k in before.data["pass_hat"]
        if k != "1" and k in after.data["pass_hat"]
    ]
    for what, first, second in rows:
        table.add_row(plain(what), plain(interval(first)), plain(interval(second)))
    for point in _changed_most(before, after, 3):
        first, second = before.data["habits"][point], after.data["habits"][point]
        table.add_row(plain(f"habit: {first.get('lapse', point)}"), plain(interval(first)), plain(interval(second)))
    for name, baseline in after.data["baselines"].items():
        table.add_row(plain(f"baseline {name}"), plain(interval(baseline)), plain(""))
    console.print(table)
    difference = comparison.result.difference
    console.print(
        plain(
            f"difference {difference}, paired over {comparison.result.num_tasks} tasks x {identity['num_trials']} "
            f"trials, minimum detectable {number(comparison.result.mde)}: {comparison.result.verdict}"
        )
    )
    if standing is not None:
        refused = f"not called held-out: {standing.refusal}" if not standing.held_out else standing.reason
        console.print(plain(f"audit: {refused}"))


def show_sweep(console: Console, drawn: SweepTable) -> None:
    """An experiment's table, one for each evaluation, and beneath what has to be known when it is read."""
    for name, rows in drawn.rows.items():
        title = f"{drawn.name}{f', {name}' if name else ''}{f': {drawn.question}' if drawn.question else ''}"
        table = Table(title=plain(title), title_justify="left")
        for column in drawn.columns:
            table.add_column(plain(column))
        for row in rows:
            table.add_row(*map(plain, row.cells))
        console.print(table)
    console.print(plain(drawn.caption, style="dim"))
    for note in drawn.notes:
        console.print(plain(note))


def _changed_most(before: Card, after: Card, count: int) -> list[str]:
    shared = [point for point in before.data["habits"] if point in after.data["habits"]]
    change_of = {
        point: before.data["habits"][point]["estimate"] - after.data["habits"][point]["estimate"] for point in shared
    }
    return sorted(shared, key=lambda point: -abs(change_of[point]))[:count]


def show_rollouts(console: Console, rollouts: Sequence[Rollout]) -> None:
    table = Table()
    for column in ("rollout", "status", "success", "turns", "why"):
        table.add_column(column, overflow="fold")
    for rollout in rollouts:
        success = {True: "yes", False: "no", None: "-"}[rollout.outcome.success]
        status = f"{rollout.status} {rollout.cause}".strip()
        why = rollout.outcome.reason or rollout.detail
        values = (rollout.rollout_id, status, success, str(len(rollout.agent_turns)), why)
        table.add_row(*(plain(value) for value in values))
    console.print(table)


def show_rollout(
    console: Console,
    rollout: Rollout,
    words: Mapping[str, Sequence[str]] | None = None,
    beneath: Mapping[int, Sequence[RenderableType]] | None = None,
) -> None:
    """One conversation, turn by turn. `words` says what a habit policy decided, and `beneath` what else stands under a
    turn's message, by turn index."""
    console.print(plain(f"{rollout.rollout_id}  {rollout.policy} version {rollout.version}", style="bold"))
    for message in rollout.opening:
        _show_message(console, message)
    for turn in rollout.turns:
        _show_turn(console, turn, (words or {}).get(str(turn.index), ()), (beneath or {}).get(turn.index, ()))
    outcome = rollout.outcome
    verdict = {True: "success", False: "failure", None: "unscored"}[outcome.success]
    console.print(plain(f"{rollout.status} {rollout.cause} {rollout.detail}".strip() + f": {verdict} {outcome.reason}"))
    for name, value in outcome.components.items():
        console.print(plain(f"  {name:<20} {number(value, 1)}"))


def _show_turn(console: Console, turn: Turn, decided: Sequence[str], beneath: Sequence[RenderableType]) -> None:
    if turn.actor != "agent":
        # Its calls are of tools of its own, which the agent never sees.
        called = " ".join(_call_text(call) for call in turn.message.calls)
        console.print(plain(f"  [{turn.actor} was asked] {turn.message.content}{called}", style="dim"))
        for one in beneath:
            console.print(one)
        return
    _show_message(console, turn.message, turn.index)
    for words in decided:
        console.print(plain(f"      lapse: {words}", style="yellow"))
    for one in beneath:
        console.print(one)
    for message in turn.observation:
        _show_message(console, message)


def _call_text(call: ToolCall) -> str:
    return f"{call.name}({json.dumps(dict(call.arguments), ensure_ascii=False)})"


_STYLES = {"system": "dim", "user": "cyan", "assistant": "green", "tool": "magenta"}


def _show_message(console: Console, message: Message, index: int | None = None) -> None:
    place = f"{index:>3} " if index is not None else "    "
    lines = [message.content] if message.content else []
    lines += [_call_text(call) for call in message.calls]
    lines += [f"(broken call: {fault.message}) {fault.raw}" for fault in message.faults]
    text = f"{place}{message.role}: " + "\n      ".join(lines)
    console.print(plain(text, style=_STYLES[message.role]))
