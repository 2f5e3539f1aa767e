"""Children: budgets of the tree, failures below, and what their parent makes of them."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence

import pytest
from tests.rollout.puppets import QUICK, Chatter, Stage, Voice, assert_freed, perform, play, task

from banty.errors import BudgetExhausted
from banty.records import Completion, EpisodeSpec, Host, Limits, Message, Observation, Outcome, Rollout, Task
from banty.rollout import Cast, collect, run_episode

ROOMY = dataclasses.replace(QUICK, max_depth=3)


def below(depth: int, num: int) -> list[Task]:
    """Tasks for the children at a depth: the index says how deep they are."""
    return [Task("stage", "test", depth, seed) for seed in range(num)]


class Parent(Chatter):
    """Spawns its children at its first step and remembers how they did."""

    def __init__(self, children: Sequence[Task]) -> None:
        super().__init__(num_turns=2)
        self.children = children
        self.results: Sequence[Rollout] = ()
        self.refusal: BudgetExhausted | None = None

    async def step(self, completion: Completion, host: Host) -> Observation:
        if self.num_heard == 0:
            try:
                self.results = await host.spawn(self.children)
            except BudgetExhausted as refusal:
                self.refusal = refusal
        return await super().step(completion, host)


def family(*sizes: int) -> Stage:
    """A stage whose root has `sizes[0]` children, each of which has `sizes[1]`, and so on."""

    def make(task: Task) -> Chatter:
        return Parent(below(task.index + 1, sizes[task.index])) if task.index < len(sizes) else Chatter(1)

    return Stage(make)


def test_the_tree_and_its_keys() -> None:
    tree = perform(play(family(2, 2), limits=ROOMY))
    assert [rollout.rollout_id for rollout in tree] == ["r0", *(f"r0/{a}{b}" for a in "12" for b in ("", "/1", "/2"))]
    assert {rollout.root_id for rollout in tree} == {"r0"}
    assert [rollout.parent_id for rollout in tree] == ["", "r0", "r0/1", "r0/1", "r0", "r0/2", "r0/2"]
    assert [rollout.depth for rollout in tree] == [0, 1, 2, 2, 1, 2, 2]
    assert [rollout.call_index for rollout in tree] == [0, 0, 0, 1, 1, 0, 1]
    assert len({rollout.group_id for rollout in tree}) == 1
    assert len({rollout.seed for rollout in tree}) == 7, "every member of a tree samples with a seed of its own"


def test_children_come_back_in_the_order_of_their_tasks() -> None:
    async def answer(seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "yes"

    stage = family(3)
    voice = Voice(lambda request: answer(0.1 if request.session.startswith("r0/1") else 0.0))
    perform(play(stage, Cast(voice), ROOMY))
    assert [child.rollout_id for child in stage.made[0].results] == ["r0/1", "r0/2", "r0/3"]


def test_no_tasks_no_children() -> None:
    stage = Stage(lambda task: Parent([]))
    assert len(perform(play(stage, limits=dataclasses.replace(QUICK, max_depth=0)))) == 1
    assert stage.made[0].refusal is None


def test_the_depth_is_bounded() -> None:
    stage = family(1, 1)
    tree = perform(play(stage, limits=dataclasses.replace(QUICK, max_depth=1)))
    assert [rollout.depth for rollout in tree] == [0, 1]
    assert stage.made[0].refusal is None
    assert stage.made[1].refusal.kind == "depth"
    assert {rollout.status for rollout in tree} == {"completed"}


def test_the_number_of_children_is_bounded_over_the_whole_tree() -> None:
    stage = family(2, 2)
    tree = perform(play(stage, limits=dataclasses.replace(ROOMY, max_children=4)))
    assert len(tree) == 5, "the first grandparent's two children, and two of one of them"
    kinds = [env.refusal.kind for env in stage.made if isinstance(env, Parent) and env.refusal]
    assert kinds == ["children"]


def test_a_set_of_children_is_made_whole_or_not_at_all() -> None:
    stage = family(5)
    (rollout,) = perform(play(stage, limits=dataclasses.replace(ROOMY, max_children=4)))
    assert rollout.status == "completed"
    assert len(stage.made) == 1


def test_the_tree_shares_its_tokens() -> None:
    """10 for the root's turn, 10 for each of two children: nothing is left for the root's second turn."""
    tree = perform(play(family(2), Cast(Voice(tokens=10)), dataclasses.replace(ROOMY, max_tokens=30)))
    root, *children = tree
    assert [child.status for child in children] == ["completed", "completed"]
    assert (root.status, root.cause) == ("truncated", "tokens")
    assert root.scored


def test_a_child_may_meet_the_trees_cap() -> None:
    def make(task: Task) -> Chatter:
        return Parent(below(1, 1)) if task.index == 0 else Chatter(5)

    root, child = perform(play(Stage(make), Cast(Voice(tokens=10)), dataclasses.replace(ROOMY, max_tokens=30)))
    assert (child.status, child.cause, len(child.turns)) == ("truncated", "tokens", 2)
    assert (root.status, root.cause, len(root.turns)) == ("truncated", "tokens", 1)


def test_a_child_that_errored_does_not_kill_its_parent() -> None:
    class Broken(Chatter):
        async def step(self, completion: Completion, host: Host) -> Observation:
            raise ConnectionError("no database")

    def make(task: Task) -> Chatter:
        if task.index == 0:
            return Parent(below(1, 3))
        if task.seed == 1:
            raise FileNotFoundError("world.json")
        return Broken() if task.seed == 2 else Chatter(1)

    stage = Stage(make)
    root, *children = perform(play(stage, limits=ROOMY))
    assert root.status == "completed"
    assert [child.status for child in children] == ["completed", "errored", "errored"]
    assert [child.outcome.success for child in children] == [True, None, None]
    assert list(stage.made[0].results) == children


def test_a_child_has_its_parents_deadline() -> None:
    """A child cannot outlive its root, and both are told apart from what never ran."""

    async def answer(session: str) -> str:
        await asyncio.sleep(60 if "/" in session else 0)
        return "yes"

    limits = dataclasses.replace(ROOMY, episode_timeout_s=0.3, policy_timeout_s=60)
    tree = perform(play(family(1), Cast(Voice(lambda request: answer(request.session))), limits))
    assert [(rollout.status, rollout.cause) for rollout in tree] == [("errored", "deadline")] * 2


def test_children_take_longer_than_a_step() -> None:
    async def answer() -> str:
        await asyncio.sleep(0.12)
        return "yes"

    def make(task: Task) -> Chatter:
        return Parent(below(1, 2)) if task.index == 0 else Chatter(3)

    limits = dataclasses.replace(ROOMY, step_timeout_s=0.2)
    tree = perform(play(Stage(make), Cast(Voice(lambda request: answer())), limits))
    assert {rollout.status for rollout in tree} == {"completed"}


@pytest.mark.parametrize("exact", [True, False])
def test_a_child_that_had_finished_is_kept_when_its_parent_fails(exact: bool) -> None:
    class Impatient(Chatter):
        async def step(self, completion: Completion, host: Host) -> Observation:
            async with asyncio.TaskGroup() as group:
                group.create_task(host.spawn(below(1, 2)))
                await asyncio.sleep(0.1)
                raise ConnectionError("no database")
            raise AssertionError

    class Hanging(Chatter):
        async def step(self, completion: Completion, host: Host) -> Observation:
            await asyncio.sleep(60)
            raise AssertionError

    def make(task: Task) -> Chatter:
        if task.index == 0:
            return Impatient()
        return Hanging() if task.seed else Chatter(1)

    async def run() -> None:
        stage = Stage(make)
        cast = Cast(Voice())
        specs = [EpisodeSpec(task(0), rollout_id="r0")]
        (tree,) = await collect(specs, stage, cast, Limits(), exact=exact)
        assert [(rollout.rollout_id, rollout.status) for rollout in tree] == [("r0", "errored"), ("r0/1", "completed")]
        assert "no database" in tree[0].detail
        assert_freed(stage, cast)

    perform(run())


@pytest.mark.parametrize("exact", [True, False])
def test_children_left_running_end_with_their_parent(exact: bool) -> None:
    class Careless(Chatter):
        async def step(self, completion: Completion, host: Host) -> Observation:
            self.detached = asyncio.create_task(host.spawn(below(1, 2)))
            await asyncio.sleep(0.05)
            return Observation(done=True)

    async def never() -> str:
        await asyncio.sleep(60)
        return "yes"

    async def run() -> None:
        stage = Stage(lambda task: Careless() if task.index == 0 else Chatter(1))
        cast = Cast(Voice(lambda request: never() if "/" in request.session else "yes"))
        specs = [EpisodeSpec(task(0), rollout_id="r0")]
        limits = dataclasses.replace(ROOMY, policy_timeout_s=60)
        ((root, *_),) = await collect(specs, stage, cast, limits, exact=exact)
        assert root.status == "completed"
        assert_freed(stage, cast)
        await asyncio.wait({stage.made[0].detached})

    perform(run())


@pytest.mark.parametrize("exact", [True, False])
def test_cancelling_a_parent_waits_until_its_children_are_closed(exact: bool) -> None:
    """A child's closing may take longer than the second that a cancelled step is given."""

    class SlowToClose(Chatter):
        async def close(self) -> None:
            await asyncio.sleep(1.3)
            await super().close()

    async def never() -> str:
        await asyncio.sleep(60)
        return "yes"

    async def run() -> None:
        stage = Stage(lambda task: Parent(below(1, 2)) if task.index == 0 else SlowToClose(1))
        cast = Cast(Voice(lambda request: never() if "/" in request.session else "yes"))
        specs = [EpisodeSpec(task(0), rollout_id="r0")]
        limits = Limits(close_timeout_s=2.0)
        running = asyncio.create_task(collect(specs, stage, cast, limits, exact=exact))
        await asyncio.sleep(0.1)
        assert len(stage.made) == 3
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert_freed(stage, cast)
        assert stage.made[0].log[-1] == "close"

    perform(run())


def test_trainable_roles_and_children_together() -> None:
    """A child's user is asked under the child's own session, and recorded with the child."""

    class Asking(Chatter):
        async def step(self, completion: Completion, host: Host) -> Observation:
            await host.ask("user", [Message("user", "well?")])
            return await super().step(completion, host)

    async def run() -> tuple[Rollout, ...]:
        stage = Stage(lambda task: Parent(below(1, 2)) if task.index == 0 else Asking(1))
        user = Voice()
        cast = Cast(Voice(), {"user": user}, trainable_roles=frozenset({"user"}))
        tree = await run_episode(EpisodeSpec(task(0), rollout_id="r0"), stage, cast, ROOMY)
        assert_freed(stage, cast)
        assert sorted(user.released) == ["r0/1|user", "r0/2|user"]
        return tree

    root, *children = perform(run())
    assert {turn.actor for turn in root.turns} == {"agent"}
    assert [[turn.trainable for turn in child.turns] for child in children] == [[True, True]] * 2
    assert root.outcome == Outcome(True, 1.0)
