"""The endpoint policy against scripted servers: what is sent, what comes back, and what goes wrong."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from banty.envs.airline.tasks import GeneratedTasks
from banty.errors import BudgetExhausted, InputError, PolicyFault
from banty.policies.endpoint import ChatEndpoint
from banty.policies.openai_form import NO_ANSWER, message_from_openai, messages_as_text, messages_to_openai
from banty.records import (
    CallFault,
    Completion,
    Limits,
    Message,
    Policy,
    SampleRequest,
    SamplingParams,
    ToolCall,
    ToolSchema,
)
from banty.testing import run

FIND = ToolSchema(
    "find",
    "Find a book.",
    {
        "type": "object",
        "properties": {"title": {"type": "string"}, "shelf": {"type": "integer"}},
        "required": ["title"],
        "additionalProperties": False,
    },
)
Handler = Callable[[httpx.Request], httpx.Response]
HELLO = SampleRequest((Message("user", "hello"),), (FIND,))


def choice(message: Any, finish: str = "stop") -> dict[str, Any]:
    usage = {"prompt_tokens": 100, "completion_tokens": 20}
    return {"choices": [{"message": message, "finish_reason": finish}], "usage": usage}


def answer(message: Any, finish: str = "stop") -> httpx.Response:
    return httpx.Response(200, content=json.dumps(choice(message, finish)))


def call(name: str, arguments: Any, call_id: str = "c1") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def ask(handler: Handler, request: SampleRequest = HELLO, **options: Any) -> Completion:
    options = {"model": "m", "max_retries": 0, **options}
    endpoint = ChatEndpoint("http://server", transport=httpx.MockTransport(handler), **options)

    async def once() -> Completion:
        try:
            return await endpoint.sample(request)
        finally:
            await endpoint.aclose()

    return asyncio.run(once())


def sent(request: SampleRequest = HELLO, **options: Any) -> dict[str, Any]:
    """The body of the request the policy makes."""
    seen: list[dict[str, Any]] = []

    def handler(got: httpx.Request) -> httpx.Response:
        seen.append(json.loads(got.content))
        return answer({"content": "hi"})

    ask(handler, request, **options)
    return seen[0]


def refusal(handler: Handler, **options: Any) -> str:
    with pytest.raises(PolicyFault) as caught:
        ask(handler, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def check_strict(messages: Sequence[dict[str, Any]]) -> None:
    """What strict servers ask of a history: calls with objects as arguments, each answered at once, by its id."""
    waiting: list[str] = []
    for entry in messages:
        if entry["role"] == "tool":
            waiting.remove(entry["tool_call_id"])
            assert isinstance(entry["content"], str)
            continue
        assert not waiting, f"{waiting} are not answered"
        assert set(entry) <= {"role", "content", "tool_calls"}
        assert isinstance(entry["content"], str) or entry.get("tool_calls")
        for each in entry.get("tool_calls", ()):
            assert isinstance(json.loads(each["function"]["arguments"]), dict)
            assert each["id"] not in waiting
            waiting.append(each["id"])
    assert not waiting


# What is sent.


def test_sampling_options_and_tools_are_sent() -> None:
    params = SamplingParams(temperature=0.5, max_tokens=7, seed=2**40 + 3, top_k=5)
    body = sent(SampleRequest((Message("system", "s"), Message("user", "u")), (FIND,), "session", params))
    assert body == {
        "model": "m",
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}],
        "temperature": 0.5,
        "top_p": 1.0,
        "max_tokens": 7,
        "seed": 3,
        "top_k": 5,
        "tools": [FIND.to_openai()],
    }
    plain = sent(SampleRequest((Message("user", "u"),)))
    assert plain == {
        "model": "m",
        "messages": [{"role": "user", "content": "u"}],
        "temperature": 1.0,
        "top_p": 1.0,
    }


def test_extra_options_replace_and_leave_out() -> None:
    request = SampleRequest(HELLO.messages, (), "", SamplingParams(max_tokens=7))
    body = sent(request, extra={"max_tokens": None, "max_completion_tokens": 9, "temperature": 0.2})
    assert "max_tokens" not in body
    assert (body["max_completion_tokens"], body["temperature"]) == (9, 0.2)
    with pytest.raises(InputError, match="stream"):
        ChatEndpoint("http://server", "m", extra={"stream": True})


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("http://server", "/v1/chat/completions"),
        ("http://server/v1/", "/v1/chat/completions"),
        ("http://server/v1/chat/completions", "/v1/chat/completions"),
        ("http://server/openai", "/openai/v1/chat/completions"),
        ("http://server/v1beta/openai", "/v1beta/openai/chat/completions"),
    ],
)
def test_the_version_is_added_to_urls_that_name_none(url: str, path: str) -> None:
    seen: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.path)
        return answer({"content": "hi"})

    endpoint = ChatEndpoint(url, "m", transport=httpx.MockTransport(handler))
    asyncio.run(endpoint.sample(HELLO))
    assert seen == [path]
    assert endpoint.name == "m@server"
    assert isinstance(endpoint, Policy)


def test_urls_that_are_none_are_refused() -> None:
    for url in ("localhost:8000", "ftp://x", "http://", "http://[::1"):
        with pytest.raises(InputError, match="http://localhost:8000"):
            ChatEndpoint(url, "m")
    with pytest.raises(InputError, match="secret"):
        ChatEndpoint("http://user:pass@host", "m")
    with pytest.raises(InputError) as caught:
        ChatEndpoint("http://server", "m", api_key_env="sk-very-secret")
    assert "sk-very-secret" not in str(caught.value)


# What comes back.


def test_text_calls_reasoning_usage_and_cost() -> None:
    said = {"content": "one moment", "reasoning_content": "hm", "tool_calls": [call("find", '{"title": "Emma"}')]}
    got = ask(lambda request: answer(said, "tool_calls"), price_per_million=(1.0, 10.0))
    assert got.message == Message("assistant", "one moment", (ToolCall("find", {"title": "Emma"}, "c1"),), (), "hm")
    assert (got.prompt_tokens, got.sampled_tokens, got.finish) == (100, 20, "stop")
    assert got.cost_usd == pytest.approx(300e-6)
    assert got.segment is None


def test_nothing_of_an_unusual_answer_is_lost() -> None:
    parts = [{"type": "text", "text": "Good "}, {"type": "text", "text": "day"}]
    assert ask(lambda request: answer({"content": parts, "reasoning": "r"})).message == Message(
        "assistant", "Good day", reasoning="r"
    )
    assert ask(lambda request: answer({"content": None, "refusal": "I will not."})).message.content == "I will not."
    assert ask(lambda request: answer({"content": "\ud83d\ude00 \ud800"})).message.content == "😀 \ufffd"
    given = ask(lambda request: answer({"tool_calls": [call("find", {"title": "Emma"})]})).message
    assert given.calls == (ToolCall("find", {"title": "Emma"}, "c1"),)


def test_missing_and_repeated_ids_are_made_up_the_same_each_time() -> None:
    emma = '{"title": "Emma"}'
    listed = [call("find", emma, "x"), call("find", emma, "x"), call("find", emma, ""), call("find", emma, "y")]
    history = (Message("user", "a"), Message("assistant", "b"), Message("user", "c"))
    got = [ask(lambda request: answer({"tool_calls": listed}), SampleRequest(history, (FIND,))) for _ in range(2)]
    ids = [each.id for each in got[0].message.calls]
    assert ids == ["t0001c000", "t0001c001", "t0001c002", "y"]
    assert got[0].message == got[1].message
    # Sent back without ids, as a policy that has none leaves them, the calls get the same ones.
    bare = Message("assistant", calls=tuple(ToolCall(each.name, each.arguments) for each in got[0].message.calls[:2]))
    wire = messages_to_openai((*history[:2], bare))
    assert [each["id"] for each in wire[2]["tool_calls"]] == ids[:2]


@pytest.mark.parametrize(
    ("raw", "finish", "kind", "words"),
    [
        (call("find", '{"title": '), "stop", "malformed", "not a JSON object: Expecting value at the end"),
        (call("find", '{"title": "Em'), "length", "truncated", "cut off"),
        (call("find", ""), "length", "truncated", "cut off"),
        (call("find", "[1]"), "stop", "malformed", 'at "[1]"'),
        (call("find", '{"title": "a", "title": "b"}'), "stop", "malformed", "twice"),
        (call("find", '{"title": "Emma"} and'), "stop", "malformed", 'Extra text at "and"'),
        (call("find", {"title": float("nan")}), "stop", "malformed", "NaN"),
        (call("find", '{"titel": "Emma"}'), "stop", "unknown_parameter", "did you mean 'title'"),
        (call("find", ""), "stop", "missing_parameter", "missing parameter 'title'"),
        (call("fetch", "{}"), "stop", "unknown_tool", "Available tools: find."),
        ({"id": "c", "type": "function"}, "stop", "malformed", "names no tool"),
        ("nonsense", "stop", "malformed", "names no tool"),
        (call("find", '{"title": "\\ud800"}'), "stop", "malformed", "surrogate"),
    ],
)
def test_a_call_that_cannot_be_used_is_a_fault_and_never_lost(raw: Any, finish: str, kind: str, words: str) -> None:
    good = call("find", '{"title": "Emma"}', "c2")
    listed = [good, raw] if finish == "length" else [raw, good]
    said = {"content": None, "tool_calls": listed}
    got = message_from_openai(said, (FIND,), cut=finish == "length")
    assert got.calls == (ToolCall("find", {"title": "Emma"}, "c2"),)
    (fault,) = got.faults
    assert (fault.kind, fault.order) == (kind, listed.index(raw))
    assert words in fault.message
    function = raw.get("function") if isinstance(raw, dict) else None
    if function is None:
        assert json.loads(fault.raw) == raw
    else:
        assert fault.name == function["name"]
        written = function["arguments"]
        assert (written if isinstance(written, str) else json.dumps(written)) in fault.raw
    assert 0 <= fault.position <= len(fault.raw)


def test_a_faults_position_is_where_the_trouble_is_in_its_raw_text() -> None:
    said = {"tool_calls": [call("find", '{"title": "Emma", "pages": 3}')]}
    (fault,) = message_from_openai(said, (FIND,)).faults
    assert fault.raw[fault.position :].startswith('"pages"')


def test_values_are_the_environments_to_judge_unless_asked_otherwise() -> None:
    said = {"tool_calls": [call("find", '{"title": "Emma", "shelf": "3"}')]}
    assert ask(lambda request: answer(said)).message.calls[0].arguments["shelf"] == "3"
    assert ask(lambda request: answer(said), check="schema").message.faults[0].kind == "bad_value"


def test_cut_off_answers_say_so() -> None:
    got = ask(lambda request: answer({"content": "I was about to"}, "length"))
    assert got.finish == "length"
    # All tokens went into reasoning: the policy's own doing, not the server's.
    got = ask(lambda request: answer({"content": None, "reasoning_content": "hm, hm"}, "length"))
    assert (got.message.content, got.message.reasoning, got.finish) == ("", "hm, hm", "length")


def test_missing_usage_counts_as_nothing_and_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    endpoint = ChatEndpoint(
        "http://server",
        "m",
        transport=httpx.MockTransport(
            lambda request: httpx.Response(200, json={"choices": [{"message": {"content": "hi"}}]})
        ),
    )

    async def twice() -> Completion:
        await endpoint.sample(HELLO)
        return await endpoint.sample(HELLO)

    got = asyncio.run(twice())
    assert (got.prompt_tokens, got.sampled_tokens, got.cost_usd) == (0, 0, 0.0)
    assert [record.name for record in caplog.records if "no usage" in record.message] == ["banty.policies.endpoint"]


@pytest.mark.parametrize("count", [True, -1, 1.5, "100", 2**31, 10**30, None])
def test_usage_that_is_no_count_is_none(count: Any, caplog: pytest.LogCaptureFixture) -> None:
    body = choice({"content": "hi"}) | {"usage": {"prompt_tokens": count, "completion_tokens": 20}}
    got = ask(lambda request: httpx.Response(200, json=body), price_per_million=(1.0, 1.0))
    assert (got.prompt_tokens, got.sampled_tokens, got.cost_usd) == (0, 20, 20e-6)
    assert "no usage that can be read" in caplog.text


def test_an_answer_names_the_model_that_served_it() -> None:
    def served(name: Any) -> str:
        body = json.dumps(choice({"content": "hi"}) | {"model": name})
        return ask(lambda request: httpx.Response(200, content=body)).served

    assert (served("m-2026"), served(None), served(7)) == ("m-2026", "", "")
    assert served("m\ud83d") == "m\N{REPLACEMENT CHARACTER}", "it is written into files"
    assert len(served("m" * 5000)) < 300


# Histories.

BROKEN = "<tool_call>\n{broken\n</tool_call>"


def test_a_history_with_broken_calls_stays_valid_for_strict_servers() -> None:
    fault = CallFault("malformed", "not JSON", 0, 0, BROKEN)
    history = (
        Message("user", "hello"),
        Message("assistant", "I look.", (ToolCall("find", {"title": "Emma"}),), (fault,)),
        Message("tool", "Error: not JSON"),
        Message("tool", "Emma is on shelf 3"),
        Message("user", "and?"),
    )
    wire = messages_to_openai(history)
    check_strict(wire)
    assert [entry["role"] for entry in wire] == ["user", "assistant", "tool", "user", "user"]
    assert wire[1]["content"] == f"I look.\n{BROKEN}"
    assert wire[2]["content"] == "Emma is on shelf 3"
    assert wire[3]["content"] == "<tool_response>\nError: not JSON\n</tool_response>"


def test_answers_find_their_calls_by_id_before_order() -> None:
    calls = (ToolCall("find", {"title": "A"}, "a"), ToolCall("find", {"title": "B"}, "b"))
    fault = CallFault("malformed", "not JSON", 2, 0, BROKEN)
    history = (
        Message("assistant", "", calls, (fault,)),
        Message("tool", "for b", call_id="b"),
        Message("tool", "for the broken one"),
        Message("tool", "for a", call_id="a"),
        Message("tool", "for nobody"),
    )
    wire = messages_to_openai(history)
    check_strict(wire)
    assert wire[0]["content"] == BROKEN
    assert [entry["content"] for entry in wire[1:3]] == ["for a", "for b"]
    assert "for the broken one" in wire[3]["content"]
    assert "for nobody" in wire[3]["content"]


def test_calls_without_answers_and_answers_without_calls_are_made_valid() -> None:
    history = (
        Message("tool", "stray"),
        Message("user", "hello"),
        Message("tool", "another"),
        Message("assistant", "", (ToolCall("find", {"title": "Emma"}),)),
        Message("user", "well?"),
        Message("assistant", "", (), (CallFault("unknown_tool", "no such tool", name="fetch"),)),
    )
    wire = messages_to_openai(history)
    check_strict(wire)
    assert [entry["role"] for entry in wire] == ["user", "user", "user", "assistant", "tool", "user", "assistant"]
    assert wire[4]["content"] == NO_ANSWER
    assert "fetch" in wire[6]["content"]


# Servers that return text.

EMMA = '<tool_call>\n{"name": "find", "arguments": {"title": "Emma"}}\n</tool_call>'


def test_servers_that_return_text_are_parsed_here() -> None:
    got = ask(lambda request: answer({"content": f"<think>hm</think>I look.\n{EMMA}"}), tool_calls="hermes").message
    assert got == Message("assistant", "I look.", (ToolCall("find", {"title": "Emma"}),), (), "hm")
    got = ask(lambda request: answer({"content": f"hm</think>I look.\n{EMMA}"}), tool_calls="hermes").message
    assert (got.content, got.reasoning) == ("I look.", "hm")
    xml = "<tool_call>\n<function=find>\n<parameter=shelf>\n3\n</parameter>\n</function>\n</tool_call>"
    got = ask(lambda request: answer({"content": xml}), tool_calls="qwen_xml").message
    assert got.faults[0].kind == "missing_parameter"
    got = ask(lambda request: answer({"content": EMMA[:-20]}, "length"), tool_calls="hermes").message
    assert got.faults[0].kind == "truncated"


def test_calls_a_server_read_all_the_same_are_kept() -> None:
    said = {"content": EMMA, "tool_calls": [call("fetch", "{}"), call("find", '{"title": "B"}', "b")]}
    got = ask(lambda request: answer(said), tool_calls="hermes").message
    assert [each.arguments for each in got.calls] == [{"title": "Emma"}, {"title": "B"}]
    assert [(fault.kind, fault.order) for fault in got.faults] == [("unknown_tool", 1)]


def test_tools_and_calls_are_written_into_the_text() -> None:
    fault = CallFault("malformed", "not JSON", 1, 0, BROKEN)
    history = (
        Message("system", "Be kind."),
        Message("user", "hello"),
        Message("assistant", "I look.", (ToolCall("find", {"title": "Emma"}),), (fault,)),
        Message("tool", "shelf 3"),
        Message("tool", "Error: not JSON"),
    )
    body = sent(SampleRequest(history, (FIND,)), tool_calls="hermes")
    assert "tools" not in body
    system, hello, looked, told = body["messages"]
    assert system["content"].startswith("Be kind.\n\n# Tools\n\n")
    assert json.dumps(FIND.to_openai()) in system["content"]
    assert hello == {"role": "user", "content": "hello"}
    assert looked == {"role": "assistant", "content": f"I look.\n{EMMA}\n{BROKEN}"}
    assert told["role"] == "user"
    assert told["content"] == (
        "<tool_response>\nshelf 3\n</tool_response>\n<tool_response>\nError: not JSON\n</tool_response>"
    )
    (first, _) = messages_as_text((Message("user", "hello"),), (FIND,), "qwen_xml")
    assert first["content"].startswith("# Tools\n\nYou have access to the following functions:")
    assert messages_as_text((Message("user", "hello"),), (), "hermes") == [{"role": "user", "content": "hello"}]


def test_the_servers_template_may_show_the_tools_while_banty_reads_the_calls() -> None:
    body = sent(tool_calls="hermes", tools_in="template")
    assert body["tools"] == [FIND.to_openai()]
    assert body["tool_choice"] == "none"
    assert body["messages"] == [{"role": "user", "content": "hello"}]


# What goes wrong.


def test_errors_are_one_sentence_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-very-secret\n")
    seen: list[str] = []

    def unauthorised(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["authorization"])
        return httpx.Response(401, json={"error": {"message": "bad key sk-very-secret,\nsorry " + "x" * 500}})

    said = refusal(unauthorised, api_key_env="MY_KEY")
    assert seen == ["Bearer sk-very-secret"]
    assert "http://server/v1/chat/completions refused the key (status 401: bad key ***, sorry" in said
    assert "MY_KEY holds a key that it does not take" in said
    assert "secret" not in said
    assert len(said) < 400
    said = refusal(lambda request: httpx.Response(403), api_key_env="NO_SUCH_KEY")
    assert "NO_SUCH_KEY is not set" in said
    assert "secret" not in repr(ChatEndpoint("http://server", "m", api_key_env="MY_KEY"))
    monkeypatch.setenv("MY_KEY", "sk-very\nsecret")
    assert "sk" not in refusal(unauthorised, api_key_env="MY_KEY").replace("MY_KEY", "")


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (httpx.Response(404, json={"error": "no such model"}), "no such model); check the URL and the model's name"),
        (httpx.Response(400, json={"error": {"message": "context too long"}}), "(status 400: context too long)"),
        (httpx.Response(422, json={"detail": [{"loc": ["seed"]}]}), "seed"),
        (httpx.Response(302, headers={"location": "http://elsewhere"}), "status 302"),
        (httpx.Response(200, text="<html>login</html>"), "not JSON (status 200: <html>login</html>)"),
        (httpx.Response(200, text="[" * 100_000), "not JSON"),
        (httpx.Response(200, json=[1]), "no JSON object"),
        (httpx.Response(200, json={"choices": []}), "without choices"),
        (httpx.Response(200, json={"choices": [{"finish_reason": "stop"}]}), "without a message"),
        (answer({"content": None}, "content_filter"), "content_filter"),
        (httpx.Response(200, json={"error": {"code": 400, "message": "no credit"}}), "(status 400: no credit)"),
        (httpx.Response(200, content=b" " * (17 << 20)), "more than the 16 MiB"),
    ],
)
def test_answers_that_are_none_are_faults(reply: httpx.Response, words: str) -> None:
    assert words in refusal(lambda request: reply)


def test_a_machine_without_certificates_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/certificates.pem")
    endpoint = ChatEndpoint("https://server", "m")
    with pytest.raises(PolicyFault, match="SSL_CERT_FILE"):
        asyncio.run(endpoint.sample(HELLO))


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The delays between tries, none of which is waited for."""
    seen: list[float] = []

    async def sleep(seconds: float) -> None:
        seen.append(seconds)

    monkeypatch.setattr("banty.policies.json_http.asyncio.sleep", sleep)
    return seen


