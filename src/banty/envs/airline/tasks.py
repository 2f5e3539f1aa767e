"""Generated airline tasks, over a small world each or over one shared world, generated or published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from banty.envs.airline.baselines import airline_baselines, golden_calls, golden_of_scenario
from banty.envs.airline.content import content_of_scenario, tables_of
from banty.envs.airline.customers import (
    Customer,
    ModelCustomer,
    ScriptedCustomer,
    SilentCustomer,
    describe,
)
from banty.envs.airline.data import AirlineWorld, airline_folder, load_world
from banty.envs.airline.env import AirlineDesk, preset
from banty.envs.airline.expert import AIRLINE_EXPERT
from banty.envs.airline.guidelines import OWN, read_guidelines
from banty.envs.airline.habits import AIRLINE_HABITS
from banty.envs.airline.matching import AIRLINE_MATCHING
from banty.envs.airline.phrases import SPLITS
from banty.envs.airline.requests import Plan, Subject, make_request
from banty.envs.airline.rubric import Gold, Grade
from banty.envs.airline.scenario import Request, Scenario
from banty.envs.airline.tools import AirlineTools
from banty.envs.airline.worlds import make_small_world, make_world, split_of
from banty.envs.tasksets import Tasks, one_of
from banty.envs.usercheck import CHECKS_VERSION
from banty.errors import InputError
from banty.records import JSON, Baselines, Env, Expert, Habit, Task, TaskContent, ToolCall, ToolMatching

CustomerKind = Literal["scripted", "model", "silent"]
Phrasing = Literal["own", "train"]
GENERATOR_VERSION = 1
GENERATED_WORLD_SEED = 7

_SIZES = {"mini": {"train": 20_000, "dev": 1_000, "test": 2_000}, "full": {"train": 2_000, "dev": 300, "test": 600}}

# Shares of requests. Those that an idle or an always-transferring agent could end rightly stay under a quarter.
_PLANS: Mapping[str, Sequence[tuple[float, Plan]]] = {
    "mini": (
        (0.20, ("cancel", "do")),
        (0.09, ("cancel", "refuse")),
        (0.18, ("change_date", "do")),
        (0.05, ("change_date", "refuse")),
        (0.22, ("add_bags", "do")),
        (0.03, ("remove_bags", "refuse")),
        (0.18, ("total_paid", "do")),
        (0.05, ("out_of_scope", "transfer")),
    ),
    "full": (
        (0.12, ("cancel", "do")),
        (0.05, ("cancel", "refuse")),
        (0.03, ("cancel", "transfer")),
        (0.10, ("change_date", "do")),
        (0.03, ("change_date", "refuse")),
        (0.10, ("change_cabin", "do")),
        (0.02, ("change_cabin", "refuse")),
        (0.10, ("add_bags", "do")),
        (0.02, ("remove_bags", "refuse")),
        (0.10, ("total_paid", "do")),
        (0.06, ("rename_passenger", "do")),
        (0.02, ("add_passenger", "refuse")),
        (0.02, ("add_insurance", "refuse")),
        (0.10, ("book", "do")),
        (0.07, ("compensation", "do")),
        (0.02, ("compensation", "refuse")),
        (0.04, ("out_of_scope", "transfer")),
    ),
}
_SECOND_REQUEST = 0.25
_MOST_DRAWS = 1000


@dataclass(frozen=True)
class GeneratedCase:
    """The private data of a generated task."""

    world: AirlineWorld
    scenario: Scenario


class AirlineTasks(Tasks):
    """What generated and published tasks share: the grader, and who plays the customer."""

    pinned_user: CustomerKind = "scripted"
    """The customer that fingerprints are made with, whoever plays: the tasks are the same."""

    def __init__(self, grade: Grade, customer: CustomerKind, guidelines: str | Path | None) -> None:
        self._grade: Grade = one_of("grade", grade, Grade)
        self._customer: CustomerKind = one_of("customer", customer, CustomerKind)
        if guidelines and customer != "model":
            raise InputError(f"guidelines are for customer=model; the {customer} customer reads none")
        self._guidelines = read_guidelines(guidelines) if guidelines else OWN

    def habits(self) -> Mapping[str, Habit]:
        return AIRLINE_HABITS

    def matching(self) -> Mapping[str, ToolMatching]:
        return AIRLINE_MATCHING

    @property
    def roles(self) -> frozenset[str]:
        return frozenset({"user"} if self._customer == "model" else ())

    @property
    def provenance(self) -> Mapping[str, JSON]:
        plain: dict[str, JSON] = {"grader": self._grade, "user": self._customer, "user_version": GENERATOR_VERSION}
        if self._customer != "model":
            return plain
        told = {"user_guidelines": self._guidelines.name, "user_guidelines_sha256": self._guidelines.sha256}
        return {**plain, **told, "user_checks": CHECKS_VERSION}

    @property
    def pinned(self) -> Mapping[str, JSON]:
        kept = {name: value for name, value in self.provenance.items() if not name.startswith("user")}
        return {**kept, "user": self.pinned_user, "user_version": GENERATOR_VERSION}


class GeneratedTasks(AirlineTasks):
    """Generated conversations.

    `mini` gives each task a small world of its own; `full` shares one world: a generated one, or the published
    database in `data`. Splits are disjoint by customer, by reservation and by paraphrase template; with
    `phrasing="train"` held-out customers speak in the training templates instead of their own. `guidelines` is a file
    for a model that plays the customer, in place of our text.
    """

    def __init__(
        self,
        size: Literal["mini", "full"],
        *,
        data: str | Path | None = None,
        grade: Grade = "semantic",
        customer: CustomerKind = "scripted",
        phrasing: Phrasing = "own",
        guidelines: str | Path | None = None,
    ) -> None:
        if size == "mini" and data is not None:
            raise InputError("airline/mini makes a small world for each task and takes no data; use airline/full")
        self._size = size
        self.env = f"airline/{size}"
        self.splits = _SIZES[size]
        super().__init__(grade, customer, guidelines)
        self._phrasing = one_of("phrasing", phrasing, Phrasing)
        self._data = airline_folder(data) if data is not None else None

    @property
    def provenance(self) -> Mapping[str, JSON]:
        world = "one per task" if self._size == "mini" else self._world.tag
        return {**super().provenance, "phrasing": self._phrasing, "world": world}

    def episode(self, task: Task) -> Env:
        case: GeneratedCase = task.data
        return AirlineDesk(
            case.world,
            self._make_customer(case.scenario),
            Gold.of_scenario(case.scenario),
            preset(self._size),
            self._grade,
        )

    def baselines(self) -> Baselines:
        """Played with the scripted customer, whoever the result's own customer is."""
        scripted = GeneratedTasks(
            self._size, data=self._data, grade=self._grade, customer="scripted", phrasing=self._phrasing
        )
        return Baselines(scripted, airline_baselines(lambda task: golden_of_scenario(task.data.scenario)))

    def expert(self) -> Expert:
        return AIRLINE_EXPERT

    def public(self, data: GeneratedCase) -> Mapping[str, JSON]:
        """What the customer asks for, as they will say themselves; never whether they get it."""
        # What is out of scope is for the agent to find out, so there the topic stands.
        requests = data.scenario.requests
        return {"intents": [one.detail if one.intent == "out_of_scope" else one.intent for one in requests]}

    def golden(self, task: Task) -> tuple[ToolCall, ...]:
        return golden_calls(task.data.scenario)

    def content(self, task: Task) -> TaskContent:
        case: GeneratedCase = task.data
        # A small world is told by its tag, which holds its seed: reading the tables of twenty thousand takes a while.
        tables = {"world": case.world.tag} if self._size == "mini" else tables_of(case.world)
        return content_of_scenario(case.scenario, tables)

    def describe(self, data: GeneratedCase) -> JSON:
        """Scenario, right ending, world and policy text."""
        return [data.scenario.to_json(), data.world.tag, preset(self._size).policy]

    def _make_customer(self, scenario: Scenario) -> Customer:
        if self._customer == "model":
            return ModelCustomer(self._guidelines.text, describe(scenario))
        if self._customer == "silent":
            return SilentCustomer(describe(scenario))
        return ScriptedCustomer(scenario)

    @cached_property
    def _world(self) -> AirlineWorld:
        if self._data is not None:
            return load_world(self._data)
        return AirlineWorld.from_json(make_world(GENERATED_WORLD_SEED), f"generated-{GENERATED_WORLD_SEED}")

    @cached_property
    def _reservations(self) -> Mapping[str, Sequence[str]]:
        """Reservations of the shared world by split, in the world's order."""
        found: dict[str, list[str]] = {split: [] for split in SPLITS}
        for key, record in self._world.tables["reservations"].items():
            found[split_of(record["user_id"])].append(key)
        return found

    def make(self, split: str, index: int, rng: np.random.Generator) -> GeneratedCase:
        phrasing = split if self._phrasing == "own" else "train"
        for _ in range(_MOST_DRAWS):
            plans = self._plans(rng)
            if self._size == "mini":
                world_seed = int(rng.integers(2**62))
                world = AirlineWorld.from_json(make_small_world(world_seed, split), f"small-{world_seed:x}")
                subjects = [Subject.of(world, key, asks_payment=False) for key in world.tables["reservations"]]
            else:
                world = self._world
                subjects = self._draw_subjects(split, plans[0], rng)
            requests = _requests(plans, subjects, rng)
            if requests is not None and _can_be_done(world, requests):
                user_id = subjects[0].profile.user_id
                return GeneratedCase(world, Scenario(user_id, requests, phrasing))
        raise InputError(f"no customer of the {split} split of {self._world.tag} has a request that can be made")

    def _plans(self, rng: np.random.Generator) -> list[Plan]:
        shares, plans = zip(*_PLANS[self._size], strict=True)
        weights = np.array(shares) / sum(shares)
        chosen = [plans[int(rng.choice(len(plans), p=weights))]]
        if rng.random() < _SECOND_REQUEST:
            active = [place for place, plan in enumerate(plans) if plan[1] == "do"]
            second = weights[active] / weights[active].sum()
            # The second request always has something to be done or told, so doing nothing never ends two rightly.
            chosen.append(plans[active[int(rng.choice(len(active), p=second))]])
        # A transfer ends the conversation, so it comes last.
        return sorted(chosen, key=lambda plan: plan[1] == "transfer")

    def _draw_subjects(self, split: str, plan: Plan, rng: np.random.Generator) -> list[Subject]:
        """The reservations of one customer, one that can carry `plan` first; none where nobody can ask for it."""
        keys = self._reservations[split]
        start = int(rng.integers(len(keys)))
        for step in range(len(keys)):
            subject = Subject.of(self._world, keys[(start + step) % len(keys)], asks_payment=True)
            if make_request(plan, subject, rng) is not None:
                others = [key for key in subject.profile.reservations if key != subject.trip.id]
                return [subject, *(Subject.of(self._world, key, asks_payment=True) for key in others)]
        return []


def _requests(
    plans: Sequence[Plan], subjects: Sequence[Subject], rng: np.random.Generator
) -> tuple[Request, ...] | None:
    """One request a plan, each about a reservation of its own; None when the customer cannot ask for all of them."""
    left = list(subjects)
    made: list[Request] = []
    for plan in plans:
        for subject in left:
            request = next((found for _ in range(8) if (found := make_request(plan, subject, rng)) is not None), None)
            if request is not None:
                made.append(request)
                left.remove(subject)
                break
        else:
            return None
    return tuple(made)


def _can_be_done(world: AirlineWorld, requests: Sequence[Request]) -> bool:
    """Whether the right writes succeed one after the other: two requests may share a gift card or a flight's seats."""
    desk = AirlineTools(world)
    return all(desk.execute(call.name, call.arguments)[0] for request in requests for call in request.writes)


def airline(data: str | Path | None = None, **options: Any) -> GeneratedTasks:
    """The desk at the size that fits: `full` over the published database in `data`, else `mini`."""
    return GeneratedTasks("mini" if data is None else "full", data=data, **options)
