"""Conversations to imitate, from files: a line of JSON each, as OpenAI-compatible endpoints write them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from banty.errors import InputError
from banty.records import JSON, Message, Rollout, ToolCall, ToolSchema


@dataclass(frozen=True, slots=True)
class Trace:
    """A conversation as a model has it: what it sees first, then each of its messages with what came back."""

    name: str
    opening: tuple[Message, ...]
    tools: tuple[ToolSchema, ...]
    turns: tuple[tuple[Message, tuple[Message, ...]], ...]


def trace_of(rollout: Rollout) -> Trace:
    """The agent's side of a stored rollout."""
    turns = tuple((turn.message, turn.observation) for turn in rollout.agent_turns)
    return Trace(rollout.rollout_id, rollout.opening, rollout.tools, turns)


def read_traces(path: str | Path) -> Iterator[Trace]:
    """The traces in a JSONL file. Raises InputError naming the line and what is wrong with it."""
    file = Path(path)
    try:
        lines = file.read_text().split("\n")  # splitlines would end a line at what JSON may hold as it is
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file} cannot be read as a file of traces: {error}") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield _trace(json.loads(line), f"{file.name}:{number}")
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise InputError(
                    f'{file}, line {number} is not {{"messages": [...], "tools": [...]}} as endpoints write it: '
                    f"{type(error).__name__}: {error}"
                ) from error


def _trace(data: Mapping[str, JSON], name: str) -> Trace:
    messages = [_message(item) for item in data["messages"]]
    tools = tuple(_tool(item) for item in data.get("tools") or ())
    spoken = [place for place, message in enumerate(messages) if message.role == "assistant"]
    if not spoken:
        raise ValueError("no message is the assistant's")
    ends = [*spoken[1:], len(messages)]
    turns = tuple((messages[start], tuple(messages[start + 1 : end])) for start, end in zip(spoken, ends, strict=True))
    return Trace(name, tuple(messages[: spoken[0]]), tools, turns)


def _message(data: Mapping[str, Any]) -> Message:
    if data["role"] not in ("system", "user", "assistant", "tool"):
        raise ValueError(f"role {data['role']!r} is not system, user, assistant or tool")
    return Message(
        role=data["role"],
        content=_text(data.get("content")),
        calls=tuple(_call(call) for call in data.get("tool_calls") or ()),
        reasoning=_text(data.get("reasoning_content")),
        call_id=data.get("tool_call_id") or "",
    )


def _call(data: Mapping[str, Any]) -> ToolCall:
    function = data["function"]
    arguments = function.get("arguments")
    if arguments is None or arguments == "":
        arguments = {}
    elif isinstance(arguments, str):
        arguments = json.loads(arguments)
    if not isinstance(arguments, dict):
        raise ValueError(f"the arguments of {function['name']} are not an object")
    return ToolCall(str(function["name"]), arguments, data.get("id") or "")


def _tool(data: Mapping[str, Any]) -> ToolSchema:
    function = data["function"]
    parameters = function.get("parameters") or {"type": "object", "properties": {}}
    return ToolSchema(str(function["name"]), function.get("description") or "", parameters)


def _text(content: Any) -> str:
    """Text as such, or the text parts of a list of parts."""
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part["text"] for part in content)
