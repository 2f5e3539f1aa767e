"""Hermes JSON: what is broken, and how precisely that is told."""

from __future__ import annotations

import pytest

from banty.chat import parse
from banty.records.messages import JSON, CallFault, ToolCall, ToolSchema

Tools = list[ToolSchema]


def block(body: str) -> str:
    return f"<tool_call>\n{body}\n</tool_call>"


def sort(arguments: str) -> str:
    return block(f'{{"name": "sort", "arguments": {arguments}}}')


def fault_of(text: str, tools: Tools) -> CallFault:
    message = parse(text, tools, "hermes")
    assert message.calls == ()
    assert message.content == ""
    (fault,) = message.faults
    assert fault.raw == text
    return fault


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        ('{"count": 3}', {"count": 3}),
        ('{"code": "007"}', {"code": "007"}),
        ('{"code": "null"}', {"code": "null"}),
        ('{"limit": null}', {"limit": None}),
        ('{"urgent": true}', {"urgent": True}),
        ('{"rate": 5.0}', {"rate": 5.0}),
        ('{"options": {"a": [1, 2]}}', {"options": {"a": [1, 2]}}),
        ('{"code": "if x:\\n\\tprint(\\"é\\")\\n"}', {"code": 'if x:\n\tprint("é")\n'}),
        ('{"code": "</parameter>"}', {"code": "</parameter>"}),
        ('{"code": "\\u003ctool_call>"}', {"code": "<tool_call>"}),
        ('{"code": "\\ud83d\\ude00"}', {"code": "😀"}),
        ("{}", {}),
        ('"{\\"count\\": 3}"', {"count": 3}),
    ],
)
def test_accepted_arguments(arguments: str, value: JSON, tools: Tools) -> None:
    message = parse(sort(arguments), tools, "hermes")
    assert message.faults == ()
    assert message.calls == (ToolCall("sort", value),)
    assert {key: type(each) for key, each in message.calls[0].arguments.items()} == {
        key: type(each) for key, each in value.items()
    }


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ('{"count": "3"}', 'count: expected integer, got "3"'),
        ('{"count": 3.0}', "count: expected integer, got 3.0 (write 3)"),
        ('{"count": true}', "count: expected integer, got true"),
        ('{"code": null}', "code: expected string, got null"),
        ('{"code": 7}', "code: expected string, got 7"),
        ('{"limit": "null"}', 'limit: expected integer or null, got "null"'),
        ('{"urgent": "yes"}', 'urgent: expected boolean, got "yes"'),
        ('{"urgent": "True"}', 'urgent: expected boolean, got "True"'),
        ('{"options": "{}"}', 'options: expected object, got "{}"'),
        ('{"legs": [{"day": "Mo"}, {"day": 7}]}', "legs[1].day: expected string, got 7"),
    ],
)
def test_values_are_checked_not_repaired(arguments: str, problem: str, tools: Tools) -> None:
    text = sort(arguments)
    fault = fault_of(text, tools)
    assert fault.kind == "bad_value"
    assert fault.message == f"Call to 'sort' not executed: {problem}. Correct it and call again."
    assert text[: fault.position].endswith(": ")
    raw = parse(text, tools, "hermes", check="names")
    assert len(raw.calls) == 1


def test_values_pass_as_given_when_only_names_are_checked(tools: Tools) -> None:
    message = parse(sort('{"count": "3", "limit": "null"}'), tools, "hermes", check="names")
    assert message.calls == (ToolCall("sort", {"count": "3", "limit": "null"}),)


