"""From what is typed to tasks that can be audited: an environment, a task file, a run, an evaluation, a card."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from banty.envs.airline.content import customers_in
from banty.envs.airline.data import airline_folder
from banty.envs.airline.matching import AIRLINE_MATCHING
from banty.envs.registry import make_taskset, taskset_of_recipe
from banty.envs.tasksets import check_place
from banty.errors import BantyError, InputError
from banty.evals.audit.taskfiles import SPLITS_FILE, does_more_than_read, read_task_file
from banty.evals.audit.tasks import AuditedTask, TaskSet
from banty.evals.card import FORMAT as CARD_FORMAT
from banty.evals.card import Card, read_card
from banty.evals.suite import audited_id, fingerprint_of
from banty.records import JSON, Message, Rollout, Task, TaskContent, Taskset
from banty.rollout import Store, stored_rollouts
from banty.runs import RunFolder

Watch = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Opening:
    """How one side is opened. `default_split` is what an environment named without a split stands for; `num_tasks`
    the first so many of it, or all, and of these `without` names those to leave out. `watch` is told how many of how
    many tasks are made."""

    default_split: str
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    num_tasks: int | None = None
    without: tuple[str, ...] = ()
    allow_code: bool = False
    watch: Watch | None = None


def open_tasks(spec: str, how: Opening) -> TaskSet:
    """The tasks that a person named.

    `ENV[:SPLIT]`, a task file `FILE.json[:SPLIT]` or `FILE.py`, a folder of tau2-bench data `FOLDER[:SPLIT]`, a
    training run (the tasks it trained on), an evaluation or its card. Raises InputError for anything else, and for
    tasks that cannot be made again here.
    """
    return _left_out(_opened(spec, how), how.without)


def _left_out(tasks: TaskSet, without: Sequence[str]) -> TaskSet:
    """The tasks but for these. Raises InputError for one that is not among them."""
    if not without:
        return tasks
    if strange := sorted(set(without) - {task.id for task in tasks.tasks}):
        raise InputError(f"{tasks.name} has no task {strange[0]!r}, which was to be left out")
    left = [task for task in tasks.tasks if task.id not in without]
    return dataclasses.replace(tasks, tasks=left, about={**tasks.about, "without": list(without)})


def _opened(spec: str, how: Opening) -> TaskSet:
    path, split = _path_of(spec)
    if path is None:
        return _of_environment(spec, how)
    if path.is_file() and path.suffix == ".json" and not split and _is_card(path):
        return _of_card(path, {}, how)
    if path.is_file():
        return _first(read_task_file(path, split), how)
    if (path / "recipe.json").is_file() or (path / "card.json").is_file() or _stores(path):
        if split:
            raise InputError(f"{spec}: the tasks of a run are those it was run on; leave out :{split}")
        return _of_folder(path, how)
    folder = airline_folder(path) if not (path / "tasks.json").is_file() else path
    named = split or (how.default_split if (folder / SPLITS_FILE).is_file() else "")
    return _first(read_task_file(folder / "tasks.json", named), how)


def tasks_of_split(
    taskset: Taskset,
    split: str,
    num_tasks: int | None,
    seed: int,
    *,
    about: Mapping[str, JSON] | None = None,
    watch: Watch | None = None,
) -> TaskSet:
    """The first `num_tasks` tasks of a split, or all."""
    check_place(taskset.env, taskset.splits, split)
    size = taskset.splits[split]
    wanted = size if num_tasks is None else min(num_tasks, size)
    pins = [Task(taskset.env, split, index, seed) for index in range(wanted)]
    known: dict[str, JSON] = {"kind": "environment", "env": taskset.env, "split": split, "seed": seed, "of": size}
    return TaskSet(
        f"{taskset.env} {split}",
        _made_again(taskset, pins, watch),
        {**known, "provenance": dict(taskset.provenance), **(about or {})},
        taskset.matching(),
        (_origin(taskset), split),
    )


def tasks_of_pins(taskset: Taskset, pins: Sequence[Task], name: str, about: Mapping[str, JSON]) -> TaskSet:
    """These tasks of a taskset, made again."""
    splits = {pin.split for pin in pins}
    split = next(iter(splits)) if len(splits) == 1 else None
    known = {"env": taskset.env, "split": split, "provenance": dict(taskset.provenance)}
    return TaskSet(
        name,
        _made_again(taskset, pins, None),
        {**known, **about},
        taskset.matching(),
        (_origin(taskset), split) if split else None,
    )


def tasks_of_rollouts(rollouts: Iterable[Rollout], name: str, about: Mapping[str, JSON]) -> TaskSet:
    """Tasks as stored conversations show them, for what cannot be made again."""
    transcripts: dict[str, list[Message]] = {}
    for rollout in rollouts:
        if rollout.depth == 0:
            transcripts.setdefault(rollout.task.id, []).extend(rollout.transcript)
    tasks = [spoken_task(key, messages, key) for key, messages in transcripts.items()]
    return TaskSet(name, tasks, {**about, "text": "what users said in stored rollouts"}, AIRLINE_MATCHING)


def spoken_task(name: str, messages: Sequence[Message], pin: str = "") -> AuditedTask:
    """A task as a conversation shows it: what the user said, the customers that calls name, the calls that may have
    changed something. Where there is none of these, nobody knows what the task was."""
    said = "\n".join(message.content for message in messages if message.role == "user")
    calls = [call for message in messages if message.role == "assistant" for call in message.calls]
    writes = tuple(call for call in calls if does_more_than_read(call))
    content = TaskContent(customers=customers_in(said, calls) or None, text=said, writes=writes or None)
    return AuditedTask(name, content, pin, spoken=True)


def together(parts: Sequence[TaskSet], about: Mapping[str, JSON]) -> TaskSet:
    """Several sets as one. They are of one split if all of them are, of the same."""
    if len(parts) == 1:
        only = parts[0]
        return TaskSet(only.name, only.tasks, {**only.about, **about}, only.matching, only.split)
    splits = {part.split for part in parts}
    return TaskSet(
        ", ".join(part.name for part in parts),
        [task for part in parts for task in part.tasks],
        {**about, "parts": [part.to_json() for part in parts]},
        {tool: rules for part in parts for tool, rules in part.matching.items()},
        splits.pop() if len(splits) == 1 else None,
    )


def _path_of(spec: str) -> tuple[Path | None, str]:
    """The file or folder that is named, and the split behind a colon; None for something else."""
    whole = Path(spec).expanduser()
    if whole.exists():
        return whole, ""
    stem, colon, split = spec.rpartition(":")
    before = Path(stem).expanduser()
    if colon and before.exists() and before.suffix != ".py":
        return before, split
    looks_like_path = spec.startswith((".", "/", "~")) or whole.suffix in (".json", ".py", ".toml")
    if looks_like_path and ".py:" not in spec:
        raise InputError(f"there is no {spec}; name a task file, a folder of tau2-bench data, a run, or ENV:SPLIT")
    return None, ""


def _of_environment(spec: str, how: Opening) -> TaskSet:
    head, python, tail = spec.rpartition(".py:")
    name, _, split = (tail if python else spec).partition(":")
    name = f"{head}{python}{name}" if python else name
    try:
        taskset = make_taskset(name, how.options, how.allow_code)
    except InputError as error:
        if str(error).startswith("no environment"):
            raise InputError(
                f"{error}. {spec!r} is no file or folder either: name ENV:SPLIT, a task file, a run or a card"
            ) from error
        raise
    split = split or how.default_split
    check_place(taskset.env, taskset.splits, split)
    if how.num_tasks is not None and not 1 <= how.num_tasks <= taskset.splits[split]:
        size = taskset.splits[split]
        raise InputError(f"{taskset.env} {split} has {size} tasks; {how.num_tasks} were asked for")
    made = tasks_of_split(
        taskset, split, how.num_tasks, how.seed, about={"options": dict(how.options)}, watch=how.watch
    )
    if how.default_split == "train":
        return made
    sha256 = fingerprint_of(taskset, split, how.num_tasks, how.seed, how.without)
    return TaskSet(made.name, made.tasks, {**made.about, "tasks_sha256": sha256}, made.matching, made.split)


def _of_folder(folder: Path, how: Opening) -> TaskSet:
    recipe: Mapping[str, Any] = {}
    if (folder / "recipe.json").is_file():
        recipe = RunFolder.open(folder).read_json("recipe.json")
    if (folder / "card.json").is_file():
        return _of_card(folder, recipe, how)
    if how.default_split != "train" and (folder / "eval-after" / "card.json").is_file():
        return _of_folder(folder / "eval-after", how)
    if recipe.get("kind") == "sft":
        raise InputError(
            f"{folder} imitated conversations; name what it imitated, "
            f"{_imitated(recipe)}, or the run whose rollouts they are"
        )
    return tasks_of_store(folder, recipe, how.allow_code)


def tasks_of_store(folder: Path, recipe: Mapping[str, Any], allow_code: bool) -> TaskSet:
    """The tasks of the rollouts stored below a folder: made again where its recipe names their environment, else as
    the conversations show them."""
    name = f"the run {folder.resolve().name}"
    about: dict[str, JSON] = {"kind": "run", "folder": str(folder.resolve())}
    places = _stores(folder)
    if not places:
        raise InputError(f"{folder} holds no rollouts, so there is no telling what it was trained on; name ENV:SPLIT")
    pins = Store(places[0]).tasks()
    try:
        taskset = taskset_of_recipe(folder, recipe, allow_code)
    except InputError as error:
        return tasks_of_rollouts(stored_rollouts(folder), name, {**about, "not_made_again": str(error)})
    if {pin.env for pin in pins} != {taskset.env}:
        why = f"its rollouts are of {', '.join(sorted({pin.env for pin in pins}))}, not of {taskset.env}"
        return tasks_of_rollouts(stored_rollouts(folder), name, {**about, "not_made_again": why})
    return tasks_of_pins(taskset, pins, name, about)


def _of_card(place: Path, recipe: Mapping[str, Any], how: Opening) -> TaskSet:
    """The tasks of an evaluation, which have to be the very ones its card was made on."""
    card = read_card(place)
    identity = card.data["identity"]
    if recipe:
        taskset = taskset_of_recipe(place, recipe, how.allow_code)
    else:
        taskset = make_taskset(str(identity["env"]), how.options, how.allow_code)
    return tasks_of_card(card, taskset, {"kind": "evaluation", "card": str(place.resolve())})


def tasks_of_card(card: Card, taskset: Taskset, about: Mapping[str, JSON]) -> TaskSet:
    """A card's tasks, made again by the taskset it was measured with. Raises InputError where they come out others."""
    identity = card.data["identity"]
    split, num_tasks, seed = identity["split"], identity.get("num_tasks"), identity["seed"]
    without = tuple(identity.get("without") or ())
    found = fingerprint_of(taskset, split, num_tasks, seed, without)
    if found != identity["tasks_sha256"]:
        raise InputError(
            f"the tasks of {card.title} cannot be made again: their sha256 comes out as {found[:12]} instead of "
            f"{str(identity['tasks_sha256'])[:12]}. Give the options it was measured with, with -o, or the folder of "
            "the evaluation"
        )
    return _left_out(tasks_of_split(taskset, split, num_tasks, seed, about={**about, "tasks_sha256": found}), without)


