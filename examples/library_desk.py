"""A library's desk in one file: the environment of docs/environments.md, its expert, and both ends of the scale.

    $ python examples/library_desk.py
    expert      1.00 of 50 test tasks
    do-nothing  0.00 of 50 test tasks

About a second on one CPU core. The expert asks for the member number, looks the book up and lends it. Your own policy
goes where the expert is: anything with a `name`, `capabilities`, `sample` and `release`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

from numpy.random import Generator

from banty.envs import State, Tasks, ToolEnv, World, tool
from banty.envs.baselines import LinePolicy, do_nothing
from banty.errors import ToolError
from banty.policies.scripted import expert_policy
from banty.records import (
    JSON,
    Baselines,
    Expert,
    Host,
    Message,
    Observation,
    Opening,
    Outcome,
    Policy,
    SampleRequest,
    Task,
    Taskset,
    ToolCall,
    take,
)
from banty.rollout import Cast, collect, plan_groups

TITLES = {"B1": "Dracula", "B2": "Dune", "B3": "Emma", "B4": "Ulysses"}
WORLD = World({"books": {key: {"title": title, "lent_to": ""} for key, title in TITLES.items()}}, tag="library-1")


class LibraryDesk(ToolEnv):
    """A member wants a book, and says who they are when asked. One instance is one episode."""

    def __init__(self, book_id: str, member: str) -> None:
        self.book_id, self.member = book_id, member
        self.state = State(WORLD)

    async def start(self, host: Host) -> Opening:
        rules = Message("system", "You lend books. Ask for the member number before you lend; never guess it.")
        return self.opening(rules, Message("user", f"Hello, I would like to borrow {TITLES[self.book_id]}."))

    @tool("read", inline=True)
    def find_book(self, title: str) -> JSON:
        """Find books, by their title or a part of it."""
        return {key: self.state.get("books", key) for key in self.state.keys("books") if title in TITLES[key]}

    @tool("write", inline=True)
    def lend(self, book_id: str, member_number: str) -> str:
        """Lend a book to a member."""
        if ("books", book_id) not in self.state:
            raise ToolError(f"there is no book {book_id!r}; find_book gives the ids")
        self.state.edit("books", book_id)["lent_to"] = member_number
        return f"{book_id} is lent to {member_number}."

    async def reply(self, text: str, host: Host) -> Observation:
        asked = "member number" in text.lower()
        return Observation((Message("user", f"It is {self.member}." if asked else "Goodbye."),), done=not asked)

    def outcome(self) -> Outcome:
        lent = {key: self.state.get(table, key) for table, key in self.state.touched()}
        success = lent == {self.book_id: {"title": TITLES[self.book_id], "lent_to": self.member}}
        return Outcome(success, float(success), reason="" if success else f"lent is {lent}")


class LibraryTasks(Tasks):
    env, splits = "library", {"train": 1000, "test": 200}

    def make(self, split: str, index: int, rng: Generator) -> dict[str, str]:
        # Members with odd numbers are held out: no test task asks for what was trained on.
        return {"book_id": str(rng.choice(list(TITLES))), "member": f"M{2 * rng.integers(5000) + (split == 'test'):04}"}

    def episode(self, task: Task) -> LibraryDesk:
        return LibraryDesk(**task.data)


POINTS = {
    "number": ("asks for the member number", "makes a number up"),
    "look-up": ("looks the book up", "guesses the book's id"),
}


def respond(request: SampleRequest, choose: Callable[[str], bool]) -> Message:
    """The expert's next message, from the conversation alone. `choose` says True to discipline."""
    said = [message for message in request.messages if message.role == "user"]
    called = {call.name for message in request.messages for call in message.calls}
    numbers = [message.content[6:-1] for message in said if message.content.startswith("It is ")]
    if "lend" in called:
        return Message("assistant", "It is yours for four weeks. Goodbye!")
    if "find_book" in called:
        return _call("lend", book_id=next(iter(json.loads(request.messages[-1].content))), member_number=numbers[0])
    if not numbers:
        if choose("number"):
            return Message("assistant", "What is your member number?")
        return _call("lend", book_id="B1", member_number="M1234")
    if choose("look-up"):
        return _call("find_book", title=said[0].content.removeprefix("Hello, I would like to borrow ")[:-1])
    return _call("lend", book_id="B1", member_number=numbers[0])


def _call(name: str, **arguments: str) -> Message:
    return Message("assistant", calls=(ToolCall(name, arguments),))


class CoachedLibraryTasks(LibraryTasks):
    """The same tasks, with an expert to measure against and to learn from."""

    def expert(self) -> Expert:
        return Expert(respond, POINTS)

    def baselines(self) -> Baselines:
        return Baselines(self, {"do-nothing": do_nothing(), "golden": self.replay})

    def golden(self, task: Task) -> tuple[ToolCall, ...]:
        """The right calls of one task, for nobody but its author."""
        return (ToolCall("lend", {"book_id": task.data["book_id"], "member_number": task.data["member"]}),)

    def replay(self, task: Task) -> LinePolicy:
        return LinePolicy("golden", [*self.golden(task), "It is yours. Goodbye!"])


async def success_rate(taskset: Taskset, policy: Policy, num_tasks: int = 50) -> float:
    """The share of test tasks that end rightly, one episode each."""
    specs = plan_groups(take(taskset, "test", num_tasks), num_trials=1, seed=0)
    trees = await collect(specs, taskset, Cast(policy))
    roots = [tree[0] for tree in trees]
    assert all(root.scored for root in roots), "a script and a scripted member cannot fail to answer"
    return sum(bool(root.outcome.success) for root in roots) / len(roots)


def main() -> None:
    tasks = CoachedLibraryTasks()
    expert = expert_policy(tasks.expert())
    for policy in (expert, do_nothing()(None)):
        rate = asyncio.run(success_rate(tasks, policy))
        print(f"{policy.name:<10}  {rate:.2f} of 50 test tasks")


if __name__ == "__main__":
    main()
