"""Environments by name: the built-in ones, and those that installed packages or `--allow-code` add."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from banty.envs.userfiles import import_file
from banty.errors import InputError
from banty.records import Taskset

GROUP = "banty.envs"


@dataclass(frozen=True)
class Entry:
    """Where an environment's taskset is made (`module:factory`), and the options that are part of its name."""

    summary: str
    factory: str
    options: Mapping[str, Any]


BUILT_IN: Mapping[str, Entry] = {
    "airline": Entry(
        "airline/mini, or with data=FOLDER airline/full over it",
        "banty.envs.airline.tasks:airline",
        {},
    ),
    "airline/mini": Entry(
        "airline desk, 7 tools, a small world per task; prompt under 300 tokens",
        "banty.envs.airline.tasks:GeneratedTasks",
        {"size": "mini"},
    ),
    "airline/full": Entry(
        "airline desk, 14 tools, generated tasks over a generated world or data=FOLDER",
        "banty.envs.airline.tasks:GeneratedTasks",
        {"size": "full"},
    ),
    "airline/tau2": Entry(
        "tau2-bench's own airline tasks; needs data=FOLDER or TAU2_DATA_DIR, and --user or customer=scripted",
        "banty.envs.airline.published:PublishedTasks",
        {},
    ),
}


def installed() -> Mapping[str, metadata.EntryPoint]:
    """Environments that installed packages offer under the entry-point group `banty.envs`."""
    return {point.name: point for point in metadata.entry_points(group=GROUP)}


def make_taskset(name: str, options: Mapping[str, Any] | None = None, allow_code: bool = False) -> Taskset:
    """The taskset registered as `name`, or made by the class or function in `file.py:NAME`.

    A file's code is run only with `allow_code`, once in a process. A file whose folder has an `__init__.py` is imported
    as part of that package, so that `from .tools import ...` works. Raises InputError for an unknown name, listing the
    known ones, for options the taskset does not take, and for a file that cannot be run, with the line.
    """
    given = dict(options or {})
    if place := _file_and_attribute(name):
        if not allow_code:
            raise InputError(f"{name} is Python code; add --allow-code to run it")
        return _make(name, _from_file(*place), given)
    if entry := BUILT_IN.get(name):
        clash = sorted(set(entry.options) & set(given))
        if clash:
            raise InputError(f"{name} has {clash[0]}={entry.options[clash[0]]} by name; it cannot be set again")
        return _make(name, _load(entry.factory), {**entry.options, **given})
    if point := installed().get(name):
        return _make(name, point.load(), given)
    known = ", ".join([*BUILT_IN, *installed()])
    raise InputError(f"no environment {name!r}; there are {known}. Your own: file.py:NAME with --allow-code")


def source_of(name: str) -> str:
    """`file.py:NAME` with its whole path, so that it is found from any folder; empty for another kind of name."""
    place = _file_and_attribute(name)
    return f"{Path(place[0]).resolve()}:{place[1]}" if place else ""


def taskset_of_recipe(folder: Path, recipe: Mapping[str, Any], allow_code: bool) -> Taskset:
    """The taskset that a run's or an evaluation's recipe names. Raises InputError where it names none that is known."""
    env: Any = recipe.get("source") or recipe.get("env")
    options: Any = recipe.get("options", {})
    if isinstance(env, dict):  # a training run names its environment in a block of its own
        env, options = env.get("name"), env.get("options", {})
    if not isinstance(env, str) or not isinstance(options, dict):
        raise InputError(f"the recipe in {folder} names no environment")
    return make_taskset(env, options, allow_code)


def _load(factory: str) -> Callable[..., Taskset]:
    module, _, attribute = factory.partition(":")
    made: Callable[..., Taskset] = getattr(importlib.import_module(module), attribute)
    return made


def _file_and_attribute(name: str) -> tuple[str, str] | None:
    """The two halves of `file.py:NAME`, or None for a name of another kind."""
    if name.endswith(".py"):
        return name, ""
    stem, found, attribute = name.rpartition(".py:")
    return (f"{stem}.py", attribute) if found else None


def _from_file(path: str, attribute: str) -> Callable[..., Taskset]:
    if not attribute:
        raise InputError(f"{path} names no taskset; write {path}:NAME, where NAME is a class or function in the file")
    if not Path(path).is_file():
        raise InputError(f"no file {path}")
    module = import_file(path)
    if not hasattr(module, attribute):
        tasksets = [key for key, value in vars(module).items() if _looks_like_taskset(value)]
        offered = f"; it has {', '.join(tasksets)}" if tasksets else ""
        raise InputError(f"{path} defines no {attribute}{offered}")
    made: Callable[..., Taskset] = getattr(module, attribute)
    if not callable(made):
        raise InputError(f"{path}:{attribute} is of type {type(made).__name__}; name a class or function")
    return made


_NEEDED = ("env", "splits", "task", "episode", "fingerprint")


def _looks_like_taskset(value: object) -> bool:
    return isinstance(value, type) and all(hasattr(value, name) for name in _NEEDED)


def _make(name: str, factory: Callable[..., Taskset], options: Mapping[str, Any]) -> Taskset:
    try:
        made = factory(**options)
    except TypeError as error:
        raise InputError(f"environment {name} cannot be made with {dict(options)}: {error}") from error
    missing = [needed for needed in _NEEDED if not hasattr(made, needed)]
    if missing:
        raise InputError(f"{name} makes a {type(made).__name__}, which is no taskset: it has no {', '.join(missing)}")
    return made
