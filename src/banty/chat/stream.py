"""An assistant message cut into pieces, as its text arrives.

The pieces partition the text: joined in order, they are the text, character for character, however it was chunked.

```
<think>Which book?</think>\\nLet me look.\\n<tool_call>{…}</tool_call>
tag    reasoning   tag     text            block
```
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import ClassVar, Literal, NamedTuple, Protocol

from banty.chat.block import TOOL_OPEN, Block, Ending
from banty.chat.strict_json import WHITESPACE
from banty.chat.toolbox import Toolbox
from banty.records.messages import CallFault, ToolCall

THINK_OPEN, THINK_CLOSE = "<think>", "</think>"


class Piece(NamedTuple):
    """A stretch of the message; a `block` comes whole, `text` and `reasoning` in fragments as they arrive."""

    kind: Literal["text", "reasoning", "tag", "block"]
    raw: str
    block: Block | None = None


class Syntax(Protocol):
    """What a wire format adds to the common shape."""

    openers: ClassVar[Mapping[str, str]]
    """Each tag that begins a block, and the tag that ends it."""

    def in_value(self, body: str) -> bool:
        """Whether a block's text so far stops inside an argument's value."""
        ...

    def name_in(self, block: Block) -> str:
        """The tool a broken block seems to name, or ''."""
        ...

    def read(self, block: Block, toolbox: Toolbox) -> ToolCall | CallFault:
        """The one call of a closed block."""
        ...


class Splitter:
    """Cuts a message into pieces; each character is looked at a bounded number of times.

    A block ends at the first closing tag, even inside a value: otherwise one forgotten quote would swallow the next
    call. An opening tag inside a block either lies in a value, and then spoils this block without beginning another
    (quoted text must never be executed), or begins the next block.
    """

    def __init__(self, syntax: Syntax, *, starts_in_reasoning: bool = False) -> None:
        self._syntax = syntax
        self._mode: Literal["text", "reasoning", "block"] = "reasoning" if starts_in_reasoning else "text"
        self._held = ""  # the start of what may become a tag
        self._seen = 0  # characters of the message before `_held`
        self._open: _Open | None = None
        self._num_blocks = 0

    def feed(self, text: str) -> Iterator[Piece]:
        window = self._held + text
        at = 0
        while match := _any_of(self._tags()).search(window, at):
            yield from self._plain(window[at : match.start()])
            self._seen += match.start() - at
            yield from self._tag(match.group())
            self._seen += len(match.group())
            at = match.end()
        keep = _possible_tag(window, at, self._tags())
        yield from self._plain(window[at:keep])
        self._seen += keep - at
        self._held = window[keep:]

    def finish(self) -> Iterator[Piece]:
        held, self._held = self._held, ""
        yield from self._plain(held)
        self._seen += len(held)
        if self._open is not None:
            yield self._end_block("truncated")

    def _tags(self) -> tuple[str, ...]:
        if self._mode == "reasoning":
            return (THINK_OPEN, THINK_CLOSE)
        if self._open is None:
            return (THINK_OPEN, *self._syntax.openers)
        if self._open.nested >= 0 or TOOL_OPEN not in self._syntax.openers:
            return (self._open.closer,)
        return (self._open.closer, TOOL_OPEN)

    def _plain(self, text: str) -> Iterator[Piece]:
        if self._open is not None:
            self._open.parts.append(text)
        elif text:
            yield Piece("reasoning" if self._mode == "reasoning" else "text", text)

    def _tag(self, tag: str) -> Iterator[Piece]:
        if self._open is None:
            if tag in self._syntax.openers:
                self._begin_block(tag)
            else:
                self._mode = "text" if tag == THINK_CLOSE else "reasoning"
                yield Piece("tag", tag)
        elif tag == self._open.closer:
            self._open.parts.append(tag)
            yield self._end_block("closed")
        elif self._syntax.in_value("".join(self._open.parts[1:])):
            self._open.nested = self._seen
            self._open.parts.append(tag)
        else:
            yield self._end_block("interrupted")
            self._begin_block(tag)

    def _begin_block(self, opener: str) -> None:
        self._mode = "block"
        self._open = _Open(opener, self._syntax.openers[opener], self._seen, [opener])

    def _end_block(self, ending: Ending) -> Piece:
        assert self._open is not None
        raw = "".join(self._open.parts)
        block = Block(
            raw, self._open.start, self._num_blocks, self._open.opener, self._open.closer, ending, self._open.nested
        )
        self._mode, self._open = "text", None
        self._num_blocks += 1
        return Piece("block", raw, block)


@dataclass(slots=True)
class _Open:
    opener: str
    closer: str
    start: int
    parts: list[str]
    nested: int = -1


@dataclass(slots=True)
class TextGatherer:
    """Text between tags, put together as people should see it.

    Whitespace next to a tag is layout and left out; what remains of each stretch is kept exactly, and stretches parted
    by a tag are joined by a newline. A message without tags comes out unchanged.
    """

    after_tag: bool = False
    parts: list[str] = field(default_factory=list)
    _pending: list[str] = field(default_factory=list)
    _separate: bool = False

    def add(self, text: str) -> str:
        """What became final by adding more text."""
        if self.after_tag:
            text = text.lstrip(WHITESPACE)
        body = text.rstrip(WHITESPACE)
        if not body:
            self._pending.append(text)
            return ""
        final = ("\n" if self._separate else "") + "".join(self._pending) + body
        self.after_tag = self._separate = False
        self._pending = [text[len(body) :]]
        self.parts.append(final)
        return final

    def tag(self) -> None:
        """A tag stands here."""
        self._pending = []
        self.after_tag = True
        self._separate = bool(self.parts)

    def finish(self) -> str:
        return "".join([*self.parts, *self._pending])


@cache
def _any_of(tags: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, tags)))


def _possible_tag(window: str, at: int, tags: tuple[str, ...]) -> int:
    """Where the text ends that cannot be the beginning of a tag. No tag has a `<` but its first character."""
    last = window.rfind("<", max(at, len(window) - max(map(len, tags))))
    return last if last >= 0 and any(tag.startswith(window[last:]) for tag in tags) else len(window)
