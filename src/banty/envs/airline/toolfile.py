"""The airline's tools in somebody else's words: a file of function schemas, such as the benchmark's own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from banty.envs.airline.tools import AirlineTools
from banty.errors import InputError
from banty.records import ToolSchema


def read_tools(place: str | Path) -> tuple[ToolSchema, ...]:
    """The tools in a JSON file, a list in the function form of chat endpoints, in its order, with our effects.

    Raises InputError for anything else, and unless it holds each of the airline's tools once, with its arguments.
    """
    file = Path(place).expanduser()
    try:
        listed = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"the tools {file} cannot be read as JSON: {error}") from None
    if not isinstance(listed, list):
        raise InputError(f'{file} is no list of tools, each {{"type": "function", "function": {{"name": ..., ...}}}}')
    found = [_tool(each, f"{file}, tool {number}") for number, each in enumerate(listed, 1)]
    names = [tool.name for tool in found]
    if sorted(names) != sorted(AirlineTools.tools):
        missing, twice = sorted(set(AirlineTools.tools) - set(names)), sorted({n for n in names if names.count(n) > 1})
        raise InputError(
            f"{file} has to hold each of the airline's tools once: missing {', '.join(missing) or 'none'}, twice "
            f"{', '.join(twice) or 'none'}"
        )
    return tuple(found)


def _tool(raw: Any, where: str) -> ToolSchema:
    function = raw.get("function") if isinstance(raw, Mapping) else None
    name = str(function.get("name")) if isinstance(function, Mapping) else ""
    if not isinstance(function, Mapping) or name not in AirlineTools.tools:
        raise InputError(
            f"{where} is none of the airline's tools ({name!r}); those are {', '.join(AirlineTools.tools)}"
        )
    ours, parameters = AirlineTools.tools[name].schema, function.get("parameters")
    if not isinstance(parameters, Mapping) or not isinstance(parameters.get("properties"), Mapping):
        raise InputError(f"{where}, {name}, has no parameters with properties")
    takes = list(ours.parameters["properties"])
    if sorted(parameters["properties"]) != sorted(takes):
        given = ", ".join(parameters["properties"]) or "nothing"
        raise InputError(f"{where}: {name} takes {', '.join(takes) or 'nothing'} here, and {given} there")
    return ToolSchema(name, str(function.get("description", "")), parameters, ours.effect)
