"""A user's own data: v1 and verified task files, other policies and databases, and what is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from tests.envs.airline.conftest import DB
from tests.envs.airline.test_airline_tau2tasks import TASK, save

from banty.envs.airline.published import PublishedTasks
from banty.envs.airline.tau2tasks import load_tasks
from banty.errors import InputError
from banty.records import ToolCall

V1 = """from tau_bench.types import Action, Task

TASKS = [
    Task(
        annotator="0",
        user_id="ann_lee_1",
        instruction="Your user id is ann_lee_1. " "You want to cancel RES001.",
        actions=[
            Action(name="think", kwargs={"thought": "hm"}),
            Action(name="cancel_reservation", kwargs={"reservation_id": "RES001"}),
        ],
        outputs=["160"],
    ),
    Task(annotator="1", user_id="bob_ray_2", instruction="Refuse.", actions=[], outputs=[]),
]
"""
V1_JSON = [
    {
        "annotator": "0",
        "user_id": "ann_lee_1",
        "instruction": "Your user id is ann_lee_1. You want to cancel RES001.",
        "actions": [
            {"name": "think", "kwargs": {"thought": "hm"}},
            {"name": "cancel_reservation", "kwargs": {"reservation_id": "RES001"}},
        ],
        "outputs": ["160"],
    },
    {"annotator": "1", "user_id": "bob_ray_2", "instruction": "Refuse.", "actions": [], "outputs": []},
]
BROKEN: dict[str, Any] = TASK | {
    "id": "b",
    "evaluation_criteria": {"actions": [{"name": "cancel_reservation", "arguments": {"reservation_id": "RES009"}}]},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(tmp_path, DB, "db.json")
    save(tmp_path, [TASK])
    return tmp_path


def test_a_python_file_of_v1_is_read_and_not_run(folder: Path) -> None:
    for file in (save(folder, V1, "tasks_test.py"), save(folder, V1_JSON, "v1.json")):
        loaded = load_tasks(file)
        assert (loaded.version, loaded.splits) == ("tau-bench v1", {"base": ("0", "1")})
        assert loaded.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
        first, second = loaded.tasks
        assert first.instructions == "Your user id is ann_lee_1. You want to cancel RES001."
        assert first.actions[1] == ToolCall("cancel_reservation", {"reservation_id": "RES001"}, "0_1")
        assert (first.communicate, first.reward_basis, first.writes) == (("160",), ("DB", "COMMUNICATE"), True)
        assert (second.actions, second.writes, second.checks_database) == ((), False, True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (V1[:300], "is not whole Python"),
        ("TASKS = 5", "holds 0 lists instead of one of tasks"),
        ("A = [1]\nB = [2]", "holds 2 lists"),
        ("TASKS = [open('x')]", "line 1: open(...)), and nothing in it is run"),
        ("TASKS = [Task(instruction='a' + name, actions=[])]", "line 1: 'a' + name"),
        ("TASKS = [Task('0')]", "line 1: Task(...)"),
        ("TASKS = [Task(actions=[])]", "task 0 has no instruction or no list of actions"),
        ("TASKS = [Task(instruction='x', actions=[5])]", "an action that is no object"),
        ("TASKS = [Task(instruction='x', actions=[Action(name='x')])]", "an action without a name and an object"),
    ],
)
def test_what_is_no_file_of_v1_is_refused_with_the_line(folder: Path, text: str, said: str) -> None:
    with pytest.raises(InputError) as refused:
        load_tasks(save(folder, text, "tasks_test.py"))
    assert said in str(refused.value)
    assert "tasks_test.py" in str(refused.value)


def test_tasks_of_v1_are_played_on_our_desk(folder: Path) -> None:
    taskset = PublishedTasks(data=folder, tasks=save(folder, V1, "tasks_test.py"), customer="silent")
    assert taskset.splits == {"base": 2}
    assert taskset.provenance["tasks_version"] == "tau-bench v1"
    assert taskset.golden(taskset.task("base", 0))[1].name == "cancel_reservation"


def test_results_name_database_policy_and_tasks_by_hash(folder: Path) -> None:
    (folder / "mine.md").write_text("Always refuse.\n")
    named = PublishedTasks(data=folder, policy=folder / "mine.md").provenance
    assert named["tasks_sha256"] == hashlib.sha256((folder / "tasks.json").read_bytes()).hexdigest()
    assert named["policy_sha256"] == hashlib.sha256(b"Always refuse.\n").hexdigest(), "that of the file"
    assert str(named["world"]).endswith(hashlib.sha256((folder / "db.json").read_bytes()).hexdigest()[:16])
    with pytest.raises(InputError, match="is no file"):
        PublishedTasks(data=folder, policy=folder / "none.md")


def test_a_database_by_its_file_and_by_the_benchmarks_own_variable(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = PublishedTasks(data=folder)
    assert PublishedTasks(data=folder / "db.json").provenance == whole.provenance
    assert whole.files == (folder / "db.json", folder / "tasks.json")
    monkeypatch.setenv("TAU2_DATA_DIR", str(folder))
    assert PublishedTasks().provenance == whole.provenance
    monkeypatch.delenv("TAU2_DATA_DIR")
    with pytest.raises(InputError, match=r"give data=FOLDER .*or set TAU2_DATA_DIR"):
        PublishedTasks()


def test_tasks_whose_golden_writes_fail_are_refused_dropped_or_kept(folder: Path) -> None:
    save(folder, [TASK, BROKEN])
    save(folder, {"train": ["a"], "test": ["b"]}, "split_tasks.json")
    with pytest.raises(InputError) as refused:
        PublishedTasks(data=folder)
    assert "golden actions of 1 of 2 tasks" in str(refused.value)
    assert "task b: cancel_reservation: Reservation RES009 not found" in str(refused.value)
    dropped = PublishedTasks(data=folder, failing_gold="drop")
    assert dropped.splits == {"base": 1, "train": 1, "test": 0}
    assert dropped.provenance["tasks_left_out"] == ["b"]
    kept = PublishedTasks(data=folder, failing_gold="keep")
    assert kept.splits == {"base": 2, "train": 1, "test": 1}
    assert "tasks_left_out" not in kept.provenance
    save(folder, [BROKEN])
    (folder / "split_tasks.json").unlink()
    with pytest.raises(InputError, match="1 of 1 tasks"):
        PublishedTasks(data=folder, failing_gold="drop")
    with pytest.raises(InputError, match="failing_gold=perhaps is not one of refuse, drop, keep"):
        PublishedTasks(data=folder, failing_gold="perhaps")  # type: ignore[arg-type]


def test_tasks_that_a_model_has_to_judge_are_refused_before_anything_is_played(folder: Path) -> None:
    criteria = TASK["evaluation_criteria"] | {"reward_basis": ["DB", "NL_ASSERTION"]}
    save(folder, [TASK | {"evaluation_criteria": criteria}])
    assert PublishedTasks(data=folder).splits == {"base": 1}, "nothing is asserted"
    save(folder, [TASK | {"evaluation_criteria": criteria | {"nl_assertions": ["The agent is kind."]}}])
    with pytest.raises(InputError, match=r"task a is graded by its nl_assertions \(NL_ASSERTION\)"):
        PublishedTasks(data=folder)


def test_golden_calls_of_tools_the_desk_has_not_are_failures_and_failing_reads_are_not(folder: Path) -> None:
    reads = {"name": "get_user_details", "arguments": {"user_id": "nobody"}}
    save(folder, [TASK | {"evaluation_criteria": {"actions": [reads]}}])
    assert PublishedTasks(data=folder).splits == {"base": 1}
    other = {"name": "get_order_details", "arguments": {"order_id": "#1"}}
    save(folder, [TASK | {"evaluation_criteria": {"actions": [other]}}])
    with pytest.raises(InputError, match="Tool 'get_order_details' not found"):
        PublishedTasks(data=folder)


def test_the_folder_of_another_domain_is_named(tmp_path: Path) -> None:
    retail = tmp_path / "tau2" / "domains" / "retail"
    retail.mkdir(parents=True)
    save(retail, {"products": {}, "users": {}, "orders": {}}, "db.json")
    order = TASK | {"user_scenario": {"instructions": {"domain": "retail", "reason_for_call": "x"}}}
    save(retail, [order])
    with pytest.raises(InputError, match=r"no airline db.json in .*; it has tasks of retail"):
        PublishedTasks(data=tmp_path)
    with pytest.raises(InputError, match="holds orders, products, users"):
        PublishedTasks(data=retail)
    save(tmp_path, DB, "db.json")
    with pytest.raises(InputError, match="is of the domain 'retail'"):
        PublishedTasks(data=tmp_path, tasks=retail / "tasks.json")


def test_a_database_cut_off_is_refused_before_anything_else(folder: Path) -> None:
    text = json.dumps(DB)
    (folder / "db.json").write_text(text[: len(text) // 2])
    with pytest.raises(InputError, match="not whole JSON"):
        PublishedTasks(data=folder)
    damaged = {**DB, "users": {"ann_lee_1": {"user_id": "ann_lee_1"}}}
    save(folder, damaged, "db.json")
    with pytest.raises(InputError, match=r"damaged or cut off at users\.ann_lee_1"):
        PublishedTasks(data=folder)


def test_no_golden_write_of_the_published_files_fails(tau2_folder: Path) -> None:
    for file in ("tasks.json", "tasks_amazon_verified.json"):
        if (tau2_folder / file).is_file():
            taskset = PublishedTasks(data=tau2_folder, tasks=tau2_folder / file)
            assert taskset.splits["base"] == 50
            assert "tasks_left_out" not in taskset.provenance
