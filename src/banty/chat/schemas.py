"""A tool's schema and its argument checker, both from the Python function that is the tool."""

from __future__ import annotations

import functools
import inspect
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import takewhile
from types import SimpleNamespace
from typing import Any, NamedTuple, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, PydanticUserError, ValidationError, create_model
from pydantic.json_schema import GenerateJsonSchema

from banty.chat.validate import check
from banty.chat.wording import at, child, listed, show
from banty.errors import InputError, ToolError
from banty.records.messages import JSON, Effect, ToolSchema

NOT_FROM_THE_POLICY = ("self", "host")
"""Parameters that the environment fills in."""

_ARGS_HEADER = re.compile(r"(Args|Arguments|Parameters):\s*(.*)")
_ARG = re.compile(r"(\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)")
_ANY_INDENT = 1000


def schema_of(
    function: Callable[..., Any],
    *,
    name: str | None = None,
    effect: Effect = "read",
    skip: Iterable[str] = NOT_FROM_THE_POLICY,
) -> ToolSchema:
    """What a policy is told of a function: its name, the docstring's first paragraph, a schema of its parameters.

    Lines under `Args:` (`title: Exact title.`) become the parameters' descriptions. Anything pydantic knows may be
    annotated: TypedDict (from `typing_extensions` on Python 3.11), dataclasses, `Literal`, `X | None`, lists, dates.
    `InputError` for a parameter without annotation, `*args`, `**kwargs`, a type without a JSON form, and an `Args:`
    line about a parameter that does not exist.
    """
    described = _describe(function, tuple(skip))
    return ToolSchema(name or _name_of(function), described.text, described.schema, effect)


