"""Turn rewards in training: what is stored, what is counted, what an interrupted run goes on with, what is refused."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.rollouts_by_hand import group, rollout, turn
from tests.toy import ColourTasks
from tests.train import small_run

from banty.credit import CreditSpec
from banty.envs.tasksets import Tasks
from banty.errors import InputError
from banty.models.habits import HabitWeights
from banty.records import ToolCall
from banty.rollout import Store
from banty.rubrics import Labeller, RewardFile, Tier, read_reward_file, write_reward_file
from banty.runs import RunFolder
from banty.train.recipe import RewardsBlock, RLRecipe, TrainBlock
from banty.train.rewards import TurnRewards, check_rewards, knows_golden, notes_on
from banty.train.rl import StepReport, train_rl

DENSE = read_reward_file("naive-dense")
HYBRID = CreditSpec(estimator="hybrid")
NUM_STEPS = 4


def train(
    folder: Path,
    num_steps: int = NUM_STEPS,
    file: RewardFile | None = DENSE,
    credit: CreditSpec = HYBRID,
    on_step: Callable[[StepReport], None] | None = None,
    **settings: Any,
) -> HabitWeights:
    """Carry the run in `folder`, new or not, on to `num_steps` steps; the weights it ends with."""
    block = TrainBlock(tasks_per_step=4, rollouts_per_task=4, seed=3, steps=num_steps)
    run = RunFolder.open(folder) if (folder / "manifest.json").exists() else RunFolder.create(folder, {})
    learner = small_run.fresh_learner()
    work = train_rl(
        block,
        small_run.TASKSET,
        "train",
        small_run.policy_over(learner.publish()),
        learner,
        run,
        on_step,
        credit=credit,
        rewards=RewardsBlock(**settings),
        reward_file=file,
    )
    asyncio.run(work)
    return learner.publish()


def stored_rewards(folder: Path) -> dict[str, list[float | None]]:
    rollouts = Store(folder / "rollouts").read()
    return {one.rollout_id: [turn.reward for turn in one.turns if turn.trainable] for one in rollouts}


def test_rollouts_are_stored_with_the_rewards_they_were_trained_on(tmp_path: Path) -> None:
    train(tmp_path / "run", weight=0.5, anneal_steps=4)
    labeller = Labeller(small_run.TASKSET, DENSE)
    rows = small_run.numbers(tmp_path / "run")
    assert any(row["rewards/corr"] is not None for row in rows)
    assert [row["rewards/scale"] for row in rows] == [0.5, 0.375, 0.25, 0.125]
    for step, row in enumerate(rows):
        rollouts = list(Store(tmp_path / "run" / "rollouts").read([f"step-{step:06d}"]))
        labels = [labeller(each) for each in rollouts]
        scale = row["rewards/scale"]
        assert [[turn.reward for turn in each.turns] for each in rollouts] == [
            [scale * label.reward for label in each] for each in labels
        ]
        counts = Counter(label.tier for each in labels for label in each)
        assert {name: row[f"rewards/{name}_turns"] for name in DENSE.tiers} == {
            name: counts[name] for name in DENSE.tiers
        }
        assert row["rewards/mean"] == pytest.approx(
            scale * np.mean([label.reward for each in labels for label in each])
        )
        means = [np.mean([label.reward for label in each]) for each in labels]
        outcomes = [float(bool(each.outcome.success)) for each in rollouts]
        varies = len(set(outcomes)) == 2
        assert row["rewards/corr"] == (pytest.approx(np.corrcoef(means, outcomes)[0, 1]) if varies else None)
        shares = {name: value for name, value in row.items() if name.startswith("credit/share_")}
        assert set(shares) == {f"credit/share_{name}" for name in counts}
        assert sum(shares.values()) == pytest.approx(1.0)


def test_without_a_reward_file_turns_are_counted_and_earn_nothing(tmp_path: Path) -> None:
    weights = train(tmp_path / "run", file=None)
    assert {value for rewards in stored_rewards(tmp_path / "run").values() for value in rewards} == {None}
    rows = small_run.numbers(tmp_path / "run")
    assert all(row["rewards/gold_turns"] > 0 for row in rows)
    assert all("credit/share_gold" in row for row in rows)
    assert not {"rewards/mean", "rewards/corr", "rewards/scale"} & set(rows[0])
    assert not (tmp_path / "run" / "rewards").exists()
    paid = train(tmp_path / "paid", file=read_reward_file("outcome"))
    assert paid.logits.tobytes() == weights.logits.tobytes(), "rewards of 0 are no rewards"


def test_turn_rewards_reach_the_weights_through_estimators_that_heed_them(tmp_path: Path) -> None:
    ends = {
        (estimator, file): train(
            tmp_path / f"{estimator}-{file}", 1, read_reward_file(file), CreditSpec(estimator=estimator)
        ).logits.tobytes()
        for estimator in ("rloo", "hybrid")
        for file in ("outcome", "naive-dense")
    }
    assert ends["rloo", "outcome"] == ends["rloo", "naive-dense"]
    assert ends["hybrid", "outcome"] != ends["hybrid", "naive-dense"]


class Stop(Exception):
    """What a test interrupts a run with."""


def test_an_interrupted_run_goes_on_to_the_same_end(tmp_path: Path) -> None:
    def stop(report: StepReport) -> None:
        if report.step == 1:
            raise Stop

    settings: dict[str, Any] = {"anneal_steps": 3}
    with pytest.raises(Stop):
        train(tmp_path / "run", on_step=stop, **settings)
    weights = train(tmp_path / "run", **settings)
    whole = train(tmp_path / "whole", **settings)
    assert weights.logits.tobytes() == whole.logits.tobytes()
    assert small_run.numbers(tmp_path / "run") == small_run.numbers(tmp_path / "whole")
    assert stored_rewards(tmp_path / "run") == stored_rewards(tmp_path / "whole")
    kept = [(tmp_path / name / "rewards" / "0000.toml").read_text() for name in ("run", "whole")]
    assert kept[0] == kept[1]
    assert read_reward_file(tmp_path / "run" / "rewards" / "0000.toml") == DENSE


def test_a_run_goes_on_with_the_reward_file_it_began_with_alone(tmp_path: Path) -> None:
    train(tmp_path / "run", 1)
    with pytest.raises(InputError, match=r"began with the reward file .*0000.toml.*tiers.write.value: 0.1 -> -0.1"):
        train(tmp_path / "run", 2, dataclasses.replace(read_reward_file("irc"), name="naive-dense"))


def test_an_errored_rollout_earns_nothing_and_is_not_counted() -> None:
    task = small_run.TASKSET.task("train", 0)
    fine, broken = rollout([turn(0)], of=task), rollout([turn(0)], of=task, cause="infrastructure", trial=1)
    rewards = TurnRewards(small_run.TASKSET, "train", DENSE, RewardsBlock())
    rewards.begin(0)
    given = rewards.give([fine, broken])
    assert [[one.reward for one in each.turns] for each in given] == [[0.0], [None]]
    assert rewards.metrics([group(*given)])["rewards/message_turns"] == 1
    assert rewards.tiers([group(*given)]) == [[["message"]]]
    assert rewards.metrics([group(broken)])["rewards/mean"] is None
    assert rewards.metrics([group(broken)])["rewards/corr"] is None


def test_a_new_step_forgets_the_last() -> None:
    """A rollout of an earlier step must not be found under the same name."""
    rewards = TurnRewards(small_run.TASKSET, "train", DENSE, RewardsBlock())
    one = rollout([turn(0)], of=small_run.TASKSET.task("train", 0))
    rewards.begin(0)
    rewards.give([one])
    rewards.begin(1)
    with pytest.raises(KeyError):
        rewards.tiers([group(one)])


# Tasks without golden calls.


class ReferencedColours(ColourTasks):
    """The toy desk with its one reference path named."""

    def golden(self, task: Any) -> tuple[ToolCall, ...]:
        return tuple(ToolCall("find", {"colour": colour}) for colour in task.data[0])


PAYS_GOLD = RewardFile("gold only", 1, {"gold": Tier(1.0, "golden"), "read": Tier(0.0, "read")})


def test_whether_golden_calls_are_known() -> None:
    assert knows_golden(small_run.TASKSET, "train")
    assert not knows_golden(ColourTasks(), "train")
    assert knows_golden(ReferencedColours(), "train")
    assert Tasks.golden(ColourTasks(), ColourTasks().task("train", 0)) is None


def test_without_golden_calls_turns_are_not_told_apart_unless_a_file_says_so() -> None:
    one = rollout([turn(0)], of=ColourTasks().task("train", 0))
    silent = TurnRewards(ColourTasks(), "train", None, RewardsBlock())
    assert silent.give([one]) == [one]
    assert silent.tiers([group(one)]) == []
    assert silent.metrics([group(one)]) == {}
    told = TurnRewards(ColourTasks(), "train", DENSE, RewardsBlock())
    assert told.tiers([group(*told.give([one]))]) == [[["message"]]]


def test_rewards_that_could_never_pay_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'gold only' pays for gold alone, which need golden calls, and toy/colours"):
        check_rewards(PAYS_GOLD, ColourTasks(), "train")
    check_rewards(PAYS_GOLD, ReferencedColours(), "train")
    check_rewards(DENSE, ColourTasks(), "train")
    check_rewards(read_reward_file("outcome"), ColourTasks(), "train")


def test_what_will_have_no_effect_is_noted() -> None:
    assert notes_on(DENSE, small_run.TASKSET, "train", HYBRID) == []
    (note,) = notes_on(DENSE, ColourTasks(), "train", HYBRID)
    assert note == "toy/colours names no golden calls: of 'naive-dense', gold, soft, noop never come up"
    (note,) = notes_on(DENSE, small_run.TASKSET, "train", CreditSpec())
    assert "credit.estimator='rloo' heeds the outcome alone" in note
    assert notes_on(DENSE, small_run.TASKSET, "train", CreditSpec(total=True)) == []
    assert notes_on(read_reward_file("outcome"), small_run.TASKSET, "train", CreditSpec()) == []


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"file": "irc", "weight": -1.0}, "rewards.weight is -1.0; it takes at least 0"),
        ({"file": "irc", "weight": float("nan")}, "rewards.weight is nan"),
        ({"file": "irc", "anneal_steps": -1}, "rewards.anneal_steps is -1"),
        ({"anneal_steps": 5}, "rewards.anneal_steps is 5, and rewards.file names no reward file"),
        ({"weight": 0.5}, "rewards.weight is 0.5, and rewards.file names no reward file"),
    ],
)
def test_what_is_wrong_with_the_block_is_said(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError) as said:
        RLRecipe(rewards=RewardsBlock(**settings)).check()
    assert told in str(said.value)


def test_annealing_is_linear_to_zero_and_stays_there() -> None:
    block = RewardsBlock(file="irc", weight=2.0, anneal_steps=4)
    assert [block.scale_at(step) for step in range(6)] == [2.0, 1.5, 1.0, 0.5, 0.0, 0.0]
    assert {RewardsBlock(file="irc").scale_at(step) for step in (0, 1, 1000)} == {1.0}


def test_a_damaged_copy_is_told(tmp_path: Path) -> None:
    train(tmp_path / "run", 1)
    (tmp_path / "run" / "rewards" / "0000.toml").write_text("format = 1\nname = ")
    with pytest.raises(InputError, match=r"0000.toml is not a readable TOML file"):
        train(tmp_path / "run", 2)
    write_reward_file(tmp_path / "run" / "rewards" / "0000.toml", DENSE)
    train(tmp_path / "run", 2)
