"""Policies that any result is read against: one that does nothing, and ones that follow a script."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from banty.errors import PolicyFault
from banty.records import Capability, Completion, Message, SampleRequest, ToolCall

IDLE_TEXT = "I am sorry, I cannot help you with that."


class LinePolicy:
    """Says the lines of a script in order, one a turn, and the last of them for ever after.

    A line is a text or a call. Each session has its own place in the script.
    """

    capabilities: frozenset[Capability] = frozenset()

    def __init__(self, name: str, lines: Sequence[str | ToolCall]) -> None:
        if not lines:
            raise PolicyFault(f"the script of {name} has no lines")
        self.name = name
        self._lines = lines

    async def sample(self, request: SampleRequest) -> Completion:
        opening = next((place for place, m in enumerate(request.messages) if m.role == "user"), 0)
        said = sum(message.role == "assistant" for message in request.messages[opening:])
        line = self._lines[min(said, len(self._lines) - 1)]
        return Completion(Message("assistant", line) if isinstance(line, str) else Message("assistant", calls=(line,)))

    async def release(self, session: str) -> None:
        """Nothing is kept: the place in the script is read off the conversation."""


def always(name: str, *lines: str | ToolCall) -> Callable[[object], LinePolicy]:
    """The same script for every task."""
    policy = LinePolicy(name, lines)
    return lambda task: policy


def do_nothing() -> Callable[[object], LinePolicy]:
    return always("do-nothing", IDLE_TEXT)
