"""Messages as the token ids a policy sees, by its tokenizer's own chat template, and sampled ids as messages.

What was sampled is a fact: it is never rendered again while the template leaves alone what the policy saw before. One
conversation's stream is prompt ids, sampled ids, the ids between, sampled ids, and so on. Where the template, given new
messages, writes earlier ones differently, the prompt is rendered whole and a new training sample begins.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

from banty.chat.parser import Format, parse
from banty.chat.stream import THINK_CLOSE, THINK_OPEN
from banty.errors import InputError
from banty.records.messages import JSON, Message, ToolCall, ToolSchema
from banty.records.rollouts import Segment

TemplateClass: TypeAlias = Literal["append_only", "rewrites_on_user", "rewrites"]
"""When a template changes what the policy saw before: never, at a new user message, or already at a tool's answer."""

_FORMATS: tuple[Format, ...] = ("hermes", "qwen_xml")
_OPEN_THINKING = re.compile(rf"{THINK_OPEN}\s*\Z")


class ChatTokenizer(Protocol):
    """What is used of a Hugging Face fast tokenizer. `chat_template` is None for a base model's."""

    chat_template: Any

    @property
    def eos_token_id(self) -> Any: ...

    def apply_chat_template(self, conversation: Any, *, tools: Any, tokenize: Any, **options: Any) -> Any:
        """The conversation as text. `options` are `add_generation_prompt` and the template's own."""

    def encode(self, text: str, *, add_special_tokens: bool) -> Any: ...

    def decode(self, token_ids: Any, skip_special_tokens: bool) -> Any: ...

    def get_added_vocab(self) -> Mapping[str, int]:
        """The tokens that are matched as whole texts, special ones among them, and their ids."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the policy is to see now.

    `ids` is the whole stream. Where it `continues`, its first `num_kept` ids are the earlier stream, sampled ids as
    they were sampled; otherwise it is the conversation rendered afresh and `num_kept` is 0.
    """

    ids: tuple[int, ...]
    num_kept: int
    continues: bool

    @property
    def new_ids(self) -> tuple[int, ...]:
        """The `prompt_ids` of the turn's segment."""
        return self.ids[self.num_kept :]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A prompt given out, and what it was made from."""

    messages: tuple[Message, ...]
    tools: tuple[ToolSchema, ...]
    text: str
    prompt: Prompt


@dataclass(frozen=True, slots=True)
class _Answered:
    """A prompt with what was sampled on it. `told` is how the policy's text reads, end-of-turn token removed."""

    asked: _Asked
    message: Message
    sampled_ids: tuple[int, ...]
    told: str


