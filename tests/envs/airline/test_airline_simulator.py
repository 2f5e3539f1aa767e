"""The airline's customer played by a model: its guidelines, what results say of it, and the checks on honest words."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Literal

import pytest

from banty.envs.airline.customers import describe
from banty.envs.airline.guidelines import GUIDELINES, OWN, guidelines_in, read_guidelines
from banty.envs.airline.tasks import GENERATOR_VERSION, GeneratedTasks
from banty.envs.usercheck import CHECKS_VERSION, STOP_WORDS, check_answer
from banty.errors import InputError
from banty.policies.scripted import FunctionPolicy, expert_policy
from banty.records import Message, SampleRequest, take
from banty.rollout import Cast, collect, plan_groups

THEIRS = "# Guidelines of somebody\nPlay a customer. End with ###STOP###.\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    written = tmp_path / "theirs.md"
    written.write_text(THEIRS)
    return written


def test_our_guidelines_name_every_stop_word() -> None:
    assert all(word in GUIDELINES for word in STOP_WORDS)
    assert (OWN.name, OWN.sha256) == ("banty", hashlib.sha256(GUIDELINES.encode()).hexdigest())


def test_a_file_is_what_the_model_is_told(file: Path) -> None:
    seen: list[SampleRequest] = []

    def answer(asked: SampleRequest) -> str:
        seen.append(asked)
        return "Hello, I need help with a trip."

    taskset = GeneratedTasks("mini", customer="model", guidelines=file)
    specs = plan_groups(take(taskset, "test", 1), 1, 0)
    silent = FunctionPolicy(lambda asked: "###STOP###")
    asyncio.run(collect(specs, taskset, Cast(silent, {"user": FunctionPolicy(answer, "u")})))
    assert seen[0].messages[0].content.startswith(THEIRS.strip())
    assert GUIDELINES not in seen[0].messages[0].content


def test_results_name_the_guidelines_by_their_digest(file: Path) -> None:
    told = GeneratedTasks("mini", customer="model", guidelines=file).provenance
    assert told["user_guidelines"] == "theirs.md"
    assert told["user_guidelines_sha256"] == hashlib.sha256(THEIRS.encode()).hexdigest()
    assert (told["user_version"], told["user_checks"]) == (GENERATOR_VERSION, CHECKS_VERSION)
    ours = GeneratedTasks("mini", customer="model").provenance
    assert ours["user_guidelines"] == "banty"
    assert set(GeneratedTasks("mini").provenance) == {"grader", "user", "user_version", "phrasing", "world"}


def test_the_tasks_are_the_same_whoever_asks(file: Path) -> None:
    tasksets = [
        GeneratedTasks("mini"),
        GeneratedTasks("mini", customer="silent"),
        GeneratedTasks("mini", customer="model"),
        GeneratedTasks("mini", customer="model", guidelines=file),
    ]
    assert len({taskset.fingerprint("test", 3) for taskset in tasksets}) == 1
    assert GeneratedTasks("mini", grade="tau2").fingerprint("test", 3) != tasksets[0].fingerprint("test", 3)


def test_the_benchmarks_guidelines_are_found_in_a_checkout(tmp_path: Path) -> None:
    place = tmp_path / "data" / "tau2" / "user_simulator"
    place.mkdir(parents=True)
    (place / "simulation_guidelines.md").write_text(THEIRS)
    desk = tmp_path / "data" / "tau2" / "domains" / "airline"
    desk.mkdir(parents=True)
    for folder in (tmp_path, tmp_path / "data", desk, place):
        assert read_guidelines(folder).text == THEIRS
    assert guidelines_in(tmp_path / "data" / "tau2" / "domains") is None


def test_what_is_no_guidelines_is_refused(tmp_path: Path, file: Path) -> None:
    with pytest.raises(InputError, match="holds no simulation_guidelines"):
        read_guidelines(tmp_path)
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_guidelines(tmp_path / "missing.md")
    (tmp_path / "policy.md").write_text("An agent's policy.")
    with pytest.raises(InputError, match="never says to end with ###STOP###"):
        read_guidelines(tmp_path / "policy.md")
    (tmp_path / "bytes.md").write_bytes(b"\xff\xfe###STOP###")
    with pytest.raises(InputError, match="it is not text"):
        read_guidelines(tmp_path / "bytes.md")
    with pytest.raises(InputError, match="the scripted customer reads none"):
        GeneratedTasks("mini", guidelines=file)


@pytest.mark.parametrize("size", ["mini", "full"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_no_word_of_a_scripted_customer_is_found_wrong(size: Literal["mini", "full"], split: str) -> None:
    """The scripted customer is an honest one: whatever it says, in whichever template, no check may find anything."""
    taskset = GeneratedTasks(size)
    specs = plan_groups(take(taskset, split, 60), 1, 0)
    trees = asyncio.run(collect(specs, taskset, Cast(expert_policy(taskset.expert()))))
    num_checked = 0
    for (rollout,) in trees:
        scenario = describe(taskset.task(split, rollout.task.index).data.scenario)
        shown = [Message("system", f"{GUIDELINES}\n\n<scenario>\n{scenario}\n</scenario>"), Message("user", "Hello!")]
        for message in rollout.transcript:
            if message.role == "user":
                assert check_answer(shown, message) == (), message.content
                num_checked += 1
            if (
                message.role in ("user", "assistant")
                and not message.calls
                and len(shown) + (message.role == "user") > 2
            ):
                shown.append(Message("assistant" if message.role == "user" else "user", message.content))
    assert num_checked > 150
