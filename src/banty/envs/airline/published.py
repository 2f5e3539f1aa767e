"""tau2-bench's own airline tasks over its own database."""

from __future__ import annotations

import dataclasses
import hashlib
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from banty.envs.airline.baselines import airline_baselines, golden_of_task
from banty.envs.airline.content import customers_in, tables_of, told_text
from banty.envs.airline.customers import Customer, ModelCustomer, SilentCustomer
from banty.envs.airline.data import AirlineWorld, airline_folder, benchmark_data, load_world
from banty.envs.airline.env import AirlineDesk, preset
from banty.envs.airline.grade_tau2 import check_basis, failing_gold
from banty.envs.airline.guidelines import OWN, guidelines_in, read_guidelines
from banty.envs.airline.instructions import instructions_beside, read_instructions
from banty.envs.airline.reciting import RecitingCustomer
from banty.envs.airline.rubric import Gold, Grade
from banty.envs.airline.tasks import AirlineTasks, CustomerKind
from banty.envs.airline.tau2tasks import SPLITS_FILE, Tau2Task, Tau2Tasks, load_tasks
from banty.envs.airline.toolfile import read_tools
from banty.envs.airline.tools import AirlineTools
from banty.envs.airline.writes import WRITE_TOOLS
from banty.envs.tasksets import one_of
from banty.errors import InputError
from banty.records import JSON, Baselines, Env, Task, TaskContent, ToolCall, sha256_json

FailingGold = Literal["refuse", "drop", "keep"]
_PARTS = ("reason_for_call", "known_info", "unknown_info", "task_instructions")


@dataclass(frozen=True)
class PublishedCase:
    """The private data of a published task; `scenario` is what its customer is told."""

    world: AirlineWorld
    task: Tau2Task
    scenario: str


class PublishedTasks(AirlineTasks):
    """The 50 published tasks, or another task file over the same database, with any policy as the customer.

    `customer="model"` needs a policy in the role `user`, `scripted` reads the instructions out by rule, without any
    model, and `silent` serves baselines that do not talk. A model that plays the customer gets `guidelines` (a file),
    else the folder's own, else ours. The agent is shown the folder's own policy text, or that in the file `policy`, and
    before it `instructions` (a file), else those of the checkout the folder lies in, else ours.

    `data` is a checkout of tau2-bench, its data folder, or a `db.json`, and what TAU2_DATA_DIR names if not given;
    `tasks` a task file of tau2-bench, of its verified fork or of tau-bench v1. Tasks whose golden writes fail have no
    right ending: a file with some is refused unless `failing_gold` says to `drop` them, or to `keep` them, graded as
    the benchmark grades them.
    """

    env = "airline/tau2"
    pinned_user = "model"

    def __init__(
        self,
        *,
        data: str | Path | None = None,
        tasks: str | Path | None = None,
        policy: str | Path | None = None,
        grade: Grade = "tau2",
        customer: CustomerKind = "model",
        failing_gold: FailingGold = "refuse",
        guidelines: str | Path | None = None,
        instructions: str | Path | None = None,
        tools: str | Path | None = None,
    ) -> None:
        super().__init__(grade, customer, guidelines)
        self._failing_gold: FailingGold = one_of("failing_gold", failing_gold, FailingGold)
        given = benchmark_data(data)
        self._folder = given.parent if given.is_file() else airline_folder(given)
        self._data = given if given.is_file() else self._folder
        self._world = load_world(self._data)
        loaded = load_tasks(tasks or self._folder)
        for each in loaded.tasks:
            check_basis(each)
        self._tasks = _with_right_endings(loaded, self._world, self._failing_gold)
        self._left_out = [task.id for task in loaded.tasks if task not in self._tasks.tasks]
        self.splits = {split: len(ids) for split, ids in self._tasks.splits.items()}
        self._policy_file = _policy_file(self._folder, policy)
        shown = preset("full")
        text = shown.policy if self._policy_file is None else self._policy_file.read_text(encoding="utf-8")
        self._told = read_instructions(instructions) if instructions else instructions_beside(self._folder)
        offered = read_tools(tools) if tools else None
        every = offered or tuple(entry.schema for entry in AirlineTools.tools.values())
        self._tools_sha256 = sha256_json([tool.to_openai() for tool in every])
        self._shown = dataclasses.replace(
            shown, policy=text, instructions=self._told.text, tools=offered, silence_ends=True
        )
        found = guidelines_in(self._folder)
        self._guidelines = self._guidelines if guidelines else read_guidelines(found) if found else OWN

    @property
    def world(self) -> AirlineWorld:
        """The database that every episode begins with."""
        return self._world

    @property
    def published(self) -> Tau2Tasks:
        """The tasks as their file has them, without those that were dropped."""
        return self._tasks

    @property
    def policy_text(self) -> str:
        """What the agent is told to follow."""
        return self._shown.policy

    @property
    def files(self) -> tuple[Path, ...]:
        """The files this was read from."""
        database = self._data if self._data.is_file() else self._data / "db.json"
        splits = self._tasks.path.parent / SPLITS_FILE
        others = [self._policy_file] if self._policy_file else []
        return (database, self._tasks.path, *([splits] if splits.is_file() else []), *others)

    @property
    def provenance(self) -> Mapping[str, JSON]:
        left_out: dict[str, JSON] = {"tasks_left_out": self._left_out} if self._left_out else {}
        return {
            **super().provenance,
            "world": self._world.tag,
            "tasks_sha256": self._tasks.sha256,
            "tasks_version": self._tasks.version,
            "policy_sha256": hashlib.sha256(self._shown.policy.encode()).hexdigest(),
            "instructions": self._told.name,
            "instructions_sha256": self._told.sha256,
            "tools_sha256": self._tools_sha256,
            **left_out,
        }

    def make(self, split: str, index: int, rng: np.random.Generator) -> PublishedCase:
        task = self._tasks.split(split)[index]
        return PublishedCase(self._world, task, _scenario(task))

    def public(self, data: PublishedCase) -> Mapping[str, JSON]:
        return {"task_id": data.task.id}

    def episode(self, task: Task) -> Env:
        case: PublishedCase = task.data
        gold = Gold(case.task, process=False)
        return AirlineDesk(case.world, self._make_customer(case), gold, self._shown, self._grade)

    def baselines(self) -> Baselines:
        """Played with the silent customer, which costs nothing."""
        silent = PublishedTasks(
            data=self._data,
            tasks=self._tasks.path,
            policy=self._policy_file,
            grade=self._grade,
            customer="silent",
            failing_gold=self._failing_gold,
        )
        return Baselines(silent, airline_baselines(lambda task: golden_of_task(task.data.task)))

    def golden(self, task: Task) -> tuple[ToolCall, ...]:
        """The published actions, one annotator's path."""
        actions: tuple[ToolCall, ...] = task.data.task.actions
        return actions

    def content(self, task: Task) -> TaskContent:
        case: PublishedCase = task.data
        text = told_text(case.task.instructions)
        return TaskContent(
            customers=customers_in(text, case.task.actions),
            text=text,
            writes=tuple(call for call in case.task.actions if call.name in WRITE_TOOLS),
            tables=tables_of(case.world),
        )

    def describe(self, data: PublishedCase) -> JSON:
        return [dict(data.task.raw), self._shown.policy]

    def _make_customer(self, case: PublishedCase) -> Customer:
        if self._customer == "scripted":
            return RecitingCustomer(case.task.instructions)
        if self._customer == "silent":
            return SilentCustomer(case.scenario)
        return ModelCustomer(self._guidelines.text, case.scenario)


