"""What agent and user of a published task are told: the benchmark's own layout, character for character."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.envs.airline.conftest import DB
from tests.envs.airline.players import play
from tests.envs.airline.test_airline_tau2tasks import TASK, save
from tests.published_data import PLACE

from banty.envs.airline.customers import GREETING
from banty.envs.airline.instructions import INSTRUCTIONS, read_instructions
from banty.envs.airline.published import PublishedTasks
from banty.errors import InputError
from banty.policies.scripted import FunctionPolicy
from banty.records import Message, SampleRequest, take

THEIRS = '''"""An agent."""
import os
AGENT_INSTRUCTION = """
Serve well.
Write or call.
""".strip()
SYSTEM_PROMPT = "..."
raise RuntimeError("nothing here is run")
'''
GUIDELINES = "# Play a customer. \nEnd with ###STOP###.\n"
INSTRUCTED: dict[str, Any] = {
    "domain": "airline",
    "reason_for_call": "You want out.\n\n   And soon. ",
    "known_info": "You are Ann.",
    "unknown_info": None,
    "task_instructions": "",
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout as the benchmark's: data and the agent's source."""
    folder = tmp_path / "data" / "tau2" / "domains" / "airline"
    folder.mkdir(parents=True)
    save(folder, DB, "db.json")
    (folder / "policy.md").write_text("Be kind.\n\n")
    for name, text in (
        ("data/tau2/user_simulator/simulation_guidelines.md", GUIDELINES),
        ("src/tau2/agent/llm_agent.py", THEIRS),
    ):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    return tmp_path


Shown = Callable[[dict[str, Any]], tuple[list[Message], list[Message]]]


@pytest.fixture
def shown(checkout: Path) -> Shown:
    """What agent and user of a task with this user_scenario see first."""

    def shows(scenario: dict[str, Any]) -> tuple[list[Message], list[Message]]:
        save(checkout / "data" / "tau2" / "domains" / "airline", [TASK | {"user_scenario": scenario}])
        seen: dict[str, list[Message]] = {}

        def hears(role: str, says: str) -> FunctionPolicy:
            def answer(asked: SampleRequest) -> str:
                seen.setdefault(role, list(asked.messages))
                return says

            return FunctionPolicy(answer)

        taskset = PublishedTasks(data=checkout)
        play(taskset, take(taskset, "base", 1), hears("agent", "###STOP###"), user=hears("user", "I want out."))
        return seen["agent"], seen["user"]

    return shows


def test_the_users_system_message_is_the_benchmarks(shown: Shown) -> None:
    _, user = shown({"persona": "Curt.\nOld.", "instructions": INSTRUCTED})
    assert user == [
        Message(
            "system",
            "# Play a customer. \nEnd with ###STOP###.\n"
            "\n\n"
            "<scenario>\n"
            "Persona:\n"
            "\tCurt.\n"
            "\tOld.\n"
            "Instructions:\n"
            "\tDomain: airline\n"
            "\tReason for call:\n"
            "\t\tYou want out.\n"
            "\n"
            "\t\t   And soon. \n"
            "\tKnown info:\n"
            "\t\tYou are Ann.\n"
            "\tTask instructions:\n"
            "\n"
            "</scenario>",
        ),
        Message("user", GREETING),
    ]


def test_instructions_of_one_text_and_no_persona(shown: Shown) -> None:
    _, user = shown({"persona": None, "instructions": "You want out.\nSoon."})
    scenario = user[0].content.partition("<scenario>")[2]
    assert scenario == "\nInstructions:\n\tYou want out.\n\tSoon.\n</scenario>"


def test_the_agents_system_message_is_the_benchmarks_and_its_greeting_is_fixed(shown: Shown) -> None:
    agent, _ = shown({"instructions": INSTRUCTED})
    assert agent == [
        Message(
            "system",
            "<instructions>\nServe well.\nWrite or call.\n</instructions>\n<policy>\nBe kind.\n\n\n</policy>",
        ),
        Message("assistant", "Hi! How can I help you today?"),
        Message("user", "I want out."),
    ]


def test_the_instructions_are_ours_without_a_checkout_or_those_of_a_file(checkout: Path) -> None:
    save(checkout / "data" / "tau2" / "domains" / "airline", [TASK])
    named = PublishedTasks(data=checkout).provenance
    sha256 = hashlib.sha256(b"Serve well.\nWrite or call.").hexdigest()
    assert (named["instructions"], named["instructions_sha256"]) == ("llm_agent.py", sha256)
    (checkout / "mine.txt").write_text("\nServe ill.\n")
    mine = PublishedTasks(data=checkout, instructions=checkout / "mine.txt").provenance
    assert mine["instructions_sha256"] == hashlib.sha256(b"Serve ill.").hexdigest()
    agent = checkout / "src" / "tau2" / "agent" / "llm_agent.py"
    agent.write_text("AGENT = 3")
    assert PublishedTasks(data=checkout).provenance["instructions"] == "banty", "another version keeps them elsewhere"
    agent.unlink()
    ours = PublishedTasks(data=checkout).provenance
    assert ours["instructions_sha256"] == hashlib.sha256(INSTRUCTIONS.encode()).hexdigest()


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.py", "AGENT = 3", "holds no text AGENT_INSTRUCTION"),
        ("a.py", "AGENT_INSTRUCTION = f'{1}'", "holds no text AGENT_INSTRUCTION"),
        ("a.py", "AGENT_INSTRUCTION = (", "holds no text AGENT_INSTRUCTION"),
        ("a.txt", " \n", "holds no text; give the benchmark's src/tau2/agent/llm_agent.py, or a file of text"),
        ("none.txt", None, "cannot be read: No such file"),
    ],
)
def test_what_holds_no_instructions_is_refused(tmp_path: Path, name: str, text: str | None, says: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError) as refused:
        read_instructions(tmp_path / name)
    assert says in str(refused.value)


@pytest.mark.skipif(not PLACE.is_dir(), reason="the benchmark's data is not here")
@pytest.mark.parametrize("file", ["tasks.json", "tasks_amazon_verified.json"])
def test_every_published_scenario_has_this_layout(file: str) -> None:
    seen: list[str] = []

    def listens(asked: SampleRequest) -> str:
        seen.append(asked.messages[0].content)
        return "Hello there."

    taskset = PublishedTasks(data=PLACE, tasks=PLACE / file, failing_gold="keep")
    tasks = take(taskset, "base", None)
    play(taskset, tasks, FunctionPolicy(lambda asked: "###STOP###"), user=FunctionPolicy(listens))
    guidelines = (PLACE / "simulation_guidelines.md").read_text()
    assert sorted(seen) == sorted(
        f"{guidelines}\n\n<scenario>\n{_laid_out(task.data.task.raw['user_scenario'])}\n</scenario>" for task in tasks
    )


def _laid_out(scenario: dict[str, Any]) -> str:
    told = scenario["instructions"]
    lines = [] if scenario.get("persona") is None else ["Persona:", *_deeper(1, scenario["persona"])]
    lines += ["Instructions:", f"\tDomain: {told['domain']}"]
    for key, heading in (
        ("reason_for_call", "Reason for call:"),
        ("known_info", "Known info:"),
        ("unknown_info", "Unknown info:"),
        ("task_instructions", "Task instructions:"),
    ):
        if told.get(key) is not None:
            lines += [f"\t{heading}", *_deeper(2, told[key])]
    return "\n".join(lines)


def _deeper(depth: int, text: str) -> list[str]:
    return ["\t" * depth + line if line.strip() else line for line in text.split("\n")]
