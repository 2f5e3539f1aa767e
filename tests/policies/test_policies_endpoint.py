"""The endpoint policy against scripted servers: what is sent, what comes back, and what goes wrong."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import pytest

from banty.envs.registry import make_taskset
from banty.errors import InputError, PolicyFault
from banty.policies.endpoint import ChatEndpoint
from banty.policies.openai_form import messages_to_openai
from banty.records import CallFault, Completion, Limits, Message, SampleRequest, SamplingParams, ToolCall, ToolSchema
from banty.testing import run

FIND = ToolSchema(
    "find",
    "Find a book.",
    {
        "type": "object",
        "properties": {"title": {"type": "string"}},
        "required": ["title"],
        "additionalProperties": False,
    },
)
Handler = Callable[[httpx.Request], httpx.Response]


def answer(message: dict[str, Any], finish: str = "stop", **more: Any) -> httpx.Response:
    usage = {"prompt_tokens": 100, "completion_tokens": 20}
    return httpx.Response(
        200, json={"choices": [{"message": message, "finish_reason": finish}], "usage": usage, **more}
    )


def call(name: str, arguments: str, call_id: str = "c1") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def ask(handler: Handler, request: SampleRequest | None = None, **options: Any) -> Completion:
    options = {"model": "m", "max_retries": 0, **options}
    endpoint = ChatEndpoint("http://server", transport=httpx.MockTransport(handler), **options)

    async def once() -> Completion:
        try:
            return await endpoint.sample(request or SampleRequest((Message("user", "hello"),), (FIND,)))
        finally:
            await endpoint.aclose()

    return asyncio.run(once())


def refusal(handler: Handler, **options: Any) -> str:
    with pytest.raises(PolicyFault) as caught:
        ask(handler, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_sent() -> None:
    seen: list[dict[str, Any]] = []

    def handler(request: httpx.Request) -> httpx.Response:
        assert request.url == "http://server/v1/chat/completions"
        seen.append(json.loads(request.content))
        return answer({"content": "hi"})

    params = SamplingParams(temperature=0.5, max_tokens=7, seed=2**40 + 3, top_k=5)
    ask(handler, SampleRequest((Message("system", "s"), Message("user", "u")), (FIND,), "session", params))
    body = seen[0]
    assert body["messages"] == [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    assert (body["temperature"], body["top_p"], body["max_tokens"], body["seed"]) == (0.5, 1.0, 7, 3)
    assert body["top_k"] == 5
    assert "min_p" not in body
    assert body["tools"][0]["function"]["name"] == "find"
    assert "effect" not in json.dumps(body["tools"])


def test_text_calls_reasoning_usage_and_cost() -> None:
    said = {"content": "one moment", "reasoning_content": "hm", "tool_calls": [call("find", '{"title": "Emma"}')]}
    got = ask(lambda request: answer(said), price_per_million=(1.0, 10.0))
    assert got.message == Message("assistant", "one moment", (ToolCall("find", {"title": "Emma"}, "c1"),), (), "hm")
    assert (got.prompt_tokens, got.sampled_tokens) == (100, 20)
    assert got.cost_usd == pytest.approx(300e-6)


@pytest.mark.parametrize(
    ("raw", "finish", "kind"),
    [
        (call("find", '{"title": '), "stop", "malformed"),
        (call("find", '{"title": '), "length", "truncated"),
        (call("find", "[1]"), "stop", "malformed"),
        (call("find", '{"title": 3}'), "stop", "bad_value"),
        (call("find", '{"name": "Emma"}'), "stop", "bad_value"),
        (call("fetch", "{}"), "stop", "unknown_tool"),
        ({"id": "c", "type": "function"}, "stop", "malformed"),
        ("nonsense", "stop", "malformed"),
    ],
)
def test_a_call_that_cannot_be_used_is_a_fault_and_never_lost(raw: Any, finish: str, kind: str) -> None:
    good = call("find", '{"title": "Emma"}', "c2")
    listed = [raw] if finish == "length" else [raw, good]
    got = ask(lambda request: answer({"content": None, "tool_calls": listed}, finish))
    assert [fault.kind for fault in got.message.faults] == [kind]
    assert got.message.faults[0].order == 0
    assert json.loads(got.message.faults[0].raw) == raw
    assert len(got.message.calls) == len(listed) - 1


def test_servers_that_return_text_are_parsed_here() -> None:
    text = '<tool_call>\n{"name": "find", "arguments": {"title": "Emma"}}\n</tool_call>'
    got = ask(lambda request: answer({"content": text}), tool_calls="hermes")
    assert got.message.calls == (ToolCall("find", {"title": "Emma"}),)


def test_a_history_with_broken_calls_stays_valid_for_strict_servers() -> None:
    fault = CallFault("malformed", "not JSON", 0, 0, "<tool_call>{</tool_call>")
    history = (
        Message("user", "hello"),
        Message("assistant", "", (ToolCall("find", {"title": "Emma"}),), (fault,)),
        Message("tool", "Error: not JSON"),
        Message("tool", "Emma is on shelf 3"),
        Message("user", "and?"),
    )
    wire = messages_to_openai(history)
    assert [entry["role"] for entry in wire] == ["user", "assistant", "tool", "user", "user"]
    assert wire[1]["content"] == "<tool_call>{</tool_call>"
    assert wire[2]["tool_call_id"] == wire[1]["tool_calls"][0]["id"]
    assert wire[2]["content"] == "Emma is on shelf 3"
    assert "not JSON" in wire[3]["content"]


def test_errors_are_one_sentence_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    seen: list[str] = []

    def unauthorised(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["authorization"])
        return httpx.Response(401, json={"error": {"message": "bad key"}})

    said = refusal(unauthorised, api_key_env="MY_KEY")
    assert seen == ["Bearer sk-very-secret"]
    assert "MY_KEY" in said
    assert "secret" not in said
    assert "model" in refusal(lambda request: httpx.Response(404, json={"error": "no such model"}))
    assert "context too long" in refusal(
        lambda request: httpx.Response(400, json={"error": {"message": "context too long"}})
    )
    assert "not JSON" in refusal(lambda request: httpx.Response(200, text="<html>"))
    assert "without choices" in refusal(lambda request: httpx.Response(200, json={"choices": []}))
    assert "neither text nor a call" in refusal(lambda request: answer({"content": ""}))

    def down(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    assert "Is the server up?" in refusal(down)
    assert "secret" not in repr(ChatEndpoint("http://server", api_key_env="MY_KEY"))


def test_overload_is_tried_again_as_long_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr("banty.policies.endpoint.asyncio.sleep", sleep)
    replies = iter([httpx.Response(429, headers={"retry-after": "7"}), httpx.Response(503), answer({"content": "ok"})])
    assert ask(lambda request: next(replies), max_retries=3).message.content == "ok"
    assert waits == [7.0, 1.0]
    waits.clear()
    said = refusal(lambda request: httpx.Response(500, text="boom"), max_retries=2)
    assert "3 times" in said
    assert "boom" in said
    assert waits == [0.5, 1.0]


def test_the_only_model_is_found_and_several_are_listed() -> None:
    def server(names: list[str]) -> Handler:
        def handler(request: httpx.Request) -> httpx.Response:
            if request.url.path == "/v1/models":
                return httpx.Response(200, json={"data": [{"id": name} for name in names]})
            assert json.loads(request.content)["model"] == names[0]
            return answer({"content": "ok"})

        return handler

    assert ask(server(["only"]), model="").message.content == "ok"
    assert "a, b" in refusal(server(["a", "b"]), model="")


def test_urls_that_are_none_are_refused() -> None:
    for url in ("localhost:8000", "ftp://x", "http://"):
        with pytest.raises(InputError):
            ChatEndpoint(url)
    with pytest.raises(InputError, match="secret"):
        ChatEndpoint("http://user:pass@host")


class _Server(BaseHTTPRequestHandler):
    """Plays both sides over HTTP: the model `agent` gives up at once, the model `user` states a wish and leaves."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        turns = sum(message["role"] == "assistant" for message in body["messages"])
        texts = {"agent": "I cannot help.", "user": "I want to fly." if turns == 0 else "Fine. ###STOP###"}
        said = {
            "choices": [{"message": {"role": "assistant", "content": texts[body["model"]]}, "finish_reason": "stop"}]
        }
        payload = json.dumps(said).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


def test_a_whole_episode_over_http_with_a_model_as_customer() -> None:
    server = HTTPServer(("127.0.0.1", 0), _Server)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        taskset = make_taskset("airline/mini", {"customer": "model"})
        rollout = run(
            taskset, ChatEndpoint(url, "agent"), roles={"user": ChatEndpoint(url, "user")}, limits=Limits(max_turns=5)
        )
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert rollout.status == "completed", rollout.detail
    assert rollout.outcome.success is False
    assert [turn.actor for turn in rollout.turns] == ["user", "agent", "user"]
    assert rollout.policy == f"agent@127.0.0.1:{server.server_port}"
