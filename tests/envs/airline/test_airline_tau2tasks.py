from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from banty.envs.airline.tau2tasks import Tau2Tasks, load_tasks
from banty.errors import InputError
from banty.records import GoldenCall, compared_of

TASK: dict[str, Any] = {
    "id": "a",
    "user_scenario": {"instructions": "Cancel everything."},
    "evaluation_criteria": {
        "actions": [{"action_id": "a_0", "name": "cancel_reservation", "arguments": {"reservation_id": "RES001"}}],
        "communicate_info": ["160"],
    },
    "mood": "unknown keys are ignored",
}


def save(folder: Path, tasks: Any, name: str = "tasks.json") -> Path:
    file = folder / name
    file.write_text(tasks if isinstance(tasks, str) else json.dumps(tasks))
    return file


def test_the_benchmarks_tasks_are_the_published_ones(tau2_tasks: Tau2Tasks) -> None:
    assert [task.id for task in tau2_tasks.tasks] == [str(index) for index in range(50)]
    assert tau2_tasks.sha256 == "ccd8ba737b4cc371415af70151187788f728d6108d0916e73bb4317b40542052"
    assert {name: len(tau2_tasks.split(name)) for name in tau2_tasks.splits} == {"base": 50, "train": 30, "test": 20}
    assert {task.reward_basis for task in tau2_tasks.tasks} == {("DB", "COMMUNICATE")}
    assert [task.id for task in tau2_tasks.tasks if task.communicate] == ["3", "7", "11", "14", "18", "23"]
    assert sum(task.writes for task in tau2_tasks.tasks) == 26
    assert Counter(action.name for task in tau2_tasks.tasks for action in task.actions) == {
        "get_reservation_details": 57,
        "update_reservation_flights": 20,
        "search_direct_flight": 20,
        "get_user_details": 14,
        "cancel_reservation": 11,
        "book_reservation": 10,
        "update_reservation_baggages": 5,
        "update_reservation_passengers": 3,
        "calculate": 1,
        "transfer_to_human_agents": 1,
    }
    assert all(isinstance(task.instructions, dict) for task in tau2_tasks.tasks)


def test_the_verified_forks_file_loads_with_the_default_basis(verified_tasks: Tau2Tasks) -> None:
    assert len(verified_tasks.tasks) == 50
    assert {task.reward_basis for task in verified_tasks.tasks} == {("DB", "COMMUNICATE")}
    assert verified_tasks.sha256 == "202f0cdb1cf4bc20b8a3284f00e212882a8dda8eaab81d1d69a5dd9676911ebe"


def test_a_file_of_ones_own_may_leave_out_what_has_a_default(tmp_path: Path) -> None:
    bare = {
        "id": 7,
        "user_scenario": {"instructions": {"domain": "airline"}},
        "initial_state": {"message_history": None},
    }
    loaded = load_tasks(save(tmp_path, [TASK, bare]))
    first, second = loaded.tasks
    assert (first.instructions, first.communicate, first.reward_basis) == (
        "Cancel everything.",
        ("160",),
        ("DB", "COMMUNICATE"),
    )
    assert first.actions[0].id == "a_0"
    assert (compared_of(first.actions[0]), first.writes, first.checks_database) == (None, True, True)
    assert (second.id, second.actions, second.reward_basis, second.checks_database) == ("7", (), (), False)
    assert loaded.splits == {"base": ("a", "7")}
    assert loaded.task("7") is second
    with pytest.raises(InputError, match="no task 'b'"):
        loaded.task("b")
    with pytest.raises(InputError, match=r"no split 'dev'.*base"):
        loaded.split("dev")


def test_an_action_may_name_the_arguments_that_count(tmp_path: Path) -> None:
    (plain,) = TASK["evaluation_criteria"]["actions"]
    named = [plain | {"compare_args": each} for each in (None, [], ["reservation_id"])]
    (task,) = load_tasks(save(tmp_path, [criteria(actions=named)])).tasks
    assert [compared_of(action) for action in task.actions] == [None, (), ("reservation_id",)]
    assert task.actions[2] == GoldenCall(plain["name"], plain["arguments"], plain["action_id"], ("reservation_id",))
    with pytest.raises(InputError, match="something other than texts in compare_args"):
        load_tasks(save(tmp_path, [criteria(actions=[plain | {"compare_args": [1]}])]))


def test_splits_beside_the_file_are_read_and_checked(tmp_path: Path) -> None:
    file = save(tmp_path, [TASK])
    save(tmp_path, {"train": ["a"], "test": []}, "split_tasks.json")
    assert load_tasks(file).splits == {"base": ("a",), "train": ("a",), "test": ()}
    save(tmp_path, {"train": ["a", "z"]}, "split_tasks.json")
    with pytest.raises(InputError, match=r"split 'train'.*lacks: z"):
        load_tasks(file)
    save(tmp_path, ["a"], "split_tasks.json")
    with pytest.raises(InputError, match="not a file of splits"):
        load_tasks(file)


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in TASK.items() if name != key}


def criteria(**change: Any) -> dict[str, Any]:
    return TASK | {"evaluation_criteria": TASK["evaluation_criteria"] | change}


@pytest.mark.parametrize(
    ("tasks", "said"),
    [
        ("[{", "not whole JSON"),
        ({"tasks": []}, "an object of tasks instead of a list"),
        ([], "a list of 0"),
        ([["a"]], "task 0 is a list of 1 without an id"),
        ([without("id")], "without an id"),
        ([without("user_scenario")], "no user_scenario.instructions"),
        ([TASK, TASK], "two tasks of the id 'a'"),
        ([TASK | {"evaluation_criteria": []}], "a list of 0 as evaluation_criteria"),
        ([criteria(actions={})], "as actions instead of a list"),
        ([criteria(actions=[{"name": "x"}])], "an action without a name"),
        ([criteria(actions=[TASK["evaluation_criteria"]["actions"][0] | {"requestor": "user"}])], "action of 'user'"),
        ([criteria(communicate_info=[4])], "other than texts in communicate_info"),
        ([TASK | {"initial_state": {"initialization_actions": [1]}}], "initial_state"),
    ],
)
def test_bad_task_files_are_refused_with_the_place(tmp_path: Path, tasks: Any, said: str) -> None:
    with pytest.raises(InputError) as refused:
        load_tasks(save(tmp_path, tasks))
    assert said in str(refused.value)
    assert "tasks.json" in str(refused.value)


def test_a_missing_task_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "db.json").write_text("{}")
    with pytest.raises(InputError, match=r"no task file .*tasks\.json"):
        load_tasks(tmp_path)