def test_overload_and_broken_connections_are_tried_again(waits: list[float]) -> None:
    def broken(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    replies: Iterator[Handler] = iter(
        [
            lambda request: httpx.Response(429, headers={"retry-after": "7"}),
            lambda request: httpx.Response(503, headers={"retry-after": "soon"}),
            broken,
            lambda request: httpx.Response(200, json={"error": {"code": 529, "message": "busy"}}),
            lambda request: httpx.Response(408, headers={"retry-after": formatdate(0, usegmt=True)}),
            lambda request: answer({"content": "ok"}),
        ]
    )
    assert ask(lambda request: next(replies)(request), max_retries=5).message.content == "ok"
    assert waits == [7.0, 1.0, 2.0, 4.0, 0.0]


def test_trying_again_comes_to_an_end(waits: list[float]) -> None:
    said = refusal(lambda request: httpx.Response(500, text="boom"), max_retries=2)
    assert "failed 3 times, last with status 500: boom. Is the server up?" in said
    assert waits == [0.5, 1.0]

    def down(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    assert "last with ConnectError: refused. Is the server up?" in refusal(down)
    said = refusal(lambda request: httpx.Response(429, headers={"retry-after": "3600"}), max_retries=9)
    assert "asks to wait 3600 s (" in said
    assert waits == [0.5, 1.0]
    said = refusal(lambda request: httpx.Response(429, headers={"retry-after": "35"}), max_retries=9)
    assert "asks to wait 35 s after 35 s (status 429" in said, "an episode waits no longer for its policy"
    assert waits == [0.5, 1.0, 35.0]
    said = refusal(lambda request: httpx.Response(429, text="busy"), max_retries=1)
    assert said.endswith("last with status 429: busy. Try later, or ask for less at once (--concurrency)")


def test_a_servers_words_can_be_written_into_files(waits: list[float]) -> None:
    for status in (400, 401, 404, 500):
        reply = httpx.Response(status, text='{"error": "half a \\ud83d"}')
        assert refusal(lambda request: reply).encode()  # noqa: B023 - called before the next


def test_a_request_that_is_at_work_is_not_sent_twice(waits: list[float]) -> None:
    tries: list[str] = []

    def slow(request: httpx.Request) -> httpx.Response:
        tries.append(request.url.path)
        raise httpx.ReadTimeout("slow")

    assert "no answer within 3 s" in refusal(slow, timeout_s=3.0, max_retries=4)
    assert len(tries) == 1


class _Stuck(httpx.AsyncBaseTransport):
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")


def test_the_timeout_bounds_the_whole_request() -> None:
    endpoint = ChatEndpoint("http://server", "m", transport=_Stuck(), timeout_s=0.05)
    with pytest.raises(PolicyFault, match=r"no answer within 0\.05 s"):
        asyncio.run(endpoint.sample(HELLO))


def test_the_only_model_is_found_and_several_are_listed() -> None:
    def server(names: list[str]) -> httpx.MockTransport:
        def handler(request: httpx.Request) -> httpx.Response:
            if request.url.path == "/v1/models":
                return httpx.Response(200, json={"data": [{"id": name} for name in names]})
            assert json.loads(request.content)["model"] == names[0]
            return answer({"content": "ok"})

        return httpx.MockTransport(handler)

    endpoint = ChatEndpoint("http://server", transport=server(["only"]))
    assert endpoint.name == "only@server"
    assert asyncio.run(endpoint.sample(HELLO)).message.content == "ok"
    with pytest.raises(InputError, match=r"2 models \(a, b\); name one"):
        ChatEndpoint("http://server", transport=server(["a", "b"]))
    with pytest.raises(InputError, match="0 models"):
        ChatEndpoint("http://server", transport=server([]))
    with pytest.raises(InputError, match="not found"):
        ChatEndpoint("http://server", transport=httpx.MockTransport(lambda request: httpx.Response(404)))

    async def inside() -> str:
        return ChatEndpoint("http://server", transport=server(["only"])).name

    assert asyncio.run(inside()) == "only@server"


# Over a real connection.


class _Server(ThreadingHTTPServer):
    """Answers what `reply` makes of each request's body: a status, headers, and what is sent as JSON."""

    daemon_threads = True

    def __init__(self, reply: Callable[[dict[str, Any]], tuple[int, dict[str, str], Any]]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.reply = reply
        self.num_open = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections stay open until the client closes them
    server: _Server

    def handle(self) -> None:
        self.server.num_open += 1
        super().handle()
        self.server.num_open -= 1

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        status, headers, data = self.server.reply(body)
        payload = json.dumps(data).encode()
        self.send_response(status)
        for name, value in {**headers, "content-length": str(len(payload))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@contextmanager
def serving(reply: Callable[[dict[str, Any]], tuple[int, dict[str, str], Any]]) -> Iterator[_Server]:
    with _Server(reply) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def test_a_whole_episode_over_http_with_models_on_both_sides() -> None:
    tasks = GeneratedTasks("mini", customer="model")
    index, code = _cancellation(tasks)
    agent_lines: list[Any] = [
        {"content": "What is your reservation code?"},
        {"content": None, "tool_calls": [call("get_reservation_details", '{"reservation_id": ', "")]},
        {"content": None, "tool_calls": [call("get_reservation_details", json.dumps({"reservation_id": code}), "")]},
        {"content": f"Shall I cancel {code} (yes/no)?"},
        {"content": None, "tool_calls": [call("cancel_reservation", json.dumps({"reservation_id": code}), "c9")]},
        {"content": "It is cancelled."},
    ]
    user_lines: list[Any] = [f"Cancel my reservation {code}.", code, "Yes, please.", "Thanks. ###STOP###"]
    seen: list[dict[str, Any]] = []
    overloaded = iter([True])

    def agent(body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        if next(overloaded, False):
            return 503, {"retry-after": "0"}, {"error": {"message": "still loading"}}
        check_strict(body["messages"])
        seen.append(body)
        return 200, {}, choice(agent_lines[len(seen) - 1])

    def user(body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        assert "tools" not in body
        said = sum(entry["role"] == "assistant" for entry in body["messages"])
        return 200, {}, choice({"content": user_lines[said]})

    with serving(agent) as desk, serving(user) as customer:
        rollout = run(
            tasks,
            ChatEndpoint(desk.url, "small", price_per_million=(1.0, 2.0)),
            index=index,
            roles={"user": ChatEndpoint(customer.url, "large")},
            limits=Limits(max_turns=8),
        )
        for _ in range(200):
            if not (desk.num_open or customer.num_open):
                break
            threading.Event().wait(0.01)
        assert (desk.num_open, customer.num_open) == (0, 0), "connections end with the last session"
    assert rollout.status == "completed", rollout.detail
    assert rollout.outcome.success, rollout.outcome.reason
    assert [turn.actor for turn in rollout.turns].count("user") == 4
    assert rollout.policy == f"small@127.0.0.1:{desk.server_port}"
    assert [turn.message.faults[0].kind for turn in rollout.turns if turn.message.faults] == ["malformed"]
    assert [each.id for turn in rollout.turns for each in turn.message.calls] == ["t0002c000", "c9"]
    assert sum(turn.cost_usd for turn in rollout.agent_turns) == pytest.approx(6 * 140e-6)


def _cancellation(tasks: GeneratedTasks) -> tuple[int, str]:
    """A task that is one allowed cancellation of a reservation whose code the customer knows."""
    for index in range(200):
        requests = tasks.task("train", index).data.scenario.requests
        only = requests[0]
        if len(requests) == 1 and only.intent == "cancel" and only.right == "do" and "reservation_id" in only.says:
            return index, only.reservation_id
    raise AssertionError("the generator makes allowed cancellations")


def test_a_conversation_that_outgrew_the_model_is_a_cap_and_silence_is_an_answer() -> None:
    words = "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens."
    with pytest.raises(BudgetExhausted, match="maximum context"):
        ask(lambda request: httpx.Response(400, json={"error": {"message": words}}))
    assert ask(lambda request: answer({"content": ""})).message == Message("assistant")