@pytest.mark.parametrize(
    ("body", "told", "at"),
    [
        ("", "not valid JSON: Expecting '{' at the end", 2),
        ("find the book", "not valid JSON: Expecting '{'", 1),
        ('{"name": "sort" "arguments": {}}', "not valid JSON: Expecting ',' or '}'", 17),
        ('{"name": "sort", "arguments": {},}', "not valid JSON: Expecting a key in double quotes", 34),
        ('{"name": "sort", "arguments": {"code": "a\nb"}}', "not valid JSON: Invalid control character", 42),
        (
            '{"name": "sort", "arguments": {"code": "a}}',
            "not valid JSON: Invalid control character (write \\n for a newline)",
            44,
        ),
        ('{"name": "sort", "arguments": {"rate": NaN}}', "NaN is not a JSON number", 40),
        ('{"name": "sort", "arguments": {"rate": -Infinity}}', "-Infinity is not a JSON number", 40),
        ('{"name": "sort", "arguments": {"rate": 1e999}}', "The number 1e999 is too large", 40),
        ('{"name": "sort", "arguments": {"count": 1' + "0" * 5000 + "}}", "more than 400 digits", 41),
        ('{"name": "sort", "arguments": {"code": "\\ud800"}}', "Half of a surrogate pair", 31),
        ('{"name": "sort", "arguments": {"options": {"a": 1, "a": 2}}}', 'Duplicate key "a"', 43),
        ('{"name": "sort", "arguments": {"count": 1, "count": 2}}', "Parameter 'count' is given twice", 44),
        ('{"name": "sort", "name": "lend", "arguments": {}}', 'has the key "name" twice', 18),
        ('{"name": "sort", "parameters": {}}', 'has the key "parameters", which has no meaning', 18),
        ('{"arguments": {}}', 'has no "name"', 1),
        ('{"name": "sort"}', 'has no "arguments"', 1),
        ('{"name": 7, "arguments": {}}', 'The "name" of a tool call must be a string, got 7', 10),
        ('{"name": "sort", "arguments": null}', '"arguments" must be an object, got null', 31),
        ('{"name": "sort", "arguments": [1]}', '"arguments" must be an object, got [1]', 31),
        ('{"name": "sort", "arguments": "[1]"}', '"arguments" must be an object, got the text "[1]"', 31),
        ('{"name": "sort", "arguments": "{} {}"}', '"arguments" must be an object, got the text "{} {}"', 31),
        ('{"name": "sort", "arguments": "\\"{}\\""}', '"arguments" must be an object, got the text', 31),
        ('{"name": "sort", "arguments": {}} {}', 'has text after its JSON object: "{}\\n"', 35),
        ('[{"name": "sort", "arguments": {}}]', "not valid JSON: Expecting '{'", 1),
        ("<function=sort>\n</function>", "not valid JSON: Expecting '{'", 1),
    ],
)
def test_malformed_blocks(body: str, told: str, at: int, tools: Tools) -> None:
    fault = fault_of(block(body), tools)
    assert fault.kind == "malformed"
    assert told in fault.message
    assert fault.message.endswith('Write {"name": "…", "arguments": {…}} between tool_call tags.')
    assert len(fault.message) < 260
    assert fault.position == len("<tool_call>") + at
    assert fault.name == ("sort" if body.startswith('{"name": "sort"') else "")


@pytest.mark.parametrize("nest", ["[" * 200_000, '{"a":' * 200_000, "[" * 65 + "]" * 65])
def test_deep_nesting_is_a_fault_not_a_crash(nest: str, tools: Tools) -> None:
    for text in (block(nest), sort(f'{{"options": {nest}}}'), sort('"' + nest.replace('"', '\\"') + '"')):
        assert fault_of(text, tools).kind == "malformed"


def test_nesting_within_the_limit_is_fine(tools: Tools) -> None:
    text = sort('{"options": {"a": ' + "[" * 60 + "]" * 60 + "}}")
    assert len(parse(text, tools, "hermes").calls) == 1


def test_a_forgotten_quote_does_not_swallow_the_next_call(tools: Tools) -> None:
    text = sort('{"code": "a}') + "\n" + sort("{}")
    message = parse(text, tools, "hermes")
    assert message.calls == (ToolCall("sort", {}),)
    assert [fault.kind for fault in message.faults] == ["malformed"]
