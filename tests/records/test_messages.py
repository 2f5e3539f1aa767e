"""Records survive JSON, and compare by what they hold."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from banty.records import (
    CallFault,
    CallResult,
    Group,
    Message,
    Outcome,
    Rollout,
    Segment,
    Task,
    ToolCall,
    ToolSchema,
    TrainingSample,
    Transform,
    Turn,
    canonical_json,
    sha256_json,
)

TEXT = st.text(max_size=8)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
JSON_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
OBJECT = st.dictionaries(TEXT, JSON_VALUE, max_size=3)
CALL = st.builds(ToolCall, TEXT, OBJECT, TEXT)
FAULT = st.builds(
    CallFault,
    st.sampled_from(["malformed", "truncated", "unknown_tool", "unknown_parameter", "missing_parameter", "bad_value"]),
    TEXT,
    st.integers(0, 9),
    st.integers(0, 99),
    TEXT,
    TEXT,
)
MESSAGE = st.builds(
    Message,
    st.sampled_from(["system", "user", "assistant", "tool"]),
    TEXT,
    st.lists(CALL, max_size=2).map(tuple),
    st.lists(FAULT, max_size=2).map(tuple),
    TEXT,
    TEXT,
)
EFFECT = st.sampled_from(["read", "write", "terminal"])
SCHEMA = st.builds(ToolSchema, TEXT, TEXT, OBJECT, EFFECT)
RESULT = st.builds(CallResult, TEXT, OBJECT, TEXT, EFFECT | st.just("none"), TEXT, TEXT, TEXT)
OUTCOME = st.builds(
    Outcome,
    st.none() | st.booleans(),
    st.none() | NUMBER,
    st.dictionaries(TEXT, st.none() | NUMBER, max_size=2),
    TEXT,
)


@given(CALL | FAULT | MESSAGE | SCHEMA | RESULT | OUTCOME)
@settings(max_examples=150, deadline=None)
def test_a_record_survives_json(record: Any) -> None:
    there = json.dumps(record.to_json(), allow_nan=False)
    assert type(record).from_json(json.loads(there)) == record
    assert json.dumps(record.to_json()) == there, "telling it does not change it"


@given(MESSAGE)
@settings(max_examples=50, deadline=None)
def test_a_message_tells_only_what_it_has(message: Message) -> None:
    told = message.to_json()
    assert {"role", "content"} <= set(told)
    assert all(told[key] for key in set(told) - {"role", "content"})


def test_what_a_message_looks_like() -> None:
    message = Message("assistant", "Let me see.", (ToolCall("find", {"title": "Emma"}, "c1"),))
    assert message.to_json() == {
        "role": "assistant",
        "content": "Let me see.",
        "calls": [{"name": "find", "arguments": {"title": "Emma"}, "id": "c1"}],
    }
    assert Message.from_json({"role": "user"}) == Message("user")
    assert ToolCall.from_json({"name": "find", "arguments": {}}) == ToolCall("find", {})


def test_any_mapping_is_told_as_json() -> None:
    arguments = MappingProxyType({"title": "Emma"})
    schema = ToolSchema("find", "", MappingProxyType({"type": "object"}))
    for record in (ToolCall("find", arguments), schema, CallResult("find", arguments, "")):
        json.dumps(record.to_json())
    json.dumps(schema.to_openai())


def test_a_tools_effect_is_not_shown_to_the_policy() -> None:
    schema = ToolSchema("lend", "Lend a book.", effect="write")
    assert schema.to_openai() == {
        "type": "function",
        "function": {
            "name": "lend",
            "description": "Lend a book.",
            "parameters": {"type": "object", "properties": {}},
        },
    }
    assert "write" not in json.dumps(schema.to_openai())


def test_a_schemas_default_parameters_are_its_own() -> None:
    one, other = ToolSchema("a", ""), ToolSchema("b", "")
    assert one.parameters == other.parameters
    assert one.parameters is not other.parameters


# Tasks.


def test_a_task_shows_its_pin_and_never_its_data() -> None:
    task = Task("desk", "test", 3, 7, {"level": 1}, data={"gold": "secret"})
    assert task.pin == {"env": "desk", "split": "test", "index": 3, "seed": 7}
    assert task.id == "desk:test:3:7"
    for shown in (repr(task), str(task), f"{task}", json.dumps(task.pin), repr([task]), repr(Group(task, ()))):
        assert "secret" not in shown
    assert task == Task("desk", "test", 3, 7, {"level": 1})


def test_canonical_json_is_one_text_for_equal_values() -> None:
    assert canonical_json({"b": [1, 2.5], "a": "ä"}) == '{"a":"ä","b":[1,2.5]}'
    assert sha256_json({"b": 1, "a": 2}) == sha256_json({"a": 2, "b": 1})
    assert sha256_json(1) != sha256_json(1.0)
    assert sha256_json("a") == "ac8d8342bbb2362d13f0a559a3621bb407011368895164b628a54f7fc33fc43c"


# Segments and training samples.

S0, S1, U0, A0, A1, T0, T1, B0, E = range(10, 19)
FIRST = Segment([S0, S1, U0], [A0, A1, E], [-0.1, -0.2, -0.3])
SECOND = Segment([T0, T1], [B0, E], [-0.4, -0.5], continues=True)


def test_the_segment_docstrings_example() -> None:
    """Concatenating a rollout's segments gives exactly what the policy saw and produced."""
    concatenated = [token for segment in (FIRST, SECOND) for token in (*segment.prompt_ids, *segment.sampled_ids)]
    assert concatenated == [S0, S1, U0, A0, A1, E, T0, T1, B0, E]
    assert not FIRST.continues
    assert SECOND.continues


