"""tau2-bench's simulation results: one JSON file, or a folder of `results.json` and `simulations/`.

Read from `src/tau2/data_model/{simulation,message,tasks}.py` of sierra-research/tau2-bench, package 1.0.1 (2026-08);
files of 0.1 to 0.2.1 have fewer fields of the same names. Nothing of the benchmark is imported.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from banty.errors import InputError
from banty.interop.conversation import UNKNOWN_TOOL, Said, turns_of
from banty.interop.effects import airline_effects, with_known
from banty.interop.places import Place, described
from banty.interop.reading import Ending, Episode, Reading
from banty.interop.tau2extras import OURS, Extras, RolloutExtras, is_unread, own_id, tools_of
from banty.records import JSON, Effect, GoldenCall, Message, Outcome, ToolCall, ToolSchema

VERSION = "tau2-bench 0.1 to 1.0.1"
SUCCESS_RULE = "reward within 1e-6 of 1, as tau2-bench counts"
SIMULATIONS = "simulations"

ENDINGS: Mapping[str, Ending] = {
    "user_stop": Ending(),
    "agent_stop": Ending(),
    "max_steps": Ending(status="truncated", cause="turns", detail="the benchmark's cap on steps"),
    "too_many_errors": Ending(status="truncated", cause="errors", detail="the benchmark's cap on tool errors"),
    "agent_error": Ending(status="truncated", cause="errors", detail="the agent sent a message the protocol refuses"),
    "timeout": Ending(status="errored", cause="deadline", detail="the simulation's time ran out"),
    "user_error": Ending(status="errored", cause="simulator", detail="the simulated user failed"),
    "infrastructure_error": Ending(status="errored", cause="infrastructure", detail="infrastructure_error"),
    "unexpected_error": Ending(status="errored", cause="infrastructure", detail="unexpected_error"),
    "context_window_exceeded": Ending(
        status="errored", cause="infrastructure", detail="context_window_exceeded, which the benchmark does not count"
    ),
}
"""What each `termination_reason` means here. The benchmark scores `timeout` and `user_error` 0; nobody's action failed
there, so they are not scored."""

_TOOL_TYPES: Mapping[str, Effect] = {"read": "read", "think": "read", "generic": "read", "write": "write"}
"""The benchmark's own types, told of reference actions; a generic tool leaves the database alone."""
_CHECKS: Mapping[str, str] = {
    "action_checks": "action_match",
    "communicate_checks": "met",
    "nl_assertions": "met",
    "env_assertions": "met",
}
"""The kinds of check in a verdict, and the field that says whether one held."""
_NO_SUCH_TOOL = re.compile(r"Error: Tool '[^']*' not found\.?$")


def is_results(data: Any) -> bool:
    """Whether JSON looks like a results file, like what a folder of simulations says of itself, or like one of them."""
    if not isinstance(data, Mapping):
        return False
    if "simulations" in data:
        return isinstance(data["simulations"], list)
    about = isinstance(data.get("info"), Mapping) and isinstance(data.get("tasks"), list)
    return about or _is_simulation(data)


def _is_simulation(data: Mapping[str, Any]) -> bool:
    return {"task_id", "termination_reason"} <= set(data)


def read_tau2(files: Sequence[Path], effects: Mapping[str, Effect]) -> Reading:
    """The simulations of results files. `effects` go before what is known of a domain or said in the log.

    Raises InputError for a damaged file, and for files whose tasks are of different versions.
    """
    reading = Reading("", SUCCESS_RULE)
    domains: set[str] = set()
    for file in files:
        data, simulations = load_simulations(file)
        info = Place(file).optional(data, "info", "object", {})
        domain, policy_text = environment_of(info, file)
        domains.add(domain)
        tasks = {str(task["id"]): task for task in _tasks(data, file)}
        _note_tasks(reading, tasks, file)
        declared: dict[str, Effect] = airline_effects() if domain == "airline" else {}
        tools = tools_of(data, Place(file))
        known = {**_effects_said(simulations), **declared, **{tool.name: tool.effect for tool in tools}, **effects}
        agent = Place(file, 0, "info").optional(info, "agent_info", "object", {})
        model = str(agent.get("llm") or agent.get("implementation") or "")
        _note_about(reading, info)
        for place, simulation in simulations:
            episode = _episode(place, simulation, tasks, known, model, policy_text, tools, reading)
            if episode is not None:
                reading.episodes.append(episode)
    if len(domains - {""}) > 1:
        raise InputError(f"the files are of several domains ({', '.join(sorted(domains))}); import each by itself")
    domain = next(iter(domains - {""}), "")
    reading.env = f"tau2/{domain}" if domain else "tau2"
    return reading


