"""What every environment promises, shown on one of each kind (see `example_envs`)."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tests.envs.example_envs import (
    GOLD,
    KINDS,
    Client,
    DialTasks,
    LibraryTasks,
    RemoteTasks,
    Server,
    claims,
    delegates,
    does_everything,
    gold_replay,
    idle,
    lines,
    model_user,
    peeks,
    prudent,
    undoes,
)

from banty.envs.tasksets import Tasks
from banty.envs.toolenv import ToolEnv, tool
from banty.errors import InputError
from banty.policies.scripted import FunctionPolicy
from banty.records import (
    CallFault,
    Completion,
    Env,
    Host,
    Limits,
    Message,
    Observation,
    Opening,
    Outcome,
    Policy,
    Rollout,
    SampleRequest,
    Task,
    ToolCall,
    canonical_json,
)
from banty.rollout import Cast, Store, collect, plan_groups, run_episode
from banty.rollout.order import ExactOrder

ROOT = Path(__file__).parents[2]


def collected(
    taskset: Tasks,
    policy: Callable[[Task], Policy],
    *,
    split: str = "test",
    seed: int = 0,
    num_trials: int = 1,
    num_tasks: int = 6,
    limits: Limits | None = None,
    exact: bool = True,
) -> list[tuple[Rollout, ...]]:
    """Every task played by a policy made for it."""
    tasks = [taskset.task(split, index, seed) for index in range(num_tasks)]

    def answering(task: Task) -> Cast:
        return Cast(policy(task), {role: model_user() for role in sorted(taskset.roles)})

    async def run() -> list[tuple[Rollout, ...]]:
        trees = []
        for task in tasks:
            specs = plan_groups([task], num_trials, seed=1)
            trees += await collect(specs, taskset, answering(task), limits, exact=exact)
        return trees

    return asyncio.run(asyncio.wait_for(run(), 10))


def roots(trees: list[tuple[Rollout, ...]]) -> list[Rollout]:
    return [tree[0] for tree in trees]


# What policies score.


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_good_policy_succeeds_and_a_bad_one_does_not(kind: str, exact: bool) -> None:
    it = KINDS[kind]
    good, bad = (roots(collected(it.taskset, policy, exact=exact)) for policy in (it.good, it.bad))
    assert {rollout.status for rollout in good + bad} == {"completed"}, [rollout.detail for rollout in good + bad]
    assert [rollout.outcome.success for rollout in good] == [True] * 6
    assert [rollout.outcome.reward for rollout in good] == [1.0] * 6
    assert [rollout.outcome.success for rollout in bad] == [False] * 6
    assert [rollout.outcome.reward for rollout in bad] == [0.0] * 6


@pytest.mark.parametrize("kind", KINDS)
def test_doing_nothing_scores_nothing(kind: str) -> None:
    rollouts = roots(collected(KINDS[kind].taskset, idle, limits=Limits(max_turns=4)))
    assert [rollout.outcome.success for rollout in rollouts] == [False] * 6
    assert {rollout.status for rollout in rollouts} <= {"completed", "truncated"}


@pytest.mark.parametrize(
    ("policy", "success"),
    [
        (idle, False),
        (gold_replay, True),
        (prudent, True),
        (claims, False),
        (peeks, False),
        (undoes, False),
        (does_everything, False),
    ],
)
@pytest.mark.parametrize("split", ["train", "test"])
def test_what_the_library_thinks_of_a_policy(policy: Callable[[Task], Policy], success: bool, split: str) -> None:
    for rollout in roots(collected(LibraryTasks(), policy, split=split)):
        assert rollout.status == "completed"
        assert rollout.outcome.success is success
        assert rollout.outcome.reward == float(success)


def test_children_make_a_parents_outcome() -> None:
    for root, *children in collected(KINDS["council"].taskset, delegates):
        assert [child.outcome.success for child in children] == [True, True]
        assert root.outcome.components == {"half_0": 1.0, "half_1": 1.0}
        assert [child.parent_id for child in children] == [root.rollout_id] * 2


def test_a_child_that_errored_is_a_component_without_a_value() -> None:
    class FailsTheSecond(FunctionPolicy):
        async def sample(self, request: SampleRequest) -> Completion:
            if request.session.endswith("/2|agent"):
                raise ConnectionError("endpoint down")
            return await delegates(it).sample(request)

    taskset = KINDS["council"].taskset
    it = taskset.task("test", 0)
    for root, *children in collected(taskset, lambda task: FailsTheSecond(lambda request: ""), num_tasks=2):
        assert root.status == "completed"
        assert root.outcome.success is False
        assert root.outcome.components == {"half_0": 1.0, "half_1": None}
        assert [child.status for child in children] == ["completed", "errored"]


# Seeds.


def opening_bytes(rollout: Rollout) -> bytes:
    shown = [message.to_json() for message in rollout.opening], [schema.to_json() for schema in rollout.tools]
    return canonical_json(shown).encode()


def everything(trees: list[tuple[Rollout, ...]]) -> list[tuple[Rollout, ...]]:
    """Rollouts without their durations."""
    return [
        tuple(
            dataclasses.replace(
                rollout,
                duration_s=0.0,
                turns=tuple(dataclasses.replace(turn, policy_s=0.0, env_s=0.0) for turn in rollout.turns),
            )
            for rollout in tree
        )
        for tree in trees
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_pin_gives_the_same_bytes(kind: str) -> None:
    it = KINDS[kind]
    first, second = collected(it.taskset, it.good, seed=5), collected(type(it.taskset)(), it.good, seed=5)
    assert list(map(opening_bytes, roots(first))) == list(map(opening_bytes, roots(second)))
    assert everything(first) == everything(second)
    data = {repr(it.taskset.task("test", index, seed).data) for seed in (5, 6) for index in range(6)}
    assert len(data) > 3, "another index or seed is another task"


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_is_made_again_from_its_pin(kind: str) -> None:
    taskset = KINDS[kind].taskset
    task = taskset.task("train", 3, 11)
    pin = json.loads(json.dumps(task.pin))
    assert pin == {"env": taskset.env, "split": "train", "index": 3, "seed": 11}
    again = taskset.task(pin["split"], pin["index"], pin["seed"])
    assert again == task
    assert repr(again.data) == repr(task.data) or kind == "library"


def test_openings_are_the_same_in_another_process() -> None:
    script = (
        "import asyncio, hashlib\n"
        "from tests.envs.test_env_contract import KINDS, collected, opening_bytes, roots\n"
        "for kind in KINDS.values():\n"
        "    for rollout in roots(collected(kind.taskset, kind.good, num_tasks=3)):\n"
        "        print(hashlib.sha256(opening_bytes(rollout)).hexdigest())\n"
    )
    told = set()
    for hash_seed in ("1", "77"):
        env = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False, env=env
        )
        assert done.returncode == 0, done.stderr
        told.add(done.stdout)
    assert len(told) == 1
    assert len(told.pop().split()) == 12


class Drawing:
    """Shows what its host drew, in an order that depends on what the agent says."""

    def __init__(self) -> None:
        self.turn = 0

    async def start(self, host: Host) -> Opening:
        return Opening((Message("user", str(host.rng("weather").integers(1 << 60))),))

    async def step(self, completion: Completion, host: Host) -> Observation:
        self.turn += 1
        if completion.message.content == "an extra question":
            host.rng("answer", 99).random(1000)
            host.rng("weather").random(1000)
        return Observation((Message("user", str(host.rng("weather", self.turn).integers(1 << 60))),), self.turn == 3)

    def outcome(self) -> Outcome:
        return Outcome(True, 1.0)

    async def close(self) -> None:
        """Nothing is held."""


class DrawingTasks(DialTasks):
    env = "drawing"

    def episode(self, task: Task) -> Env:
        return Drawing()


def test_a_group_shares_the_environments_draws_and_not_the_samplers() -> None:
    seeds: list[tuple[int | None, ...]] = []

    def recording(task: Task) -> Policy:
        mine: dict[str, list[int | None]] = {}

        def answer(request: SampleRequest) -> str:
            mine.setdefault(request.session, []).append(request.params.seed)
            if len(mine) == 4 and all(len(drawn) == 3 for drawn in mine.values()):
                seeds.extend(map(tuple, mine.values()))
            return "an extra question" if request.session.split("#")[1].startswith("2") else "go on"

        return FunctionPolicy(answer)

    first, second = (
        roots(collected(DrawingTasks(), recording, num_trials=4, num_tasks=1, seed=seed)) for seed in (0, 1)
    )
    assert len({rollout.transcript[0] for rollout in first}) == 1
    assert len({tuple(turn.observation for turn in rollout.turns) for rollout in first}) == 1, (
        "an extra question, and extra draws, shift nothing"
    )
    assert len({message for rollout in first for message in rollout.transcript if message.role == "user"}) == 4
    assert first[0].opening != second[0].opening
    other = roots(collected(DrawingTasks(), recording, num_tasks=2))[1]
    assert first[0].opening != other.opening, "two tasks of one seed draw differently"
    drawn = [seed for session in seeds for seed in session]
    assert len(drawn) == 24
    assert None not in drawn
    assert len(set(drawn)) == 24, "every turn of every member of every group samples with a seed of its own"


def test_a_samplers_seeds_do_not_depend_on_what_else_is_asked() -> None:
    def seeds(patience: int) -> list[int | None]:
        drawn: list[int | None] = []

        def agent(request: SampleRequest) -> str:
            drawn.append(request.params.seed)
            return "Which seat would you like?" if len(drawn) <= patience else "BOOK window"

        taskset = KINDS["talk"].taskset
        spec = plan_groups([taskset.task("test", 0)], 1, seed=1)[0]
        cast = Cast(FunctionPolicy(agent), {"user": model_user()})
        asyncio.run(run_episode(spec, taskset, cast))
        return drawn

    assert seeds(2)[:2] == seeds(1)


# Gold.


def assert_no_gold(value: Any) -> None:
    text = value if isinstance(value, str) else repr(value)
    assert GOLD not in text


@pytest.mark.parametrize("kind", KINDS)
def test_gold_is_in_no_pin_repr_schema_or_rollout(kind: str) -> None:
    it = KINDS[kind]
    task = it.taskset.task("test", 0)
    assert GOLD in repr(task.data), "the secret is planted"
    for told in (task, task.id, task.pin, task.public, f"{task}", it.taskset.provenance):
        assert_no_gold(told)
    for policy in (it.good, it.bad, idle):
        for tree in collected(it.taskset, policy):
            for rollout in tree:
                assert_no_gold(repr(rollout))
                assert_no_gold(rollout.detail + rollout.outcome.reason)


@pytest.mark.parametrize("kind", KINDS)
def test_gold_is_in_no_stored_byte(kind: str, tmp_path: Path) -> None:
    it = KINDS[kind]
    store = Store(tmp_path)
    for part, policy in (("good", it.good), ("bad", it.bad)):
        store.write(part, [rollout for tree in collected(it.taskset, policy) for rollout in tree])
    files = sorted(tmp_path.rglob("*.parquet"))
    assert len(files) == 6
    for file in files:
        assert GOLD.encode() not in file.read_bytes()
        table = pq.read_table(file)
        assert_no_gold(f"{table.to_pylist()} {table.schema.metadata}")
        plain = file.with_suffix(".plain")
        pq.write_table(table, plain, compression="none", use_dictionary=False)
        assert GOLD.encode() not in plain.read_bytes()
    for rollout in store.read():
        assert_no_gold(rollout)
        assert rollout.task.data is None


def test_gold_is_in_no_error_of_wrong_calls() -> None:
    wrong = [
        ToolCall("lend", {}),
        ToolCall("lend", {"book_id": 3, "member_id": None}),
        ToolCall("lend", {"book_id": "b0", "member_id": "m0", "answer": True}),
        ToolCall("lend", {"book_id": {"self": {}}, "member_id": ["_case"]}),
        ToolCall("return", {"book_id": "{self._case.answer}"}),
        ToolCall("audit", {}),
        ToolCall("find", {"title": "x", "self": 1, "host": 2}),
        ToolCall("_book", {"book_id": "b0"}),
        ToolCall("", {}),
    ]
    fault = CallFault("malformed", "that is no JSON", raw="{", name="lend")

    def wrongly(task: Task) -> Policy:
        return FunctionPolicy(
            lambda request: (
                "goodbye" if len(request.messages) > 3 else Message("assistant", calls=tuple(wrong), faults=(fault,))
            )
        )

    for rollout in roots(collected(LibraryTasks(), wrongly)):
        assert rollout.status == "completed", rollout.detail
        assert len(rollout.turns[0].calls) == 10
        assert all(call.error for call in rollout.turns[0].calls)
        assert_no_gold(rollout)


@pytest.mark.parametrize("kind", KINDS)
def test_gold_is_in_no_message_about_a_task_that_does_not_exist(kind: str) -> None:
    taskset = KINDS[kind].taskset
    for place in (("nowhere", 0), ("test", 6), ("test", -1)):
        with pytest.raises(InputError) as caught:
            taskset.task(*place)
        assert_no_gold(caught.value)


# ToolEnv's own promises.


class Shelf(ToolEnv):
    """Keeps a set, and a tool that is not always there."""

    open_late = False

    @tool("read", inline=True)
    def themes(self) -> set[str]:
        """All themes."""
        return {"war", "love", "sea", "home", "ghosts", "kings"}

    @tool("terminal", inline=True)
    def leave(self) -> str:
        """Go home."""
        return "home"

    @tool("read", inline=True)
    def night_desk(self) -> str:
        """Only at night."""
        return "at night"

    def offered(self) -> tuple[Any, ...]:
        return tuple(schema for schema in super().offered() if schema.name != "night_desk" or self.open_late)

    async def start(self, host: Host) -> Opening:
        return self.opening(Message("user", "hi"))

    async def reply(self, text: str, host: Host) -> Observation:
        return Observation(done=True)

    def outcome(self) -> Outcome:
        return Outcome(True)


class Shelves(DialTasks):
    env = "shelf"

    def __init__(self, env: type[Shelf] = Shelf) -> None:
        self._env = env

    def episode(self, task: Task) -> Env:
        return self._env()


class LateShelf(Shelf):
    open_late = True


def one_turn(message: Message, taskset: Tasks | None = None) -> Rollout:
    def answering(task: Task) -> Policy:
        return FunctionPolicy(lambda request: message if len(request.messages) == 1 else "bye")

    (rollout,) = roots(collected(taskset or Shelves(), answering, num_tasks=1))
    assert rollout.status == "completed", rollout.detail
    return rollout


def test_what_is_not_offered_is_not_accepted() -> None:
    call = Message("assistant", calls=(ToolCall("night_desk", {}),))
    (refused,) = one_turn(call).turns[0].calls
    assert refused.error == "unknown_tool"
    assert "Available tools: themes, leave" in refused.output
    (allowed,) = one_turn(call, Shelves(LateShelf)).turns[0].calls
    assert (allowed.error, allowed.output) == ("", "at night")


def test_a_result_without_order_is_shown_in_one_order() -> None:
    (result,) = one_turn(Message("assistant", calls=(ToolCall("themes", {}),))).turns[0].calls
    assert json.loads(result.output) == ["ghosts", "home", "kings", "love", "sea", "war"]


@pytest.mark.parametrize(
    ("orders", "expected"),
    [
        ((0, 2), ["bad", "themes", "bad", "themes"]),
        ((1, 2), ["themes", "bad", "bad", "themes"]),
        ((2, 1), ["themes", "bad", "bad", "themes"]),
        ((0, 0), ["bad", "bad", "themes", "themes"]),
        ((9, 9), ["themes", "themes", "bad", "bad"]),
    ],
)
def test_answers_come_in_the_order_that_was_written(orders: tuple[int, int], expected: list[str]) -> None:
    """Also for faults whose places a policy did not, or wrongly, give."""
    calls = (ToolCall("themes", {}, "t0"), ToolCall("themes", {}, "t1"))
    faults = tuple(CallFault("malformed", "no JSON", order, name="bad") for order in orders)
    rollout = one_turn(Message("assistant", calls=calls, faults=faults))
    assert [call.name for call in rollout.turns[0].calls] == expected
    assert [message.call_id for message in rollout.turns[0].observation if message.call_id] == ["t0", "t1"]
    assert [call.error for call in rollout.turns[0].calls] == [
        "malformed" if name == "bad" else "" for name in expected
    ]


def test_a_terminal_call_ends_the_episode_where_it_stands() -> None:
    calls = (ToolCall("themes", {}), ToolCall("leave", {}), ToolCall("themes", {}))
    rollout = one_turn(Message("assistant", calls=calls))
    assert [call.name for call in rollout.turns[0].calls] == ["themes", "leave"]
    assert len(rollout.turns) == 1


def test_a_terminal_call_that_failed_ends_nothing() -> None:
    rollout = one_turn(Message("assistant", calls=(ToolCall("leave", {"why": "tired"}),)))
    assert rollout.turns[0].calls[0].error == "arguments"
    assert len(rollout.turns) == 2


def test_each_call_has_the_state_around_it() -> None:
    taskset = LibraryTasks()
    (rollout,) = roots(collected(taskset, prudent, num_tasks=1))
    turns = rollout.turns
    hashes = [call for turn in turns for call in turn.calls]
    for before, after in itertools.pairwise(hashes):
        assert before.state_after == after.state_before
    changed = [call.name for call in hashes if call.state_before != call.state_after]
    assert changed == [taskset.task("test", 0).data.calls[0].name]
    assert [call.effect for call in hashes] == ["read", "read", "read", "write", "write", "read", "terminal"]
    assert (turns[0].state_before, turns[-1].state_after) == (hashes[0].state_before, hashes[-1].state_after)


def test_episodes_of_one_task_do_not_see_each_other() -> None:
    """Copy-on-write over one shared world: what one lends, the other still has."""
    taskset = LibraryTasks()
    task = taskset.task("test", 0)
    world = pickle.dumps(task.data.world.tables)
    specs = plan_groups([task], 5, seed=0)
    trees = asyncio.run(collect(specs, taskset, Cast(does_everything(task)), ExactLimits))
    assert len({str([call.output for turn in tree[0].turns for call in turn.calls]) for tree in trees}) == 1
    assert pickle.dumps(task.data.world.tables) == world


ExactLimits = Limits(max_turns=20)


# Served over a wire.


@pytest.mark.parametrize("kind", ["library", "talk", "dial"])
@pytest.mark.parametrize("which", ["good", "bad"])
def test_an_environment_can_be_served_over_a_wire(kind: str, which: str) -> None:
    """The remote episode is the local one, but for what the user said behind the wire."""
    it = KINDS[kind]
    remote = RemoteTasks(it)
    policy = it.good if which == "good" else it.bad
    made_for = {index: it.taskset.task("test", index) for index in range(6)}
    here = roots(collected(it.taskset, policy))

    async def there() -> list[Rollout]:
        rollouts: list[Rollout] = []
        for index in range(6):
            spec = plan_groups([remote.task("test", index)], 1, seed=1)[0]
            rollouts += await run_episode(spec, remote, Cast(policy(made_for[index])), order=ExactOrder())
        return rollouts

    for local, far in zip(here, asyncio.run(there()), strict=True):
        assert far.status == "completed", far.detail
        assert (far.opening, far.tools, far.outcome) == (local.opening, local.tools, local.outcome)
        assert far.transcript == local.transcript
        seen = [(turn.calls, turn.state_before, turn.state_after) for turn in far.agent_turns]
        assert seen == [(turn.calls, turn.state_before, turn.state_after) for turn in local.agent_turns]
        assert far.task.data is None
    assert remote.server.num_live == 0
    assert len(remote.wire) >= 6 * 6
    for text in remote.wire:
        assert_no_gold(text)


@pytest.mark.parametrize("kind", ["library", "talk", "dial"])
def test_gold_is_in_no_error_that_crosses_the_wire(kind: str) -> None:
    it = KINDS[kind]
    server = Server(it)
    good = it.taskset.task("test", 0).pin

    async def say(text: str) -> list[str]:
        made = json.loads(await server.make(json.dumps(good)))
        return [
            await server.make(text),
            await server.send(
                json.dumps({"episode": made["episode"], "message": {"role": "assistant", "calls": [{}]}})
            ),
            await server.send(json.dumps({"episode": made["episode"], "message": text})),
            await server.send(text),
        ]

    wrong: list[Any] = [{**good, "index": 99}, {**good, "split": "gold"}, {**good, "env": "other"}]
    for pin in [*wrong, {**good, "seed": "x"}, {"env": good["env"]}, []]:
        answers = asyncio.run(say(json.dumps(pin)))
        assert "error" in json.loads(answers[0])
        for answer in answers:
            assert_no_gold(answer)


def test_a_remote_episode_that_cannot_be_made_is_errored() -> None:
    remote = RemoteTasks(KINDS["dial"])
    spec = plan_groups([remote.task("test", 77)], 1, seed=1)[0]
    (rollout,) = asyncio.run(run_episode(spec, remote, Cast(lines("turn 1"))))
    assert (rollout.status, rollout.cause) == ("errored", "infrastructure")
    assert "77 was asked for" in rollout.detail
    assert isinstance(remote.episode(spec.task), Client)
    assert remote.server.num_live == 0
