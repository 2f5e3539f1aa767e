from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.chat.tokenizers import CHATML, byte_tokenizer, published_template

from banty.chat import ChatTokenizer, Prompt, Renderer, render_calls
from banty.errors import InputError
from banty.records.messages import JSON, CallFault, Message, ToolCall, ToolSchema
from banty.records.rollouts import Segment

END = "<|im_end|>"
THOUGHT = "The desk knows."
FIND = ToolSchema(
    "find_book",
    "Look a book up.",
    {"type": "object", "properties": {"title": {"type": "string"}, "year": {"type": "integer"}}, "required": ["title"]},
)
TOOLS = [FIND]
OPENING = (Message("system", "You lend books."), Message("user", "Have you got Emma?"))


class Published(NamedTuple):
    """A template as its makers ship it, and what is known of it.

    `plain` and `thoughtful` say which of the five prompts of `SCRIPT` continue, without reasoning and with: C or F
    (afresh). `thoughtful` is empty where the generation prompt leaves no room for reasoning, or the template no place.
    """

    name: str
    options: dict[str, JSON]
    kind: str
    format: str
    plain: str
    thoughtful: str = ""

    def __str__(self) -> str:
        return "-".join([self.name, *(f"{key}={value}" for key, value in self.options.items())])

    def renderer(self) -> Renderer:
        return _renderer(self.name, tuple(self.options.items()))


OFF: dict[str, JSON] = {"enable_thinking": False}
ON: dict[str, JSON] = {"enable_thinking": True}
PUBLISHED = [
    Published("qwen2_5", {}, "append_only", "hermes", "FCCCC"),
    Published("qwen3_instruct_2507", {}, "append_only", "hermes", "FCCCC"),
    Published("qwen3_vl", {}, "append_only", "hermes", "FCCCC"),
    # Drops reasoning from before the last user message; what has none is left alone.
    Published("qwen3", {}, "rewrites_on_user", "hermes", "FCCCC", "FCFCF"),
    # The generation prompt's empty think block is not shown again once anything follows the turn.
    Published("qwen3", OFF, "rewrites", "hermes", "FFFFF"),
    Published("qwen3_training", {}, "append_only", "hermes", "FCCCC", "FCCCC"),
    Published("qwen3_training", OFF, "append_only", "hermes", "FCCCC"),
    # A think block, empty or not, stands in every turn after the last user message and in none before.
    Published("qwen3_5_think", {}, "rewrites_on_user", "qwen_xml", "FCFCF", "FCFCF"),
    Published("qwen3_5_think", OFF, "rewrites_on_user", "qwen_xml", "FCFCF"),
    Published("qwen3_5_think_training", {}, "append_only", "qwen_xml", "FCCCC", "FCCCC"),
    Published("qwen3_5_nothink", {}, "rewrites_on_user", "qwen_xml", "FCFCF"),
    Published("qwen3_5_nothink", ON, "rewrites_on_user", "qwen_xml", "FCFCF", "FCFCF"),
    Published("qwen3_5_nothink_training", {}, "append_only", "qwen_xml", "FCCCC"),
    Published("qwen3_6", {}, "rewrites_on_user", "qwen_xml", "FCFCF", "FCFCF"),
    Published("qwen3_6", {"preserve_thinking": True}, "append_only", "qwen_xml", "FCCCC", "FCCCC"),
    Published("qwen3_8", {}, "append_only", "qwen_xml", "FCCCC", "FCCCC"),
    # Prompts with `<think>` and a newline, but shows a turn without reasoning as `<think></think>`.
    Published("nemotron_3_nano", {}, "rewrites", "qwen_xml", "FFFFF", "FCFCF"),
    Published("nemotron_3_nano", OFF, "append_only", "qwen_xml", "FCCCC"),
]
every_template = pytest.mark.parametrize("published", PUBLISHED, ids=str)


@cache
def _renderer(name: str, options: tuple[tuple[str, JSON], ...]) -> Renderer:
    return Renderer(byte_tokenizer(published_template(name)), **dict(options))


def chatml(**changes: str) -> Renderer:
    return Renderer(byte_tokenizer(CHATML), **changes)


def says(text: str, reasoning: str = "") -> Message:
    return Message("assistant", text, reasoning=reasoning)


def calls(*titles: str, text: str = "", reasoning: str = "") -> Message:
    return Message("assistant", text, tuple(ToolCall("find_book", {"title": title}) for title in titles), (), reasoning)


