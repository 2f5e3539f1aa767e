"""Rollouts on disk: three flat Parquet tables a part, written whole or not at all.

```
STORE/
  PART/rollouts.parquet    one row per rollout           key rollout_id; root_id, parent_id, depth, call_index
  PART/turns.parquet       one row per turn              key rollout_id, turn_index
  PART/segments.parquet    one row per turn with tokens  key rollout_id, turn_index
```

A part is one training step, or one shard of an evaluation. DuckDB, pandas and `datasets` read the files directly, for
example `select status, count(*) from 'STORE/*/rollouts.parquet' group by all`. Every table carries the schema version
in its metadata and in a column. Task data (scenarios, gold answers) is not stored: the task's pin is.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from banty.errors import InputError, StoreError
from banty.records import JSON, CallResult, Message, Outcome, Rollout, Segment, Task, ToolSchema, Transform, Turn

SCHEMA_VERSION = 1

_CALL = pa.struct(
    [
        ("name", pa.string()),
        ("arguments_json", pa.string()),
        ("output", pa.string()),
        ("effect", pa.string()),
        ("error", pa.string()),
        ("state_before", pa.string()),
        ("state_after", pa.string()),
    ]
)
_KEYS = [("schema_version", pa.int32()), ("rollout_id", pa.string())]

SCHEMAS: Mapping[str, pa.Schema] = {
    "rollouts": pa.schema(
        [
            *_KEYS,
            ("root_id", pa.string()),
            ("parent_id", pa.string()),
            ("depth", pa.int32()),
            ("call_index", pa.int32()),
            ("group_id", pa.string()),
            ("trial", pa.int32()),
            ("sampler_seed", pa.int64()),
            ("env", pa.string()),
            ("split", pa.string()),
            ("task_index", pa.int64()),
            ("task_seed", pa.int64()),
            ("task_public_json", pa.string()),
            ("policy", pa.string()),
            ("policy_version", pa.int64()),
            ("status", pa.string()),
            ("cause", pa.string()),
            ("detail", pa.string()),
            ("success", pa.bool_()),
            ("reward", pa.float64()),
            ("components_json", pa.string()),
            ("reason", pa.string()),
            ("num_turns", pa.int32()),
            ("opening_json", pa.string()),
            ("tools_json", pa.string()),
            ("duration_s", pa.float64()),
        ]
    ),
    "turns": pa.schema(
        [
            *_KEYS,
            ("turn_index", pa.int32()),
            ("actor", pa.string()),
            ("trainable", pa.bool_()),
            ("message_json", pa.string()),
            ("observation_json", pa.string()),
            ("request_json", pa.string()),
            ("calls", pa.list_(_CALL)),
            ("num_calls", pa.int32()),
            ("num_errors", pa.int32()),
            ("state_before", pa.string()),
            ("state_after", pa.string()),
            ("reward", pa.float64()),
            ("policy", pa.string()),
            ("policy_version", pa.int64()),
            ("finish", pa.string()),
            ("prompt_tokens", pa.int64()),
            ("sampled_tokens", pa.int64()),
            ("cost_usd", pa.float64()),
            ("policy_s", pa.float64()),
            ("env_s", pa.float64()),
        ]
    ),
    "segments": pa.schema(
        [
            *_KEYS,
            ("turn_index", pa.int32()),
            ("continues", pa.bool_()),
            ("prompt_ids", pa.list_(pa.int32())),
            ("sampled_ids", pa.list_(pa.int32())),
            ("sampler_logprobs", pa.list_(pa.float32())),
            ("temperature", pa.float64()),
            ("top_p", pa.float64()),
            ("top_k", pa.int32()),
            ("min_p", pa.float64()),
            ("mask_id", pa.string()),
        ]
    ),
}


class Store:
    """A folder of parts."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def write(self, part: str, rollouts: Sequence[Rollout]) -> Path:
        """Write one part, replacing one of that name; a reader sees the whole part or none of it.

        Raises StoreError when the disk is full or not writable; earlier parts stay as they were.
        """
        if not part or part.startswith(".") or "/" in part:
            raise InputError(f"{part!r} cannot name a part: take a plain folder name that does not begin with a dot")
        target = self.folder / part
        # Further down than anybody's STORE/*/rollouts.parquet looks, and where the next try finds what a crash left.
        drafts = self.folder / ".drafts"
        draft, old = drafts / part / "new", drafts / part / "old"
        try:
            shutil.rmtree(drafts / part, ignore_errors=True)
            draft.mkdir(parents=True)
            for name, rows in _rows(rollouts).items():
                _write_table(draft / f"{name}.parquet", name, rows)
            _swap(draft, target, old)
            _sync(self.folder)
        except OSError as error:
            raise StoreError(
                f"could not write part {part!r} of {self.folder}: {error.strerror or error}. "
                f"{len(self.parts())} finished parts are kept; free some space or name another folder, then resume"
            ) from error
        finally:
            shutil.rmtree(drafts / part, ignore_errors=True)
            with contextlib.suppress(OSError):
                drafts.rmdir()
        return target

    def parts(self) -> list[str]:
        """Names of finished parts, sorted."""
        if not self.folder.is_dir():
            return []
        return sorted(entry.name for entry in self.folder.iterdir() if entry.is_dir() and entry.name[0] != ".")

    def read(self, parts: Iterable[str] | None = None) -> Iterator[Rollout]:
        """The rollouts of some or all parts. Tasks come back without their data: the taskset makes that again.

        A folder that is not there yet holds none. Raises StoreError for what is not a store, or is from a newer Banty.
        """
        if parts is None:
            parts = self.parts()
            if not parts and self.folder.exists() and not _is_empty(self.folder):
                raise StoreError(
                    f"{self.folder} holds no rollouts but other things; name the folder that a run or an evaluation "
                    "wrote them to"
                )
        for part in parts:
            yield from _read_part(self.folder / part)

    def tasks(self) -> list[Task]:
        """The distinct tasks of all root rollouts, without their data, as they were first met; turns are not read."""
        found: dict[str, Task] = {}
        for part in self.parts():
            table, _ = _rollouts_table(self.folder / part)
            for row in table.to_pylist():
                if row["depth"] == 0:
                    task = _task(row)
                    found.setdefault(task.id, task)
        return list(found.values())


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and all(entry.name.startswith(".") for entry in folder.iterdir())


