"""The training loop: it learns, it can be interrupted anywhere, and it says what is wrong before it starts."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.rollouts_by_hand import group, rollout, segment, task, turn
from tests.train import small_run

from banty.credit import CreditSpec, estimator_of
from banty.envs.tasksets import Tasks
from banty.errors import InputError, StoreError
from banty.evals import EvalPlan, evaluate
from banty.learn.habits import HabitLearner
from banty.models.habits import HabitWeights
from banty.policies.habits import HabitPolicy
from banty.rollout import Cast, Store
from banty.runs import MetricLog, RunFolder, read_metrics
from banty.train.recipe import TrainBlock
from banty.train.rl import StepReport, credit_groups, shaped_rewards, step_metrics, train_rl

ROOT = Path(__file__).parents[2]
NUM_STEPS = 6


def success_on_dev(weights: HabitWeights) -> float:
    plan = EvalPlan(split="dev", num_tasks=100, seed=1)
    rollouts = asyncio.run(evaluate(plan, small_run.TASKSET, Cast(small_run.policy_over(weights))))
    assert all(each.scored for each in rollouts)
    return sum(bool(each.outcome.success) for each in rollouts) / len(rollouts)


def test_it_learns_from_a_third_to_nine_in_ten_in_seconds(tmp_path: Path) -> None:
    """On 100 held-out dev tasks: from about 0.35, where every decision lapses three times in ten, to 0.85 or more."""
    start = small_run.fresh_learner().publish()
    before = success_on_dev(start)
    end = small_run.train(tmp_path / "run", 15, tasks_per_step=8, rollouts_per_task=8, seed=0)
    after = success_on_dev(end)
    assert 0.2 <= before <= 0.5
    assert after >= 0.85
    assert after - before >= 0.3
    rows = small_run.numbers(tmp_path / "run")
    assert len(rows) == 15
    assert rows[-1]["rollout/success"] - rows[0]["rollout/success"] >= 0.3
    assert sum(end.lapse_rates().values()) < sum(start.lapse_rates().values())


def test_without_contrast_nothing_is_learnt(tmp_path: Path) -> None:
    """A learner that already succeeds, or fails, at everything gets a zero gradient and not a random one."""
    learner = small_run.fresh_learner(lapse=1e-9)
    before = learner.publish()
    after = small_run.train(tmp_path / "run", 2, learner)
    assert after.logits.tolist() == before.logits.tolist()
    rows = small_run.numbers(tmp_path / "run")
    assert [row["group/zero_variance"] for row in rows] == [row["group/num_groups"] for row in rows] == [4, 4]
    assert [row["train/grad_norm"] for row in rows] == [0.0, 0.0]


# Interrupted, and carried on.


class Whole(NamedTuple):
    """A run that nothing interrupted."""

    folder: Path
    weights: HabitWeights


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder = tmp_path_factory.mktemp("whole") / "run"
    return Whole(folder, small_run.train(folder, NUM_STEPS))


def assert_same_end(folder: Path, weights: HabitWeights, whole: Whole) -> None:
    assert weights.logits.tobytes() == whole.weights.logits.tobytes(), "the same weights, bit for bit"
    assert weights.version == whole.weights.version == NUM_STEPS
    assert small_run.numbers(folder) == small_run.numbers(whole.folder)
    assert small_run.story(folder) == small_run.story(whole.folder)


def test_a_run_repeats_itself(tmp_path: Path, whole: Whole) -> None:
    assert_same_end(tmp_path / "run", small_run.train(tmp_path / "run", NUM_STEPS), whole)


def test_concurrency_changes_nothing(tmp_path: Path, whole: Whole) -> None:
    assert_same_end(tmp_path / "run", small_run.train(tmp_path / "run", NUM_STEPS, concurrency=3), whole)


def test_another_seed_is_another_run(tmp_path: Path, whole: Whole) -> None:
    assert small_run.train(tmp_path / "run", 1, seed=4).logits.tolist() != whole.weights.logits.tolist()
    assert small_run.numbers(tmp_path / "run")[0] != small_run.numbers(whole.folder)[0]


def test_a_finished_run_is_left_as_it_is(tmp_path: Path, whole: Whole) -> None:
    before = {file: file.read_bytes() for file in whole.folder.rglob("*") if file.is_file()}
    weights = small_run.train(whole.folder, NUM_STEPS)
    assert weights.logits.tobytes() == whole.weights.logits.tobytes()
    assert {file: file.read_bytes() for file in whole.folder.rglob("*") if file.is_file()} == before


class Stop(Exception):
    """What a test interrupts a run with."""


@pytest.mark.parametrize("last", [0, 3])
def test_a_run_stopped_between_steps_ends_like_one_that_was_not(tmp_path: Path, whole: Whole, last: int) -> None:
    seen: list[int] = []

    def stop(report: StepReport) -> None:
        seen.append(report.step)
        assert report.num_steps == NUM_STEPS
        if report.step == last:
            raise Stop

    folder = tmp_path / "run"
    with pytest.raises(Stop):
        small_run.train(folder, NUM_STEPS, on_step=stop)
    assert seen == list(range(last + 1))
    weights = small_run.train(folder, NUM_STEPS, on_step=lambda report: seen.append(report.step))
    assert seen == list(range(NUM_STEPS)), "no finished step is done again"
    assert_same_end(folder, weights, whole)


@pytest.mark.parametrize(
    ("place", "attribute"), [(Store, "write"), (MetricLog, "write"), (HabitLearner, "save"), (HabitPolicy, "load")]
)
def test_a_run_stopped_within_a_step_ends_like_one_that_was_not(
    tmp_path: Path, whole: Whole, monkeypatch: pytest.MonkeyPatch, place: type, attribute: str
) -> None:
    """After the update but before its checkpoint: the step is done again, from the weights it started with."""
    real: Callable[..., Any] = getattr(place, attribute)
    calls = 0

    def fail_once(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        result = real(*arguments)
        if calls == 3:
            raise Stop
        return result

    monkeypatch.setattr(place, attribute, fail_once)
    folder = tmp_path / "run"
    with pytest.raises(Stop):
        small_run.train(folder, NUM_STEPS)
    assert len(small_run.numbers(folder)) < NUM_STEPS
    assert_same_end(folder, small_run.train(folder, NUM_STEPS), whole)


def test_a_full_disk_is_said_and_the_run_goes_on_from_there(
    tmp_path: Path, whole: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: HabitLearner, folder: Path) -> None:
        raise OSError(28, "No space left on device")

    folder = tmp_path / "run"
    small_run.train(folder, 2)
    with monkeypatch.context() as patched:
        patched.setattr(HabitLearner, "save", full)
        with pytest.raises(StoreError, match=r"checkpoint .*No space left"):
            small_run.train(folder, NUM_STEPS)
    assert_same_end(folder, small_run.train(folder, NUM_STEPS), whole)


def test_a_run_killed_three_times_ends_like_one_that_was_not(tmp_path: Path) -> None:
    """kill -9 wherever it happens to be, three times; then to the end in this process."""
    folder = tmp_path / "run"
    moments = random.Random(7)
    for num_lines in (1, 2, 1):
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.train.small_run", str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        with child:
            try:
                for _ in range(num_lines):
                    assert child.stdout.readline(), "the run ended by itself"
                time.sleep(moments.uniform(0.0, 0.06))
            finally:
                child.send_signal(signal.SIGKILL)
        assert child.returncode == -signal.SIGKILL
    reached = len(small_run.numbers(folder))
    assert reached >= 4
    weights = small_run.train(folder, reached + 2)
    unbroken = small_run.train(tmp_path / "unbroken", reached + 2)
    assert weights.logits.tobytes() == unbroken.logits.tobytes()
    assert weights.version == reached + 2
    assert small_run.numbers(folder) == small_run.numbers(tmp_path / "unbroken")
    assert small_run.story(folder) == small_run.story(tmp_path / "unbroken")


def test_only_whole_checkpoints_are_kept_and_few_of_them(whole: Whole) -> None:
    names = sorted(entry.name for entry in (whole.folder / "checkpoints").iterdir())
    assert names == ["step-000004", "step-000005"]


# What a step says about itself.


def test_step_metrics_count_what_they_leave_out() -> None:
    won = rollout([turn(0, segment([0], [1])), turn(1, segment([0], [2], continues=True))], True)
    lost = rollout([turn(0, segment([0], [3]))], False, trial=1, status="truncated", cause="turns")
    broken = rollout([turn(0, segment([0], [3]))], cause="simulator", trial=2)
    alike = [rollout([turn(0, segment([0], [1]))], False, of=task(1), trial=trial) for trial in range(2)]
    dead = rollout([], cause="infrastructure", of=task(2))
    groups = [group(won, lost, broken), group(*alike), group(dead)]
    samples = credit_groups(groups, estimator_of(CreditSpec()))
    assert len(samples) == 4
    assert step_metrics(groups, samples) == {
        "rollout/success": 0.25,
        "rollout/turns": 1.25,
        "rollout/episodes": 6,
        "rollout/truncated": 1,
        "rollout/errored": 2,
        "group/zero_variance": 2,
        "group/num_groups": 3,
        "train/samples": 4,
    }


def test_an_average_over_no_scored_rollout_is_missing() -> None:
    groups = [group(rollout([], cause="deadline"))]
    metrics = step_metrics(groups, credit_groups(groups, estimator_of(CreditSpec(estimator="grpo"))))
    assert metrics["rollout/success"] is None
    assert metrics["rollout/turns"] is None
    assert metrics["rollout/errored"] == 1


def test_episodes_left_out_of_the_loss_count_in_no_figure_over_trained_tokens() -> None:
    won = rollout([turn(0, segment([0], [1, 2]))], True)
    cut = rollout([turn(0, segment([0], [3]))], False, trial=1, status="truncated", cause="turns")
    kept, masked = (shaped_rewards(group(won, cut), TrainBlock(truncated=each)) for each in ("keep", "mask"))
    assert [one.tolist() for one in kept.tokens] == [[2.0], [1.0]]
    assert [one.tolist() for one in masked.tokens] == [[2.0], [0.0]]
    assert masked.outcomes.tolist() == [1.0, 0.0], "they stay in the baseline"
    (sample,) = credit_groups([group(won, cut)], estimator_of(CreditSpec(scale="batch")), TrainBlock(truncated="mask"))
    assert sample.advantages[sample.mask].tolist() == [1.0, 1.0], "the scale is that of what is trained"


@pytest.mark.parametrize(("truncated", "some"), [("keep", True), ("mask", False)])
def test_a_step_that_trains_nothing_has_no_figures_of_credit(tmp_path: Path, truncated: str, some: bool) -> None:
    start(tmp_path, max_turns=1, truncated=truncated)
    (row,) = read_metrics(RunFolder.open(tmp_path / "run").metrics.path)
    assert row["rollout/truncated"] == row["rollout/episodes"]
    assert (row["train/samples"] > 0) == some
    assert any(name.startswith("credit/") for name in row) == some


# What is refused.


def start(tmp_path: Path, taskset: Tasks | None = None, split: str = "train", **settings: Any) -> None:
    learner = small_run.fresh_learner()
    block = TrainBlock(**{"steps": 1, "tasks_per_step": 2, "rollouts_per_task": 2, **settings})
    run = RunFolder.create(tmp_path / "run", {})
    asyncio.run(
        train_rl(block, taskset or small_run.TASKSET, split, small_run.policy_over(learner.publish()), learner, run)
    )


def test_an_unknown_estimator_is_refused_with_those_there_are() -> None:
    with pytest.raises(InputError, match=r"'rloop'.*rloo, grpo"):
        estimator_of(CreditSpec(estimator="rloop"))


def test_an_unknown_split_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'training'.*train, dev, test"):
        start(tmp_path, split="training")


def test_a_step_larger_than_its_split_is_refused(tmp_path: Path) -> None:
    class Few(Tasks):
        env = "toy/few"
        splits = {"train": 3}  # noqa: RUF012 - a constant

        def make(self, split: str, index: int, rng: object) -> None: ...

    with pytest.raises(InputError, match=r"up to 4 tasks .*, and toy/few train has 3"):
        start(tmp_path, Few(), tasks_per_step=4)