class Conversation:
    """One session's stream of ids. Ask for a prompt, say what was sampled on it, and so on in turn."""

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer
        self._asked: _Asked | None = None
        self._answered: _Answered | None = None

    def prompt(self, messages: Sequence[Message], tools: Sequence[ToolSchema]) -> Prompt:
        """The ids to sample on: the earlier stream and what is new, or everything rendered afresh.

        It continues when `messages` are those of the last prompt, the answer as `sampled` returned it and more, and the
        template kept what the policy saw. Nothing is settled before `sampled`: asking again gives the same prompt.
        """
        text = self._renderer.text(messages, tools, add_generation_prompt=True)
        between = self._between(messages, text)
        if self._answered is None or between is None:
            prompt = Prompt(self._renderer.encode(text), 0, False)
        else:
            kept = self._answered.asked.prompt.ids + self._answered.sampled_ids
            prompt = Prompt(kept + between, len(kept), True)
        self._asked = _Asked(tuple(messages), tuple(tools), text, prompt)
        return prompt

    def sampled(self, ids: Sequence[int], complete: bool) -> Message:
        """The message that was sampled on the last prompt; `complete` says that its last id is one of `stop_ids`."""
        asked, ids = self._on_prompt(), tuple(ids)
        stopped = bool(ids) and ids[-1] in self._renderer.stop_ids
        if complete and not stopped:
            stops = ", ".join(map(str, self._renderer.stop_ids))
            raise InputError(f"A complete turn ends with a stop id ({stops}), got {ids[-1:]}; keep it in the ids")
        told = self._renderer.decode(ids[:-1] if stopped else ids)
        opened = self._renderer.opens_reasoning(asked.text)
        message = parse(told, asked.tools, self._renderer.call_format, starts_in_reasoning=opened)
        self._answered, self._asked = _Answered(asked, message, ids, told), None
        return message

    def taught(self, message: Message) -> tuple[int, ...]:
        """The ids that would have said `message` on the last prompt, recorded as if they had been sampled.

        Raises InputError where the template has no text for that.
        """
        asked = self._on_prompt()
        told = self._renderer.target(asked.text, asked.messages, message, asked.tools)
        ids = self._renderer.encode(told + self._renderer.end_of_turn)
        self._answered, self._asked = _Answered(asked, message, ids, told), None
        return ids

    def _on_prompt(self) -> _Asked:
        if self._asked is None:
            raise InputError("Nothing was asked: call prompt() before each turn that is sampled")
        return self._asked

    def _between(self, messages: Sequence[Message], text: str) -> tuple[int, ...] | None:
        """The ids from the last sampled one to the next turn, or None where the earlier stream cannot go on."""
        if self._answered is None:
            return None
        asked, message = self._answered.asked, self._answered.message
        earlier = (*asked.messages, message)
        # An end of turn spelled out in the sampled text would be taken for the real one in the rendered text.
        if tuple(messages[: len(earlier)]) != earlier or self._renderer.end_of_turn in self._answered.told:
            return None
        end = self._renderer.end_of_own_turn(asked.text, message, text)
        if end is None:
            return None
        ids = self._renderer.encode(self._renderer.end_of_turn + text[end:])
        closed = self._answered.sampled_ids[-1:] == (self._renderer.end_of_turn_id,)
        return ids[1:] if closed else ids


