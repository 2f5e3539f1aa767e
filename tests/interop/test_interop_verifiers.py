"""verifiers' stored results, before and since 0.4.0."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.interop import logs

from banty.errors import InputError
from banty.interop import ImportOptions, read_log


def test_rows_become_rollouts_grouped_by_example(tmp_path: Path) -> None:
    rows = [logs.vf_row(4), logs.vf_row(4, 0.25), logs.vf_row(2)]
    logs.write_verifiers(tmp_path, rows)
    log = read_log(tmp_path)
    first, second, other = log.rollouts
    assert first.rollout_id == "verifiers/my-env:imported:0:0#0"
    assert (first.group_id, second.trial, other.task.index) == (second.group_id, 1, 1)
    assert [message.role for message in first.opening] == ["system", "user"]
    assert [turn.calls[0].arguments if turn.calls else None for turn in first.turns] == [{"city": "Rome"}, None]
    assert first.turns[1].message.reasoning == "hm"
    assert first.outcome.components == {"exact": 1.0, "num_turns": 2.0}
    assert (first.outcome.success, second.outcome.success, second.outcome.reward) == (True, False, 0.25)
    assert (first.policy, first.duration_s) == ("some-model", 2.5)
    assert first.tools[0].name == "weather"
    assert first.tools[0].effect == first.turns[0].calls[0].effect == "unknown"
    assert "the gold answer" not in repr(log.rollouts)


def test_success_and_errors_of_tools_are_what_the_options_say(tmp_path: Path) -> None:
    logs.write_verifiers(tmp_path, [logs.vf_row(0, 0.25)])
    effects = logs.write_json(tmp_path / "effects.json", {"weather": "read"})
    (rollout,) = read_log(tmp_path, ImportOptions(success_at=0.25, error_prefix="Error", effects=effects)).rollouts
    assert rollout.outcome.success
    assert (rollout.turns[0].calls[0].error, rollout.turns[0].calls[0].effect) == ("tool", "read")
    (rollout,) = read_log(tmp_path).rollouts
    assert rollout.turns[0].calls[0].error == ""  # the format does not say, and nothing is guessed


ERROR = {"error": "SandboxError", "error_chain_repr": "SandboxError('x')", "error_chain_str": "SandboxError: x"}
ENDINGS: list[tuple[dict[str, Any], str, str]] = [
    ({}, "completed", ""),
    ({"error": ERROR, "reward": 0.0, "stop_condition": "has_error"}, "errored", "infrastructure"),
    ({"error": "ModelError('Request timeout')", "reward": 0.0}, "errored", "deadline"),
    ({"error": "JudgeError()", "reward": 0.0}, "errored", "judge"),
    ({"error": "OverlongPromptError()"}, "truncated", "tokens"),
    ({"stop_condition": "timeout_reached"}, "errored", "deadline"),
    ({"stop_condition": "max_turns_reached"}, "truncated", "turns"),
    ({"stop_condition": "prompt_too_long", "is_truncated": True}, "truncated", "tokens"),
    ({"is_truncated": True}, "truncated", "tokens"),
    ({"stop_condition": "max_turns_reached", "completion": "a plain text"}, "completed", ""),
]


@pytest.mark.parametrize("place", range(len(ENDINGS)))
def test_what_ended_it_decides_whether_it_counts(tmp_path: Path, place: int) -> None:
    more, status, cause = ENDINGS[place]
    logs.write_verifiers(tmp_path, [logs.vf_row(**more)])
    (rollout,) = read_log(tmp_path).rollouts
    assert (rollout.status, rollout.cause) == (status, cause)
    assert rollout.scored == (status != "errored")


def test_early_files_have_metrics_among_their_columns_and_calls_in_openais_form(tmp_path: Path) -> None:
    early = {"id": "w1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
    broken = {"id": "w2", "type": "function", "function": {"name": "weather", "arguments": '{"city": '}}
    asked = {"role": "user", "content": "Question?"}
    row = {
        "example_id": 0,
        "task": "default",
        "prompt": [asked],
        "completion": [  # some environments repeat the prompt, and early tool messages have no id
            {**asked, "tool_calls": None},
            {"role": "assistant", "content": None, "tool_calls": [json.dumps(early), json.dumps(broken)]},
            {"role": "tool", "content": "sunny"},
            {"role": "tool", "content": "unreadable"},
            {"role": "assistant", "content": [{"type": "text", "text": "Sunny."}, {"type": "image_url"}]},
        ],
        "reward": 1.0,
        "error": None,
        "total_ms": 1500.0,
        "exact": 1.0,
        "note": "text",
    }
    file = logs.write_jsonl(tmp_path / "results.jsonl", [row])
    (rollout,) = read_log(file).rollouts
    assert len(rollout.opening) == 1
    assert rollout.outcome.components == {"exact": 1.0}
    assert rollout.duration_s == 1.5
    assert [(one.output, one.error, one.effect) for one in rollout.turns[0].calls] == [
        ("sunny", "", "unknown"),
        ("unreadable", "malformed", "none"),
    ]
    assert rollout.turns[0].message.faults[0].raw
    assert rollout.turns[1].message.content == "Sunny.[image_url]"


def test_a_missing_or_nan_reward_is_no_verdict(tmp_path: Path) -> None:
    logs.write_verifiers(tmp_path, [logs.vf_row(0, None), logs.vf_row(0, float("nan"))])
    assert [rollout.outcome.success for rollout in read_log(tmp_path).rollouts] == [None, None]


def test_prompts_that_differ_within_an_example_are_noted(tmp_path: Path) -> None:
    logs.write_verifiers(tmp_path, [logs.vf_row(0), logs.vf_row(0, prompt="Another?")])
    assert "1 rollouts have another prompt" in str(read_log(tmp_path).recipe["notes"])


BROKEN: dict[str, tuple[Any, str]] = {
    "no example": ({"prompt": [], "completion": []}, "expected a rollout of verifiers, an object with an example_id"),
    "no prompt": ({"example_id": 1}, "expected an object with 'prompt'"),
    "a list": ([1, 2], "expected an object, found a list of 2"),
    "a role": (logs.vf_row(completion=[{"role": "judge"}]), "completion, message 1, role: expected one of"),
    "a reward": (logs.vf_row(0, reward="good"), "reward: expected a number, found 'good'"),  # type: ignore[arg-type]
    "content": (logs.vf_row(prompt=[{"role": "user", "content": 3}]), "content: expected a text or a list of parts"),
}


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_damage_is_named_by_line_and_field(tmp_path: Path, name: str) -> None:
    broken, words = BROKEN[name]
    file = logs.write_jsonl(tmp_path / "results.jsonl", [logs.vf_row(), broken])
    with pytest.raises(InputError) as error:
        read_log(file)
    assert f"{file}, record 2" in str(error.value)
    assert words in str(error.value)


def test_a_cut_line_is_named(tmp_path: Path) -> None:
    file = logs.write_verifiers(tmp_path, [logs.vf_row(), logs.vf_row()])
    file.write_text(file.read_text()[:-40])
    with pytest.raises(InputError, match="record 2: the line is not whole JSON"):
        read_log(tmp_path)


def test_traces_become_rollouts_grouped_by_task_key(tmp_path: Path) -> None:
    rows = [logs.episode(logs.trace("k0")), logs.episode(logs.trace("k0", 0.5)), logs.episode(logs.trace("k1"))]
    logs.write_jsonl(tmp_path / "traces.jsonl", rows)
    log = read_log(tmp_path)
    first, second, _ = log.rollouts
    assert (first.group_id, second.trial, second.outcome.success) == (second.group_id, 1, False)
    assert [message.role for message in first.opening] == ["system", "user"]
    looked, said = first.turns
    assert (looked.calls[0].output, looked.prompt_tokens, looked.sampled_tokens, looked.cost_usd) == (
        "sunny",
        20,
        5,
        0.5,
    )
    assert (said.message.content, said.policy_s, said.policy) == ("Sunny.", 1.0, "some-model")
    assert first.outcome.components == {"correct": 1.0, "length": 2.0}
    assert first.task.public == {"idx": 3}
    assert "the gold answer" not in repr(log.rollouts)
    assert str(log.recipe["format_read"]).startswith("verifiers 0.4.0")


def test_a_trace_that_failed_is_not_scored_and_others_agents_are_left_out(tmp_path: Path) -> None:
    failed = logs.trace(ok=False, stop_condition="sandbox_error", errors=[{"type": "SandboxError", "message": "gone"}])
    judge = logs.trace(agent={"name": "judge", "trainable": False})
    late = logs.trace(is_timeout=True, stop_condition="agent_timeout")
    capped = logs.trace(stop_condition="max_turns")
    weighted = logs.trace(rewards={"a": {"score": 1.0, "weight": 0.5}, "b": None})
    logs.write_jsonl(tmp_path / "traces.jsonl", [logs.episode(failed, judge, late, capped, weighted), logs.episode()])
    log = read_log(tmp_path)
    assert [(one.status, one.cause, one.outcome.reward) for one in log.rollouts] == [
        ("errored", "infrastructure", None),
        ("errored", "deadline", None),
        ("truncated", "turns", 1.0),
        ("completed", "", 0.5),
    ]
    assert log.rollouts[0].detail == "SandboxError: gone"
    assert log.recipe["left_out"] == {"trace of an agent that is not trained": 1, "an episode without any trace": 1}


def test_of_a_rewritten_history_the_last_branch_is_read(tmp_path: Path) -> None:
    forked = logs.trace()
    forked["nodes"].append({"parent": 1, "message": {"role": "assistant", "content": "Anew."}, "sampled": True})
    logs.write_jsonl(tmp_path / "traces.jsonl", [logs.episode(forked)])
    log = read_log(tmp_path)
    assert [turn.message.content for turn in log.rollouts[0].turns] == ["Anew."]
    assert list(log.recipe["left_out"].values()) == [3]
    forked["nodes"][1]["parent"] = 5  # a circle
    logs.write_jsonl(tmp_path / "traces.jsonl", [logs.episode(forked)])
    with pytest.raises(InputError, match="record 1, nodes: expected a node's parent"):
        read_log(tmp_path)
