"""The scripted customer of published tasks, which tells the scenario's own prose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.envs.airline.conftest import DB
from tests.envs.airline.players import play
from tests.envs.airline.test_airline_tau2tasks import TASK, save

from banty.envs.airline.published import PublishedTasks
from banty.envs.airline.telling import in_first_person
from banty.envs.baselines import LinePolicy
from banty.records import Rollout, ToolCall, take

INSTRUCTIONS = {
    "domain": "airline",
    "reason_for_call": "You want to cancel RES001 because\nyour mother is ill.",
    "known_info": "You are Ann Lee.\nYour user id is ann_lee_1.",
    "unknown_info": None,
    "task_instructions": "Be polite.\n\nYou want to know what you get back.\n\nIf the agent asks you, insist.",
}
CANCEL = ToolCall("cancel_reservation", {"reservation_id": "RES001"})


def taskset(folder: Path, instructions: Any = INSTRUCTIONS) -> PublishedTasks:
    save(folder, DB, "db.json")
    save(folder, [TASK | {"user_scenario": {"instructions": instructions}}])
    return PublishedTasks(data=folder, customer="scripted")


def heard(rollout: Rollout) -> list[str]:
    return [message.content for message in rollout.transcript if message.role == "user"]


def test_it_gives_the_reason_then_who_it_is_and_the_rest_when_asked_and_agrees(tmp_path: Path) -> None:
    tasks = taskset(tmp_path)
    asks: list[str | ToolCall] = ["What is your user id?", "Shall I cancel it (yes/no)?"]
    lines = [*asks, CANCEL, "You get 160 back.", "Really 160.", "Bye."]
    (rollout,) = play(tasks, take(tasks, "base", None), LinePolicy("by hand", lines))
    assert heard(rollout) == [
        "I want to cancel RES001 because my mother is ill.",
        "I am Ann Lee. My user id is ann_lee_1.",
        "Yes, please go ahead.",
        "I want to know what I get back.",
        "If the agent asks me, insist.",
        "That is all, thank you. ###STOP###",
    ]
    assert (rollout.status, rollout.outcome.success) == ("completed", True)
    assert tasks.provenance["user"] == "scripted"
    assert tasks.provenance["user_version"] == "telling-1"
    assert tasks.roles == frozenset()


def test_it_leaves_when_transferred_and_when_told_the_same_again_and_again(tmp_path: Path) -> None:
    tasks = taskset(tmp_path, "Your user id is ann_lee_1. You want nothing.")
    hand_over: str | ToolCall = ToolCall("transfer_to_human_agents", {"summary": "x"})
    (rollout,) = play(tasks, take(tasks, "base", None), LinePolicy("by hand", [hand_over, "Hold on."]))
    assert heard(rollout) == ["My user id is ann_lee_1. I want nothing.", "###TRANSFER###"]
    (rollout,) = play(tasks, take(tasks, "base", None), LinePolicy("by hand", ["Shall I go ahead (yes/no)?"]))
    assert heard(rollout)[1:] == ["Yes, please go ahead."] * 2 + ["That is all, thank you. ###STOP###"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("You're fine. You were told that you paid.", "I'm fine. I was told that I paid."),
        ("They told you your card is yours.", "They told me my card is mine."),
        ("you book it yourself", "I book it myself"),
    ],
)
def test_the_second_person_becomes_the_first(text: str, said: str) -> None:
    assert in_first_person(text) == said


def test_every_published_task_can_be_played_without_a_model(tau2_folder: Path) -> None:
    tasks = PublishedTasks(data=tau2_folder, customer="scripted")
    lines = ["What is your user id?", "What else?", "I see.", "Sorry, that is not possible.", "Anything else?", "Bye."]
    rollouts = play(tasks, take(tasks, "base", None), LinePolicy("by hand", lines))
    assert {rollout.status for rollout in rollouts} == {"completed"}
    for rollout in rollouts:
        told = " ".join(heard(rollout))
        assert "user id" in told.lower()
        assert " you " not in f" {heard(rollout)[0].lower()} "
    assert 20 <= sum(bool(rollout.outcome.success) for rollout in rollouts) <= 24, "as one who writes nothing"
