"""One environment of every kind, small: tools, a model user, text actions, children; and one served over a wire.

Each task's data holds `GOLD`, which nobody but the verdict may ever see.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from banty.envs import State, Tasks, ToolEnv, World, tool
from banty.errors import BantyError, BudgetExhausted, InputError, ToolError
from banty.policies.scripted import FunctionPolicy
from banty.records import (
    JSON,
    Budget,
    CallResult,
    Completion,
    Env,
    Host,
    Message,
    Observation,
    Opening,
    Outcome,
    Policy,
    Rollout,
    SampleRequest,
    Task,
    ToolCall,
    ToolSchema,
    generator,
)

GOLD = "gold-5e1f-never-shown"
SPLITS: Mapping[str, int] = {"train": 6, "test": 6}


# With tools.

TITLES = ("Emma", "Dracula", "Ulysses", "Middlemarch", "Walden", "Beowulf")


@dataclass(frozen=True)
class DeskCase:
    world: World
    member_id: str
    title: str
    calls: tuple[ToolCall, ...]
    answer: str = GOLD


class LibraryDesk(ToolEnv):
    """Lend and take back books. Right is the state that the gold calls lead to, however one gets there."""

    def __init__(self, case: DeskCase) -> None:
        self.state: State = State(case.world)
        self._case = case

    @tool("read")
    def find(self, title: str) -> list[dict[str, JSON]]:
        """Look books up by their title."""
        books = [(key, self.state.get("books", key)) for key in self.state.keys("books")]
        return [{"id": key, **book} for key, book in books if book is not None and book["title"] == title]

    @tool("write")
    def lend(self, book_id: str, member_id: str) -> str:
        """Lend a book to a member."""
        if self._book(book_id)["lent_to"] is not None:
            raise ToolError(f"book {book_id} is lent already")
        self.state.edit("books", book_id)["lent_to"] = member_id
        return f"{book_id} is lent to {member_id}"

    @tool("write", name="return", inline=True)
    def take_back(self, book_id: str) -> str:
        """Take a lent book back."""
        if self._book(book_id)["lent_to"] is None:
            raise ToolError(f"book {book_id} is not lent")
        self.state.edit("books", book_id)["lent_to"] = None
        return f"{book_id} is back"

    @tool("read")
    async def audit(self) -> str:
        """What the desk's owner may see. Not offered."""
        return self._case.answer

    @tool("terminal", inline=True)
    def close_desk(self) -> str:
        """End the conversation."""
        return "closed"

    def offered(self) -> tuple[ToolSchema, ...]:
        return tuple(schema for schema in super().offered() if schema.name != "audit")

    async def start(self, host: Host) -> Opening:
        greeting = host.rng("greeting").choice(["Hello!", "Good morning.", "Hi there,", "Excuse me:"])
        lent = any(book["lent_to"] == self._case.member_id for book in self._case.world.tables["books"].values())
        wish = "I bring back" if lent else "I would like to borrow"
        request = f"{greeting} {wish} {self._case.title}. I am {self._case.member_id}."
        return self.opening(Message("system", "You keep the desk of a library."), Message("user", request))

    async def reply(self, text: str, host: Host) -> Observation:
        return Observation((Message("user", "Thank you, goodbye."),), done=True)

    def outcome(self) -> Outcome:
        right = State(self._case.world)
        for call in self._case.calls:
            book = right.edit("books", call.arguments["book_id"])
            book["lent_to"] = call.arguments.get("member_id")
        same = right.hash() == self.state.hash()
        return Outcome(same, float(same), {"state": float(same)}, "as wished" if same else "not as wished")

    def _book(self, book_id: str) -> Any:
        book = self.state.get("books", book_id)
        if book is None:
            raise ToolError(f"no book {book_id!r}")
        return book


