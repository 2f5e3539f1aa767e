"""Qwen's XML: types from the schema, bytes of values, and the traps that other parsers fall into."""

from __future__ import annotations

import pytest

from banty.chat import parse
from banty.records.messages import JSON, CallFault, ToolCall, ToolSchema

Tools = list[ToolSchema]


def sort(inner: str) -> str:
    return f"<tool_call>\n<function=sort>\n{inner}</function>\n</tool_call>"


def parameter(name: str, value: str) -> str:
    return f"<parameter={name}>\n{value}\n</parameter>\n"


def fault_of(text: str, tools: Tools) -> CallFault:
    message = parse(text, tools, "qwen_xml")
    assert message.calls == ()
    (fault,) = message.faults
    return fault


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("count", "3", 3),
        ("code", "007", "007"),
        ("code", "null", "null"),
        ("code", "True", "True"),
        ("limit", "null", None),
        ("limit", "3", 3),
        ("urgent", "True", True),
        ("urgent", "false", False),
        ("rate", "5.0", 5.0),
        ("rate", "5", 5),
        ("options", '{"a": [1, 2]}', {"a": [1, 2]}),
        ("legs", '[{"day": "Mo"}]', [{"day": "Mo"}]),
        ("code", "if x:\n\tprint('<b>')\n", "if x:\n\tprint('<b>')\n"),
        ("code", "\n\n  padded  \n\n", "\n\n  padded  \n\n"),
        ("code", "", ""),
        ("code", "a < b </param>", "a < b </param>"),
    ],
)
def test_types_come_from_the_schema(name: str, text: str, value: JSON, tools: Tools) -> None:
    message = parse(sort(parameter(name, text)), tools, "qwen_xml")
    assert message.faults == ()
    assert message.calls == (ToolCall("sort", {name: value}),)
    assert type(message.calls[0].arguments[name]) is type(value)


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("urgent", "yes", 'urgent: expected boolean, got "yes"'),
        ("count", "three", 'count: expected integer, got "three"'),
        ("count", "5.0", 'count: expected integer, got "5.0"'),
        ("limit", "nil", 'limit: expected integer or null, got "nil"'),
        ("options", "[1]", 'options: expected object, got "[1]"'),
        ("options", "{'a': 1}", "options: expected object, got \"{'a': 1}\""),
        ("legs", '[{"day": 7}]', "legs[0].day: expected string, got 7"),
    ],
)
def test_what_does_not_fit_is_a_fault(name: str, text: str, problem: str, tools: Tools) -> None:
    raw = sort(parameter(name, text))
    fault = fault_of(raw, tools)
    assert (fault.kind, fault.name, fault.raw) == ("bad_value", "sort", raw)
    assert problem in fault.message
    assert raw[fault.position :].startswith(text)


def test_a_failing_coercion_is_a_fault_even_when_only_names_are_checked(tools: Tools) -> None:
    message = parse(sort(parameter("urgent", "yes")), tools, "qwen_xml", check="names")
    assert [fault.kind for fault in message.faults] == ["bad_value"]


def test_values_on_one_line(tools: Tools) -> None:
    text = sort("<parameter=count>3</parameter><parameter=code> x </parameter>")
    assert parse(text, tools, "qwen_xml").calls == (ToolCall("sort", {"count": 3, "code": " x "}),)
    assert parse(sort("<parameter=code>\n</parameter>"), tools, "qwen_xml").calls == (ToolCall("sort", {"code": ""}),)


@pytest.mark.parametrize(
    ("inner", "told", "at"),
    [
        (parameter("code", 'x = "</parameter>"'), "'code' ends at </parameter>, but", "</parameter>"),
        (parameter("code", "a <parameter=b> c"), "'code' has <parameter= before its </parameter>", "<parameter=b>"),
        (parameter("code", "a </function> c"), "'code' has </function> before its </parameter>", "</function> c"),
        (parameter("code", "a <function=b> c"), "'code' has <function= before its </parameter>", "<function=b>"),
        ("<parameter=code>\na\n", "'code' has </function> before its </parameter>", "</function>"),
        (parameter("code", "a") * 2, "Parameter 'code' is given twice", "<parameter=code>\na\n</parameter>\n</func"),
        ("code: a\n", 'Expected <parameter=NAME> or </function>, got "code: a', "code: a"),
        ("<parameter=code", 'Expected <parameter=NAME> or </function>, got "<parameter=code</fun', "<parameter=code"),
    ],
)
def test_malformed_parameters(inner: str, told: str, at: str, tools: Tools) -> None:
    text = sort(inner)
    fault = fault_of(text, tools)
    assert (fault.kind, fault.name, fault.raw) == ("malformed", "sort", text)
    assert told in fault.message
    assert text[fault.position :].startswith(at)
    assert len(fault.message) < 330


@pytest.mark.parametrize(
    ("body", "told", "name"),
    [
        ("", 'must begin with <function=NAME>, got ""', ""),
        ('{"name": "sort", "arguments": {}}', "must begin with <function=NAME>, got", ""),
        ("<function=>\n</function>", "must begin with <function=NAME>, got", ""),
        ("<function=sort>\n", "has no </function>", "sort"),
        ("<function=sort>\n<parameter=code>\nx", "'code' has no </parameter>", "sort"),
        ("<function=sort>\n<parameter=code>\nx</parameter>", "has no </function>", "sort"),
        ("<function=sort>\n</function> done", "has text after </function>", "sort"),
        ("<function=sort>\n</function>\n<function=sort>\n</function>", "Give each call its own block", "sort"),
    ],
)
def test_malformed_functions(body: str, told: str, name: str, tools: Tools) -> None:
    fault = fault_of(f"<tool_call>{body}</tool_call>", tools)
    assert (fault.kind, fault.name) == ("malformed", name)
    assert told in fault.message


def test_a_function_without_tool_call_around_it_is_reported_not_shown(tools: Tools) -> None:
    bare = "<function=sort>\n</function>"
    message = parse(f"Sorting.\n{bare}", tools, "qwen_xml")
    assert message.content == "Sorting."
    (fault,) = message.faults
    assert (fault.kind, fault.name, fault.raw, fault.position) == ("malformed", "sort", bare, len("Sorting.\n"))
    assert "stands outside tool_call tags" in fault.message


def test_two_functions_in_one_block_execute_neither(tools: Tools) -> None:
    text = "<tool_call>\n<function=sort>\n</function>\n<function=sort>\n</function>\n</tool_call>"
    assert parse(text, tools, "qwen_xml").calls == ()
