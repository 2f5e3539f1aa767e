"""A log of tau2-bench simulations graded again: every reward re-derived, and where it differs from the file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from banty.envs.airline.data import AirlineWorld
from banty.envs.airline.tau2tasks import Tau2Task, Tau2Tasks, read_tasks
from banty.errors import InputError, ReplayMismatch
from banty.interop.places import Place
from banty.interop.sources import find_source
from banty.interop.tau2 import environment_of, load_simulations
from banty.interop.tau2extras import RolloutExtras
from banty.interop.tau2grade import Tau2Reward, grade_tau2_trajectory
from banty.records import JSON

_OLD_ENDINGS = ("timeout", "agent_error", "user_error", "infrastructure_error", "unexpected_error")


@dataclass(frozen=True)
class Regraded:
    """A simulation and both verdicts on it. `found` is None where it could not be graded, and `fault` says why.

    `told` is the reward the file gives, None where it has none. `differs` says in words where the file's verdict and
    its checks differ from those re-derived; `replay` where a recorded write now answers otherwise, which the benchmark
    itself refuses to grade unless told to be lenient.
    """

    place: Place
    simulation_id: str
    task_id: str
    trial: int
    ended_by: str
    told: float | None
    found: Tau2Reward | None
    differs: tuple[str, ...] = ()
    replay: str = ""
    fault: str = ""

    def to_json(self) -> JSON:
        return {
            "file": str(self.place.file),
            "record": self.place.record,
            "id": self.simulation_id,
            "task_id": self.task_id,
            "trial": self.trial,
            "termination_reason": self.ended_by,
            "told": self.told,
            "reward_info": None if self.found is None else self.found.to_json(),
            "differs": list(self.differs),
            "replay": self.replay,
            "fault": self.fault,
        }


@dataclass(frozen=True)
class RegradeReport:
    """All simulations of a log, in its order. `tasks_sha256` is the task file's where one was given, and otherwise
    empty: the tasks were those that the log itself holds."""

    simulations: tuple[Regraded, ...]
    tasks_sha256: str
    world: str

    @property
    def disagreements(self) -> tuple[Regraded, ...]:
        """Where the file says something else."""
        return tuple(each for each in self.simulations if each.differs)

    @property
    def unconfirmed(self) -> tuple[Regraded, ...]:
        """Where the file has a verdict that is another one here, or that could not be derived."""
        return tuple(each for each in self.simulations if each.differs or (each.told is not None and each.fault))

    @property
    def graders_disagree(self) -> tuple[Regraded, ...]:
        """Where the benchmark's grader and the semantic one come to different verdicts."""
        return tuple(
            each for each in self.simulations if each.found is not None and each.found.reward != each.found.semantic
        )

    def to_json(self) -> JSON:
        graded = [each.found for each in self.simulations if each.found is not None]
        return {
            "format": "banty-tau2-grades-1",
            "world": self.world,
            "tasks_sha256": self.tasks_sha256,
            "num_simulations": len(self.simulations),
            "num_graded": len(graded),
            "num_differ": len(self.disagreements),
            "num_graders_disagree": len(self.graders_disagree),
            "mean_reward": sum(each.reward for each in graded) / len(graded) if graded else None,
            "mean_semantic": sum(each.semantic for each in graded) / len(graded) if graded else None,
            "endings": dict(Counter(each.ended_by for each in self.simulations)),
            "simulations": [each.to_json() for each in self.simulations],
        }


def regrade_tau2(log: Path, database: AirlineWorld, tasks: Tau2Tasks | None = None) -> RegradeReport:
    """Grade the simulations of a results file, or of a folder of them, with `tasks` or with the tasks the log holds.

    One that cannot be graded is reported with the reason, and the rest go on. Raises InputError for what is no log of
    tau2-bench's airline domain, for a damaged file, and where no tasks are known.
    """
    found: list[Regraded] = []
    given = {task.id: task for task in tasks.tasks} if tasks else {}
    for file in find_source(log, "tau2").files:
        data, simulations = load_simulations(file)
        domain = environment_of(Place(file).optional(data, "info", "object", {}), file)[0]
        if domain not in ("", "airline"):
            raise InputError(f"{file} holds simulations of the domain {domain!r}; only the airline's are graded here")
        known = given or _own_tasks(data, file)
        found += [_regraded(place, simulation, known, database) for place, simulation in simulations]
    if not found:
        raise InputError(f"{log} holds no simulations to grade")
    return RegradeReport(tuple(found), tasks.sha256 if tasks else "", database.tag)


