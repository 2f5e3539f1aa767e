"""`banty play`: a person takes part in an episode, in the terminal, as the agent or as the user of one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

from rich.console import Console
from rich.text import Text

from banty.blocking import run_blocking
from banty.chat import signature_line
from banty.chat.wording import listed, nearest
from banty.cli.running import run_async
from banty.cli.show import number
from banty.cli.typed import read_answer
from banty.errors import InputError, PolicyFault
from banty.evals.suite import PerTaskPolicy
from banty.records import (
    Capability,
    Completion,
    EpisodeSpec,
    Limits,
    Message,
    Policy,
    Rollout,
    SampleRequest,
    SamplingParams,
    Taskset,
)
from banty.rollout import Cast, check_roles, run_episode

ReadLine = Callable[[], str]
Part = Literal["agent", "user"]

HELP = """Type what you want to say, or a tool call:
  NAME key=value other="two words"   the values take the types the tool asks for
  NAME {"key": "value"}              the arguments as JSON
  !TEXT        say TEXT, whatever it looks like
  :tools       the tools             :tool NAME   the arguments of one
  :policy      your instructions     :help        this
  :quit        leave; so do Ctrl-C and Ctrl-D"""
_LEFT = "you left"
_DAY_S = 24 * 3600.0
_PATIENT = Limits(
    max_turns=1000,
    max_consecutive_errors=1000,
    policy_timeout_s=_DAY_S,
    ask_timeout_s=_DAY_S,
    episode_timeout_s=_DAY_S,
)
_WHO: Mapping[Part, Mapping[str, str]] = {
    "agent": {"system": "policy", "user": "user", "assistant": "you", "tool": "result"},
    "user": {"system": "your part", "user": "agent", "assistant": "you", "tool": "result"},
}
_STYLES = {"system": "dim", "user": "cyan", "assistant": "green", "tool": "magenta"}


def play(
    taskset: Taskset,
    split: str,
    index: int,
    seed: int,
    console: Console,
    read_line: ReadLine | None = None,
    agent: Policy | None = None,
    *,
    params: SamplingParams | None = None,
    roles: Mapping[str, Policy] | None = None,
) -> Rollout:
    """Play one episode and see the verdict.

    The person is the agent. Where a policy is the `agent`, sampling with `params`, the person is the user if the
    taskset asks for one and `roles` has none, and otherwise looks on. `read_line` gives the next line typed and raises
    EOFError after the last; None reads the terminal. Leaving, in whichever way, gives an `errored` rollout and no
    traceback.

    Raises InputError for a task that does not exist and for a role that nobody plays.
    """
    with contextlib.nullcontext(read_line) if read_line else _terminal() as typed:
        exit_door = _Exit()
        cast, screen = _cast(taskset, console, typed, agent, dict(roles or {}))
        check_roles(taskset, cast)
        others = {role: exit_door.behind(each) for role, each in cast.roles.items()}
        cast = Cast(exit_door.behind(cast.agent), others, params or SamplingParams())
        task = taskset.task(split, index, seed)
        spec = EpisodeSpec(task, rollout_id=f"{task.id}#0")
        if isinstance(agent, PerTaskPolicy):
            agent.expect([spec])
        screen.say(HELP if agent is None or screen.part == "user" else "You look on; Ctrl-C leaves.", "dim")

        async def episode() -> Rollout:
            with exit_door.at_ctrl_c():
                return (await run_episode(spec, taskset, cast, _PATIENT))[0]

        rollout = run_async(episode(), f"{_LEFT}; nothing was scored")
    screen.rest(rollout)
    screen.verdict(rollout)
    return rollout


class PersonPolicy:
    """A policy whose answers a person types. Nothing is sent until it is text, or a call that fits its tool."""

    name = "person"
    capabilities: frozenset[Capability] = frozenset()

    def __init__(self, screen: Screen, read_line: ReadLine) -> None:
        self._screen = screen
        self._read_line = read_line

    async def sample(self, request: SampleRequest) -> Completion:
        self._screen.catch_up(request.messages)
        while True:
            line = await run_blocking(self._next_line)
            if line is None or line in (":quit", ":q"):
                raise PolicyFault(_LEFT)
            message = self._answer(line, request)
            if message is not None:
                self._screen.sent(message)
                return Completion(message)

    async def release(self, session: str) -> None:
        """Nothing is kept."""

    def _next_line(self) -> str | None:
        try:
            return self._read_line().strip()
        except (EOFError, KeyboardInterrupt):
            return None

    def _answer(self, line: str, request: SampleRequest) -> Message | None:
        if line.startswith(":"):
            self._screen.say(_command(line, request))
            return None
        try:
            return read_answer(line, request.tools) if line else None
        except InputError as error:
            self._screen.say(f"Not sent. {error}", "yellow")
            return None


def _command(line: str, request: SampleRequest) -> str:
    """What a line that begins with a colon asks to see."""
    word, _, rest = line[1:].partition(" ")
    name = rest.strip()
    tools = {tool.name: tool for tool in request.tools}
    if word == "help":
        return HELP
    if word == "policy":
        return "\n\n".join(each.content for each in request.messages if each.role == "system") or "There is none."
    if word == "tools":
        return "\n".join(map(signature_line, tools.values())) or "There are no tools."
    if word == "tool" and name in tools:
        return json.dumps(tools[name].to_openai()["function"], indent=2, ensure_ascii=False)
    if word == "tool":
        close = nearest(name, tools)
        return f"There is no tool {name!r}; " + (f"did you mean {close}?" if close else f"there are {listed(tools)}.")
    return f"There is no command :{word}.\n{HELP}"


# What is shown.

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class Screen:
    """What the person sees. Nothing that was said is read as markup or as commands to the terminal."""

    def __init__(self, console: Console, part: Part = "agent", watching: bool = False) -> None:
        self._console = console
        self.part = part
        self._who = dict(_WHO[part]) | ({"assistant": "agent"} if watching else {})
        self._num_shown = 0

    def say(self, text: str, style: str = "") -> None:
        shown = _CONTROL.sub(lambda match: ascii(match[0])[1:-1], text)
        self._console.print(Text(shown, style=style))

    def catch_up(self, messages: Sequence[Message]) -> None:
        """Show what of a conversation has not been shown yet."""
        for message in messages[self._num_shown :]:
            self.show(message)
        self._num_shown = max(len(messages), self._num_shown)

    def sent(self, message: Message) -> None:
        """The person's own message: on the screen already, but for how a call was understood."""
        self._num_shown += 1
        if message.calls:
            self.show(message)

    def show(self, message: Message) -> None:
        who = self._who[message.role]
        lines = [_pretty(message.content)] if message.content else []
        lines += [f"{call.name} {json.dumps(dict(call.arguments), ensure_ascii=False)}" for call in message.calls]
        lines += [f"(broken call: {fault.message}) {fault.raw}" for fault in message.faults]
        self.say(f"{who}: " + "\n".join(lines), _STYLES[message.role])

    def rest(self, rollout: Rollout) -> None:
        """What came after the person's last message."""
        if self.part == "agent":
            self.catch_up(rollout.transcript)
        elif rollout.agent_turns and not rollout.agent_turns[-1].observation:
            self.say(f"agent: {rollout.agent_turns[-1].message.content}", _STYLES["user"])

    def verdict(self, rollout: Rollout) -> None:
        outcome = rollout.outcome
        word = {True: "success", False: "failure", None: "not scored"}[outcome.success]
        cause = f" ({rollout.cause})" if rollout.cause else ""
        why = "; ".join(part for part in (rollout.detail, outcome.reason) if part)
        self.say(f"\n{rollout.status}{cause}: {word}{f', {why}' if why else ''}", "bold")
        if outcome.reward is not None:
            self.say(f"  {'reward':<20} {number(outcome.reward, 2)}")
        for name, value in outcome.components.items():
            self.say(f"  {name:<20} {number(value, 2)}")


