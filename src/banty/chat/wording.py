"""How paths, values, types and near misses are put into words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from difflib import get_close_matches

from banty.records.messages import JSON

TYPES = ("string", "integer", "number", "boolean", "object", "array", "null")
"""JSON Schema's types, in the order in which they are listed to people and policies."""


def show(value: JSON, limit: int = 60) -> str:
    """A value as JSON on one line of at most `limit` characters."""
    return clipped(json.dumps(value, ensure_ascii=False, default=repr), limit)


def alternatives(types: Iterable[str]) -> str:
    """`integer or null`, in a fixed order."""
    chosen = set(types)
    return " or ".join(name for name in TYPES if name in chosen) or "nothing"


def child(path: str, key: str | int) -> str:
    """The path of a member or element: `flights[1].date`."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    if not re.fullmatch(r"[\w$-]+", key):
        return f"{path}[{json.dumps(key, ensure_ascii=False)}]"
    return f"{path}.{key}" if path else key


def at(path: str, complaint: str) -> str:
    return f"{clipped(path)}: {complaint}" if path else complaint


def clipped(text: str, limit: int = 60) -> str:
    """Text that somebody else chose the length of, such as a key a policy made up."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def listed(names: Iterable[str], most: int = 20) -> str:
    """`a, b, c and 4 more`, or `none`."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) or "none") + more


def nearest(name: str, allowed: Iterable[str]) -> str:
    """`'x' or 'y'`, the allowed names that a name was probably meant to be; empty where none is close."""
    return " or ".join(f"'{close}'" for close in get_close_matches(name, list(allowed), n=2))
