"""Environments by name: the built-in ones, and those that installed packages or `--allow-code` add."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

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
        "tau2-bench's own airline tasks; needs data=FOLDER and a --user",
        "banty.envs.airline.published:PublishedTasks",
        {},
    ),
}


def installed() -> Mapping[str, metadata.EntryPoint]:
    """Environments that installed packages offer under the entry-point group `banty.envs`."""
    return {point.name: point for point in metadata.entry_points(group=GROUP)}


def make_taskset(name: str, options: Mapping[str, Any] | None = None, allow_code: bool = False) -> Taskset:
    """The taskset registered as `name`, or made by the class or function in `file.py:NAME`.

    A file's code is run only with `allow_code`. Raises InputError for an unknown name, listing the known ones, and for
    options the taskset does not take.
    """
    given = dict(options or {})
    if ".py" in name:
        if not allow_code:
            raise InputError(f"{name} is Python code; add --allow-code to run it")
        return _make(name, _from_file(name), given)
    if entry := BUILT_IN.get(name):
        clash = sorted(set(entry.options) & set(given))
        if clash:
            raise InputError(f"{name} has {clash[0]}={entry.options[clash[0]]} by name; it cannot be set again")
        return _make(name, _load(entry.factory), {**entry.options, **given})
    if point := installed().get(name):
        return _make(name, point.load(), given)
    known = ", ".join([*BUILT_IN, *installed()])
    raise InputError(f"no environment {name!r}; there are {known}. Your own: file.py:NAME with --allow-code")


def _load(factory: str) -> Callable[..., Taskset]:
    module, _, attribute = factory.partition(":")
    made: Callable[..., Taskset] = getattr(importlib.import_module(module), attribute)
    return made


def _from_file(name: str) -> Callable[..., Taskset]:
    path, _, attribute = name.partition(":")
    file = Path(path)
    if not attribute:
        raise InputError(f"{name} names no taskset; write {path}:NAME, where NAME is a class or function in the file")
    if not file.is_file():
        raise InputError(f"no file {file}")
    module_name = f"banty_user_{file.stem}"
    spec = importlib.util.spec_from_file_location(module_name, file)
    assert spec is not None, "a .py file has a module spec"
    assert spec.loader is not None, "a .py file has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses and annotations look their module up by name
    spec.loader.exec_module(module)
    try:
        made: Callable[..., Taskset] = getattr(module, attribute)
    except AttributeError:
        raise InputError(f"{file} defines no {attribute}") from None
    return made


def _make(name: str, factory: Callable[..., Taskset], options: Mapping[str, Any]) -> Taskset:
    try:
        return factory(**options)
    except TypeError as error:
        raise InputError(f"environment {name} cannot be made with {dict(options)}: {error}") from error