def load_simulations(file: Path) -> tuple[Mapping[str, Any], list[tuple[Place, Mapping[str, Any]]]]:
    """A file's metadata, and its simulations with their places; a folder's are in files of their own."""
    data = _json(file)
    if not is_results(data):
        raise Place(file).wrong("tau2-bench results, an object with a list of simulations", data)
    if "simulations" not in data and _is_simulation(data):
        return {}, [(Place(file, 1), data)]
    listed = [(Place(file, number), each) for number, each in enumerate(data.get("simulations", ()), 1)]
    apart = file.parent / SIMULATIONS
    if not listed and apart.is_dir():
        listed = [(Place(each, 1), _json(each)) for each in sorted(apart.glob("*.json"))]
        _check_index(data, {place.file.stem for place, _ in listed}, file)
    return data, [(place, place.take(each, "object")) for place, each in listed]


def _check_index(data: Mapping[str, Any], there: set[str], file: Path) -> None:
    index = Place(file).optional(data, "simulation_index", "list", [])
    missing = sorted({str(entry["id"]) for entry in index if isinstance(entry, Mapping) and "id" in entry} - there)
    if missing:
        raise InputError(
            f"{file} lists {len(missing)} simulations that {SIMULATIONS}/ has not, such as {missing[0]}; the folder is "
            "not whole. Nothing was written"
        )


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file} is not whole JSON ({error}); fetch it again. Nothing was written") from error


def environment_of(info: Mapping[str, Any], file: Path) -> tuple[str, str]:
    """The domain, and the policy the agent was given."""
    environment = Place(file, 0, "info").optional(info, "environment_info", "object", {})
    place = Place(file, 0, "info, environment_info")
    return place.optional(environment, "domain_name", "text", ""), place.optional(environment, "policy", "text", "")


def _tasks(data: Mapping[str, Any], file: Path) -> Iterator[Mapping[str, Any]]:
    for number, task in enumerate(Place(file).optional(data, "tasks", "list", []), 1):
        place = Place(file, 0, f"task {number}")
        if "id" not in place.take(task, "object"):
            raise place.wrong("an object with an id", task)
        yield task


def _note_tasks(reading: Reading, tasks: Mapping[str, Mapping[str, Any]], file: Path) -> None:
    for key, task in tasks.items():
        golden = golden_of(task, Place(file, 0, f"task {key!r}"))
        if key not in reading.keys:
            reading.keys.append(key)
            if golden is not None:
                reading.golden[key] = golden
        elif reading.golden.get(key) != golden:
            raise InputError(
                f"{file}: task {key!r} has other reference actions than in a file before it, so the files are of "
                "different versions of the tasks; import them each by itself, and never compare their figures"
            )


def golden_of(task: Mapping[str, Any], place: Place) -> tuple[ToolCall, ...] | None:
    """The agent's calls among a task's reference actions; None where the task names no actions at all."""
    criteria = place.optional(task, "evaluation_criteria", "object", {})
    actions = place.part("evaluation_criteria").optional(criteria, "actions", "list")
    if actions is None:
        return None
    calls = []
    for number, action in enumerate(actions, 1):
        where = place.part(f"action {number}")
        where.take(action, "object")
        if action.get("requestor", "assistant") == "assistant":
            calls.append(golden_call(action, where))
    return tuple(calls)


def golden_call(raw: Mapping[str, Any], place: Place) -> ToolCall:
    """One reference call: `name`, `arguments`, and `compare_args` where not all arguments count."""
    name, arguments = place.field(raw, "name", "text"), place.field(raw, "arguments", "object")
    compared = place.optional(raw, "compare_args", "list")
    if compared is None:
        return ToolCall(name, arguments)
    where = place.part("compare_args")
    return GoldenCall(name, arguments, compared=tuple(where.take(each, "text") for each in compared))