def _swap(draft: Path, target: Path, old: Path) -> None:
    """Put the draft in the target's place, or leave the target as it was."""
    if not target.exists():
        draft.rename(target)
        return
    target.rename(old)
    try:
        draft.rename(target)
    except OSError:
        old.rename(target)
        raise


def _rows(rollouts: Sequence[Rollout]) -> dict[str, list[dict[str, Any]]]:
    return {
        "rollouts": [_rollout_row(rollout) for rollout in rollouts],
        "turns": [_turn_row(rollout, turn) for rollout in rollouts for turn in rollout.turns],
        "segments": [
            _segment_row(rollout, turn, turn.segment)
            for rollout in rollouts
            for turn in rollout.turns
            if turn.segment is not None
        ],
    }


def _write_table(path: Path, name: str, rows: list[dict[str, Any]]) -> None:
    schema = SCHEMAS[name].with_metadata({"banty.schema_version": str(SCHEMA_VERSION), "banty.table": name})
    try:
        table = pa.Table.from_pylist(rows, schema=schema)
    except UnicodeEncodeError:
        table = pa.Table.from_pylist(_encodable(rows), schema=schema)
    with path.open("wb") as file:
        pq.write_table(table, file, compression="zstd")
        file.flush()
        os.fsync(file.fileno())