def argument_checker(
    function: Callable[..., Any], *, skip: Iterable[str] = NOT_FROM_THE_POLICY
) -> Callable[[Mapping[str, JSON]], dict[str, Any]]:
    """A function from JSON arguments to the typed values `function` is annotated with, for `function(**values)`.

    Strict: "3" is no integer, 3.0 is none either, keys that nobody asked for are refused (a pydantic model in the
    signature decides for itself). Arguments left out are left out of the result too. Raises `ToolError` with one line
    that names each problem: where, what was expected, what came.
    """
    described = _describe(function, tuple(skip))
    model, fields, schema = described.model, described.fields, described.schema

    def checked(arguments: Mapping[str, JSON]) -> dict[str, Any]:
        try:
            text = json.dumps(dict(arguments), allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise ToolError(f"Wrong arguments: they are not JSON ({error})") from None
        # The schema comes first: strict pydantic still reads the date "0" as 1970 and drops duplicates from a set.
        problems = check(dict(arguments), schema)
        try:
            values = model.model_validate_json(text, strict=True)
        except ValidationError as error:
            problems += _further_problems(error, problems)
        if problems:
            raise ToolError(f"Wrong arguments: {'; '.join(problems)}")
        return {fields[field]: getattr(values, field) for field in fields if field in values.model_fields_set}

    return checked


class _Described(NamedTuple):
    text: str
    schema: dict[str, JSON]
    model: type[BaseModel]
    fields: Mapping[str, str]  # the model's field names, which never clash with pydantic's own, to the parameters'


class _QuietSchema(GenerateJsonSchema):
    """A default that JSON cannot say is left out of the schema; it is still the function's default."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012


def _describe(function: Callable[..., Any], skip: tuple[str, ...]) -> _Described:
    name = _name_of(function)
    parameters = [each for each in inspect.signature(function).parameters.values() if each.name not in skip]
    for parameter in parameters:
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise InputError(f"Tool '{name}' takes {parameter}; a tool's parameters need names of their own")
        if parameter.annotation is parameter.empty:
            raise InputError(f"Parameter '{parameter.name}' of tool '{name}' has no type; annotate it")
    annotations = _annotations(function, parameters)
    text, notes = _read_docstring(function, [each.name for each in parameters], skip)
    fields: dict[str, Any] = {}
    for index, parameter in enumerate(parameters):
        more: dict[str, Any] = {"description": notes[parameter.name]} if parameter.name in notes else {}
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[f"p{index}"] = (annotations[parameter.name], Field(default, alias=parameter.name, **more))
    try:
        model: type[BaseModel] = create_model(
            name, __config__=ConfigDict(extra="forbid", allow_inf_nan=False), **fields
        )
        generated = _without_titles(model.model_json_schema(schema_generator=_QuietSchema))
    except PydanticUserError as error:
        raise InputError(f"Tool '{name}' has a type without a schema: {str(error).splitlines()[0]}") from None
    schema = {"type": "object", "properties": {}, **generated}
    return _Described(text, schema, model, {f"p{index}": each.name for index, each in enumerate(parameters)})


def _name_of(function: Callable[..., Any]) -> str:
    if isinstance(function, functools.partial):
        function = function.func
    return str(getattr(function, "__name__", type(function).__name__))


def _annotations(function: Callable[..., Any], parameters: list[inspect.Parameter]) -> dict[str, Any]:
    """Types of these parameters only: what a function returns may be a name that exists for type checkers alone."""
    inner = inspect.unwrap(function.func if isinstance(function, functools.partial) else function)
    own = SimpleNamespace(__annotations__={each.name: each.annotation for each in parameters})
    try:
        return get_type_hints(own, globalns=getattr(inner, "__globals__", {}), include_extras=True)
    except NameError as error:
        raise InputError(f"Tool '{_name_of(function)}' has a type that cannot be found: {error}") from None


def _read_docstring(
    function: Callable[..., Any], names: list[str], skip: tuple[str, ...]
) -> tuple[str, dict[str, str]]:
    """The first paragraph, and what the lines under `Args:` say of each parameter."""
    lines = (inspect.getdoc(function) or "").splitlines()
    header = next((index for index, line in enumerate(lines) if _ARGS_HEADER.fullmatch(line)), len(lines))
    paragraph = " ".join(line.strip() for line in takewhile(str.strip, lines[:header]))
    notes: dict[str, str] = {}
    indent, current = _ANY_INDENT, ""
    for depth, line in _lines_of_args(lines[header:]):
        found = _ARG.fullmatch(line) if depth <= indent else None
        if found:
            indent, current = depth, found.group(1)
            if current not in names and current not in skip:
                told = f"describes '{current}', which is not a parameter; parameters: {listed(names)}"
                raise InputError(f"The docstring of tool '{_name_of(function)}' {told}")
            notes[current] = found.group(2)
        elif current:
            notes[current] = f"{notes[current]} {line}"
    return paragraph, notes


def _lines_of_args(lines: list[str]) -> Iterator[tuple[int, str]]:
    """Indentation and text of the lines from `Args:` up to a blank line or the next section."""
    for index, line in enumerate(lines):
        header = _ARGS_HEADER.fullmatch(line) if index == 0 else None
        text = header.group(2) if header else line.strip()
        if index > 0 and (not text or re.fullmatch(r"[A-Z]\w+:", line)):
            return
        if text:
            yield (_ANY_INDENT if header else len(line) - len(line.lstrip())), text


def _without_titles(schema: JSON) -> JSON:
    """A schema without pydantic's titles; a property that happens to be called `title` stays."""
    if isinstance(schema, list):
        return [_without_titles(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    kept: dict[str, JSON] = {}
    for key, value in schema.items():
        if key in ("properties", "$defs"):
            kept[key] = {name: _without_titles(member) for name, member in value.items()}
        elif key in ("default", "enum", "const", "examples"):
            kept[key] = value
        elif key != "title":
            kept[key] = _without_titles(value)
    return kept


def _further_problems(error: ValidationError, problems: list[str]) -> list[str]:
    """Pydantic's complaints about arguments that the schema has none about."""
    told = {re.split(r"[.:\[]", problem, maxsplit=1)[0] for problem in problems}
    further = []
    for each in error.errors(include_url=False, include_context=False):
        if not each["loc"] or str(each["loc"][0]) not in told:
            path = functools.reduce(child, each["loc"], "")
            further.append(at(path, f"{each['msg'][0].lower()}{each['msg'][1:]}, got {show(each['input'])}"))
    return further
