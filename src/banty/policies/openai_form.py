"""Conversations in the forms that OpenAI-compatible servers take, and their answers back, with nothing lost.

`messages_to_openai` puts calls and answers where the API has them; `messages_as_text` writes tools, calls and answers
into the text, for servers that know nothing of tools. Both are valid for strict servers: every call is answered right
behind its message, and a broken call, which has no place among calls, stands in the text as the model wrote it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from banty.chat import Check, Format, in_order, parse, render_calls
from banty.chat.block import TOOL_CLOSE, TOOL_OPEN, Block
from banty.chat.stream import THINK_CLOSE, THINK_OPEN
from banty.chat.strict_json import JsonProblem, Member, read_object, skip_space
from banty.chat.toolbox import Given, Toolbox
from banty.chat.wording import clipped, show
from banty.policies.json_http import in_pairs
from banty.records import JSON, CallFault, Message, ToolCall, ToolSchema

NO_ANSWER = "(no answer)"
"""What a call is answered with that the environment did not answer; strict servers refuse a call left open."""


def messages_to_openai(messages: Sequence[Message]) -> list[dict[str, JSON]]:
    """A conversation with calls as `tool_calls` and answers as `tool` messages.

    What a broken call was answered follows the answers to the calls as a user message between `tool_response` tags,
    which Qwen's templates take for a tool's answer. Calls without an id get one.
    """
    wire: list[dict[str, JSON]] = []
    num_turns = 0
    for message, answers in _with_answers(messages):
        if message is not None and message.role == "assistant":
            wire += _turn(message, answers, num_turns)
            num_turns += 1
            continue
        if message is not None:
            wire.append({"role": message.role, "content": message.content})
        if answers:
            wire.append(_responses(answers))
    return wire


def messages_as_text(messages: Sequence[Message], tools: Sequence[ToolSchema], format: Format) -> list[dict[str, JSON]]:
    """A conversation that needs no tool support of the server, in the words of Qwen's own chat templates.

    Raises InputError for a call that `format` cannot write.
    """
    wire: list[dict[str, JSON]] = []
    for message, answers in _with_answers(messages):
        if message is not None and message.role == "assistant":
            blocks = [
                _raw(item) if isinstance(item, CallFault) else render_calls([item], format)
                for item in in_order(message)
            ]
            wire.append({"role": "assistant", "content": _lines(message.content, *blocks)})
        elif message is not None:
            wire.append({"role": message.role, "content": message.content})
        if answers:
            wire.append(_responses(answers))
    if not tools:
        return wire
    listed = "\n".join(json.dumps(tool.to_openai(), ensure_ascii=False) for tool in tools)
    if wire and wire[0]["role"] == "system":
        first, rest = str(wire[0]["content"]), wire[1:]
    else:
        first, rest = "", wire
    return [{"role": "system", "content": _TOOLS[format](first, listed)}, *rest]


def message_from_openai(
    said: Mapping[str, Any],
    tools: Sequence[ToolSchema],
    *,
    turn: int = 0,
    cut: bool = False,
    text_format: Format | None = None,
    check: Check = "names",
) -> Message:
    """The assistant message of a choice; every call the server lists becomes one call or one fault.

    With `text_format` the text is searched for calls as well. `cut` says that the answer met the token limit, so that
    a last call that cannot be read was cut off. `turn`, the number of assistant messages before, keeps made-up ids
    apart. A fault's `raw` is the call in Hermes form, its `position` a character of that.
    """
    text = _text(said.get("content")) or _text(said.get("refusal"))
    reasoning = _text(said.get("reasoning_content")) or _text(said.get("reasoning"))
    if text_format is None:
        message = Message("assistant", text)
    else:
        # A template may have written the opening tag into the prompt, so that only the closing one comes back.
        opened = THINK_CLOSE in text and THINK_OPEN not in text.partition(THINK_CLOSE)[0]
        message = parse(text, tools, text_format, check=check, starts_in_reasoning=opened)
    given = said.get("tool_calls") or []
    listed = given if isinstance(given, list) else [given]
    toolbox = Toolbox(tools, check)
    offset = len(message.calls) + len(message.faults)
    calls, faults = list(message.calls), list(message.faults)
    for order, raw in enumerate(listed, offset):
        found = _read_call(raw, order, toolbox, may_be_cut=cut and order == offset + len(listed) - 1)
        if isinstance(found, ToolCall):
            calls.append(found)
        else:
            faults.append(found)
    whole = Message("assistant", message.content, tuple(calls), tuple(faults), _lines(reasoning, message.reasoning))
    return _with_ids(whole, turn) if listed else whole


def _with_answers(messages: Sequence[Message]) -> Iterator[tuple[Message | None, list[Message]]]:
    """Each message with the tool messages behind it; None where tool messages open the conversation."""
    current: Message | None = None
    answers: list[Message] = []
    for message in messages:
        if message.role == "tool":
            answers.append(message)
            continue
        if current is not None or answers:
            yield current, answers
        current, answers = message, []
    if current is not None or answers:
        yield current, answers


def _turn(message: Message, answers: Sequence[Message], turn: int) -> Iterator[dict[str, JSON]]:
    message = _with_ids(message, turn)
    items = in_order(message)
    answered, left = _paired(items, answers)
    calls = [
        {
            "id": item.id,
            "type": "function",
            "function": {"name": item.name, "arguments": json.dumps(dict(item.arguments), ensure_ascii=False)},
        }
        for item in message.calls
    ]
    content = _lines(message.content, *map(_raw, message.faults))
    entry: dict[str, JSON] = {"role": "assistant", "content": content or (None if calls else "")}
    if calls:
        entry["tool_calls"] = calls
    yield entry
    for place, item in enumerate(items):
        if isinstance(item, ToolCall):
            answer = answered[place].content if place in answered else NO_ANSWER
            yield {"role": "tool", "tool_call_id": item.id, "content": answer}
    broken = [answered[place] for place in sorted(answered) if isinstance(items[place], CallFault)]
    if broken or left:
        yield _responses([*broken, *left])


def _paired(
    items: Sequence[ToolCall | CallFault], answers: Sequence[Message]
) -> tuple[dict[int, Message], list[Message]]:
    """Which answer belongs to which call, by id and then in order, and the answers that belong to none."""
    places = {item.id: place for place, item in enumerate(items) if isinstance(item, ToolCall)}
    answered: dict[int, Message] = {}
    others: list[Message] = []
    for answer in answers:
        place = places.get(answer.call_id)
        if place is None or place in answered:
            others.append(answer)
        else:
            answered[place] = answer
    open_places = [place for place in range(len(items)) if place not in answered]
    answered.update(zip(open_places, others, strict=False))
    return answered, others[len(open_places) :]


def _with_ids(message: Message, turn: int) -> Message:
    """The message with an id for each call that has none, or one that another call of the message has as well.

    Nine letters and digits, since that is the one shape every server accepts.
    """
    used = Counter(call.id for call in message.calls)
    calls = tuple(
        call if call.id and used[call.id] == 1 else ToolCall(call.name, call.arguments, f"t{turn:04}c{number:03}")
        for number, call in enumerate(message.calls)
    )
    return Message(message.role, message.content, calls, message.faults, message.reasoning, message.call_id)


def _read_call(raw: Any, order: int, toolbox: Toolbox, *, may_be_cut: bool) -> ToolCall | CallFault:
    function = raw.get("function") if isinstance(raw, Mapping) else None
    name = _text(function.get("name")) if isinstance(function, Mapping) else ""
    if not isinstance(function, Mapping) or not name:
        whole = in_pairs(json.dumps(raw, ensure_ascii=False))
        return CallFault("malformed", f"Tool call names no tool: {clipped(whole, 80)}. Not executed.", order, 0, whole)
    given = function.get("arguments")
    text = in_pairs(given if isinstance(given, str) else "" if given is None else json.dumps(given, ensure_ascii=False))
    if not text.strip() and not may_be_cut:
        text = "{}"
    head = f'\n{{"name": {json.dumps(name, ensure_ascii=False)}, "arguments": '
    block = Block(f"{TOOL_OPEN}{head}{text}}}\n{TOOL_CLOSE}", 0, order, TOOL_OPEN, TOOL_CLOSE, "closed")
    try:
        members = _members(text)
    except JsonProblem as problem:
        if may_be_cut:
            words = f"The call to '{clipped(name)}' is cut off before its arguments end. Not executed; write it again."
            open_block = Block(f"{TOOL_OPEN}{head}{text}", 0, order, TOOL_OPEN, TOOL_CLOSE, "truncated")
            return open_block.fault("truncated", len(head) + len(text), words, name)
        near = show(text[problem.position : problem.position + 24]) if text[problem.position :] else "the end"
        words = f"The arguments of '{clipped(name)}' are not a JSON object: {problem.reason} at {near}. Not executed."
        return block.fault("malformed", len(head) + problem.position, words, name)
    found = toolbox.settle(
        block,
        name,
        len('\n{"name": '),
        [Given(each.key, each.value, len(head) + each.key_position, len(head) + each.position) for each in members],
    )
    if isinstance(found, CallFault):
        return found
    call_id = raw.get("id")
    return ToolCall(found.name, found.arguments, in_pairs(call_id) if isinstance(call_id, str) else "")


def _members(text: str) -> list[Member]:
    members, end = read_object(text)
    end = skip_space(text, end)
    if end < len(text):
        raise JsonProblem("Extra text", end)
    twice = [each for place, each in enumerate(members) if any(each.key == other.key for other in members[:place])]
    if twice:
        raise JsonProblem(f"Parameter {show(twice[0].key)} given twice", twice[0].key_position)
    return members


def _text(value: Any) -> str:
    """Text given as a string, or as a list of parts."""
    if isinstance(value, str):
        return in_pairs(value)
    if isinstance(value, list):
        return "".join(_text(part.get("text")) if isinstance(part, Mapping) else _text(part) for part in value)
    return ""


def _raw(fault: CallFault) -> str:
    return fault.raw or f"(a call to {fault.name or 'a tool'} that could not be read)"


def _responses(answers: Sequence[Message]) -> dict[str, JSON]:
    blocks = [f"<tool_response>\n{answer.content}\n</tool_response>" for answer in answers]
    return {"role": "user", "content": "\n".join(blocks)}


def _lines(*texts: str) -> str:
    return "\n".join(text for text in texts if text)


def _hermes_tools(system: str, listed: str) -> str:
    tools = f"""# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{listed}
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{{"name": <function-name>, "arguments": <args-json-object>}}
</tool_call>"""
    return f"{system}\n\n{tools}" if system else tools


def _qwen_xml_tools(system: str, listed: str) -> str:
    tools = f"""# Tools

You have access to the following functions:

<tools>
{listed}
</tools>

If you choose to call a function ONLY reply in the following format with NO suffix:

<tool_call>
<function=example_function_name>
<parameter=example_parameter_1>
value_1
</parameter>
<parameter=example_parameter_2>
This is the value for the second parameter
that can span
multiple lines
</parameter>
</function>
</tool_call>

<IMPORTANT>
Reminder:
- Function calls MUST follow the specified format: an inner <function=...></function> block must be nested within \
<tool_call></tool_call> XML tags
- Required parameters MUST be specified
- You may provide optional reasoning for your function call in natural language BEFORE the function call, but NOT after
- If there is no function call available, answer the question like normal with your current knowledge and do not tell \
the user about function calls
</IMPORTANT>"""
    return f"{tools}\n\n{system}" if system else tools


_TOOLS = {"hermes": _hermes_tools, "qwen_xml": _qwen_xml_tools}
"""How Qwen's templates tell a model of its tools: Qwen2.5 and Qwen3 behind the system text, Qwen3.5 before it."""