def _encodable(value: Any) -> Any:
    """Half surrogate pairs, which UTF-8 cannot hold, as escapes: JSON columns read back the same, others show them."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {key: _encodable(item) for key, item in value.items()}
    return [_encodable(item) for item in value] if isinstance(value, list) else value


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _dump(value: JSON) -> str:
    return json.dumps(value, ensure_ascii=False)


def _dump_all(items: Iterable[Message | ToolSchema]) -> str:
    return _dump([item.to_json() for item in items])


def _rollout_row(rollout: Rollout) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "rollout_id": rollout.rollout_id,
        "root_id": rollout.root_id,
        "parent_id": rollout.parent_id,
        "depth": rollout.depth,
        "call_index": rollout.call_index,
        "group_id": rollout.group_id,
        "trial": rollout.trial,
        "sampler_seed": rollout.seed,
        "env": rollout.task.env,
        "split": rollout.task.split,
        "task_index": rollout.task.index,
        "task_seed": rollout.task.seed,
        "task_public_json": _dump(dict(rollout.task.public)),
        "policy": rollout.policy,
        "policy_version": rollout.version,
        "status": rollout.status,
        "cause": rollout.cause,
        "detail": rollout.detail,
        "success": rollout.outcome.success,
        "reward": rollout.outcome.reward,
        "components_json": _dump(dict(rollout.outcome.components)),
        "reason": rollout.outcome.reason,
        "num_turns": len(rollout.turns),
        "opening_json": _dump_all(rollout.opening),
        "tools_json": _dump_all(rollout.tools),
        "duration_s": rollout.duration_s,
    }


def _turn_row(rollout: Rollout, turn: Turn) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "rollout_id": rollout.rollout_id,
        "turn_index": turn.index,
        "actor": turn.actor,
        "trainable": turn.trainable,
        "message_json": _dump(turn.message.to_json()),
        "observation_json": _dump_all(turn.observation),
        "request_json": _dump_all(turn.request),
        "calls": [
            {
                "name": call.name,
                "arguments_json": _dump(dict(call.arguments)),
                "output": call.output,
                "effect": call.effect,
                "error": call.error,
                "state_before": call.state_before,
                "state_after": call.state_after,
            }
            for call in turn.calls
        ],
        "num_calls": len(turn.calls),
        "num_errors": sum(bool(call.error) for call in turn.calls),
        "state_before": turn.state_before,
        "state_after": turn.state_after,
        "reward": turn.reward,
        "policy": turn.policy,
        "policy_version": turn.version,
        "finish": turn.finish,
        "prompt_tokens": turn.prompt_tokens,
        "sampled_tokens": turn.sampled_tokens,
        "cost_usd": turn.cost_usd,
        "policy_s": turn.policy_s,
        "env_s": turn.env_s,
    }


def _segment_row(rollout: Rollout, turn: Turn, segment: Segment) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "rollout_id": rollout.rollout_id,
        "turn_index": turn.index,
        "continues": segment.continues,
        "prompt_ids": segment.prompt_ids,
        "sampled_ids": segment.sampled_ids,
        "sampler_logprobs": segment.sampler_logprobs,
        "temperature": segment.transform.temperature,
        "top_p": segment.transform.top_p,
        "top_k": segment.transform.top_k,
        "min_p": segment.transform.min_p,
        "mask_id": segment.transform.mask_id,
    }


def _read_part(folder: Path) -> Iterator[Rollout]:
    # The version comes first: a newer one may have other tables.
    rollouts, version = _rollouts_table(folder)
    others = {name: _read_table(folder / f"{name}.parquet") for name in SCHEMAS if name != "rollouts"}
    tables = {"rollouts": rollouts, **others}
    yield from _READERS[version]({name: table.to_pylist() for name, table in tables.items()})


def _rollouts_table(folder: Path) -> tuple[pa.Table, int]:
    """A part's main table and its schema version. Raises StoreError for one that nothing here reads."""
    rollouts = _read_table(folder / "rollouts.parquet")
    version = _version(rollouts)
    if version is None:
        raise StoreError(f"{folder / 'rollouts.parquet'} says no schema version; it is not part of a Banty store")
    if version not in _READERS:
        raise StoreError(
            f"{folder} was written with store schema {version}; this Banty reads {sorted(_READERS)}. "
            "Use the Banty that wrote it, or a newer one"
        )
    return rollouts, version


