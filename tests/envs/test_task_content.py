"""What a taskset says its tasks hold, where it says nothing of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from tests.envs.example_envs import LibraryDesk, LibraryTasks

from banty.envs.tasksets import Tasks
from banty.records import Env, Task, TaskContent, ToolCall


class Loans(Tasks):
    env = "loans"
    splits: Mapping[str, int] = {"train": 1}

    def make(self, split: str, index: int, rng: np.random.Generator) -> Any:
        return {"member": "m07", "wants": ["a book", {"shelf": 3, "urgent": True}], "note": None}

    def episode(self, task: Task) -> Env:
        return LibraryDesk(LibraryTasks().task("train", 0).data)

    def golden(self, task: Task) -> tuple[ToolCall, ...]:
        reads = [name for name, tool in LibraryDesk.tools.items() if tool.schema.effect == "read"]
        return (ToolCall(reads[0], {}), ToolCall("lend", {"book_id": "b1"}), ToolCall("unheard_of", {}))


def test_texts_of_the_data_and_golden_calls_that_do_more_than_read() -> None:
    taskset = Loans()
    content = taskset.content(taskset.task("train", 0))
    assert content.text == "m07\na book\n3"
    assert content.writes is not None
    assert [call.name for call in content.writes] == ["lend", "unheard_of"]
    assert (content.customers, content.templates, content.tables) == (None, None, None)


def test_without_golden_calls_nobody_knows_the_writes() -> None:
    library = LibraryTasks()
    assert library.content(library.task("train", 0)).writes is None
    assert TaskContent().writes is None
