"""Any OpenAI-compatible chat endpoint as a policy."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, TypeGuard, get_args

import httpx

from banty.chat import Check, Format
from banty.errors import BudgetExhausted, InputError, PolicyFault
from banty.policies.json_http import JsonService
from banty.policies.openai_form import message_from_openai, messages_as_text, messages_to_openai
from banty.records import JSON, Capability, Completion, SampleRequest, SamplingParams

ToolCalls = Literal["native", "hermes", "qwen_xml"]
ToolsIn = Literal["prompt", "template"]

_NOT_EXTRA = ("model", "messages", "tools", "n", "stream")
_OUTGROWN = re.compile(r"maximum context|context[ _](length|window)|prompt is too long|too many (input )?tokens", re.I)
_MOST_LOST = 2
_MOST_SERVED = 10
_MOST_COUNTED = 2**31
_log = logging.getLogger(__name__)


class LostAnswer(PolicyFault):
    """A server answered without an answer in it: no choice, no message, or neither text nor call."""


class ChatEndpoint:
    """A policy behind `URL/v1/chat/completions`.

    Without a `model` the server is asked once, here, and must offer exactly one. `api_key_env` names the environment
    variable that holds the key, which is read for each request and kept nowhere.

    With `tool_calls="native"` the server reads the calls. With `hermes` or `qwen_xml` Banty does, from the text the
    server returns, so that a broken call is a fault where servers hand it back as chatter. The tools are then described
    in the prompt, in Qwen's words, which needs nothing of the server; `tools_in="template"` leaves that to the model's
    own chat template (the tools are sent with `tool_choice` none: make sure that the server shows them all the same, as
    vLLM does). With `check="names"` values are the environment's to judge; with `schema` a wrong one is a fault.

    `timeout_s` bounds one request; what is tried again, and how often, says `JsonService.request`; an answer that was
    lost on the way is asked for up to twice more. `served` are the names servers gave their models. `price_per_million`
    is dollars for prompt and sampled tokens. `extra` goes into the request as it is: a value replaces what Banty would
    send, None leaves that out (`{"max_tokens": None, "max_completion_tokens": 2000}`).

    Raises InputError for what cannot be an endpoint, and for a server that cannot say which model it has.
    """

    capabilities: frozenset[Capability] = frozenset()

    def __init__(
        self,
        url: str,
        model: str = "",
        *,
        api_key_env: str = "BANTY_API_KEY",
        tool_calls: ToolCalls = "native",
        tools_in: ToolsIn = "prompt",
        check: Check = "names",
        timeout_s: float = 110.0,
        max_retries: int = 4,
        timeout_tries: int = 1,
        price_per_million: tuple[float, float] = (0.0, 0.0),
        extra: Mapping[str, JSON] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        _one_of("tool_calls", tool_calls, ToolCalls)
        _one_of("tools_in", tools_in, ToolsIn)
        _one_of("check", check, Check)
        if taken := [name for name in _NOT_EXTRA if name in (extra or {})]:
            raise InputError(f"extra cannot set {taken[0]!r}: the policy sets it for each request")
        self._service = JsonService(
            url,
            api_key_env=api_key_env,
            timeout_s=timeout_s,
            max_retries=max_retries,
            timeout_tries=timeout_tries,
            transport=transport,
        )
        self._most_lost = min(max_retries, _MOST_LOST)
        self.served: set[str] = set()
        self._format: Format | None = None if tool_calls == "native" else tool_calls
        self._tools_in = tools_in
        self._check = check
        self._prices = price_per_million
        self._extra = dict(extra or {})
        self._missed_usage = False
        self.model = model or self._only_model()

    def __repr__(self) -> str:
        return f"ChatEndpoint({self._service.base!r}, model={self.model!r}, tool_calls={self._format or 'native'!r})"

    @property
    def name(self) -> str:
        return f"{self.model}@{self.host}"

    @property
    def host(self) -> str:
        return self._service.host

    async def sample(self, request: SampleRequest) -> Completion:
        for lost in range(self._most_lost + 1):
            try:
                return self._completion(await self._answer(request), request)
            except LostAnswer as fault:
                if lost == self._most_lost:
                    raise
                _log.info("asking again: %s", fault)
        raise AssertionError("the last try returns or raises")

    async def _answer(self, request: SampleRequest) -> Mapping[str, Any]:
        try:
            return await self._service.request("POST", "/chat/completions", self._body(request), request.session)
        except PolicyFault as fault:
            # A conversation that has outgrown the model is the agent's doing: a cap it ran into, not an outage.
            if _OUTGROWN.search(str(fault)):
                raise BudgetExhausted("tokens", str(fault)) from fault
            raise

    async def release(self, session: str) -> None:
        await self._service.release(session)

    async def aclose(self) -> None:
        """Close the connections of the running event loop, which otherwise end with its last session."""
        await self._service.aclose()

    def _body(self, request: SampleRequest) -> dict[str, JSON]:
        body: dict[str, JSON] = {"model": self.model, **_params(request.params)}
        if self._format is not None and self._tools_in == "prompt":
            body["messages"] = messages_as_text(request.messages, request.tools, self._format)
        else:
            body["messages"] = messages_to_openai(request.messages)
            if request.tools:
                body["tools"] = [tool.to_openai() for tool in request.tools]
                body["tool_choice"] = None if self._format is None else "none"
        body |= self._extra
        return {name: value for name, value in body.items() if value is not None}

    def _completion(self, answer: Mapping[str, Any], request: SampleRequest) -> Completion:
        base = self._service.base
        named = answer.get("model")
        served = self._service.public(named) if isinstance(named, str) else ""
        if served and len(self.served) < _MOST_SERVED:
            self.served.add(served)
        choices = answer.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            raise LostAnswer(f"{base} answered without choices: {self._service.public(json.dumps(answer))}")
        said, reason = choices[0].get("message"), choices[0].get("finish_reason")
        if not isinstance(said, dict):
            shown = self._service.public(json.dumps(choices[0]))
            raise LostAnswer(f"{base} answered a choice without a message: {shown}")
        cut = reason == "length"
        message = message_from_openai(
            said,
            request.tools,
            turn=sum(before.role == "assistant" for before in request.messages),
            cut=cut,
            text_format=self._format,
            check=self._check,
        )
        # To say nothing and stop, or to be cut off before the first word, is the policy's own doing and counts; an
        # answer that something on the way took away is not.
        if not (message.content.strip() or message.calls or message.faults or reason in ("stop", "length", None)):
            raise LostAnswer(f"{base} answered with neither text nor a call (finish_reason {reason!r})")
        prompt, sampled = self._usage(answer.get("usage"))
        return Completion(
            message=message,
            finish="length" if cut else "stop",
            prompt_tokens=prompt,
            sampled_tokens=sampled,
            cost_usd=(prompt * self._prices[0] + sampled * self._prices[1]) / 1e6,
            served=served,
        )

    def _usage(self, usage: Any) -> tuple[int, int]:
        """Prompt and sampled tokens, 0 where the server does not say."""
        found = usage if isinstance(usage, dict) else {}
        counts = [found.get(name) for name in ("prompt_tokens", "completion_tokens")]
        prompt, sampled = (count if _is_count(count) else 0 for count in counts)
        if not all(map(_is_count, counts)) and not self._missed_usage:
            self._missed_usage = True
            _log.warning(
                "%s reports no usage that can be read; its tokens and cost count as 0, and caps on them do not hold",
                self.name,
            )
        return prompt, sampled

    def _only_model(self) -> str:
        async def listed() -> Mapping[str, Any]:
            try:
                return await self._service.request("GET", "/models", max_retries=1)
            finally:
                await self._service.aclose()

        with ThreadPoolExecutor(1) as thread:  # an event loop may be running in this one
            try:
                entries = thread.submit(asyncio.run, listed()).result().get("data")
            except PolicyFault as fault:
                raise InputError(f"the server has to be asked for its model: {fault}") from None
        entries = entries if isinstance(entries, list) else []
        names = [str(entry["id"]) for entry in entries if isinstance(entry, dict) and "id" in entry]
        if len(names) != 1:
            offered = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
            found = f"{self._service.base} offers {len(names)} models ({offered or 'none'})"
            raise InputError(f"{found}; name one, as URL#MODEL on the command line")
        return names[0]


def _params(params: SamplingParams) -> dict[str, JSON]:
    """Sampling options: the common ones always said, the uncommon ones only where they differ from doing nothing."""
    body: dict[str, JSON] = {"temperature": params.temperature, "top_p": params.top_p}
    if params.max_tokens is not None:
        body["max_tokens"] = params.max_tokens
    if params.seed is not None:
        body["seed"] = params.seed % 2**31  # some servers keep seeds in 32 bits
    if params.top_k:
        body["top_k"] = params.top_k
    if params.min_p:
        body["min_p"] = params.min_p
    return body


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_COUNTED


def _one_of(name: str, value: str, choices: Any) -> None:
    if value not in get_args(choices):
        raise InputError(f"{name}={value!r} is not one of {', '.join(get_args(choices))}")