def _task(row: Mapping[str, Any]) -> Task:
    return Task(row["env"], row["split"], row["task_index"], row["task_seed"], json.loads(row["task_public_json"]))


def _read_table(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"could not read {path}: {error}. The folder is not a part of a Banty store") from error


def _version(table: pa.Table) -> int | None:
    """From the metadata, or from the column where another tool has rewritten the file without it."""
    said = (table.schema.metadata or {}).get(b"banty.schema_version")
    if said is not None:
        return int(said)
    column = table.column("schema_version").to_pylist() if "schema_version" in table.column_names else []
    return max(column, default=None)


def _read_version_1(tables: Mapping[str, list[dict[str, Any]]]) -> Iterator[Rollout]:
    segments = {(row["rollout_id"], row["turn_index"]): _segment(row) for row in tables["segments"]}
    turns: dict[str, list[Turn]] = {}
    for row in tables["turns"]:
        turns.setdefault(row["rollout_id"], []).append(_turn(row, segments.get((row["rollout_id"], row["turn_index"]))))
    for row in tables["rollouts"]:
        yield Rollout(
            rollout_id=row["rollout_id"],
            task=_task(row),
            status=row["status"],
            cause=row["cause"],
            detail=row["detail"],
            outcome=Outcome(row["success"], row["reward"], json.loads(row["components_json"]), row["reason"]),
            opening=_messages(row["opening_json"]),
            tools=tuple(ToolSchema.from_json(schema) for schema in json.loads(row["tools_json"])),
            turns=tuple(sorted(turns.get(row["rollout_id"], ()), key=lambda turn: turn.index)),
            group_id=row["group_id"],
            trial=row["trial"],
            seed=row["sampler_seed"],
            policy=row["policy"],
            version=row["policy_version"],
            root_id=row["root_id"],
            parent_id=row["parent_id"],
            depth=row["depth"],
            call_index=row["call_index"],
            duration_s=row["duration_s"],
        )


_READERS: Mapping[int, Callable[[Mapping[str, list[dict[str, Any]]]], Iterator[Rollout]]] = {1: _read_version_1}


def _messages(text: str) -> tuple[Message, ...]:
    return tuple(Message.from_json(message) for message in json.loads(text))


def _turn(row: Mapping[str, Any], segment: Segment | None) -> Turn:
    return Turn(
        index=row["turn_index"],
        actor=row["actor"],
        trainable=row["trainable"],
        message=Message.from_json(json.loads(row["message_json"])),
        observation=_messages(row["observation_json"]),
        request=_messages(row["request_json"]),
        calls=tuple(
            CallResult(
                call["name"],
                json.loads(call["arguments_json"]),
                call["output"],
                call["effect"],
                call["error"],
                call["state_before"],
                call["state_after"],
            )
            for call in row["calls"]
        ),
        segment=segment,
        state_before=row["state_before"],
        state_after=row["state_after"],
        reward=row["reward"],
        policy=row["policy"],
        version=row["policy_version"],
        finish=row["finish"],
        prompt_tokens=row["prompt_tokens"],
        sampled_tokens=row["sampled_tokens"],
        cost_usd=row["cost_usd"],
        policy_s=row["policy_s"],
        env_s=row["env_s"],
    )


def _segment(row: Mapping[str, Any]) -> Segment:
    return Segment(
        prompt_ids=row["prompt_ids"],
        sampled_ids=row["sampled_ids"],
        sampler_logprobs=row["sampler_logprobs"],
        continues=row["continues"],
        transform=Transform(row["temperature"], row["top_p"], row["top_k"], row["min_p"], row["mask_id"]),
    )
