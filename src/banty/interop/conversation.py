"""From a flat list of logged messages to an opening and turns with their calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from banty.chat import in_order
from banty.records import CallFault, CallResult, Effect, Message, ToolCall, Turn

UNKNOWN_TOOL = "unknown_tool"


@dataclass(frozen=True)
class Said:
    """One logged message. `by` is who made it, or whose call a tool's message answers. `error` is what a tool's message
    failed of, in the words of `CallResult.error`; empty where it did not fail or the log does not say."""

    message: Message
    by: Literal["agent", "user", "env"] = "env"
    error: str = ""
    prompt_tokens: int = 0
    sampled_tokens: int = 0
    cost_usd: float = 0.0
    seconds: float = 0.0
    cut: bool = False


@dataclass
class _Open:
    """A turn that is still being gathered."""

    said: Said
    observation: list[Message] = field(default_factory=list)
    answers: list[Said] = field(default_factory=list)


def turns_of(
    given: Sequence[Said], rest: Sequence[Said], effects: Mapping[str, Effect], policy: str, version: int = 0
) -> tuple[tuple[Message, ...], tuple[Turn, ...]]:
    """The opening and the turns of a conversation.

    `given` is what the agent was handed, assistant messages included that it did not sample. In `rest` every message by
    the agent begins a turn, and what follows is its observation. A user who calls tools of its own has turns for that,
    as the actor `user`: the agent never sees those calls nor their answers. Tools missing in `effects` are `unknown`.
    """
    opening = [said.message for said in given]
    gathered: list[_Open] = []
    agent: _Open | None = None
    user: _Open | None = None
    for said in rest:
        if said.by == "agent" and said.message.role == "assistant":
            agent = _Open(said)
            gathered.append(agent)
        elif said.by == "user" and said.message.calls:
            user = _Open(said)
            gathered.append(user)
        elif said.by == "user" and said.message.role == "tool" and user is not None:
            user.observation.append(said.message)
            user.answers.append(said)
        elif agent is None:
            opening.append(said.message)
        else:
            agent.observation.append(said.message)
            if said.message.role == "tool":
                agent.answers.append(said)
    turns = [_turn(index, each, effects, policy, version) for index, each in enumerate(gathered)]
    return tuple(opening), tuple(turns)


def _turn(index: int, gathered: _Open, effects: Mapping[str, Effect], policy: str, version: int) -> Turn:
    said = gathered.said
    by_agent = said.by == "agent"
    message = said.message
    if not by_agent:  # who is asked answers as an assistant, whatever its role in the conversation
        message = Message("assistant", message.content, message.calls, message.faults, message.reasoning)
    return Turn(
        index=index,
        actor="agent" if by_agent else "user",
        message=message,
        trainable=by_agent,
        observation=tuple(gathered.observation),
        calls=_results(message, gathered.answers, effects),
        policy=policy if by_agent else "",
        version=version if by_agent else 0,
        finish="length" if said.cut else "stop",
        prompt_tokens=said.prompt_tokens,
        sampled_tokens=said.sampled_tokens,
        cost_usd=said.cost_usd,
        policy_s=said.seconds,
    )


def _results(message: Message, answers: Sequence[Said], effects: Mapping[str, Effect]) -> tuple[CallResult, ...]:
    """The calls that were answered, in the order they were written: paired by id, else by order."""
    items = in_order(message)
    by_id = {said.message.call_id: said for said in answers if said.message.call_id}
    paired: dict[int, Said] = {}
    for place, item in enumerate(items):
        if isinstance(item, ToolCall) and item.id in by_id:
            paired[place] = by_id.pop(item.id)
    taken = {id(said) for said in paired.values()}
    others = iter([said for said in answers if id(said) not in taken])
    for place in range(len(items)):
        if place not in paired and (said := next(others, None)) is not None:
            paired[place] = said
    return tuple(_result(items[place], paired[place], effects) for place in sorted(paired))


def _result(item: ToolCall | CallFault, said: Said, effects: Mapping[str, Effect]) -> CallResult:
    if isinstance(item, CallFault):
        return CallResult(item.name, {}, said.message.content, "none", item.kind)
    effect: Effect | Literal["none"] = effects.get(item.name, "unknown")
    if said.error == UNKNOWN_TOOL:
        effect = "none"
    return CallResult(item.name, item.arguments, said.message.content, effect, said.error)
