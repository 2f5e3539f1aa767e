"""What `vf-eval` of verifiers stores up to 0.3.1: `results.jsonl`, one rollout a line, with `metadata.json` beside it.

Read from `RolloutOutput` and `save_utils.py` of the wheels 0.1.14 and 0.3.1, and from stored results of early versions,
which spread metrics over the top level and note an error as text. From 0.4.0 on see `traces`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from banty.errors import InputError
from banty.interop.conversation import Said, turns_of
from banty.interop.effects import with_known
from banty.interop.messages import messages_of
from banty.interop.places import Place
from banty.interop.reading import Ending, Episode, Reading
from banty.records import Effect, Outcome, StatusCause, ToolSchema

VERSION = "verifiers 0.1 to 0.3.1 (results.jsonl)"
RESULTS, METADATA = "results.jsonl", "metadata.json"

_NO_METRIC = {
    *("example_id", "prompt", "completion", "answer", "info", "task", "reward", "advantage", "error", "timing"),
    *("is_completed", "is_truncated", "stop_condition", "metrics", "tool_defs", "oai_tools", "token_usage"),
    *("generation_ms", "scoring_ms", "total_ms", "error_chain", "long_error_chain", "trajectory", "id", "version"),
}
"""Columns that are never a metric, for files that have metrics among the others."""


def read_verifiers(
    files: Sequence[Path], effects: Mapping[str, Effect], success_at: float, error_prefix: str
) -> Reading:
    """The rollouts of `results.jsonl` files.

    The format does not say which of a tool's answers are errors: those that begin with `error_prefix` count, if one is
    given. Answers and `info`, where gold lies, are not read. Raises InputError for damaged files.
    """
    reading = Reading("", f"reward at least {success_at:g}")
    names: set[str] = set()
    prompts: dict[str, str] = {}
    differing = 0
    for file in files:
        metadata = _metadata(file.parent / METADATA)
        names.add(str(metadata.get("env_id") or ""))
        model = str(metadata.get("model") or "")
        for name in ("env_id", "env_args", "model", "sampling_args", "num_examples", "rollouts_per_example"):
            if metadata.get(name) is not None:
                reading.about.setdefault(name, metadata[name])
        for place, row in rows_of(file):
            episode = _episode(place, row, effects, success_at, error_prefix, model, reading)
            reading.episodes.append(episode)
            shown = json.dumps([message.to_json() for message in episode.opening])
            differing += prompts.setdefault(episode.key, shown) != shown
    if differing:
        reading.notes.append(
            f"{differing} rollouts have another prompt than the first of their example; if they are of different "
            "environments or versions, import them apart"
        )
    name_of_env = "+".join(sorted(names - {""}))
    reading.env = f"verifiers/{name_of_env}" if name_of_env else "verifiers"
    return reading


def rows_of(file: Path) -> Iterator[tuple[Place, Mapping[str, Any]]]:
    """The objects of a JSONL file with their places; the line number is the record's."""
    try:
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    place = Place(file, number)
                    try:
                        row = json.loads(line)
                    except (ValueError, RecursionError) as error:
                        raise InputError(
                            f"{place}: the line is not whole JSON ({error}); take it out, or fetch the file again. "
                            "Nothing was written"
                        ) from error
                    yield place, place.take(row, "object")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file} cannot be read: {error}. Nothing was written") from error


def _metadata(file: Path) -> Mapping[str, Any]:
    if not file.is_file():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file} is not whole JSON ({error}); mend it or take it away. Nothing was written") from error
    return dict(Place(file).take(found, "object"))


def _episode(
    place: Place,
    row: Mapping[str, Any],
    effects: Mapping[str, Effect],
    success_at: float,
    error_prefix: str,
    model: str,
    reading: Reading,
) -> Episode:
    example = row.get("example_id")
    if not isinstance(example, (int, str)) or isinstance(example, bool):
        raise place.wrong("a rollout of verifiers, an object with an example_id", row if example is None else example)
    for name in ("prompt", "completion"):
        if name not in row:
            raise place.wrong(f"an object with {name!r}", row)
    task = row.get("task") if isinstance(row.get("task"), str) else ""
    key = f"{task}:{example}" if task and task != "default" else str(example)
    place = place.part(f"example {example}")
    given = messages_of(row["prompt"], place.part("prompt"), "user")
    said = _without_repeat(given, messages_of(row["completion"], place.part("completion"), "assistant"))
    said = [with_error(each, error_prefix) for each in said]
    ending = _ending(place, row, said)
    reading.count_ending(_ended_by(row), ending)
    opening, turns = turns_of(given, said, effects, model)
    return Episode(
        place=place,
        key=key,
        ending=ending,
        outcome=Outcome() if ending.status == "errored" else _outcome(place, row, success_at),
        opening=opening,
        turns=turns,
        log_id=str(row.get("id") or ""),
        public={"example_id": example, **({"task": task} if task else {})},
        tools=tools_of(row.get("tool_defs") or row.get("oai_tools"), effects, place.part("tool_defs")),
        policy=model,
        duration_s=_seconds(row),
    )


