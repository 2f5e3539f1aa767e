"""Our desk and grader against recordings of the reference: tau2-bench's tools, models, replay and evaluators, copied by
hand from stored snapshots of its source nearest to 1.0.1 and run under Python 3.11 and pydantic 2.14.3.

`reference_calls.jsonl` has sequences of calls on a fresh database of 1.0.1, many with broken arguments, some failing
half-way: whether each succeeded, the beginning of the database's hash after it, and of its text's sha256 where a tool
worded it. `reference_rewards.jsonl` has conversations of the published tasks and of the verified fork's, under changed
criteria, with the verdict on each; a call is `FILE TASK PLACE` where it is a golden one.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from banty.envs.airline.data import AirlineWorld
from banty.envs.airline.tau2tasks import read_tasks
from banty.envs.state import State
from banty.interop import grade_tau2_trajectory, run_tau2_calls

HERE = Path(__file__).parent


def recorded(name: str) -> list[Any]:
    return [json.loads(line) for line in (HERE / name).read_text(encoding="utf-8").splitlines()]


CALLS: list[list[dict[str, Any]]] = recorded("reference_calls.jsonl")
REWARDS: list[dict[str, Any]] = recorded("reference_rewards.jsonl")


@pytest.mark.parametrize("sequence", CALLS, ids=[str(number) for number in range(len(CALLS))])
def test_every_call_does_what_it_does_in_the_reference(
    tau2_world: AirlineWorld, sequence: list[dict[str, Any]]
) -> None:
    for done, wanted in zip(run_tau2_calls(sequence, tau2_world), sequence, strict=True):
        assert (done.ok, done.database[:16]) == (wanted["ok"], wanted["database"]), (done.name, done.text)
        if wanted["text"] is not None:
            assert hashlib.sha256(done.text.encode()).hexdigest()[:16] == wanted["text"], (done.name, done.text)


def test_the_recorded_calls_fail_and_succeed_and_fail_half_way() -> None:
    untouched = "124e39a664b56402"
    half = 0
    for sequence in CALLS:
        before = [untouched, *(call["database"] for call in sequence)]
        half += sum(not call["ok"] and call["database"] != was for call, was in zip(sequence, before, strict=False))
    made = [call for sequence in CALLS for call in sequence]
    assert (len(made), sum(call["ok"] for call in made), half) == (259, 142, 6)


@pytest.fixture(scope="module")
def published(tau2_folder: Path) -> dict[str, dict[str, Any]]:
    """The tasks of both files as they stand there, by `FILE TASK`."""
    names = ("tasks.json", "tasks_amazon_verified.json")
    if missing := [name for name in names if not (tau2_folder / name).is_file()]:
        pytest.skip(f"the task file {missing[0]} is not at hand")
    return {f"{name} {task['id']}": task for name in names for task in json.loads((tau2_folder / name).read_text())}


def named_call(call: str | list[Any], published: Mapping[str, Any]) -> tuple[str, Any]:
    if not isinstance(call, str):
        return call[0], call[1]
    task, _, place = call.rpartition(" ")
    action = published[task]["evaluation_criteria"]["actions"][int(place)]
    return action["name"], action["arguments"]


def conversation(
    talk: Sequence[Mapping[str, Any]], published: Mapping[str, Any], world: AirlineWorld
) -> list[dict[str, Any]]:
    """The messages, with the answers our desk gives."""
    state, messages = State(world), []
    for number, said in enumerate(talk):
        message: dict[str, Any] = {"role": said["role"], "content": said["content"]}
        messages.append(message)
        if "calls" not in said:
            continue
        made = [
            {"id": f"{number}-{place}", "name": name, "arguments": copy.deepcopy(arguments)}
            for place, (name, arguments) in enumerate(named_call(call, published) for call in said["calls"])
        ]
        message["tool_calls"] = made
        for call, done in zip(made, run_tau2_calls(made, state), strict=True):
            messages.append({"role": "tool", "id": call["id"], "content": done.text, "error": not done.ok})
    return messages


@pytest.mark.parametrize("case", REWARDS, ids=[f"{case['task']}-{number}" for number, case in enumerate(REWARDS)])
def test_every_verdict_is_the_references(
    tau2_world: AirlineWorld, published: Mapping[str, dict[str, Any]], case: dict[str, Any]
) -> None:
    raw = copy.deepcopy(published[f"{case['file']} {case['task']}"])
    criteria = raw["evaluation_criteria"]
    for name, value in case["criteria"].items():
        criteria[name] = value
        if value == "absent":
            del criteria[name]
    if "compare_args" in case:
        for action, compared in zip(criteria["actions"], case["compare_args"], strict=True):
            action["compare_args"] = compared
        criteria["actions"] += [{"name": name, "arguments": given} for name, given in case["more_actions"]]
    (task,) = read_tasks([raw], "recorded")
    messages = conversation(case["talk"], published, tau2_world)
    found = grade_tau2_trajectory(messages, task, tau2_world, case["ended_by"])
    assert (found.reward, dict(found.breakdown)) == (case["reward"], case["breakdown"])
    assert found.db_match == case["db_match"]
    if case["databases"] is not None:
        assert [str(found.database)[:16], str(found.gold_database)[:16]] == case["databases"]
    assert [met for _, met in found.communicate] == case["said"]
    assert [match for _, match in found.actions] == case["found"]
