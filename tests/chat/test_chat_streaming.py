"""Properties that hold for every text: nothing raises, nothing is lost, chunking changes nothing."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from banty.chat import Format, call_parser, in_order, parse
from banty.chat.parser import syntax_of
from banty.chat.stream import Piece, Splitter
from banty.records.messages import CallFault, ToolSchema

FAST = settings(derandomize=True, max_examples=150, deadline=None)
WHITESPACE = " \t\r\n"

TOOLS = [
    ToolSchema("go", "", {"properties": {"n": {"type": "integer"}, "s": {"type": "string"}}, "required": ["s"]}),
    ToolSchema("stop", ""),
]
FRAGMENTS = [
    *("<think>", "</think>", "<tool_call>", "</tool_call>", "<function=", "</function>", "<parameter=", "</parameter>"),
    *("<", ">", "</", "<tool_", "call>", "think>", "<function=go>", "<parameter=s>", "<parameter=n>", "stop", "go"),
    *('{"name": "go", "arguments": {"s": "', '"}}', '{"name": "stop", "arguments": {}}', '"', "\\", "{", "}", "[", ","),
    *(f'<tool_call>\n{{"name": "{name}", "arguments": {{"s": "x"}}}}\n</tool_call>' for name in ("go", "stop", "ho")),
    *("\n", " ", "\n\n", "x", "7", "é", "null", "NaN", ":", "\u3000", "\x00", "\\ud800", "<|im_end|>"),
    *("<tool_call>\n<function=stop>\n</function>\n</tool_call>", "<parameter=s>\n7\n</parameter>\n"),
]

formats = st.sampled_from(["hermes", "qwen_xml"])
texts = st.one_of(
    st.lists(st.sampled_from(FRAGMENTS), max_size=25).map("".join),
    st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=5)), max_size=15).map("".join),
    st.text(max_size=60),
)


def pieces_of(text: str, format: Format, starts_in_reasoning: bool) -> list[Piece]:
    splitter = Splitter(syntax_of(format), starts_in_reasoning=starts_in_reasoning)
    return [*splitter.feed(text), *splitter.finish()]


def gathered(pieces: list[Piece], kind: str, starts_in_reasoning: bool) -> str:
    """The stated rule, computed anew: stretches between tags, bare of whitespace beside a tag, joined by a newline."""
    stretches = [""]
    for piece in pieces:
        if piece.kind == kind:
            stretches[-1] += piece.raw
        elif piece.kind in ("tag", "block"):
            stretches.append("")
    for index, stretch in enumerate(stretches):
        if index > 0 or (kind == "reasoning" and starts_in_reasoning):
            stretch = stretch.lstrip(WHITESPACE)
        if index < len(stretches) - 1:
            stretch = stretch.rstrip(WHITESPACE)
        stretches[index] = stretch
    return "\n".join(stretch for stretch in stretches if stretch)


@FAST
@given(texts, formats, st.booleans())
def test_nothing_is_lost(text: str, format: Format, starts_in_reasoning: bool) -> None:
    pieces = pieces_of(text, format, starts_in_reasoning)
    assert "".join(piece.raw for piece in pieces) == text

    message = parse(text, TOOLS, format, starts_in_reasoning=starts_in_reasoning)
    assert message.content == gathered(pieces, "text", starts_in_reasoning)
    assert message.reasoning == gathered(pieces, "reasoning", starts_in_reasoning)

    blocks = [piece.block for piece in pieces if piece.block is not None]
    found = in_order(message)
    assert len(found) == len(blocks)
    for order, (block, each) in enumerate(zip(blocks, found, strict=True)):
        assert block.order == order
        assert text[block.start : block.start + len(block.raw)] == block.raw
        if isinstance(each, CallFault):
            assert (each.raw, each.order) == (block.raw, order)
            assert block.start <= each.position <= block.start + len(block.raw)
            assert 0 < len(each.message) < 500
            each.message.encode()
        else:
            assert block.ending == "closed"

    accounted = (
        message.content + message.reasoning + "".join(each.raw for each in pieces if each.kind in ("tag", "block"))
    )
    kept, written = Counter(accounted), Counter(text)
    assert {each: kept[each] for each in written if each not in WHITESPACE} == {
        each: written[each] for each in written if each not in WHITESPACE
    }


@FAST
@given(texts, formats, st.booleans(), st.lists(st.integers(0, 200), max_size=12))
def test_chunking_changes_nothing(text: str, format: Format, starts_in_reasoning: bool, cuts: list[int]) -> None:
    whole = parse(text, TOOLS, format, starts_in_reasoning=starts_in_reasoning)
    places = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    for chunks in ([text[a:b] for a, b in pairwise(places)], list(text)):
        parser = call_parser(TOOLS, format, starts_in_reasoning=starts_in_reasoning)
        deltas = [parser.feed(chunk) for chunk in chunks]
        assert parser.finish() == whole
        assert whole.content.startswith("".join(delta.text for delta in deltas))
        assert whole.reasoning.startswith("".join(delta.reasoning for delta in deltas))
        assert tuple(call for delta in deltas for call in delta.calls) == whole.calls
        told = tuple(fault for delta in deltas for fault in delta.faults)
        assert told == whole.faults[: len(told)]
        assert [fault.kind for fault in whole.faults[len(told) :]] in ([], ["truncated"])


@FAST
@given(texts, formats)
def test_reasoning_yields_no_calls(text: str, format: Format) -> None:
    inside = text.replace("</think>", "")
    assert parse(f"<think>{inside}", TOOLS, format).calls == ()
    assert parse(inside, TOOLS, format, starts_in_reasoning=True).calls == ()
    assert parse(inside, TOOLS, format, starts_in_reasoning=True).faults == ()
    assert parse(f"<think>{inside}</think>", TOOLS, format).faults == ()


@FAST
@given(texts, formats)
def test_checking_names_only_never_executes_less(text: str, format: Format) -> None:
    strict = parse(text, TOOLS, format)
    lenient = parse(text, TOOLS, format, check="names")
    assert len(lenient.calls) >= len(strict.calls)
    assert [fault.order for fault in lenient.faults if fault.order not in {each.order for each in strict.faults}] == []
