"""Tasks in tau2-bench's form for an export: published ones as their file has them, others as near as they come."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from banty.envs.airline.customers import describe
from banty.envs.airline.published import PublishedCase
from banty.envs.airline.rubric import Gold
from banty.envs.airline.tasks import GeneratedCase
from banty.interop.places import Place
from banty.interop.tau2 import golden_call, is_results
from banty.interop.tau2export import ExportTask
from banty.records import JSON, Task, Taskset, ToolCall, compared_of


def export_task(taskset: Taskset, task: Task) -> ExportTask:
    """A task of ours under the id a results file names it by: the benchmark's own for a published task."""
    case = task.data
    if isinstance(case, PublishedCase):
        return ExportTask(case.task.id, case.task.raw, case.task, case.world)
    if isinstance(case, GeneratedCase):
        gold = Gold.of_scenario(case.scenario).task
        raw = _raw(task.id, describe(case.scenario), gold.actions, gold.communicate)
        return ExportTask(task.id, raw, dataclasses.replace(gold, raw=raw), case.world)
    golden = taskset.golden(task)
    return ExportTask(task.id, _raw(task.id, "", golden, ()))


def bare_task(key: str, golden: Sequence[Mapping[str, Any]] | None) -> dict[str, JSON]:
    """What is left of a task whose file is gone: its id, and its reference calls where they are known."""
    calls = None if golden is None else [golden_call(call, Place(Path("golden calls"))) for call in golden]
    return _raw(key, "", calls, ())


def tasks_of_log(files: Sequence[Path]) -> dict[str, Mapping[str, JSON]]:
    """The tasks that results files hold, by id; those that are no longer there are passed over."""
    found: dict[str, Mapping[str, JSON]] = {}
    for file in files:
        try:
            data = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue
        tasks = data.get("tasks") if is_results(data) else None
        for task in tasks if isinstance(tasks, list) else ():
            if isinstance(task, Mapping) and "id" in task:
                found[str(task["id"])] = task
    return found


def _raw(
    key: str, instructions: str, actions: Sequence[ToolCall] | None, communicate: Sequence[str]
) -> dict[str, JSON]:
    criteria: dict[str, JSON] = {
        "actions": None
        if actions is None
        else [
            {
                "action_id": f"{key}_{number}",
                "requestor": "assistant",
                "name": call.name,
                "arguments": dict(call.arguments),
                "compare_args": None if (compared := compared_of(call)) is None else list(compared),
            }
            for number, call in enumerate(actions)
        ],
        "communicate_info": list(communicate),
        "reward_basis": ["DB", "COMMUNICATE"],
    }
    return {"id": key, "user_scenario": {"instructions": instructions}, "evaluation_criteria": criteria}