def _with_right_endings(tasks: Tau2Tasks, world: AirlineWorld, failing: FailingGold) -> Tau2Tasks:
    """The tasks, without those whose golden writes fail where they are to be dropped."""
    if failing == "keep":
        return tasks
    wrong = {task.id: found for task in tasks.tasks if (found := failing_gold(world, task))}
    if not wrong:
        return tasks
    if failing == "drop" and len(wrong) < len(tasks.tasks):
        return tasks.without(wrong)
    first = "; ".join(f"task {key}: {found[0]}" for key, found in list(wrong.items())[:3])
    raise InputError(
        f"golden actions of {len(wrong)} of {len(tasks.tasks)} tasks of {tasks.path} fail on {world.tag}, so nobody "
        f"can end them rightly ({first}). Is the file of another database or domain? -o failing_gold=drop leaves such "
        "tasks out, -o failing_gold=keep grades them as the benchmark does"
    )


def _policy_file(folder: Path, given: str | Path | None) -> Path | None:
    """The file of the policy text; None where none was given and the folder has none."""
    if given is None:
        return folder / "policy.md" if (folder / "policy.md").is_file() else None
    file = Path(given).expanduser()
    if not file.is_file():
        raise InputError(f"policy={given} is no file; give the text that the agent is to follow, such as policy.md")
    return file


def _scenario(task: Tau2Task) -> str:
    """What the benchmark tells its simulated user of a task, in its own layout."""
    persona = task.raw["user_scenario"].get("persona")
    told = task.instructions if isinstance(task.instructions, str) else _laid_out(task.instructions)
    return "\n".join([*([] if persona is None else [_under("Persona", persona)]), _under("Instructions", told)])


def _laid_out(instructions: Mapping[str, JSON]) -> str:
    """Instructions in parts: the domain on a line of its own, then each part that there is, also an empty one."""
    parts = [(key, instructions.get(key)) for key in _PARTS]
    told = [_under(key.replace("_", " ").capitalize(), value) for key, value in parts if value is not None]
    return "\n".join([f"Domain: {instructions.get('domain', 'airline')}", *told])


def _under(heading: str, text: JSON) -> str:
    return f"{heading}:\n" + textwrap.indent(str(text), "\t")
