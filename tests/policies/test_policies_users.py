"""A policy as the user: asked again for what is no answer, over a server that misbehaves in every way it can."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from tests.policies.test_policies_endpoint import HELLO, answer, call, choice

from banty.errors import BudgetExhausted, InputError, PolicyFault
from banty.policies.endpoint import ChatEndpoint, LostAnswer
from banty.policies.scripted import FunctionPolicy
from banty.policies.users import SimulatedUser
from banty.records import Completion, Message, SampleRequest, SamplingParams, ToolCall

Handler = Callable[[httpx.Request], Any]
ASKED = SampleRequest(
    (Message("system", "You are a customer."), Message("user", "hello")), params=SamplingParams(seed=5)
)


class Server:
    """Gives its answers in order, the last for ever, and keeps what it was sent."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.bodies: list[dict[str, Any]] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.bodies.append(json.loads(request.content))
        given = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(given, float):
            await asyncio.sleep(given)
            return answer({"content": "late"})
        assert isinstance(given, httpx.Response)
        return given


def user_of(server: Server, tries: int = 3, **options: Any) -> SimulatedUser:
    options = {"max_retries": 2, **options}
    endpoint = ChatEndpoint("http://server", "m", transport=httpx.MockTransport(server), **options)
    return SimulatedUser(endpoint, "m, temperature 0", tries=tries)


def said(user: SimulatedUser, request: SampleRequest = ASKED) -> Completion:
    async def once() -> Completion:
        try:
            return await user.sample(request)
        finally:
            await user.release(request.session)

    return asyncio.run(once())


def test_an_empty_answer_is_asked_for_again_with_another_seed() -> None:
    server = Server(answer({"content": ""}), answer({"content": "  "}), answer({"content": "Hi."}))
    user = user_of(server)
    completion = said(user)
    assert completion.message.content == "Hi."
    assert (completion.prompt_tokens, completion.sampled_tokens) == (300, 60), "all three count"
    assert user.asked_again == {"no text": 2}
    seeds = [body["seed"] for body in server.bodies]
    assert len(set(seeds)) == 3
    assert {json.dumps(body["messages"]) for body in server.bodies} == {json.dumps(server.bodies[0]["messages"])}
    again = Server(answer({"content": ""}), answer({"content": "  "}), answer({"content": "Hi."}))
    said(user_of(again))
    assert [body["seed"] for body in again.bodies] == seeds, "the same request, the same seeds"


def test_a_tool_call_of_a_tool_that_nobody_gave_is_asked_for_again_and_in_the_end_returned() -> None:
    calls = answer({"content": None, "tool_calls": [call("cancel_reservation", "{}")]})
    user = user_of(Server(calls, answer({"content": "Hi."})))
    assert said(user).message.content == "Hi."
    assert user.asked_again == {"tool call": 1}
    server = Server(calls)
    message = said(user_of(server)).message
    assert [fault.kind for fault in message.faults] == ["unknown_tool"]
    assert len(server.bodies) == 3


def test_an_answer_lost_on_the_way_is_asked_for_again_and_then_a_fault() -> None:
    nothing = httpx.Response(200, json={"choices": []})
    assert said(user_of(Server(nothing, nothing, answer({"content": "Hi."})))).message.content == "Hi."
    server = Server(nothing)
    with pytest.raises(LostAnswer, match="answered without choices"):
        said(user_of(server))
    assert len(server.bodies) == 3
    filtered = Server(answer({"content": ""}, "content_filter"))
    with pytest.raises(PolicyFault, match="neither text nor a call"):
        said(user_of(filtered, max_retries=0))
    assert len(filtered.bodies) == 1


def test_a_timeout_is_tried_as_often_as_allowed() -> None:
    server = Server(5.0, answer({"content": "Hi."}))
    assert said(user_of(server, timeout_s=0.05, timeout_tries=2)).message.content == "Hi."
    stuck = Server(5.0)
    with pytest.raises(PolicyFault, match=r"no answer within 0\.05 s, 2 times"):
        said(user_of(stuck, timeout_s=0.05, timeout_tries=2))
    assert len(stuck.bodies) == 2
    with pytest.raises(PolicyFault, match=r"no answer within 0\.05 s; ask for less"):
        said(user_of(Server(5.0), timeout_s=0.05))
    with pytest.raises(InputError, match="timeout_tries 0"):
        user_of(stuck, timeout_tries=0)


def test_too_many_requests_are_waited_out_and_then_a_fault() -> None:
    busy = httpx.Response(429, headers={"retry-after": "0"}, json={"error": {"message": "slow down"}})
    assert said(user_of(Server(busy, busy, answer({"content": "Hi."})))).message.content == "Hi."
    with pytest.raises(PolicyFault, match="status 429: slow down"):
        said(user_of(Server(busy)))


def test_the_names_a_server_gives_its_model_are_kept_and_bounded() -> None:
    named = [httpx.Response(200, json={**choice({"content": "Hi."}), "model": f"m-{day}"}) for day in range(30)]
    user = user_of(Server(*named))
    for _ in range(30):
        said(user)
    assert isinstance(user.policy, ChatEndpoint)
    assert {"m-0", "m-1"} <= user.policy.served
    assert len(user.policy.served) == 10


def test_a_model_without_room_for_the_conversation_is_a_fault_of_the_simulator() -> None:
    def full(asked: SampleRequest) -> Message:
        raise BudgetExhausted("context", "the conversation has 5000 tokens; the model takes 4096")

    with pytest.raises(PolicyFault, match="no room for the conversation: the conversation has 5000 tokens"):
        said(SimulatedUser(FunctionPolicy(full), "small"))


def test_one_try_returns_whatever_it_is() -> None:
    policy = FunctionPolicy(lambda asked: Message("assistant", "", calls=(ToolCall("x", {}),)))
    user = SimulatedUser(policy, "nano, temperature 0")
    assert said(user, HELLO).message.calls == (ToolCall("x", {}),)
    assert (user.asked_again, user.capabilities) == ({}, policy.capabilities)
    with pytest.raises(InputError, match="tries is 0"):
        SimulatedUser(policy, "nano", tries=0)
