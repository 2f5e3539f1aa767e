"""What a person types in the place of a model: text, or a tool call."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from banty.chat.block import Block
from banty.chat.strict_json import JsonProblem, read_object, skip_space
from banty.chat.toolbox import Given, Toolbox
from banty.errors import InputError
from banty.records import CallFault, Message, ToolSchema

_NAME = re.compile(r"([A-Za-z_][\w.-]*)(?=[\s{(]|$)\s*")
_KEY = re.compile(r"([A-Za-z_][\w.-]*)=")
_AS_TEXT = "Put ! in front to say it instead."


def read_answer(line: str, tools: Sequence[ToolSchema]) -> Message:
    """The message a typed line stands for: a tool call, or else text.

    Raises InputError, saying what to change, for what begins like a call and is none.
    """
    if line.startswith("!"):
        if not line[1:].strip():
            raise InputError("There is nothing after the exclamation mark.")
        return Message("assistant", line[1:].strip())
    head = _NAME.match(line) if tools else None
    known = {tool.name for tool in tools}
    if head is None or (head[1] not in known and not _like_call(line, head)):
        return Message("assistant", line)
    name, rest = head[1], line[head.end() :]
    given = _Given([], True) if name not in known else _read_given(name, rest)
    block = Block(line, 0, 0, "", "", "closed")
    found = Toolbox(tools, "schema").settle(block, name, 0, given.arguments, as_text=given.as_text)
    if isinstance(found, CallFault):
        raise InputError(f"{found.message.removesuffix(' Correct it and call again.')} {_AS_TEXT}")
    return Message("assistant", calls=(found,))


class _Given(NamedTuple):
    arguments: list[Given]
    as_text: bool


def _like_call(line: str, head: re.Match[str]) -> bool:
    """Whether a line that names no tool was meant to: a lone word_with_underscores, or a word with arguments."""
    rest = line[head.end() :]
    if not rest or rest.startswith("("):
        return "_" in head[1]
    try:
        return bool(_read_given(head[1], rest).arguments)
    except InputError:
        return False


def _read_given(name: str, text: str) -> _Given:
    if text.startswith("("):
        raise InputError(f'Arguments go without brackets: {name} key=value other="two words". {_AS_TEXT}')
    if not text.startswith("{"):
        given = list(_read_pairs(text))
        _refuse_twice([each.name for each in given])
        return _Given(given, True)
    try:
        members, end = read_object(text)
        if skip_space(text, end) < len(text):
            raise JsonProblem("Extra text", end)
    except JsonProblem as problem:
        raise InputError(f"The arguments are not JSON: {problem}. {_AS_TEXT}") from None
    _refuse_twice([each.key for each in members])
    return _Given([Given(each.key, each.value, 0, 0) for each in members], False)


def _refuse_twice(keys: Sequence[str]) -> None:
    for place, key in enumerate(keys):
        if key in keys[:place]:
            raise InputError(f"{key} is given twice.")


def _read_pairs(text: str) -> Iterator[Given]:
    at = 0
    while (at := _skip_blanks(text, at)) < len(text):
        key = _KEY.match(text, at)
        if key is None:
            raise InputError(f"{text[at:].split()[0]!r} is not key=value. {_AS_TEXT}")
        value, at = _read_value(text, key.end(), key[1])
        yield Given(key[1], value, 0, 0)


def _read_value(text: str, at: int, key: str) -> tuple[str, int]:
    """The text of a value, and where it ends: in quotes, as a JSON array or object, or up to the next blank."""
    opening = text[at : at + 1]
    if opening == "'":
        end = text.find("'", at + 1) + 1
        value = text[at + 1 : end - 1]
    elif opening and opening in '"[{':
        try:
            found, end = json.JSONDecoder().raw_decode(text, at)
        except (ValueError, RecursionError):
            end = 0
        value = found if end and opening == '"' else text[at:end]
    else:
        end = next((place for place in range(at, len(text)) if text[place].isspace()), len(text))
        value = text[at:end]
    if end == 0 or not (end == len(text) or text[end].isspace()):
        close = {"[": "]", "{": "}"}.get(opening, opening)
        raise InputError(f"The value of {key} begins with {opening} and does not end properly with {close}.")
    return value, end


def _skip_blanks(text: str, at: int) -> int:
    return len(text) - len(text[at:].lstrip())
