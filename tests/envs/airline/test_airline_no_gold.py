"""No right answer anywhere a policy, a customer or a reader of stored rollouts can look."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import pyarrow.parquet as pq
import pytest
from tests.envs.airline.conftest import DB
from tests.envs.airline.players import READ, SHALL_I, drawn, expert, handmade, one, play, request

from banty.envs.airline.data import AirlineWorld
from banty.envs.airline.published import PublishedTasks
from banty.envs.airline.rubric import Grade
from banty.envs.airline.scenario import Intent
from banty.envs.airline.tasks import CustomerKind, GeneratedTasks
from banty.envs.baselines import LinePolicy
from banty.policies.scripted import FunctionPolicy, ScriptedPolicy
from banty.records import CallFault, Limits, Message, Policy, Rollout, Taskset, ToolCall, take
from banty.rollout import Store

# Numbers by themselves, not the digits of a duration or a hash.
PLANTED = re.compile(r"PLANT|(?<![\w.])7133\d(?!\w)", re.I)
HAND_OVER = ToolCall("transfer_to_human_agents", {"summary": "The customer asks for help."})
CLUMSY = [
    Message("assistant", "Hello"),
    Message("assistant", "What is the reservation code? What is your user id?"),
    Message("assistant", f"I will cancel RES002 on 2024-05-30. {SHALL_I}"),
    Message("assistant", calls=(READ, ToolCall("get_reservation_details", {"reservation_id": "NOSUCH"}))),
    Message("assistant", calls=(ToolCall("get_gold", {}), ToolCall("cancel_reservation", {"id": 1}))),
    Message("assistant", faults=(CallFault("malformed", "not JSON at character 12", raw="<tool_call>{"),)),
    Message("assistant", SHALL_I),
    Message("assistant", calls=(
        ToolCall("update_reservation_baggages", {
            "reservation_id": "RES001", "total_baggages": 2, "nonfree_baggages": 1, "payment_id": "nobodys"}),
        ToolCall("update_reservation_baggages", {
            "reservation_id": "RES001", "total_baggages": 2, "nonfree_baggages": 1, "payment_id": "card_1"}),
        ToolCall("cancel_reservation", {"reservation_id": "RES002"}),
    )),
    Message("assistant", "I am sorry, that is not possible."),
    Message("assistant", calls=(HAND_OVER,)),
    Message("assistant", "You are being transferred."),
]  # fmt: skip


def seen(rollout: Rollout) -> str:
    """Everything there is of a rollout but the task's private data."""
    public = dataclasses.replace(rollout, task=dataclasses.replace(rollout.task, data=None))
    return json.dumps(dataclasses.asdict(public), default=str) + repr(rollout) + json.dumps(rollout.task.pin)


def stored(rollouts: Iterable[Rollout], folder: Path) -> str:
    Store(folder).write("part", list(rollouts))
    tables = sorted(folder.rglob("*.parquet"))
    assert tables
    return json.dumps([pq.read_table(table).to_pylist() for table in tables], default=str)


def talker(first: str) -> Policy:
    """A user who says something new each time and never ends."""
    return FunctionPolicy(lambda asked: first if len(asked.messages) < 3 else f"Message {len(asked.messages)}.")


def planted_request() -> Any:
    counts = {"total_baggages": 71331, "nonfree_baggages": 71332}
    writes = (
        ToolCall("update_reservation_baggages", {"reservation_id": "RES001", **counts, "payment_id": "PLANTED_CARD"}),
        ToolCall("send_certificate", {"user_id": "planted_user_1", "amount": 71334}),
    )
    return request(*writes, intent="add_bags", tells=("71333", "planted words"), looks_up=("PLANT1", "RES001"))


