"""Which parts of a schema would not be enforced? Asked when a tool is registered, answered as visible warnings."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from banty.chat.validate import FORMATS, resolve, type_of
from banty.chat.wording import TYPES, at, child, show
from banty.records.messages import JSON

_CHECKED = (
    {"type", "enum", "const", "nullable", "anyOf", "oneOf", "allOf", "$ref", "$defs", "definitions"}
    | {"properties", "required", "additionalProperties", "items", "prefixItems", "minItems", "maxItems", "uniqueItems"}
    | {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "pattern", "format"}
)
_SILENT = {"title", "description", "default", "examples", "example", "discriminator"} | {
    "$schema",
    "$id",
    "$comment",
    "deprecated",
    "readOnly",
    "writeOnly",
}
_MAPS = ("properties", "$defs", "definitions")
_LISTS_OF_VALUES = ("enum", "required")
_NUMBERS = (
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    *("minLength", "maxLength", "minItems", "maxItems"),
)
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")


def lint_schema(schema: JSON) -> list[str]:
    """What `check` cannot hold a value to, one line each: unknown keywords, types, formats, patterns and references.

    An empty list means that the schema is enforced in full (discriminators only speed up choosing a branch).
    """
    return list(_lint(schema, "", schema))


def _lint(schema: JSON, path: str, root: JSON) -> Iterator[str]:
    if isinstance(schema, bool):
        return
    if not isinstance(schema, Mapping):
        yield at(path, f"a schema must be an object, got {show(schema)}")
        return
    for keyword in schema:
        if keyword not in _CHECKED and keyword not in _SILENT:
            yield at(path, f"keyword '{keyword}' is not checked")
    yield from _lint_words(schema, path, root)
    for keyword in _MAPS:
        members = schema.get(keyword, {})
        if not isinstance(members, Mapping):
            yield at(path, f"'{keyword}' must be an object, got {show(members)}")
            continue
        for name, member in members.items():
            yield from _lint(member, child(path if keyword == "properties" else child(path, keyword), name), root)
    for keyword in _LISTS:
        branches = schema.get(keyword, [])
        if not isinstance(branches, list):
            yield at(path, f"'{keyword}' must be a list, got {show(branches)}")
            continue
        for index, branch in enumerate(branches):
            yield from _lint(branch, child(child(path, keyword), index), root)
    for keyword in ("items", "additionalProperties"):
        if keyword in schema:
            yield from _lint(schema[keyword], child(path, keyword), root)


def _lint_words(schema: Mapping[str, JSON], path: str, root: JSON) -> Iterator[str]:
    declared = schema.get("type", [])
    for kind in [declared] if isinstance(declared, str) else declared:
        if kind not in TYPES:
            yield at(path, f"unknown type {show(kind)}; known: {', '.join(TYPES)}")
    if "format" in schema and schema["format"] not in FORMATS:
        yield at(path, f"format {show(schema['format'])} is not checked")
    if "pattern" in schema:
        try:
            re.compile(schema["pattern"])
        except (re.error, TypeError) as error:
            yield at(path, f"pattern {show(schema['pattern'])} is not a Python regular expression: {error}")
    if "$ref" in schema:
        if resolve(root, schema["$ref"]) is None:
            yield at(path, f"$ref {show(schema['$ref'])} does not exist in this schema")
        elif _chases_its_tail(schema, root):
            yield at(path, f"$ref {show(schema['$ref'])} refers to itself without going deeper")
    for key in schema.get("required", ()) if isinstance(schema.get("required", ()), list) else ():
        if "properties" in schema and key not in schema["properties"]:
            yield at(path, f"required {show(key)} is not among the properties")
    for keyword in _LISTS_OF_VALUES:
        if keyword in schema and not isinstance(schema[keyword], list):
            yield at(path, f"'{keyword}' must be a list, got {show(schema[keyword])}")
    for keyword in _NUMBERS:
        if keyword in schema and type_of(schema[keyword]) not in ("integer", "number"):
            yield at(path, f"'{keyword}' must be a number, got {show(schema[keyword])}")


def _chases_its_tail(schema: JSON, root: JSON, refs: frozenset[str] = frozenset()) -> bool:
    if not isinstance(schema, Mapping):
        return False
    ref = schema.get("$ref")
    if ref in refs:
        return True
    if ref is not None and _chases_its_tail(resolve(root, ref), root, refs | {ref}):
        return True
    branches = (branch for keyword in ("anyOf", "oneOf", "allOf") for branch in schema.get(keyword, ()))
    return any(_chases_its_tail(branch, root, refs) for branch in branches)