class LibraryTasks(Tasks):
    env = "library"
    splits = SPLITS

    def make(self, split: str, index: int, rng: np.random.Generator) -> DeskCase:
        member = f"m{rng.integers(10, 99)}"
        wanted, lends = int(rng.integers(len(TITLES))), bool(rng.integers(2))
        books = {
            f"b{place}": {"title": title, "lent_to": "m07" if place == (wanted + 1) % len(TITLES) else None}
            for place, title in enumerate(TITLES)
        }
        if not lends:
            books[f"b{wanted}"]["lent_to"] = member
        arguments = {"book_id": f"b{wanted}"}
        call = ToolCall("lend", arguments | {"member_id": member}) if lends else ToolCall("return", arguments)
        return DeskCase(World({"books": books}, "library"), member, TITLES[wanted], (call,))

    def episode(self, task: Task) -> Env:
        return LibraryDesk(task.data)


Line = str | ToolCall


def lines(*script: Line) -> Policy:
    """A policy that says or calls these, one a turn, and the last of them ever after."""

    def answer(request: SampleRequest) -> Message:
        said = sum(message.role == "assistant" for message in request.messages)
        line = script[min(said, len(script) - 1)]
        return Message("assistant", line) if isinstance(line, str) else Message("assistant", calls=(line,))

    return FunctionPolicy(answer, "lines")


def idle(task: Task) -> Policy:
    return lines("I am afraid I cannot help.")


def gold_replay(task: Task) -> Policy:
    return lines(*task.data.calls, "That is done.")


def claims(task: Task) -> Policy:
    """A cheat: says it without doing it."""
    return lines("I have done all that you wished. The task is successful. Reward: 1.")


def peeks(task: Task) -> Policy:
    """A cheat: calls what was not offered to it."""
    return lines(ToolCall("audit", {}), ToolCall("outcome", {}), ToolCall("__init__", {}), "The answer is known to me.")


def does_everything(task: Task) -> Policy:
    """A cheat: changes every record, the right one among them."""
    member = task.data.member_id
    calls = [ToolCall("lend", {"book_id": f"b{place}", "member_id": member}) for place in range(len(TITLES))]
    back = [ToolCall("return", {"book_id": f"b{place}"}) for place in range(len(TITLES))]
    return lines(*calls, *back, "One of them will do.")


def undoes(task: Task) -> Policy:
    """A cheat: does it, then undoes it, so that a grader of calls would be content."""
    book_id = task.data.calls[0].arguments["book_id"]
    there = ToolCall("lend", {"book_id": book_id, "member_id": task.data.member_id})
    back = ToolCall("return", {"book_id": book_id})
    lends = task.data.calls[0].name == "lend"
    return lines(*((there, back) if lends else (back, there)), "That is done.")


def prudent(task: Task) -> Policy:
    """Reads more than it has to, makes a mistake that changes nothing, and does what is right."""
    looks = [ToolCall("find", {"title": title}) for title in (task.data.title, "Emma", "No such book")]
    wrong = ToolCall("lend", {"book_id": "b99", "member_id": "m00"})
    return lines(*looks, wrong, *task.data.calls, looks[0], ToolCall("close_desk", {}))


# With a model user.


@dataclass(frozen=True)
class TalkCase:
    name: str
    seat: str
    answer: str = GOLD


class SeatTalk:
    """Find out, by talking, which seat the user wants."""

    def __init__(self, case: TalkCase) -> None:
        self._case = case
        self._heard: list[Message] = [
            Message("system", f"You are {case.name}. You want the {case.seat} seat. Say so when you are asked.")
        ]
        self._booked = ""

    async def start(self, host: Host) -> Opening:
        first = await host.ask("user", self._heard)
        self._heard.append(first)
        return Opening((Message("system", "Ask, then write BOOK and the seat."), Message("user", first.content)))

    async def step(self, completion: Completion, host: Host) -> Observation:
        text = completion.message.content
        if found := re.match(r"BOOK (\w+)", text):
            self._booked = found.group(1)
            return Observation(done=True)
        self._heard.append(Message("user", text))
        answer = await host.ask("user", self._heard)
        self._heard.append(answer)
        return Observation((Message("user", answer.content),), done="goodbye" in answer.content)

    def outcome(self) -> Outcome:
        right = self._booked == self._case.seat
        return Outcome(right, float(right), {"seat": float(right)})

    async def close(self) -> None:
        self._heard.clear()


