"""`banty audit`, and the audits that a training run keeps beside its results."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from tests.evals.audited import published_pair, tau2_task
from typer.testing import CliRunner

from banty.cli import training
from banty.cli.app import app
from banty.cli.show import show_training
from banty.envs.airline.tasks import GeneratedCase, GeneratedTasks
from banty.errors import InputError
from banty.evals import compare_cards, read_card
from banty.evals.audit import AUDIT_FILE, FORMAT, standing_of
from banty.records import Task, TaskContent, Taskset, generator
from banty.report import headline, write_report

ROOT = Path(__file__).parents[2]
RECIPE = str(ROOT / "recipes" / "habits.toml")
SHORT = [
    *("train.steps=2", "train.tasks_per_step=3", "train.rollouts_per_task=2"),
    *("eval.num_tasks=6", "eval.num_trials=1", "train.max_turns=12", "eval.max_turns=12"),
]


def run(*words: str) -> str:
    done = CliRunner().invoke(app, ["audit", *words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


def trained(folder: Path, taskset: Taskset | None = None, *overrides: str) -> Path:
    """A short training run of habits, on a taskset of the test's own where one is given."""
    recipe = training.load_any_recipe(RECIPE, [*SHORT, *overrides])
    tasksets = {"": taskset} if taskset is not None else training.tasksets_of(recipe, False)
    prepared = training.check_recipe(recipe, tasksets)
    opened = training.open_run(recipe, folder)
    training.run_training(recipe, opened, tasksets, prepared, quiet=True, baselines=False)
    return folder


class Leaky(GeneratedTasks):
    """Two tasks of the test split are training tasks."""

    def __init__(self) -> None:
        super().__init__("mini")

    def make(self, split: str, index: int, rng: np.random.Generator) -> GeneratedCase:
        if split == "test" and index < 2:
            split, rng = "train", generator(Task(self.env, "train", index, 0).env_seed, "task")
        return super().make(split, index, rng)


class Mute(GeneratedTasks):
    """Tasks of which nobody can say what they hold."""

    def content(self, task: Task) -> TaskContent:
        raise RuntimeError("no idea")


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("runs") / "clean")


def test_the_command_says_it_in_one_sentence_and_writes_nothing_by_itself(tmp_path: Path) -> None:
    old, new = published_pair(tmp_path)
    before = sorted(tmp_path.iterdir())
    shown = run(str(old), str(new))
    assert "must not be called held-out: they share customers who want the same" in " ".join(shown.split())
    assert "cancel_reservation(reservation_i" in shown
    assert "median and highest: test tasks 0.8" in " ".join(shown.split())
    assert "nothing was written" in shown
    assert sorted(tmp_path.iterdir()) == before


def test_out_keeps_the_audit_and_never_replaces_one(tmp_path: Path) -> None:
    old, new = published_pair(tmp_path)
    data = json.loads(run(str(old), str(new), "--json", "--out", str(tmp_path / "kept")))
    assert data == json.loads((tmp_path / "kept" / AUDIT_FILE).read_text())
    assert data["format"] == FORMAT == "banty-audit-1"
    assert data["may_be_called_held_out"] is False
    assert {"sentence", "train", "test", "overlaps"} <= set(data)
    assert {row["measure"] for row in data["overlaps"]} == {
        *("tasks", "customers", "writes", "text", "templates", "tables")
    }
    assert all(row["rule"] and row["level"] for row in data["overlaps"])
    assert len(data["overlapping_tasks"]) == 50
    with pytest.raises(InputError, match="is there already"):
        run(str(old), str(new), "--out", str(tmp_path / "kept"))
    with pytest.raises(InputError, match="is a file"):
        run(str(old), str(new), "--out", str(old))


def test_options_are_for_both_sides_or_for_one() -> None:
    sides = ["airline/mini:train", "airline/mini:test", "--train-tasks", "40", "--test-tasks", "8", "--json"]
    assert "paraphrase templates" in json.loads(run(*sides, "-o", "phrasing=train"))["sentence"]
    data = json.loads(run(*sides, "-o", "test.phrasing=train", "-o", "grade=tau2"))
    assert (data["train"]["options"], data["test"]["options"]) == (
        {"grade": "tau2"},
        {"phrasing": "train", "grade": "tau2"},
    )
    with pytest.raises(InputError, match="--test-tasks is 0"):
        run(*sides[:-2], "0")


def test_what_a_task_says_is_shown_and_not_obeyed(tmp_path: Path) -> None:
    file = tmp_path / "tasks.json"
    file.write_text(json.dumps([tau2_task("0", "Your user id is a_b_1. [red]\x1b[31m Please do what I ask you now.")]))
    shown = run(str(file), str(file))
    assert "\x1b" not in shown
    assert "[red]" in shown


def test_a_runs_evaluations_have_an_audit_beside_them(clean: Path) -> None:
    for when in ("before", "after"):
        folder = clean / f"eval-{when}"
        data = json.loads((folder / AUDIT_FILE).read_text())
        assert data["may_be_called_held_out"] is True
        assert (data["train"]["num_tasks"], data["test"]["num_tasks"]) == (6, 6)
        assert data["construction"] == "the splits 'train' and 'test' of airline/mini"
        assert standing_of(folder, read_card(folder)).held_out
    assert "on 6 held-out test tasks of airline/mini" in headline(clean)
    assert "may be called held-out" in write_report(clean).read_text()


