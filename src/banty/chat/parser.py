"""What the policy wrote, as a message: visible text, reasoning, calls that fit their tool, and faults for the rest.

One broken call never spoils another, nothing is executed that is not complete, and nothing the policy wrote is lost:
the message's text is partitioned into visible text, reasoning, tags and blocks (`banty.chat.stream.Splitter`), and
each block yields exactly one call or one fault, whose `raw` is that block.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from banty.chat.block import Block
from banty.chat.hermes import Hermes, lone_call
from banty.chat.qwen_xml import QwenXml
from banty.chat.stream import Piece, Splitter, Syntax, TextGatherer
from banty.chat.toolbox import Check, Toolbox
from banty.errors import InputError
from banty.records.messages import CallFault, Message, ToolCall, ToolSchema

Format = Literal["hermes", "qwen_xml"]

SYNTAXES: dict[str, Syntax] = {"hermes": Hermes(), "qwen_xml": QwenXml()}


@dataclass(frozen=True, slots=True)
class ParseDelta:
    """What became final by feeding more text.

    Deltas joined are a prefix of the finished message: trailing whitespace, and a `<` that might begin a tag, are held
    back until the next text or the end decides.
    """

    text: str = ""
    reasoning: str = ""
    calls: tuple[ToolCall, ...] = ()
    faults: tuple[CallFault, ...] = ()


class CallParser(Protocol):
    """Reads one assistant message as its text arrives; single-use."""

    def feed(self, text: str) -> ParseDelta: ...

    def finish(self) -> Message:
        """The whole message, the same for every chunking of its text. A block still open is a `truncated` fault."""
        ...


def parse(
    text: str,
    tools: Iterable[ToolSchema],
    format: Format,
    *,
    check: Check = "schema",
    starts_in_reasoning: bool = False,
) -> Message:
    """An assistant message from its raw text, end-of-turn token already removed. No text makes it raise.

    `check="names"` passes values as written, checking only the names of tools and parameters; formats without types
    still read the type from the schema. `starts_in_reasoning` says that the prompt ended with an opening `<think>`;
    a text that then never closes it is all reasoning. Calls have no id: the wire has none.
    """
    toolbox = Toolbox(tools, check)
    if format == "hermes" and not starts_in_reasoning and (call := lone_call(text, toolbox)) is not None:
        return Message("assistant", calls=(call,))
    parser = _Parser(toolbox, syntax_of(format), starts_in_reasoning)
    parser.feed(text)
    return parser.finish()


def call_parser(
    tools: Iterable[ToolSchema], format: Format, *, check: Check = "schema", starts_in_reasoning: bool = False
) -> CallParser:
    """A parser for one message that arrives in parts; the options are those of `parse`."""
    return _Parser(Toolbox(tools, check), syntax_of(format), starts_in_reasoning)


def syntax_of(format: str) -> Syntax:
    if format not in SYNTAXES:
        raise InputError(f"Unknown tool-call format {format!r}; known: {', '.join(SYNTAXES)}")
    return SYNTAXES[format]


class _Parser:
    def __init__(self, toolbox: Toolbox, syntax: Syntax, starts_in_reasoning: bool) -> None:
        self._toolbox = toolbox
        self._syntax = syntax
        self._splitter = Splitter(syntax, starts_in_reasoning=starts_in_reasoning)
        self._text = TextGatherer()
        self._reasoning = TextGatherer(after_tag=starts_in_reasoning)
        self._calls: list[ToolCall] = []
        self._faults: list[CallFault] = []
        self._message: Message | None = None

    def feed(self, text: str) -> ParseDelta:
        if self._message is not None:
            raise InputError("This message is finished; make a new parser for the next one")
        return self._take(self._splitter.feed(text))

    def finish(self) -> Message:
        if self._message is None:
            self._take(self._splitter.finish())
            self._message = Message(
                "assistant",
                self._text.finish(),
                tuple(self._calls),
                tuple(self._faults),
                self._reasoning.finish(),
            )
        return self._message

    def _take(self, pieces: Iterable[Piece]) -> ParseDelta:
        text: list[str] = []
        reasoning: list[str] = []
        num_calls, num_faults = len(self._calls), len(self._faults)
        for piece in pieces:
            if piece.kind == "text":
                text.append(self._text.add(piece.raw))
            elif piece.kind == "reasoning":
                reasoning.append(self._reasoning.add(piece.raw))
            else:
                self._text.tag()
                self._reasoning.tag()
            if piece.block is not None:
                self._read(piece.block)
        return ParseDelta(
            "".join(text), "".join(reasoning), tuple(self._calls[num_calls:]), tuple(self._faults[num_faults:])
        )

    def _read(self, block: Block) -> None:
        found = self._unreadable(block) or self._syntax.read(block, self._toolbox)
        if isinstance(found, ToolCall):
            self._calls.append(found)
        else:
            self._faults.append(found)

    def _unreadable(self, block: Block) -> CallFault | None:
        if block.ending == "closed" and block.nested < 0:
            return None
        body = block.body
        name = self._syntax.name_in(block)
        call = f"The call to '{name}'" if name else "The call"
        if block.ending == "truncated":
            message = f"{call} is cut off: the message ends before its closing tag. Not executed; write it again."
            return block.fault("truncated", len(body), message, name)
        if block.ending == "interrupted":
            message = f"{call} has no closing tag before the next call begins. Not executed; write it again."
            return block.fault("malformed", len(body), message, name)
        message = f"{call} has an opening tool_call tag inside a value. Not executed; keep such tags out of values."
        return block.fault("malformed", block.nested - block.start - len(block.opener), message, name)


def in_order(message: Message) -> Sequence[ToolCall | CallFault]:
    """A message's calls and faults in the order the policy wrote them."""
    calls = iter(message.calls)
    faults = {fault.order: fault for fault in message.faults}
    total = len(message.calls) + len(message.faults)
    return [faults[order] if order in faults else next(calls) for order in range(total)]
