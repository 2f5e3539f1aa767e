"""Task files of tau-bench and tau2-bench, any domain, as tasks to be audited. Nothing in a file is run."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from banty.envs.airline.content import customers_in, tables_of, told_text
from banty.envs.airline.data import load_world
from banty.envs.airline.matching import AIRLINE_MATCHING
from banty.errors import InputError
from banty.evals.audit.tasks import AuditedTask, TaskSet
from banty.records import TaskContent, ToolCall

MOST_BYTES = 64_000_000
SPLITS_FILE = "split_tasks.json"
_MADE = {
    "Task": ("annotator", "user_id", "instruction", "actions", "outputs"),
    "Action": ("name", "kwargs"),
}
_READS = ("get_", "list_", "search_", "find_", "check_", "calculate", "think", "transfer_to_human")


def read_task_file(path: Path, split: str = "") -> TaskSet:
    """The tasks of a JSON file of tau2-bench, or of a Python or JSON file of tau-bench v1.

    `split` is one of the `split_tasks.json` beside it. Python is parsed and read as data: lists, dictionaries, texts,
    numbers, and calls of Task and Action. Raises InputError, with the place, for anything else.
    """
    raw = _bytes(path)
    listed = _of_python(path, raw) if path.suffix == ".py" else _of_json(path, raw)
    if not isinstance(listed, list) or not listed:
        raise InputError(f"{path} holds {_kind(listed)} instead of a list of tasks of tau-bench or tau2-bench")
    tables = _tables(path.parent)
    sha256 = hashlib.sha256(raw).hexdigest()
    tasks = [
        dataclasses.replace(task, pin=f"{sha256}:{task.id}")
        for task in (_task(each, index, f"{path}, task {index}", tables) for index, each in enumerate(listed))
    ]
    ids = [task.id for task in tasks]
    if twice := next((each for each, count in Counter(ids).items() if count > 1), None):
        raise InputError(f"{path} has two tasks of the id {twice!r}")
    if split:
        wanted = _split(path.parent / SPLITS_FILE, split, ids)
        by_id = dict(zip(ids, tasks, strict=True))
        tasks = [by_id[one] for one in wanted]
    about = {"kind": "task file", "file": str(path.resolve()), "sha256": sha256}
    named = f"{path.resolve().parent.name}/{path.name}"
    origin = (f"{path.name} of sha256 {sha256[:12]}", split or "all")
    return TaskSet(
        f"{named} {split}".strip(), tasks, {**about, **({"split": split} if split else {})}, AIRLINE_MATCHING, origin
    )


def _bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"{path} has more than {MOST_BYTES // 1_000_000} MB; that is no task file")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error


def _of_json(path: Path, raw: bytes) -> Any:
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not whole JSON ({error}): it may be cut off, fetch it again") from error
    return found["tasks"] if isinstance(found, dict) and isinstance(found.get("tasks"), list) else found


def _of_python(path: Path, raw: bytes) -> list[Any]:
    """The one list of tasks that a Python file assigns to a name; the file is never run."""
    try:
        tree = ast.parse(raw)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"{path} is not Python that can be read: {type(error).__name__} {error}") from error
    found = {}
    for node in tree.body:
        if not isinstance(node, (ast.Assign, ast.AnnAssign)):
            continue
        value, targets = node.value, node.targets if isinstance(node, ast.Assign) else [node.target]
        if isinstance(value, ast.List) and value.elts and isinstance(value.elts[0], (ast.Call, ast.Dict)):
            found[" = ".join(map(ast.unparse, targets))] = value
    if len(found) != 1:
        what = f"{len(found)} lists of tasks ({', '.join(found)})" if found else "no list of tasks"
        raise InputError(
            f"{path} assigns {what}; a task file of tau-bench has one, such as TASKS = [Task(...), ...]. A Python "
            "environment is named FILE.py:NAME and needs --allow-code"
        )
    try:
        return [_value(one, path) for one in next(iter(found.values())).elts]
    except RecursionError as error:
        raise InputError(f"{path} is nested too deeply to be a task file") from error


def _value(node: ast.expr, path: Path) -> Any:
    """A literal of Python as data; a call of Task or Action as a dictionary of its arguments."""
    if isinstance(node, ast.Constant) and (node.value is None or isinstance(node.value, (str, int, float))):
        return node.value
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(one, path) for one in node.elts]
    if isinstance(node, ast.Dict) and None not in node.keys:
        return {
            str(_value(key, path)): _value(one, path)
            for key, one in zip(node.keys, node.values, strict=True)
            if key is not None
        }
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
        number = node.operand.value
        if isinstance(number, (int, float)) and not isinstance(number, bool):
            return -number
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _MADE:
        names = _MADE[node.func.id]
        if len(node.args) <= len(names) and all(one.arg is not None for one in node.keywords):
            given = dict(zip(names, node.args, strict=False)) | {str(one.arg): one.value for one in node.keywords}
            return {name: _value(one, path) for name, one in given.items()}
    raise InputError(
        f"{path}, line {node.lineno}: {ast.unparse(node)[:80]!r} is code, and a task file is read as data only: texts, "
        "numbers, lists, dictionaries, Task(...) and Action(...)"
    )


def _task(raw: Any, index: int, where: str, tables: Mapping[str, str] | None) -> AuditedTask:
    """One task of either benchmark. Those of v1 have no id; their place is theirs."""
    if isinstance(raw, dict) and "user_scenario" in raw and "id" in raw:
        scenario, criteria = raw["user_scenario"], raw.get("evaluation_criteria") or {}
        told = scenario.get("instructions") if isinstance(scenario, dict) else scenario
        if not isinstance(told, (dict, str)) or not isinstance(criteria, dict):
            raise InputError(f"{where} has no user_scenario.instructions or no object of evaluation_criteria")
        text, name = told_text(told), str(raw["id"])
        listed, user = criteria.get("actions"), None
    elif isinstance(raw, dict) and isinstance(raw.get("instruction"), str) and isinstance(raw.get("actions"), list):
        text, name, listed, user = raw["instruction"], str(raw.get("id", index)), raw["actions"], raw.get("user_id")
    else:
        raise InputError(
            f"{where} is {_kind(raw)}, and neither a task of tau2-bench (id, user_scenario, evaluation_criteria) nor "
            "one of tau-bench (user_id, instruction, actions)"
        )
    calls = [] if listed is None else _calls(listed, where)
    named = customers_in("" if user else text, calls) | ({str(user)} if user else set())
    writes = None if listed is None else tuple(filter(does_more_than_read, calls))
    return AuditedTask(name, TaskContent(customers=frozenset(named) or None, text=text, writes=writes, tables=tables))


def does_more_than_read(call: ToolCall) -> bool:
    """Whether a call of a benchmark's tool may change something, by the tool's name."""
    return not call.name.startswith(_READS)


def _calls(listed: Any, where: str) -> list[ToolCall]:
    """The assistant's calls; a user's own, as in telecom, are left out."""
    calls = []
    for one in listed if isinstance(listed, list) else [listed]:
        given = one.get("arguments", one.get("kwargs")) if isinstance(one, dict) else None
        if not isinstance(one, dict) or not isinstance(one.get("name"), str) or not isinstance(given, dict):
            raise InputError(f"{where} has an action without a name and an object of arguments (kwargs in v1)")
        if one.get("requestor", "assistant") == "assistant":
            calls.append(ToolCall(one["name"], given))
    return calls


def _split(file: Path, split: str, ids: Sequence[str]) -> list[str]:
    if not file.is_file():
        raise InputError(f"the split {split!r} was asked for, and there is no {file} that says what it holds")
    named = _of_json(file, _bytes(file))
    if not isinstance(named, dict) or not isinstance(named.get(split), list):
        known = ", ".join(map(str, named)) if isinstance(named, dict) else _kind(named)
        raise InputError(f"{file} has no list of ids for the split {split!r}; it has {known}")
    wanted = [str(one) for one in named[split]]
    if strange := [one for one in wanted if one not in set(ids)]:
        raise InputError(f"split {split!r} of {file} names tasks that the task file lacks: {', '.join(strange[:5])}")
    return wanted


def _tables(folder: Path) -> Mapping[str, str] | None:
    """The tables of the database beside a task file, by hash: those of an airline's, or the file as a whole."""
    file = folder / "db.json"
    if not file.is_file():
        return None
    try:
        return tables_of(load_world(file))
    except InputError:
        return {"db.json": hashlib.sha256(_bytes(file)).hexdigest()}


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return f"an object of {', '.join(sorted(map(str, value))[:6]) or 'nothing'}"
    return f"a list of {len(value)}" if isinstance(value, list) else f"a {type(value).__name__}"
