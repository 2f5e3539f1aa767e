"""`banty play`: a person is the agent, in the terminal."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from banty.chat import check, coerce
from banty.cli.running import Interrupted, run_async
from banty.cli.show import number
from banty.envs.blocking import run_blocking
from banty.errors import InputError
from banty.records import (
    Capability,
    Completion,
    EpisodeSpec,
    Limits,
    Message,
    Policy,
    Rollout,
    SampleRequest,
    Taskset,
    ToolCall,
    ToolSchema,
)
from banty.rollout import Cast, run_episode

ReadLine = Callable[[], str]

HELP = """Type what you say to the customer, or a tool call:
  get_user_details user_id=mia_li_3668
  update_reservation_baggages {"reservation_id": "ZFA04Y", "total_baggages": 2, ...}
  :tools      the tools            :tool NAME  one tool's arguments
  :policy     the instructions     :quit       leave
  !TEXT       say TEXT even if it starts like a tool call"""


class _Leave(Exception):
    pass


class PersonPolicy:
    """A policy whose answers a person types. Nothing is sent until it is a message or a call that fits its schema."""

    name = "person"
    capabilities: frozenset[Capability] = frozenset()

    def __init__(self, console: Console, read_line: ReadLine) -> None:
        self._console = console
        self._read_line = read_line
        self._shown = 0
        self.left = False

    async def sample(self, request: SampleRequest) -> Completion:
        for message in request.messages[self._shown :]:
            self._show(message)
        self._shown = len(request.messages) + 1  # what the person says next needs no showing
        try:
            return Completion(await run_blocking(lambda: self._prompt(request)))
        except (_Leave, EOFError, KeyboardInterrupt):
            self.left = True
            raise _Leave from None

    async def release(self, session: str) -> None:
        """Nothing is kept."""

    def show_rest(self, rollout: Rollout) -> None:
        """What came after the person's last message."""
        for message in rollout.transcript[self._shown :]:
            self._show(message)

    def _prompt(self, request: SampleRequest) -> Message:
        tools = {tool.name: tool for tool in request.tools}
        while True:
            line = self._read_line().strip()
            if not line:
                continue
            if line.startswith(":"):
                self._command(line, request, tools)
                continue
            if line.startswith("!"):
                return Message("assistant", line[1:].strip())
            name = line.split(None, 1)[0]
            if name not in tools:
                near = [tool for tool in tools if tool.startswith(name) and "_" in name]
                if near:
                    self._say(f"There is no tool {name}; did you mean {near[0]}? Put ! in front to say it.", "yellow")
                    continue
                return Message("assistant", line)
            try:
                return Message("assistant", calls=(read_call(line, tools[name]),))
            except InputError as error:
                self._say(str(error), "yellow")

    def _command(self, line: str, request: SampleRequest, tools: Mapping[str, ToolSchema]) -> None:
        word, _, rest = line[1:].partition(" ")
        if word in ("quit", "q"):
            raise _Leave
        if word == "tools":
            for tool in tools.values():
                self._say(f"{tool.name}({', '.join(tool.parameters.get('properties', {}))}): {tool.description}")
        elif word == "tool" and rest.strip() in tools:
            self._say(json.dumps(tools[rest.strip()].to_openai()["function"], indent=2, ensure_ascii=False))
        elif word == "policy":
            self._say("\n".join(message.content for message in request.messages if message.role == "system"))
        else:
            self._say(HELP)

    def _show(self, message: Message) -> None:
        style = {"system": "dim", "user": "cyan", "assistant": "green", "tool": "magenta"}[message.role]
        who = {"user": "customer", "assistant": "you", "tool": "result", "system": "policy"}[message.role]
        self._say(f"{who}: {_pretty(message.content)}", style)

    def _say(self, text: str, style: str = "") -> None:
        # Text objects are never read for markup, so nothing a customer or a tool says can style or forge the screen.
        self._console.print(Text(text, style=style))


def read_call(line: str, tool: ToolSchema) -> ToolCall:
    """The call typed as `name key=value ...` or `name {JSON}`. Raises InputError saying what does not fit."""
    _, _, rest = line.strip().partition(" ")
    rest = rest.strip()
    arguments = _from_json(rest) if rest.startswith("{") else _from_pairs(rest, tool)
    problems = check(arguments, dict(tool.parameters))
    if problems:
        known = ", ".join(tool.parameters.get("properties", {})) or "nothing"
        raise InputError(f"{tool.name}: {'; '.join(problems)}. It takes {known}; :tool {tool.name} shows more")
    return ToolCall(tool.name, arguments)


def _from_json(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InputError(f"that is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InputError("the arguments have to be a JSON object, {...}")
    return value


def _from_pairs(text: str, tool: ToolSchema) -> dict[str, Any]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise InputError(f"cannot read that: {error}; quote texts with blanks as key='two words'") from None
    properties: Mapping[str, Any] = tool.parameters.get("properties", {})
    arguments: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise InputError(f"{word!r} is not key=value; {tool.name} takes {', '.join(properties) or 'nothing'}")
        read = coerce(value, properties.get(key, {"type": "string"}), path=key, root=dict(tool.parameters))
        if read.problems:
            raise InputError("; ".join(map(str, read.problems)))
        arguments[key] = read.value
    return arguments


def _pretty(text: str) -> str:
    if not text.startswith(("{", "[")):
        return text
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except ValueError:
        return text


def play(
    taskset: Taskset,
    split: str,
    index: int,
    seed: int,
    console: Console,
    read_line: ReadLine | None = None,
    roles: Mapping[str, Policy] | None = None,
) -> Rollout:
    """Play one episode as the agent, and see the verdict. Ctrl-C, Ctrl-D and `:quit` leave without a traceback."""
    person = PersonPolicy(console, read_line or (lambda: console.input(Text("you: ", style="green"))))
    console.print(Text(HELP, style="dim"))
    patient = Limits(
        max_turns=200,
        max_consecutive_errors=200,
        policy_timeout_s=24 * 3600.0,
        episode_timeout_s=24 * 3600.0,
    )
    spec = EpisodeSpec(taskset.task(split, index, seed))
    try:
        rollout = run_async(run_episode(spec, taskset, Cast(person, roles or {}), patient), "you left")[0]
    except Interrupted:
        raise Interrupted("you left; nothing was scored") from None
    if person.left:
        console.print(Text("you left; nothing was scored"))
        return rollout
    person.show_rest(rollout)
    _show_verdict(console, rollout)
    return rollout


def _show_verdict(console: Console, rollout: Rollout) -> None:
    outcome = rollout.outcome
    verdict = {True: "success", False: "failure", None: "unscored"}[outcome.success]
    why = outcome.reason or rollout.detail
    console.print(Text(f"{rollout.status}: {verdict}{f' ({why})' if why else ''}", style="bold"))
    for name, value in outcome.components.items():
        console.print(Text(f"  {name:<18} {number(value, 0)}"))
