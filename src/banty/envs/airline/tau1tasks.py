"""Task files of tau-bench v1's airline domain, read as tasks of tau2-bench. A Python file is parsed and never run."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any

from banty.errors import InputError

_MADE = ("Task", "Action")
"""The only calls such a file makes; each is read as an object of its keywords."""


def is_v1(listed: Any) -> bool:
    """Whether a parsed task file is one of v1: its tasks have an instruction and no user_scenario."""
    first = listed[0] if isinstance(listed, list) and listed else None
    return isinstance(first, Mapping) and "instruction" in first and "user_scenario" not in first


def read_python(text: str, file: str) -> list[Any]:
    """The tasks written down in a Python file, as plain values. Raises InputError for what is no list of them."""
    try:
        module = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError) as wrong:
        raise InputError(f"{file} is not whole Python ({wrong}): it may be cut off, fetch it again") from wrong
    lists = [
        node.value
        for node in module.body
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(node.value, ast.List) and node.value.elts
    ]
    if len(lists) != 1:
        raise InputError(f"{file} holds {len(lists)} lists instead of one of tasks; give tasks_test.py of tau-bench")
    try:
        return [_value(each) for each in lists[0].elts]
    except ValueError as wrong:
        raise InputError(
            f"{file} holds more than written-down tasks ({wrong}), and nothing in it is run; save the tasks as JSON"
        ) from wrong


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Call):
        if not isinstance(node.func, ast.Name) or node.func.id not in _MADE or node.args:
            raise ValueError(f"line {node.lineno}: {ast.unparse(node.func)}(...)")
        return {keyword.arg: _value(keyword.value) for keyword in node.keywords}
    if isinstance(node, ast.List):
        return [_value(each) for each in node.elts]
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise ValueError(f"line {node.lineno}: {ast.unparse(node)[:60]}") from None


def as_tau2(listed: Sequence[Any], file: str) -> list[dict[str, Any]]:
    """Tasks of v1 in the form of tau2-bench's: the index is the id, the outputs are what has to be said.

    The actions are the same tools' under the same arguments. What the benchmarks do with them differs: v1's bookings
    take no seats, and its change of flights forgets the cabin.
    """
    return [_task(raw, index, f"{file}, task {index}") for index, raw in enumerate(listed)]


def _task(raw: Any, index: int, where: str) -> dict[str, Any]:
    instruction = raw.get("instruction") if isinstance(raw, Mapping) else None
    actions = raw.get("actions") if isinstance(raw, Mapping) else None
    if not isinstance(instruction, str) or not isinstance(actions, list):
        raise InputError(f"{where} has no instruction or no list of actions; is this a task file of tau-bench v1?")
    if not all(isinstance(action, Mapping) for action in actions):
        raise InputError(f"{where} has an action that is no object of a name and kwargs")
    criteria = {
        "actions": [
            {
                "action_id": f"{index}_{number}",
                "name": action.get("name"),
                "arguments": action.get("kwargs", action.get("arguments")),
            }
            for number, action in enumerate(actions)
        ],
        "communicate_info": raw.get("outputs") or [],
    }
    return {
        "id": str(index),
        "user_id": raw.get("user_id"),
        "user_scenario": {"instructions": instruction},
        "evaluation_criteria": criteria,
    }
