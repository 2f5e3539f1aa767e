"""The audit of two task sets: every measure, and one sentence on whether a result may be called held-out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from banty import __version__
from banty.errors import InputError
from banty.evals.audit import measures
from banty.evals.audit.findings import Finding
from banty.evals.audit.likeness import likeness
from banty.evals.audit.tasks import Side, TaskSet
from banty.records import JSON

FORMAT = "banty-audit-1"
OF_CONTENT = ("writes", "text")
"""The measures of which at least one has to be possible: customers may have been given other ids."""


@dataclass(frozen=True)
class Audit:
    """What test tasks share with training tasks. `allowed` says whether a result on them may be called held-out."""

    train: TaskSet
    test: TaskSet
    findings: Sequence[Finding]
    construction: str = ""
    not_compared: tuple[int, int] = (0, 0)
    """How many tasks of training and of test were compared neither by golden writes nor by text."""

    @property
    def overlapping(self) -> list[Finding]:
        return [one for one in self.findings if one.level == "overlapping"]

    @property
    def related(self) -> list[Finding]:
        return [one for one in self.findings if one.level == "related"]

    @property
    def not_measured(self) -> list[Finding]:
        return [one for one in self.findings if one.level is None]

    @property
    def to_leave_out(self) -> list[str]:
        """The ids of the test tasks that overlap by any measure; a result on the others may be another matter."""
        places = sorted({place for one in self.findings for place in one.overlapping})
        return [self.test.tasks[place].id for place in places]

    @property
    def allowed(self) -> bool:
        return self._known and not self.overlapping and not any(self.not_compared)

    @property
    def _known(self) -> bool:
        return any(one.measure in OF_CONTENT and one.level is not None for one in self.findings)

    @property
    def sentence(self) -> str:
        sides = f"on {_sized(self.test)} after training on {_sized(self.train)}"
        if self.overlapping:
            shared = _listed([one.shares for one in self.overlapping])
            return f"A result {sides} must not be called held-out: they share {shared}."
        unmeasured = [one.measure for one in self.not_measured]
        missing = f" (not measured: {', '.join(unmeasured)})" if unmeasured else ""
        if not self.allowed:
            dark = [
                f"{count:,} of {_sized(tasks)}"
                for count, tasks in zip(self.not_compared, (self.train, self.test), strict=True)
                if count
            ]
            why = f"{_listed(dark)} could be compared neither by golden writes nor by instruction"
            why = why if self._known else "what the tasks have in common is not known"
            return f"A result {sides} must not be called held-out: {why}{missing}."
        if self.related:
            shared = f"they share {_listed([one.shares for one in self.related])}, and nothing else that was looked for"
        else:
            shared = "they share nothing that was looked for"
        return f"A result {sides} may be called held-out: {shared}{missing}."

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "may_be_called_held_out": self.allowed,
            "sentence": self.sentence,
            "train": self.train.to_json(),
            "test": self.test.to_json(),
            "overlaps": [one.to_json() for one in self.findings],
            "overlapping_tasks": self.to_leave_out,
            "construction": self.construction,
            "banty": __version__,
        }


def refusal(why: str, test: Mapping[str, JSON]) -> dict[str, Any]:
    """An audit's JSON where there could be none: it allows nothing, and says why."""
    return {
        "format": FORMAT,
        "may_be_called_held_out": False,
        "sentence": f"A result must not be called held-out: its tasks could not be compared ({why}).",
        "train": {},
        "test": dict(test),
        "overlaps": [],
        "overlapping_tasks": [],
        "construction": "",
        "banty": __version__,
    }


def audit(train: TaskSet, test: TaskSet) -> Audit:
    """Compare every test task with all training tasks.

    20,000 training and 2,000 test tasks take seconds: texts are compared by sparse products, everything else is looked
    up. Raises InputError for an empty set.
    """
    for side, name in ((train, "TRAIN"), (test, "TEST")):
        if not side.tasks:
            raise InputError(f"{name}, {side.name}, has no tasks; there is nothing to compare")
    rules = {**train.matching, **test.matching}
    left, right = (Side(_of_kind(one, other), rules) for one, other in ((train, test), (test, train)))
    like = likeness(left, right)
    one_split = train.split is not None and train.split == test.split
    findings = (
        measures.same_tasks(left, right, one_split),
        measures.same_customers(left, right, like),
        measures.same_writes(left, right),
        measures.similar_text(left, right, like),
        measures.same_templates(left, right),
        measures.same_tables(left, right),
    )
    by_text = next(one.level for one in findings if one.measure == "text") is not None
    return Audit(
        train,
        test,
        findings,
        _construction(train, test),
        (_not_compared(left, right, by_text), _not_compared(right, left, by_text)),
    )


def _of_kind(tasks: TaskSet, other: TaskSet) -> TaskSet:
    """The tasks, without the texts of those that the other side has none of their kind of: what users say in
    conversations is not compared with what others are told to want."""
    kinds = {task.spoken for task in other.tasks}
    if all(task.spoken in kinds for task in tasks.tasks):
        return tasks
    return dataclasses.replace(
        tasks,
        tasks=[
            task
            if task.spoken in kinds
            else dataclasses.replace(task, content=dataclasses.replace(task.content, text=""))
            for task in tasks.tasks
        ],
    )


def _not_compared(side: Side, other: Side, by_text: bool) -> int:
    """How many of a side's tasks were compared with the other side's neither by golden writes nor by text, which
    `by_text` says could be compared at all.

    A conversation beside what others are told has neither: its words are other words, and what was done in it may be
    wrong. There it takes customers.
    """
    kinds = {task.spoken for task in other.tasks}
    return sum(
        not (
            side.write_keys[place] or (by_text and side.words[place])
            if task.spoken in kinds
            else side.customers[place] and any(other.customers)
        )
        for place, task in enumerate(side.tasks)
    )


def _construction(train: TaskSet, test: TaskSet) -> str:
    """What the two sets' origins say before any task is looked at."""
    if train.split is None or test.split is None or train.split[0] != test.split[0]:
        return ""
    if train.split == test.split:
        return f"both are of the split {train.split[1]!r} of {train.split[0]}"
    return f"the splits {train.split[1]!r} and {test.split[1]!r} of {train.split[0]}"


def _sized(tasks: TaskSet) -> str:
    count = len(tasks.tasks)
    return f"{count:,} task{'s' if count != 1 else ''} of {tasks.name}"


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
