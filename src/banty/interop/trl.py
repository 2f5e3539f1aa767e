"""The completions that TRL's GRPO and RLOO trainers log: `completions/completions_STEP.parquet`.

Read from `trl/trainer/grpo_trainer.py` (`log`, `_generate_and_score_completions`) of the wheel 1.16.0: columns `step`,
`prompt`, `completion`, one per reward function, extra ones, and `advantage`. Earlier ones have a column `reward`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from banty.errors import InputError
from banty.interop.conversation import Said, turns_of
from banty.interop.effects import with_known
from banty.interop.messages import messages_of
from banty.interop.places import Place
from banty.interop.reading import Ending, Episode, Reading
from banty.interop.verifiers import with_error
from banty.records import Effect, Outcome, sha256_json

VERSION = "trl 0.16 to 1.16.0 (completions parquet)"
TOTAL, STEP, ADVANTAGE = "reward", "step", "advantage"
_NEEDED = ("prompt", "completion")
_ERROR = ("{'error': ", '{"error": ')
"""How the trainer words what a tool raised: the text of a dict with this one key."""


def is_completions(columns: Sequence[str]) -> bool:
    return all(name in columns for name in _NEEDED)


def columns_of(file: Path) -> list[str]:
    """The columns of a Parquet file. Raises InputError for what is none."""
    try:
        return list(pq.read_schema(file).names)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{file} is no whole Parquet file ({error}); fetch it again. Nothing was written") from error


def read_trl(
    files: Sequence[Path],
    effects: Mapping[str, Effect],
    success_at: float,
    error_prefix: str,
    weights: Mapping[str, float],
) -> Reading:
    """The rows of completions files as rollouts; rows of one prompt and step are a group, the step is the version.

    The reward is the sum of the reward functions' columns under `weights`; where none are given that of all columns of
    numbers but `step` and `advantage`, each counted once (the log does not hold the trainer's own weights). The trainer
    logs a generation again at each step that still trains on it; a file whose rows are those of the one before is left
    out. Raises InputError for damaged files and unknown columns.
    """
    reading = Reading("trl", "")
    before = ""
    used: dict[str, float] = {}
    for file in files:
        table = _table(file)
        used = _weights(file, table, weights)
        rows = [_plain(row) for row in table.to_pylist()]
        content = sha256_json([{name: value for name, value in row.items() if name != STEP} for row in rows])
        if rows and content == before:
            reading.left_out["row of a generation that an earlier step had logged"] += len(rows)
            continue
        before = content
        for number, row in enumerate(rows, 1):
            episode = _episode(Place(file, number), row, used, effects, success_at, error_prefix)
            ended = "no verdict" if episode.outcome.success is None else "scored"
            reading.count_ending(ended, episode.ending)
            reading.episodes.append(episode)
    summed = " + ".join(name if weight == 1.0 else f"{weight:g} {name}" for name, weight in used.items())
    reading.success_rule = f"{summed} at least {success_at:g}"
    reading.about["reward_columns"] = dict(used)
    return reading


def _table(file: Path) -> pa.Table:
    columns = columns_of(file)
    if not is_completions(columns):
        raise Place(file).wrong(f"TRL's completions, with columns {' and '.join(_NEEDED)}", columns)
    try:
        return pq.read_table(file)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{file} cannot be read as Parquet: {error}. Nothing was written") from error


def _weights(file: Path, table: pa.Table, wanted: Mapping[str, float]) -> dict[str, float]:
    """The reward columns of a file and their weights."""
    numeric = [
        field.name
        for field in table.schema
        if (pa.types.is_floating(field.type) or pa.types.is_integer(field.type))
        and field.name not in (STEP, ADVANTAGE)
        and not field.name.startswith("__")  # pandas' own index
    ]
    if missing := sorted(set(wanted) - set(numeric)):
        raise InputError(f"{file} has no column of numbers {missing[0]!r} for --reward; it has {', '.join(numeric)}")
    if wanted:
        return dict(wanted)
    if not numeric:
        raise Place(file).wrong("a column of rewards", table.column_names)
    return {TOTAL: 1.0} if TOTAL in numeric else dict.fromkeys(numeric, 1.0)


def _plain(value: Any) -> Any:
    """A row as JSON, without keys that are null: Parquet gives every message and every call the keys of all."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (str, int, float, bool)) or value is None else str(value)


def _episode(
    place: Place,
    row: Mapping[str, Any],
    weights: Mapping[str, float],
    effects: Mapping[str, Effect],
    success_at: float,
    error_prefix: str,
) -> Episode:
    for name in _NEEDED:
        if row.get(name) is None:
            raise place.part(name).wrong("a list of messages or a text", None)
    step = int(place.optional(row, STEP, "whole number", 0))
    given = messages_of(row["prompt"], place.part("prompt"), "user")
    said = messages_of(row["completion"], place.part("completion"), "assistant")
    said = [_with_error(with_error(each, error_prefix)) for each in said]
    opening, turns = turns_of(given, said, effects, "", step)
    return Episode(
        place=place,
        key=sha256_json([message.to_json() for message in opening])[:16],
        ending=Ending(),
        outcome=_outcome(place, row, weights, success_at),
        opening=opening,
        turns=turns,
        tools=with_known((), effects),
        tag=f"step-{step:05d}",
        version=step,
    )


def _with_error(said: Said) -> Said:
    failed = said.message.role == "tool" and said.message.content.startswith(_ERROR)
    return dataclasses.replace(said, error="tool") if failed else said


def _outcome(place: Place, row: Mapping[str, Any], weights: Mapping[str, float], success_at: float) -> Outcome:
    """The weighted sum of what was given; a function that gave none (NaN) is left out of it, as the trainer does."""
    components: dict[str, float | None] = {}
    for name in weights:
        value = row.get(name)
        components[name] = None if value is None or value != value else place.field(row, name, "number")
    given = [weights[name] * value for name, value in components.items() if value is not None]
    if not given:
        return Outcome(None, None, components, "no reward function judged it")
    reward = float(sum(given))
    return Outcome(reward >= success_at, reward, components, f"reward {reward:g}")