def test_the_training_sample_docstrings_example() -> None:
    """The mask covers exactly the sampled tokens, end-of-turn included, and everything else is zero off it."""
    a0, a1, w0, w1 = 0.5, -1.0, 1.0, 0.25
    ids: list[int] = []
    mask: list[bool] = []
    turn_ids: list[int] = []
    logprobs: list[float] = []
    for turn, segment in enumerate((FIRST, SECOND)):
        ids += [*segment.prompt_ids, *segment.sampled_ids]
        mask += [False] * len(segment.prompt_ids) + [True] * len(segment.sampled_ids)
        turn_ids += [-1] * len(segment.prompt_ids) + [turn] * len(segment.sampled_ids)
        logprobs += [0.0] * len(segment.prompt_ids) + list(segment.sampler_logprobs)
    sample = TrainingSample(
        "r",
        np.array(ids, np.int32),
        np.array(mask),
        np.array(turn_ids, np.int32),
        np.array(logprobs, np.float32),
        np.array([(a0, a1)[turn] if turn >= 0 else 0.0 for turn in turn_ids], np.float32),
        np.array([(w0, w1)[turn] if turn >= 0 else 0.0 for turn in turn_ids], np.float32),
    )
    assert sample.token_ids.tolist() == [S0, S1, U0, A0, A1, E, T0, T1, B0, E]
    assert sample.mask.astype(int).tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 1, 1]
    assert sample.turn_ids.tolist() == [-1, -1, -1, 0, 0, 0, -1, -1, 1, 1]
    assert sample.advantages.tolist() == [0, 0, 0, a0, a0, a0, 0, 0, a1, a1]
    assert sample.weights.tolist() == [0, 0, 0, w0, w0, w0, 0, 0, w1, w1]
    assert sample.token_ids[sample.mask].tolist() == [*FIRST.sampled_ids, *SECOND.sampled_ids]
    assert (sample.rollout_share, sample.temperature, sample.version) == (1.0, 1.0, 0)


def test_a_segment_has_one_logprob_per_sampled_token() -> None:
    with pytest.raises(AssertionError, match="one sampler logprob"):
        Segment([1], [2, 3], [-0.5])


def test_segments_of_equal_content_are_equal() -> None:
    listed = Segment([1, 2], [3], [-0.5])
    arrays = Segment(np.array([1, 2]), np.array([3]), np.array([-0.5]))  # type: ignore[arg-type]
    assert listed == arrays == Segment((1, 2), (3,), (-0.5,))
    assert hash(listed) == hash(arrays)
    ids = [1, 2]
    segment = Segment(ids, [3], [-0.5])
    ids.append(4)
    assert list(segment.prompt_ids) == [1, 2], "a record does not change with the list it was made from"
    assert pickle.loads(pickle.dumps(segment)) == copy.deepcopy(segment) == segment


@pytest.mark.parametrize(
    ("transform", "replayable"),
    [
        (Transform(), True),
        (Transform(temperature=0.3), True),
        (Transform(top_p=0.95), False),
        (Transform(top_k=20), False),
        (Transform(min_p=0.05), False),
        (Transform(mask_id="json"), False),
    ],
)
def test_what_a_learner_can_replay(transform: Transform, replayable: bool) -> None:
    assert transform.replayable is replayable


# Rollouts and groups.


def test_what_counts_as_scored() -> None:
    task = Task("desk", "test", 0, 0)
    rollouts = (
        Rollout("a", task, "completed", outcome=Outcome(True, 1.0)),
        Rollout("b", task, "truncated", "turns", outcome=Outcome(False, 0.0)),
        Rollout("c", task, "completed", outcome=Outcome(None, None)),
        Rollout("d", task, "errored", "judge"),
        Rollout("e", task, "errored", "judge", outcome=Outcome(True, 1.0)),
    )
    assert [rollout.scored for rollout in rollouts] == [True, True, False, False, False]
    assert [rollout.rollout_id for rollout in Group(task, rollouts).scored] == ["a", "b"]


def test_a_transcript_is_the_agents_own() -> None:
    turns = (
        Turn(0, "agent", Message("assistant", "one"), observation=(Message("user", "two"),)),
        Turn(1, "user", Message("assistant", "two"), request=(Message("system", "persona"),)),
        Turn(2, "agent", Message("assistant", "three")),
    )
    rollout = Rollout("a", Task("desk", "test", 0, 0), "completed", opening=(Message("user", "zero"),), turns=turns)
    assert [message.content for message in rollout.transcript] == ["zero", "one", "two", "three"]
    assert [turn.index for turn in rollout.agent_turns] == [0, 2]
    assert dataclasses.replace(rollout, turns=()).transcript == rollout.opening