def _pretty(text: str) -> str:
    """JSON laid out over lines; any other text as it is."""
    if not text.startswith(("{", "[")):
        return text
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text


# Who takes part, and how to leave.


def _cast(
    taskset: Taskset, console: Console, read_line: ReadLine, agent: Policy | None, roles: dict[str, Policy]
) -> tuple[Cast, Screen]:
    if agent is None:
        screen = Screen(console)
        return Cast(PersonPolicy(screen, read_line), roles), screen
    if "user" in taskset.roles and "user" not in roles:
        screen = Screen(console, "user")
        return Cast(agent, {**roles, "user": PersonPolicy(screen, read_line)}), screen
    screen = Screen(console, watching=True)
    return Cast(_Watched(agent, screen), roles), screen


class _Watched:
    """A policy that is looked at while it plays."""

    def __init__(self, policy: Policy, screen: Screen) -> None:
        self._policy, self._screen = policy, screen
        self.name, self.capabilities = policy.name, policy.capabilities

    async def sample(self, request: SampleRequest) -> Completion:
        self._screen.catch_up(request.messages)
        completion = await self._policy.sample(request)
        self._screen.catch_up((*request.messages, completion.message))
        return completion

    async def release(self, session: str) -> None:
        await self._policy.release(session)


class _Exit:
    """Ctrl-C as a fault of whoever's turn it is, so that the episode ends in good order and with a rollout."""

    def __init__(self) -> None:
        self._left = asyncio.Event()

    def behind(self, policy: Policy) -> Policy:
        return _Leavable(policy, self._left)

    @contextlib.contextmanager
    def at_ctrl_c(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        try:
            loop.add_signal_handler(signal.SIGINT, self._left.set)
        except (NotImplementedError, RuntimeError, ValueError):  # Windows, or not the main thread
            yield
            return
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGINT)


class _Leavable:
    def __init__(self, policy: Policy, left: asyncio.Event) -> None:
        self._policy, self._left = policy, left
        self.name, self.capabilities = policy.name, policy.capabilities

    async def sample(self, request: SampleRequest) -> Completion:
        answer = asyncio.ensure_future(self._policy.sample(request))
        leaving = asyncio.ensure_future(self._left.wait())
        try:
            await asyncio.wait({answer, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return answer.result()
            raise PolicyFault(_LEFT)
        finally:
            answer.cancel()
            leaving.cancel()
            await asyncio.gather(answer, leaving, return_exceptions=True)

    async def release(self, session: str) -> None:
        await self._policy.release(session)


@contextlib.contextmanager
def _terminal() -> Iterator[ReadLine]:
    """Lines from standard input, for a thread that may be left behind in the middle of one."""
    if not sys.stdin.isatty():
        # Unbuffered: a thread left inside a buffered read makes the interpreter abort at its end.
        with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as stream:
            yield lambda: _decoded(stream.readline())
        return
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - gives `input` its line editing
    with _settings_kept(sys.stdin.fileno()):
        yield lambda: input("> ")


def _decoded(line: bytes) -> str:
    if not line:
        raise EOFError
    return line.decode("utf-8", "replace")


@contextlib.contextmanager
def _settings_kept(terminal: int) -> Iterator[None]:
    """Leaves in the middle of line editing would otherwise leave the terminal without echo."""
    try:
        import termios
    except ImportError:
        yield
        return
    before = termios.tcgetattr(terminal)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
