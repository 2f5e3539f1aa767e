"""Where in a log something stands, and reading fields of records that somebody else wrote."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from banty.errors import InputError

Kind = Literal["text", "number", "whole number", "yes or no", "list", "object"]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


_IS: Mapping[Kind, Callable[[Any], bool]] = {
    "text": lambda value: isinstance(value, str),
    "number": _is_number,
    "whole number": lambda value: _is_number(value) and value == int(value),
    "yes or no": lambda value: isinstance(value, bool),
    "list": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, Mapping),
}


@dataclass(frozen=True)
class Place:
    """A record of a file, counted from 1; `what` says which part of it, `advice` what to do if it is wrong."""

    file: Path
    record: int = 0
    what: str = ""
    advice: str = "Is the log whole, and of the format it was read as (--format)? Nothing was written"

    def __str__(self) -> str:
        parts = [str(self.file), f"record {self.record}" if self.record else "", self.what]
        return ", ".join(part for part in parts if part)

    def part(self, what: str) -> Place:
        """A part of what is at this place."""
        return Place(self.file, self.record, f"{self.what}, {what}" if self.what else what, self.advice)

    def wrong(self, expected: str, found: Any) -> InputError:
        """The error to raise for `found` where `expected` should be."""
        return InputError(f"{self}: expected {expected}, found {described(found)}. {self.advice}")

    def take(self, data: Any, kind: Kind) -> Any:
        """`data`, or InputError where it is of another kind."""
        if not _IS[kind](data):
            raise self.wrong(_article(kind), data)
        return data

    def field(self, data: Mapping[str, Any], key: str, kind: Kind) -> Any:
        """The value under `key`, or InputError where it is missing or of another kind."""
        if key not in data:
            raise self.wrong(f"an object with {key!r}", data)
        return self.part(key).take(data[key], kind)

    def optional(self, data: Mapping[str, Any], key: str, kind: Kind, default: Any = None) -> Any:
        """The value under `key`; `default` where it is missing or null."""
        value = data.get(key)
        return default if value is None else self.part(key).take(value, kind)


def described(value: Any) -> str:
    """A value in a few words, for an error message."""
    if isinstance(value, Mapping):
        return f"an object of {', '.join(sorted(map(str, value))[:6]) or 'nothing'}"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    if value is None:
        return "nothing"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _article(kind: Kind) -> str:
    if kind in ("text", "yes or no"):
        return kind
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"
