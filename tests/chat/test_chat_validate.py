from __future__ import annotations

import pytest

from banty.chat import check, lint_schema
from banty.chat.validate import allowed_types, same
from banty.records.messages import JSON

TRIP: JSON = {
    "type": "object",
    "properties": {
        "flights": {"type": "array", "items": {"$ref": "#/$defs/Flight"}, "minItems": 1},
        "cabin": {"enum": ["economy", "business"]},
    },
    "required": ["flights"],
    "additionalProperties": False,
    "$defs": {
        "Flight": {
            "type": "object",
            "properties": {"number": {"type": "string", "pattern": "^HAT\\d+$"}, "date": {"type": "string"}},
            "required": ["number"],
            "additionalProperties": False,
        }
    },
}


def test_a_fitting_value_has_no_problems() -> None:
    assert check({"flights": [{"number": "HAT001", "date": "2024-05-01"}], "cabin": "economy"}, TRIP) == []


def test_problems_name_the_exact_place() -> None:
    value = {"flights": [{"number": "HAT1"}, {"number": "X", "date": 7, "dat": 1}], "cabin": "first", "seats": 2}
    assert check(value, TRIP) == [
        'flights[1].number: expected text matching ^HAT\\d+$, got "X"',
        "flights[1].date: expected string, got 7",
        "flights[1].dat: unknown key (did you mean 'date'?)",
        'cabin: expected one of "economy", "business"; got "first"',
        "seats: unknown key (allowed: flights, cabin)",
    ]
    assert check({}, TRIP) == ["flights: missing"]
    assert check({"flights": []}, TRIP) == ["flights: expected at least 1 items, got 0"]
    assert check({"a b": {"c": 1}}, {"additionalProperties": {"additionalProperties": {"type": "null"}}}) == [
        '["a b"].c: expected null, got 1'
    ]


@pytest.mark.parametrize(
    ("value", "schema", "problem"),
    [
        (3.0, {"type": "integer"}, "expected integer, got 3.0 (write 3)"),
        (3.5, {"type": "integer"}, "expected integer, got 3.5"),
        (True, {"type": "integer"}, "expected integer, got true"),
        (True, {"type": "number"}, "expected number, got true"),
        (1, {"type": "boolean"}, "expected boolean, got 1"),
        ("3", {"type": "integer"}, 'expected integer, got "3"'),
        (None, {"type": ["integer", "string"]}, "expected string or integer, got null"),
        (True, {"enum": [1, 2]}, "expected one of 1, 2; got true"),
        (2, {"const": 1}, "expected 1, got 2"),
        (0, {"minimum": 1}, "expected at least 1, got 0"),
        (9, {"maximum": 8}, "expected at most 8, got 9"),
        (1, {"exclusiveMinimum": 1}, "expected more than 1, got 1"),
        (1, {"exclusiveMaximum": 1}, "expected less than 1, got 1"),
        ("ab", {"minLength": 3}, "expected at least 3 characters, got 2"),
        ("abcd", {"maxLength": 3}, "expected at most 3 characters, got 4"),
        ([1, 1.0], {"uniqueItems": True}, "expected items that all differ"),
        (["a", 1], {"prefixItems": [{"type": "string"}], "items": False}, "[1]: not allowed, got 1"),
        ("31.1.2024", {"format": "date"}, 'expected a date like 2025-01-31, got "31.1.2024"'),
        ("2024-02-30", {"format": "date"}, 'expected a date like 2025-01-31, got "2024-02-30"'),
        ("2024-02-03", {"format": "date-time"}, 'expected a date and time like 2025-01-31T09:30:00, got "2024-02-03"'),
        (1.5, {"anyOf": [{"type": "integer"}, {"type": "null"}]}, "expected integer or null, got 1.5"),
        (-1, {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "null"}]}, "expected at least 0, got -1"),
        (3, {"oneOf": [{"type": "integer"}, {"type": "number"}]}, "3 fits 2 alternatives, exactly one is allowed"),
        (3, {"allOf": [{"minimum": 4}, {"type": "integer"}]}, "expected at least 4, got 3"),
        (3, {"$ref": "#/$defs/None"}, 'cannot be checked: the schema refers to "#/$defs/None", which does not exist'),
        (3, {"$ref": "#"}, 'cannot be checked: the schema "#" refers to itself'),
        ("a", {"pattern": "("}, 'expected text matching (, got "a"'),
        (1, False, "not allowed, got 1"),
    ],
)
def test_each_keyword_refuses(value: JSON, schema: JSON, problem: str) -> None:
    assert check(value, schema) == [problem]