def _own_tasks(data: Mapping[str, Any], file: Path) -> dict[str, Tau2Task]:
    listed = Place(file).optional(data, "tasks", "list", [])
    if not listed:
        raise InputError(f"{file} holds no tasks; name the task file its simulations are of with --tasks FILE")
    return {task.id: task for task in read_tasks(listed, str(file))}


def _regraded(
    place: Place, simulation: Mapping[str, Any], tasks: Mapping[str, Tau2Task], database: AirlineWorld
) -> Regraded:
    key, reason = str(simulation.get("task_id")), str(simulation.get("termination_reason"))
    info = place.optional(simulation, "reward_info", "object", {})
    told = place.part("reward_info").optional(info, "reward", "number")
    trial = int(place.optional(simulation, "trial", "whole number", 0))
    about = (place, str(simulation.get("id") or ""), key, trial, reason, None if told is None else float(told))
    replay = ""
    try:
        if key not in tasks:
            raise InputError(f"task {key!r} is not one of the {len(tasks)} that are known")
        ours = RolloutExtras.of(simulation, place)
        if ours and ours.world not in ("", database.tag):
            raise InputError(f"it was played on the database {ours.world}, and this is {database.tag}")
        messages = place.optional(simulation, "messages", "list")
        if messages is None:
            raise InputError("it has no messages (a voice simulation, or one that never began)")
        try:
            graded = grade_tau2_trajectory(messages, tasks[key], database, reason)
        except ReplayMismatch as mismatch:
            replay = str(mismatch)
            graded = grade_tau2_trajectory(messages, tasks[key], database, reason, strict=False)
    except InputError as wrong:
        return Regraded(*about, None, fault=str(wrong))
    return Regraded(*about, graded, tuple(_differences(info, graded, reason)) if info else (), replay)


def _differences(told: Mapping[str, Any], found: Tau2Reward, reason: str) -> Sequence[str]:
    """Where a file's `reward_info` and the re-derived one differ, the reward first."""
    words = []
    if told.get("reward") is not None and abs(float(told["reward"]) - found.reward) > 1e-6:
        old = reason in _OLD_ENDINGS and found.reward == 0.0
        hint = f" (ended by {reason}, which tau2-bench scores 0 since 1.0.0 only)" if old else ""
        words.append(f"reward: the file says {float(told['reward']):g}, re-derived {found.reward:g}{hint}")
    breakdown = told.get("reward_breakdown")
    for name, value in found.breakdown.items():
        said = breakdown.get(name) if isinstance(breakdown, Mapping) else None
        if isinstance(said, (int, float)) and abs(said - value) > 1e-6:
            words.append(f"{name}: the file says {said:g}, re-derived {value:g}")
    matched = told.get("db_check")
    said = matched.get("db_match") if isinstance(matched, Mapping) else None
    if isinstance(said, bool) and found.db_match is not None and said != found.db_match and "DB" not in found.breakdown:
        words.append(f"database: the file says {'equal' if said else 'different'}, re-derived the opposite")
    checks = told.get("communicate_checks")
    met = dict(found.communicate)
    for check in checks if isinstance(checks, list) else ():
        info, said = (check.get("info"), check.get("met")) if isinstance(check, Mapping) else (None, None)
        if isinstance(info, str) and isinstance(said, bool) and met.get(info, said) != said:
            words.append(f"{info!r}: the file says it was {'said' if said else 'not said'}, re-derived the opposite")
    return words
