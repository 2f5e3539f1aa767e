"""Somebody else's log as a run folder of ours: rollouts in the store, reference calls, and what was left out.

```
OUT/
  recipe.json     kind "import": format, files with sha256, the rule of success, counts, what was left out and why
  manifest.json   the command and the versions, marked as an import
  records.json    which record of which file became which rollout
  golden.json     reference calls by task id, where the log or --golden has any
  rollouts/       the store
```
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from banty.errors import InputError, StoreError
from banty.interop import tau2, traces, trl, verifiers
from banty.interop.effects import read_effects, unknown_tools
from banty.interop.golden import GOLDEN, golden_json, read_golden
from banty.interop.reading import Episode, Reading
from banty.interop.sources import Source, find_source
from banty.records import JSON, Effect, Rollout, Task, ToolCall
from banty.rollout import Store
from banty.runs import check_free, write_text
from banty.runs.folder import manifest

KIND = "import"
SPLIT = "imported"
RECORDS = "records.json"
SHARD_SIZE = 64


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """How to read a log. An empty `format` is recognized, an empty `env` taken from the log.

    `success_at` is the reward from which rollouts of verifiers and TRL count as solved. `rewards` are the columns of
    TRL's logs that make up the reward, with weights. For formats that do not say, a tool's answer that begins with
    `error_prefix` failed.
    """

    format: str = ""
    env: str = ""
    golden: Path | None = None
    effects: Path | None = None
    success_at: float = 1.0
    rewards: Mapping[str, float] = field(default_factory=dict)
    error_prefix: str = ""


@dataclass(frozen=True)
class ImportedLog:
    """A log in our terms. `origins` says of each rollout where it was; `recipe` is what its folder says of itself."""

    rollouts: tuple[Rollout, ...]
    golden: Mapping[str, tuple[ToolCall, ...]]
    origins: tuple[Mapping[str, JSON], ...]
    recipe: Mapping[str, JSON]


def read_log(path: Path, options: ImportOptions | None = None) -> ImportedLog:
    """Everything that can be had of a log. Nothing in it is run, and nothing is written.

    Raises InputError naming the file, the record, what was expected and what was found.
    """
    options = options or ImportOptions()
    if not math.isfinite(options.success_at):
        raise InputError(f"--success-at is {options.success_at}; it takes a finite number")
    effects = read_effects(options.effects) if options.effects else {}
    given = read_golden(options.golden) if options.golden else {}
    source = find_source(path, options.format)
    if options.rewards and source.format != "trl":
        raise InputError(f"--reward names columns of TRL's logs; {path} is one of {source.format}")
    reading, version = _read(source, effects, options)
    if not reading.episodes:
        left = "; ".join(f"{count} {reason}" for reason, count in reading.left_out.items())
        raise InputError(f"{path} holds no rollout to import{f': left out were {left}' if left else ''}")
    if "\x00" in options.env or ":" in options.env or "|" in options.env:
        raise InputError(f"--env {options.env!r} cannot name an environment: leave out colons and bars")
    env = options.env or reading.env
    tasks = _tasks(reading, env)
    rollouts, origins = _rollouts(reading.episodes, tasks)
    golden = _golden(reading, tasks, given, options.golden)
    recipe = _recipe(path, source, version, env, reading, rollouts, golden, options)
    return ImportedLog(rollouts, golden, origins, recipe)


def write_import(imported: ImportedLog, out: Path, more: Callable[[Path], None] | None = None) -> Path:
    """Write a run folder, whole or not at all; `more` may add files to it before it takes its name.

    Raises InputError for a folder that is taken, StoreError when it cannot be written.
    """
    check_free(out)
    draft = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        draft.mkdir()
        _write(draft / "recipe.json", imported.recipe)
        about = {"kind": KIND, "format": imported.recipe["format"], "files": imported.recipe["files"]}
        _write(draft / "manifest.json", {**manifest(), KIND: about})
        _write(draft / RECORDS, list(imported.origins))
        if imported.golden:
            _write(draft / GOLDEN, golden_json(imported.golden))
        store = Store(draft / "rollouts")
        for part, members in _parts(imported.rollouts).items():
            store.write(part, members)
        if more is not None:
            more(draft)
        draft.rename(out)  # an empty folder of that name is replaced
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"could not write the import to {out}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return out


def _write(path: Path, value: JSON) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=True) + "\n")


def _read(source: Source, effects: Mapping[str, Effect], options: ImportOptions) -> tuple[Reading, str]:
    files, success_at, prefix = source.files, options.success_at, options.error_prefix
    if source.format == "tau2":
        return tau2.read_tau2(files, effects), tau2.VERSION
    if source.format == "trl":
        return trl.read_trl(files, effects, success_at, prefix, options.rewards), trl.VERSION
    if source.traces:
        return traces.read_traces(files, effects, success_at, prefix), traces.VERSION
    return verifiers.read_verifiers(files, effects, success_at, prefix), verifiers.VERSION


def _tasks(reading: Reading, env: str) -> dict[str, Task]:
    """A task for each key that has a rollout: its index is its place in the log's own order, or that of appearance."""
    order = dict.fromkeys([*reading.keys, *(episode.key for episode in reading.episodes)])
    index = {key: place for place, key in enumerate(order)}
    tasks: dict[str, Task] = {}
    for episode in reading.episodes:
        tasks.setdefault(episode.key, Task(env, SPLIT, index[episode.key], 0, episode.public))
    return tasks