def user(text: str) -> Message:
    return Message("user", text)


def answer(text: str) -> Message:
    return Message("tool", text)


def script(reasoning: str = "") -> list[tuple[Message, Sequence[Message]]]:
    """Tool, user, tools, user: every way a turn can be followed."""
    return [
        (calls("Emma", reasoning=reasoning), [answer("One copy.")]),
        (says("Yes, one.", reasoning), [user("And Persuasion, and Ivanhoe?")]),
        (calls("Persuasion", "Ivanhoe", text="Let me see.", reasoning=reasoning), [answer("None."), answer("Two.")]),
        (says("Only Ivanhoe.", reasoning), [user("Lend it to me.")]),
        (says("Done.", reasoning), []),
    ]


def written(renderer: Renderer, message: Message, prompt: str) -> str:
    """What a policy that knows its template by heart writes behind `prompt`, without the end of turn."""
    body = render_calls(message.calls, renderer.call_format)
    gap = "\n\n" if renderer.call_format == "qwen_xml" else "\n"
    visible = gap.join(part for part in (message.content, body) if part)
    if prompt.endswith("<think>\n"):
        return f"{message.reasoning}\n</think>\n\n{visible}"
    return f"<think>\n{message.reasoning}\n</think>\n\n{visible}" if message.reasoning else visible


class Played(NamedTuple):
    prompt: Prompt
    rendered: str
    sampled_ids: tuple[int, ...]


def play(renderer: Renderer, turns: Sequence[tuple[Message, Sequence[Message]]]) -> list[Played]:
    """The prompts of a conversation in which the policy writes just these messages."""
    conversation, messages, played = renderer.conversation(), list(OPENING), []
    for message, observation in turns:
        prompt = conversation.prompt(messages, TOOLS)
        rendered = renderer.text(messages, TOOLS, add_generation_prompt=True)
        ids = renderer.encode(written(renderer, message, rendered) + END)
        played.append(Played(prompt, rendered, ids))
        messages += [conversation.sampled(ids, complete=True), *observation]
    return played


def check_streams(renderer: Renderer, played: Sequence[Played]) -> None:
    """Whatever the template does: facts stay, what lies between follows the template, and afresh is whole."""
    stream: tuple[int, ...] = ()
    before = ""
    for prompt, rendered, sampled_ids in played:
        told = renderer.decode(stream)
        if prompt.continues:
            assert prompt.num_kept == len(stream) > 0
            assert prompt.ids[: prompt.num_kept] == stream
            between = renderer.decode(prompt.ids[prompt.num_kept :])
            assert rendered.endswith(END + between)
            assert rendered[len(before) : -len(between)].count(END) == 1, "more or less than one turn is left out"
        else:
            assert prompt.num_kept == 0
            assert prompt.ids == renderer.encode(rendered)
        if stream and rendered.startswith(told):
            assert prompt.continues
            assert renderer.decode(prompt.ids) == rendered
            assert prompt.ids == renderer.encode(rendered)
        if stream and not rendered.startswith(before):
            assert not prompt.continues
        stream, before = prompt.ids + sampled_ids, rendered


# Real templates


@every_template
def test_the_class_and_the_call_format_of_published_templates(published: Published) -> None:
    renderer = published.renderer()
    assert (renderer.template_class, renderer.call_format) == (published.kind, published.format)
    assert (renderer.end_of_turn, renderer.stop_ids) == (END, renderer.encode(END))


@pytest.mark.parametrize(
    ("published", "reasoning", "expected"),
    [
        pytest.param(each, reasoning, expected, id=f"{each}-{'thoughtful' if reasoning else 'plain'}")
        for each in PUBLISHED
        for reasoning, expected in (("", each.plain), (THOUGHT, each.thoughtful))
        if expected
    ],
)
def test_where_a_stream_goes_on_and_where_it_begins_afresh(published: Published, reasoning: str, expected: str) -> None:
    renderer = published.renderer()
    played = play(renderer, script(reasoning))
    assert "".join("C" if each.prompt.continues else "F" for each in played) == expected
    check_streams(renderer, played)


