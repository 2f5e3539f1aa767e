"""The tools on offer, as a parser needs them: does a call fit, and if not, what exactly should the policy change?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from banty.chat.block import Block
from banty.chat.coerce import coerce
from banty.chat.validate import check, quick_check, resolve
from banty.chat.wording import clipped, listed, nearest
from banty.errors import InputError
from banty.records.messages import JSON, CallFault, FaultKind, ToolCall, ToolSchema

Check = Literal["names", "schema"]
"""`names`: only the tool and its parameters' names are checked. `schema`: every value too."""

_MOST_PROBLEMS = 5
_MOST_KEPT = 1024


class Given(NamedTuple):
    """One argument as written; positions are characters of the block's body."""

    name: str
    value: JSON
    name_position: int
    position: int


@dataclass(frozen=True, slots=True)
class _Parameters:
    properties: Mapping[str, JSON]
    required: Sequence[str]
    others: JSON  # the schema of parameters that are not listed; False refuses them
    across: Mapping[str, JSON]  # keywords about several parameters at once
    root: JSON
    quick: Mapping[str, Callable[[JSON], bool]]  # what a value of each parameter passes only if nothing is wrong

    def schema(self, name: str) -> JSON:
        return self.properties.get(name, self.others)


class _Problem(NamedTuple):
    kind: FaultKind
    position: int
    text: str


class Toolbox:
    """Settles calls against tool schemas. Unlisted parameters are refused unless a schema says otherwise."""

    def __init__(self, tools: Iterable[ToolSchema], check: Check) -> None:
        if check not in ("names", "schema"):
            raise InputError(f"check must be 'names' or 'schema', got {check!r}")
        self._tools: dict[str, ToolSchema] = {}
        for tool in tools:
            if tool.name in self._tools:
                raise InputError(f"Two tools are named {tool.name!r}; give each its own name")
            self._tools[tool.name] = tool
        self._check = check

    def accept(self, name: str, arguments: Mapping[str, JSON]) -> ToolCall | None:
        """The call that `settle` would make of typed arguments, at a fraction of its cost; None: ask `settle`."""
        if name not in self._tools:
            return None
        parameters = _parameters_of(self._tools[name])
        if parameters.across or not all(each in arguments for each in parameters.required):
            return None
        for each, value in arguments.items():
            if each not in parameters.quick or (self._check == "schema" and not parameters.quick[each](value)):
                return None
        return ToolCall(name, arguments)

    def settle(
        self, block: Block, name: str, name_position: int, given: Sequence[Given], *, as_text: bool = False
    ) -> ToolCall | CallFault:
        """The call, or one fault that lists everything wrong with it. With `as_text` each value is its wire text."""
        if name not in self._tools:
            return block.fault("unknown_tool", name_position, self._not_found(name), name)
        parameters = _parameters_of(self._tools[name])
        problems = list(self._wrong_names(name_position, parameters, given))
        arguments: dict[str, JSON] = {}
        for each in given:
            schema = parameters.schema(each.name)
            if schema is False:
                continue
            arguments[each.name], wrong = self._value(each, schema, parameters.root, as_text)
            problems += [_Problem("bad_value", each.position, text) for text in wrong]
        if not problems and self._check == "schema" and parameters.across:
            wrong = check(arguments, parameters.across, root=parameters.root)
            problems += [_Problem("bad_value", name_position, text) for text in wrong]
        if not problems:
            return ToolCall(name, arguments)
        first = problems[0]
        return block.fault(first.kind, first.position, self._refusal(name, parameters, problems), name)

    def _value(self, given: Given, schema: JSON, root: JSON, as_text: bool) -> tuple[JSON, list[str]]:
        if as_text:
            return coerce(given.value, schema, path=given.name, root=root, types_only=self._check == "names")
        if self._check == "names":
            return given.value, []
        return given.value, check(given.value, schema, path=given.name, root=root)

    def _wrong_names(self, position: int, parameters: _Parameters, given: Sequence[Given]) -> Iterable[_Problem]:
        for each in given:
            if parameters.schema(each.name) is False:
                close = nearest(each.name, parameters.properties)
                text = f"unknown parameter '{clipped(each.name)}'" + (f" (did you mean {close}?)" if close else "")
                yield _Problem("unknown_parameter", each.name_position, text)
        names = {each.name for each in given}
        for name in parameters.required:
            if name not in names:
                yield _Problem("missing_parameter", position, f"missing parameter '{name}'")

    def _not_found(self, name: str) -> str:
        if not self._tools:
            return f"Tool '{clipped(name)}' not found. No tools are available; answer in plain text."
        close = nearest(name, self._tools)
        hint = f" Did you mean {close}?" if close else ""
        return f"Tool '{clipped(name)}' not found. Available tools: {listed(self._tools)}.{hint}"

    def _refusal(self, tool: str, parameters: _Parameters, problems: Sequence[_Problem]) -> str:
        told = "; ".join(problem.text for problem in problems[:_MOST_PROBLEMS])
        if len(problems) > _MOST_PROBLEMS:
            told += f"; and {len(problems) - _MOST_PROBLEMS} more"
        message = f"Call to '{tool}' not executed: {told}."
        if any(problem.kind != "bad_value" for problem in problems):
            message += f" {_usage(tool, parameters)}"
        return f"{message} Correct it and call again."


_KEPT: dict[int, tuple[ToolSchema, _Parameters]] = {}


def _parameters_of(tool: ToolSchema) -> _Parameters:
    """What a schema says of its parameters, read once: a toolbox lives for one message, a tool for many episodes.

    Kept by identity, since equal schemas may list their parameters in another order, and so in other words.
    """
    kept = _KEPT.get(id(tool))
    if kept is None:
        if len(_KEPT) >= _MOST_KEPT:
            _KEPT.clear()
        kept = _KEPT[id(tool)] = (tool, _read_parameters(tool.parameters))  # the tool too, so that its id stays its own
    return kept[1]


def _read_parameters(root: JSON) -> _Parameters:
    top = _followed(root, root)
    properties: dict[str, JSON] = dict(top.get("properties", {}))
    required = list(top.get("required", ()))
    across = {keyword: top[keyword] for keyword in ("allOf", "anyOf", "oneOf") if keyword in top}
    for keyword, branches in across.items():
        for branch in branches:
            inner = _followed(branch, root)
            for name, schema in inner.get("properties", {}).items():
                properties[name] = {"anyOf": [properties[name], schema]} if name in properties else schema
            if keyword == "allOf":
                required += [name for name in inner.get("required", ()) if name not in required]
    quick = {name: quick_check(schema, root) for name, schema in properties.items() if schema is not False}
    return _Parameters(properties, required, top.get("additionalProperties", False), across, root, quick)


def _followed(schema: JSON, root: JSON) -> Mapping[str, JSON]:
    """The schema behind a chain of references; empty where there is none."""
    for _ in range(8):
        if not isinstance(schema, Mapping):
            return {}
        if "$ref" not in schema:
            return schema
        schema = resolve(root, schema["$ref"])
    return {}


def _usage(tool: str, parameters: _Parameters) -> str:
    optional = [name for name in parameters.properties if name not in parameters.required]
    required = listed(parameters.required) if parameters.required else "none required"
    if not parameters.properties:
        return f"'{tool}' takes no parameters."
    return f"Parameters of '{tool}': {required}{'; optional: ' + listed(optional) if optional else ''}."
