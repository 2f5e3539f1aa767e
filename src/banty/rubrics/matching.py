"""When a call is the one that was wanted: equality of arguments, partial scores, and which call is which golden one.

The published comparator (specs/irc.md 2.1) takes numeric texts for numbers, True for 1, drops empty values and gives
lists of records no order. Each of these can call a wrong argument right ("007" is not 7, and the order of a list may
matter), so each is an option of `Matching`, off unless asked for.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from banty.records import JSON, CallResult, ToolCall, ToolMatching, compared_of

MOST_PARTIAL = 0.99
"""What a call scores at most that is not equal to the golden one: it may have all its arguments, and others besides."""

_PLAIN = ToolMatching()
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_EMPTY: tuple[JSON, ...] = (None, "", [], {})

Arguments = Mapping[str, str]
"""A call's arguments by name, each as the text that equal values share."""


@dataclass(frozen=True, kw_only=True)
class Matching:
    """How arguments are compared. The default is strict: values are equal as JSON, and 1 is 1.0.

    With `numbers` a text that spells a number is that number, and true is 1. With `empty`, null, "", [] and {} in an
    object are as good as left out. Without `records_in_order` a list of objects has no order. `tools` has rules for
    single tools, on top.
    """

    numbers: bool = False
    empty: bool = False
    records_in_order: bool = True
    tools: Mapping[str, ToolMatching] = field(default_factory=dict)


STRICT = Matching()
LOOSE = Matching(numbers=True, empty=True, records_in_order=False)
"""The published comparator."""


class Wanted(NamedTuple):
    """A golden call's tool and the arguments of it that count; `compared` names those where not all do."""

    name: str
    arguments: Arguments
    compared: frozenset[str] | None = None

    def counting(self, given: Arguments) -> Arguments:
        """Of the arguments of a call those that count here."""
        return given if self.compared is None else {name: given[name] for name in given if name in self.compared}

    def is_met(self, name: str, given: Arguments) -> bool:
        return name == self.name and self.counting(given) == self.arguments

    def score(self, name: str, given: Arguments) -> float:
        """How well a call meets this one, from 0 to 1."""
        return score_of(self.counting(given), self.arguments) if name == self.name else 0.0

    def differing(self, given: Arguments) -> list[str]:
        """The arguments that count and in which a call is another one, by name."""
        counting = self.counting(given)
        names = sorted({*counting, *self.arguments})
        return [name for name in names if counting.get(name) != self.arguments.get(name)]


class Match(NamedTuple):
    """A golden call by its place, and how well it was met: 1 exactly, 0.5 to 0.99 in part."""

    golden: int
    score: float


def deep_equal(a: JSON, b: JSON, matching: Matching = STRICT, tool: str = "") -> bool:
    """Whether two values are the same under `matching`, as arguments of `tool` where one is named."""
    rules = matching.tools.get(tool, _PLAIN)
    return _text(a, "", matching, rules) == _text(b, "", matching, rules)


def match_score(call: ToolCall | CallResult, golden: ToolCall, matching: Matching = STRICT) -> float:
    """1 for an equal call; 0.5 plus half the share of golden arguments that are equal, at most 0.99, where at least one
    is; 0 for another tool or none equal."""
    return wanted_of(golden, matching).score(call.name, arguments_of(call.name, call.arguments, matching))


def wanted_of(golden: ToolCall, matching: Matching) -> Wanted:
    compared = compared_of(golden)
    found = Wanted(golden.name, {}, None if compared is None else frozenset(compared))
    return found._replace(arguments=found.counting(arguments_of(golden.name, golden.arguments, matching)))


def arguments_of(tool: str, arguments: Mapping[str, JSON], matching: Matching) -> Arguments:
    rules = matching.tools.get(tool, _PLAIN)
    return {
        name: _text(value, name, matching, rules)
        for name, value in arguments.items()
        if name not in rules.ignore and not (matching.empty and _normal(value, name, matching, rules) in _EMPTY)
    }


def score_of(given: Arguments, golden: Arguments) -> float:
    if given == golden:
        return 1.0
    shared = sum(given.get(name) == text for name, text in golden.items())
    return min(0.5 + 0.5 * shared / len(golden), MOST_PARTIAL) if shared else 0.0


def assign(
    calls: Sequence[tuple[str, Arguments]],
    golden: Sequence[Wanted],
    may_be_partial: Callable[[str], bool],
) -> list[Match | None]:
    """For each call the golden call it counts as; each golden call is given once.

    Exact matches first, to the earliest calls; what is left so that the scores add up to the most, where the tool
    `may_be_partial`.
    """
    found: list[Match | None] = [None] * len(calls)
    free = list(range(len(golden)))
    for place, call in enumerate(calls):
        same = next((index for index in free if golden[index].is_met(*call)), None)
        if same is not None:
            found[place] = Match(same, 1.0)
            free.remove(same)
    rest = [place for place, call in enumerate(calls) if found[place] is None and may_be_partial(call[0])]
    if not rest or not free:
        return found
    scores = np.array([[golden[index].score(*calls[place]) for index in free] for place in rest])
    # Among assignments of one total the earlier calls and golden calls are taken; scores differ by more than this.
    order = np.add.outer(np.arange(len(rest)), np.arange(len(free))) * (1e-9 / (len(rest) + len(free)))
    for row, column in zip(
        *linear_sum_assignment(np.where(scores > 0.0, scores - order, 0.0), maximize=True), strict=True
    ):
        if scores[row, column] > 0.0:
            found[rest[row]] = Match(free[column], float(scores[row, column]))
    return found


def best_of(call: tuple[str, Arguments], golden: Sequence[Wanted]) -> Match | None:
    """The golden call this one is most like, whoever else is; None where it is like none."""
    scores = [each.score(*call) for each in golden]
    most = max(scores, default=0.0)
    return Match(scores.index(most), most) if most else None


def _text(value: JSON, key: str, matching: Matching, rules: ToolMatching) -> str:
    # As text: in Python True is equal to 1.
    return json.dumps(_normal(value, key, matching, rules), sort_keys=True, default=str)


def _normal(value: Any, key: str, matching: Matching, rules: ToolMatching) -> Any:
    """The value with everything taken out that has no meaning."""
    if isinstance(value, Mapping):
        items = {
            str(name): _normal(item, str(name), matching, rules)
            for name, item in value.items()
            if name not in rules.ignore
        }
        return {name: item for name, item in items.items() if not (matching.empty and item in _EMPTY)}
    if isinstance(value, (list, tuple)):
        listed = [_normal(item, "" if isinstance(item, (Mapping, list)) else key, matching, rules) for item in value]
        records = bool(listed) and all(isinstance(item, Mapping) for item in listed)
        if key in rules.as_set or (records and not matching.records_in_order):
            return sorted(listed, key=lambda item: json.dumps(item, sort_keys=True, default=str))
        return listed
    if isinstance(value, bool):
        return int(value) if matching.numbers else value
    if isinstance(value, str):
        if (matching.numbers or key in rules.numbers) and _NUMBER.fullmatch(value.strip()):
            return _number(value.strip())
        return "".join(value.split()).casefold() if key in rules.text else value
    return _whole(value) if isinstance(value, float) else value


def _number(text: str) -> int | float | str:
    try:
        return int(text)  # a long id keeps all its digits
    except ValueError:
        value = float(text)
        return _whole(value) if math.isfinite(value) else text  # or all that are too long for a number would be equal


def _whole(value: float) -> int | float:
    return int(value) if value.is_integer() else value