@every_template
def test_a_policy_that_writes_as_the_template_does_sees_exactly_the_full_rendering(published: Published) -> None:
    renderer = published.renderer()
    conversation, messages = renderer.conversation(), list(OPENING)
    for (message, observation), mark in zip(script(), published.plain, strict=True):
        prompt = conversation.prompt(messages, TOOLS)
        rendered = renderer.text(messages, TOOLS, add_generation_prompt=True)
        assert prompt.continues == (mark == "C")
        assert renderer.decode(prompt.ids) == rendered
        assert prompt.ids == renderer.encode(rendered)
        later = renderer.text([*messages, message, *observation], TOOLS, add_generation_prompt=False)
        own, kept, _ = later.removeprefix(rendered).partition(END)
        shown = own if kept and later.startswith(rendered) else written(renderer, message, rendered)
        said = conversation.sampled(renderer.encode(shown + END), complete=True)
        messages += [said, *observation]


@every_template
def test_a_teacher_forces_what_the_policy_would_have_sampled(published: Published) -> None:
    renderer = published.renderer()
    turns = script(THOUGHT if published.thoughtful else "")
    segments = renderer.turns(OPENING, TOOLS, turns)

    conversation, messages = renderer.conversation(), list(OPENING)
    for segment, (message, observation) in zip(segments, turns, strict=True):
        prompt = conversation.prompt(messages, TOOLS)
        assert (segment.prompt_ids, segment.continues) == (prompt.new_ids, prompt.continues)
        said = conversation.sampled(segment.sampled_ids, complete=True)
        assert said == message
        messages += [said, *observation]
        assert segment.sampled_ids[-1] == renderer.end_of_turn_id
        assert segment.sampler_logprobs == (0.0,) * len(segment.sampled_ids)


letters = st.characters(codec="utf-8", exclude_characters="<>", exclude_categories=["Cc"])
anything = st.text(letters, min_size=1, max_size=12)
tidy = anything.map(str.strip).filter(bool)


@st.composite
def conversations(
    draw: st.DrawFn, words: st.SearchStrategy[str], thoughts: bool
) -> list[tuple[Message, Sequence[Message]]]:
    turns: list[tuple[Message, Sequence[Message]]] = []
    for _ in range(draw(st.integers(1, 5))):
        titles = draw(st.lists(words, max_size=2))
        text = draw(words) if not titles or draw(st.booleans()) else ""
        reasoning = draw(words) if thoughts and draw(st.booleans()) else ""
        answers = [answer(each) for each in draw(st.lists(words, max_size=2))]
        turns.append((calls(*titles, text=text, reasoning=reasoning), answers or [user(draw(words))]))
    return turns


@every_template
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_any_conversation_keeps_its_facts(published: Published, data: st.DataObject) -> None:
    turns = data.draw(conversations(anything, thoughts=bool(published.thoughtful)))
    renderer = published.renderer()
    check_streams(renderer, play(renderer, turns))


@every_template
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_the_class_is_what_conversations_meet(published: Published, data: st.DataObject) -> None:
    """Texts without space at their edges, that is: templates that trim do not always trim alike, and so rewrite."""
    turns = data.draw(conversations(tidy, thoughts=bool(published.thoughtful)))
    played = play(published.renderer(), turns)
    for (_, observation), each in zip(turns, played[1:], strict=False):
        after_tool = observation[0].role == "tool"
        kept = published.kind == "append_only" or (published.kind == "rewrites_on_user" and after_tool)
        assert each.prompt.continues or not kept


# What was sampled stays as it was sampled


def after(renderer: Renderer, text: str, complete: bool = True, *, end: str = END) -> tuple[Message, str, bool]:
    """The message read from `text`, what the next prompt adds as text, and whether that prompt continues."""
    conversation = renderer.conversation()
    first = conversation.prompt(OPENING, TOOLS)
    ids = renderer.encode(text + end) if complete else renderer.encode(text)
    message = conversation.sampled(ids, complete)
    second = conversation.prompt([*OPENING, message, answer("One copy.")], TOOLS)
    if second.continues:
        assert second.ids[: second.num_kept] == first.ids + ids
    return message, renderer.decode(second.new_ids), second.continues


GLUE = "\n<|im_start|>tool\nOne copy.<|im_end|>\n<|im_start|>assistant\n"
CALL = '<tool_call>\n{"name": "find_book", "arguments": {"title": "Emma"}}\n</tool_call>'


