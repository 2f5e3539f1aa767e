"""JSON as a tool call may contain it: nothing ambiguous, nothing lossy, nothing that crashes."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NamedTuple

from banty.chat.wording import show
from banty.records.messages import JSON

MAX_DEPTH = 64
"""Levels of nested arrays and objects; deeper text is refused rather than left to the interpreter's stack."""

WHITESPACE = " \t\r\n"

_SPACE = re.compile(f"[{WHITESPACE}]*")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+("?)|[\[{\]}]', re.DOTALL)
"""A string (group 1 is empty where its closing quote is missing, which can only be at the end) or a bracket."""


class JsonProblem(ValueError):
    """Text that is not acceptable JSON; `position` is a character of the text that was given."""

    def __init__(self, reason: str, position: int) -> None:
        super().__init__(f"{reason} at character {position}")
        self.reason = reason
        self.position = position


class Member(NamedTuple):
    """One `"key": value` of an object and the characters where key and value begin."""

    key: str
    value: JSON
    key_position: int
    position: int


def read_json(text: str) -> JSON:
    """The one JSON value a text consists of.

    Refused with `JsonProblem`: duplicate keys, NaN and infinities, numbers too large for a float, half surrogate
    pairs, more than `MAX_DEPTH` levels.
    """
    _refuse_deep(text)
    start = skip_space(text, 0)
    value, end = _decode(text, start, _STRICT)
    end = skip_space(text, end)
    if end != len(text):
        raise JsonProblem("Extra text", end)
    return value


def read_object(text: str, start: int = 0, *, strict: bool = True) -> tuple[list[Member], int]:
    """The members of the object that begins at `start`, in order, and the character after its closing brace.

    Keys may repeat; the caller sees each. Without `strict` the values may hold what `read_json` refuses, which is of
    use to find where they lie.
    """
    _refuse_deep(text)
    decoder = _STRICT if strict else _PLAIN
    at = skip_space(text, start)
    if text[at : at + 1] != "{":
        raise JsonProblem("Expecting '{'", at)
    members: list[Member] = []
    at = skip_space(text, at + 1)
    if text[at : at + 1] == "}":
        return members, at + 1
    while True:
        if text[at : at + 1] != '"':
            raise JsonProblem("Expecting a key in double quotes", at)
        key, colon = _decode(text, at, decoder)
        colon = skip_space(text, colon)
        if text[colon : colon + 1] != ":":
            raise JsonProblem("Expecting ':'", colon)
        position = skip_space(text, colon + 1)
        value, end = _decode(text, position, decoder)
        members.append(Member(key, value, at, position))
        end = skip_space(text, end)
        if text[end : end + 1] == "}":
            return members, end + 1
        if text[end : end + 1] != ",":
            raise JsonProblem("Expecting ',' or '}'", end)
        at = skip_space(text, end + 1)


def skip_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def ends_in_string(text: str) -> bool:
    """Whether a text that begins as JSON stops in the middle of a string."""
    return any(match.group().startswith('"') and not match.group(1) for match in _TOKEN.finditer(text))


def _decode(text: str, at: int, decoder: json.JSONDecoder) -> tuple[JSON, int]:
    try:
        value, end = decoder.raw_decode(text, at)
        if text.find("\\u", at, end) >= 0:
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        hint = " (write \\n for a newline)" if error.msg.startswith("Invalid control") else ""
        raise JsonProblem(error.msg.removesuffix(" at") + hint, error.pos) from None
    except UnicodeEncodeError:
        raise JsonProblem("Half of a surrogate pair in the value", at) from None
    except RecursionError:
        raise JsonProblem(f"Nested deeper than {MAX_DEPTH} levels", at) from None
    except ValueError as error:
        raise JsonProblem(str(error), at) from None
    return value, end


def _refuse_deep(text: str) -> None:
    depth = 0
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    for match in _TOKEN.finditer(text):
        if match.group() in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise JsonProblem(f"Nested deeper than {MAX_DEPTH} levels", match.start())
        elif match.group() in "]}":
            depth -= 1


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"Duplicate key {show(twice)} in the value")
    return members


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is not a JSON number, in the value")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"The number {digits[:20]} is too large, in the value")
    return number


def _integer(digits: str) -> int:
    if len(digits) > 400:
        raise ValueError("A number of more than 400 digits, in the value")
    return int(digits)


_STRICT = json.JSONDecoder(
    object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite, parse_int=_integer
)
_PLAIN = json.JSONDecoder(parse_int=lambda digits: 0 if len(digits) > 400 else int(digits))
