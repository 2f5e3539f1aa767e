"""The XML wire format of Qwen3-Coder, Qwen3.5 and Qwen3.6: `<function=…>` with one `<parameter=…>` an argument.

Every value is text; its type comes from the tool's schema (`banty.chat.coerce`). One newline after the opening and one
before the closing tag belong to the layout, all else to the value. There is no escape, so a value that contains a tag
of the format cannot be told from a broken call and is a fault.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

from banty.chat.block import TOOL_CLOSE, TOOL_OPEN, Block, Malformed
from banty.chat.strict_json import skip_space
from banty.chat.toolbox import Given, Toolbox
from banty.chat.wording import clipped, show
from banty.records.messages import CallFault, ToolCall

FUNCTION_OPEN, FUNCTION_CLOSE = "<function=", "</function>"
PARAMETER_OPEN, PARAMETER_CLOSE = "<parameter=", "</parameter>"

TAGS = re.compile("|".join((TOOL_OPEN, TOOL_CLOSE, FUNCTION_OPEN, FUNCTION_CLOSE, PARAMETER_OPEN, PARAMETER_CLOSE)))
"""What no value may contain."""

NAME = re.compile(r"[^<>\n]+")
"""What tools and parameters may be called."""

_FUNCTION = re.compile(rf"{FUNCTION_OPEN}({NAME.pattern})>")
_PARAMETER = re.compile(rf"{PARAMETER_OPEN}({NAME.pattern})>")
_SHAPE = (
    f"Write {FUNCTION_OPEN}NAME>, then {PARAMETER_OPEN}NAME>value{PARAMETER_CLOSE} for each argument, "
    f"then {FUNCTION_CLOSE}, all between tool_call tags."
)


class QwenXml:
    """One function a block. A function without `<tool_call>` around it is a block too, and always a fault."""

    openers: ClassVar[Mapping[str, str]] = {TOOL_OPEN: TOOL_CLOSE, FUNCTION_OPEN: FUNCTION_CLOSE}

    def in_value(self, body: str) -> bool:
        return body.rfind(PARAMETER_OPEN) > body.rfind(PARAMETER_CLOSE)

    def name_in(self, block: Block) -> str:
        match = _FUNCTION.match(block.raw, skip_space(block.raw, block.raw.startswith(TOOL_OPEN) * len(TOOL_OPEN)))
        return match.group(1)[:100] if match else ""

    def read(self, block: Block, toolbox: Toolbox) -> ToolCall | CallFault:
        body = block.body
        try:
            if block.opener == FUNCTION_OPEN:
                raise Malformed(-len(FUNCTION_OPEN), f"{FUNCTION_OPEN}…> stands outside tool_call tags.")
            name, name_position, given = _read_function(body)
        except Malformed as problem:
            return block.fault("malformed", problem.position, f"{problem} {_SHAPE}", self.name_in(block))
        return toolbox.settle(block, name, name_position, given, as_text=True)


def _read_function(body: str) -> tuple[str, int, list[Given]]:
    at = skip_space(body, 0)
    function = _FUNCTION.match(body, at)
    if function is None:
        raise Malformed(at, f"Tool call must begin with {FUNCTION_OPEN}NAME>, got {show(body[at : at + 40])}.")
    given: dict[str, Given] = {}
    at = skip_space(body, function.end())
    while not body.startswith(FUNCTION_CLOSE, at):
        parameter = _PARAMETER.match(body, at)
        if parameter is None:
            raise _misplaced(body, at, list(given)[-1:])
        name = parameter.group(1)
        if name in given:
            raise Malformed(at, f"Parameter '{clipped(name)}' is given twice.")
        end = _end_of_value(body, name, parameter.end())
        start = parameter.end() + body.startswith("\n", parameter.end())
        given[name] = Given(name, body[start:end].removesuffix("\n"), at, start)
        at = skip_space(body, end + len(PARAMETER_CLOSE))
    at = skip_space(body, at + len(FUNCTION_CLOSE))
    if at < len(body):
        hint = " Give each call its own block." if body.startswith(FUNCTION_OPEN, at) else ""
        raise Malformed(at, f"Tool call has text after {FUNCTION_CLOSE}: {show(body[at : at + 40])}.{hint}")
    return function.group(1), function.start(1), list(given.values())


def _end_of_value(body: str, name: str, start: int) -> int:
    tag = TAGS.search(body, start)
    if tag is None:
        raise Malformed(start, f"Parameter '{clipped(name)}' has no {PARAMETER_CLOSE}.")
    if tag.group() != PARAMETER_CLOSE:
        message = (
            f"Parameter '{clipped(name)}' has {tag.group()} before its {PARAMETER_CLOSE}; a value cannot contain that."
        )
        raise Malformed(tag.start(), message)
    return tag.start()


def _misplaced(body: str, at: int, after: list[str]) -> Malformed:
    if at == len(body):
        return Malformed(at, f"Tool call has no {FUNCTION_CLOSE}.")
    if after:
        # The likely cause is a value that contains the closing tag, so that is the place to point at.
        close = body.rfind(PARAMETER_CLOSE, 0, at)
        message = f"Parameter '{clipped(after[0])}' ends at {PARAMETER_CLOSE}, but {show(body[at : at + 40])} follows; "
        return Malformed(close, message + "a value cannot contain that tag.")
    return Malformed(at, f"Expected {PARAMETER_OPEN}NAME> or {FUNCTION_CLOSE}, got {show(body[at : at + 40])}.")
