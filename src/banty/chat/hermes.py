"""Hermes JSON, the wire format of Qwen2.5, Qwen3 and nano: `<tool_call>{"name": …, "arguments": {…}}</tool_call>`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

from banty.chat.block import TOOL_CLOSE, TOOL_OPEN, Block, Malformed
from banty.chat.strict_json import WHITESPACE, JsonProblem, Member, ends_in_string, read_json, read_object, skip_space
from banty.chat.toolbox import Given, Toolbox
from banty.chat.wording import clipped, show
from banty.records.messages import JSON, CallFault, ToolCall

_NAME = re.compile(r'\s*\{\s*"name"\s*:\s*"([^"\\]{1,100})"')
_LONE = re.compile(rf"[{WHITESPACE}]*{TOOL_OPEN}([^<]*){TOOL_CLOSE}[{WHITESPACE}]*")
_SHAPE = 'Write {"name": "…", "arguments": {…}} between tool_call tags.'


class Hermes:
    """One JSON object a block. Arguments given as a JSON string that holds an object are unwrapped once."""

    openers: ClassVar[Mapping[str, str]] = {TOOL_OPEN: TOOL_CLOSE}

    def in_value(self, body: str) -> bool:
        return ends_in_string(body)

    def name_in(self, block: Block) -> str:
        match = _NAME.match(block.body)
        return match.group(1) if match else ""

    def read(self, block: Block, toolbox: Toolbox) -> ToolCall | CallFault:
        body = block.body
        plain = _read_plain(body)
        if plain is not None and (call := toolbox.accept(*plain)) is not None:
            return call
        try:
            name, arguments = _read_members(body)
            given = _read_arguments(body, arguments)
        except Malformed as problem:
            return block.fault("malformed", problem.position, f"{problem} {_SHAPE}", self.name_in(block))
        except JsonProblem as problem:
            near = show(body[problem.position : problem.position + 24]) if body[problem.position :] else "the end"
            message = f"Tool call is not valid JSON: {problem.reason} at {near}. {_SHAPE}"
            return block.fault("malformed", problem.position, message, self.name_in(block))
        return toolbox.settle(block, name.value, name.position, given)


def lone_call(text: str, toolbox: Toolbox) -> ToolCall | None:
    """The call of a message that is one right call and nothing else, as most are; None: the message is to be parsed."""
    match = _LONE.fullmatch(text)
    plain = _read_plain(match[1]) if match else None
    return toolbox.accept(*plain) if plain else None


def _read_plain(body: str) -> tuple[str, dict[str, JSON]] | None:
    """Name and arguments of a body with nothing unusual to it; None leaves it to the reading that knows positions."""
    try:
        value = read_json(body)
    except JsonProblem:
        return None
    if not isinstance(value, dict) or value.keys() != {"name", "arguments"}:
        return None
    name, arguments = value["name"], value["arguments"]
    return (name, arguments) if isinstance(name, str) and isinstance(arguments, dict) else None


def _read_members(body: str) -> tuple[Member, Member]:
    members, end = read_object(body, strict=False)
    end = skip_space(body, end)
    if end < len(body):
        raise Malformed(end, f"Tool call has text after its JSON object: {show(body[end : end + 40])}.")
    found: dict[str, Member] = {}
    for member in members:
        if member.key in found:
            raise Malformed(member.key_position, f"Tool call has the key {show(member.key)} twice.")
        if member.key not in ("name", "arguments"):
            raise Malformed(member.key_position, f"Tool call has the key {show(member.key)}, which has no meaning.")
        found[member.key] = member
    for key in ("name", "arguments"):
        if key not in found:
            raise Malformed(skip_space(body, 0), f'Tool call has no "{key}".')
    name = found["name"]
    if not isinstance(name.value, str):
        raise Malformed(name.position, f'The "name" of a tool call must be a string, got {show(name.value)}.')
    return name, found["arguments"]


def _read_arguments(body: str, arguments: Member) -> list[Given]:
    if isinstance(arguments.value, str):
        members, position = _unwrap(arguments), arguments.position
        given = [Given(member.key, member.value, position, position) for member in members]
    elif isinstance(arguments.value, dict):
        members, _ = read_object(body, arguments.position)
        given = [Given(member.key, member.value, member.key_position, member.position) for member in members]
    else:
        raise Malformed(arguments.position, f'"arguments" must be an object, got {show(arguments.value)}.')
    names: set[str] = set()
    for each in given:
        if each.name in names:
            raise Malformed(each.name_position, f"Parameter '{clipped(each.name)}' is given twice.")
        names.add(each.name)
    return given


def _unwrap(arguments: Member) -> list[Member]:
    try:
        members, end = read_object(arguments.value)
        if skip_space(arguments.value, end) < len(arguments.value):
            raise JsonProblem("Extra text", end)
    except JsonProblem:
        message = f'"arguments" must be an object, got the text {show(arguments.value)}.'
        raise Malformed(arguments.position, message) from None
    return members
