"""Calls as the exact text a model would write, byte for byte what Qwen's own chat templates put between messages."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence

from banty.chat.block import TOOL_CLOSE, TOOL_OPEN
from banty.chat.parser import Format, parse, syntax_of
from banty.chat.qwen_xml import FUNCTION_CLOSE, FUNCTION_OPEN, NAME, PARAMETER_CLOSE, PARAMETER_OPEN, TAGS
from banty.chat.strict_json import JsonProblem, read_json
from banty.chat.wording import show
from banty.errors import InputError
from banty.records.messages import JSON, ToolCall, ToolSchema

_TAG_IN_JSON = re.compile("<(?=/?(?:tool_call|think)>)")


def render_calls(calls: Iterable[ToolCall], format: Format, tools: Sequence[ToolSchema] | None = None) -> str:
    """The text of calls, one block a line group, such that parsing it gives the same calls (ids are not on the wire).

    Hermes holds every JSON value. The XML format cannot hold, and `InputError` says so: a value containing one of its
    tags; names with `<`, `>` or a newline; and, since values are text typed by the schema, whatever the schema would
    read as something else, above all null or a number where a string is allowed too (`str | None`: leave the parameter
    out). That last kind can only be noticed when `tools` are given: then the text is read back and compared, names
    included. Values that JSON cannot say (NaN, tuples, dates) are refused in both.
    """
    syntax_of(format)
    calls = list(calls)
    for call in calls:
        _refuse_lossy(call)
    write = _hermes if format == "hermes" else _qwen_xml
    text = "\n".join(write(call) for call in calls)
    if tools is not None:
        _refuse_different(text, calls, tools, format)
    return text


def signature_line(tool: ToolSchema) -> str:
    """`lend(book_id, member_id, note?): Lend a book.` for short prompts; `?` marks what may be left out."""
    properties = tool.parameters.get("properties", {})
    required = tool.parameters.get("required", ())
    names = ", ".join(name if name in required else f"{name}?" for name in properties)
    description = " ".join(tool.description.split())
    return f"{tool.name}({names}): {description}" if description else f"{tool.name}({names})"


def _hermes(call: ToolCall) -> str:
    # Tags inside strings are escaped, so that no parser, ours or another, can take them for the real ones.
    body = _TAG_IN_JSON.sub(r"\\u003c", _dumps({"name": call.name, "arguments": dict(call.arguments)}))
    return f"{TOOL_OPEN}\n{body}\n{TOOL_CLOSE}"


def _qwen_xml(call: ToolCall) -> str:
    for name in (call.name, *call.arguments):
        if not NAME.fullmatch(name):
            raise InputError(f"The XML format cannot write the name {show(name)}: it is empty or has <, > or a newline")
    lines = [TOOL_OPEN, f"{FUNCTION_OPEN}{call.name}>"]
    for name, value in call.arguments.items():
        text = _text_of(value)
        tag = TAGS.search(text)
        if tag:
            where = f"'{name}' of '{call.name}'"
            raise InputError(f"The XML format cannot write {where}: its value contains {tag.group()}")
        lines += [f"{PARAMETER_OPEN}{name}>", text, PARAMETER_CLOSE]
    return "\n".join([*lines, FUNCTION_CLOSE, TOOL_CLOSE])


def _text_of(value: JSON) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping | list):
        return _dumps(value)
    return str(value)  # True, False and None as Python writes them, which is what the templates do


def _dumps(value: JSON) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _refuse_lossy(call: ToolCall) -> None:
    whole = {"name": call.name, "arguments": dict(call.arguments)}
    try:
        again = read_json(json.dumps(whole, allow_nan=False))
    except (JsonProblem, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"The arguments of '{call.name}' are not JSON: {error}") from None
    if again != whole:
        raise InputError(f"The arguments of '{call.name}' are not JSON: they would come back as {show(again)}")


def _refuse_different(text: str, calls: Sequence[ToolCall], tools: Sequence[ToolSchema], format: Format) -> None:
    message = parse(text, tools, format, check="names")
    if message.faults:
        raise InputError(f"The call would not be read back: {message.faults[0].message}")
    for call, read in zip(calls, message.calls, strict=True):
        for name, value in call.arguments.items():
            if _dumps(read.arguments[name]) != _dumps(value):
                told = f"{show(value)} would be read back as {show(read.arguments[name])}"
                raise InputError(f"The {format} format cannot write '{name}' of '{call.name}': {told}")
