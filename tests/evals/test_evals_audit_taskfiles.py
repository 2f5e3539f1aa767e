"""Task files of tau-bench and tau2-bench: read as data, never run; and what an audit finds between the real ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.evals.audited import cancel, published_pair, tau2_task
from tests.published_data import PLACE

from banty.errors import InputError
from banty.evals.audit import Audit, Opening, TaskSet, audit, open_tasks
from banty.records import ToolCall

needs_tau2 = pytest.mark.skipif(not PLACE.is_dir(), reason=f"needs tau2-bench's airline data in {PLACE}")


def opened(spec: object, side: str = "test") -> TaskSet:
    return open_tasks(str(spec), Opening(default_split=side))


def levels(result: Audit) -> dict[str, str | None]:
    return {one.measure: one.level for one in result.findings}


def test_a_benchmark_rephrased_is_found_out(tmp_path: Path) -> None:
    """The published statistics of tau-bench v1 and tau2's airline, in a made-up pair (specs/irc.md 0.1)."""
    old, new = published_pair(tmp_path)
    result = audit(opened(old, "train"), opened(new))
    assert not result.allowed
    found = {one.measure: one for one in result.findings}
    assert (found["customers"].count, found["customers"].of) == (50, 50)
    nearest = found["text"].figures["nearest"]
    assert nearest == {
        "pairs": 50,
        "different_training_tasks": 50,
        "same_customer": 50,
        "same_golden_writes": 46,
    }
    assert found["text"].figures["close"] == 50
    assert 0.75 < found["text"].figures["jaccard"]["median"] < 0.85
    assert (found["writes"].count, found["writes"].of) == (26, 30)
    assert [one.measure for one in result.overlapping] == ["customers", "writes", "text"]
    assert result.sentence == (
        "A result on 50 tasks of "
        f"{tmp_path.name}/tasks.json after training on 50 tasks of {tmp_path.name}/tasks_test.py must not be called "
        "held-out: they share customers who want the same (50 of 50 test tasks), identical golden writes (26 of 30 "
        "test tasks that write) and instructions nearer than unrelated tasks come to each other (50 of 50 test tasks)."
    )


def test_python_is_parsed_and_never_run(tmp_path: Path) -> None:
    trap = tmp_path / "tasks_test.py"
    trap.write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w')\nraise SystemExit\n"
        "TASKS: list = [Task('0', 'mia_li_3668', 'cancel my trip now', [Action('cancel_reservation', "
        "{'reservation_id': 'ABC', 'amounts': [-1, 2.5, None, (True,)]}), Action(name='think', kwargs={})], [])]\n"
    )
    (one,) = opened(trap).tasks
    assert not (tmp_path / "ran").exists()
    assert one.content.customers == frozenset({"mia_li_3668"})
    assert one.content.text == "cancel my trip now"
    assert one.content.writes is not None
    (write,) = one.content.writes
    assert write.arguments == {"reservation_id": "ABC", "amounts": [-1, 2.5, None, [True]]}