class Renderer:
    """A tokenizer's chat template, tried out on a small conversation before it is relied on.

    `template_options` go to the template at every rendering (`enable_thinking=False`). The end-of-turn token is what
    the template writes behind an assistant's text, whatever the tokenizer calls its eos; `stop_ids` are both, the
    end-of-turn id first. Raises InputError for a template that is missing, refuses or drops a kind of message, writes
    calls in an unknown format, or ends turns with no token of their own.

    `template_class` is what `Conversation` makes of the template, with reasoning and without. Reasoning is tried only
    where the template shows it behind its generation prompt, which it does not when thinking is switched off.
    """

    def __init__(self, tokenizer: ChatTokenizer, /, **template_options: JSON) -> None:
        self._tokenizer = tokenizer
        self._options = template_options
        if not tokenizer.chat_template:
            raise InputError(
                "The tokenizer has no chat template, as a base model's has none; "
                "use an instruct model, or set tokenizer.chat_template to the text of a template file"
            )
        self.end_of_turn, self.end_of_turn_id = self._probe_end_of_turn()
        stops = (self.end_of_turn_id, tokenizer.eos_token_id)
        self.stop_ids: tuple[int, ...] = tuple(dict.fromkeys(stop for stop in stops if stop is not None))
        self.call_format: Format = self._probe_calls()
        self._shows_reasoning = self._probe_reasoning()
        self.template_class: TemplateClass = self._probe_class()

    def conversation(self) -> Conversation:
        return Conversation(self)

    def text(self, messages: Sequence[Message], tools: Sequence[ToolSchema], add_generation_prompt: bool) -> str:
        """The conversation as the template writes it; InputError names the kinds of messages it refuses.

        Special tokens spelled out in a message become the real ones once encoded: templates have no escape for them.
        """
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    [_entry(message) for message in messages],
                    tools=[tool.to_openai() for tool in tools] or None,
                    tokenize=False,
                    add_generation_prompt=add_generation_prompt,
                    **self._options,
                )
            )
        except Exception as error:
            kinds = ", ".join(dict.fromkeys(_kind(message) for message in messages))
            raise InputError(
                f"The chat template refuses a conversation of these messages: {kinds} ({error}); "
                "use messages or a template that fit together"
            ) from error

    def turns(
        self,
        opening_messages: Sequence[Message],
        tools: Sequence[ToolSchema],
        turns: Sequence[tuple[Message, Sequence[Message]]],
    ) -> list[Segment]:
        """The segments of a conversation that nobody sampled, for supervised fine-tuning: one an assistant message.

        Each turn is a message with what came back. Its `sampled_ids` are what the model should write behind the
        generation prompt, end of turn included, and their logprobs are 0: nothing was drawn. Reasoning that the
        template never shows is left out. Raises InputError that names the turn which has no such text.
        """
        conversation, messages = self.conversation(), list(opening_messages)
        segments: list[Segment] = []
        for index, (message, observation) in enumerate(turns):
            try:
                prompt = conversation.prompt(messages, tools)
                ids = conversation.taught(message)
            except InputError as error:
                raise InputError(f"Turn {index} cannot be taught: {error}") from None
            segments.append(Segment(prompt.new_ids, ids, [0.0] * len(ids), prompt.continues))
            messages += [message, *observation]
        return segments

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text, add_special_tokens=False))

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))

    def opens_reasoning(self, prompt: str) -> bool:
        """Whether the generation prompt leaves a `<think>` open, so that what is sampled begins as reasoning."""
        return bool(_OPEN_THINKING.search(prompt))

    def end_of_own_turn(self, before: str, message: Message, after: str) -> int | None:
        """The character behind the end of the turn that answered the prompt `before`, in the later prompt `after`.

        None where the template rewrote what came before, the turn's own reasoning included.
        """
        end = after.find(self.end_of_turn, len(before)) if after.startswith(before) else -1
        if end < 0:
            return None
        if message.reasoning.strip() and self._shows_reasoning and not self._reasons(before, after[len(before) : end]):
            return None
        return end + len(self.end_of_turn)

    def target(self, prompt: str, messages: Sequence[Message], message: Message, tools: Sequence[ToolSchema]) -> str:
        """The text, without its end of turn, that the model should write on `prompt`, which shows `messages`."""
        done = self.text([*messages, message], tools, add_generation_prompt=False)
        own = done[len(prompt) :] if done.startswith(prompt) else _behind_thinking(prompt, done, message.reasoning)
        if own is None:
            raise InputError(
                "the template writes it in a way that does not follow from its generation prompt; reasoning needs "
                "a generation prompt that does not close it, so leave it out or switch thinking on"
            )
        text, end, _ = own.partition(self.end_of_turn)
        if not end or self.end_of_turn in own[len(text) + len(end) :]:
            raise InputError(f"it must end its turn once, with {self.end_of_turn}; take that text out of the message")
        return text

    def _reasons(self, prompt: str, told: str) -> bool:
        message = parse(told, (), self.call_format, starts_in_reasoning=self.opens_reasoning(prompt))
        return bool(message.reasoning.strip())

    def _probe_end_of_turn(self) -> tuple[str, int]:
        done = self.text([*_OPENING, _SAYS], (), add_generation_prompt=False)
        tail = done.partition(_SAYS.content)[2].lstrip()
        ids = self.encode(tail)[:1]
        known = {*self._tokenizer.get_added_vocab().values(), self._tokenizer.eos_token_id}
        if not ids or ids[0] not in known:
            found = f"{tail[:40]!r}" if tail else "nothing"
            raise InputError(
                f"The chat template ends an assistant's turn with {found}, which is no special token of the tokenizer; "
                "use the tokenizer and the template of one model"
            )
        return self.decode(ids), ids[0]

    def _probe_calls(self) -> Format:
        if _TOOL.name not in self.text(_OPENING, [_TOOL], add_generation_prompt=True):
            raise InputError("The chat template does not show tools; use the template of a model that calls tools")
        done = self.text([*_OPENING, _SAYS_AND_CALLS], [_TOOL], add_generation_prompt=False)
        own, called, tail = done.partition(_USER.content)[2].rpartition(_WORD)
        if not called:
            raise InputError("The chat template leaves tool calls out; use the template of a model that calls tools")
        if self.end_of_turn not in tail:
            raise InputError(
                f"The chat template ends a turn with {self.end_of_turn}, but not one that calls a tool; "
                "use a template that ends every turn alike"
            )
        if _ANSWER.content not in self.text([*_OPENING, _SAYS_AND_CALLS, _ANSWER], [_TOOL], add_generation_prompt=True):
            raise InputError("The chat template leaves tool results out; use the template of a model that calls tools")
        for form in _FORMATS:
            if parse(own + called + tail, [_TOOL], form).calls == (ToolCall(_TOOL.name, {"word": _WORD}),):
                return form
        raise InputError(
            f"The chat template writes tool calls in none of the known formats ({', '.join(_FORMATS)}), but as "
            f"{(own + called + tail)[-200:]!r}; use a model that writes one of them"
        )

    def _probe_reasoning(self) -> bool:
        """Whether the generation prompt may be answered with reasoning that the template shows."""
        prompt = self.text(_OPENING, [_TOOL], add_generation_prompt=True)
        done = self.text([*_OPENING, _thoughtful(_SAYS)], [_TOOL], add_generation_prompt=False)
        return done.startswith(prompt) and self._reasons(prompt, done[len(prompt) :])

    def _probe_class(self) -> TemplateClass:
        rewritten: set[str] = set()
        for thoughtful in {False, self._shows_reasoning}:
            messages = list(_OPENING)
            before = self.text(messages, [_TOOL], add_generation_prompt=True)
            for said, came in _TRIAL:
                message = _thoughtful(said) if thoughtful else said
                messages += [message, came]
                after = self.text(messages, [_TOOL], add_generation_prompt=True)
                if self.end_of_own_turn(before, message, after) is None:
                    rewritten.add(came.role)
                before = after
        return "rewrites" if "tool" in rewritten else "rewrites_on_user" if rewritten else "append_only"


