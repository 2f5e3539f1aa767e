"""Labels on real episodes: the airline's expert, its habits and baselines, published tasks, and a desk that knows no
golden calls."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import pytest
from tests.toy import ColourTasks, careless

from banty.envs.airline.published import PublishedTasks
from banty.envs.airline.tasks import GeneratedTasks
from banty.models.habits import HabitWeights
from banty.policies.habits import HabitPolicy
from banty.records import CallResult, Message, Rollout, ToolCall, Turn
from banty.rollout import Store
from banty.rubrics import Labeller, Tier, TurnLabel, deep_equal, read_reward_file, rewarded
from banty.testing import ScriptedPolicy, expert_policy, run

MINI = GeneratedTasks("mini")
DENSE = read_reward_file("naive-dense")
NUM_TASKS = 60


@pytest.fixture(scope="module")
def labeller() -> Labeller:
    return Labeller(MINI, DENSE)


def gold_calls(found: tuple[TurnLabel, ...]) -> list[int]:
    return sorted(
        call.golden for label in found for call in label.calls if call.tier == "gold" and call.golden is not None
    )


def has_slip(rollout: Rollout) -> bool:
    """Whether the customer says a code at first that no reservation has: looking it up fails, and is right."""
    return any(request.slip for request in rollout.task.data.scenario.requests)


def test_the_expert_makes_every_golden_call_and_no_mistake(labeller: Labeller) -> None:
    counts: Counter[str] = Counter()
    for index in range(NUM_TASKS):
        rollout = run(MINI, expert_policy(MINI.expert()), "test", index)
        assert rollout.outcome.success
        found = labeller(rollout)
        golden = labeller.golden(rollout.task)
        assert golden is not None
        assert gold_calls(found) == list(range(len(golden)))
        here = Counter(label.tier for label in found)
        assert not {"duplicate", "write", "soft", ""} & set(here), rollout.task.id
        assert here["error"] <= has_slip(rollout)
        effects = {schema.name: schema.effect for schema in rollout.tools}
        quiet = all(effects[call.name] == "read" for call in golden)
        assert (found[-1].tier == "noop") is (quiet and not rollout.turns[-1].calls)
        counts += here
    assert counts["gold"] > counts["read"] > 0
    assert counts["noop"] > 5


def test_the_golden_replay_is_gold_all_through(labeller: Labeller) -> None:
    played = MINI.baselines()
    for index in range(NUM_TASKS):
        task = played.taskset.task("test", index)
        found = labeller(run(played.taskset, played.policies["golden-replay"](task), "test", index))
        assert len(gold_calls(found)) == len(MINI.golden(task))
        assert {label.tier for label in found} <= {"gold", "message", "noop"}


def test_bad_habits_show_in_the_tiers(labeller: Labeller) -> None:
    weights = HabitWeights.with_lapses(MINI.expert().points, 0.4)
    rollouts = [run(MINI, HabitPolicy(MINI.expert(), weights), "test", index) for index in range(NUM_TASKS)]
    counts = Counter(label.tier for rollout in rollouts for label in labeller(rollout))
    assert {"gold", "read", "write", "error", "duplicate", "message", "noop"} <= set(counts)
    earned = {
        success: [
            sum(label.reward for label in labeller(one)) / len(one.turns)
            for one in rollouts
            if one.outcome.success is success
        ]
        for success in (True, False)
    }
    assert sum(earned[True]) / len(earned[True]) > sum(earned[False]) / len(earned[False])


def test_the_desks_rules_are_the_graders() -> None:
    """Order of flights, passengers and payments, numbers given as text, and free text have no meaning; ids have."""
    rules = Labeller(MINI, DENSE).file.matching
    flights = [{"flight_number": "HAT001", "date": "2024-05-20"}, {"flight_number": "HAT002", "date": "2024-05-21"}]
    people = [{"first_name": "A"}, {"first_name": "B"}]
    booking = {"flights": flights, "passengers": people, "payment_methods": people, "total_baggages": 2, "user_id": "7"}
    turned = {
        **{name: value[::-1] for name, value in booking.items() if isinstance(value, list)},
        "total_baggages": "2",
        "user_id": "7",
    }
    assert deep_equal(booking, turned, rules, "book_reservation")
    assert not deep_equal(booking, {**turned, "user_id": 7}, rules, "book_reservation")
    assert not deep_equal(booking, {**turned, "flights": flights[:1]}, rules, "book_reservation")
    assert deep_equal({"summary": "a"}, {"summary": "b"}, rules, "transfer_to_human_agents")
    assert deep_equal({"expression": "2 * 3"}, {"expression": "2*3"}, rules, "calculate")


def test_stored_rollouts_are_labelled_alike(tmp_path: Path, labeller: Labeller) -> None:
    """Task data, where golden calls come from, is not stored; the task is made again."""
    rollouts = [run(MINI, expert_policy(MINI.expert()), "test", index) for index in range(5)]
    given = [rewarded(rollout, labeller(rollout)) for rollout in rollouts]
    Store(tmp_path).write("part", given)
    stored = list(Store(tmp_path).read())
    assert all(rollout.task.data is None for rollout in stored)
    assert [Labeller(MINI, DENSE)(rollout) for rollout in stored] == [labeller(rollout) for rollout in rollouts]
    kept = [[turn.reward for turn in rollout.turns] for rollout in stored]
    assert kept == [[label.reward for label in labeller(rollout)] for rollout in rollouts]


def test_nothing_of_a_label_but_its_reward_is_stored(tmp_path: Path, labeller: Labeller) -> None:
    plain = [run(MINI, expert_policy(MINI.expert()), "test", index) for index in range(3)]
    Store(tmp_path).write("part", [rewarded(rollout, labeller(rollout)) for rollout in plain])
    for rollout, stored in zip(plain, Store(tmp_path).read(), strict=True):
        assert any(turn.reward for turn in stored.turns)
        bare = tuple(dataclasses.replace(turn, reward=None) for turn in stored.turns)
        assert dataclasses.replace(stored, turns=bare) == rollout


def test_a_child_is_labelled_without_golden_calls(labeller: Labeller) -> None:
    """It has its parent's pin, and a task its parent made: the parent's golden calls are not its own."""
    rollout = run(MINI, expert_policy(MINI.expert()), "test", 0)
    child = dataclasses.replace(rollout, depth=1, parent_id="root")
    assert "gold" in {label.tier for label in labeller(rollout)}
    assert not {"gold", "soft", "noop"} & {label.tier for label in labeller(child)}


def test_the_published_tasks_have_their_golden_calls(tau2_folder: Path) -> None:
    tasks = PublishedTasks(data=tau2_folder, customer="silent")
    labeller = Labeller(tasks, DENSE)
    played = tasks.baselines()
    num_golden = 0
    for index in range(tasks.splits["base"]):
        task = tasks.task("base", index)
        golden = tasks.golden(task)
        num_golden += len(golden)
        rollout = run(played.taskset, played.policies["golden-replay"](task), "base", index)
        failed = sum(bool(call.error) for turn in rollout.turns for call in turn.calls)
        assert len(gold_calls(labeller(rollout))) == len(golden) - failed
    assert num_golden > 100


# A desk that names no golden calls.


def test_any_desk_with_effects_is_labelled() -> None:
    tasks = ColourTasks()
    find = Message("assistant", calls=(ToolCall("find", {"colour": "red"}),))
    rollout = run(tasks, ScriptedPolicy([find, find, "1", "2"]), "test", 0)
    found = Labeller(tasks, DENSE)(rollout)
    assert [label.tier for label in found] == ["read", "duplicate", "message", "message"]
    assert {label.tier for label in Labeller(tasks, DENSE)(run(tasks, careless(0.0), "test", 0))} == {"read", "message"}


def test_a_tier_in_python_sees_a_stored_rollout_as_it_was_sampled(tmp_path: Path) -> None:
    """Its task is whole, and its turns have earned nothing yet: or a resumed run would label it otherwise."""

    def seen(rollout: Rollout, turn: Turn, call: CallResult | None) -> bool:
        return rollout.task.data is not None and turn.reward is None

    file = dataclasses.replace(
        DENSE, tiers={"seen": Tier(0.5, "/tiers.py:seen"), **DENSE.tiers}, functions={"/tiers.py:seen": seen}
    )
    tasks = ColourTasks()
    sampled = run(tasks, careless(0.0), "test", 0)
    labels = Labeller(tasks, file)(sampled)
    assert {label.tier for label in labels} == {"seen"}
    Store(tmp_path).write("all", [rewarded(sampled, labels)])
    (stored,) = Store(tmp_path).read()
    assert stored.task.data is None
    assert Labeller(tasks, file)(stored) == labels
