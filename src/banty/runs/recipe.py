"""Recipes: frozen dataclass trees from TOML, with dotted overrides. Unknown keys are errors."""

from __future__ import annotations

import dataclasses
import difflib
import json
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from banty.errors import InputError

Recipe = TypeVar("Recipe")


def load_recipe(kind: type[Recipe], path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in a TOML file, with `overrides` such as `train.steps=10` applied on top.

    Raises InputError naming the file, the key, what is allowed and the closest known key.
    """
    return from_mapping(kind, read_recipe(path, overrides), str(path))


def read_recipe(path: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The tables of a TOML file with `overrides` applied, not yet checked. Raises InputError naming the file."""
    file = Path(path)
    try:
        data = tomllib.loads(file.read_text())
    except FileNotFoundError:
        near = sorted(str(found) for found in file.parent.glob("*.toml")) if file.parent.is_dir() else []
        raise InputError(f"no recipe {file}{'; there are ' + ', '.join(near) if near else ''}") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{file} is not a readable TOML file: {error}") from error
    return with_overrides(data, overrides)


def with_overrides(data: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """`data` with each `dotted.key=value` set; values are read as TOML, and as plain text where they are not TOML."""
    result = _copied(data)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise InputError(f"override {override!r} is not KEY=VALUE, such as train.steps=10")
        table, last = _place(result, key.strip(), override)
        table[last] = toml_value(text.strip())
    return result


def with_values(data: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """`data` with each of `values` set, whose keys may be dotted. A table is merged key by key into the one that is
    there; anything else takes the place of what was."""
    result = _copied(data)
    for key, value in values.items():
        table, last = _place(result, key, key)
        if not isinstance(value, Mapping):
            table[last] = value
            continue
        inner = table.get(last, {})
        if not isinstance(inner, dict):
            raise InputError(f"{key} is set to a table, and what is there is the value {inner!r}")
        table[last] = with_values(inner, value)
    return result


def _place(data: dict[str, Any], key: str, override: str) -> tuple[dict[str, Any], str]:
    """The table that holds a dotted key, made if it is not there, and the key's last part."""
    *parents, last = key.split(".")
    for parent in parents:
        inner = data.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise InputError(f"override {override!r}: {parent} is a value, not a table")
        data = inner
    return data, last


def _copied(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copied(value) if isinstance(value, Mapping) else value for key, value in data.items()}


def toml_value(text: str) -> Any:
    """The value a person typed: read as TOML, or the text itself where it is none."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def from_mapping(kind: type[Recipe], data: Mapping[str, Any], where: str) -> Recipe:
    """A dataclass of `kind` with every key checked by name and type; nested dataclasses are nested tables."""
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in data:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise InputError(f"{where}: unknown key {key!r}{hint} Known are {', '.join(fields)}")
    missing = [
        name
        for name, field in fields.items()
        if name not in data and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise InputError(f"{where}: missing {', '.join(missing)}")
    values = {key: _converted(hints[key], value, f"{where}: {key}") for key, value in data.items()}
    return kind(**values)


def _converted(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, Mapping):
            raise InputError(f"{where} takes a table, got {value!r}")
        return from_mapping(hint, value, where)
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in typing.get_args(hint):
            return None
        choices = [choice for choice in typing.get_args(hint) if choice is not type(None)]
        return _converted(choices[0], value, where)
    if origin is typing.Literal:
        allowed = typing.get_args(hint)
        if value not in allowed:
            raise InputError(f"{where} is {value!r}; allowed are {', '.join(map(str, allowed))}")
        return value
    if origin in (dict, Mapping) or getattr(origin, "__name__", "") == "Mapping":
        if not isinstance(value, Mapping):
            raise InputError(f"{where} takes a table, got {value!r}")
        inner = typing.get_args(hint)[1] if typing.get_args(hint) else Any
        return {key: _converted(inner, item, f"{where}.{key}") for key, item in value.items()}
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise InputError(f"{where} takes a list, got {value!r}")
        inner = typing.get_args(hint)[0]
        return tuple(_converted(inner, item, where) for item in value)
    if hint is Any:
        return _plain(value, where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise InputError(f"{where} takes {_name(hint)}, got {value!r}")
    return value


def _plain(value: Any, where: str) -> Any:
    """The value, which has to be one that JSON can hold: the resolved recipe is written down."""
    try:
        json.dumps(value)
    except TypeError:
        raise InputError(f"{where} is the date or time {value}; put it in quotes to make it text") from None
    return value


def _name(hint: Any) -> str:
    return {int: "a whole number", float: "a number", str: "text", bool: "true or false"}.get(hint, str(hint))


def to_mapping(recipe: Any) -> dict[str, Any]:
    """The resolved recipe as plain data, defaults included."""
    return dataclasses.asdict(recipe)