def test_between_two_turns_stands_what_the_template_puts_behind_the_end_of_turn() -> None:
    message, added, continues = after(chatml(), CALL)
    assert continues
    assert message == calls("Emma")
    assert added == GLUE


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>{"arguments":{"title":"Emma"},   "name":"find_book"}</tool_call>',
        "  <tool_call>\n" + CALL.split("\n")[1] + "\n</tool_call>\n\nI look.",
        "<think>\n\nhm</think>" + CALL,
        "",
    ],
    ids=["odd-json", "text-behind", "reasoning-nobody-asked-for", "nothing"],
)
def test_a_policy_that_writes_otherwise_than_the_template_is_not_corrected(text: str) -> None:
    _, added, continues = after(chatml(), text)
    assert continues
    assert added == GLUE


def test_ids_that_no_tokenizer_would_choose_are_kept() -> None:
    renderer = chatml()
    conversation = renderer.conversation()
    first = conversation.prompt(OPENING, TOOLS)
    spelled = tuple(id for letter in "<think>" for id in renderer.encode(letter))
    assert spelled != renderer.encode("<think>")
    ids = (*spelled, *renderer.encode(END))
    message = conversation.sampled(ids, complete=True)
    second = conversation.prompt([*OPENING, message, user("Well?")], TOOLS)
    assert second.continues
    assert second.ids[: second.num_kept] == first.ids + ids


def test_a_broken_call_stays_and_is_a_fault() -> None:
    message, added, continues = after(chatml(), '<tool_call>\n{"name": "find_book"\n</tool_call>')
    assert continues
    assert [fault.kind for fault in message.faults] == ["malformed"]
    assert added == GLUE


@pytest.mark.parametrize("text", ["I will look", CALL[:30], ""], ids=["text", "call", "nothing"])
def test_a_turn_cut_by_length_gets_its_end_of_turn_from_the_next_prompt(text: str) -> None:
    _, added, continues = after(chatml(), text, complete=False)
    assert continues
    assert added == END + GLUE


def test_a_turn_that_met_its_limit_on_the_end_of_turn_gets_no_second_one() -> None:
    message, added, continues = after(chatml(), "Yes.<|im_end|>", complete=False)
    assert continues
    assert (message.content, added) == ("Yes.", GLUE)


def test_a_turn_that_stops_with_eos_gets_the_end_of_turn_the_template_has() -> None:
    renderer = Renderer(byte_tokenizer(CHATML, eos="<|endoftext|>"))
    assert renderer.stop_ids == renderer.encode("<|im_end|><|endoftext|>")
    message, added, continues = after(renderer, "Yes.", end="<|endoftext|>")
    assert continues
    assert (message.content, added) == ("Yes.", END + GLUE)


def test_a_tokenizer_without_eos_stops_at_the_end_of_turn() -> None:
    renderer = Renderer(byte_tokenizer(CHATML, eos=None))
    assert renderer.stop_ids == renderer.encode(END)


def test_an_end_of_turn_spelled_out_in_the_text_makes_the_next_prompt_afresh() -> None:
    renderer = chatml()
    conversation = renderer.conversation()
    conversation.prompt(OPENING, TOOLS)
    spelled = [id for letter in "Turns end with <|im_end|> here." for id in renderer.encode(letter)]
    message = conversation.sampled([*spelled, renderer.end_of_turn_id], complete=True)
    messages = [*OPENING, message, user("Thanks.")]
    prompt = conversation.prompt(messages, TOOLS)
    assert not prompt.continues
    assert prompt.ids == renderer.encode(renderer.text(messages, TOOLS, add_generation_prompt=True))

    ids = renderer.encode("You are welcome." + END)
    message = conversation.sampled(ids, complete=True)
    later = conversation.prompt([*messages, message, user("Bye.")], TOOLS)
    assert later.continues, "what was shown before, however odd, is shown again"
    assert later.ids[: later.num_kept] == prompt.ids + ids


def test_reasoning_begins_at_once_where_the_prompt_opens_it() -> None:
    renderer = _renderer("qwen3_5_think", ())
    conversation = renderer.conversation()
    conversation.prompt(OPENING, TOOLS)
    message = conversation.sampled(renderer.encode("The desk knows.\n</think>\n\nYes." + END), complete=True)
    assert (message.reasoning, message.content) == (THOUGHT, "Yes.")


