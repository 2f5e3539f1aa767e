"""Task files of the airline domain: tau2-bench's, the verified fork's, and tau-bench v1's."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from banty.envs.airline import tau1tasks
from banty.envs.airline.data import airline_folder
from banty.envs.airline.writes import WRITE_TOOLS
from banty.errors import InputError
from banty.records import JSON, GoldenCall, ToolCall

DEFAULT_BASIS = ("DB", "COMMUNICATE")
SPLITS_FILE = "split_tasks.json"


@dataclass(frozen=True)
class Tau2Task:
    """One task. `actions` is one way to the database that is wanted, `communicate` what has to be said.

    `instructions` are the user's: an object of texts, or one text. `raw` is the task as the file has it.
    """

    id: str
    instructions: Mapping[str, JSON] | str
    actions: tuple[ToolCall, ...]
    communicate: tuple[str, ...]
    reward_basis: tuple[str, ...]
    raw: Mapping[str, JSON] = field(repr=False, compare=False)

    @property
    def criteria(self) -> Mapping[str, JSON]:
        return self.raw.get("evaluation_criteria") or {}

    @property
    def checks_database(self) -> bool:
        """False for a task with neither actions nor assertions, not even empty lists: any database will do."""
        return self.criteria.get("actions") is not None or self.criteria.get("env_assertions") is not None

    @property
    def writes(self) -> bool:
        """True when the wanted way changes the database; the other tasks can be passed by doing nothing."""
        return any(action.name in WRITE_TOOLS for action in self.actions)


@dataclass(frozen=True)
class Tau2Tasks:
    """The tasks of one file in its order. `sha256` is the file's: never compare figures across versions of it.

    `version` says whose form the file has.
    """

    tasks: tuple[Tau2Task, ...]
    splits: Mapping[str, tuple[str, ...]]
    sha256: str
    path: Path
    version: Literal["tau-bench v1", "tau2-bench"] = "tau2-bench"

    def task(self, task_id: str) -> Tau2Task:
        found = next((task for task in self.tasks if task.id == task_id), None)
        if found is None:
            raise InputError(f"{self.path} has no task {task_id!r}; it has {len(self.tasks)}: {_some(self.tasks)}")
        return found

    def split(self, name: str) -> tuple[Tau2Task, ...]:
        if name not in self.splits:
            raise InputError(f"no split {name!r} of {self.path}; there are {', '.join(self.splits)}")
        return tuple(self.task(task_id) for task_id in self.splits[name])

    def without(self, left_out: Collection[str]) -> Tau2Tasks:
        """The same without some tasks, by id."""
        splits = {name: tuple(key for key in ids if key not in left_out) for name, ids in self.splits.items()}
        kept = tuple(task for task in self.tasks if task.id not in left_out)
        return dataclasses.replace(self, tasks=kept, splits=splits)


def load_tasks(path: str | Path) -> Tau2Tasks:
    """The tasks of a file, or of the `tasks.json` of a folder that `airline_folder` understands.

    The file is JSON of tau2-bench or of v1, or a Python file of v1, which is parsed and not run. Splits are those of
    the `split_tasks.json` beside a file of tau2-bench, where there is one, and `base` is all. Keys that nothing here
    needs are ignored. Raises InputError for a damaged file, for tasks of another domain, and for tasks that need what
    the desk has not: an initial state, or actions of the user.
    """
    given = Path(path).expanduser()
    file = given if given.is_file() else airline_folder(given) / "tasks.json"
    if not file.is_file():
        raise InputError(f"no task file {file}")
    raw = file.read_bytes()
    listed = tau1tasks.read_python(_text(file, raw), str(file)) if file.suffix == ".py" else _json(file, raw)
    if not isinstance(listed, list) or not listed:
        raise InputError(f"{file} is not a task file: it holds {_kind(listed)} instead of a list of tasks")
    sha256 = hashlib.sha256(raw).hexdigest()
    if file.suffix == ".py" or tau1tasks.is_v1(listed):
        tasks = read_tasks(tau1tasks.as_tau2(listed, str(file)), str(file))
        return Tau2Tasks(tasks, {"base": tuple(task.id for task in tasks)}, sha256, file, "tau-bench v1")
    tasks = read_tasks(listed, str(file))
    return Tau2Tasks(tasks, _splits(file.parent / SPLITS_FILE, [task.id for task in tasks]), sha256, file)


def read_tasks(listed: Sequence[Any], where: str) -> tuple[Tau2Task, ...]:
    """Tasks from the objects of tau2-bench's form, such as a results file holds; `where` goes into errors."""
    tasks = tuple(_task(each, f"{where}, task {index}") for index, each in enumerate(listed))
    ids = [task.id for task in tasks]
    if len(set(ids)) < len(ids):
        raise InputError(f"{where} has two tasks of the id {next(each for each in ids if ids.count(each) > 1)!r}")
    return tasks


