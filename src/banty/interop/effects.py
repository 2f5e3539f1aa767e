"""What the tools of a log may do. No log says it of all its tools, and nothing is guessed: the rest is `unknown`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from banty.errors import InputError
from banty.records import Effect, ToolSchema

_DECLARED: tuple[Effect, ...] = ("read", "write", "terminal")


def airline_effects() -> dict[str, Effect]:
    """The effects of tau2-bench's airline tools, from our own declarations of them."""
    from banty.envs.airline.tools import AirlineTools

    return {name: entry.schema.effect for name, entry in AirlineTools.tools.items()}


def read_effects(path: Path) -> dict[str, Effect]:
    """A JSON file of tool names and effects. Raises InputError for anything else."""
    found = read_json_file(path, "--effects")
    if not isinstance(found, dict) or not found:
        raise InputError(f'{path} is no file of effects; write {{"TOOL": "read", "OTHER": "write"}} as JSON')
    for name, effect in found.items():
        if effect not in _DECLARED:
            raise InputError(f"{path} gives {name!r} the effect {effect!r}; it is one of {', '.join(_DECLARED)}")
    return found


def read_json_file(path: Path, option: str) -> Any:
    """The JSON in a file that an option names, or that is simply there if `option` is empty."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{option} names {path}, which is not there" if option else f"{path} is not there") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{named(path, option)} cannot be read as JSON: {error}") from error


def named(path: Path, option: str) -> str:
    """A file as errors name it: after the option that it was given with, if any."""
    return f"{option} {path}" if option else str(path)


def with_known(tools: Sequence[ToolSchema], effects: Mapping[str, Effect]) -> tuple[ToolSchema, ...]:
    """The tools a log lists, and after them those it does not list but whose effect is known: bare, with a name and an
    effect, since what the agent was told of them is not in the log."""
    listed = {tool.name for tool in tools}
    return (*tools, *(ToolSchema(name, "", effect=effect) for name, effect in effects.items() if name not in listed))


def unknown_tools(called: Mapping[str, int], effects: Mapping[str, str]) -> list[str]:
    """Tools that were called and whose effect is not known, most often called first."""
    return sorted((name for name in called if name not in effects), key=lambda name: (-called[name], name))
