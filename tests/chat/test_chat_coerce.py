"""Fixture T2 of the specification: what text becomes under a schema."""

from __future__ import annotations

import pytest

from banty.chat import coerce
from banty.records.messages import JSON

NULLABLE_INTEGER: JSON = {"anyOf": [{"type": "integer"}, {"type": "null"}]}


@pytest.mark.parametrize(
    ("text", "schema", "value"),
    [
        ("3", {"type": "integer"}, 3),
        ("\n-12 ", {"type": "integer"}, -12),
        ("007", {"type": "string"}, "007"),
        ("3", {"type": "string"}, "3"),
        ("null", {"type": "string"}, "null"),
        ("  padded\n", {"type": "string"}, "  padded\n"),
        ("null", NULLABLE_INTEGER, None),
        ("None", NULLABLE_INTEGER, None),
        ("3", NULLABLE_INTEGER, 3),
        ("null", {"type": ["integer", "null"]}, None),
        ("null", {"type": "integer", "nullable": True}, None),
        ("True", {"type": "boolean"}, True),
        ("false", {"type": "boolean"}, False),
        ("5.0", {"type": "number"}, 5.0),
        ("5", {"type": "number"}, 5),
        ('{"a": [1, 2]}', {"type": "object"}, {"a": [1, 2]}),
        ("[]", {"type": "array"}, []),
        ("3", {"enum": [1, 2, 3]}, 3),
        ("3", {"enum": ["3", 3]}, "3"),
        ("none", {"enum": ["none", None]}, "none"),
        ("null", {"enum": ["all", None]}, None),
        ("false", {"const": False}, False),
        ("x", {"const": "x"}, "x"),
        ("3", {"oneOf": [{"type": "integer"}, {"type": "boolean"}]}, 3),
        ("3", {"anyOf": [{"type": "integer"}, {"type": "string"}]}, "3"),
        ("null", {"type": ["string", "null"]}, "null"),
        ("5", {"anyOf": [{"type": "string", "pattern": "^[a-z]+$"}, {"type": "integer"}]}, 5),
        ("anything", {}, "anything"),
    ],
)
def test_text_becomes_exactly_this(text: str, schema: JSON, value: JSON) -> None:
    got, problems = coerce(text, schema)
    assert problems == []
    assert (got, type(got)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "schema", "problem"),
    [
        ("yes", {"type": "boolean"}, 'x: expected boolean, got "yes"'),
        ("1", {"type": "boolean"}, 'x: expected boolean, got "1"'),
        ("3.0", {"type": "integer"}, 'x: expected integer, got "3.0"'),
        ("1e3", {"type": "integer"}, 'x: expected integer, got "1e3"'),
        ("03", {"type": "integer"}, 'x: expected integer, got "03"'),
        ("1_000", {"type": "integer"}, 'x: expected integer, got "1_000"'),
        ("３", {"type": "integer"}, 'x: expected integer, got "３"'),
        ("", {"type": "integer"}, 'x: expected integer, got ""'),
        ("three", NULLABLE_INTEGER, 'x: expected integer or null, got "three"'),
        ("null", {"type": "integer"}, 'x: expected integer, got "null"'),
        ("NaN", {"type": "number"}, 'x: expected number, got "NaN"'),
        ("1e999", {"type": "number"}, 'x: expected number, got "1e999"'),
        ("9" * 5000, {"type": "integer"}, 'x: expected integer, got "' + "9" * 58 + "…"),
        ('"3"', {"type": "integer"}, 'x: expected integer, got "\\"3\\""'),
        (
            "{'a': 1}",
            {"type": "object"},
            "x: expected object, got \"{'a': 1}\" (Expecting property name enclosed in double quotes at character 1)",
        ),
        (
            '{"a": 1, "a": 2}',
            {"type": "object"},
            'x: expected object, got "{\\"a\\": 1, \\"a\\": 2}" (Duplicate key "a" in the value at character 0)',
        ),
        ('{"a": "1"}', {"properties": {"a": {"type": "integer"}}, "type": "object"}, 'x.a: expected integer, got "1"'),
        ("0", {"type": "integer", "minimum": 1}, "x: expected at least 1, got 0"),
        ("c", {"enum": ["a", "b"]}, 'x: expected one of "a", "b"; got "c"'),
        ('"a"', {"enum": ["a"]}, 'x: expected one of "a"; got "\\"a\\""'),
        ("x", False, 'x: expected nothing, got "x"'),
    ],
)
def test_what_cannot_be_read_says_so(text: str, schema: JSON, problem: str) -> None:
    assert coerce(text, schema, path="x") == (None, [problem])


def test_references_are_followed() -> None:
    root: JSON = {
        "$defs": {"Size": {"type": "integer", "minimum": 1}},
        "properties": {"size": {"$ref": "#/$defs/Size"}},
    }
    assert coerce("4", root["properties"]["size"], root=root) == (4, [])
    assert coerce("0", root["properties"]["size"], root=root).problems == ["expected at least 1, got 0"]


@pytest.mark.parametrize(
    ("text", "schema", "value"),
    [
        ("0", {"type": "integer", "minimum": 1}, 0),
        ("c", {"enum": ["a", "b"]}, "c"),
        ("7", {"enum": [1, 2]}, 7),
        ('{"a": "1"}', {"type": "object", "properties": {"a": {"type": "integer"}}}, {"a": "1"}),
    ],
)
def test_types_only_leaves_finer_rules_to_the_caller(text: str, schema: JSON, value: JSON) -> None:
    assert coerce(text, schema, types_only=True) == (value, [])


def test_types_only_still_needs_the_type() -> None:
    assert coerce("yes", {"type": "boolean"}, types_only=True).problems == ['expected boolean, got "yes"']
