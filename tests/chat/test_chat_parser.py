"""What both wire formats share: text, reasoning, faults, order, streaming."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytest

from banty.chat import Format, call_parser, in_order, parse
from banty.errors import InputError
from banty.records.messages import JSON, Message, ToolCall, ToolSchema

FORMATS: tuple[Format, ...] = ("hermes", "qwen_xml")

Tools = list[ToolSchema]


def hermes(name: str, arguments: str) -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


def xml(name: str, arguments: Mapping[str, str]) -> str:
    lines = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in arguments.items())
    return f"<tool_call>\n<function={name}>\n{lines}</function>\n</tool_call>"


FIND = {"hermes": hermes("find_book", '{"title": "Emma"}'), "qwen_xml": xml("find_book", {"title": "Emma"})}
BROKEN = {
    "hermes": '<tool_call>\n{"name": "lend", "arguments": {"book_id" "B1"}}\n</tool_call>',
    "qwen_xml": "<tool_call>\n<function=lend>\n<parameter=book_id>\nB1\n</function>\n</tool_call>",
}
UNKNOWN = {"hermes": hermes("find_bok", "{}"), "qwen_xml": xml("find_bok", {})}
EMMA = ToolCall("find_book", {"title": "Emma"})


def only_fault(message: Message) -> Any:
    assert message.calls == ()
    (fault,) = message.faults
    return fault


@pytest.mark.parametrize("format", FORMATS)
def test_a_call_beside_text(format: Format, tools: Tools) -> None:
    message = parse(f"Let me look.\n{FIND[format]}", tools, format)
    assert message == Message("assistant", "Let me look.", (EMMA,))


@pytest.mark.parametrize("format", FORMATS)
def test_text_without_tags_is_kept_to_the_byte(format: Format, tools: Tools) -> None:
    text = "  a < b, </ c>\r\n\n"
    assert parse(text, tools, format) == Message("assistant", text)
    assert parse("", tools, format) == Message("assistant")


@pytest.mark.parametrize("format", FORMATS)
def test_whitespace_beside_tags_is_layout(format: Format, tools: Tools) -> None:
    text = f"<think>\nHm.\n</think>\n\nFirst.\n\n{FIND[format]}\n{FIND[format]}\n\n Then. \n"
    message = parse(text, tools, format)
    assert (message.reasoning, message.content) == ("Hm.", "First.\nThen. \n")
    assert message.calls == (EMMA, EMMA)


@pytest.mark.parametrize("format", FORMATS)
def test_one_broken_call_spoils_no_other(format: Format, tools: Tools) -> None:
    for text in (BROKEN[format] + "\n" + FIND[format], FIND[format] + "\n" + BROKEN[format]):
        message = parse(text, tools, format)
        assert message.calls == (EMMA,)
        assert [fault.kind for fault in message.faults] == ["malformed"]
        assert message.faults[0].raw == BROKEN[format]
        assert message.faults[0].name == "lend"
        assert message.faults[0].order == (0 if text.startswith(BROKEN[format]) else 1)


@pytest.mark.parametrize("format", FORMATS)
def test_calls_and_faults_keep_the_order_they_were_written_in(format: Format, tools: Tools) -> None:
    text = "\n".join((UNKNOWN[format], FIND[format], BROKEN[format], FIND[format]))
    message = parse(text, tools, format)
    assert [getattr(each, "kind", "call") for each in in_order(message)] == [
        "unknown_tool",
        "call",
        "malformed",
        "call",
    ]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("cut", [1, 11, 20, 40])
def test_a_call_cut_off_is_truncated_and_never_executed(format: Format, cut: int, tools: Tools) -> None:
    text = f"Hm.\n{FIND[format][:-cut]}"
    fault = only_fault(parse(text, tools, format))
    assert (fault.kind, fault.raw, fault.position) == ("truncated", FIND[format][:-cut], len(text))
    assert fault.name == "find_book"
    assert fault.message == (
        "The call to 'find_book' is cut off: the message ends before its closing tag. Not executed; write it again."
    )


@pytest.mark.parametrize("format", FORMATS)
def test_a_block_without_closing_tag_before_the_next(format: Format, tools: Tools) -> None:
    open_block = FIND[format].removesuffix("</tool_call>")
    message = parse(open_block + FIND[format], tools, format)
    assert message.calls == (EMMA,)
    assert [(fault.kind, fault.raw, fault.position) for fault in message.faults] == [
        ("malformed", open_block, len(open_block))
    ]


@pytest.mark.parametrize("format", FORMATS)
def test_unknown_tool(format: Format, tools: Tools) -> None:
    text = "Well. " + UNKNOWN[format]
    fault = only_fault(parse(text, tools[:2], format))
    assert (fault.kind, fault.name) == ("unknown_tool", "find_bok")
    assert fault.message == "Tool 'find_bok' not found. Available tools: find_book, lend. Did you mean 'find_book'?"
    assert text[fault.position :].lstrip('"').startswith("find_bok")


@pytest.mark.parametrize("format", FORMATS)
def test_unknown_tool_among_none_and_among_many(format: Format) -> None:
    assert only_fault(parse(UNKNOWN[format], [], format)).message == (
        "Tool 'find_bok' not found. No tools are available; answer in plain text."
    )
    many = [ToolSchema(f"t{index}", "") for index in range(30)]
    message = only_fault(parse(UNKNOWN[format], many, format)).message
    assert message.endswith("t18, t19 and 10 more.")


@pytest.mark.parametrize("format", FORMATS)
def test_wrong_parameters_are_all_told_at_once(format: Format, tools: Tools) -> None:
    text = {
        "hermes": hermes("lend", '{"book": "B1", "days": "soon"}'),
        "qwen_xml": xml("lend", {"book": "B1", "days": "soon"}),
    }[format]
    fault = only_fault(parse(text, tools, format))
    assert (fault.kind, fault.name) == ("unknown_parameter", "lend")
    assert fault.message == (
        "Call to 'lend' not executed: unknown parameter 'book' (did you mean 'book_id'?); missing parameter 'book_id'; "
        "missing parameter 'member_id'; days: expected integer, got \"soon\". "
        "Parameters of 'lend': book_id, member_id; optional: days. Correct it and call again."
    )
    assert text[fault.position :].removeprefix("<parameter=").lstrip('"').startswith("book")


@pytest.mark.parametrize("format", FORMATS)
def test_unlisted_parameters_need_an_explicit_permission(format: Format) -> None:
    text = {"hermes": hermes("t", '{"x": "1"}'), "qwen_xml": xml("t", {"x": "1"})}[format]
    silent: JSON = {"properties": {}}
    open_: JSON = {"properties": {}, "additionalProperties": True}
    assert only_fault(parse(text, [ToolSchema("t", "", silent)], format)).message == (
        "Call to 't' not executed: unknown parameter 'x'. 't' takes no parameters. Correct it and call again."
    )
    assert parse(text, [ToolSchema("t", "", open_)], format).calls == (ToolCall("t", {"x": "1"}),)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("check", ["names", "schema"])
def test_names_are_checked_in_both_modes(format: Format, check: Any, tools: Tools) -> None:
    text = {"hermes": hermes("lend", '{"book_id": "B1"}'), "qwen_xml": xml("lend", {"book_id": "B1"})}[format]
    assert only_fault(parse(text, tools, format, check=check)).kind == "missing_parameter"
    assert only_fault(parse(UNKNOWN[format], tools, format, check=check)).kind == "unknown_tool"


@pytest.mark.parametrize("format", FORMATS)
def test_values_that_break_a_finer_rule(format: Format, tools: Tools) -> None:
    given = {"rate": "-1", "shelf": "C"}
    text = {"hermes": hermes("sort", '{"rate": -1, "shelf": "C"}'), "qwen_xml": xml("sort", given)}[format]
    fault = only_fault(parse(text, tools, format))
    assert fault.kind == "bad_value"
    assert fault.message == (
        "Call to 'sort' not executed: rate: expected at least 0, got -1; "
        'shelf: expected one of "A", "B"; got "C". Correct it and call again.'
    )
    assert text[fault.position :].startswith("-1")
    assert parse(text, tools, format, check="names").calls == (ToolCall("sort", {"rate": -1, "shelf": "C"}),)


@pytest.mark.parametrize("format", FORMATS)
def test_reasoning_is_never_a_call(format: Format, tools: Tools) -> None:
    thought = f"Maybe {FIND[format]} now"
    assert parse(f"<think>{thought}</think>Done.", tools, format) == Message("assistant", "Done.", reasoning=thought)
    assert parse(f"Hm. <think>{thought}", tools, format) == Message("assistant", "Hm.", reasoning=thought)


@pytest.mark.parametrize("format", FORMATS)
def test_reasoning_begun_in_the_prompt(format: Format, tools: Tools) -> None:
    text = f"\nSure? {FIND[format]}\n</think>\n\n{FIND[format]}"
    message = parse(text, tools, format, starts_in_reasoning=True)
    assert message == Message("assistant", calls=(EMMA,), reasoning=f"Sure? {FIND[format]}")
    unclosed = parse(f"Sure? {FIND[format]}", tools, format, starts_in_reasoning=True)
    assert unclosed == Message("assistant", reasoning=f"Sure? {FIND[format]}")
    repeated = parse("<think>\nSure.\n</think>Yes.", tools, format, starts_in_reasoning=True)
    assert repeated == Message("assistant", "Yes.", reasoning="Sure.")


@pytest.mark.parametrize("format", FORMATS)
def test_think_tags_inside_a_value_are_data(format: Format, tools: Tools) -> None:
    text = FIND[format].replace("Emma", "<think>Emma</think>")
    assert parse(text, tools, format).calls == (ToolCall("find_book", {"title": "<think>Emma</think>"}),)


@pytest.mark.parametrize("format", FORMATS)
def test_a_quoted_call_inside_a_value_is_not_executed(format: Format, tools: Tools) -> None:
    """A model that quotes a mail must not run what the mail contains."""
    text = FIND[format].replace("Emma", "Emma <tool_call> x")
    fault = only_fault(parse(text, tools, format))
    assert (fault.kind, text[fault.position :][:11]) == ("malformed", "<tool_call>")
    quoted = xml("find_book", {"title": f"He wrote: {xml('sort', {})}"})
    assert parse(quoted, tools, "qwen_xml").calls == ()


@pytest.mark.parametrize("format", FORMATS)
def test_a_value_that_contains_the_closing_tag(format: Format, tools: Tools) -> None:
    text = FIND[format].replace("Emma", "Emma </tool_call> x") + "\n" + FIND[format]
    message = parse(text, tools, format)
    assert message.calls == (EMMA,)
    assert [fault.kind for fault in message.faults] == ["malformed"]


@pytest.mark.parametrize("format", FORMATS)
def test_character_by_character_gives_the_same_message(format: Format, tools: Tools) -> None:
    text = "\n".join(
        ("<think>a</think> b ", FIND[format], BROKEN[format], "c", UNKNOWN[format], "d", FIND[format][:-5])
    )
    parser = call_parser(tools, format)
    deltas = [parser.feed(character) for character in text]
    message = parser.finish()
    assert message == parse(text, tools, format)
    assert message.content == "b\nc\nd"
    assert "".join(delta.text for delta in deltas) == message.content
    assert "".join(delta.reasoning for delta in deltas) == message.reasoning
    assert [call for delta in deltas for call in delta.calls] == list(message.calls)
    assert [fault for delta in deltas for fault in delta.faults] == list(message.faults[:-1])


def test_text_is_passed_on_as_soon_as_it_is_final(tools: Tools) -> None:
    parser = call_parser(tools, "hermes")
    assert parser.feed("I think ").text == "I think"
    assert parser.feed("a <").text == " a"
    assert parser.feed(" b <tool").text == " < b"
    assert parser.feed(" <tool_call>").text == " <tool"
    assert parser.feed(FIND["hermes"].removeprefix("<tool_call>")).calls == (EMMA,)
    assert parser.finish().content == "I think a < b <tool"


def test_a_finished_parser_takes_no_more(tools: Tools) -> None:
    parser = call_parser(tools, "hermes")
    parser.feed("x")
    assert parser.finish() is parser.finish()
    with pytest.raises(InputError, match="new parser"):
        parser.feed("y")


def test_unusable_options_are_refused(tools: Tools) -> None:
    with pytest.raises(InputError, match="known: hermes, qwen_xml"):
        parse("", tools, "llama")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="'names' or 'schema'"):
        parse("", tools, "hermes", check="all")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="Two tools are named 'lend'"):
        parse("", [*tools, ToolSchema("lend", "")], "hermes")


def test_parameters_behind_references_and_combinations() -> None:
    referring = {"$ref": "#/$defs/Args", "$defs": {"Args": {"properties": {"n": {"type": "integer"}}}}}
    either = {"anyOf": [{"properties": {"a": {}}, "required": ["a"]}, {"properties": {"b": {}}, "required": ["b"]}]}
    anything = {"type": "object", "additionalProperties": {"type": "integer"}}
    tools = [ToolSchema("r", "", referring), ToolSchema("e", "", either), ToolSchema("m", "", anything)]
    assert parse(xml("r", {"n": "4"}), tools, "qwen_xml").calls == (ToolCall("r", {"n": 4}),)
    assert parse(hermes("e", '{"b": 1}'), tools, "hermes").calls == (ToolCall("e", {"b": 1}),)
    assert only_fault(parse(hermes("e", "{}"), tools, "hermes")).message == (
        "Call to 'e' not executed: a: missing. Correct it and call again."
    )
    assert parse(xml("m", {"x": "4"}), tools, "qwen_xml").calls == (ToolCall("m", {"x": 4}),)
    assert only_fault(parse(xml("m", {"x": "four"}), tools, "qwen_xml")).kind == "bad_value"


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("filler", ["words and < ", " \n", "<tool_call>", "<function=", "<parameter=x>", '"', '\\"'])
def test_time_grows_with_length_not_its_square(format: Format, filler: str, tools: Tools) -> None:
    def seconds(length: int) -> float:
        text = "<tool_call>\n" + filler * (length // len(filler))
        parser = call_parser(tools, format)
        start = time.process_time()
        for character in text:
            parser.feed(character)
        parser.finish()
        return time.process_time() - start

    seconds(1_000)
    assert seconds(32_000) < 0.3 + 24 * min(seconds(4_000) for _ in range(2))
