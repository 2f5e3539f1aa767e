"""What `vf-eval` of verifiers stores from 0.4.0 on: `traces.jsonl`, one episode a line, each with its agents' traces.

Read from `verifiers/v1/{episode,trace,graph,types}.py` of the wheel 0.4.0. A trace is a graph of messages; its last
branch is what is imported.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from banty.interop.conversation import Said, turns_of
from banty.interop.messages import said_of
from banty.interop.places import Place
from banty.interop.reading import Ending, Episode, Reading
from banty.interop.verifiers import cause_of, is_metric, rows_of, tools_of, with_error
from banty.records import Effect, Outcome

VERSION = "verifiers 0.4.0 (traces.jsonl)"
TRACES = "traces.jsonl"

_TOKEN_CAPS = ("max_input_tokens", "max_output_tokens", "max_total_tokens", "compaction_failed")


def is_trace_row(row: Mapping[str, Any]) -> bool:
    return isinstance(row.get("traces"), list) or isinstance(row.get("nodes"), list)


def read_traces(files: Sequence[Path], effects: Mapping[str, Effect], success_at: float, error_prefix: str) -> Reading:
    """The trainable traces of `traces.jsonl` files, grouped by their task's key; task data is not read."""
    reading = Reading("", f"weighted sum of rewards at least {success_at:g}")
    names: set[str] = set()
    for file in files:
        for place, row in rows_of(file):
            env = place.optional(row, "env", "object", {})
            names.add(str(env.get("id") or ""))
            listed = [row] if "nodes" in row else place.field(row, "traces", "list")
            if not listed:
                reading.left_out["an episode without any trace"] += 1
            for number, trace in enumerate(listed, 1):
                where = place.part(f"trace {number}") if len(listed) > 1 else place
                episode = _episode(where, where.take(trace, "object"), effects, success_at, error_prefix, reading)
                if episode is not None:
                    reading.episodes.append(episode)
    name_of_env = "+".join(sorted(names - {""}))
    reading.env = f"verifiers/{name_of_env}" if name_of_env else "verifiers"
    return reading


def _episode(
    place: Place,
    trace: Mapping[str, Any],
    effects: Mapping[str, Effect],
    success_at: float,
    error_prefix: str,
    reading: Reading,
) -> Episode | None:
    agent = place.optional(trace, "agent", "object", {})
    if not place.part("agent").optional(agent, "trainable", "yes or no", True):
        reading.left_out["trace of an agent that is not trained"] += 1
        return None
    key, public = _task(place, trace)
    nodes = [place.take(node, "object") for node in place.field(trace, "nodes", "list")]
    branch = _last_branch(nodes, place)
    if len(branch) < len(nodes):
        reading.left_out["messages off the last branch of a trace whose history was rewritten"] += len(nodes) - len(
            branch
        )
    calls = {call.get("node"): call for call in place.optional(trace, "calls", "list", []) if isinstance(call, Mapping)}
    said = [with_error(_said(nodes[at], calls.get(at, {}), place.part(f"node {at}")), error_prefix) for at in branch]
    num_given = next((count for count, each in enumerate(said) if each.by == "agent" and _spoke(each)), len(said))
    ending = _ending(place, trace, calls)
    stop = str(trace.get("stop_condition") or "no stop condition")
    reading.count_ending(stop, ending)
    model = _model(agent, calls)
    opening, turns = turns_of(said[:num_given], said[num_given:], effects, model)
    tools = trace.get("tools") or (nodes[0].get("tools") if nodes else None)
    return Episode(
        place=place,
        key=key,
        ending=ending,
        outcome=Outcome() if ending.status == "errored" else _outcome(place, trace, success_at),
        opening=opening,
        turns=turns,
        log_id=str(trace.get("id") or ""),
        public=public,
        tools=tools_of(tools, effects, place.part("tools")),
        policy=model,
    )