def _splits(file: Path, ids: list[str]) -> dict[str, tuple[str, ...]]:
    splits = {"base": tuple(ids)}
    if not file.is_file():
        return splits
    named = _json(file, file.read_bytes())
    if not isinstance(named, dict) or not all(isinstance(members, list) for members in named.values()):
        raise InputError(f"{file} is not a file of splits: it holds {_kind(named)} instead of lists of ids by name")
    for name, members in named.items():
        if strange := [str(each) for each in members if str(each) not in ids]:
            raise InputError(f"split {name!r} of {file} names tasks that the task file lacks: {', '.join(strange[:5])}")
        splits[name] = tuple(str(each) for each in members)
    return splits


def _task(raw: Any, where: str) -> Tau2Task:
    if not isinstance(raw, dict) or "id" not in raw:
        raise InputError(f"{where} is {_kind(raw)} without an id; is this a task file of tau2-bench?")
    where = f"{where} (id {raw['id']!r})"
    scenario = raw.get("user_scenario")
    instructions = scenario.get("instructions") if isinstance(scenario, dict) else None
    if not isinstance(instructions, (dict, str)):
        raise InputError(f"{where} has no user_scenario.instructions; is this a task file of tau2-bench?")
    domain = instructions.get("domain", "airline") if isinstance(instructions, dict) else "airline"
    if domain != "airline":
        raise InputError(f"{where} is of the domain {domain!r}; the desk is an airline's. Give the airline's task file")
    initial = raw.get("initial_state")
    if isinstance(initial, dict) and any(initial.values()):
        raise InputError(f"{where} starts from an initial_state, which the airline desk does not support")
    criteria = raw.get("evaluation_criteria")
    if criteria is None:
        # Without criteria the reference gives the full reward, which is the product over no basis at all.
        return Tau2Task(str(raw["id"]), instructions, (), (), (), raw)
    if not isinstance(criteria, dict):
        raise InputError(f"{where} has {_kind(criteria)} as evaluation_criteria instead of an object")
    actions = tuple(_action(each, where) for each in _list(criteria, "actions", where))
    communicate = _strings(criteria, "communicate_info", where)
    basis = _strings(criteria, "reward_basis", where) if criteria.get("reward_basis") is not None else DEFAULT_BASIS
    return Tau2Task(str(raw["id"]), instructions, actions, communicate, basis, raw)


def _action(raw: Any, where: str) -> ToolCall:
    if not isinstance(raw, dict) or not isinstance(raw.get("name"), str) or not isinstance(raw.get("arguments"), dict):
        raise InputError(f"{where} has an action without a name and an object of arguments")
    if raw.get("requestor", "assistant") != "assistant":
        raise InputError(f"{where} has an action of {raw['requestor']!r}; only the assistant has tools at this desk")
    key = str(raw.get("action_id", ""))
    if raw.get("compare_args") is None:
        return ToolCall(raw["name"], raw["arguments"], key)
    return GoldenCall(raw["name"], raw["arguments"], key, _strings(raw, "compare_args", where))


def _list(raw: Mapping[str, Any], key: str, where: str) -> list[Any]:
    value = raw.get(key)
    if value is not None and not isinstance(value, list):
        raise InputError(f"{where} has {_kind(value)} as {key} instead of a list")
    return value or []


def _strings(raw: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    values = _list(raw, key, where)
    if not all(isinstance(value, str) for value in values):
        raise InputError(f"{where} has something other than texts in {key}")
    return tuple(values)


def _text(file: Path, raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as wrong:
        raise InputError(f"{file} is not text in UTF-8 ({wrong}); fetch it again") from wrong


def _json(file: Path, raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as wrong:
        raise InputError(f"{file} is not whole JSON ({wrong}): it may be cut off, fetch it again") from wrong


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return f"an object of {', '.join(sorted(map(str, value))[:6]) or 'nothing'}"
    return f"a list of {len(value)}" if isinstance(value, list) else f"a {type(value).__name__}"


def _some(tasks: tuple[Tau2Task, ...]) -> str:
    return ", ".join(task.id for task in tasks[:8]) + (", ..." if len(tasks) > 8 else "")
