"""A stored rollout comes out the same again with nobody to ask, or it is said where it does not."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.envs.example_envs import KINDS, Dial, DialTasks, LibraryDesk, LibraryTasks, delegates, idle, lines
from tests.rollout.puppets import Bench, Chatter, Stage, Voice, calling, perform, task

from banty.envs.tasksets import Tasks
from banty.errors import BudgetExhausted, ReplayMismatch
from banty.records import (
    CallResult,
    Completion,
    Env,
    Host,
    Limits,
    Message,
    Observation,
    Outcome,
    Policy,
    Rollout,
    Task,
    Taskset,
    ToolCall,
)
from banty.rollout import Cast, Store, collect, plan_groups, replay, run_episode

Tree = tuple[Rollout, ...]


def stored(trees: Sequence[Tree], folder: Path) -> list[Tree]:
    """The trees as a store gives them back."""
    store = Store(folder)
    store.write("part", [rollout for tree in trees for rollout in tree])
    rollouts = list(store.read())
    roots = [rollout for rollout in rollouts if rollout.depth == 0]
    return [tuple(each for each in rollouts if each.root_id == root.rollout_id) for root in roots]


def played(
    taskset: Taskset, policy: Callable[[Task], Policy], roles: dict[str, Policy], limits: Limits | None = None
) -> list[Tree]:
    async def run() -> list[Tree]:
        trees: list[Tree] = []
        for index in range(4):
            it = taskset.task("test", index, seed=2)
            specs = plan_groups([it], 1, seed=1)
            trees += await collect(specs, taskset, Cast(policy(it), roles), limits)
        return trees

    return perform(run())


def replayed(tree: Tree, taskset: Taskset, limits: Limits | None = None) -> Tree:
    return perform(replay(tree, taskset, limits))


@pytest.mark.parametrize("which", ["good", "bad"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_environment_replays_after_a_round_trip(kind: str, which: str, tmp_path: Path) -> None:
    it = KINDS[kind]
    trees = played(it.taskset, it.good if which == "good" else it.bad, it.roles)
    fresh = type(it.taskset)()
    for tree in stored(trees, tmp_path):
        again = replayed(tree, fresh)
        assert [rollout.rollout_id for rollout in again] == [rollout.rollout_id for rollout in tree]
        for one, other in zip(tree, again, strict=True):
            assert one.outcome == other.outcome
            assert one.transcript == other.transcript
            assert [turn.segment for turn in one.turns] == [turn.segment for turn in other.turns]


CAPS: dict[str, tuple[Limits, dict[str, Any]]] = {
    "turns": (Limits(max_turns=3), {}),
    "tokens": (Limits(max_tokens=25), {"tokens": 10}),
    "cost": (Limits(max_cost_usd=0.3), {"cost_usd": 0.1}),
    "errors": (Limits(max_consecutive_errors=2), {}),
}


@pytest.mark.parametrize("with_limits", [True, False])
@pytest.mark.parametrize("cap", CAPS)
def test_truncated_rollouts_replay(cap: str, with_limits: bool, tmp_path: Path) -> None:
    limits, options = CAPS[cap]
    stage = Stage(lambda task: Bench(9))
    voice = Voice(lambda request: calling("refuse") if cap == "errors" else calling("fine"), **options)
    tree = perform(run_episode(plan_groups([task()], 1, 0)[0], stage, Cast(voice), limits))
    assert (tree[0].status, tree[0].cause) == ("truncated", cap)
    (tree,) = stored([tree], tmp_path)
    again = replayed(tree, stage, limits if with_limits else None)
    assert (again[0].status, again[0].cause) == ("truncated", cap)
    assert again[0].outcome == tree[0].outcome


def test_children_that_shared_what_was_left_replay() -> None:
    """Which of them met the cap was a matter of time; a replay has other times."""

    class Parent(Chatter):
        async def step(self, completion: Completion, host: Host) -> Observation:
            await host.spawn([Task("stage", "test", 1 + place, 0) for place in range(2)])
            return Observation(done=True)

    async def answer(session: str) -> str:
        await asyncio.sleep(0.2 if "/1" in session else 0.0)
        return "yes"

    stage = Stage(lambda task: Parent() if task.index == 0 else Chatter(5))
    cast = Cast(Voice(lambda request: answer(request.session), tokens=10))
    tree = perform(run_episode(plan_groups([task()], 1, 0)[0], stage, cast, Limits(max_tokens=50)))
    assert [len(rollout.turns) for rollout in tree] == [1, 1, 4]
    assert [rollout.cause for rollout in tree] == ["", "tokens", "tokens"]
    for limits in (None, Limits(max_tokens=50)):
        assert [len(rollout.turns) for rollout in replayed(tree, stage, limits)] == [len(r.turns) for r in tree]


def test_grandchildren_replay_without_being_told_the_depth() -> None:
    class Parent(Chatter):
        def __init__(self, depth: int) -> None:
            super().__init__(1)
            self.depth = depth

        async def step(self, completion: Completion, host: Host) -> Observation:
            if self.depth < 3:
                await host.spawn([Task("stage", "test", self.depth + 1, 0)])
            return await super().step(completion, host)

    stage = Stage(lambda task: Parent(task.index))
    tree = perform(run_episode(plan_groups([task()], 1, 0)[0], stage, Cast(Voice()), Limits(max_depth=3)))
    assert len(tree) == 4
    assert len(replayed(tree, stage)) == 4


def test_a_refusal_replays_under_the_limits_of_the_run() -> None:
    class Trying(Chatter):
        async def step(self, completion: Completion, host: Host) -> Observation:
            try:
                await host.spawn([Task("stage", "test", 1, 0)] * 3)
            except BudgetExhausted as refused:
                return Observation((Message("user", str(refused)),), done=True)
            raise AssertionError

    stage = Stage(lambda task: Trying())
    limits = Limits(max_children=2)
    tree = perform(run_episode(plan_groups([task()], 1, 0)[0], stage, Cast(Voice()), limits))
    assert replayed(tree, stage, limits)[0].transcript == tree[0].transcript


def test_questions_asked_at_once_replay_whatever_the_order_of_their_answers() -> None:
    class AskingTwo(Chatter):
        async def step(self, completion: Completion, host: Host) -> Observation:
            questions = [host.ask("judge", [Message("user", text)]) for text in ("slow?", "quick?")]
            slow, quick = await asyncio.gather(*questions)
            return Observation((Message("user", f"{slow.content} {quick.content}"),), done=True)

    async def answer(text: str) -> str:
        await asyncio.sleep(0.1 if text == "slow?" else 0.0)
        return text.upper()

    stage = Stage(lambda task: AskingTwo())
    judge = Voice(lambda request: answer(request.messages[-1].content))
    tree = perform(run_episode(plan_groups([task()], 1, 0)[0], stage, Cast(Voice(), {"judge": judge})))
    assert [turn.message.content for turn in tree[0].turns] == ["yes", "QUICK?", "SLOW?"]
    assert replayed(tree, stage)[0].turns[0].observation == tree[0].turns[0].observation


def test_an_errored_rollout_is_refused() -> None:
    stage = Stage()

    def failing(request: Any) -> str:
        raise ConnectionError("endpoint down")

    tree = perform(run_episode(plan_groups([task()], 1, 0)[0], stage, Cast(Voice(failing))))
    with pytest.raises(ReplayMismatch, match="infrastructure") as caught:
        replayed(tree, stage)
    assert tree[0].rollout_id in str(caught.value)


def test_a_tree_with_an_errored_child_is_refused() -> None:
    (root, child, other), *_ = played(KINDS["council"].taskset, delegates, {})
    broken = dataclasses.replace(child, status="errored", cause="judge", outcome=Outcome())
    with pytest.raises(ReplayMismatch, match="errored"):
        replayed((root, broken, other), KINDS["council"].taskset)


# Tampering, of the record or of the environment.


def with_turn(rollout: Rollout, index: int, **changes: Any) -> Rollout:
    turns = list(rollout.turns)
    turns[index] = dataclasses.replace(turns[index], **changes)
    return dataclasses.replace(rollout, turns=tuple(turns))


def other_call(call: CallResult, **changes: Any) -> tuple[CallResult, ...]:
    return (dataclasses.replace(call, **changes),)


def prudent_tree() -> Tree:
    return played(KINDS["library"].taskset, KINDS["library"].good, {})[0]


TAMPERINGS: dict[str, tuple[Callable[[Rollout], Rollout], Sequence[str]]] = {
    "opening": (
        lambda it: dataclasses.replace(it, opening=(*it.opening, Message("user", "Psst!"))),
        ["opening", "Psst!"],
    ),
    "tools": (lambda it: dataclasses.replace(it, tools=it.tools[1:]), ["tools"]),
    "observation": (
        lambda it: with_turn(it, 1, observation=(Message("tool", "forged"),)),
        ["turn 1", "observation", "forged"],
    ),
    "output": (lambda it: with_turn(it, 2, calls=other_call(it.turns[2].calls[0], output="[]x")), ["turn 2", "calls"]),
    "hash of a call": (
        lambda it: with_turn(it, 4, calls=other_call(it.turns[4].calls[0], state_after="library:0")),
        ["turn 4", "calls", "library:0"],
    ),
    "state before": (lambda it: with_turn(it, 3, state_before="library:0"), ["turn 3", "state_before"]),
    "state after": (lambda it: with_turn(it, 4, state_after="library:0"), ["turn 4", "state_after"]),
    "success": (
        lambda it: dataclasses.replace(it, outcome=dataclasses.replace(it.outcome, success=False)),
        ["outcome"],
    ),
    "reward": (lambda it: dataclasses.replace(it, outcome=dataclasses.replace(it.outcome, reward=0.5)), ["outcome"]),
    "no reward": (
        lambda it: dataclasses.replace(it, outcome=dataclasses.replace(it.outcome, reward=None)),
        ["outcome"],
    ),
    "component": (
        lambda it: dataclasses.replace(it, outcome=dataclasses.replace(it.outcome, components={"state": 0.0})),
        ["outcome"],
    ),
    "reason": (lambda it: dataclasses.replace(it, outcome=dataclasses.replace(it.outcome, reason="")), ["outcome"]),
    "a turn less": (lambda it: dataclasses.replace(it, turns=it.turns[:-1]), ["more answers than were recorded"]),
    "a turn more": (
        lambda it: dataclasses.replace(it, turns=(*it.turns, dataclasses.replace(it.turns[-1], index=len(it.turns)))),
        ["turns"],
    ),
    "an answer": (
        lambda it: with_turn(it, 4, message=Message("assistant", calls=(ToolCall("find", {"title": "Emma"}),))),
        ["turn 4"],
    ),
    "status": (lambda it: dataclasses.replace(it, status="truncated", cause="turns"), ["status"]),
}


@pytest.mark.parametrize("tampering", TAMPERINGS)
def test_a_tampered_record_is_found_out(tampering: str) -> None:
    change, words = TAMPERINGS[tampering]
    (rollout,) = prudent_tree()
    changed = change(rollout)
    with pytest.raises(ReplayMismatch) as caught:
        replayed((changed,), KINDS["library"].taskset)
    for word in (rollout.rollout_id, *words):
        assert word in str(caught.value)


def test_what_a_user_was_shown_is_compared() -> None:
    it = KINDS["talk"]
    (rollout,) = played(it.taskset, it.good, it.roles)[0]
    place = next(turn.index for turn in rollout.turns if turn.actor == "user")
    changed = with_turn(rollout, place, request=(Message("system", "You are somebody else."),))
    with pytest.raises(ReplayMismatch, match=f"turn {place}: the user is shown other messages"):
        replayed((changed,), it.taskset)


def test_a_tampered_child_is_found_out() -> None:
    root, first, second = played(KINDS["council"].taskset, delegates, {})[0]
    changed = dataclasses.replace(second, outcome=Outcome(False, 0.0))
    with pytest.raises(ReplayMismatch, match=r"#0/2: the outcome"):
        replayed((root, first, changed), KINDS["council"].taskset)
    with pytest.raises(ReplayMismatch):
        replayed((root, first), KINDS["council"].taskset)


class OtherDesk(LibraryDesk):
    """The desk after somebody changed what a tool says."""

    def view(self, name: str, result: Any) -> str:
        return super().view(name, result).replace("is lent", "was lent").replace("is back", "came back")


class OtherLibrary(LibraryTasks):
    def episode(self, task: Task) -> Env:
        return OtherDesk(task.data)


class ShortDial(Dial):
    """The dial after somebody let it end too soon."""

    async def step(self, completion: Completion, host: Host) -> Observation:
        return dataclasses.replace(await super().step(completion, host), done=True)


class ShortDials(DialTasks):
    def episode(self, task: Task) -> Env:
        return ShortDial(task.data)


class BrokenDial(Dial):
    async def step(self, completion: Completion, host: Host) -> Observation:
        raise ConnectionError("no dial")


class BrokenDials(DialTasks):
    def episode(self, task: Task) -> Env:
        return BrokenDial(task.data)


@pytest.mark.parametrize(
    ("kind", "changed", "words"),
    [
        ("library", OtherLibrary(), ["turn 4", "observation"]),
        ("dial", ShortDials(), ["number of turns"]),
        ("dial", BrokenDials(), ["turn 0", "no dial"]),
    ],
)
def test_a_changed_environment_is_found_out_where_it_first_differs(kind: str, changed: Tasks, words: list[str]) -> None:
    it = KINDS[kind]
    trees = [tree for tree in played(it.taskset, it.good, it.roles) if len(tree[0].turns) > 1]
    with pytest.raises(ReplayMismatch) as caught:
        replayed(trees[0], changed)
    for word in (trees[0][0].rollout_id, *words):
        assert word in str(caught.value)


def test_another_task_is_found_out() -> None:
    it = KINDS["library"]
    (rollout,) = played(it.taskset, idle, {})[0]
    elsewhere = dataclasses.replace(rollout, task=it.taskset.task("test", 5, 2))
    with pytest.raises(ReplayMismatch, match="opening"):
        replayed((elsewhere,), it.taskset)


def test_a_replay_asks_no_live_policy() -> None:
    """What the environment is answered comes from the record even where the same policy would now say otherwise."""
    it = KINDS["dial"]
    said = ["turn 3", "leave"]
    (rollout,) = played(it.taskset, lambda task: lines(*said), {})[0]
    said[0] = "turn 4"
    (again,) = replayed((rollout,), it.taskset)
    assert [turn.message.content for turn in again.turns] == ["turn 3", "leave"]
    assert again.policy == "recorded"
