"""Does a typed value satisfy a JSON Schema? The part of JSON Schema that tools use, with precise complaints.

Nothing is repaired here: 3.0 is not an integer, true is not a number, "3" is not 3. A schema that cannot be followed
(a reference to nowhere, a broken pattern) is itself a complaint about the value, so a faulty schema never lets one
through; `banty.chat.lint.lint_schema` finds such schemas beforehand.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime

from banty.chat.wording import TYPES, alternatives, at, child, listed, nearest, show
from banty.records.messages import JSON

FORMATS = ("date", "date-time")

_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?([Zz]|[+-]\d\d:\d\d)?")


def check(value: JSON, schema: JSON, *, path: str = "", root: JSON = None) -> list[str]:
    """What is wrong with a value, one line each, such as `flights[1].date: expected string, got 7`; empty if nothing.

    `root` is the schema that `$ref` is looked up in, where it is not `schema` itself; `path` names the value.
    """
    return _check(value, schema, path, schema if root is None else root, frozenset())


def quick_check(schema: JSON, root: JSON) -> Callable[[JSON], bool]:
    """A test made once from a schema: a value it passes is one that `check` has nothing to say about.

    It knows the keywords that tools mostly consist of, and passes nothing where there are others: ask `check` then.
    """
    return _quick(schema, root, _REFERENCES_FOLLOWED)


def allowed_types(schema: JSON, root: JSON) -> frozenset[str]:
    """The JSON types a schema leaves room for, by name; constraints within a type are not looked at."""
    return _allowed(schema, root, frozenset())


def type_of(value: JSON) -> str:
    """The narrowest JSON type of a value: 3 is `integer`, 3.0 is `number`; `other` for what JSON cannot say."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    for kind, name in ((str, "string"), (int, "integer"), (float, "number"), (Mapping, "object"), (list, "array")):
        if isinstance(value, kind):
            return name
    return "other"


def admits(types: Iterable[str], value: JSON) -> bool:
    kind = type_of(value)
    return kind in types or (kind == "integer" and "number" in types)


def resolve(root: JSON, ref: JSON) -> JSON:
    """The schema a local reference such as `#/$defs/Flight` points at, or None."""
    if not isinstance(ref, str) or not ref.startswith("#"):
        return None
    found = root
    for part in ref[1:].split("/")[1:]:
        part = part.replace("~1", "/").replace("~0", "~")
        if not isinstance(found, Mapping) or part not in found:
            return None
        found = found[part]
    return found


_ANNOTATIONS = frozenset({"title", "description", "default", "examples"})
_OF_OBJECTS = frozenset({"type", "properties", "required", "additionalProperties"})
_REFERENCES_FOLLOWED = 3  # one inside the other; a schema may refer to itself
_EXACT = {"string": str, "integer": int, "boolean": bool}


def _quick(schema: JSON, root: JSON, refs_left: int) -> Callable[[JSON], bool]:
    if not isinstance(schema, Mapping):
        return _undecided
    keywords = schema.keys() - _ANNOTATIONS
    match {"required": [], **schema}:
        case {"$ref": ref} if len(keywords) == 1 and refs_left:
            return _quick(resolve(root, ref), root, refs_left - 1)
        case {"type": "string" | "integer" | "boolean" as kind} if len(keywords) == 1:
            exact = _EXACT[kind]
            return lambda value: type(value) is exact
        case {"type": "string", "enum": list(choices)} if len(keywords) == 2:
            return lambda value: type(value) is str and value in choices
        case {"type": "array", "items": items} if len(keywords) == 2:
            fits = _quick(items, root, refs_left)
            return lambda value: type(value) is list and all(map(fits, value))
        case {"type": "object", "properties": dict(properties), "required": list(required)} if keywords <= _OF_OBJECTS:
            members = {key: _quick(each, root, refs_left) for key, each in properties.items()}
            return lambda value: (
                type(value) is dict
                and all(key in value for key in required)
                and all(key in members and members[key](member) for key, member in value.items())
            )
    return _undecided


def _undecided(value: JSON) -> bool:
    return False