@pytest.mark.parametrize("options", [OFF, {}], ids=["closed", "without"])
def test_reasoning_does_not_begin_where_the_prompt_closes_it_or_has_none(options: dict[str, JSON]) -> None:
    renderer = _renderer("qwen3", tuple(options.items()))
    conversation = renderer.conversation()
    conversation.prompt([Message("user", "What does <think>\n mean?")], TOOLS)
    assert conversation.sampled(renderer.encode("Yes." + END), complete=True).content == "Yes."


def test_reasoning_that_a_template_shows_and_then_drops_begins_a_sample_even_right_behind_the_prompt() -> None:
    """Qwen3's prompt ends before the think block, so the dropped block would pass for a prompt that was extended."""
    renderer = _renderer("qwen3", ())
    text = f"<think>\n{THOUGHT}\n</think>\n\nYes."
    conversation = renderer.conversation()
    conversation.prompt(OPENING, TOOLS)
    message = conversation.sampled(renderer.encode(text + END), complete=True)
    prompt = conversation.prompt([*OPENING, message, user("Lend it to me.")], TOOLS)
    assert not prompt.continues
    assert THOUGHT not in renderer.decode(prompt.ids)


def test_reasoning_of_nothing_but_space_is_none_to_miss() -> None:
    """A no-break space is space to a template's `trim`, and is not to the parser."""
    renderer = _renderer("qwen3_8", ())
    conversation = renderer.conversation()
    conversation.prompt(OPENING, TOOLS)
    message = conversation.sampled(renderer.encode("\xa0\n</think>\n\nYes." + END), complete=True)
    assert conversation.prompt([*OPENING, message, user("Well?")], TOOLS).continues


# What a conversation is asked


def test_asking_again_before_sampling_gives_the_same_prompt() -> None:
    renderer = chatml()
    conversation = renderer.conversation()
    first = conversation.prompt(OPENING, TOOLS)
    assert conversation.prompt(OPENING, TOOLS) == first
    message = conversation.sampled(renderer.encode("Yes." + END), complete=True)
    messages = [*OPENING, message, user("Well?")]
    second = conversation.prompt(messages, TOOLS)
    assert second.continues
    assert conversation.prompt(messages, TOOLS) == second


@pytest.mark.parametrize(
    "messages",
    [
        [*OPENING, says("No."), user("Well?")],
        [*OPENING, user("Well?")],
        [*OPENING],
        [OPENING[0], user("Have you got Ivanhoe?"), says("Yes."), user("Well?")],
    ],
    ids=["another-answer", "no-answer", "the-same", "another-question"],
)
def test_messages_that_do_not_extend_the_earlier_ones_are_rendered_afresh(messages: list[Message]) -> None:
    renderer = chatml()
    conversation = renderer.conversation()
    conversation.prompt(OPENING, TOOLS)
    conversation.sampled(renderer.encode("Yes." + END), complete=True)
    prompt = conversation.prompt(messages, TOOLS)
    assert (prompt.continues, prompt.num_kept) == (False, 0)
    assert prompt.ids == renderer.encode(renderer.text(messages, TOOLS, add_generation_prompt=True))


def test_other_tools_are_another_prompt() -> None:
    renderer = chatml()
    conversation = renderer.conversation()
    conversation.prompt(OPENING, TOOLS)
    message = conversation.sampled(renderer.encode("Yes." + END), complete=True)
    assert not conversation.prompt([*OPENING, message, user("Well?")], []).continues


def test_conversations_of_one_renderer_know_nothing_of_each_other() -> None:
    renderer = chatml()
    one, other = renderer.conversation(), renderer.conversation()
    one.prompt(OPENING, TOOLS)
    message = one.sampled(renderer.encode("Yes." + END), complete=True)
    assert not other.prompt([*OPENING, message, user("Well?")], TOOLS).continues
    assert one.prompt([*OPENING, message, user("Well?")], TOOLS).continues


def test_nothing_can_be_sampled_that_was_not_asked() -> None:
    renderer = chatml()
    conversation = renderer.conversation()
    with pytest.raises(InputError, match=r"call prompt\(\) before each turn"):
        conversation.sampled(renderer.encode("Yes." + END), complete=True)
    conversation.prompt(OPENING, TOOLS)
    conversation.sampled(renderer.encode("Yes." + END), complete=True)
    with pytest.raises(InputError, match=r"call prompt\(\) before each turn"):
        conversation.sampled(renderer.encode("Yes." + END), complete=True)