def _rollouts(
    episodes: Sequence[Episode], tasks: Mapping[str, Task]
) -> tuple[tuple[Rollout, ...], tuple[Mapping[str, JSON], ...]]:
    """Rollouts named and numbered as ours are: trials of a task in the order of the log, apart for each tag."""
    trials: Counter[str] = Counter()
    rollouts: list[Rollout] = []
    origins: list[Mapping[str, JSON]] = []
    for episode in episodes:
        task = tasks[episode.key]
        group = f"{episode.tag}|{task.id}" if episode.tag else task.id
        rollout_id = f"{group}#{trials[group]}"
        rollouts.append(
            Rollout(
                rollout_id=rollout_id,
                task=task,
                status=episode.ending.status,
                cause=episode.ending.cause,
                detail=episode.ending.detail,
                outcome=episode.outcome,
                opening=episode.opening,
                tools=episode.tools,
                turns=episode.turns,
                group_id=group,
                trial=trials[group],
                seed=episode.seed,
                policy=episode.policy,
                version=episode.version,
                root_id=rollout_id,
                duration_s=episode.duration_s,
            )
        )
        trials[group] += 1
        place = episode.place
        origins.append(
            {
                "rollout_id": rollout_id,
                "file": str(place.file),
                "record": place.record,
                "log_id": episode.log_id,
                "task_key": episode.key,
            }
        )
    return tuple(rollouts), tuple(origins)


def _golden(
    reading: Reading, tasks: Mapping[str, Task], given: Mapping[str, tuple[ToolCall, ...]], file: Path | None
) -> dict[str, tuple[ToolCall, ...]]:
    """Reference calls by our task ids; what a person gave goes before what the log says.

    A person may name a task by the log's key, by our id, or by the last thing its user says at the opening.
    """
    asked: dict[str, str] = {}
    for episode in reading.episodes:
        words = [message.content for message in episode.opening if message.role == "user"]
        asked.setdefault(episode.key, words[-1] if words else "")
    known: dict[str, tuple[ToolCall, ...]] = {}
    for key, task in tasks.items():
        names = [name for name in (key, task.id, asked[key]) if name in given]
        if names:
            known[task.id] = given[names[0]]
        elif key in reading.golden:
            known[task.id] = reading.golden[key]
    names_known = {*tasks, *asked.values(), *(task.id for task in tasks.values())}
    if given and not names_known & set(given):
        raise InputError(
            f"--golden {file} names none of the {len(tasks)} tasks of the log, such as {next(iter(tasks))!r}; its keys "
            f"are such as {next(iter(given))!r}"
        )
    return known


def _parts(rollouts: Sequence[Rollout]) -> dict[str, list[Rollout]]:
    """Rollouts by part: one for each tag, and shards where there is none."""
    parts: dict[str, list[Rollout]] = {}
    for number, rollout in enumerate(rollouts):
        tag, found, _ = rollout.group_id.partition("|")
        parts.setdefault(tag if found else f"shard-{number // SHARD_SIZE:06d}", []).append(rollout)
    return parts


def _recipe(
    path: Path,
    source: Source,
    version: str,
    env: str,
    reading: Reading,
    rollouts: Sequence[Rollout],
    golden: Mapping[str, Any],
    options: ImportOptions,
) -> dict[str, JSON]:
    called: Counter[str] = Counter()
    effects: dict[str, str] = {}
    for call in (call for rollout in rollouts for turn in rollout.turns if turn.trainable for call in turn.calls):
        if call.effect != "none":
            called[call.name] += 1
            effects[call.name] = call.effect
    known = {name: effect for name, effect in sorted(effects.items()) if effect != "unknown"}
    return {
        "kind": KIND,
        "format": source.format,
        "format_read": version,
        "source": str(path),
        "files": [{"file": str(file), "sha256": _sha256(file)} for file in _read_files(source, reading)],
        "env": env,
        "split": SPLIT,
        "success": reading.success_rule,
        "num_rollouts": len(rollouts),
        "num_tasks": len({rollout.task.id for rollout in rollouts}),
        "num_golden": len(golden),
        "policies": dict(Counter(rollout.policy for rollout in rollouts)),
        "statuses": dict(Counter(" ".join(filter(None, [one.status, one.cause])) for one in rollouts)),
        "unscored": sum(not rollout.scored for rollout in rollouts),
        "endings": dict(reading.endings),
        "left_out": dict(reading.left_out),
        "effects": known,
        "effects_unknown": unknown_tools(called, known),
        "notes": list(reading.notes),
        "options": {
            "success_at": options.success_at,
            "rewards": dict(options.rewards),
            "error_prefix": options.error_prefix,
            "golden": _named(options.golden),
            "effects": _named(options.effects),
        },
        "about": dict(reading.about),
    }


def _named(file: Path | None) -> JSON:
    return None if file is None else {"file": str(file), "sha256": _sha256(file)}


def _read_files(source: Source, reading: Reading) -> list[Path]:
    """The files of the log, those that a folder's results only point to included."""
    return list(dict.fromkeys([*source.files, *(episode.place.file for episode in reading.episodes)]))


def _sha256(file: Path) -> str:
    with file.open("rb") as raw:
        return hashlib.file_digest(raw, "sha256").hexdigest()