def _check(value: JSON, schema: JSON, path: str, root: JSON, refs: frozenset[str]) -> list[str]:
    """`refs` are the references already followed for this very value, so a schema that chases its tail is caught."""
    if schema is True:
        return []
    if schema is False:
        return [at(path, f"not allowed, got {show(value)}")]
    if not isinstance(schema, Mapping):
        return [at(path, f"cannot be checked: the schema is {show(schema)}")]
    if value is None and schema.get("nullable") is True:
        return []
    problems = _check_ref(value, schema, path, root, refs) if "$ref" in schema else []
    declared = _declared(schema)
    if declared is not None and not admits(declared, value):
        return [*problems, at(path, f"expected {alternatives(declared)}, got {show(value)}{_hint(value, declared)}")]
    problems += _check_choice(value, schema, path)
    for branch in schema.get("allOf", ()):
        problems += _check(value, branch, path, root, refs)
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema:
            problems += _check_branches(value, keyword, schema[keyword], path, root, refs)
    if isinstance(value, str):
        problems += _check_string(value, schema, path)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        problems += _check_number(value, schema, path)
    elif isinstance(value, list):
        problems += _check_array(value, schema, path, root)
    elif isinstance(value, Mapping):
        problems += _check_object(value, schema, path, root)
    return problems


def _check_ref(value: JSON, schema: Mapping[str, JSON], path: str, root: JSON, refs: frozenset[str]) -> list[str]:
    ref = schema["$ref"]
    target = resolve(root, ref)
    if target is None:
        return [at(path, f"cannot be checked: the schema refers to {show(ref)}, which does not exist")]
    if ref in refs:
        return [at(path, f"cannot be checked: the schema {show(ref)} refers to itself")]
    return _check(value, target, path, root, refs | {ref})


def _check_choice(value: JSON, schema: Mapping[str, JSON], path: str) -> list[str]:
    if "const" in schema and not same(value, schema["const"]):
        return [at(path, f"expected {show(schema['const'])}, got {show(value)}")]
    if "enum" in schema and not any(same(value, each) for each in schema["enum"]):
        return [at(path, f"expected one of {listed(map(show, schema['enum']))}; got {show(value)}")]
    return []


def _check_branches(
    value: JSON, keyword: str, branches: Sequence[JSON], path: str, root: JSON, refs: frozenset[str]
) -> list[str]:
    found = [_check(value, branch, path, root, refs) for branch in branches]
    matching = sum(not problems for problems in found)
    if matching == 1 or (matching and keyword == "anyOf"):
        return []
    if matching:
        return [at(path, f"{show(value)} fits {matching} alternatives, exactly one is allowed")]
    types = [_allowed(branch, root, refs) for branch in branches]
    of_this_type = [problems for problems, kinds in zip(found, types, strict=True) if admits(kinds, value)]
    if of_this_type:
        return min(of_this_type, key=len)
    everything: frozenset[str] = frozenset().union(*types)
    return [at(path, f"expected {alternatives(everything)}, got {show(value)}{_hint(value, everything)}")]


def _check_string(value: str, schema: Mapping[str, JSON], path: str) -> list[str]:
    problems = _check_size(len(value), schema, path, "Length", "characters")
    if "pattern" in schema and not _matches(schema["pattern"], value):
        problems.append(at(path, f"expected text matching {schema['pattern']}, got {show(value)}"))
    form = schema.get("format")
    if form == "date" and not _is_date(value):
        problems.append(at(path, f"expected a date like 2025-01-31, got {show(value)}"))
    if form == "date-time" and not _is_date_time(value):
        problems.append(at(path, f"expected a date and time like 2025-01-31T09:30:00, got {show(value)}"))
    return problems


def _check_number(value: float, schema: Mapping[str, JSON], path: str) -> list[str]:
    limits = (
        ("minimum", "at least", operator.ge),
        ("maximum", "at most", operator.le),
        ("exclusiveMinimum", "more than", operator.gt),
        ("exclusiveMaximum", "less than", operator.lt),
    )
    return [
        at(path, f"expected {words} {show(schema[keyword])}, got {show(value)}")
        for keyword, words, holds in limits
        if keyword in schema and not holds(value, schema[keyword])
    ]