def _effects_said(simulations: Sequence[tuple[Place, Mapping[str, Any]]]) -> dict[str, Effect]:
    """Effects of the tools among the reference actions, whose type the benchmark notes with each check."""
    said: dict[str, Effect] = {}
    for _, simulation in simulations:
        info = simulation.get("reward_info")
        checks = info.get("action_checks") if isinstance(info, Mapping) else None
        for check in checks if isinstance(checks, list) else ():
            action = check.get("action") if isinstance(check, Mapping) else None
            if isinstance(action, Mapping) and action.get("requestor", "assistant") == "assistant":
                effect = _TOOL_TYPES.get(str(check.get("tool_type")))
                if effect is not None:
                    said[str(action.get("name"))] = effect
    return said


def _note_about(reading: Reading, info: Mapping[str, Any]) -> None:
    for name in ("git_commit", "num_trials", "max_steps", "max_errors", "seed"):
        if info.get(name) is not None:
            reading.about.setdefault(name, info[name])
    for name in ("agent_info", "user_info"):
        given = info.get(name)
        if isinstance(given, Mapping):
            kept = {key: given.get(key) for key in ("implementation", "llm", "llm_args")}
            reading.about.setdefault(name, {**kept, **_version(given)})


def _version(player: Mapping[str, Any]) -> dict[str, JSON]:
    """What tells a user from another of the same name: what our export wrote, else its guidelines' hash."""
    ours, guidelines = player.get(OURS), player.get("global_simulation_guidelines")
    if isinstance(ours, Mapping):
        return {OURS: dict(ours)}
    if isinstance(guidelines, str) and guidelines:
        return {OURS: {"guidelines_sha256": hashlib.sha256(guidelines.encode()).hexdigest()}}
    return {}


def _episode(
    place: Place,
    simulation: Mapping[str, Any],
    tasks: Mapping[str, Mapping[str, Any]],
    effects: Mapping[str, Effect],
    model: str,
    policy_text: str,
    tools: tuple[ToolSchema, ...],
    reading: Reading,
) -> Episode | None:
    key = simulation.get("task_id")
    if not isinstance(key, (str, int)) or isinstance(key, bool):
        raise place.part("task_id").wrong("a text", key)
    key = str(key)
    if tasks and key not in tasks:
        raise place.part("task_id").wrong(f"one of the file's {len(tasks)} tasks", key)
    place = place.part(f"task {key!r}")
    reason = place.field(simulation, "termination_reason", "text")
    ending = ENDINGS.get(reason)
    if ending is None:
        reading.left_out[f"termination_reason {reason!r} is not known"] += 1
        return None
    if simulation.get("messages") is None:
        reading.left_out["no messages (a voice simulation, or one that never began)"] += 1
        return None
    reading.count_ending(reason, ending)
    said = said_of_messages(place.field(simulation, "messages", "list"), place)
    policy_text = place.optional(simulation, "policy", "text", "") or policy_text
    system = [Said(Message("system", policy_text))] if policy_text else []
    ours = RolloutExtras.of(simulation, place)
    ending, model = (ours.ending, ours.policy) if ours else (ending, model)
    num_given = ours.num_given if ours else _num_given(said, tasks.get(key, {}))
    opening, turns = turns_of([*system, *said[:num_given]], said[num_given:], effects, model)
    told = ours.outcome if ours else _outcome(simulation, place, reason)
    return Episode(
        place=place,
        key=key,
        ending=ending,
        outcome=told if ending.status != "errored" else Outcome(),
        opening=opening,
        turns=turns,
        log_id=str(simulation.get("id") or ""),
        public={"task_id": key},
        tools=tools or with_known((), effects),
        policy=model,
        seed=int(place.optional(simulation, "seed", "whole number", 0)),
        duration_s=float(place.optional(simulation, "duration", "number", 0.0)),
    )


def _num_given(said: Sequence[Said], task: Mapping[str, Any]) -> int:
    """How many messages the agent did not sample: the task's message history, or else the fixed greeting."""
    initial = task.get("initial_state")
    history = initial.get("message_history") if isinstance(initial, Mapping) else None
    if isinstance(history, list) and history:
        return min(len(history), len(said))
    greets = bool(said) and said[0].message.role == "assistant" and not said[0].message.calls
    return 1 if greets else 0