@pytest.mark.parametrize("grade", ["semantic", "tau2"])
@pytest.mark.parametrize("customer", ["scripted", "model", "silent"])
@pytest.mark.parametrize("size", ["mini", "full"])
def test_planted_gold_is_never_seen(
    small_world: AirlineWorld, grade: Grade, customer: CustomerKind, size: Any, tmp_path: Path
) -> None:
    taskset = handmade(small_world, planted_request(), grade=grade, customer=customer, size=size)
    rollouts = []
    policies: list[Policy] = [
        ScriptedPolicy(CLUMSY),
        expert(),
        expert({"lookup", "format", "error"}),
        LinePolicy("idle", ["I am sorry, I cannot help you with that."]),
        LinePolicy("transfers", [HAND_OVER, "Hold on."]),
    ]
    for policy in policies:
        user = talker("I want more bags for RES001.") if customer == "model" else None
        for limits in (Limits(max_turns=11), Limits(max_turns=3)):
            rollouts += play(taskset, take(taskset, "test", 1), policy, user=user, limits=limits)
    assert "errored" not in {rollout.status for rollout in rollouts}
    for rollout in rollouts:
        assert rollout.outcome.success is False
        assert not PLANTED.search(seen(rollout)), PLANTED.search(seen(rollout))
    (first, *_) = rollouts
    assert not PLANTED.search(stored([first], tmp_path))
    assert not PLANTED.search(json.dumps(dict(taskset.provenance)) + taskset.fingerprint("test", 1))


def test_the_plant_would_be_found(small_world: AirlineWorld, tmp_path: Path) -> None:
    rollout = one(handmade(small_world, planted_request()), "The gold is 71333.")
    assert PLANTED.search(seen(rollout))
    assert PLANTED.search(stored([rollout], tmp_path))


def test_what_is_shown_does_not_depend_on_what_is_right(small_world: AirlineWorld) -> None:
    """Two tasks that differ in their right endings alone are the same conversation to an agent."""
    told = []
    for gold in (planted_request(), request(intent="add_bags", right="refuse")):
        rollout = one(handmade(small_world, gold), "Hello", READ, SHALL_I, "What is your user id?", "Bye.")
        calls = [[call.to_json() for call in turn.calls] for turn in rollout.agent_turns]
        told.append([[message.to_json() for message in rollout.transcript], calls, rollout.tools])
    assert told[0] == told[1]


def gold_of(task: Any) -> list[str]:
    """What only a right agent finds out or works out: flights chosen, amounts, paid bags, totals."""
    scenario = task.data.scenario
    found = list(scenario.tells)
    for call in scenario.writes:
        arguments = call.arguments
        if call.name == "update_reservation_flights":
            found += [leg["flight_number"] for leg in arguments["flights"]]
        if call.name == "book_reservation":
            found += [leg["flight_number"] for leg in arguments["flights"]]
            found += [str(payment["amount"]) for payment in arguments["payment_methods"]]
        if call.name == "send_certificate":
            found.append(str(arguments["amount"]))
        if call.name == "update_reservation_baggages" and arguments["nonfree_baggages"]:
            found += ["nonfree_baggages", f'"{arguments["payment_id"]}", "nonfree']
    return found


def test_an_agent_who_looks_nothing_up_is_told_nothing(taskset: GeneratedTasks) -> None:
    num_checked = 0
    for policy in (LinePolicy("idle", ["Hello", "I see."]), LinePolicy("transfers", [HAND_OVER, "Hold on."])):
        for rollout in play(taskset, drawn(taskset, "test")[:100], policy):
            text = "\n".join(
                [message.content for message in rollout.transcript[1:]] + [turn.state_after for turn in rollout.turns]
            )
            for gold in gold_of(rollout.task):
                num_checked += 1
                said = {value for each in rollout.task.data.scenario.requests for value in each.says.values()}
                assert gold in said or not re.search(rf"\b{re.escape(gold)}\b", text), f"{gold} in {text}"
    assert num_checked > 50


