"""Messages in the form OpenAI-compatible servers speak, and back, without losing what went wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from banty.chat import check, in_order
from banty.records import JSON, CallFault, Message, ToolCall, ToolSchema


def messages_to_openai(messages: Sequence[Message]) -> list[dict[str, JSON]]:
    """A conversation for the wire.

    Servers refuse a tool message without a call of its id, so ids are made up where the policy gave none. A broken call
    has no place among the calls: it stands in the text as the model wrote it, and what it was answered follows as a
    user message, behind the answers to the calls, which strict servers want first.
    """
    wire: list[dict[str, JSON]] = []
    waiting: list[str | None] = []
    held_back: list[dict[str, JSON]] = []
    for place, message in enumerate(messages):
        if message.role == "tool":
            call_id = waiting.pop(0) if waiting else None
            if call_id is None:
                held_back.append({"role": "user", "content": f"[tool] {message.content}"})
            else:
                wire.append({"role": "tool", "tool_call_id": call_id, "content": message.content})
            continue
        wire += held_back
        held_back = []
        if message.role == "assistant":
            entry, waiting = _assistant(message, place)
            wire.append(entry)
        else:
            wire.append({"role": message.role, "content": message.content})
    return wire + held_back


def _assistant(message: Message, place: int) -> tuple[dict[str, JSON], list[str | None]]:
    """The message, and the ids its answers go to in order: None for a broken call."""
    calls: list[JSON] = []
    ids: list[str | None] = []
    broken: list[str] = []
    for number, item in enumerate(in_order(message)):
        if isinstance(item, CallFault):
            ids.append(None)
            broken.append(item.raw)
            continue
        call_id = item.id or f"call_{place}_{number}"
        ids.append(call_id)
        function = {"name": item.name, "arguments": json.dumps(dict(item.arguments), ensure_ascii=False)}
        calls.append({"id": call_id, "type": "function", "function": function})
    content = "\n".join([*([message.content] if message.content else []), *broken])
    entry: dict[str, JSON] = {"role": "assistant", "content": content}
    if calls:
        entry["tool_calls"] = calls
    return entry, ids


def message_from_openai(said: Mapping[str, Any], tools: Sequence[ToolSchema], cut: bool) -> Message:
    """An assistant message whose calls the server parsed; what cannot be used of them becomes faults.

    `cut` says that the answer hit the token limit, so that a last call that cannot be read was cut off.
    """
    content = said.get("content")
    reasoning = said.get("reasoning_content") or said.get("reasoning")
    calls: list[ToolCall] = []
    faults: list[CallFault] = []
    listed = said.get("tool_calls")
    raw_calls = listed if isinstance(listed, list) else []
    for order, raw in enumerate(raw_calls):
        found = _call(raw, tools, order, cut and order == len(raw_calls) - 1)
        if isinstance(found, ToolCall):
            calls.append(found)
        else:
            faults.append(found)
    return Message(
        "assistant",
        content if isinstance(content, str) else "",
        tuple(calls),
        tuple(faults),
        reasoning if isinstance(reasoning, str) else "",
    )


def _call(raw: Any, tools: Sequence[ToolSchema], order: int, may_be_cut: bool) -> ToolCall | CallFault:
    text = json.dumps(raw, ensure_ascii=False)
    function = raw.get("function") if isinstance(raw, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(function, dict) or not isinstance(name, str):
        return CallFault("malformed", "The call names no function.", order, 0, text)
    given = function.get("arguments")
    try:
        arguments = json.loads(given) if isinstance(given, str) and given.strip() else (given or {})
    except (ValueError, RecursionError) as error:
        if may_be_cut:
            return CallFault("truncated", f"The call of {name} was cut off.", order, 0, text, name)
        return CallFault("malformed", f"The arguments of {name} are not JSON: {error}.", order, 0, text, name)
    if not isinstance(arguments, dict):
        return CallFault("malformed", f"The arguments of {name} are not a JSON object.", order, 0, text, name)
    schema = next((tool for tool in tools if tool.name == name), None)
    if schema is None:
        available = ", ".join(tool.name for tool in tools) or "none"
        words = f"Tool '{name}' not found. Available tools: {available}."
        return CallFault("unknown_tool", words, order, 0, text, name)
    problems = check(arguments, dict(schema.parameters))
    if problems:
        return CallFault("bad_value", f"{name}: {'; '.join(problems[:3])}.", order, 0, text, name)
    call_id = raw.get("id")
    return ToolCall(name, arguments, call_id if isinstance(call_id, str) else "")
