"""Calls to text and back, over generated schemas and values."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from banty.chat import Format, parse, render_calls, signature_line
from banty.chat.qwen_xml import TAGS
from banty.chat.validate import allowed_types, type_of
from banty.errors import InputError
from banty.records.messages import JSON, ToolCall, ToolSchema

FAST = settings(derandomize=True, max_examples=120, deadline=None)
NAMES = ["a", "title", "user_id", "größe", "x-y", "a b", "name", "arguments"]
TRICKY = [
    "null",
    "None",
    "True",
    "007",
    "3",
    "5.0",
    "[]",
    '{"a": 1}',
    "",
    " ",
    "\n",
    "\n\n",
    " x ",
    "a\nb\n",
    '"q"',
    "é😀",
]

WEATHER = ToolSchema(
    "get_weather",
    "Weather of a city.\n  Now.",
    {"properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city"]},
)


def test_the_texts_of_the_specification() -> None:
    calls = [ToolCall("get_weather", {"city": "Paris", "days": 3})]
    hermes = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris", "days": 3}}\n</tool_call>'
    xml = (
        "<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n<parameter=days>\n3\n</parameter>\n"
        "</function>\n</tool_call>"
    )
    assert render_calls(calls, "hermes", [WEATHER]) == hermes
    assert render_calls(calls, "qwen_xml", [WEATHER]) == xml
    assert parse(hermes, [WEATHER], "hermes").calls == parse(xml, [WEATHER], "qwen_xml").calls == tuple(calls)
    assert render_calls(calls * 2, "hermes") == f"{hermes}\n{hermes}"
    assert render_calls([], "qwen_xml", []) == ""


def test_scalars_are_written_as_the_templates_write_them() -> None:
    call = ToolCall("t", {"yes": True, "none": None, "list": [True, None, "é"], "empty": {}})
    text = render_calls([call], "qwen_xml")
    assert "\nTrue\n" in text
    assert "\nNone\n" in text
    assert '\n[true, null, "é"]\n' in text
    assert "\n{}\n" in text


strings = st.one_of(st.sampled_from(TRICKY), st.text(max_size=8))
numbers = st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(10**20), 10**20), numbers, strings),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(strings, inner, max_size=3)),
    max_leaves=6,
)


def described(value: JSON) -> st.SearchStrategy[JSON]:
    """Schemas that a value fits, from exact to loose."""
    kind = type_of(value)
    exact: list[JSON] = [{"type": kind}, {"type": [kind, "null"]}, {"anyOf": [{"type": kind}, {"type": "boolean"}]}]
    exact += [{"$ref": f"#/$defs/{kind}"}, {"enum": [value]}]
    return st.sampled_from([*exact, {}, {"type": ["string", kind]}])


@st.composite
def calls_with_tools(draw: st.DrawFn) -> tuple[ToolSchema, ToolCall]:
    arguments = draw(st.dictionaries(st.sampled_from(NAMES), values, max_size=4))
    kinds = {kind: {"type": kind} for kind in map(type_of, arguments.values())}
    properties = {name: draw(described(value)) for name, value in arguments.items()}
    parameters = {"type": "object", "properties": properties, "required": list(arguments), "$defs": kinds}
    return ToolSchema("tool", "", parameters), ToolCall("tool", arguments)


def exactly(calls: Any) -> str:
    """1, 1.0 and true differ here."""
    return json.dumps([call.to_json() for call in calls])


@FAST
@given(calls_with_tools())
def test_hermes_holds_every_value(drawn: tuple[ToolSchema, ToolCall]) -> None:
    tool, call = drawn
    message = parse(render_calls([call], "hermes", [tool]), [tool], "hermes")
    assert message.faults == ()
    assert exactly(message.calls) == exactly([call])


@FAST
@given(calls_with_tools())
def test_xml_holds_what_it_says_it_holds(drawn: tuple[ToolSchema, ToolCall]) -> None:
    tool, call = drawn
    properties = tool.parameters["properties"]
    as_text = [name for name in properties if "string" in allowed_types(properties[name], tool.parameters)]
    ambiguous = any(not isinstance(call.arguments[name], str) for name in as_text)
    tags = any(TAGS.search(json.dumps(value, ensure_ascii=False)) for value in call.arguments.values())
    if ambiguous or tags:
        with pytest.raises(InputError, match=r"The qwen_xml format cannot|The XML format cannot"):
            render_calls([call], "qwen_xml", [tool])
        return
    message = parse(render_calls([call], "qwen_xml", [tool]), [tool], "qwen_xml")
    assert message.faults == ()
    assert exactly(message.calls) == exactly([call])


@FAST
@given(st.text(max_size=12), st.sampled_from(["<tool_call>", "</tool_call>", "<think>", "</think>", "</parameter>"]))
def test_hermes_escapes_tags_inside_values(text: str, tag: str) -> None:
    tool = ToolSchema("t", "", {"properties": {"s": {"type": "string"}}})
    call = ToolCall("t", {"s": f"{text}{tag}{text}"})
    wire = render_calls([call], "hermes", [tool])
    assert parse(wire, [tool], "hermes").calls == (call,)
    assert wire.count("tool_call>") == 2 + 0 * len(tag) + (tag.endswith("tool_call>"))
    assert "think>" not in tag or f"<{tag.strip('<')}" not in wire


@pytest.mark.parametrize(
    "tag", ["<tool_call>", "</tool_call>", "<function=", "</function>", "<parameter=", "</parameter>"]
)
def test_xml_refuses_values_with_its_tags(tag: str) -> None:
    with pytest.raises(InputError, match=f"cannot write 's' of 't': its value contains {tag}"):
        render_calls([ToolCall("t", {"s": f"a {tag} b"})], "qwen_xml")
    with pytest.raises(InputError, match="its value contains"):
        render_calls([ToolCall("t", {"s": [tag]})], "qwen_xml")


@pytest.mark.parametrize("name", ["", "a>b", "a<b", "a\nb"])
def test_xml_refuses_names_it_cannot_write(name: str) -> None:
    with pytest.raises(InputError, match="cannot write the name"):
        render_calls([ToolCall(name, {})], "qwen_xml")
    with pytest.raises(InputError, match="cannot write the name"):
        render_calls([ToolCall("t", {name: 1})], "qwen_xml")


@pytest.mark.parametrize("format", ["hermes", "qwen_xml"])
@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), (1, 2), {1: 2}, {3}, "\ud800", ["\udfff"], 10**500, object()]
)
def test_values_that_are_not_json_are_refused(format: Format, value: Any) -> None:
    with pytest.raises(InputError, match="not JSON"):
        render_calls([ToolCall("t", {"x": value})], format)


def test_nesting_too_deep_to_be_read_back_is_refused() -> None:
    value: JSON = []
    for _ in range(70):
        value = [value]
    with pytest.raises(InputError, match="Nested deeper"):
        render_calls([ToolCall("t", {"x": value})], "hermes")


@pytest.mark.parametrize("format", ["hermes", "qwen_xml"])
def test_with_tools_a_call_that_would_not_be_read_back_is_refused(format: Format) -> None:
    with pytest.raises(InputError, match="Tool 'get_wether' not found"):
        render_calls([ToolCall("get_wether", {})], format, [WEATHER])
    with pytest.raises(InputError, match="missing parameter 'city'"):
        render_calls([ToolCall("get_weather", {})], format, [WEATHER])


def test_null_for_a_nullable_string_is_refused_in_xml_only() -> None:
    tool = ToolSchema("t", "", {"properties": {"s": {"type": ["string", "null"]}}})
    with pytest.raises(InputError, match="cannot write 's' of 't': null would be read back as \"None\""):
        render_calls([ToolCall("t", {"s": None})], "qwen_xml", [tool])
    assert parse(render_calls([ToolCall("t", {"s": None})], "hermes", [tool]), [tool], "hermes").faults == ()


def test_signature_lines() -> None:
    assert signature_line(WEATHER) == "get_weather(city, days?): Weather of a city. Now."
    assert signature_line(ToolSchema("stop", "")) == "stop()"


@FAST
@given(st.lists(calls_with_tools(), max_size=3))
def test_several_calls_beside_text(drawn: list[tuple[ToolSchema, ToolCall]]) -> None:
    tools = [ToolSchema(f"t{index}", "", tool.parameters) for index, (tool, _) in enumerate(drawn)]
    calls = [ToolCall(f"t{index}", call.arguments) for index, (_, call) in enumerate(drawn)]
    assume(calls)
    message = parse("Now.\n" + render_calls(calls, "hermes", tools), tools, "hermes")
    assert message.content == "Now."
    assert exactly(message.calls) == exactly(calls)
