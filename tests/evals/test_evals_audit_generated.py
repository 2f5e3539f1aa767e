"""Our generator's splits under the audit: clean, and what `phrasing=train` shares is said exactly."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.evals.toy_desk import GuessingTasks

from banty.envs.airline.phrases import PHRASES, SPLITS, templates
from banty.errors import InputError
from banty.evals.audit import Audit, Opening, audit, open_tasks, tasks_of_split
from banty.records import Task, TaskContent


def between(env: str, train: str, test: str, **options: str) -> Audit:
    sides = [
        open_tasks(f"{env}:{split}", Opening(default_split=side, options=options, num_tasks=count))
        for split, side, count in ((train, "train", 300), (test, "test", 120))
    ]
    return audit(*sides)


@pytest.mark.parametrize("test", ["dev", "test"])
@pytest.mark.parametrize(("env", "shared"), [("airline/mini", set()), ("airline/full", {"tables"})])
def test_generated_splits_are_clean(env: str, shared: set[str], test: str) -> None:
    result = between(env, "train", test)
    assert result.allowed
    assert {one.measure for one in result.findings if one.level != "none"} == shared
    assert not result.not_measured


def test_one_world_is_shared_and_none_of_its_records_written_to_twice() -> None:
    tables = next(one for one in between("airline/full", "train", "test").findings if one.measure == "tables")
    assert tables.figures["same_tables"] == ["cells", "flights", "reservations", "users"]
    assert tables.figures["tasks_with_shared_records"] == 0


def test_training_phrasings_are_shared_and_nothing_else() -> None:
    result = between("airline/mini", "train", "test", phrasing="train")
    assert [one.measure for one in result.related] == ["templates"]
    assert not result.overlapping
    templates_found = result.related[0]
    assert (templates_found.count, templates_found.of) == (120, 120)
    assert templates_found.figures["exact"]
    assert result.sentence == (
        "A result on 120 tasks of airline/mini test after training on 300 tasks of airline/mini train may be called "
        f"held-out: they share paraphrase templates ({templates_found.figures['shared']}, in 120 of 120 test tasks), "
        "and nothing else that was looked for."
    )


def test_every_template_belongs_to_one_split() -> None:
    by_split = [{text for act in PHRASES for text in templates(act, split)} for split in SPLITS]
    assert sum(map(len, by_split)) == len(set().union(*by_split))


def test_training_tasks_are_found_among_themselves() -> None:
    result = between("airline/mini", "train", "train")
    assert not result.allowed
    assert next(one for one in result.findings if one.measure == "tasks").count == 120


def test_another_taskset_is_compared_by_what_its_data_says() -> None:
    sides = [tasks_of_split(GuessingTasks(), split, None, 0) for split in ("train", "test")]
    assert audit(*sides).not_measured, "a number to guess has no customers"


def test_a_taskset_that_cannot_say_what_a_task_holds_is_named() -> None:
    class Silent(GuessingTasks):
        def content(self, task: Task) -> TaskContent:
            raise KeyError("gone")

    with pytest.raises(InputError, match=r"toy/guessing cannot say what its task .* holds \(KeyError"):
        tasks_of_split(Silent(), "train", None, 0)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("airline/nano:train", "no environment 'airline/nano'.*is no file or folder either"),
        ("airline/mini:later", "airline/mini has no split 'later'; it has train, dev, test"),
        ("airline/tau2", "data=FOLDER"),
        ("./nowhere/tasks.json", "there is no ./nowhere/tasks.json"),
        ("desk.py:Tasks:train", "is Python code; add --allow-code"),
    ],
)
def test_what_names_no_tasks(spec: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_tasks(spec, Opening(default_split="train"))


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    with pytest.raises(InputError, match=r"no airline db\.json in"):
        open_tasks(str(tmp_path), Opening(default_split="train"))


def test_more_tasks_than_there_are() -> None:
    with pytest.raises(InputError, match="airline/full dev has 300 tasks; 301 were asked for"):
        open_tasks("airline/full:dev", Opening(default_split="test", num_tasks=301))