def _made_again(taskset: Taskset, pins: Sequence[Task], watch: Watch | None) -> tuple[AuditedTask, ...]:
    tasks = []
    for place, pin in enumerate(pins):
        task = taskset.task(pin.split, pin.index, pin.seed)
        tasks.append(AuditedTask(audited_id(task), _content(taskset, task), task.id))
        if watch is not None:
            watch(place + 1, len(pins))
    return tuple(tasks)


def _origin(taskset: Taskset) -> str:
    """The environment, told apart by its task file where it has one."""
    file = taskset.provenance.get("tasks_sha256")
    return f"{taskset.env} ({file[:12]})" if isinstance(file, str) else taskset.env


def _content(taskset: Taskset, task: Task) -> TaskContent:
    try:
        return taskset.content(task)
    except BantyError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{taskset.env} cannot say what its task {task.id} holds ({type(error).__name__}: {error}); its content() "
            "has to give a TaskContent"
        ) from error


def _first(tasks: TaskSet, how: Opening) -> TaskSet:
    if how.num_tasks is None:
        return tasks
    return TaskSet(tasks.name, tasks.tasks[: how.num_tasks], tasks.about, tasks.matching, tasks.split)


def _stores(folder: Path) -> list[Path]:
    """Where a folder keeps rollouts: beneath it, or in itself."""
    return [
        place
        for place in (folder / "rollouts", folder)
        if any((place / part / "rollouts.parquet").is_file() for part in Store(place).parts())
    ]


def _imitated(recipe: Mapping[str, Any]) -> str:
    data = recipe.get("data")
    found = [*data.get("rollouts", ()), *data.get("traces", ())] if isinstance(data, dict) else []
    return ", ".join(map(str, found)) or "which its recipe does not say"


def _is_card(path: Path) -> bool:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and found.get("format") == CARD_FORMAT
