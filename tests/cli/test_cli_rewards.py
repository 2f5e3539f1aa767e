"""Reward files on the command line: named, copied into the run, resumed with; Python tiers need --allow-code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from banty.cli.app import app
from banty.cli.experiment import Experiment
from banty.cli.rewards import load_predicate
from banty.cli.training import reopen_run
from banty.errors import InputError
from banty.rubrics import read_reward_file, write_reward_file
from banty.train.recipe import RLRecipe

RECIPE = """
[train]
steps = 2
tasks_per_step = 2
rollouts_per_task = 2
[rewards]
file = "mine.toml"
[credit]
estimator = "hybrid"
[eval]
num_tasks = 2
num_trials = 1
"""
MINE = """
format = 1
name = "mine"
version = 1
[tiers.gold]
value = 1.0
once = true
"""
PYTHON = """
[tiers.long]
value = -0.5
predicate = "tiers.py:long"
"""
CODE = "def long(rollout, turn, call):\n    return call is None and len(turn.message.content) > 200\n"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "recipe.toml").write_text(RECIPE)
    (tmp_path / "mine.toml").write_text(MINE)
    (tmp_path / "tiers.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def banty(*words: str) -> Result:
    return CliRunner().invoke(app, words, env={"COLUMNS": "200", "TERM": "dumb"})


def test_a_run_keeps_its_reward_file_and_resumes_with_it(place: Path) -> None:
    done = banty("train", "recipe.toml", "--out", "run")
    assert done.exit_code == 0, done.output
    recipe = json.loads((place / "run" / "recipe.json").read_text())
    assert recipe["rewards"] == {"file": str(place / "mine.toml"), "weight": 1.0, "anneal_steps": 0}
    kept = place / "run" / "rewards" / "0000.toml"
    assert read_reward_file(kept) == read_reward_file(place / "mine.toml")
    (place / "mine.toml").unlink()
    _, again = reopen_run(place / "run")
    assert isinstance(again, RLRecipe)
    assert again.rewards.file == str(kept)
    assert banty("train", "--resume", "run").exit_code == 0


def test_python_tiers_need_permission_and_survive_in_the_copy(place: Path) -> None:
    (place / "mine.toml").write_text(MINE + PYTHON)
    refused = banty("train", "recipe.toml", "--out", "run")
    assert refused.exit_code != 0
    assert f"{place}/tiers.py:long is Python code; add --allow-code to run it" in str(refused.exception)
    assert not (place / "run").exists(), "nothing was written"
    done = banty("train", "recipe.toml", "--out", "run", "--allow-code")
    assert done.exit_code == 0, done.output
    assert read_reward_file(place / "run" / "rewards" / "0000.toml").code == (f"{place}/tiers.py:long",)
    assert "rewards/long_turns" in json.loads((place / "run" / "metrics.jsonl").read_text().splitlines()[0])


def test_what_is_wrong_is_told_before_anything_is_written(place: Path) -> None:
    (place / "mine.toml").write_text(MINE + "[tiers.reed]\nvalue = 0.1\n")
    refused = banty("train", "recipe.toml", "--out", "run")
    assert isinstance(refused.exception, InputError)
    assert str(refused.exception).startswith("mine.toml: tiers.reed: 'reed' is no usual tier; did you mean 'read'")
    missing = banty("train", "recipe.toml", "rewards.file=dense", "--out", "run")
    assert "no reward file 'dense'" in str(missing.exception)
    assert not (place / "run").exists()


def test_what_will_have_no_effect_is_noted(place: Path) -> None:
    done = banty("train", "recipe.toml", "credit.estimator=rloo", "rewards.file=irc", "--out", "run")
    assert done.exit_code == 0, done.output
    assert done.output.startswith("note: credit.estimator='rloo' heeds the outcome alone")


def test_what_is_no_function_is_told(place: Path) -> None:
    with pytest.raises(InputError, match=r"tiers.py defines no function short; a tier is a function"):
        load_predicate(f"{place}/tiers.py:short", allow_code=True)
    with pytest.raises(InputError, match=r"no file .*/nowhere.py, which the reward file takes a tier from"):
        load_predicate(f"{place}/nowhere.py:long", allow_code=True)


def test_an_edited_reward_file_makes_the_results_of_its_arms_stale(place: Path) -> None:
    (place / "sweep.toml").write_text(
        'recipe = "recipe.toml"\nseeds = 2\n[arms.mine]\n[arms.plain]\nset.rewards.file = ""\n'
    )

    def starts() -> dict[str, str]:
        read = Experiment.read(place / "sweep.toml", place / "runs", place / "data")
        return {arm.name: arm.start for arm in read.arms}

    before = starts()
    assert before["plain"] == ""
    write_reward_file(place / "mine.toml", read_reward_file("irc"))
    after = starts()
    assert after["mine"] != before["mine"]
    assert after["plain"] == ""
    (place / "mine.toml").unlink()
    assert starts()["mine"] == ""