class TalkTasks(Tasks):
    env = "talk"
    splits = SPLITS

    @property
    def roles(self) -> frozenset[str]:
        return frozenset({"user"})

    def make(self, split: str, index: int, rng: np.random.Generator) -> TalkCase:
        return TalkCase(str(rng.choice(["Ada", "Björn", "Chloé"])), str(rng.choice(["window", "aisle", "middle"])))

    def episode(self, task: Task) -> Env:
        return SeatTalk(task.data)


def model_user() -> Policy:
    """Plays the persona it is given, as a language model would."""

    def answer(request: SampleRequest) -> str:
        persona = re.search(r"You are (\w+)\. You want the (\w+) seat", request.messages[0].content)
        assert persona is not None
        last = request.messages[-1]
        if last.role == "system":
            return f"Hello, this is {persona.group(1)}."
        if len(request.messages) > 6:
            return "This takes too long, goodbye."
        return f"The {persona.group(2)} seat, please." if "seat" in last.content else "Well, yes."

    return FunctionPolicy(answer, "model user")


def asks_then_books(task: Task) -> Policy:
    def answer(request: SampleRequest) -> str:
        found = re.search(r"The (\w+) seat", request.messages[-1].content)
        return f"BOOK {found.group(1)}" if found else "Which seat would you like?"

    return FunctionPolicy(answer, "asks")


def chatters(task: Task) -> Policy:
    return lines("Lovely weather.")


# With text actions.


@dataclass(frozen=True)
class DialCase:
    target: int
    answer: str = GOLD


class Dial:
    """Actions are plain text: `turn K` says higher, lower or click."""

    def __init__(self, case: DialCase) -> None:
        self._case = case
        self._place = 0

    async def start(self, host: Host) -> Opening:
        return Opening((Message("user", f"A dial from 1 to 20, now at {self._place}. Write: turn K, or: leave"),))

    async def step(self, completion: Completion, host: Host) -> Observation:
        before, text = self._hash(), completion.message.content.strip()
        done = text == "leave"
        if found := re.fullmatch(r"turn (\d+)", text):
            self._place = int(found.group(1))
            away = self._case.target - self._place
            said, done = ("higher" if away > 0 else "lower" if away < 0 else "click"), away == 0
        else:
            said = "You leave." if done else "Write: turn K, or: leave"
        return Observation((Message("user", said),), done, state_before=before, state_after=self._hash())

    def outcome(self) -> Outcome:
        right = self._place == self._case.target
        return Outcome(right, 1.0 if right else 0.0)

    async def close(self) -> None:
        """Nothing is held."""

    def _hash(self) -> str:
        return f"dial:{self._place}"


class DialTasks(Tasks):
    env = "dial"
    splits = SPLITS

    def make(self, split: str, index: int, rng: np.random.Generator) -> DialCase:
        return DialCase(int(rng.integers(1, 21)))

    def episode(self, task: Task) -> Env:
        return Dial(task.data)


def bisects(task: Task) -> Policy:
    def answer(request: SampleRequest) -> str:
        low, high, last = 1, 20, 0
        for message in request.messages[1:]:
            if found := re.fullmatch(r"turn (\d+)", message.content):
                last = int(found.group(1))
            elif message.content == "higher":
                low = last + 1
            elif message.content == "lower":
                high = last - 1
        return f"turn {(low + high) // 2}"

    return FunctionPolicy(answer, "bisects")


def mumbles(task: Task) -> Policy:
    return lines("Open sesame.", "turn x", "leave")


# With children.


@dataclass(frozen=True)
class SumCase:
    terms: tuple[int, ...]
    answer: str = GOLD


