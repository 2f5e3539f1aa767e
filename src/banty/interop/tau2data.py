"""A user's tau2-bench data, by one call: the airline's database, policy, tasks and splits, and what each file is."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from banty.envs.airline.data import AirlineWorld
from banty.envs.airline.published import PublishedTasks
from banty.envs.airline.tau2tasks import Tau2Tasks


@dataclass(frozen=True)
class Tau2Data:
    """The benchmark's airline as loaded. `taskset` plays its tasks on our desk; `files` gives each file's sha256."""

    taskset: PublishedTasks
    files: Mapping[str, str]

    @property
    def world(self) -> AirlineWorld:
        return self.taskset.world

    @property
    def tasks(self) -> Tau2Tasks:
        return self.taskset.published

    @property
    def policy(self) -> str:
        return self.taskset.policy_text


def load_tau2(data: str | Path, **options: Any) -> Tau2Data:
    """Database, policy, tasks and splits of a checkout of tau2-bench, its data folder, or a `db.json`.

    `options` are those of `airline/tau2`: `tasks` (a file of tau2-bench, its verified fork or v1), `policy`, `grade`,
    `instructions`, `customer`, `failing_gold`. Raises InputError for another domain's folder, a damaged file, and tasks
    whose golden writes fail on this database.
    """
    taskset = PublishedTasks(data=data, **options)
    return Tau2Data(taskset, {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in taskset.files})