def _task(place: Place, trace: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """The task's key, and what may be known of it: its place in the taskset and its id, never its data."""
    task = place.field(trace, "task", "object")
    data = place.part("task").optional(task, "data", "object", {})
    public = {name: data[name] for name in ("idx", "id", "name") if isinstance(data.get(name), (str, int))}
    key = task.get("key") or task.get("hash") or public.get("id") or public.get("idx")
    if key is None:
        raise place.part("task").wrong("a task with a key, a hash, or data with an id or idx", task)
    return str(key), public


def _last_branch(nodes: Sequence[Mapping[str, Any]], place: Place) -> list[int]:
    """The path from a root to the last leaf."""
    parents = [node.get("parent") for node in nodes]
    path: list[int] = []
    at: Any = len(nodes) - 1 if nodes else None
    while at is not None:
        if not isinstance(at, int) or not 0 <= at < len(nodes) or at in path:
            raise place.part("nodes").wrong("a node's parent among the nodes before it", at)
        path.append(at)
        at = parents[at]
    return path[::-1]


def _said(node: Mapping[str, Any], call: Mapping[str, Any], place: Place) -> Said:
    said = said_of(node.get("message"), place)
    if said.message.role != "assistant":
        return said
    if not node.get("sampled"):
        return dataclasses.replace(said, by="env")
    usage = call.get("usage")
    usage = usage if isinstance(usage, Mapping) else {}
    time = call.get("time")
    span = time if isinstance(time, Mapping) else {}
    return dataclasses.replace(
        said,
        prompt_tokens=_count(usage.get("prompt_tokens")) + _count(usage.get("cached_input_tokens")),
        sampled_tokens=_count(usage.get("completion_tokens")),
        cost_usd=_amount(usage.get("cost")),
        seconds=max(0.0, _amount(span.get("end")) - _amount(span.get("start"))),
        cut=call.get("finish_reason") == "length",
    )


def _spoke(said: Said) -> bool:
    return said.message.role == "assistant"


def _count(value: Any) -> int:
    return int(_amount(value))


def _amount(value: Any) -> float:
    return float(value) if value is not None and is_metric(value) else 0.0


def _ending(place: Place, trace: Mapping[str, Any], calls: Mapping[Any, Mapping[str, Any]]) -> Ending:
    stop = place.optional(trace, "stop_condition", "text", "")
    if place.optional(trace, "is_timeout", "yes or no", False):
        return Ending(status="errored", cause="deadline", detail=stop or "a deadline expired")
    if not place.field(trace, "ok", "yes or no"):
        errors = [error for error in place.optional(trace, "errors", "list", []) if isinstance(error, Mapping)]
        words = f"{errors[-1].get('type')}: {errors[-1].get('message')}" if errors else stop or "not completed"
        return Ending(status="errored", cause=cause_of(words.partition(":")[0]), detail=words)
    if stop == "max_turns":
        return Ending(status="truncated", cause="turns", detail=stop)
    if stop in _TOKEN_CAPS:
        return Ending(status="truncated", cause="tokens", detail=stop)
    done = [call for call in calls.values() if call.get("error") is None]
    if done and done[-1].get("finish_reason") == "length":
        return Ending(status="truncated", cause="tokens", detail="the last answer met the token limit")
    return Ending()


def _outcome(place: Place, trace: Mapping[str, Any], success_at: float) -> Outcome:
    """The weighted sum of the rewards; they and the metrics are the components."""
    components: dict[str, float | None] = {}
    metrics = place.optional(trace, "metrics", "object", {})
    components.update({str(name): float(value) for name, value in metrics.items() if is_metric(value)})
    total, scored = 0.0, False
    rewards = place.optional(trace, "rewards", "object", {})
    for name, given in rewards.items():
        where = place.part(f"reward {name!r}")
        if given is None:
            components[str(name)] = None
            continue
        score = where.field(where.take(given, "object"), "score", "number")
        components[str(name)] = float(score)
        total += score * where.optional(given, "weight", "number", 1.0)
        scored = True
    if not scored:
        return Outcome(None, None, components, "the log has no reward")
    return Outcome(total >= success_at, total, components, f"reward {total:g}")


def _model(agent: Mapping[str, Any], calls: Mapping[Any, Mapping[str, Any]]) -> str:
    named = next((str(call["model"]) for call in calls.values() if call.get("model")), "")
    config = agent.get("config")
    return named or str((config.get("model") if isinstance(config, Mapping) else None) or "")