def test_paid_bags_are_read_nowhere_before_they_are_written(taskset: GeneratedTasks) -> None:
    """The count of paid bags is for the agent to work out: no read of any kind shows the one that is right."""
    num_paid = 0
    for rollout in play(taskset, drawn(taskset, "train")[:150], expert()):
        golden = [call.arguments["nonfree_baggages"] for call in rollout.task.data.scenario.writes
                  if call.name == "update_reservation_baggages"]  # fmt: skip
        num_paid += any(golden)
        for turn in rollout.agent_turns:
            for call in turn.calls:
                if call.effect == "read":
                    assert not re.search(r'"nonfree_baggages": [1-9]', call.output)
    assert num_paid > 5


# Published tasks.


def published_folder(folder: Path) -> Path:
    task = {
        "id": "0",
        "description": {"purpose": "PLANTED purpose", "relevant_policies": "PLANTED", "notes": "PLANTED notes"},
        "user_scenario": {
            "persona": None,
            "instructions": {
                "domain": "airline",
                "reason_for_call": "You want to cancel RES001.",
                "known_info": "You are Ann Lee, ann_lee_1.",
                "unknown_info": None,
                "task_instructions": "Be brief.",
            },
        },
        "initial_state": None,
        "evaluation_criteria": {
            "actions": [{"action_id": "0_0", "name": "cancel_reservation", "arguments": {"reservation_id": "PLANT1"}}],
            "communicate_info": ["71333"],
            "nl_assertions": ["Agent must PLANTED"],
            "reward_basis": ["DB", "COMMUNICATE"],
        },
        "annotations": {"note": "PLANTED"},
        "ticket": "PLANTED ticket",
    }
    (folder / "db.json").write_text(json.dumps(DB))
    (folder / "tasks.json").write_text(json.dumps([task]))
    (folder / "policy.md").write_text("Be kind.")
    return folder


@pytest.mark.parametrize("grade", ["semantic", "tau2"])
def test_planted_gold_of_a_published_task_is_never_seen(tmp_path: Path, grade: Grade) -> None:
    taskset = PublishedTasks(data=published_folder(tmp_path), grade=grade, failing_gold="keep")
    shown: list[Mapping[str, Any]] = []
    for policy in (ScriptedPolicy(CLUMSY), LinePolicy("idle", ["Hello", "Sorry", "Well"])):
        user = talker("I want to cancel RES001.")
        (rollout,) = play(taskset, take(taskset, "base", 1), policy, user=user, limits=Limits(max_turns=9))
        assert rollout.outcome.success is False
        assert not PLANTED.search(seen(rollout)), PLANTED.search(seen(rollout))
        assert not PLANTED.search(stored([rollout], tmp_path / policy.name))
        shown += [message.to_json() for turn in rollout.turns for message in turn.request]
        assert rollout.opening[0].content.endswith("<policy>\nBe kind.\n</policy>")
    assert any("You want to cancel RES001." in message["content"] for message in shown)
    assert not PLANTED.search(json.dumps(dict(taskset.provenance)))


def test_tasks_show_their_place_and_what_is_asked_and_nothing_else_of_their_data(taskset: Taskset) -> None:
    shown: set[str] = set()
    answers: dict[str, set[str]] = {}
    for task in take(taskset, "test", 60):
        requests = task.data.scenario.requests
        assert set(task.public) == {"intents"}
        intents: list[str] = task.public["intents"]
        assert len(intents) == len(requests)
        shown |= set(intents)
        for intent, asked in zip(intents, requests, strict=True):
            answers.setdefault(intent, set()).add(asked.right)
        assert set(task.pin) == {"env", "split", "index", "seed"}
        assert task.data.scenario.user_id not in repr(task)
    topics = {"pet", "lost", "miles", "meal"}
    assert shown - topics <= set(get_args(Intent)) - {"out_of_scope"}, (
        "what is out of scope is for the agent to find out"
    )
    assert answers["cancel"] >= {"do", "refuse"}, "the same words whatever the right answer is"
