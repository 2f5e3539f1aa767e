"""`banty tau2`: tau2-bench's airline domain, call by call and grade by grade, to compare implementations by."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from banty.cli.plain import print_json, visible
from banty.envs.airline.canonical import tau2_hash
from banty.envs.airline.data import benchmark_data, load_world
from banty.envs.airline.grade_tau2 import failing_gold
from banty.envs.airline.tau2tasks import load_tasks
from banty.envs.state import State
from banty.errors import InputError
from banty.interop import Regraded, RegradeReport, Tau2Reward, load_tau2, read_calls, regrade_tau2, run_tau2_calls
from banty.interop.tau2 import ENDINGS
from banty.runs.folder import write_json
from banty.stats import clustered_interval

tau2_app = typer.Typer(
    help="tau2-bench's airline domain, to compare implementations by: its data, calls and rewards.",
    no_args_is_help=True,
)

Data = Annotated[
    str, typer.Option(help="tau2-bench checkout, its data folder, or a db.json; else what TAU2_DATA_DIR names.")
]
Tasks = Annotated[str, typer.Option(help="Task file of tau2-bench, of its verified fork, or of tau-bench v1.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on standard output.")]
_MOST_LISTED = 20
_SHOWN_CHARACTERS = 100


@tau2_app.command("data")
def show_data(data: Data = "", tasks: Tasks = "", as_json: AsJson = False) -> None:
    """Check a data folder: what each file is, the hash of its database, and whether its golden actions succeed.

    Examples:

        banty tau2 data --data ~/tau2-bench

        banty tau2 data --data ~/tau2-bench --tasks tau-bench/tau_bench/envs/airline/tasks_test.py
    """
    options: dict[str, Any] = {"tasks": tasks} if tasks else {}
    loaded = load_tau2(benchmark_data(data), customer="silent", failing_gold="keep", **options)
    wrong = {task.id: list(found) for task in loaded.tasks.tasks if (found := failing_gold(loaded.world, task))}
    told: dict[str, Any] = {
        "files": dict(loaded.files),
        "database": tau2_hash(State(loaded.world)),
        "tasks_version": loaded.tasks.version,
        "num_tasks": len(loaded.tasks.tasks),
        "num_write_tasks": sum(task.writes for task in loaded.tasks.tasks),
        "splits": {name: len(ids) for name, ids in loaded.tasks.splits.items()},
        "failing_gold": wrong,
    }
    if as_json:
        print_json(told)
        return
    for file, sha256 in loaded.files.items():
        print(visible(f"{sha256}  {file}"))
    print(f"database hash {told['database']}")
    sizes = ", ".join(f"{name} {size}" for name, size in told["splits"].items())
    print(f"{told['num_tasks']} tasks of {told['tasks_version']}, {told['num_write_tasks']} with writes; {sizes}")
    for key, words in wrong.items():
        print(visible(f"golden actions of task {key} fail: {'; '.join(words)}"))


@tau2_app.command("calls")
def run_calls(
    calls: Annotated[str, typer.Argument(help="JSON of [{name, arguments}], lines of them, or {NAME: [...]}.")] = "",
    data: Data = "",
    task: Annotated[str, typer.Option(help="Run the golden actions of this task instead of a file.")] = "",
    tasks: Tasks = "",
    as_json: AsJson = False,
) -> None:
    """Run tool calls on a fresh database: whether each succeeded, its text, and the hash of the database after it.

    Several sequences in a file begin with a fresh database each.

    Examples:

        banty tau2 calls calls.json --data ~/tau2-bench

        banty tau2 calls --task 7 --data ~/tau2-bench --json
    """
    if bool(calls) == bool(task):
        raise typer.BadParameter("name a file of calls, or a task with --task")
    place = benchmark_data(data)
    if task:
        sequences = {f"task {task}": list(load_tasks(tasks or place).task(task).actions)}
    else:
        sequences = read_calls(Path(calls))
    world = load_world(place)
    done = {name: run_tau2_calls(listed, world) for name, listed in sequences.items()}
    if as_json:
        listed = {name: [call.to_json() for call in made] for name, made in done.items()}
        print_json({"world": world.tag, "database": tau2_hash(State(world)), "sequences": listed})
        return
    for name, made in done.items():
        print(visible(f"{name}: {world.tag}, {tau2_hash(State(world))[:12]}"))
        for call in made:
            print(visible(f"  {'ok   ' if call.ok else 'error'} {call.database[:12]} {call.name}: {_short(call.text)}"))


@tau2_app.command("grade")
def grade(
    simulations: Annotated[str, typer.Argument(help="Results file of tau2-bench, or a folder of them.")],
    data: Data = "",
    tasks: Tasks = "",
    out: Annotated[str, typer.Option(help="Also write everything, every check included, to this JSON file.")] = "",
    as_json: AsJson = False,
) -> None:
    """Derive every reward again, by both graders, and list where the file says otherwise and where the graders differ.

    Tasks are those the results hold, or --tasks. Ends with status 1 where a reward in the file is not confirmed:
    another one is derived, or none can be.

    Examples:

        banty tau2 grade data/simulations/my-run.json --data ~/tau2-bench

        banty tau2 grade data/simulations --data ~/tau2-bench --out grades.json
    """
    given = Path(simulations)
    if (given / "recipe.json").is_file():
        told = f"banty export {shlex.quote(simulations)} --format tau2 --out FILE.json"
        raise InputError(f"{given} is a folder of Banty's; write it as results of the benchmark first: {told}")
    place = benchmark_data(data)
    report = regrade_tau2(given, load_world(place), load_tasks(tasks) if tasks else None)
    if out:
        write_json(Path(out), report.to_json())
    if as_json:
        print_json(report.to_json())
    else:
        for line in _lines(report):
            print(visible(line))
    raise typer.Exit(1 if report.unconfirmed else 0)


def _lines(report: RegradeReport) -> list[str]:
    told: dict[str, Any] = report.to_json()
    graded = f"{told['num_graded']} of {told['num_simulations']} simulations graded on {report.world}"
    lines = [f"{graded}: {_rates(report)}" if told["num_graded"] else graded]
    if unscored := {name: count for name, count in told["endings"].items() if _is_errored(name)}:
        listed = ", ".join(f"{count} {name}" for name, count in sorted(unscored.items()))
        lines.append(
            f"ended by no doing of the agent's, 0 here as in the benchmark, unscored by banty import: {listed}"
        )
    lines.append(f"the file says otherwise of {len(report.disagreements)}")
    lines += _some(report.disagreements, lambda each: "; ".join(each.differs))
    replayed = [each for each in report.simulations if each.replay]
    if replayed:
        lines.append(f"recorded writes answer otherwise in {len(replayed)}, which the benchmark refuses to grade:")
        lines += _some(replayed, lambda each: each.replay)
    lines.append(f"the graders disagree over {len(report.graders_disagree)}")
    lines += _some(report.graders_disagree, lambda each: each.found.reason if each.found else "")
    faults = [each for each in report.simulations if each.fault]
    if faults:
        lines.append(f"not graded: {len(faults)}")
        lines += _some(faults, lambda each: each.fault)
    return lines


def _rates(report: RegradeReport) -> str:
    """Success under each grader, as elsewhere: the mean over tasks and its interval."""
    by_task: dict[str, list[Tau2Reward]] = {}
    for each in report.simulations:
        if each.found is not None:
            by_task.setdefault(each.task_id, []).append(each.found)
    tau2 = clustered_interval([[one.reward for one in trials] for trials in by_task.values()], method="wilson")
    semantic = clustered_interval([[one.semantic for one in trials] for trials in by_task.values()], method="wilson")
    return f"reward {tau2} (tau2), {semantic} (semantic), over {len(by_task)} tasks, 95 % by task"


def _is_errored(ended_by: str) -> bool:
    return ended_by in ENDINGS and ENDINGS[ended_by].status == "errored"


def _some(listed: Sequence[Regraded], words: Any) -> list[str]:
    lines = [f"  task {each.task_id}, trial {each.trial}: {_short(words(each), 300)}" for each in listed[:_MOST_LISTED]]
    return [*lines, *([f"  and {len(listed) - _MOST_LISTED} more"] if len(listed) > _MOST_LISTED else [])]


def _short(text: str, most: int = _SHOWN_CHARACTERS) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."
