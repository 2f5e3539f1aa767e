"""Policies that follow a script: a list of answers, or a function of the conversation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from banty.errors import PolicyFault
from banty.records import Capability, Completion, Expert, Message, SampleRequest


class ScriptedPolicy:
    """Gives the n-th answer of a list at the n-th turn of every session, whatever is said.

    Raises PolicyFault past the end of the list.
    """

    capabilities: frozenset[Capability] = frozenset()

    def __init__(self, answers: Sequence[Message | str], name: str = "scripted") -> None:
        self.name = name
        self._answers = [Message("assistant", answer) if isinstance(answer, str) else answer for answer in answers]
        self._next: dict[str, int] = {}

    async def sample(self, request: SampleRequest) -> Completion:
        place = self._next.get(request.session, 0)
        if place >= len(self._answers):
            raise PolicyFault(f"the script of {self.name} has {len(self._answers)} answers and another is asked for")
        self._next[request.session] = place + 1
        return Completion(self._answers[place])

    async def release(self, session: str) -> None:
        self._next.pop(session, None)


class FunctionPolicy:
    """Answers with a function of the request; keeps nothing between turns."""

    capabilities: frozenset[Capability] = frozenset()

    def __init__(self, function: Callable[[SampleRequest], Message | str], name: str = "function") -> None:
        self.name = name
        self._function = function

    async def sample(self, request: SampleRequest) -> Completion:
        answer = self._function(request)
        return Completion(Message("assistant", answer) if isinstance(answer, str) else answer)

    async def release(self, session: str) -> None:
        """Nothing is kept."""


def expert_policy(expert: Expert) -> FunctionPolicy:
    """The expert with full discipline at every decision point."""
    return FunctionPolicy(lambda request: expert.respond(request, _disciplined), "expert")


def _disciplined(point: str) -> bool:
    return True
