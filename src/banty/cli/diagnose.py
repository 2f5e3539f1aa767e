"""`banty diagnose`: why episodes fail, and what became of it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from banty.cli.labelling import labelling_of
from banty.cli.plain import plain, print_json
from banty.cli.show import bare_table, interval
from banty.evals.diagnosis import compare_diagnoses, diagnose
from banty.records import Rollout
from banty.rollout import stored_rollouts


def diagnose_command(
    run: Annotated[str, typer.Argument(help="A training run, an evaluation, an imported log, or a store.")],
    other: Annotated[str, typer.Argument(help="Another one on the same tasks, to see what changed.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="List at most so many tasks.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on standard output.")] = False,
    allow_code: Annotated[bool, typer.Option("--allow-code", help="Run the Python files that are named.")] = False,
) -> None:
    """Say why episodes fail: where each left the reference calls, how far it came, what failures have in common.

    Nothing is sampled and no model judges: causes are read off calls, states and verdicts. A training run that
    measured itself before and after is compared with itself.

    Examples:

        banty diagnose runs/eval-airline-mini-001

        banty diagnose runs/train-desk-001/eval-before runs/train-desk-001/eval-after
    """
    folders = [Path(run), Path(other)] if other else _own_evaluations(Path(run)) or [Path(run)]
    read = [stored_rollouts(folder) for folder in folders]
    references = [labelling_of(folder, allow_code).reference for folder in folders]
    names = [_name(folder, rollouts) for folder, rollouts in zip(folders, read, strict=True)]
    if len(folders) == 1:
        found = diagnose(read[0], references[0]) | {"run": str(folders[0])}
        print_json(found) if as_json else _show(Console(), found, names[0], limit)
        return
    names = names if names[0] != names[1] else [str(folder) for folder in folders]
    compared = compare_diagnoses(read[0], read[1], (references[0], references[1]))
    for side, folder in zip("ab", folders, strict=True):
        compared[side]["run"] = str(folder)
    if as_json:
        print_json(compared)
        return
    console = Console()
    _show(console, compared["b"], names[1], limit)
    _show_differences(console, compared, names)


def _own_evaluations(folder: Path) -> list[Path]:
    """The two evaluations of a training run; none where it has not both."""
    found = [folder / f"eval-{when}" for when in ("before", "after")]
    return found if all((place / "rollouts").is_dir() for place in found) else []


def _name(folder: Path, rollouts: Sequence[Rollout]) -> str:
    policies = sorted({one.policy for one in rollouts if one.policy})
    return policies[0] if len(policies) == 1 else folder.name


def _show(console: Console, found: Mapping[str, Any], name: str, limit: int) -> None:
    without = found["num_without_reference"]
    excluded = ", ".join(f"{count} {cause}" for cause, count in found["excluded"].items())
    failed = f"{found['num_failures']} of {found['num_scored']} scored episodes fail"
    told = f"{name} on {' and '.join(found['env'])}: {failed}; success {interval(found['success'])}."
    console.print(plain(told, style="bold"))
    if excluded:
        console.print(plain(f"Not scored, and left out: {excluded}."))
    if without:
        told = f"note: of {without} episodes nobody knows which changes the task needs"
        console.print(plain(f"{told} (banty import takes --golden and --effects)", style="yellow"))
    if not found["num_failures"]:
        return
    _show_causes(console, found)
    _show_stages(console, found)
    _show_symptoms(console, found)
    _show_tasks(console, found, limit)


def _show_causes(console: Console, found: Mapping[str, Any]) -> None:
    table = bare_table("Why: the first departure of each failure", "", "failures", "of all episodes", "tasks")
    for row in found["causes"]:
        counts = str(row["share"]["count"]), interval(row["share"], 2), str(row["num_tasks"])
        table.add_row(*map(plain, (row["words"], *counts)))
    console.print(table)
    told = f"What most often, and one to read (banty inspect {shlex.quote(found['run'])} --rollout ID)"
    console.print(plain(told, style="bold"), soft_wrap=True)
    for row in found["causes"]:
        about = ", ".join(f"{what} {count}" for what, count in row["about"].items() if what)
        console.print(plain(f"{row['words']}{': ' if about else ''}{about}"), soft_wrap=True)
        one = row["examples"][0]
        where = "at its end" if one["turn"] is None else f"turn {one['turn']}"
        console.print(plain(f"  {one['rollout_id']}, {where}: {_short(one['told'])}", style="dim"), soft_wrap=True)


def _short(text: str, most: int = 160) -> str:
    words = " ".join(text.split())
    return words if len(words) <= most else words[: most - 3] + "..."


def _show_stages(console: Console, found: Mapping[str, Any]) -> None:
    if not found["stages"]:
        return
    table = bare_table("How far: of those that came as far as the line before", "", "episodes", "share")
    for row in found["stages"]:
        table.add_row(
            *map(plain, (row["stage"], str(row["reached"]), interval(row["share"], 2) if row["share"] else ""))
        )
    console.print(table)
    off = found["off_path"]
    told = (
        f"{off['passes_off_path']} of {off['of_passes']} passes made other changes than the reference; "
        f"{off['failures_on_path']} of {off['of_failures']} failures made just those."
    )
    console.print(plain(told))


def _show_symptoms(console: Console, found: Mapping[str, Any]) -> None:
    if not found["symptoms"]:
        return
    table = bare_table("What failures show", "", "in failures", "in passes")
    for row in found["symptoms"]:
        table.add_row(*map(plain, (row["words"], interval(row["in_failures"], 2), interval(row["in_passes"], 2))))
    console.print(table)


def _show_tasks(console: Console, found: Mapping[str, Any], limit: int) -> None:
    table = bare_table(f"Tasks that fail: {len(found['tasks'])}, worst first", "task", "failures", "why")
    words = {row["cause"]: row["words"] for row in found["causes"]}
    for row in found["tasks"][:limit]:
        why = "; ".join(f"{words[cause]} ({count})" for cause, count in row["causes"].items())
        table.add_row(*map(plain, (row["task"], f"{row['num_failures']} of {row['num_trials']}", why)))
    console.print(table)


def _show_differences(console: Console, compared: Mapping[str, Any], names: Sequence[str]) -> None:
    num_tasks = compared["differences"][0]["num_tasks"]
    console.print(plain(f"What changed, on {num_tasks} tasks of both: A is {names[0]}, B is {names[1]}", style="bold"))
    title = "Difference: share of episodes, B less A, paired by task"
    table = bare_table(title, "", "A", "B", "difference")
    for row in compared["differences"]:
        counts = [f"{count} of {of}" for count, of in zip(row["counts"], row["of"], strict=True)]
        table.add_row(*map(plain, (row["words"], *counts, interval(row["difference"]))))
    console.print(table)
