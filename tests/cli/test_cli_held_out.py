"""Which results are called held-out: those of an audit that allows it, about these very tasks and all that was trained
on; and results on what is left when overlapping tasks are left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.evals.audited import published_pair
from typer.testing import CliRunner

from banty.cli.app import app
from banty.cli.auditing import RunAuditor, tasks_of_run
from banty.envs.airline.tasks import GeneratedTasks
from banty.errors import InputError
from banty.evals import read_card
from banty.evals.audit import AUDIT_FILE, standing_of
from banty.report import headline
from banty.runs import RunFolder
from banty.train.recipe import DataBlock, EnvBlock, PolicyBlock, RLRecipe, SFTRecipe

LEAKY = """
from banty.envs.airline.tasks import GeneratedTasks
from banty.records import Task, generator


class Leaky(GeneratedTasks):
    def __init__(self):
        super().__init__("mini")

    def make(self, split, index, rng):
        if split == "test" and index < 2:
            split, rng = "train", generator(Task(self.env, "train", index, 0).env_seed, "task")
        return super().make(split, index, rng)
"""


def run(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "400"})
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


def audited(leaky: str, out: Path, *more: object) -> None:
    run("audit", f"{leaky}:train", f"{leaky}:test", "--train-tasks", 40, "--test-tasks", 8, "--allow-code",
        "--out", out, *more)  # fmt: skip


@pytest.fixture
def leaky(tmp_path: Path) -> str:
    (tmp_path / "leaky.py").write_text(LEAKY)
    audited(f"{tmp_path}/leaky.py:Leaky", tmp_path / "audit")
    return f"{tmp_path}/leaky.py:Leaky"


def evaluated(leaky: str, folder: Path, *more: object) -> dict[str, Any]:
    words = ["--env", leaky, "--allow-code", "--tasks", 8, "--trials", 1, "--out", folder, "--json", *more]
    found: dict[str, Any] = json.loads(run("eval", "expert", *words))
    return found


def test_the_tasks_that_do_not_overlap_can_be_measured_and_called_held_out(leaky: str, tmp_path: Path) -> None:
    audit = tmp_path / "audit"
    left_out = json.loads((audit / AUDIT_FILE).read_text())["overlapping_tasks"]
    assert left_out == ["airline/mini:test:0:0", "airline/mini:test:1:0"]
    card = evaluated(leaky, tmp_path / "eval", "--without", audit)
    assert card["identity"]["without"] == left_out
    assert [task["id"] for task in card["tasks"]] == [f"airline/mini:test:{index}:0" for index in range(2, 8)]
    assert {baseline["num_tasks"] for baseline in card["baselines"].values()} == {6}
    assert "on 6 test tasks of airline/mini (without 2 that overlap with training)" in headline(tmp_path / "eval")
    audited(leaky, tmp_path / "eval", "--without", audit)
    said = headline(tmp_path / "eval")
    assert "on 6 held-out test tasks of airline/mini (without 2 that overlap with training)" in said
    assert said.endswith("held-out if trained on 40 tasks of airline/mini train.")
    shown = run("card", tmp_path / "eval", "--allow-code", "--out", tmp_path / "card")
    assert "on 6 held-out test tasks" in shown
    whole = evaluated(leaky, tmp_path / "whole")
    assert whole["identity"]["tasks_sha256"] != card["identity"]["tasks_sha256"]
    assert "without" not in whole["identity"]
    with pytest.raises(InputError, match=r"tasks"):
        run("compare", tmp_path / "eval", tmp_path / "whole")
    with pytest.raises(InputError, match="holds another evaluation"):
        evaluated(leaky, tmp_path / "eval", "--resume")
    (tmp_path / "whole" / AUDIT_FILE).write_text((tmp_path / "eval" / AUDIT_FILE).read_text())
    assert "held-out" not in headline(tmp_path / "whole"), "the audit is of other tasks"


def test_leaving_out_what_is_not_there_or_everything_is_refused_before_anything_is_written(
    leaky: str, tmp_path: Path
) -> None:
    file = tmp_path / "audit" / AUDIT_FILE
    audit = json.loads(file.read_text())
    out = tmp_path / "eval"
    for ids, said in (
        ([], "names no overlapping tasks"),
        (["airline/mini:test:9:0"], "has no task 'airline/mini:test:9:0' among these 8"),
        ([f"airline/mini:test:{index}:0" for index in range(8)], "all 8 tasks of airline/mini test are left out"),
    ):
        file.write_text(json.dumps({**audit, "overlapping_tasks": ids}))
        with pytest.raises(InputError, match=said):
            evaluated(leaky, out, "--without", file)
    with pytest.raises(InputError, match="no audit at"):
        evaluated(leaky, out, "--without", tmp_path / "nowhere")
    assert not out.exists()


def test_a_benchmark_that_is_mostly_rephrased_leaves_nothing(tmp_path: Path) -> None:
    old, new = published_pair(tmp_path)
    data = json.loads(run("audit", old, new, "--json"))
    assert len(data["overlapping_tasks"]) == 50


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"may_be_called_held_out": True}, "contradicts itself"),
        ({"may_be_called_held_out": True, "overlapping_tasks": []}, "contradicts itself"),
        ({"may_be_called_held_out": True, "overlapping_tasks": [], "overlaps": []}, "contradicts itself"),
        ({"may_be_called_held_out": "yes"}, "damaged: it has no may_be_called_held_out"),
    ],
)
def test_an_audit_that_was_made_to_allow_it_is_refused(
    leaky: str, tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    folder = tmp_path / "eval"
    evaluated(leaky, folder)
    audited(leaky, folder)
    card = read_card(folder)
    assert "not called held-out: they share tasks (2 of 8 test tasks)" in headline(folder)
    data = json.loads((folder / AUDIT_FILE).read_text())
    (folder / AUDIT_FILE).write_text(json.dumps({**data, **changes}))
    standing = standing_of(folder, card)
    assert not standing.held_out
    assert reason in standing.reason
    assert "held-out" not in headline(folder)


def test_training_goes_back_to_the_runs_that_the_weights_came_from(tmp_path: Path) -> None:
    """Imitating the test tasks first and training on clean ones after leaves the test tasks trained on."""
    run("eval", "expert", "--split", "test", "--tasks", 3, "--trials", 1, "--out", tmp_path / "imitated", "--json")
    run("eval", "expert", "--split", "test", "--tasks", 12, "--trials", 1, "--out", tmp_path / "eval", "--json")
    first = {"kind": "sft", "data": {"rollouts": [str(tmp_path / "imitated")], "traces": []}, "policy": {"start": ""}}
    RunFolder.create(tmp_path / "first", first)
    (tmp_path / "first" / "weights").mkdir()
    card = read_card(tmp_path / "eval")

    def after(name: str, start: str) -> dict[str, Any]:
        recipe = RLRecipe(policy=PolicyBlock(start=start))
        (tmp_path / name).mkdir()
        RunAuditor(recipe, {"": GeneratedTasks("mini")}).write("", card, tmp_path / name)
        found: dict[str, Any] = json.loads((tmp_path / name / AUDIT_FILE).read_text())
        return found

    assert after("clean", "")["may_be_called_held_out"] is True
    data = after("chained", str(tmp_path / "first" / "weights"))
    assert data["may_be_called_held_out"] is False
    assert data["overlapping_tasks"] == [f"airline/mini:test:{index}:0" for index in range(3)]
    assert data["train"]["started_from"] == str(tmp_path / "first")
    assert len(tasks_of_run(tmp_path / "first", False).tasks) == 3
    assert json.loads(run("audit", tmp_path / "first", tmp_path / "eval", "--json"))["overlapping_tasks"]


def test_imitated_conversations_of_test_tasks_are_found_out_from_a_file_of_traces(tmp_path: Path) -> None:
    """Users say other words than they were told; who they are and what was done for them are the same."""
    from banty.rollout import stored_rollouts

    run("eval", "expert", "--split", "test", "--tasks", 4, "--trials", 1, "--out", tmp_path / "eval", "--json")
    card = read_card(tmp_path / "eval")
    lines = []
    for rollout in stored_rollouts(tmp_path / "eval"):
        messages = []
        for message in rollout.transcript:
            calls = [
                {"id": call.id, "function": {"name": call.name, "arguments": dict(call.arguments)}}
                for call in message.calls
            ]
            messages.append({"role": message.role, "content": message.content, "tool_calls": calls})
        lines.append(json.dumps({"messages": messages}))
    traces = tmp_path / "traces.jsonl"
    traces.write_text("\n".join(lines))
    recipe = SFTRecipe(data=DataBlock(traces=(str(traces),)), env=EnvBlock())
    RunAuditor(recipe, {"": GeneratedTasks("mini")}).write("", card, tmp_path)
    data = json.loads((tmp_path / AUDIT_FILE).read_text())
    assert data["may_be_called_held_out"] is False
    assert len(data["overlapping_tasks"]) >= 3, "a customer whom no call names is not recognised"


def test_a_run_that_is_gone_on_with_is_audited_again(tmp_path: Path) -> None:
    run("eval", "expert", "--split", "test", "--tasks", 6, "--trials", 1, "--out", tmp_path / "eval", "--json")
    card = read_card(tmp_path / "eval")
    stale = {"format": "banty-audit-1", "may_be_called_held_out": True, "train": {"num_tasks": 1}}
    file = tmp_path / "eval" / AUDIT_FILE
    file.write_text(json.dumps({**stale, "test": {"tasks_sha256": card.data["identity"]["tasks_sha256"]}}))
    RunAuditor(RLRecipe(), {"": GeneratedTasks("mini")}).write("", card, tmp_path / "eval")
    assert json.loads(file.read_text())["train"]["num_tasks"] > 1
    other = RunAuditor(RLRecipe(), {"": GeneratedTasks("mini", phrasing="train")})
    other.write("", card, tmp_path / "eval")
    data = json.loads(file.read_text())
    assert data["may_be_called_held_out"] is False
    assert "cannot be made again" in data["sentence"], "the card was made on other tasks than these"