@pytest.mark.parametrize("wrapped", [False, True])
def test_v1_as_json(tmp_path: Path, wrapped: bool) -> None:
    file = tmp_path / "v1.json"
    listed = [{"user_id": "a_b_1", "instruction": "do it", "actions": [{"name": "cancel", "kwargs": {"id": 1}}]}]
    file.write_text(json.dumps({"tasks": listed} if wrapped else listed))
    (one,) = opened(file).tasks
    assert (one.id, one.content.customers) == ("0", frozenset({"a_b_1"}))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("TASKS = [Task(user_id=os.environ['KEY'])]", r"line 1: .*os.environ.* is code"),
        ("TASKS = [Task(instruction=f'{1}')]", "is code, and a task file is read as data only"),
        ("TASKS = [Task(**given)]", "is code"),
        ("TASKS = [{**{}}]", "is code"),
        ("TASKS = [Task(actions=[run()])]", "is code"),
        ("TASKS = [Task('a', 'b', 'c', [], [], 'f')]", "is code"),
        ("TASKS = [-'a', {}]", "assigns no list of tasks"),
        ("A = [Task()]\nB = [Task()]", r"assigns 2 lists of tasks \(A, B\)"),
        ("import banty", "assigns no list of tasks"),
        ("TASKS = [", "is not Python that can be read"),
        ("TASKS = [Task(instruction='a')]", "neither a task of tau2-bench"),
        ("TASKS = [{'x': " + "[" * 150 + "]" * 150 + "}]", "neither a task of tau2-bench"),
        ("TASKS = [{'x': " + "-" * 20000 + "1}]", "cannot|can be read|nested too deeply|is code"),
    ],
)
def test_python_that_is_no_task_file(tmp_path: Path, code: str, message: str) -> None:
    file = tmp_path / "tasks_test.py"
    file.write_text(code)
    with pytest.raises(InputError, match=message):
        opened(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "is not whole JSON"),
        ("{}", "an object of nothing instead of a list of tasks"),
        ("[]", "a list of 0 instead of a list of tasks"),
        ("[3]", "task 0 is a int, and neither"),
        (json.dumps([tau2_task("1", "a"), tau2_task("1", "b")]), "two tasks of the id '1'"),
        (json.dumps([tau2_task("1", "a") | {"user_scenario": {}}]), "no user_scenario.instructions"),
        (
            json.dumps([tau2_task("1", "a") | {"evaluation_criteria": {"actions": [{"name": "x"}]}}]),
            "an action without a name and an object of arguments",
        ),
    ],
)
def test_json_that_is_no_task_file(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "tasks.json"
    file.write_text(text)
    with pytest.raises(InputError, match=message):
        opened(file)


def test_splits_are_those_of_the_file_beside(tmp_path: Path) -> None:
    file = tmp_path / "tasks.json"
    file.write_text(json.dumps([tau2_task(str(at), f"Your user id is a_b_{at}.", [cancel("A")]) for at in range(4)]))
    with pytest.raises(InputError, match=r"there is no .*split_tasks\.json"):
        opened(f"{file}:train")
    splits = tmp_path / "split_tasks.json"
    splits.write_text(json.dumps({"train": ["0", 2], "test": ["7"]}))
    assert [one.id for one in opened(f"{file}:train").tasks] == ["0", "2"]
    with pytest.raises(InputError, match="names tasks that the task file lacks: 7"):
        opened(f"{file}:test")
    with pytest.raises(InputError, match="no list of ids for the split 'dev'; it has train, test"):
        opened(f"{file}:dev")


def test_the_same_file_is_never_held_out_from_itself(tmp_path: Path) -> None:
    file = tmp_path / "tasks.json"
    file.write_text(json.dumps([tau2_task("0", "Your user id is a_b_1.")]))
    assert levels(audit(opened(file, "train"), opened(file)))["tasks"] == "overlapping"


def test_users_own_calls_and_reads_are_no_golden_writes(tmp_path: Path) -> None:
    raw = tau2_task("0", "Your user id is mia_li_1234.", [cancel("A")])
    raw["evaluation_criteria"]["actions"].append({"name": "toggle_data", "requestor": "user", "arguments": {}})
    file = tmp_path / "tasks.json"
    file.write_text(json.dumps([raw]))
    content = opened(file).tasks[0].content
    assert [call.name for call in content.writes or ()] == ["cancel_reservation"]


@needs_tau2
def test_the_verified_fork_is_the_same_benchmark() -> None:
    result = audit(opened(PLACE / "tasks_amazon_verified.json", "train"), opened(PLACE / "tasks.json"))
    found = {one.measure: one for one in result.findings}
    assert not result.allowed
    assert (found["customers"].count, found["text"].count) == (50, 50)
    assert (found["writes"].figures["identical"], found["writes"].figures["near"], found["writes"].of) == (23, 3, 26)
    assert found["text"].figures["nearest"]["same_golden_writes"] == 47
    assert found["tasks"].count == 47


@needs_tau2
def test_tau2s_own_split_has_near_copies_on_both_sides() -> None:
    result = audit(opened(f"{PLACE}:train", "train"), opened(f"{PLACE}:test"))
    found = {one.measure: one for one in result.findings}
    assert (len(result.train.tasks), len(result.test.tasks)) == (30, 20)
    assert found["tasks"].level == "none"
    assert (found["customers"].figures["in_training"], found["customers"].figures["want_the_same"]) == (8, 5)
    assert (found["writes"].count, found["writes"].of) == (2, 13)
    assert found["text"].level == "related"
    assert not result.allowed
    assert result.to_leave_out == ["2", "16", "22", "37", "48"]


@needs_tau2
def test_one_split_of_two_task_files_is_not_one_split() -> None:
    options = {"data": str(PLACE), "customer": "silent"}
    fork = open_tasks(
        "airline/tau2:base",
        Opening(default_split="train", options={**options, "tasks": str(PLACE / "tasks_amazon_verified.json")}),
    )
    ours = open_tasks("airline/tau2:base", Opening(default_split="test", options=options))
    result = audit(fork, ours)
    assert result.construction == ""
    assert next(one for one in result.findings if one.measure == "tasks").count == 47
    assert "the split itself" in audit(ours, ours).sentence


@needs_tau2
def test_the_environment_and_the_task_file_give_the_same_tasks() -> None:
    how = Opening(default_split="test", options={"data": str(PLACE), "customer": "silent"})
    made, read = open_tasks("airline/tau2:base", how), opened(PLACE / "tasks.json")
    told = [
        {
            one.id: (one.content.customers, one.content.text, one.content.tables, _plain(one.content.writes or ()))
            for one in side.tasks
        }
        for side in (made, read)
    ]
    assert told[0] == told[1]
    assert len(told[0]) == 50


def _plain(calls: Sequence[ToolCall]) -> list[tuple[str, object]]:
    return [(call.name, call.arguments) for call in calls]