@pytest.mark.parametrize(
    ("value", "schema"),
    [
        (3, {"type": "number"}),
        (3.0, {"enum": [3]}),
        (None, {"type": "string", "nullable": True}),
        (None, {"type": ["string", "null"]}),
        ("2024-02-29", {"format": "date"}),
        ("2024-02-29T10:00:00Z", {"format": "date-time"}),
        ({"x": {"x": {}}}, {"additionalProperties": {"$ref": "#"}}),
        ("anything", {}),
        ("anything", True),
    ],
)
def test_what_is_accepted(value: JSON, schema: JSON) -> None:
    assert check(value, schema) == []


def test_a_recursive_schema_is_followed_into_the_value() -> None:
    tree = {"type": "object", "properties": {"next": {"$ref": "#"}, "size": {"type": "integer"}}}
    assert check({"next": {"next": {"size": "big"}}}, tree) == ['next.next.size: expected integer, got "big"']


def test_the_branch_of_the_values_type_is_the_one_that_speaks() -> None:
    schema = {"anyOf": [{"type": "null"}, TRIP["$defs"]["Flight"]]}
    assert check({"number": "HAT1", "date": 5}, schema, path="leg") == ["leg.date: expected string, got 5"]


def test_true_is_not_one() -> None:
    assert same([1, {"a": 2.0}], [1.0, {"a": 2}])
    assert not same([1], [True])
    assert not same(0, False)
    assert not same([1], [1, 2])


def test_allowed_types_through_every_construct() -> None:
    root = {"$defs": {"Id": {"type": "integer"}}}
    assert allowed_types({"$ref": "#/$defs/Id"}, root) == {"integer"}
    assert allowed_types({"anyOf": [{"$ref": "#/$defs/Id"}, {"type": "null"}]}, root) == {"integer", "null"}
    assert allowed_types({"allOf": [{"type": "number"}, {"type": ["integer", "string"]}]}, root) == {"integer"}
    assert allowed_types({"enum": ["a", None, 1]}, root) == {"string", "null", "integer"}
    assert allowed_types({"type": "integer", "nullable": True}, root) == {"integer", "null"}
    assert allowed_types({"type": "string", "const": 3}, root) == frozenset()


def test_lint_is_silent_about_what_is_enforced() -> None:
    assert lint_schema(TRIP) == []


def test_lint_reports_everything_that_would_not_be_enforced() -> None:
    schema = {
        "type": "object",
        "properties": {
            "size": {"type": "integer", "multipleOf": 5},
            "mail": {"type": "string", "format": "email"},
            "code": {"type": "str", "pattern": "("},
            "legs": {"type": "array", "items": {"not": {}}},
            "loop": {"$ref": "#/$defs/Loop"},
            "gone": {"$ref": "#/$defs/Gone"},
        },
        "required": ["size", "sise"],
        "$defs": {"Loop": {"anyOf": [{"$ref": "#/$defs/Loop"}, {"type": "null"}]}},
    }
    assert lint_schema(schema) == [
        'required "sise" is not among the properties',
        "size: keyword 'multipleOf' is not checked",
        'mail: format "email" is not checked',
        'code: unknown type "str"; known: string, integer, number, boolean, object, array, null',
        'code: pattern "(" is not a Python regular expression: missing ), unterminated subpattern at position 0',
        "legs.items: keyword 'not' is not checked",
        'loop: $ref "#/$defs/Loop" refers to itself without going deeper',
        'gone: $ref "#/$defs/Gone" does not exist in this schema',
        '$defs.Loop.anyOf[0]: $ref "#/$defs/Loop" refers to itself without going deeper',
    ]
    assert lint_schema({"properties": []}) == ["'properties' must be an object, got []"]
    assert lint_schema({"enum": "ab", "required": True, "minimum": "1"}) == [
        "'enum' must be a list, got \"ab\"",
        "'required' must be a list, got true",
        "'minimum' must be a number, got \"1\"",
    ]
    assert lint_schema(7) == ["a schema must be an object, got 7"]
