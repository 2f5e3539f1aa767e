"""Scoring a conversation: the semantic grader, and both graders' verdicts side by side.

`tau2` is the benchmark's own: equal canonical databases and required words said (`grade_tau2`). `semantic` is ours: the
order of segments, passengers and payments has no meaning, numbers count by value, and for generated tasks the way
counts too: a yes before every write, the reservation read before it is decided on, a transfer exactly when due, and
nothing written, not even to be undone, where a right ending changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from banty.envs.airline.customers import is_yes
from banty.envs.airline.data import AirlineWorld
from banty.envs.airline.grade_tau2 import COMPONENTS, EndedBy, gold_state, grade_tau2, is_said
from banty.envs.airline.meaning import is_told, same_meaning
from banty.envs.airline.scenario import Scenario
from banty.envs.airline.sidebyside import database_words, told_words
from banty.envs.airline.tau2tasks import DEFAULT_BASIS, Tau2Task
from banty.envs.state import State
from banty.records import CallResult, Outcome

Grade = Literal["tau2", "semantic"]


@dataclass(frozen=True)
class Gold:
    """What a right ending is. `process` says whether the semantic grader judges the way as well."""

    task: Tau2Task
    looks_up: frozenset[str] = frozenset()
    transfers: bool = False
    process: bool = True

    @classmethod
    def of_scenario(cls, scenario: Scenario) -> Gold:
        actions = [{"name": call.name, "arguments": dict(call.arguments)} for call in scenario.writes]
        raw = {"evaluation_criteria": {"actions": actions}}
        task = Tau2Task("", "", scenario.writes, scenario.tells, DEFAULT_BASIS, raw)
        return cls(task, scenario.looks_up, scenario.transfers)


@dataclass
class Conversation:
    """What an episode has seen so far, as far as scoring goes."""

    calls: list[CallResult] = field(default_factory=list)
    agent_texts: list[str] = field(default_factory=list)
    customer_text: str = ""
    unconfirmed_writes: int = 0
    ended_by: EndedBy | None = None

    def record_call(self, call: CallResult) -> None:
        self.calls.append(call)
        if call.effect == "write" and not call.error and not is_yes(self.customer_text):
            self.unconfirmed_writes += 1

    @property
    def transferred(self) -> bool:
        return any(call.name == "transfer_to_human_agents" and not call.error for call in self.calls)

    def looked_up(self) -> set[str]:
        """Reservations whose record came back in a read before anything was written to them."""
        read: set[str] = set()
        written: set[str] = set()
        for call in self.calls:
            key = str(call.arguments.get("reservation_id"))
            if call.name == "get_reservation_details" and not call.error and key not in written:
                read.add(key)
            elif call.effect == "write" and not call.error:
                written.add(key)
        return read


def score(world: AirlineWorld, state: State, gold: Gold, talk: Conversation, grade: Grade) -> Outcome:
    """The outcome under `grade`; its components hold both graders' verdicts and each part of them.

    A conversation that nobody ended (a cap was reached, or the agent fell silent) has failed under both. Where the
    graders disagree over a published task, the reason says why, also in a success.
    """
    ended = float(talk.ended_by in ("user_stop", "agent_stop"))
    right = gold_state(world, gold.task.actions)
    semantic: dict[str, float] = {
        "ended": ended,
        "database": float(same_meaning(state, right)),
        "told": float(all(is_told(value, talk.agent_texts) for value in gold.task.communicate)),
    }
    process = {
        "confirmed": float(talk.unconfirmed_writes == 0),
        "looked_up": float(gold.looks_up <= talk.looked_up()),
        "transferred": float(talk.transferred == gold.transfers),
        "restrained": float(set(state.touched()) <= set(right.touched())),
    }
    gates = semantic | process if gold.process else semantic
    tau2 = grade_tau2(world, talk.calls, talk.agent_texts, gold.task, talk.ended_by or "max_steps", gold=right)
    verdicts = {"semantic": float(all(gates.values())), "tau2": float(tau2.pop("reward") or 0.0)}
    success = verdicts[grade] == 1.0
    if grade == "tau2":
        asked = [COMPONENTS[basis] for basis in gold.task.reward_basis if basis in COMPONENTS]
        failed = [name for name in asked if tau2[name] == 0.0] or ["ended"]
    else:
        failed = [name for name, value in gates.items() if not value]
    components = {**verdicts, **semantic, **process, **{f"tau2_{name}": value for name, value in tau2.items()}}
    reasons = [] if success else [f"{grade}: {', '.join(failed)}"]
    if talk.ended_by == "agent_error":
        reasons.append("the agent answered with neither text nor a call")
    if verdicts["semantic"] != verdicts["tau2"] and not gold.process:
        reasons.append(_disagreement(components, state, right, gold, talk))
    return Outcome(success, verdicts[grade], components, "; ".join(reasons))


def _disagreement(
    components: Mapping[str, float | None], state: State, right: State, gold: Gold, talk: Conversation
) -> str:
    """Which grader passes the episode and which does not, and over what."""
    passes, fails = ("tau2", "semantic") if components["tau2"] else ("semantic", "tau2")
    over = []
    if components["tau2_db"] != components["database"]:
        over.append(database_words(state, right) if components["database"] else "the benchmark checks no database here")
    if components["tau2_communicate"] != components["told"]:
        needles = gold.task.communicate
        said = {needle: is_said(needle, talk.agent_texts) for needle in needles}
        over.append(told_words(needles, said, {needle: is_told(needle, talk.agent_texts) for needle in needles}))
    basis = f"the benchmark grades this task by {', '.join(gold.task.reward_basis) or 'nothing'}"
    return f"{passes} passes and {fails} fails: {'; '.join(over) or basis}"