def test_a_complete_turn_without_its_stop_id_is_refused() -> None:
    renderer = chatml()
    conversation = renderer.conversation()
    conversation.prompt(OPENING, TOOLS)
    with pytest.raises(InputError, match="ends with a stop id"):
        conversation.sampled(renderer.encode("Yes."), complete=True)


# The form that templates take


class Recorder:
    """A tokenizer that notes each conversation it is given to render."""

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        self._tokenizer = tokenizer
        self.chat_template = tokenizer.chat_template
        self.rendered: list[dict[str, Any]] = []

    def apply_chat_template(self, conversation: Any, **options: Any) -> Any:
        self.rendered.append({"conversation": conversation, **options})
        return self._tokenizer.apply_chat_template(conversation, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


def recorded(**options: JSON) -> tuple[Renderer, Recorder]:
    recorder = Recorder(byte_tokenizer(CHATML))
    renderer = Renderer(recorder, **options)
    recorder.rendered.clear()
    return renderer, recorder


def test_a_prompt_takes_one_rendering_and_an_answer_none() -> None:
    renderer, recorder = recorded()
    conversation, messages = renderer.conversation(), list(OPENING)
    for number in range(1, 4):
        conversation.prompt(messages, TOOLS)
        messages += [conversation.sampled(renderer.encode("Yes." + END), complete=True), user("Well?")]
        assert len(recorder.rendered) == number


def test_messages_tools_and_options_reach_the_template_in_the_form_it_expects() -> None:
    renderer, recorder = recorded(enable_thinking=False)
    called = Message("assistant", "I look.", (ToolCall("find_book", {"title": "Emma"}, "c1"),), (), THOUGHT)
    renderer.text([*OPENING, called, Message("tool", "One copy.", call_id="c1")], TOOLS, add_generation_prompt=True)
    function = {"name": "find_book", "arguments": {"title": "Emma"}}
    assert recorder.rendered == [
        {
            "conversation": [
                {"role": "system", "content": "You lend books."},
                {"role": "user", "content": "Have you got Emma?"},
                {
                    "role": "assistant",
                    "content": "I look.",
                    "reasoning_content": THOUGHT,
                    "tool_calls": [{"type": "function", "id": "c1", "function": function}],
                },
                {"role": "tool", "content": "One copy.", "tool_call_id": "c1"},
            ],
            "tools": [FIND.to_openai()],
            "tokenize": False,
            "add_generation_prompt": True,
            "enable_thinking": False,
        }
    ]
    renderer.text(OPENING, [], add_generation_prompt=False)
    assert recorder.rendered[1]["tools"] is None


def test_a_broken_call_is_shown_again_behind_the_text() -> None:
    renderer = chatml()
    broken = CallFault("malformed", "Not JSON.", 0, 0, "<tool_call>{</tool_call>")
    other = CallFault("truncated", "Cut off.", 2, 0, "<tool_call>")
    message = Message("assistant", "I look.", calls("Emma").calls, (broken, other))
    text = renderer.text([message], [], add_generation_prompt=False)
    assert text == f"<|im_start|>assistant\nI look.\n<tool_call>{{</tool_call>\n<tool_call>\n{CALL}<|im_end|>\n"
    bare = renderer.text([Message("assistant", "", (), (broken,))], [], add_generation_prompt=False)
    assert bare == "<|im_start|>assistant\n<tool_call>{</tool_call><|im_end|>\n"


def test_rendered_afresh_the_text_between_is_the_templates_own() -> None:
    """What a rewriting template shows of a broken call: all of it, and no end of turn twice."""
    renderer = _renderer("qwen3", tuple(OFF.items()))
    conversation = renderer.conversation()
    conversation.prompt(OPENING, TOOLS)
    message = conversation.sampled(renderer.encode("Wait.\n<tool_call>{</tool_call>" + END), complete=True)
    prompt = conversation.prompt([*OPENING, message, answer("Not executed.")], TOOLS)
    assert not prompt.continues
    assert f"assistant\nWait.\n<tool_call>{{</tool_call>{END}\n" in renderer.decode(prompt.ids)


# Teacher forcing

HERMES = CALL + END
XML = "<tool_call>\n<function=find_book>\n<parameter=title>\nEmma\n</parameter>\n</function>\n</tool_call>" + END


@pytest.mark.parametrize(
    ("name", "options", "reasoning", "target"),
    [
        ("qwen2_5", {}, "", HERMES),
        ("qwen2_5", {}, THOUGHT, HERMES),  # a template without a place for reasoning
        ("qwen3", {}, "", "<think>\n\n</think>\n\n" + HERMES),
        ("qwen3", {}, THOUGHT, f"<think>\n{THOUGHT}\n</think>\n\n{HERMES}"),
        ("qwen3", OFF, "", HERMES),
        ("qwen3_instruct_2507", {}, "", HERMES),
        ("qwen3_5_think", {}, "", "\n</think>\n\n" + XML),
        ("qwen3_5_think", {}, THOUGHT, f"{THOUGHT}\n</think>\n\n{XML}"),
        ("qwen3_5_nothink", {}, "", XML),
        ("qwen3_8", {}, THOUGHT, f"{THOUGHT}\n</think>\n\n{XML}"),
        # The prompt's newline behind <think> has no counterpart in the turn, which still shows what to write.
        ("nemotron_3_nano", {}, "", "</think>\n" + XML.replace("</tool_call>", "</tool_call>\n")),
    ],
)
def test_the_target_is_what_the_model_should_write_behind_the_generation_prompt(
    name: str, options: dict[str, JSON], reasoning: str, target: str
) -> None:
    renderer = _renderer(name, tuple(options.items()))
    [segment] = renderer.turns(OPENING, TOOLS, [(calls("Emma", reasoning=reasoning), [])])
    assert renderer.decode(segment.sampled_ids) == target
    prompt = renderer.text(OPENING, TOOLS, add_generation_prompt=True)
    assert segment.prompt_ids == renderer.encode(prompt)
    assert not segment.continues


def test_segments_joined_are_the_whole_conversation() -> None:
    renderer = chatml()
    turns = [(calls("Emma"), [answer("One copy.")]), (says("Yes."), [user("Thanks.")]), (says("Bye."), [])]
    segments = renderer.turns(OPENING, TOOLS, turns)
    assert [segment.continues for segment in segments] == [False, True, True]
    assert renderer.decode(segments[1].prompt_ids) == GLUE
    stream = [id for segment in segments for id in (*segment.prompt_ids, *segment.sampled_ids)]
    messages = [*OPENING, *(each for message, came in turns for each in (message, *came))]
    assert renderer.decode(stream) + "\n" == renderer.text(messages, TOOLS, add_generation_prompt=False)
    assert all(isinstance(segment, Segment) for segment in segments)


PROMPT = "<|im_start|>assistant\n{% endif %}"


@pytest.mark.parametrize(
    ("opening", "shown", "message", "target"),
    [
        ("<think>\n", "", says("Yes."), "\n</think>\n\nYes." + END),
        ("<think>\n", "", says("Yes.", THOUGHT), f"{THOUGHT}\n</think>\n\nYes." + END),
        (
            "<think>\n",
            "<think>{{ message.reasoning_content }}</think>",
            says("Yes.", THOUGHT),
            f"{THOUGHT}</think>Yes." + END,
        ),
        ("<think>\n\n</think>\n\n", "", says("Yes."), "Yes." + END),
        ("<think>\n\n</think>\n\n", "<think></think>\n", says("Yes."), "Yes." + END),
    ],
    ids=["opened-not-shown", "opened-and-dropped", "opened-on-one-line", "closed-not-shown", "closed-on-one-line"],
)
def test_a_think_block_of_the_prompt_that_the_turn_shows_otherwise_is_bridged(
    opening: str, shown: str, message: Message, target: str
) -> None:
    template = CHATML.replace(PROMPT, f"<|im_start|>assistant\n{opening}{{% endif %}}").replace(
        "{{ message.content }}", "{% if message.role == 'assistant' %}" + shown + "{% endif %}{{ message.content }}"
    )
    renderer = Renderer(byte_tokenizer(template))
    segments = renderer.turns(OPENING, TOOLS, [(says("Yes."), [user("Well?")]), (message, [])])
    assert renderer.decode(segments[1].sampled_ids) == target


def test_reasoning_behind_a_prompt_that_closes_it_cannot_be_taught() -> None:
    renderer = _renderer("qwen3_5_nothink", ())
    turns = [(says("Yes."), [user("Well?")]), (says("Take it.", THOUGHT), [])]
    with pytest.raises(InputError, match=r"^Turn 1 cannot be taught: .* leave it out or switch thinking on"):
        renderer.turns(OPENING, TOOLS, turns)


@pytest.mark.parametrize("opening", ["Sure! ", "Sure! <think>\n", "<think>\nLet me see"])
def test_a_turn_that_does_not_follow_from_the_generation_prompt_cannot_be_taught(opening: str) -> None:
    template = CHATML.replace(PROMPT, f"<|im_start|>assistant\n{opening}{{% endif %}}")
    with pytest.raises(InputError, match=r"^Turn 0 cannot be taught: the template writes it in a way"):
        Renderer(byte_tokenizer(template)).turns(OPENING, TOOLS, [(says("Yes."), [])])


def test_an_end_of_turn_inside_a_message_cannot_be_taught() -> None:
    with pytest.raises(InputError, match=r"^Turn 0 cannot be taught: it must end its turn once"):
        chatml().turns(OPENING, TOOLS, [(says("Write <|im_end|> there."), [])])


def test_a_template_may_part_the_text_from_the_end_of_turn() -> None:
    template = CHATML.replace("{% endfor %}<|im_end|>", "{% endfor %}\n<|im_end|>")
    renderer = Renderer(byte_tokenizer(template.replace("{% endfor %}\n", "{% endfor %}{{ '\n' }}")))
    assert renderer.end_of_turn == END
    [segment] = renderer.turns(OPENING, TOOLS, [(says("Yes."), [])])
    assert renderer.decode(segment.sampled_ids) == f"Yes.\n{END}"


# Templates that cannot be used


def refused(template: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Renderer(byte_tokenizer(template))


CALLS_PART = CHATML[CHATML.index("{% for call in") : CHATML.index("<|im_end|>\n{% endfor %}{% if add")]


def test_a_base_model_is_refused() -> None:
    refused(None, "no chat template, as a base model's has none; use an instruct model, or set")


def test_a_template_that_does_not_show_tools_is_refused() -> None:
    refused(CHATML.replace("{% if tools %}", "{% if false %}"), "does not show tools; use the template of")


def test_a_template_that_leaves_calls_out_is_refused() -> None:
    refused(CHATML.replace(CALLS_PART, ""), "leaves tool calls out")


def test_a_template_that_leaves_results_out_is_refused() -> None:
    shown = "{{ message.content if message.role != 'tool' }}"
    refused(CHATML.replace("{{ message.content }}", shown), "leaves tool results out")


def test_calls_in_an_unknown_format_are_refused() -> None:
    refused(
        CHATML.replace('{"name"', '{"function"'), r"none of the known formats \(hermes, qwen_xml\), but as .*function"
    )


def test_a_turn_that_no_special_token_ends_is_refused() -> None:
    refused(CHATML.replace("<|im_end|>", "[end]"), r"ends an assistant's turn with '\[end\]\\n', which is no special")
    refused(
        CHATML.replace("<|im_end|>\n{% endfor %}{% if", "{% endfor %}{% if"), "turn with nothing, which is no special"
    )


def test_a_call_that_ends_its_turn_otherwise_is_refused() -> None:
    ends = "{{ '<|endoftext|>' if message.tool_calls else '<|im_end|>' }}\n{% endfor %}{% if add"
    refused(CHATML.replace("<|im_end|>\n{% endfor %}{% if add", ends), "but not one that calls a tool")


@pytest.mark.parametrize(
    ("condition", "kinds"),
    [
        ("messages[0].role == 'system'", "system, user, assistant"),
        ("messages[-1].tool_calls", "system, user, assistant with tool calls"),
        ("messages[-1].role == 'tool'", "system, user, assistant with tool calls, tool"),
    ],
)
def test_a_template_that_raises_says_for_which_messages(condition: str, kinds: str) -> None:
    template = "{% if " + condition + " %}{{ raise_exception('Not supported here') }}{% endif %}" + CHATML
    refused(template, rf"refuses a conversation of these messages: {kinds} \(Not supported here\); use messages or")


def test_a_published_template_without_tools_is_refused() -> None:
    refused(published_template("qwen2_5_vl"), "does not show tools")


def test_the_module_loads_nothing_heavy() -> None:
    code = (
        "import sys, banty.chat.templates\n"
        "heavy = {'torch', 'transformers', 'tokenizers', 'jinja2'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
