"""Two sets of tasks as an audit sees them: what is compared, in a form that equal things share."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from banty.records import JSON, TaskContent, ToolCall, ToolMatching
from banty.rubrics.matching import Arguments, Matching, arguments_of

SHINGLE_WORDS = 5
_IDEOGRAPHS = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_WORD = re.compile(rf"[{_IDEOGRAPHS}]|[^\W{_IDEOGRAPHS}](?:[^\W{_IDEOGRAPHS}]|')*")

Write = tuple[str, Arguments]
"""A tool's name and its canonical arguments."""


@dataclass(frozen=True)
class AuditedTask:
    """One task. `id` is its name in its own set; `pin` names it everywhere, and is empty where nothing does. `spoken`
    marks a task that only a conversation shows: its text is what the user said, its writes are what the agent did."""

    id: str
    content: TaskContent
    pin: str = ""
    spoken: bool = False


@dataclass(frozen=True)
class TaskSet:
    """Tasks with one origin. `name` stands in sentences; `about` goes into the audit's JSON.

    `split` is (environment or file, split) where one split of one of them is all there is, and None elsewhere.
    """

    name: str
    tasks: Sequence[AuditedTask]
    about: Mapping[str, JSON] = field(default_factory=dict)
    matching: Mapping[str, ToolMatching] = field(default_factory=dict)
    split: tuple[str, str] | None = None

    def to_json(self) -> dict[str, JSON]:
        return {"name": self.name, "num_tasks": len(self.tasks), **self.about}


class Side:
    """A set's tasks by place, in canonical form. None stands for what is not known of a task."""

    def __init__(self, tasks: TaskSet, matching: Mapping[str, ToolMatching]) -> None:
        self.tasks = tasks.tasks
        self.name = tasks.name
        self._matching = Matching(tools=matching)

    def __len__(self) -> int:
        return len(self.tasks)

    @cached_property
    def customers(self) -> list[frozenset[str] | None]:
        return [task.content.customers or None for task in self.tasks]

    @cached_property
    def writes(self) -> list[tuple[Write, ...] | None]:
        """The golden writes of each task, in an order that only depends on what they are."""
        return [None if task.content.writes is None else self._canonical(task.content.writes) for task in self.tasks]

    @cached_property
    def write_keys(self) -> list[str]:
        """The golden writes of each task as one text; empty where there are none, or nobody knows."""
        return [json.dumps(writes) if writes else "" for writes in self.writes]

    @cached_property
    def each_write(self) -> list[frozenset[str]]:
        """The golden writes of each task, a text each."""
        return [frozenset(map(json.dumps, writes or ())) for writes in self.writes]

    @cached_property
    def records(self) -> list[frozenset[str]]:
        """The records that the golden writes name: `reservation_id ABC123`."""
        return [
            frozenset(named for call in task.content.writes or () for named in records_of(call)) for task in self.tasks
        ]

    @cached_property
    def spoken(self) -> list[tuple[str, ...]]:
        """The words of each task's text, in order."""
        return [tuple(_WORD.findall(task.content.text.lower())) for task in self.tasks]

    @cached_property
    def words(self) -> list[frozenset[str]]:
        return [frozenset(words) for words in self.spoken]

    @cached_property
    def shingles(self) -> list[frozenset[str]]:
        return [
            frozenset(
                " ".join(words[start : start + SHINGLE_WORDS])
                for start in range(max(len(words) - SHINGLE_WORDS + 1, min(len(words), 1)))
            )
            for words in self.spoken
        ]

    @cached_property
    def skeletons(self) -> list[frozenset[str]]:
        """The sentences of each task's text with names, codes, numbers and dates taken out."""
        return [skeletons_of(task.content.text) for task in self.tasks]

    def _canonical(self, calls: Sequence[ToolCall]) -> tuple[Write, ...]:
        writes = [(call.name, arguments_of(call.name, call.arguments, self._matching)) for call in calls]
        return tuple(sorted(((name, dict(sorted(given.items()))) for name, given in writes), key=json.dumps))


def records_of(call: ToolCall) -> list[str]:
    """The records a call names: its arguments called something_id, but for what it is paid with."""
    return [
        f"{name} {value}"
        for name, value in call.arguments.items()
        if name.endswith("_id") and "payment" not in name and isinstance(value, (str, int)) and value != ""
    ]


_FEWEST_WORDS = 5
_MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
_DAYS = "Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday"
_ENTITY = re.compile(
    r"(?P<ID>\b[A-Za-z]+(?:_[A-Za-z]+)*_\d+\b|\b\S+@\S+\b)"
    rf"|(?P<NUMBER>\b(?=\w*\d)\w+(?:[-:./,]\d+)*\b|\b(?:{_MONTHS}|{_DAYS})\b)"
    r"|(?P<CODE>\b[A-Z]{2,}\b)"
    r"|(?P<NAME>(?<=[a-z,] )[A-Z][a-z]+(?: [A-Z][a-z]+)*\b)"
)


def skeletons_of(text: str) -> frozenset[str]:
    """The sentences of a text that are five words or longer, with every entity masked, in lower case."""
    found = set()
    for sentence in re.split(r"(?<=[.!?;])\s+|\n+|\t+", text):
        masked = _ENTITY.sub(lambda entity: str(entity.lastgroup), sentence)
        words = re.findall(r"[A-Za-z']+", masked)
        if len(words) >= _FEWEST_WORDS:
            found.add(" ".join(words).lower())
    return frozenset(found)
