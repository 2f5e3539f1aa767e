"""What every taskset says to wrong input, in the same words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, get_args

from banty.errors import InputError

Choice = TypeVar("Choice")


def check_place(env: str, splits: Mapping[str, int], split: str, index: int = 0) -> None:
    """Raises InputError for a split or a task that does not exist."""
    if split not in splits:
        raise InputError(f"{env} has no split {split!r}; it has {', '.join(splits)}")
    if not 0 <= index < splits[split]:
        raise InputError(f"{env} {split} has tasks 0 to {splits[split] - 1}; {index} was asked for")


def one_of(name: str, value: Choice, choices: Any) -> Choice:
    """`value`, or InputError naming what `choices`, a Literal type, allows."""
    allowed = get_args(choices)
    if value not in allowed:
        raise InputError(f"{name}={value} is not one of {', '.join(map(str, allowed))}")
    return value