def _without_repeat(given: Sequence[Said], said: list[Said]) -> list[Said]:
    """The completion without the prompt, which some environments repeat at its beginning."""
    mine = [(each.message.role, each.message.content) for each in given]
    for length in range(min(len(mine), len(said)), 0, -1):
        if [(each.message.role, each.message.content) for each in said[:length]] == mine[-length:]:
            return said[length:]
    return said


def with_error(said: Said, prefix: str) -> Said:
    """A tool's message as failed, where its text begins with `prefix`."""
    if prefix and said.message.role == "tool" and said.message.content.startswith(prefix):
        return Said(said.message, said.by, "tool")
    return said


def _ending(place: Place, row: Mapping[str, Any], said: Sequence[Said]) -> Ending:
    error = row.get("error")
    stop = place.optional(row, "stop_condition", "text", "")
    if error is not None or stop == "has_error":
        words = _error_words(error)
        if "OverlongPrompt" in words:
            return Ending(status="truncated", cause="tokens", detail="the prompt outgrew the model's context")
        return Ending(status="errored", cause=cause_of(words), detail=words)
    if stop.endswith("timeout_reached"):
        return Ending(status="errored", cause="deadline", detail=stop)
    if stop in ("prompt_too_long", "max_total_completion_tokens_reached"):
        return Ending(status="truncated", cause="tokens", detail=stop)
    num_turns = sum(each.message.role == "assistant" for each in said)
    if stop == "max_turns_reached" and num_turns > 1:  # a single-turn environment always ends so
        return Ending(status="truncated", cause="turns", detail=stop)
    if place.optional(row, "is_truncated", "yes or no", False):
        return Ending(status="truncated", cause="tokens", detail=stop or "is_truncated")
    return Ending()


def _ended_by(row: Mapping[str, Any]) -> str:
    if row.get("error") is not None:
        return "error"
    return str(row.get("stop_condition") or "no stop condition")


def _error_words(error: Any) -> str:
    if isinstance(error, Mapping):
        return str(error.get("error_chain_str") or error.get("error_chain_repr") or error.get("error") or "error")
    return str(error or "error")


def cause_of(words: str) -> StatusCause:
    """Whose failure an error is, by its name: a deadline's, a judge's, or else the infrastructure's."""
    low = words.lower()
    if "timeout" in low or "deadline" in low:
        return "deadline"
    return "judge" if "judge" in low else "infrastructure"


def _outcome(place: Place, row: Mapping[str, Any], success_at: float) -> Outcome:
    """The reward, and metrics as components; unscored where the log has no reward."""
    metrics = place.optional(row, "metrics", "object")
    if metrics is None:
        metrics = {name: value for name, value in row.items() if name not in _NO_METRIC and is_metric(value)}
    components = {str(name): float(value) for name, value in metrics.items() if is_metric(value)}
    reward = row.get("reward")
    if reward is None or reward != reward:
        return Outcome(None, None, components, "the log has no reward" if reward is None else "the reward is no number")
    place.field(row, "reward", "number")
    return Outcome(reward >= success_at, float(reward), components, f"reward {reward:g}")


def is_metric(value: Any) -> bool:
    """Whether a value can be a component: a number other than NaN; True and False count as 1 and 0."""
    return isinstance(value, (int, float)) and math.isfinite(value)


def tools_of(listed: Any, effects: Mapping[str, Effect], place: Place) -> tuple[ToolSchema, ...]:
    """The tools the agent was shown, in the flat form or under `function`, and others of known effect."""
    schemas = []
    for number, raw in enumerate(place.take([] if listed is None else listed, "list"), 1):
        where = place.part(f"tool {number}")
        tool = where.take(raw, "object")
        tool = tool["function"] if isinstance(tool.get("function"), Mapping) else tool
        name = where.field(tool, "name", "text")
        parameters = where.optional(tool, "parameters", "object", {"type": "object", "properties": {}})
        description = where.optional(tool, "description", "text", "")
        schemas.append(ToolSchema(name, description, parameters, effects.get(name, "unknown")))
    return with_known(schemas, effects)


def _seconds(row: Mapping[str, Any]) -> float:
    """How long the rollout took: from the span of its generation, or from the milliseconds that early versions note."""
    timing = row.get("timing")
    timing = timing if isinstance(timing, Mapping) else {}
    span = timing.get("generation")
    if isinstance(span, Mapping) and is_metric(span.get("start")) and is_metric(span.get("end")):
        return max(0.0, float(span["end"]) - float(span["start"]))
    given = timing.get("total_ms", row.get("total_ms"))
    return float(given) / 1000.0 if given is not None and is_metric(given) else 0.0
