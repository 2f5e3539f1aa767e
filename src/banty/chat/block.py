"""One attempt at a call, as text, and how it is turned down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from banty.records.messages import CallFault, FaultKind

TOOL_OPEN, TOOL_CLOSE = "<tool_call>", "</tool_call>"

Ending = Literal["closed", "truncated", "interrupted"]
"""How a block stops: at its closing tag, at the end of the message, or where the next block begins."""


@dataclass(frozen=True, slots=True)
class Block:
    """The text of one attempt, tags included, and where that lies in the message.

    `nested` is the position in the message of an opening tag inside one of the block's values, -1 if there is none.
    """

    raw: str
    start: int
    order: int
    opener: str
    closer: str
    ending: Ending
    nested: int = -1

    @property
    def body(self) -> str:
        inner = self.raw[len(self.opener) :]
        return inner.removesuffix(self.closer) if self.ending == "closed" else inner

    def fault(self, kind: FaultKind, at: int, message: str, name: str = "") -> CallFault:
        """A fault of this block; `at` is a character of `body`."""
        return CallFault(kind, message, self.order, self.start + len(self.opener) + at, self.raw, name)


class Malformed(Exception):
    """A body that does not follow its format; `position` is a character of the body."""

    def __init__(self, position: int, message: str) -> None:
        super().__init__(message)
        self.position = position