def _check_array(value: list[JSON], schema: Mapping[str, JSON], path: str, root: JSON) -> list[str]:
    problems = _check_size(len(value), schema, path, "Items", "items")
    first = schema.get("prefixItems", ())
    rest = schema.get("items", True)
    for index, element in enumerate(value):
        expected = first[index] if index < len(first) else rest
        problems += _check(element, expected, child(path, index), root, frozenset())
    if schema.get("uniqueItems") is True and any(same(a, b) for i, a in enumerate(value) for b in value[:i]):
        problems.append(at(path, "expected items that all differ"))
    return problems


def _check_object(value: Mapping[str, JSON], schema: Mapping[str, JSON], path: str, root: JSON) -> list[str]:
    properties = schema.get("properties", {})
    others = schema.get("additionalProperties", True)
    problems = []
    for key, member in value.items():
        if key not in properties and others is False:
            close = nearest(str(key), properties)
            hint = f"did you mean {close}?" if close else f"allowed: {listed(properties)}"
            problems.append(at(child(path, str(key)), f"unknown key ({hint})"))
        else:
            problems += _check(member, properties.get(key, others), child(path, str(key)), root, frozenset())
    problems += [at(child(path, key), "missing") for key in schema.get("required", ()) if key not in value]
    return problems


def _check_size(size: int, schema: Mapping[str, JSON], path: str, suffix: str, unit: str) -> list[str]:
    least, most = schema.get(f"min{suffix}"), schema.get(f"max{suffix}")
    problems = []
    if least is not None and size < least:
        problems.append(at(path, f"expected at least {least} {unit}, got {size}"))
    if most is not None and size > most:
        problems.append(at(path, f"expected at most {most} {unit}, got {size}"))
    return problems


def same(one: JSON, other: JSON) -> bool:
    """Equal as JSON: 1 equals 1.0 but never true."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


def _allowed(schema: JSON, root: JSON, refs: frozenset[str]) -> frozenset[str]:
    everything = frozenset(TYPES)
    if not isinstance(schema, Mapping):
        return frozenset() if schema is False else everything
    kinds = everything
    ref = schema.get("$ref", "")
    target = resolve(root, ref) if isinstance(ref, str) and ref not in refs else None
    if target is not None:
        kinds = _meet(kinds, _allowed(target, root, refs | {ref}))
    declared = _declared(schema)
    if declared is not None:
        kinds = _meet(kinds, frozenset(declared))
    if "enum" in schema:
        kinds = _meet(kinds, frozenset(type_of(each) for each in schema["enum"]))
    if "const" in schema:
        kinds = _meet(kinds, frozenset((type_of(schema["const"]),)))
    for branch in schema.get("allOf", ()):
        kinds = _meet(kinds, _allowed(branch, root, refs))
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema:
            branches = [_allowed(branch, root, refs) for branch in schema[keyword]]
            kinds = _meet(kinds, frozenset(name for branch in branches for name in branch))
    return kinds | {"null"} if schema.get("nullable") is True else kinds


def _meet(one: frozenset[str], other: frozenset[str]) -> frozenset[str]:
    """What both allow. An integer is also a number, so `number` stands for both."""
    both = one & other
    if "number" in both:
        return both - {"integer"}
    narrowed = ("number" in one and "integer" in other) or ("number" in other and "integer" in one)
    return both | {"integer"} if narrowed else both


def _declared(schema: Mapping[str, JSON]) -> tuple[str, ...] | None:
    declared = schema.get("type")
    if declared is None:
        return None
    return (declared,) if isinstance(declared, str) else tuple(declared)


def _hint(value: JSON, types: Iterable[str]) -> str:
    if isinstance(value, float) and "integer" in types and value.is_integer():
        return f" (write {int(value)})"
    return ""


def _matches(pattern: str, value: str) -> bool:
    try:
        return re.search(pattern, value) is not None
    except re.error:
        return False


def _is_date(value: str) -> bool:
    try:
        return len(value) == 10 and value == date.fromisoformat(value).isoformat()
    except ValueError:
        return False


def _is_date_time(value: str) -> bool:
    try:
        return _DATE_TIME.fullmatch(value) is not None and bool(datetime.fromisoformat(value.upper()))
    except ValueError:
        return False