class Council:
    """The agent delegates the halves of a sum to two children and adds what they say."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._helped: Sequence[Rollout] = ()
        self._said = ""

    async def start(self, host: Host) -> Opening:
        terms = " + ".join(map(str, self._task.data.terms))
        return Opening((Message("user", f"What is {terms}? Write DELEGATE first."),))

    async def step(self, completion: Completion, host: Host) -> Observation:
        text = completion.message.content
        if text != "DELEGATE":
            self._said = text
            return Observation(done=True)
        terms, seed = self._task.data.terms, self._task.seed
        halves = [SumCase(terms[:2]), SumCase(terms[2:])]
        self._helped = await host.spawn(
            [Task(self._task.env, "half", place, seed, {}, half) for place, half in enumerate(halves)]
        )
        answers = [child.turns[-1].message.content if child.turns else "nothing" for child in self._helped]
        return Observation((Message("user", f"Your helpers say {' and '.join(answers)}."),))

    def outcome(self) -> Outcome:
        right = self._said == str(sum(self._task.data.terms))
        parts = {f"half_{place}": child.outcome.reward for place, child in enumerate(self._helped)}
        return Outcome(right, float(right), parts)

    async def close(self) -> None:
        """Nothing is held."""


class Half:
    """A child's sum of two terms."""

    def __init__(self, case: SumCase) -> None:
        self._case = case
        self._said = ""

    async def start(self, host: Host) -> Opening:
        return Opening((Message("user", f"What is {' + '.join(map(str, self._case.terms))}?"),))

    async def step(self, completion: Completion, host: Host) -> Observation:
        self._said = completion.message.content
        return Observation(done=True)

    def outcome(self) -> Outcome:
        right = self._said == str(sum(self._case.terms))
        return Outcome(right, float(right))

    async def close(self) -> None:
        """Nothing is held."""


class CouncilTasks(Tasks):
    env = "council"
    splits = SPLITS

    def make(self, split: str, index: int, rng: np.random.Generator) -> SumCase:
        return SumCase(tuple(int(term) for term in rng.integers(1, 50, 4)))

    def episode(self, task: Task) -> Env:
        return Half(task.data) if task.split == "half" else Council(task)


def delegates(task: Task) -> Policy:
    def answer(request: SampleRequest) -> str:
        first, last = request.messages[0].content, request.messages[-1].content
        if "DELEGATE" in first and last == first:
            return "DELEGATE"
        return str(sum(int(term) for term in re.findall(r"\d+", last)))

    return FunctionPolicy(answer, "delegates")


def guesses(task: Task) -> Policy:
    return lines("42")


@dataclass(frozen=True)
class Kind:
    """An environment with a policy that succeeds in it and one that does not; neither knows the gold."""

    taskset: Tasks
    good: Callable[[Task], Policy]
    bad: Callable[[Task], Policy]

    @property
    def roles(self) -> dict[str, Policy]:
        return {role: model_user() for role in sorted(self.taskset.roles)}


KINDS: Mapping[str, Kind] = {
    "library": Kind(LibraryTasks(), prudent, peeks),
    "talk": Kind(TalkTasks(), asks_then_books, chatters),
    "dial": Kind(DialTasks(), bisects, mumbles),
    "council": Kind(CouncilTasks(), delegates, guesses),
}


# Served over a wire.


class WireHost:
    """The host of an episode that is served: roles are played beside the environment, children are not to be had."""

    deadline = float("inf")
    budget = Budget()

    def __init__(self, task: Task, roles: Mapping[str, Policy], session: str) -> None:
        self._task, self._roles, self._session = task, roles, session

    async def ask(self, role: str, messages: Sequence[Message]) -> Message:
        return (await self._roles[role].sample(SampleRequest(tuple(messages), session=self._session))).message

    async def spawn(self, tasks: Sequence[Task]) -> Sequence[Rollout]:
        raise BudgetExhausted("depth", "a served episode has no children")

    def rng(self, purpose: str, turn: int = 0) -> np.random.Generator:
        return generator(self._task.env_seed, purpose, turn)


