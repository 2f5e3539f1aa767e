"""tau2-bench's own airline tasks over its own database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from banty.envs.airline.baselines import airline_baselines, golden_of_task
from banty.envs.airline.customers import Customer, ModelCustomer, SilentCustomer
from banty.envs.airline.data import AirlineWorld, airline_folder, load_world
from banty.envs.airline.env import AirlineDesk, Preset, preset
from banty.envs.airline.guidelines import OWN, guidelines_in, read_guidelines
from banty.envs.airline.reciting import RecitingCustomer
from banty.envs.airline.rubric import Gold, Grade
from banty.envs.airline.tasks import AirlineTasks, CustomerKind
from banty.envs.airline.tau2tasks import Tau2Task, load_tasks
from banty.errors import InputError
from banty.records import JSON, Baselines, Env, Task, ToolCall


@dataclass(frozen=True)
class PublishedCase:
    """The private data of a published task; `scenario` is what its customer is told."""

    world: AirlineWorld
    task: Tau2Task
    scenario: str


class PublishedTasks(AirlineTasks):
    """The 50 published tasks, or another task file over the same database, with any policy as the customer.

    `customer="model"` needs a policy in the role `user`, `customer="scripted"` reads its instructions out by rule, and
    `customer="silent"` serves baselines that do not talk. The agent is shown the folder's own policy text; a model that
    plays the customer gets `guidelines` (a file), else the folder's own, else ours.
    """

    env = "airline/tau2"
    pinned_user = "model"

    def __init__(
        self,
        *,
        data: str | Path | None = None,
        tasks: str | Path | None = None,
        grade: Grade = "tau2",
        customer: CustomerKind = "model",
        guidelines: str | Path | None = None,
    ) -> None:
        if data is None:
            raise InputError("airline/tau2 needs data=FOLDER: a tau2-bench checkout or its airline data folder")
        super().__init__(grade, customer, guidelines)
        self._folder = airline_folder(data)
        self._tasks = load_tasks(tasks or self._folder)
        self.splits = {split: len(ids) for split, ids in self._tasks.splits.items()}
        policy = self._folder / "policy.md"
        shown = preset("full")
        text = policy.read_text().strip() if policy.is_file() else shown.policy
        self._shown = Preset(text, shown.greeting, shown.tools, shown.compact, shown.transfer_ends)
        found = guidelines_in(self._folder)
        self._guidelines = self._guidelines if guidelines else read_guidelines(found) if found else OWN

    @property
    def provenance(self) -> Mapping[str, JSON]:
        return {**super().provenance, "world": load_world(self._folder).tag, "tasks_sha256": self._tasks.sha256}

    def make(self, split: str, index: int, rng: np.random.Generator) -> PublishedCase:
        task = self._tasks.split(split)[index]
        return PublishedCase(load_world(self._folder), task, _scenario(task))

    def public(self, data: PublishedCase) -> Mapping[str, JSON]:
        return {"task_id": data.task.id}

    def episode(self, task: Task) -> Env:
        case: PublishedCase = task.data
        gold = Gold(case.task, process=False)
        return AirlineDesk(case.world, self._make_customer(case), gold, self._shown, self._grade)

    def baselines(self) -> Baselines:
        """Played with the silent customer, which costs nothing."""
        silent = PublishedTasks(data=self._folder, tasks=self._tasks.path, grade=self._grade, customer="silent")
        return Baselines(silent, airline_baselines(lambda task: golden_of_task(task.data.task)))

    def golden(self, task: Task) -> tuple[ToolCall, ...]:
        """The published actions, one annotator's path."""
        actions: tuple[ToolCall, ...] = task.data.task.actions
        return actions

    def describe(self, data: PublishedCase) -> JSON:
        return [dict(data.task.raw), self._shown.policy]

    def _make_customer(self, case: PublishedCase) -> Customer:
        if self._customer == "scripted":
            return RecitingCustomer(case.task.instructions)
        if self._customer == "silent":
            return SilentCustomer(case.scenario)
        return ModelCustomer(self._guidelines.text, case.scenario)


def _scenario(task: Tau2Task) -> str:
    """The instructions as the benchmark lays them out for its simulated user (specs/tau.md section 7)."""
    if isinstance(task.instructions, str):
        return task.instructions
    lines = []
    for key in ("domain", "reason_for_call", "known_info", "unknown_info", "task_instructions"):
        if value := task.instructions.get(key):
            indented = str(value).replace("\n", "\n\t")
            lines.append(f"{key.replace('_', ' ').capitalize()}:\n\t{indented}")
    return "\n".join(lines)