def _entry(message: Message) -> dict[str, JSON]:
    """A message as chat templates take it. A broken call has no place among calls and stands behind the text."""
    entry: dict[str, JSON] = {"role": message.role, "content": message.content}
    if message.role == "tool":
        entry["tool_call_id"] = message.call_id
    if message.faults:
        texts = (message.content, *(fault.raw for fault in message.faults))
        entry["content"] = "\n".join(text for text in texts if text)
    if message.reasoning:
        entry["reasoning_content"] = message.reasoning
    if message.calls:
        entry["tool_calls"] = [
            {"type": "function", "id": call.id, "function": {"name": call.name, "arguments": dict(call.arguments)}}
            for call in message.calls
        ]
    return entry


def _kind(message: Message) -> str:
    return f"{message.role} with tool calls" if message.calls else message.role


def _behind_thinking(prompt: str, done: str, reasoning: str) -> str | None:
    """The text to write where the prompt ends in a think block, open or empty, that the finished turn writes otherwise.

    None where the two differ in more than that, and for reasoning behind a block that is closed.
    """
    head, _, thinking = prompt.rpartition(THINK_OPEN)
    if thinking.strip() not in ("", THINK_CLOSE) or not done.startswith(head):
        return None
    rest = done[len(head) :]
    block, close, answer = rest.partition(THINK_CLOSE) if rest.startswith(THINK_OPEN) else ("", "", rest)
    if thinking.strip() == THINK_CLOSE:
        return None if reasoning else answer.lstrip("\n")
    if block:
        return (block.removeprefix(THINK_OPEN) + close + answer).lstrip("\n")
    return f"{reasoning.strip()}\n{THINK_CLOSE}\n\n" + answer.lstrip("\n")


def _thoughtful(message: Message) -> Message:
    return Message(message.role, message.content, message.calls, reasoning="Where would that be kept?")


# Words of the trial conversation that no template contains.
_WORD = "zanzibar"
_TOOL = ToolSchema(
    "look_up_lighthouse",
    "Look a lighthouse up.",
    {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
)
_USER = Message("user", "Which lighthouse is it?")
_OPENING = (Message("system", "You answer about lighthouses."), _USER)
_SAYS = Message("assistant", "It is the one at Heceta Head.")
_CALLS = Message("assistant", "", (ToolCall(_TOOL.name, {"word": _WORD}, "lookup001"),))
_SAYS_AND_CALLS = Message("assistant", "Let me look.", _CALLS.calls)
_ANSWER = Message("tool", "Built on the coast of Oregon.", call_id="lookup001")
_TRIAL = ((_CALLS, _ANSWER), (_SAYS, _USER), (_SAYS_AND_CALLS, _ANSWER), (_SAYS, _USER), (_SAYS, _USER))