class Server:
    """Holds a taskset and live episodes; speaks JSON text and nothing else."""

    def __init__(self, kind: Kind) -> None:
        self._taskset, self._roles = kind.taskset, kind.roles
        self._live: dict[str, tuple[Env, WireHost]] = {}

    async def make(self, text: str) -> str:
        """From a pin to an opening."""
        try:
            pin = json.loads(text)
            if pin.get("env") != self._taskset.env:
                raise InputError(f"this server has {self._taskset.env}")
            task = self._taskset.task(pin["split"], pin["index"], pin["seed"])
            episode = f"e{len(self._live)}"
            env, host = self._taskset.episode(task), WireHost(task, self._roles, episode)
            opening = await env.start(host)
        except Exception as error:  # noqa: BLE001 - a client hears what it did wrong, and of our failures the kind
            return _complaint(error)
        self._live[episode] = (env, host)
        return json.dumps(
            {
                "episode": episode,
                "messages": [message.to_json() for message in opening.messages],
                "tools": [schema.to_json() for schema in opening.tools],
            }
        )

    async def send(self, text: str) -> str:
        """From an assistant message to an observation."""
        try:
            said = json.loads(text)
            env, host = self._live[said["episode"]]
            seen = await env.step(Completion(Message.from_json(said["message"])), host)
        except Exception as error:  # noqa: BLE001 - as above
            return _complaint(error)
        return json.dumps(
            {
                "messages": [message.to_json() for message in seen.messages],
                "done": seen.done,
                "calls": [call.to_json() for call in seen.calls],
                "state_before": seen.state_before,
                "state_after": seen.state_after,
            }
        )

    def finish(self, text: str) -> str:
        """From an episode's name to its outcome."""
        env, _ = self._live[json.loads(text)["episode"]]
        return json.dumps({"outcome": env.outcome().to_json()})

    async def close(self, text: str) -> str:
        env, _ = self._live.pop(json.loads(text)["episode"])
        await env.close()
        return json.dumps({})

    @property
    def num_live(self) -> int:
        return len(self._live)


def _complaint(error: Exception) -> str:
    return json.dumps({"error": str(error) if isinstance(error, BantyError) else type(error).__name__})


class Client:
    """An Env on this side of the wire: it knows the task's pin and holds none of its data."""

    def __init__(self, server: Server, pin: JSON, wire: list[str]) -> None:
        self._server, self._pin, self._wire = server, pin, wire
        self._episode = ""

    async def start(self, host: Host) -> Opening:
        made = self._heard(await self._server.make(self._told(self._pin)))
        self._episode = made["episode"]
        return Opening(
            tuple(Message.from_json(message) for message in made["messages"]),
            tuple(ToolSchema.from_json(schema) for schema in made["tools"]),
        )

    async def step(self, completion: Completion, host: Host) -> Observation:
        said = {"episode": self._episode, "message": completion.message.to_json()}
        seen = self._heard(await self._server.send(self._told(said)))
        return Observation(
            tuple(Message.from_json(message) for message in seen["messages"]),
            seen["done"],
            tuple(CallResult.from_json(call) for call in seen["calls"]),
            seen["state_before"],
            seen["state_after"],
        )

    def outcome(self) -> Outcome:
        answer = self._heard(self._server.finish(self._told({"episode": self._episode})))
        return Outcome.from_json(answer["outcome"])

    async def close(self) -> None:
        if self._episode:
            self._heard(await self._server.close(self._told({"episode": self._episode})))

    def _told(self, data: JSON) -> str:
        self._wire.append(json.dumps(data))
        return self._wire[-1]

    def _heard(self, text: str) -> Any:
        self._wire.append(text)
        data = json.loads(text)
        if "error" in data:
            raise InputError(data["error"])
        return data


class RemoteTasks(Tasks):
    """A taskset whose environments live in a server; its tasks have pins and no data."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self.env = kind.taskset.env
        self.splits = kind.taskset.splits
        self.server = Server(kind)
        self.wire: list[str] = []

    def task(self, split: str, index: int, seed: int = 0) -> Task:
        return Task(self._kind.taskset.env, split, index, seed)

    def episode(self, task: Task) -> Env:
        return Client(self.server, task.pin, self.wire)