def test_a_planted_overlap_takes_the_words_away(tmp_path: Path) -> None:
    folder = trained(tmp_path / "leaky", Leaky(), "eval.seed=0")
    said = headline(folder)
    assert "on 6 test tasks of airline/mini" in said
    assert "; not called held-out: they share tasks (2 of 6 test tasks), customers who want the same (2 of 6 " in said
    data = json.loads((folder / "eval-after" / AUDIT_FILE).read_text())
    assert data["overlapping_tasks"] == ["airline/mini:test:0:0", "airline/mini:test:1:0"]
    cards = [read_card(folder / f"eval-{when}") for when in ("before", "after")]
    console = Console(width=200, record=True, file=io.StringIO())
    show_training(console, compare_cards(*cards), standing=standing_of(folder / "eval-after", cards[1]))
    shown = console.export_text()
    assert "held-out test tasks" not in shown
    assert "audit: not called held-out: they share tasks (2 of 6 test tasks)" in shown


def test_the_training_split_is_no_held_out_one_whatever_the_seed(tmp_path: Path) -> None:
    folder = trained(tmp_path / "same", None, "eval.split=train")
    assert "on 6 train tasks of airline/mini" in headline(folder)
    assert "not called held-out: they share the split itself" in headline(folder)


def test_a_run_does_not_end_because_its_tasks_cannot_be_audited(tmp_path: Path) -> None:
    folder = trained(tmp_path / "mute", Mute("mini"))
    data = json.loads((folder / "eval-after" / AUDIT_FILE).read_text())
    assert data["may_be_called_held_out"] is False
    assert "cannot say what its task airline/mini:test:0:1 holds (RuntimeError: no idea)" in data["sentence"]
    assert "held-out test" not in headline(folder)


def test_a_run_is_what_it_trained_on_and_what_it_was_measured_on(clean: Path, tmp_path: Path) -> None:
    data = json.loads(run(str(clean), str(clean), "--json"))
    assert data["may_be_called_held_out"] is True
    assert (data["train"]["kind"], data["train"]["num_tasks"]) == ("run", 6)
    assert data["test"]["tasks_sha256"] == read_card(clean / "eval-after").data["identity"]["tasks_sha256"]
    card = tmp_path / "card.json"
    card.write_text((clean / "eval-after" / "card.json").read_text())
    alone = json.loads(run(str(clean), str(card), "--json"))
    assert alone["test"]["tasks_sha256"] == data["test"]["tasks_sha256"]
    with pytest.raises(InputError, match="cannot be made again: their sha256 comes out as"):
        run(str(clean), str(card), "-o", "test.phrasing=train")
    with pytest.raises(InputError, match="leave out :train"):
        run(f"{clean}:train", f"{clean}:test")


def test_evaluating_on_what_was_trained_on_is_found_in_the_runs_own_rollouts(clean: Path) -> None:
    data = json.loads(run(str(clean), "airline/mini:train", "--test-tasks", "4", "--json"))
    assert data["may_be_called_held_out"] is False


def test_conversations_without_their_environment_are_compared_by_what_was_said(clean: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    (clean / "rollouts").rename(bare / "rollouts")
    try:
        data = json.loads(run(str(bare), "airline/mini:test", "--test-tasks", "5", "--json"))
    finally:
        (bare / "rollouts").rename(clean / "rollouts")
    assert data["train"]["text"] == "what users said in stored rollouts"
    assert (
        "2 of 6 tasks of the run bare could be compared neither by golden writes nor by instruction"
        in (data["sentence"])
    )
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "recipe.json").write_text("{}")
    (empty / "manifest.json").write_text("{}")
    with pytest.raises(InputError, match="holds no rollouts"):
        run(str(empty), "airline/mini:test", "--test-tasks", "5")


def test_fine_tuning_is_audited_by_the_rollouts_it_imitates(clean: Path, tmp_path: Path) -> None:
    from banty.cli.auditing import RunAuditor
    from banty.train.recipe import DataBlock, EnvBlock, SFTRecipe

    card = read_card(clean / "eval-after")

    def audited(name: str, **data: Any) -> dict[str, Any]:
        recipe = SFTRecipe(data=DataBlock(**data), env=EnvBlock())
        (tmp_path / name).mkdir()
        RunAuditor(recipe, {"": GeneratedTasks("mini")}).write("", card, tmp_path / name)
        found: dict[str, Any] = json.loads((tmp_path / name / AUDIT_FILE).read_text())
        return found

    assert audited("train", rollouts=(str(clean),))["may_be_called_held_out"] is True
    assert audited("test", rollouts=(str(clean / "eval-after"),))["may_be_called_held_out"] is False
    traces = tmp_path / "traces.jsonl"
    said = {"messages": [{"role": "user", "content": "Hi, it is me."}, {"role": "assistant", "content": "Hello."}]}
    traces.write_text(json.dumps(said) + "\n")
    told = audited("both", rollouts=(str(clean),), traces=(str(traces),))
    assert [part["num_tasks"] for part in told["train"]["parts"]] == [6, 1]
    gone = audited("gone", rollouts=(str(tmp_path / "nowhere"),))
    assert "its tasks could not be compared" in gone["sentence"]
