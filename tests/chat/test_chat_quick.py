"""The quick way through a call says what the careful one says, of every text and every value."""

from __future__ import annotations

import json
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from banty.chat import Check, check, parse
from banty.chat.toolbox import Toolbox
from banty.chat.validate import quick_check
from banty.records.messages import JSON, ToolCall, ToolSchema

Tools = list[ToolSchema]

NAMES = ("title", "book_id", "member_id", "days", "count", "code", "limit", "urgent", "rate", "options", "legs", "x")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([1.0, 0.5, "", "A", "Emma", "é"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "b", "day"]), inner, max_size=2),
    max_leaves=4,
)
BLOCKS = st.builds(
    lambda name, arguments: f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>",
    st.sampled_from(["find_book", "lend", "sort", "borrow"]),
    st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=4)
    | st.sampled_from([{"title": "Emma"}, {"book_id": "B1", "member_id": "M1", "days": 3}, {"count": 3, "rate": 0.5}]),
)
CHANGES = st.lists(
    st.tuples(
        st.integers(0, 90),
        st.integers(0, 2),
        st.sampled_from(
            ["", "", '"', ",", "{", "}", "<", " ", "é", "\\u0041", "\\ud800", "NaN", "1e999", '"days": 1, ']
        ),
    ),
    max_size=2,
)


@settings(max_examples=400, deadline=None)
@given(
    BLOCKS,
    CHANGES,
    st.sampled_from(["{}", " \n{}\t", "Sure. {}", "{}.", "{0}{0}"]),
    st.sampled_from(["schema", "names"]),
)
def test_a_message_reads_the_same_either_way(
    tools: Tools, block: str, changes: list[tuple[int, int, str]], form: str, how: Check
) -> None:
    text = form.replace("{0}", "{}").replace("{}", block)
    for start, removed, inserted in changes:
        text = text[:start] + inserted + text[start + removed :]
    quick = parse(text, tools, "hermes", check=how)
    with patch.object(Toolbox, "accept", return_value=None):
        careful = parse(text, tools, "hermes", check=how)
    assert repr(quick) == repr(careful)  # 1, 1.0 and true are three values


def test_right_calls_go_the_quick_way(tools: Tools) -> None:
    toolbox = Toolbox(tools, "schema")
    lend = {"book_id": "B1", "member_id": "M1", "days": 3}
    assert toolbox.accept("lend", lend) == ToolCall("lend", lend)
    assert toolbox.accept("sort", {}) == ToolCall("sort", {})


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("borrow", {}),
        ("lend", {"book_id": "B1"}),
        ("lend", {"book_id": "B1", "member_id": "M1", "weeks": 3}),
        ("lend", {"book_id": "B1", "member_id": "M1", "days": 3.0}),
        ("sort", {"limit": 3}),
    ],
)
def test_what_is_wrong_or_unusual_is_left_to_the_careful_way(name: str, arguments: Any, tools: Tools) -> None:
    assert Toolbox(tools, "schema").accept(name, arguments) is None


def test_a_tool_of_the_same_name_is_read_afresh() -> None:
    for kind, value in (("string", "3"), ("integer", 3)):
        tool = ToolSchema("count", "", {"type": "object", "properties": {"to": {"type": kind}}})
        assert Toolbox([tool], "schema").accept("count", {"to": value}) == ToolCall("count", {"to": value})
        assert Toolbox([tool], "schema").accept("count", {"to": None}) is None


LEAVES = st.sampled_from(
    [
        {"type": "string"},
        {"type": "integer", "title": "Days"},
        {"type": "boolean", "description": "of course"},
        {"type": "number"},
        {"type": "string", "enum": ["A", "Emma", 1]},
        {"type": "string", "minLength": 1},
        {"type": "integer", "nullable": True},
        {"enum": [1, "A"]},
        {"$ref": "#/$defs/Leg"},
        {"$ref": "#/$defs/Loop"},
        {"$ref": "#/$defs/None"},
        {"$ref": 7},
        {"type": ["integer", "null"]},
        {},
        True,
        False,
    ]
)
SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(lambda items: {"type": "array", "items": items}, inner),
        st.builds(lambda items: {"type": "array", "items": items, "minItems": 1}, inner),
        st.builds(
            lambda members, required, others: {
                "type": "object",
                "properties": members,
                "required": required,
                "additionalProperties": others,
            },
            st.dictionaries(st.sampled_from(["a", "b", "day"]), inner, max_size=3),
            st.lists(st.sampled_from(["a", "day"]), max_size=1),
            st.booleans() | inner,
        ),
    ),
    max_leaves=4,
)
ROOT: JSON = {
    "$defs": {
        "Leg": {"type": "object", "properties": {"day": {"type": "string"}}},
        "Loop": {"type": "object", "properties": {"a": {"$ref": "#/$defs/Loop"}, "b": {"type": "integer"}}},
    }
}


@settings(max_examples=400, deadline=None)
@given(SCHEMAS, VALUES)
def test_what_the_quick_check_passes_has_nothing_wrong_with_it(schema: JSON, value: JSON) -> None:
    if quick_check(schema, ROOT)(value):
        assert check(value, schema, root=ROOT) == []


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string", "description": "a title"}, "Emma"),
        ({"type": "integer"}, 3),
        ({"type": "boolean"}, False),
        ({"type": "string", "enum": ["A", "B"]}, "B"),
        ({"type": "array", "items": {"$ref": "#/$defs/Leg"}}, [{"day": "1"}, {}]),
        ({"$ref": "#/$defs/Loop"}, {"a": {"b": 1}}),
    ],
)
def test_the_quick_check_knows_what_tools_consist_of(schema: JSON, value: JSON) -> None:
    test = quick_check(schema, ROOT)
    assert test(value)
    assert not test(None)


@pytest.mark.parametrize("schema", [{"type": "object", "properties": []}, {"type": "string", "enum": "ab"}, 7, None])
def test_a_broken_schema_passes_nothing(schema: JSON) -> None:
    assert not quick_check(schema, ROOT)({})
    assert not quick_check(schema, ROOT)("a")


def test_a_schema_that_refers_to_itself_over_and_over_is_read_at_once() -> None:
    node = {"type": "object", "properties": {name: {"$ref": "#/$defs/Node"} for name in "abcdefgh"}}
    test = quick_check({"$ref": "#/$defs/Node"}, {"$defs": {"Node": node}})
    assert test({"a": {}})
    assert not test({"a": {"a": {"a": {}}}}), "left to check"
