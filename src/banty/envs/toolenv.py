"""ToolEnv: an environment whose typed methods are its tools."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, TypeVar

from banty.blocking import run_blocking
from banty.chat.schemas import argument_checker, schema_of
from banty.envs.state import State
from banty.errors import BudgetExhausted, InputError, ToolError
from banty.records import (
    JSON,
    CallFault,
    CallResult,
    Completion,
    Effect,
    Host,
    Message,
    Observation,
    Opening,
    Outcome,
    ToolCall,
    ToolSchema,
    canonical_json,
)

Method = TypeVar("Method", bound=Callable[..., Any])


def tool(effect: Effect, *, inline: bool = False, name: str | None = None) -> Callable[[Method], Method]:
    """Mark a method of a ToolEnv as a tool. Its signature and docstring become the JSON Schema.

    `effect` says what a call may do: `read` changes nothing, `write` changes state, `terminal` ends the episode when it
    succeeds. A parameter called `host` is filled in and not shown. A synchronous method runs on a thread of its own so
    that a hang meets the step's deadline; with `inline` it runs on the event loop, which is some fifty microseconds
    faster and right only for code that cannot block.
    """
    if effect not in ("read", "write", "terminal"):
        raise InputError(f"tool effect {effect!r} is not one of read, write, terminal")

    def mark(method: Method) -> Method:
        method.__banty_tool__ = {"effect": effect, "inline": inline, "name": name}  # type: ignore[attr-defined]
        return method

    return mark


@dataclasses.dataclass(frozen=True)
class Tool:
    """A tool of a ToolEnv class, ready to be called."""

    schema: ToolSchema
    function: Callable[..., Any]
    check: Callable[[Mapping[str, JSON]], dict[str, Any]]
    inline: bool
    awaited: bool
    takes_host: bool


class ToolEnv:
    """Base of environments made of typed tools; one instance is one episode.

    A subclass marks methods with `@tool`, and gives `start` (which may use `opening`), `reply` for a message without
    calls, and `outcome`. Calls of one turn run in the order they were written, each recorded with the state hash
    before and after it. What a call cannot do (`ToolError`, a malformed or unknown call, wrong arguments) is an
    observation for the policy; any other exception of a tool is the environment's own failure and ends the episode
    unscored.
    """

    validates: ClassVar[Literal["schema", "names"]] = "schema"
    """`schema` hands tools arguments of their annotated types; `names` checks names only and hands over raw JSON."""

    tools: ClassVar[Mapping[str, Tool]] = {}
    state: State
    """The episode's state, if it keeps one; set in `__init__`, and hashed around every call."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        found: dict[str, Tool] = dict(cls.tools)
        for method in vars(cls).values():
            mark = getattr(method, "__banty_tool__", None)
            if mark is None:
                continue
            schema = schema_of(method, name=mark["name"], effect=mark["effect"])
            checks = cls.validates == "schema"
            found[schema.name] = Tool(
                schema=schema,
                function=method,
                check=argument_checker(method) if checks else _names_checker(schema),
                inline=mark["inline"],
                awaited=inspect.iscoroutinefunction(method),
                takes_host="host" in inspect.signature(method).parameters,
            )
        cls.tools = found

    async def start(self, host: Host) -> Opening:
        raise NotImplementedError(
            f"{type(self).__name__} has to say how an episode starts: async def start(self, host)"
        )

    async def reply(self, text: str, host: Host) -> Observation:
        raise NotImplementedError(f"{type(self).__name__} has to answer messages: async def reply(self, text, host)")

    def outcome(self) -> Outcome:
        raise NotImplementedError(f"{type(self).__name__} has to say how an episode went: def outcome(self)")

    async def close(self) -> None:
        """Nothing to free unless a subclass says so."""

    def offered(self) -> tuple[ToolSchema, ...]:
        """The tools this episode shows and accepts; all of the class's unless a subclass narrows them."""
        return tuple(entry.schema for entry in self.tools.values())

    def accepts(self, name: str) -> bool:
        """Whether this episode has a tool of this name."""
        return any(schema.name == name for schema in self.offered())

    def opening(self, *messages: Message) -> Opening:
        return Opening(messages, self.offered())

    def state_hash(self) -> str:
        """The hash that calls are recorded with; empty when the episode keeps no `state`."""
        state: State | None = getattr(self, "state", None)
        return "" if state is None else state.hash()

    def view(self, name: str, result: Any) -> str:
        """What the agent reads of a tool's result: text as it is, anything else as JSON."""
        return result if isinstance(result, str) else json.dumps(_plain(result), ensure_ascii=False)

    def unknown_tool(self, name: str) -> str:
        return f"Tool '{name}' not found. Available tools: {', '.join(schema.name for schema in self.offered())}."

    async def step(self, completion: Completion, host: Host) -> Observation:
        message = completion.message
        before = self.state_hash()
        if not message.calls and not message.faults:
            seen = await self.reply(message.content, host)
            return dataclasses.replace(seen, state_before=before, state_after=self.state_hash())
        answers: list[Message] = []
        results: list[CallResult] = []
        done = False
        written: list[ToolCall | CallFault] = list(message.calls)
        for fault in sorted(message.faults, key=lambda fault: fault.order):
            written.insert(fault.order, fault)
        for item in written:
            if isinstance(item, CallFault):
                now = self.state_hash()
                result = CallResult(
                    item.name, {}, f"Error: {item.message}", "none", item.kind, state_before=now, state_after=now
                )
                call_id = ""
            else:
                call_id = item.id
                result = await self.call(item, host)
                done = result.effect == "terminal" and not result.error
            results.append(result)
            answers.append(Message("tool", result.output, call_id=call_id))
            if done:
                break
        return Observation(tuple(answers), done, tuple(results), before, self.state_hash())

    async def call(self, call: ToolCall, host: Host) -> CallResult:
        """Run one call and record it; raises only what is the environment's own failure."""
        before = self.state_hash()
        if not self.accepts(call.name):
            output, error, effect = f"Error: {self.unknown_tool(call.name)}", "unknown_tool", "none"
            return CallResult(call.name, call.arguments, output, "none", error, before, before)
        entry = self.tools[call.name]
        effect, error = entry.schema.effect, ""
        try:
            arguments = entry.check(call.arguments)
        except ToolError as refused:
            return CallResult(call.name, call.arguments, f"Error: {refused}", effect, "arguments", before, before)
        if entry.takes_host:
            arguments["host"] = host
        try:
            if entry.awaited:
                result = await entry.function(self, **arguments)
            elif entry.inline:
                result = entry.function(self, **arguments)
            else:
                result = await run_blocking(lambda: entry.function(self, **arguments))
            output = self.view(call.name, result)
        except (ToolError, BudgetExhausted) as refused:
            output, error = f"Error: {refused}", "tool"
        return CallResult(call.name, call.arguments, output, effect, error, before, self.state_hash())


def _names_checker(schema: ToolSchema) -> Callable[[Mapping[str, JSON]], dict[str, Any]]:
    known = schema.parameters.get("properties", {})
    required = tuple(schema.parameters.get("required", ()))

    def check(arguments: Mapping[str, JSON]) -> dict[str, Any]:
        missing = [name for name in required if name not in arguments]
        unknown = [name for name in arguments if name not in known]
        if missing or unknown:
            parts = [f"missing {', '.join(missing)}"] if missing else []
            parts += [f"unknown {', '.join(unknown)}"] if unknown else []
            raise ToolError(f"{schema.name} got {'; '.join(parts)}. It takes: {', '.join(known) or 'nothing'}.")
        return dict(arguments)

    return check


def _plain(value: Any) -> JSON:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(map(_plain, value), key=canonical_json)  # a set's own order changes from process to process
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    return str(value)
