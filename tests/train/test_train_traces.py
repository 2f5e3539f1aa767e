"""Conversations from files: everything endpoints write is read, nothing is lost, and what is wrong is named."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.tiny import tiny_tokenizer
from tests.toy import ColourTasks, careless, toy_tokenizer

from banty.chat import Renderer
from banty.envs.registry import make_taskset
from banty.errors import InputError
from banty.policies.openai_form import messages_to_openai
from banty.policies.scripted import expert_policy
from banty.records import (
    Message,
    Outcome,
    Rollout,
    Task,
    Taskset,
    ToolCall,
    ToolSchema,
    TrainingSample,
    Turn,
    take,
)
from banty.rollout import Cast, collect, plan_groups
from banty.train.recipe import DataBlock
from banty.train.sft import supervised_samples, taught_samples
from banty.train.traces import Trace, read_traces, trace_of

USER = {"role": "user", "content": "code for red"}
SAYS = {"role": "assistant", "content": "5"}


def written(folder: Path, *rows: Any, name: str = "traces.jsonl") -> Path:
    """A file of these rows, a string as it is and anything else as JSON."""
    file = folder / name
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def read(folder: Path, *rows: Any) -> list[Trace]:
    return list(read_traces(written(folder, *rows)))


def calls_with(*arguments: Any) -> dict[str, Any]:
    calls = [
        {"id": f"c{place}", "type": "function", "function": {"name": "find", "arguments": given}}
        for place, given in enumerate(arguments)
    ]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def rollouts_of(taskset: Taskset, policy: Any, count: int) -> list[Rollout]:
    specs = plan_groups(take(taskset, "train", count, 3), 1, 0)
    return [tree[0] for tree in asyncio.run(collect(specs, taskset, Cast(policy)))]


def in_openai_form(rollout: Rollout) -> dict[str, Any]:
    return {
        "messages": messages_to_openai(rollout.transcript),
        "tools": [tool.to_openai() for tool in rollout.tools],
    }


def tokens(samples: Sequence[TrainingSample]) -> list[tuple[list[int], list[bool], list[int]]]:
    return [(one.token_ids.tolist(), one.mask.tolist(), one.turn_ids.tolist()) for one in samples]


# What is read.


def test_a_whole_conversation_is_read(tmp_path: Path) -> None:
    parameters = {"type": "object", "properties": {"colour": {"type": "string"}}, "required": ["colour"]}
    row = {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "code for "}, {"type": "text", "text": "red"}]},
            {**calls_with('{"colour": "red"}'), "reasoning_content": "It is not known yet."},
            {"role": "tool", "tool_call_id": "c0", "content": "5"},
            {"role": "assistant", "content": "It is 5."},
            {"role": "user", "content": "Danke schön"},
        ],
        "tools": [{"type": "function", "function": {"name": "find", "description": "Find.", "parameters": parameters}}],
        "model": "some-model",
    }
    (trace,) = read(tmp_path, row)
    assert trace == Trace(
        name="traces.jsonl:1",
        opening=(Message("system", "Be brief."), Message("user", "code for red")),
        tools=(ToolSchema("find", "Find.", parameters),),
        turns=(
            (
                Message(
                    "assistant", "", (ToolCall("find", {"colour": "red"}, "c0"),), reasoning="It is not known yet."
                ),
                (Message("tool", "5", call_id="c0"),),
            ),
            (Message("assistant", "It is 5."), (Message("user", "Danke schön"),)),
        ),
    )


@pytest.mark.parametrize(
    ("given", "arguments"),
    [
        ('{"colour": "red", "times": 2}', {"colour": "red", "times": 2}),
        ({"colour": "red", "times": 2}, {"colour": "red", "times": 2}),
        ('{"deep": {"list": [1, null, "ü"]}}', {"deep": {"list": [1, None, "ü"]}}),
        ("{}", {}),
        ("", {}),
        (None, {}),
        ({}, {}),
    ],
)
def test_arguments_are_a_string_or_an_object(given: Any, arguments: dict[str, Any], tmp_path: Path) -> None:
    (trace,) = read(tmp_path, {"messages": [USER, calls_with(given)]})
    assert trace.turns == ((Message("assistant", "", (ToolCall("find", arguments, "c0"),)), ()),)


def test_several_calls_keep_their_order_and_their_answers(tmp_path: Path) -> None:
    answers = [{"role": "tool", "tool_call_id": f"c{place}", "content": str(place)} for place in (1, 0)]
    (trace,) = read(tmp_path, {"messages": [USER, calls_with('{"a": 1}', {"a": 2}), *answers, SAYS]})
    (first, came), (second, nothing) = trace.turns
    assert [(call.id, call.arguments) for call in first.calls] == [("c0", {"a": 1}), ("c1", {"a": 2})]
    assert [(message.call_id, message.content) for message in came] == [("c1", "1"), ("c0", "0")]
    assert (second.content, nothing) == ("5", ())


@pytest.mark.parametrize("content", [None, "", []])
def test_no_content_is_empty_content(content: Any, tmp_path: Path) -> None:
    (trace,) = read(tmp_path, {"messages": [USER, {**SAYS, "content": content}]})
    assert trace.turns[0][0] == Message("assistant", "")
    (trace,) = read(tmp_path, {"messages": [USER, {"role": "assistant"}]})
    assert trace.turns[0][0] == Message("assistant", "")


def test_a_tool_may_be_all_but_undescribed(tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "find", "description": None}}]
    (trace,) = read(tmp_path, {"messages": [USER, SAYS], "tools": tools})
    assert trace.tools == (ToolSchema("find", "", {"type": "object", "properties": {}}),)
    for key in ("tools", "functions"):
        (trace,) = read(tmp_path, {"messages": [USER, SAYS], key: None})
        assert trace.tools == ()


def test_blank_lines_are_passed_over_and_traces_are_named_by_their_lines(tmp_path: Path) -> None:
    second = {"messages": [USER, {**SAYS, "content": "6"}]}
    traces = read(tmp_path, "", {"messages": [USER, SAYS]}, "   \t", "", second, "")
    assert [(trace.name, trace.turns[0][0].content) for trace in traces] == [
        ("traces.jsonl:2", "5"),
        ("traces.jsonl:5", "6"),
    ]
    assert read(tmp_path, "", "  ") == []


def test_an_assistant_may_speak_first_and_twice(tmp_path: Path) -> None:
    (trace,) = read(tmp_path, {"messages": [SAYS, SAYS, USER]})
    assert trace.opening == ()
    assert [len(came) for _, came in trace.turns] == [0, 1]


@pytest.mark.parametrize("letter", ["\n", "\r", "\\", '"', "\x00", "ü", "😀"])
def test_any_letter_may_stand_in_a_conversation(letter: str, tmp_path: Path) -> None:
    (trace,) = read(tmp_path, {"messages": [USER, {**SAYS, "content": f"a{letter}b"}]})
    assert trace.turns[0][0].content == f"a{letter}b"


@pytest.mark.parametrize("letter", ["\u2028", "\u2029", "\x85"])
def test_only_a_newline_ends_a_line(letter: str, tmp_path: Path) -> None:
    (trace,) = read(tmp_path, {"messages": [USER, {**SAYS, "content": f"a{letter}b"}]})
    assert trace.turns[0][0].content == f"a{letter}b"


# What is refused.


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("{bad", "JSONDecodeError"),
        ("[1]", "TypeError"),
        ('"text"', "TypeError"),
        ({"conversation": [USER, SAYS]}, "KeyError: 'messages'"),
        ({"messages": []}, "no message is the assistant's"),
        ({"messages": [USER]}, "no message is the assistant's"),
        ({"messages": [{"role": "developer", "content": "x"}, SAYS]}, "role 'developer' is not system, user, "),
        ({"messages": [{"content": "x"}, SAYS]}, "KeyError: 'role'"),
        ({"messages": ["hello", SAYS]}, "TypeError"),
        ({"messages": [USER, {**SAYS, "content": 5}]}, "TypeError"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, SAYS]}, "KeyError"),
        ({"messages": [USER, calls_with("nonsense")]}, "JSONDecodeError"),
        ({"messages": [USER, calls_with("[1]")]}, "the arguments of find are not an object"),
        ({"messages": [USER, calls_with("3")]}, "the arguments of find are not an object"),
        ({"messages": [USER, calls_with(["red"])]}, "the arguments of find are not an object"),
        ({"messages": [USER, {**SAYS, "tool_calls": [{"name": "find"}]}]}, "KeyError: 'function'"),
        ({"messages": [USER, SAYS], "tools": [{"name": "find"}]}, "KeyError: 'function'"),
    ],
)
def test_an_error_names_the_file_and_the_line(row: Any, words: str, tmp_path: Path) -> None:
    file = written(tmp_path, {"messages": [USER, SAYS]}, "", row)
    traces = read_traces(file)
    assert next(traces).name == "traces.jsonl:1"
    with pytest.raises(InputError) as refused:
        next(traces)
    said = str(refused.value)
    assert said.startswith(f'{file}, line 3 is not {{"messages": [...], "tools": [...]}} as endpoints write it: ')
    assert words in said
    assert "\n" not in said


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00")
    for name in ("absent.jsonl", "binary.jsonl", "."):
        with pytest.raises(InputError, match=rf"^{tmp_path / name} cannot be read as a file of traces: "):
            list(read_traces(tmp_path / name))


# What is taught.


def test_an_expert_read_back_from_openai_messages_teaches_the_same_tokens(tmp_path: Path) -> None:
    renderer = Renderer(toy_tokenizer())
    rollouts = rollouts_of(ColourTasks(), careless(0.5), 12)
    assert len({len(rollout.agent_turns) for rollout in rollouts}) > 1, "looked up, and guessed"
    file = written(tmp_path, *map(in_openai_form, rollouts))
    for rollout, trace in zip(rollouts, read_traces(file), strict=True):
        wanted, found = taught_samples(trace_of(rollout), renderer), taught_samples(trace, renderer)
        assert tokens(found) == tokens(wanted)
        assert sum(int(one.mask.sum()) for one in wanted) > 0
        assert [one.num_turns for one in found] == [len(rollout.agent_turns)]
    whole = supervised_samples(DataBlock(traces=(str(file),)), renderer)
    assert tokens(whole) == tokens([one for rollout in rollouts for one in taught_samples(trace_of(rollout), renderer)])
    assert [one.rollout_id for one in whole] == [f"traces.jsonl:{line}" for line in range(1, 13)]


def test_so_does_an_expert_of_the_airline(tmp_path: Path) -> None:
    """Nested arguments, prices, and tools whose schemas the template shows."""
    taskset = make_taskset("airline/mini")
    expert = taskset.expert()
    assert expert is not None
    renderer = Renderer(tiny_tokenizer())
    rollouts = rollouts_of(taskset, expert_policy(expert), 4)
    assert all(rollout.outcome.success for rollout in rollouts)
    file = written(tmp_path, *map(in_openai_form, rollouts))
    for rollout, trace in zip(rollouts, read_traces(file), strict=True):
        assert [message.calls for message, _ in trace.turns if message.calls]
        assert tokens(taught_samples(trace, renderer)) == tokens(taught_samples(trace_of(rollout), renderer))


def test_what_is_taught_is_what_the_assistant_said_and_its_end_of_turn(tmp_path: Path) -> None:
    renderer = Renderer(toy_tokenizer())
    row = {
        "messages": [USER, calls_with({"colour": "red"}), {"role": "tool", "tool_call_id": "c0", "content": "5"}, SAYS],
        "tools": [{"type": "function", "function": {"name": "find", "parameters": {}}}],
    }
    (sample,) = taught_samples(read(tmp_path, row)[0], renderer)
    assert renderer.decode(sample.token_ids[sample.mask].tolist()) == (
        '<tool_call>\n{"name": "find", "arguments": {"colour": "red"}}\n</tool_call><|im_end|>5<|im_end|>'
    )
    assert renderer.decode(sample.token_ids[~sample.mask].tolist()) == (
        "find\n<|im_start|>user\ncode for red<|im_end|>\n<|im_start|>assistant\n"
        "\n<|im_start|>tool\n5<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_trace_of_a_rollout_is_the_agents_side(tmp_path: Path) -> None:
    tool = ToolSchema("find", "Find.", {"type": "object", "properties": {}})
    opening = (Message("user", "hello"),)
    said, came = Message("assistant", "a"), (Message("user", "b"),)
    turns = (
        Turn(0, "agent", said, observation=came),
        Turn(1, "user", Message("assistant", "not the agent's"), request=(Message("user", "shown to the user"),)),
        Turn(2, "agent", Message("assistant", "c")),
    )
    rollout = Rollout(
        "r", Task("e", "train", 0, 0), "completed", outcome=Outcome(True), opening=opening, tools=(tool,), turns=turns
    )
    assert trace_of(rollout) == Trace("r", opening, (tool,), ((said, came), (Message("assistant", "c"), ())))