def said_of_messages(messages: Sequence[Message | Mapping[str, Any]], place: Place) -> list[Said]:
    """Messages of the benchmark's form, or of ours, one after the other. Raises InputError naming what is neither."""
    said: list[Said] = []
    errors: list[str] = []  # of the answers still to come, where one of our own exports notes them
    for number, raw in enumerate(messages, 1):
        where = place.part(f"message {number}")
        if isinstance(raw, Message):
            said.append(Said(raw, _BY_ROLE[raw.role]))
            continue
        several = where.take(raw, "object").get("tool_messages")
        listed = [raw] if several is None else where.part("tool_messages").take(several, "list")
        for each in listed:
            told = _one_said(where.take(each, "object"), where)
            if told.message.role == "tool" and errors:
                told = replace(told, error=errors.pop(0))
            elif told.message.role != "tool":
                errors = Extras.of(each, where).errors
            said.append(told)
    return said


_BY_ROLE: Mapping[str, Literal["agent", "user", "env"]] = {
    "system": "env",
    "user": "user",
    "assistant": "agent",
    "tool": "agent",
}


def _one_said(raw: Mapping[str, Any], place: Place) -> Said:
    role = place.field(raw, "role", "text")
    if role not in ("system", "user", "assistant", "tool"):
        raise place.part("role").wrong("one of system, user, assistant, tool", role)
    content = place.optional(raw, "content", "text", "")
    if role == "tool":
        failed = place.optional(raw, "error", "yes or no", False)
        error = (UNKNOWN_TOOL if _NO_SUCH_TOOL.match(content) else "tool") if failed else ""
        by_user = raw.get("requestor") == "user"
        return Said(Message("tool", content, call_id=own_id(raw)), "user" if by_user else "agent", error)
    listed = place.optional(raw, "tool_calls", "list", [])
    calls = tuple(call for each in listed if (call := _call(each, place.part("tool_calls"))) is not None)
    usage = place.optional(raw, "usage", "object", {})
    extras = Extras.of(raw, place)
    return Said(
        Message(role, content, calls, tuple(extras.faults), extras.reasoning),
        _BY_ROLE[role],
        prompt_tokens=int(place.optional(usage, "prompt_tokens", "number", 0)),
        sampled_tokens=int(place.optional(usage, "completion_tokens", "number", 0)),
        cost_usd=float(place.optional(raw, "cost", "number", 0.0)),
        seconds=float(place.optional(raw, "generation_time_seconds", "number", 0.0)),
        cut=extras.cut,
    )


def _call(raw: Any, place: Place) -> ToolCall | None:
    """A call; None for what stands in the place of one of our own that could not be read."""
    place.take(raw, "object")
    name, arguments = place.field(raw, "name", "text"), place.field(raw, "arguments", "object")
    return None if is_unread(raw) else ToolCall(name, arguments, own_id(raw))


def _outcome(simulation: Mapping[str, Any], place: Place, reason: str) -> Outcome:
    """The benchmark's verdict. Components are its reward by basis, and the share of each kind of check that held."""
    info = place.optional(simulation, "reward_info", "object")
    if info is None:
        return Outcome(reason="the log has no reward")
    place = place.part("reward_info")
    reward = float(place.field(info, "reward", "number"))
    breakdown = place.optional(info, "reward_breakdown", "object", {})
    components: dict[str, float | None] = {
        str(name): float(place.part("reward_breakdown").field(breakdown, name, "number")) for name in breakdown
    }
    database = place.optional(info, "db_check", "object", {})
    if isinstance(database.get("db_match"), bool):
        components["db_match"] = float(database["db_match"])
    for name, passed in _CHECKS.items():
        if checks := place.optional(info, name, "list", []):
            held = [isinstance(check, Mapping) and bool(check.get(passed)) for check in checks]
            components[name] = sum(held) / len(held)
    unmet = sorted(str(name) for name in breakdown if breakdown[name] < 1.0)
    words = f"ended by {reason}" + (f"; {', '.join(unmet)} not met" if unmet else "")
    return Outcome(abs(reward - 1.0) <= 1e-6, reward, components, words)


def golden_of_tasks(tasks: Any, file: Path) -> dict[str, tuple[ToolCall, ...]]:
    """Reference calls by task id, of a task file of the benchmark."""
    if not isinstance(tasks, list):
        raise InputError(f"{file} is no task file of tau2-bench: it holds {described(tasks)}")
    found: dict[str, tuple[ToolCall, ...]] = {}
    for number, task in enumerate(tasks, 1):
        place = Place(file, number)
        golden = golden_of(place.take(task, "object"), place)
        if golden is not None:
            found[str(task.get("id"))] = golden
    return found
