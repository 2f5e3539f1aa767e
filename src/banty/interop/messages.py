"""Messages in the forms that OpenAI's API has given rise to, as verifiers and TRL store them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from banty.interop.conversation import Said
from banty.interop.places import Place
from banty.records import CallFault, Message, Role, ToolCall

_ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}


def messages_of(value: Any, place: Place, text_role: Role) -> list[Said]:
    """A stored prompt or completion: a list of messages, or plain text, which then is one message of `text_role`.

    Assistant messages count as the agent's.
    """
    if value is None:
        return []
    if isinstance(value, str):
        return [_by(Message(text_role, value))]
    if not isinstance(value, list):
        raise place.wrong("a list of messages or a text", value)
    return [said_of(raw, place.part(f"message {number}"), text_role) for number, raw in enumerate(value, 1)]


def said_of(raw: Any, place: Place, text_role: Role = "user") -> Said:
    """One message. Raises InputError for what is none; a call that cannot be read becomes a fault with its text."""
    place.take(raw, "object")
    name = place.field(raw, "role", "text")
    role = text_role if name == "text" else _ROLES.get(name)
    if role is None:
        raise place.part("role").wrong(f"one of {', '.join(_ROLES)}", name)
    content = content_of(raw.get("content"), place.part("content"))
    if role == "tool":
        return Said(Message("tool", content, call_id=str(raw.get("tool_call_id") or "")), "agent")
    calls, faults = _calls_of(raw.get("tool_calls") or [], place.part("tool_calls"))
    reasoning = raw.get("reasoning_content") or raw.get("reasoning") or ""
    return _by(Message(role, content, calls, faults, reasoning if isinstance(reasoning, str) else ""))


def content_of(value: Any, place: Place) -> str:
    """Text, or the text of a list of parts; a part that is an image or a sound is named in its place."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise place.wrong("a text or a list of parts", value)
    return "".join(part if isinstance(part, str) else _part(place.take(part, "object")) for part in value)


def _part(part: Mapping[str, Any]) -> str:
    text = part.get("text")
    return text if isinstance(text, str) else f"[{part.get('type') or 'part'}]"


def _by(message: Message) -> Said:
    return Said(message, "agent" if message.role == "assistant" else "env")


def _calls_of(listed: Any, place: Place) -> tuple[tuple[ToolCall, ...], tuple[CallFault, ...]]:
    if not isinstance(listed, list):
        raise place.wrong("a list of calls", listed)
    calls: list[ToolCall] = []
    faults: list[CallFault] = []
    for order, raw in enumerate(listed):
        found = call_of(raw, order)
        if isinstance(found, ToolCall):
            calls.append(found)
        else:
            faults.append(found)
    return tuple(calls), tuple(faults)


def call_of(raw: Any, order: int) -> ToolCall | CallFault:
    """A call, as an object or as JSON text of one, with the name beside the id or under `function`."""
    text = raw if isinstance(raw, str) else json.dumps(raw, ensure_ascii=False, default=str)
    entry = _loaded(raw)
    function = entry.get("function") if isinstance(entry, Mapping) else None
    told = function if isinstance(function, Mapping) else entry
    name = told.get("name") if isinstance(told, Mapping) else None
    if not isinstance(entry, Mapping) or not isinstance(told, Mapping) or not isinstance(name, str) or not name:
        return CallFault("malformed", "The logged call names no tool.", order, 0, text)
    arguments = told.get("arguments")
    arguments = {} if arguments is None or arguments == "" else _loaded(arguments)
    if not isinstance(arguments, Mapping):
        return CallFault("malformed", f"The arguments of '{name}' are not a JSON object.", order, 0, text, name)
    return ToolCall(name, dict(arguments), str(entry.get("id") or ""))


def _loaded(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None
