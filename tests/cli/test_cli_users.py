"""`--user` through the commands: several users of one agent, what a server does wrong, and what a person does."""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cli.test_cli_models import banty, did, read
from tests.policies.test_policies_endpoint import call, choice, serving
from tests.published_data import PLACE
from tests.tiny import tiny_folder

from banty.models.loading import LanguageModel, load_model
from banty.rollout import stored_rollouts

SMALL = ("--tasks", "6", "--trials", "2", "--no-baselines")


class People:
    """A server of simulated users: `good` follows its scenario, others misbehave as they are called, `flips` in about
    half of its scenarios."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.systems: set[str] = set()
        self.locked = False
        self._lock = threading.Lock()

    def __call__(self, body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        model, messages = body["model"], body["messages"]
        with self._lock:
            self.asked[model] += 1
            self.systems.add(messages[0]["content"])
        if model == "locked" and self.locked:
            return 401, {}, {"error": {"message": "no key"}}
        said = sum(message["role"] == "assistant" for message in messages)
        if model == "flips" and said and len(messages[0]["content"]) % 2:
            content: Any = {"content": "How can I help you today?"}
        elif model == "calls":
            content = {"content": None, "tool_calls": [call("cancel_reservation", "{}")]}
        else:
            content = {"content": _customer(messages, said)}
        return 200, {}, {**choice(content), "model": f"{model}-2026-11"}


def _customer(messages: list[dict[str, str]], said: int) -> str:
    scenario, heard = messages[0]["content"].partition("<scenario>")[2], messages[-1]["content"].lower()
    code = re.search(r"reservation id: (\S+)", scenario)
    if said == 0:
        wish = re.search(r"Request 1: (.*)", scenario)
        return f"Hello. {wish[1] if wish else 'I need help with my trip.'}"
    if "yes/no" in heard or "(yes" in heard:
        return "Yes."
    if "code" in heard and code:
        return code[1]
    return "###STOP###" if said > 4 or "else" in heard else f"About what I asked for, part {said}."


class Desk:
    """The people and where they are reached."""

    def __init__(self, people: People, url: str) -> None:
        self.people, self.url = people, url

    def users(self, *names: str) -> tuple[str, ...]:
        specs = [name if name == "scripted" else f"{self.url}#{name}" for name in names]
        return tuple(word for spec in specs for word in ("--user", spec))


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.chdir(tmp_path)
    people = People()
    with serving(people) as server:
        yield Desk(people, server.url)


def test_one_agent_under_several_users(desk: Desk, tmp_path: Path) -> None:
    told = did("eval", "expert", *SMALL, *desk.users("scripted", "good", "flips"), "--out", "out")
    data = read(tmp_path / "out" / "users.json")
    assert data["format"] == "banty-users-1"
    assert [(user["name"], user["temperature"], user["folder"]) for user in data["users"]] == [
        ("scripted", None, "user-scripted"),
        ("good", 0.0, "user-good"),
        ("flips", 0.0, "user-flips"),
    ]
    assert data["users"][0]["version"] == "generator 1"
    assert data["users"][1]["version"].startswith("served good-2026-11, guidelines ")
    assert [(pair["a"], pair["b"]) for pair in data["pairs"]] == [
        ("scripted", "good"),
        ("scripted", "flips"),
        ("good", "flips"),
    ]
    cards = {user["name"]: read(tmp_path / "out" / user["folder"] / "card.json") for user in data["users"]}
    assert len({card["identity"]["tasks_sha256"] for card in cards.values()}) == 1, "the tasks are the same"
    assert [task["id"] for task in cards["good"]["tasks"]] == [task["id"] for task in cards["scripted"]["tasks"]]
    assert cards["good"]["user"]["served"] == ["good-2026-11"]
    flipped = cards["flips"]["simulator"]
    assert flipped["faults"] == {"role_flip": cards["flips"]["causes"]["simulator"]}
    assert flipped["examples"][0]["told"] == "the simulated user speaks as the agent: 'How can I help you today?'"
    assert cards["flips"]["num_scored"] + flipped["num_excluded"] == 12
    turns = [turn for rollout in stored_rollouts(tmp_path / "out" / "user-good") for turn in rollout.turns]
    host = desk.url.removeprefix("http://")
    assert {turn.policy for turn in turns if turn.actor == "user"} == {
        f"good@{host}, temperature 0, served good-2026-11"
    }
    assert "note: under flips" in told
    assert re.search(
        r"\d+ of 12 episodes are not scored; tasks left out because no episode of theirs is: \d of 6", told
    )
    assert "with --out out --resume plays them again" in told
    for words in ("under B it is", "spread between users over", "are excluded as faults of user flips"):
        assert words in told
    assert told.splitlines()[-1] == "users: out/users.json"


def test_the_same_command_again_gives_the_same_and_plays_nothing_twice(desk: Desk, tmp_path: Path) -> None:
    words = ("eval", "expert", *SMALL, *desk.users("scripted", "good"), "--out", "out")
    did(*words)
    before, asked = read(tmp_path / "out" / "users.json"), desk.people.asked["good"]
    refused = banty(*words)
    assert refused.status == 2
    assert "not empty" in refused.err
    did(*words, "--resume")
    assert read(tmp_path / "out" / "users.json") == before
    assert desk.people.asked["good"] == asked


def test_a_user_who_fails_holds_up_no_other_and_is_mended_by_resuming(desk: Desk, tmp_path: Path) -> None:
    words = ("eval", "expert", *SMALL, *desk.users("locked", "good"), "--out", "out")
    desk.people.locked = True
    failed = banty(*words)
    assert failed.status == 2
    assert "user locked: none of 12 episodes could be scored" in failed.err
    assert "refused the key" in failed.err
    assert "add --out out --resume" in failed.err
    data = read(tmp_path / "out" / "users.json")
    assert [user["num_scored"] for user in data["users"]] == [0, 12]
    assert data["users"][0]["faults"] == {"no_answer": 12}
    asked = desk.people.asked["good"]
    desk.people.locked = False
    did(*words, "--resume")
    assert [user["num_scored"] for user in read(tmp_path / "out" / "users.json")["users"]] == [12, 12]
    assert desk.people.asked["good"] == asked, "what was finished is not played again"


def test_users_may_be_added_to_a_result_and_none_left_out(desk: Desk, tmp_path: Path) -> None:
    did("eval", "expert", *SMALL, *desk.users("scripted", "good"), "--out", "out")
    fewer = banty("eval", "expert", *SMALL, *desk.users("scripted", "flips"), "--out", "out", "--resume")
    assert fewer.status == 2
    assert "has results under the user good too" in fewer.err
    did("eval", "expert", *SMALL, *desk.users("scripted", "good", "flips"), "--out", "out", "--resume")
    assert len(read(tmp_path / "out" / "users.json")["users"]) == 3
    before = read(tmp_path / "out" / "users.json")
    other = banty(
        "eval", "expert", "--tasks", "5", *desk.users("scripted", "good", "flips"), "--out", "out", "--resume"
    )
    assert other.status == 2
    assert "holds another evaluation" in other.err
    assert read(tmp_path / "out" / "users.json") == before, "what is refused changes nothing"
    (tmp_path / "out" / "users.json").write_text('{"format": "banty-users-1", "users": 3}')
    damaged = banty("eval", "expert", *SMALL, *desk.users("scripted", "good"), "--out", "out", "--resume")
    assert (damaged.status, "is damaged" in damaged.err) == (2, True)


def test_one_user_alone_is_an_evaluation_as_ever(desk: Desk, tmp_path: Path) -> None:
    failed = banty("eval", "expert", *SMALL, *desk.users("calls"), "--out", "out")
    assert failed.status == 2
    assert "made a tool call of 'cancel_reservation'; it has no tools" in failed.err
    card = read(tmp_path / "out" / "card.json")
    assert card["simulator"]["faults"] == {"tool_call": 12}
    assert card["user"]["asked_again"] == {"tool call": 24}
    assert desk.people.asked["calls"] == 36, "each is asked three times"
    shown = did("eval", "expert", *SMALL, *desk.users("good"), "--out", "good")
    assert "not scored" not in shown
    assert "good (served good-2026-11, guidelines" in shown
    assert "temperature 0)" in shown


def test_results_under_different_users_are_compared_only_when_asked_for(desk: Desk) -> None:
    did("eval", "expert", *SMALL, *desk.users("scripted", "good"), "--out", "out")
    refused = banty("compare", "out/user-scripted", "out/user-good")
    assert refused.status == 2
    assert "measured under different users" in refused.err
    assert "the users differ" in did("compare", "out/user-scripted", "out/user-good", "--across-users")


def test_guidelines_and_temperatures_reach_the_user_and_the_result(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "mine.md").write_text("Be curt. End with ###STOP###.")
    words = ("eval", "expert", *SMALL, *desk.users("good", "good"), "--user-guidelines", "mine.md")
    did(*words, "--user-temperature", "0", "--user-temperature", "0.7", "--out", "out")
    data = read(tmp_path / "out" / "users.json")
    assert [(user["name"], user["temperature"], user["folder"]) for user in data["users"]] == [
        ("good-t0", 0.0, "user-good-t0"),
        ("good-t0.7", 0.7, "user-good-t0.7"),
    ]
    assert all(system.startswith("Be curt.") for system in desk.people.systems)
    recipe = read(tmp_path / "out" / "user-good-t0" / "recipe.json")
    assert recipe["options"] == {"customer": "model", "guidelines": str(tmp_path / "mine.md")}
    assert recipe["role_params"]["user"]["temperature"] == 0.0
    assert recipe["provenance"]["user_guidelines"] == "mine.md"
    (tmp_path / "mine.md").write_text("Be kind. End with ###STOP###.")
    changed = banty(*words, "--user-temperature", "0", "--user-temperature", "0.7", "--out", "out", "--resume")
    assert changed.status == 2
    assert "provenance" in changed.err


def test_a_model_folder_is_a_user_with_its_own_template_and_sampling(desk: Desk, tmp_path: Path) -> None:
    model = str(tiny_folder("qwen3"))
    words = ("eval", "expert", "--tasks", "3", "--trials", "1", "--no-baselines", "--threads", "1", "--user", model)
    more = ("--user", "scripted", "--user-temperature", "1", "--user-max-tokens", "12", "--max-turns", "4")
    for out in ("one", "two"):
        banty(*words, *more, "--out", out)
    (mine, _) = read(tmp_path / "one" / "users.json")["users"]
    folder = mine["folder"]
    assert re.match(r"weights [0-9a-f]{12}, guidelines ", mine["version"])
    first, second = (list(stored_rollouts(tmp_path / out / folder)) for out in ("one", "two"))
    users = [turn for rollout in first for turn in rollout.turns if turn.actor == "user"]
    assert users
    assert all(turn.segment and turn.segment.transform.temperature == 1.0 for turn in users)
    assert {turn.policy for turn in users} == {f"{mine['name']}, {mine['version'].split(',')[0]}, temperature 1"}
    assert all(turn.sampled_tokens <= 12 for turn in users)
    assert [rollout.transcript for rollout in first] == [rollout.transcript for rollout in second], "the order is exact"
    assert read(tmp_path / "one" / folder / "engine.json")["threads"] == 1


def test_agent_and_users_of_one_folder_load_it_once_and_answer_as_from_two(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = str(tiny_folder("qwen3"))
    shutil.copytree(model, tmp_path / "twin")
    loads: list[str] = []

    def counted(start: str, **options: Any) -> LanguageModel:
        loads.append(str(start))
        return load_model(start, **options)

    monkeypatch.setattr("banty.models.loading.load_model", counted)
    words = ("--tasks", "2", "--trials", "1", "--no-baselines", "--threads", "1", "--max-turns", "3")
    caps = ("--max-tokens", "20", "--user-max-tokens", "12", "--user-temperature", "1")
    banty("eval", model, *words, *caps, "--user", model, "--out", "one")
    assert len(loads) == 1
    banty("eval", model, *words, *caps, "--user", str(tmp_path / "twin"), "--out", "two")
    assert len(loads) == 3
    one, two = (list(stored_rollouts(tmp_path / out)) for out in ("one", "two"))
    assert [rollout.transcript for rollout in one] == [rollout.transcript for rollout in two]
    capped = [(turn.actor, turn.sampled_tokens) for rollout in one for turn in rollout.turns]
    assert {actor for actor, _ in capped} >= {"user"}
    assert all(sampled <= (12 if actor == "user" else 20) for actor, sampled in capped)


def test_a_dry_run_shows_every_user_and_writes_nothing(desk: Desk, tmp_path: Path) -> None:
    plans = json.loads(did("eval", "expert", *SMALL, *desk.users("scripted", "good"), "--dry-run"))["users"]
    assert [plan["provenance"]["user"] for plan in plans] == ["scripted", "model"]
    assert plans[1]["role_details"]["user"] == {"name": "good", "kind": "endpoint", "model": "good"}
    assert list(tmp_path.iterdir()) == []
    assert desk.people.asked == {}


def test_play_and_tasks_take_the_same_users(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = json.loads(did("tasks", "airline/mini", "--count", "1", *desk.users("good"), "--json"))
    assert shown[0]["opening"][-1]["content"].startswith("Hello. ")
    with open(os.devnull) as nobody:
        monkeypatch.setattr("sys.stdin", nobody)
        played = did("play", "airline/mini", "--agent", "expert", *desk.users("good"))
    assert "user: Hello. " in played


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--user", "nobody"), "'nobody' is no user: give scripted, nano"),
        (("--user", "scripted", "--user", "scripted"), "names scripted twice"),
        (("--user", "http://h#m", "--user", "http://h#m"), "names m twice"),
        (("--user", "http://h#m", "-o", "customer=scripted"), "--option says customer=scripted"),
        (("--user", "scripted", "-o", "customer=model"), "--option says customer=model"),
        (("--user", "scripted", "--user-guidelines", "x.md"), "--user-guidelines is for a user played by a model"),
        (("--user-guidelines", "x.md"), "--user-guidelines is for a user played by a model"),
        (("--user", "http://h#m", "--user-guidelines", "x.md"), "x.md cannot be read: No such file"),
        (("--user", "http://h#m", "--user-temperature", "-1"), "--user-temperature is -1"),
        (("--user", "http://h#m", "--user-temperature", "0", "--user-temperature", "1"), "given 2 times for 1 users"),
        (("--user", "scripted", "--user", "http://h#m", "--resume", "--out", "o"), "it has no users.json"),
        (("--user", "http://127.0.0.1:1"), "has to be asked for its model"),
    ],
)
def test_wrong_users_get_one_sentence_and_nothing_is_written(
    desk: Desk, tmp_path: Path, words: tuple[str, ...], says: str
) -> None:
    out = () if "--out" in words else ("--out", "o")
    refused = banty("eval", "expert", *SMALL, *words, *out)
    assert refused.status == 2
    assert says in refused.err
    assert len(refused.err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not PLACE.is_dir(), reason="the benchmark's data is not here")
def test_the_published_tasks_are_played_by_the_benchmarks_own_guidelines(desk: Desk, tmp_path: Path) -> None:
    words = ("eval", "do-nothing", "--env", "airline/tau2", "-o", f"data={PLACE}", "--tasks", "3", "--trials", "1")
    did(*words, "--no-baselines", *desk.users("good"), "--out", "out")
    user = read(tmp_path / "out" / "card.json")["user"]
    assert user["guidelines"] == "simulation_guidelines.md"
    assert user["guidelines_sha256"] == "740a29dfa64d7bc08eea3bf7493575b914a63f744acbaf7f199ee07eddaf72d3"
    assert all(system.startswith("# User Simulation Guidelines") for system in desk.people.systems)
