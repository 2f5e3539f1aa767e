"""Experiments on the habit desk: run by the thousand, refused where a desk has no place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from banty.cli.app import app
from banty.errors import InputError
from banty.train.recipe import DeskBlock, PolicyBlock, RLRecipe, TrainBlock

RECIPE = """
[env]
name = "airline/mini"

[desk]
num_tasks = 1
max_leaves = 300
runs = 4

[train]
steps = 2
tasks_per_step = 1
rollouts_per_task = 4
max_turns = 8

[optimizer]
learning_rate = 1.0
"""
SWEEP = """
recipe = "desk.toml"
seeds = 2

[arms.rloo]

[arms.dense]
set.credit.estimator = "mt_grpo"
set.rewards.file = "naive-dense"
set.rewards.anneal_steps = 1
"""


def test_cells_of_a_desk_leave_lines_and_no_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("desk.toml").write_text(RECIPE)
    Path("tiny.toml").write_text(SWEEP)
    done = CliRunner().invoke(app, ["sweep", "tiny.toml", "--jobs", "1"])
    assert done.exit_code == 0, done.output
    lines = [json.loads(text) for text in Path("docs/results/data/tiny/dense.jsonl").read_text().splitlines()]
    assert [line["seed"] for line in lines] == [0, 1]
    assert all(len(line["runs"]["final"]) == 4 and line["before"]["num_tasks"] == 1 for line in lines)
    assert lines[0]["runs"] != lines[1]["runs"]
    assert lines[0]["tier_share"]["error"] > 0.0
    assert lines[0]["lapses"]["pressure"] == 0.2  # which never comes up in that task, so nothing moved it
    assert lines[0]["lapses"]["format"] < 0.2
    assert not list(Path("runs/tiny").glob("*/seed-*"))
    assert len(list(Path("runs/desks").glob("*.npz"))) == 1
    assert "8 of 8" in Path("docs/results/data/tiny/table.md").read_text()
    again = CliRunner().invoke(app, ["sweep", "tiny.toml", "--dry-run"])
    assert "4 cells, 0 to run" in again.output


def test_a_desk_is_not_for_banty_train(tmp_path: Path) -> None:
    (tmp_path / "desk.toml").write_text(RECIPE)
    done = CliRunner().invoke(app, ["train", str(tmp_path / "desk.toml"), "--out", str(tmp_path / "run")])
    assert done.exit_code != 0
    assert "use banty sweep" in str(done.exception or done.output)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (RLRecipe(desk=DeskBlock(num_tasks=4)), "tasks_per_step is 16 and desk.num_tasks 4"),
        (RLRecipe(desk=DeskBlock(), train=TrainBlock(temperature=0.5)), r"train\.temperature is 0\.5, which \[desk\]"),
        (RLRecipe(desk=DeskBlock(), policy=PolicyBlock(type="model", start="nano")), "only policy.type='habits' has"),
        (RLRecipe(desk=DeskBlock(runs=1)), "desk.runs is 1; it takes at least 2"),
        (RLRecipe(desk=DeskBlock(target=1.0)), "desk.target is 1.0"),
    ],
)
def test_what_a_desk_cannot_do_is_refused(recipe: RLRecipe, words: str) -> None:
    with pytest.raises(InputError, match=words):
        recipe.check()
