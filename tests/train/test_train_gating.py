"""A run that calibrates its own reward file: every version is kept, and a resumed run decides the same."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from tests.train import small_run

from banty.calibrate import CalibrateBlock
from banty.credit import CreditSpec
from banty.errors import InputError
from banty.records import CallResult, Rollout, Turn
from banty.rubrics import RewardFile, Tier, read_reward_file
from banty.runs import RunFolder
from banty.train.recipe import RewardsBlock, RLRecipe, TrainBlock
from banty.train.rl import StepReport, train_rl

FILE = read_reward_file("naive-dense")
GATE = CalibrateBlock(every=2, window=3, patience=1, passes=10, fails=10, present=5, absent=5, resamples=200)


class Stopped(Exception):
    """What a test interrupts a run with."""


def train(
    folder: Path,
    *,
    stop_after: int = -1,
    file: RewardFile = FILE,
    rewards: RewardsBlock | None = None,
    **settings: Any,
) -> bytes:
    """Carry a run of eight steps on, from wherever it stands; its weights."""
    block = TrainBlock(steps=8, tasks_per_step=6, rollouts_per_task=4, seed=3, **settings)
    run = RunFolder.open(folder) if folder.exists() else RunFolder.create(folder, {})
    learner = small_run.fresh_learner(learning_rate=4.0)

    def on_step(report: StepReport) -> None:
        if report.step == stop_after:
            raise Stopped

    work = train_rl(
        block,
        small_run.TASKSET,
        "train",
        small_run.policy_over(learner.publish()),
        learner,
        run,
        on_step,
        credit=CreditSpec(estimator="hybrid"),
        rewards=rewards or RewardsBlock(file="naive-dense"),
        reward_file=file,
        calibrate=GATE,
    )
    asyncio.run(work)
    learner.publish().save(folder / "weights")
    return (folder / "weights" / "habits.json").read_bytes()


def versions(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted((folder / "rewards").iterdir())}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    folder = tmp_path_factory.mktemp("gating") / "whole"
    return folder, train(folder)


def test_every_version_is_kept_and_every_decision_is_told(whole: tuple[Path, bytes]) -> None:
    folder, _ = whole
    lines = [json.loads(line) for line in (folder / "rewards/history.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 3, 5, 7]
    moves = [line for line in lines if line["moved"]]
    assert moves, "nothing moved: the test shows nothing"
    files = [read_reward_file(path) for path in sorted((folder / "rewards").glob("*.toml"))]
    assert len(files) == len(moves) + 1
    assert files[0] == FILE
    for before, after, line in zip(files, files[1:], moves, strict=False):
        assert after.parent == before.sha256
        assert after.version == before.version + 1 == line["version"]
        changed = {name for name in FILE.tiers if after.tiers[name].value != before.tiers[name].value}
        assert changed == set(line["moved"])
        assert after.tiers["gold"].value == 1.0


def test_the_values_in_force_are_logged_and_paid(whole: tuple[Path, bytes]) -> None:
    folder, _ = whole
    rows = small_run.numbers(folder)
    assert rows[0]["rewards/version"] == 1
    assert rows[-1]["rewards/version"] == max(row["rewards/version"] for row in rows) > 1
    last = read_reward_file(sorted((folder / "rewards").glob("*.toml"))[-1])
    assert rows[-1]["rewards/value_error"] == last.tiers["error"].value
    assert sum(bool(row["rewards/moved"]) for row in rows) == len(list((folder / "rewards").glob("*.toml"))) - 1


@pytest.mark.parametrize(("stop_after", "checkpoint_every"), [(0, 1), (3, 1), (4, 1), (5, 3), (6, 4)])
def test_a_resumed_run_decides_the_same(
    whole: tuple[Path, bytes], tmp_path: Path, stop_after: int, checkpoint_every: int
) -> None:
    """Interrupted after a decision, before one, and with decisions beyond its last checkpoint, which are undone."""
    expected_folder, expected = whole
    folder = tmp_path / "run"
    with pytest.raises(Stopped):
        train(folder, stop_after=stop_after, checkpoint_every=checkpoint_every)
    assert train(folder, checkpoint_every=checkpoint_every) == expected
    assert versions(folder) == versions(expected_folder)
    kept = [{name: value for name, value in row.items() if name.startswith("rewards/")} for row in numbers(folder)]
    assert kept == [
        {name: value for name, value in row.items() if name.startswith("rewards/")} for row in numbers(expected_folder)
    ]


def about_the_task(rollout: Rollout, turn: Turn, call: CallResult | None) -> bool:
    """A tier in Python that looks at what no store keeps, and at what only a store has."""
    return turn.reward is None and rollout.task.data is not None and turn.index % 3 == rollout.task.index % 3


def test_with_everything_on_a_resumed_run_still_ends_the_same(tmp_path: Path) -> None:
    """Annealing, groups set aside, masked episodes, a tier in Python, and decisions beyond the last checkpoint."""
    place = "/tiers.py:about_the_task"
    tiers = {"odd": Tier(0.2, place), **FILE.tiers}
    given: dict[str, Any] = {
        "file": dataclasses.replace(FILE, tiers=tiers, functions={place: about_the_task}),
        "rewards": RewardsBlock(file="naive-dense", weight=0.7, anneal_steps=11),
        "sampling_rounds": 2,
        "truncated": "mask",
        "max_turns": 10,
        "checkpoint_every": 3,
    }
    expected = train(tmp_path / "whole", **given)
    rows = numbers(tmp_path / "whole")
    assert any(row["group/set_aside"] for row in rows)
    assert any(row["rollout/truncated"] for row in rows)
    assert all(row["rewards/odd_turns"] for row in rows)
    assert rows[-1]["rewards/version"] > 1
    with pytest.raises(Stopped):
        train(tmp_path / "run", stop_after=4, **given)
    assert train(tmp_path / "run", **given) == expected
    assert versions(tmp_path / "run") == versions(tmp_path / "whole")


def numbers(folder: Path) -> list[dict[str, Any]]:
    return small_run.numbers(folder)


def test_a_damaged_history_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(Stopped):
        train(folder, stop_after=3)
    history = folder / "rewards" / "history.jsonl"
    for text in ("{", '{"step": 1}\n', "[1]\n"):
        history.write_text(text)
        with pytest.raises(InputError, match=r"history\.jsonl is damaged"):
            train(folder)


def test_a_recipe_without_a_reward_file_has_nothing_to_calibrate() -> None:
    with pytest.raises(InputError, match=r"rewards\.file names none"):
        RLRecipe(calibrate=CalibrateBlock(every=5)).check()
    RLRecipe(calibrate=CalibrateBlock(every=5), rewards=RewardsBlock(file="irc")).check()
