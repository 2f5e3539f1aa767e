"""`banty export`: what a folder stores in the form of another system."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from banty.cli.evaluate import USER_FILE
from banty.cli.inspection import taskset_of_run
from banty.cli.plain import visible
from banty.errors import InputError
from banty.evals import user_of
from banty.evals.suite import published_id
from banty.interop import GOLDEN, KIND, ExportAbout, ExportTask, tau2_results
from banty.interop.tau2extras import OURS
from banty.interop.tau2tasks import bare_task, export_task, tasks_of_log
from banty.records import Rollout
from banty.rollout import stored_rollouts
from banty.runs import RunFolder, write_text

FORMATS = ("tau2",)


def export(
    run: Annotated[str, typer.Argument(help="A run, an evaluation, or an import.")],
    out: Annotated[str, typer.Option(help="The file to write.")],
    format: Annotated[str, typer.Option(help="tau2: a results file of tau2-bench.")] = "tau2",
    allow_code: Annotated[bool, typer.Option("--allow-code", help="Run the Python file that the run names.")] = False,
) -> None:
    """Write stored conversations as another system's results, which its viewer reads and `banty import` reads back.

    Examples:

        banty export runs/eval-airline-tau2-001 --out theirs.json

        banty export runs/imported --format tau2 --out again.json
    """
    if format not in FORMATS:
        raise InputError(f"--format {format!r} is not one of {', '.join(FORMATS)}")
    file = Path(out)
    if file.exists():
        raise InputError(f"{file} is there; an export overwrites nothing, name another file with --out")
    folder = Path(run)
    opened = RunFolder.open(folder)
    recipe, manifest = opened.read_json("recipe.json"), opened.read_json("manifest.json")
    rollouts = [one for one in stored_rollouts(folder) if one.depth == 0]
    tasks = _tasks(folder, recipe, rollouts, allow_code)
    served = opened.read_json(USER_FILE) if (folder / USER_FILE).is_file() else {}
    data, notes = tau2_results(rollouts, tasks, _about(recipe, manifest, served))
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(data, indent=2) + "\n")
    for note in notes:
        print(visible(f"note: {note}"))
    print(visible(f"{len(data['simulations'])} simulations of {len(data['tasks'])} tasks: {file}"))


def _tasks(
    folder: Path, recipe: Mapping[str, Any], rollouts: Sequence[Rollout], allow_code: bool
) -> dict[str, ExportTask]:
    """The tasks behind the rollouts, by our ids."""
    pins = {rollout.task.id: rollout.task for rollout in rollouts}
    if recipe.get("kind") == KIND:
        held = tasks_of_log([Path(each["file"]) for each in recipe.get("files", [])])
        golden = folder / GOLDEN
        known: dict[str, Any] = json.loads(golden.read_text()) if golden.is_file() else {}
        found = {}
        for task_id, pin in pins.items():
            key = published_id(pin.public, task_id)
            found[task_id] = ExportTask(key, held.get(key) or bare_task(key, known.get(task_id)))
        return found
    taskset = taskset_of_run(folder, allow_code)
    return {
        task_id: export_task(taskset, taskset.task(pin.split, pin.index, pin.seed)) for task_id, pin in pins.items()
    }


def _about(recipe: Mapping[str, Any], manifest: Mapping[str, Any], served: Mapping[str, Any]) -> ExportAbout:
    started = str(manifest.get("started") or "")
    if recipe.get("kind") == KIND:  # what the log said of itself
        told: Mapping[str, Any] = recipe.get("about") or {}
        user_info, agent_info = told.get("user_info") or {}, told.get("agent_info") or {}
        return ExportAbout(
            domain=str(recipe.get("env", "")).removeprefix("tau2/"),
            commit=str(told.get("git_commit") or ""),
            started=started,
            user=str(user_info.get("llm") or user_info.get("implementation") or ""),
            user_args=user_info.get("llm_args") or {},
            user_version=user_info.get(OURS) or {},
            agent_args=agent_info.get("llm_args") or {},
            max_steps=int(told.get("max_steps") or 0),
            max_errors=int(told.get("max_errors") or 0),
            seed=int(told.get("seed") or 0),
        )
    limits: Mapping[str, Any] = recipe.get("limits") or {}
    provenance: Mapping[str, Any] = recipe.get("provenance") or {}
    params: Mapping[str, Any] = recipe.get("params") or {}
    env = recipe.get("env")
    name = str(env.get("name") if isinstance(env, Mapping) else env or "")
    user = str((recipe.get("roles") or {}).get("user") or provenance.get("user") or "")
    return ExportAbout(
        domain="airline" if name == "airline" or name.startswith("airline/") else name or "banty",
        commit=str(manifest.get("commit") or ""),
        started=started,
        user=user,
        user_args=(recipe.get("role_params") or {}).get("user") or {},
        user_version=user_of(recipe, served),
        agent_args=dict(params),
        max_steps=2 * int(limits.get("max_turns") or 0),
        max_errors=int(limits.get("max_consecutive_errors") or 0),
        seed=int(recipe.get("seed") or 0),
    )
