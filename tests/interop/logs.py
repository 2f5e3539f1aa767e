"""Small logs written by hand, in the forms that tau2-bench, verifiers and TRL write."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas

# tau2-bench


def call(name: str, call_id: str, **arguments: Any) -> dict[str, Any]:
    return {"id": call_id, "name": name, "arguments": arguments, "requestor": "assistant"}


def says(role: str, content: str | None = None, calls: Sequence[Mapping[str, Any]] | None = None) -> dict[str, Any]:
    message = {"role": role, "content": content, "tool_calls": calls, "turn_idx": 0, "timestamp": "2026-01-01T00:00:00"}
    usage = {"prompt_tokens": 100, "completion_tokens": 7} if role == "assistant" else None
    return {**message, "cost": 0.25 if usage else None, "usage": usage, "raw_data": None}


def answers(call_id: str, content: str, error: bool = False, requestor: str = "assistant") -> dict[str, Any]:
    return {"role": "tool", "id": call_id, "content": content, "error": error, "requestor": requestor}


GREETING = says("assistant", "Hi! How can I help you today?")
CANCEL = call("cancel_reservation", "c2", reservation_id="ZFA04Y")
CONVERSATION = [
    GREETING,
    says("user", "Cancel ZFA04Y, please."),
    says("assistant", None, [call("get_reservation_details", "c1", reservation_id="ZFA04Y")]),
    answers("c1", '{"reservation_id": "ZFA04Y"}'),
    says("assistant", None, [CANCEL, call("no_such_tool", "c3")]),
    answers("c2", "Error: Reservation ZFA04Y not found", error=True),
    answers("c3", "Error: Tool 'no_such_tool' not found.", error=True),
    says("assistant", "It could not be cancelled."),
    says("user", "###STOP###"),
]


def action(name: str, requestor: str = "assistant", **arguments: Any) -> dict[str, Any]:
    return {"action_id": f"{name}_1", "requestor": requestor, "name": name, "arguments": arguments}


def tau2_task(task_id: str, actions: Sequence[Mapping[str, Any]] | None) -> dict[str, Any]:
    criteria = {"actions": actions, "communicate_info": [], "nl_assertions": [], "reward_basis": ["DB", "COMMUNICATE"]}
    return {"id": task_id, "user_scenario": {"instructions": "secret"}, "evaluation_criteria": criteria}


def simulation(
    task_id: str,
    trial: int = 0,
    reward: float | None = 1.0,
    reason: str = "user_stop",
    messages: Sequence[Mapping[str, Any]] | None = CONVERSATION,
) -> dict[str, Any]:
    verdict = None
    if reward is not None:
        checked = {"action": action("cancel_reservation"), "action_match": reward > 0.5, "tool_type": "write"}
        verdict = {
            "reward": reward,
            "db_check": {"db_match": reward == 1.0, "db_reward": reward},
            "action_checks": [checked, {**checked, "action_match": False}],
            "reward_breakdown": {"DB": reward, "COMMUNICATE": 1.0},
        }
    return {
        "id": f"sim-{task_id}-{trial}",
        "task_id": task_id,
        "trial": trial,
        "seed": 300 + trial,
        "duration": 12.5,
        "termination_reason": reason,
        "reward_info": verdict,
        "messages": messages,
    }


def tau2_results(
    simulations: Sequence[Mapping[str, Any]],
    tasks: Sequence[Mapping[str, Any]] | None = None,
    domain: str = "airline",
) -> dict[str, Any]:
    return {
        "info": {
            "git_commit": "abc",
            "num_trials": 2,
            "agent_info": {"implementation": "llm_agent", "llm": "some-model", "llm_args": {"temperature": 0.0}},
            "user_info": {"implementation": "user_simulator", "llm": "user-model", "llm_args": {}},
            "environment_info": {"domain_name": domain, "policy": "Be kind.", "tool_defs": None},
        },
        "tasks": [tau2_task("7", [action("cancel_reservation", reservation_id="ZFA04Y")]), tau2_task("9", [])]
        if tasks is None
        else tasks,
        "simulations": simulations,
    }


def write_json(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


# verifiers

WEATHER = {"id": "w1", "name": "weather", "arguments": '{"city": "Rome"}'}


def vf_row(example_id: int = 0, reward: float | None = 1.0, **more: Any) -> dict[str, Any]:
    """A row as 0.1.14 and 0.3.1 write it: calls as JSON texts of the flat form."""
    row = {
        "example_id": example_id,
        "prompt": [{"role": "system", "content": "Use tools."}, {"role": "user", "content": f"Question {example_id}?"}],
        "completion": [
            {"role": "assistant", "content": "", "tool_calls": [json.dumps(WEATHER)]},
            {"role": "tool", "tool_call_id": "w1", "content": "Error: no such city"},
            {"role": "assistant", "content": "I do not know.", "reasoning_content": "hm"},
        ],
        "answer": "the gold answer",
        "info": {"gold": "the gold answer"},
        "reward": reward,
        "error": None,
        "timing": {"start_time": 1.0, "generation": {"start": 1.0, "end": 3.5}},
        "is_completed": True,
        "is_truncated": False,
        "stop_condition": "no_tools_called",
        "metrics": {"exact": 1.0, "num_turns": 2.0},
        "tool_defs": [{"name": "weather", "description": "Tell it.", "parameters": {"type": "object"}}],
        "exact": 1.0,
    }
    return {**row, **more}


def write_jsonl(path: Path, rows: Sequence[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_verifiers(folder: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    write_json(folder / "metadata.json", {"env_id": "my-env", "model": "some-model", "rollouts_per_example": 2})
    return write_jsonl(folder / "results.jsonl", rows)


def trace(key: str = "k0", score: float | None = 1.0, **more: Any) -> dict[str, Any]:
    """A trace as 0.4.0 writes it, of one branch."""
    spoken = [
        ({"role": "system", "content": "Use tools."}, False),
        ({"role": "user", "content": "Question?"}, False),
        ({"role": "assistant", "content": "", "tool_calls": [{**WEATHER, "type": "function"}]}, True),
        ({"role": "tool", "tool_call_id": "w1", "content": "sunny"}, False),
        ({"role": "assistant", "content": "Sunny."}, True),
    ]
    nodes = [
        {"parent": at - 1 if at else None, "message": message, "sampled": sampled}
        for at, (message, sampled) in enumerate(spoken)
    ]
    made = {
        "version": 1,
        "id": f"trace-{key}",
        "task": {"type": "T", "key": key, "data": {"idx": 3, "answer": "the gold answer"}},
        "agent": {"name": "agent", "trainable": True, "config": {"model": "some-model"}},
        "tools": [{"type": "function", "name": "weather", "description": "", "parameters": {}}],
        "nodes": nodes,
        "calls": [
            {"node": 2, "model": "some-model", "usage": {"prompt_tokens": 20, "completion_tokens": 5, "cost": 0.5}},
            {"node": 4, "model": "some-model", "finish_reason": "stop", "time": {"start": 1.0, "end": 2.0}},
        ],
        "rewards": {"correct": None if score is None else {"score": score, "weight": 1.0}},
        "metrics": {"length": 2.0},
        "is_completed": True,
        "ok": True,
        "stop_condition": "agent_completed",
        "is_timeout": False,
        "errors": [],
    }
    return {**made, **more}


def episode(*traces: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": "e", "env": {"id": "my-env"}, "task": {"type": "T", "data": {}}, "ok": True, "traces": list(traces)}


# TRL


def trl_row(prompt: Any = None, completion: Any = None, step: int = 10, **columns: Any) -> dict[str, Any]:
    asked = [{"role": "user", "content": "Question?"}]
    looked_up = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Rome"}}}
    told = [
        {"role": "assistant", "content": None, "tool_calls": [looked_up]},
        {"role": "tool", "name": "weather", "content": "{'error': 'no such city'}"},
        {"role": "assistant", "content": "I do not know."},
    ]
    return {"step": step, "prompt": prompt or asked, "completion": completion or told, **columns, "advantage": 0.5}


def write_trl(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """As the trainer does: a pandas frame."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pandas.DataFrame(list(rows)).to_parquet(path)
    return path
