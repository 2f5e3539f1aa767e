"""Typed values out of text, where a wire format has nothing but text and the types live in the schema.

The rule is that nothing is lost: text stays exactly that text wherever the schema accepts it as a string, and becomes
another type only where it cannot be one. So `007` and `null` survive as strings; `null` is null for a nullable integer;
for a parameter that may be a string *or* something else, the string wins, always.
"""

from __future__ import annotations

from typing import NamedTuple

from banty.chat.strict_json import WHITESPACE, JsonProblem, read_json
from banty.chat.validate import admits, allowed_types, check
from banty.chat.wording import alternatives, at, show
from banty.records.messages import JSON

__all__ = ["Coerced", "check", "coerce"]

_WORDS: dict[str, JSON] = {"true": True, "false": False, "null": None, "none": None}
"""Case does not matter: Qwen's own templates write Python's True, False and None."""


class Coerced(NamedTuple):
    """A value, or what is wrong (then the value is None and means nothing)."""

    value: JSON
    problems: list[str]


def coerce(text: str, schema: JSON, *, path: str = "", root: JSON = None, types_only: bool = False) -> Coerced:
    """The value a text stands for under a schema.

    Numbers, booleans, null, arrays and objects are read as JSON (booleans and null in any case, surrounding whitespace
    ignored). With `types_only` a value of an allowed type is returned although it breaks a finer rule (an enum, a
    bound, a nested key), for callers that judge values themselves.
    """
    root = schema if root is None else root
    as_text = check(text, schema, path=path, root=root)
    if not as_text:
        return Coerced(text, [])
    types = allowed_types(schema, root)
    value, reason = _read(text)
    typed = not reason and admits(types, value)
    problems = check(value, schema, path=path, root=root) if typed else []
    if typed and not problems:
        return Coerced(value, [])
    if types_only and "string" in types:
        return Coerced(text, [])
    if types_only and typed:
        return Coerced(value, [])
    if problems and "string" not in types:
        return Coerced(None, problems)
    if "string" in types:
        return Coerced(None, as_text)
    detail = f" ({reason})" if reason and types & {"object", "array"} else ""
    return Coerced(None, [at(path, f"expected {alternatives(types)}, got {show(text)}{detail}")])


def _read(text: str) -> tuple[JSON, str]:
    """A value other than a string, or the reason why there is none."""
    stripped = text.strip(WHITESPACE)
    if stripped.lower() in _WORDS:
        return _WORDS[stripped.lower()], ""
    try:
        value = read_json(stripped)
    except JsonProblem as problem:
        return None, str(problem)
    return (None, "a quoted string") if isinstance(value, str) else (value, "")
