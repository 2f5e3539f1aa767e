"""What one measure found, and how it is written down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from banty.evals.audit.tasks import AuditedTask, Side

Level = Literal["none", "related", "overlapping"]
NOT_MEASURED: Literal["not measured"] = "not measured"
MOST_EXAMPLES = 3
_MOST_CHARACTERS = 400


@dataclass(frozen=True)
class Example:
    """A test task beside the training task that it has to do with, and what they share."""

    test: AuditedTask
    train: AuditedTask
    shared: str

    def to_json(self) -> dict[str, Any]:
        return {"shared": self.shared, "test": _shown(self.test), "train": _shown(self.train)}


@dataclass(frozen=True)
class Finding:
    """What one measure found: `count` of `of` test tasks at the level.

    `shares` is what the two sets share at that level, to be put into a sentence. `rule` says when a level is given.
    `figures` are numbers beyond the count, `overlapping` the places of the test tasks that overlap by this measure. A
    level of None means that it could not be measured, for the reason in `shares`.
    """

    measure: str
    level: Level | None
    count: int
    of: int
    shares: str
    rule: str
    figures: Mapping[str, Any] = field(default_factory=dict)
    examples: tuple[Example, ...] = ()
    overlapping: frozenset[int] = frozenset()

    def to_json(self) -> dict[str, Any]:
        return {
            "measure": self.measure,
            "level": self.level or NOT_MEASURED,
            "count": self.count,
            "of": self.of,
            "shares": self.shares,
            "rule": self.rule,
            "figures": dict(self.figures),
            "examples": [example.to_json() for example in self.examples],
        }


def unknown(measure: str, rule: str, why: str) -> Finding:
    return Finding(measure, None, 0, 0, why, rule)


def examples_of(train: Side, test: Side, pairs: Mapping[int, int], shared: Mapping[int, str]) -> tuple[Example, ...]:
    """The first few of these pairs of places, test to train."""
    return tuple(
        Example(test.tasks[place], train.tasks[pairs[place]], shared[place]) for place in list(pairs)[:MOST_EXAMPLES]
    )


def counted(count: int, of: int, what: str = "test tasks") -> str:
    return f"{count} of {of} {what}"


def _shown(task: AuditedTask) -> dict[str, Any]:
    text = " ".join(task.content.text.split())
    writes = task.content.writes
    return {
        "id": task.id,
        "text": text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}...",
        "writes": None if writes is None else [{"name": one.name, "arguments": dict(one.arguments)} for one in writes],
    }
