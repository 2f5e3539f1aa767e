"""The scripted customer of published tasks: instructions in the first person, and whole task files played through."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.envs.airline.players import FakeHost
from tests.published_data import PLACE

from banty.envs.airline.guidelines import read_guidelines
from banty.envs.airline.published import PublishedTasks
from banty.envs.airline.reciting import PATIENCE, RecitingCustomer, in_first_person
from banty.envs.usercheck import check_answer
from banty.evals import EvalPlan
from banty.records import Message
from banty.rollout import Cast, collect, plan_groups

with_data = pytest.mark.skipif(not PLACE.is_dir(), reason="the benchmark's data is not here")
CALL = {
    "reason_for_call": "You want to cancel your trip EHGLP3.\nIt was booked for you.",
    "known_info": "You are Emma Kim.\nYour user id is emma_kim_9957.",
    "unknown_info": None,
    "task_instructions": "You don't want to cancel without a refund.\n\n"
    "If the agent says that it is not possible,\nmention that you were told otherwise.",
}
ASK, SORRY = "What is your user id?", "I am sorry, that is not possible."


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("You want your bags.", "I want my bags."),
        ("You are Mia Li and you were there.", "I am Mia Li and I was there."),
        ("You've read it yourself, it is yours.", "I've read it myself, it is mine."),
        ("Ask the service agent to upgrade you.", "Ask you to upgrade me."),
        ("The agent is kind to you.", "You are kind to me."),
        ('Say "You are the best" to the agent.', 'Say "You are the best" to you.'),
        ("Your youngest son is young.", "My youngest son is young."),
    ],
)
def test_instructions_turn_into_the_first_person(told: str, said: str) -> None:
    assert in_first_person(told) == said


def talk(instructions: Any, *lines: str, transferred: bool = False) -> list[str]:
    customer = RecitingCustomer(instructions)

    async def run() -> list[str]:
        host: Any = FakeHost()
        opening = await customer.open(host)
        return [opening, *[(await customer.reply(line, transferred, host)).text for line in lines]]

    return asyncio.run(run())


def test_a_call_from_its_opening_to_its_end() -> None:
    assert talk(CALL, ASK, SORRY, SORRY, "Shall I cancel EHGLP3 (yes/no)?", "It is done.") == [
        "I want to cancel my trip EHGLP3. It was booked for me.",
        "I am Emma Kim. My user id is emma_kim_9957.",
        "I was told otherwise.",
        "I don't want to cancel without a refund.",
        "Yes, please go ahead.",
        "Thank you. ###STOP###",
    ]


def test_it_repeats_what_it_knows_and_leaves_when_its_patience_is_at_an_end() -> None:
    said = talk(CALL, *[ASK] * (PATIENCE + 1))
    assert said[3] == said[PATIENCE] == f"{said[1]} {said[2]}"
    assert said[-1] == "I have to go. ###STOP###"


def test_it_follows_a_transfer_and_takes_instructions_that_are_one_text() -> None:
    assert talk("You want a refund.", "Please hold on.", transferred=True) == ["I want a refund.", "###TRANSFER###"]
    assert talk({}, "What is it about?")[0] == "I need help with a reservation."


@with_data
@pytest.mark.parametrize(("policy", "passed"), [("golden-replay", 50), ("do-nothing", 23)])
def test_the_published_tasks_come_out_as_in_the_reference(policy: str, passed: int) -> None:
    taskset = PublishedTasks(data=PLACE, customer="scripted")
    assert taskset.roles == frozenset()
    plan = EvalPlan(split="base")
    make = taskset.baselines().policies[policy]
    specs = plan_groups([taskset.task("base", index) for index in range(50)], 1, 0)
    trees = [asyncio.run(collect([spec], taskset, Cast(make(spec.task)), plan.limits))[0] for spec in specs]
    assert sum(bool(rollout.outcome.success) for (rollout,) in trees) == passed


@with_data
def test_the_tasks_are_the_same_under_a_script_and_a_model() -> None:
    scripted, model = (PublishedTasks(data=PLACE, customer=kind) for kind in ("scripted", "model"))
    assert scripted.fingerprint("test") == model.fingerprint("test")


@with_data
@pytest.mark.parametrize("tasks", ["tasks.json", "tasks_amazon_verified.json"])
def test_no_published_scenario_makes_an_honest_user_look_faulty(tasks: str) -> None:
    """Every scenario said in its own words, only in the first person: suspicious, and never excluded; read out as it
    stands, it is."""
    taskset = PublishedTasks(data=PLACE, tasks=PLACE / tasks)
    guidelines = read_guidelines(PLACE).text
    split = max(taskset.splits, key=lambda name: taskset.splits[name])
    num_read_out = 0
    for index in range(taskset.splits[split]):
        case = taskset.task(split, index).data
        part = Message("system", f"{guidelines}\n\n<scenario>\n{case.scenario}\n</scenario>")
        shown = [part, Message("user", "Hello!")]
        for line in talk(case.task.instructions, ASK, ASK, SORRY, SORRY)[:-1]:
            if "###" in line:
                break
            findings = check_answer(shown, Message("assistant", line))
            assert not [finding for finding in findings if finding.sure], (case.task.id, findings)
            shown += [Message("assistant", line), Message("user", f"And then, {len(shown)}?")]
        read_out = check_answer(shown[:2], Message("assistant", case.scenario))
        num_read_out += any(finding.kind == "reveals" and finding.sure for finding in read_out)
    assert num_read_out == taskset.splits[split]
