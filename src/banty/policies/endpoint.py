"""Any OpenAI-compatible chat endpoint as a policy."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Literal, NamedTuple
from weakref import WeakKeyDictionary

import httpx

from banty.chat import Check
from banty.errors import InputError, PolicyFault
from banty.policies.openai_form import message_from_openai, messages_as_text, messages_to_openai
from banty.records import JSON, Capability, Completion, SampleRequest, SamplingParams

ToolCalls = Literal["native", "hermes", "qwen_xml"]
ToolsIn = Literal["prompt", "template"]

_FIRST_DELAY_S = 0.5
_LONGEST_DELAY_S = 30.0
_LONGEST_ASKED_S = 60.0
_CONNECT_S = 10.0
_MOST_BYTES = 16 * 1024 * 1024
_NOT_EXTRA = ("model", "messages", "tools", "n", "stream")
_log = logging.getLogger(__name__)


class ChatEndpoint:
    """A policy behind `URL/chat/completions`; `/v1` is added to a URL that names no version.

    Without a `model` the server is asked once, here, and must offer exactly one. `api_key_env` names the environment
    variable that holds the key; the key is read for each request and kept nowhere.

    With `tool_calls="native"` the server reads the calls. With `hermes` or `qwen_xml` Banty does, from the text the
    server returns, and knows a broken call where servers hand it back as chatter. The tools are then described in the
    prompt, in Qwen's words, which needs nothing of the server; `tools_in="template"` leaves that to the model's own
    chat template (tools are sent with `tool_choice` none: check that the server shows them all the same, as vLLM does).
    With `check="names"` values are the environment's to judge, with `schema` a wrong one is a fault.

    Overload and connection errors are tried again after doubling delays, or after as long as the server asks for.
    `timeout_s` bounds one request, `price_per_million` is dollars for prompt and sampled tokens, and `extra` goes into
    the request as it is: a value replaces what Banty would send, None leaves it out.

    Connections belong to an event loop and are closed when its last session is released, or by `aclose`. Raises
    InputError for what cannot be an endpoint, and for a server that cannot say which model it has.
    """

    capabilities: frozenset[Capability] = frozenset()

    def __init__(
        self,
        url: str,
        model: str = "",
        *,
        api_key_env: str = "OPENAI_API_KEY",
        tool_calls: ToolCalls = "native",
        tools_in: ToolsIn = "prompt",
        check: Check = "names",
        timeout_s: float = 110.0,
        max_retries: int = 4,
        price_per_million: tuple[float, float] = (0.0, 0.0),
        extra: Mapping[str, JSON] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._base, self._host = _read_url(url, api_key_env)
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", api_key_env):
            raise InputError("api_key_env takes the name of an environment variable, such as OPENAI_API_KEY, not a key")
        if taken := [name for name in _NOT_EXTRA if name in (extra or {})]:
            raise InputError(f"extra cannot set {taken[0]!r}: the policy sets it for each request")
        self._api_key_env = api_key_env
        self._tool_calls = tool_calls
        self._tools_in = tools_in
        self._check = check
        self._timeout_s = timeout_s
        self._max_retries = max_retries
        self._prices = price_per_million
        self._extra = dict(extra or {})
        self._transport = transport
        self._connections: WeakKeyDictionary[asyncio.AbstractEventLoop, _Connection] = WeakKeyDictionary()
        self._missed_usage = False
        self._model = model or self._only_model()

    def __repr__(self) -> str:
        return f"ChatEndpoint({self._base!r}, model={self._model!r}, tool_calls={self._tool_calls!r})"

    @property
    def name(self) -> str:
        return f"{self._model}@{self._host}"

    async def sample(self, request: SampleRequest) -> Completion:
        connection = self._connection()
        if request.session:
            connection.sessions.add(request.session)
        connection.in_flight += 1
        try:
            answer = await self._request(connection.client, "POST", "/chat/completions", self._body(request))
        finally:
            connection.in_flight -= 1
        return self._completion(answer, request)

    async def release(self, session: str) -> None:
        connection = self._connections.get(asyncio.get_running_loop())
        if connection is None:
            return
        connection.sessions.discard(session)
        if not connection.sessions and not connection.in_flight:
            await self.aclose()

    async def aclose(self) -> None:
        """Close the connections of the running event loop; the next request opens new ones."""
        connection = self._connections.pop(asyncio.get_running_loop(), None)
        if connection is not None:
            await connection.client.aclose()

    def _body(self, request: SampleRequest) -> dict[str, JSON]:
        as_text = self._tool_calls != "native" and self._tools_in == "prompt"
        body: dict[str, JSON] = {"model": self._model, **_params(request.params)}
        if self._tool_calls != "native" and as_text:
            body["messages"] = messages_as_text(request.messages, request.tools, self._tool_calls)
        else:
            body["messages"] = messages_to_openai(request.messages)
        if request.tools and not as_text:
            body["tools"] = [tool.to_openai() for tool in request.tools]
            if self._tool_calls != "native":
                body["tool_choice"] = "none"
        body.update(self._extra)
        return {name: value for name, value in body.items() if value is not None}

    def _completion(self, answer: Mapping[str, Any], request: SampleRequest) -> Completion:
        choices = answer.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            raise PolicyFault(f"{self._base} answered without choices: {_shortened(json.dumps(answer))}")
        said, reason = choices[0].get("message"), choices[0].get("finish_reason")
        if not isinstance(said, dict):
            raise PolicyFault(f"{self._base} answered a choice without a message: {_shortened(json.dumps(choices[0]))}")
        cut = reason == "length"
        message = message_from_openai(
            said,
            request.tools,
            turn=sum(before.role == "assistant" for before in request.messages),
            cut=cut,
            text_format=None if self._tool_calls == "native" else self._tool_calls,
            check=self._check,
        )
        # An answer cut off in the middle of its reasoning is the policy's own doing and counts; nothing at all does not.
        if not (message.content.strip() or message.calls or message.faults or cut):
            raise PolicyFault(f"{self._base} answered with neither text nor a call (finish_reason {reason!r})")
        prompt, sampled = self._usage(answer.get("usage"))
        return Completion(
            message=message,
            finish="length" if cut else "stop",
            prompt_tokens=prompt,
            sampled_tokens=sampled,
            cost_usd=(prompt * self._prices[0] + sampled * self._prices[1]) / 1e6,
        )

    def _usage(self, usage: Any) -> tuple[int, int]:
        """Prompt and sampled tokens, 0 where the server does not say."""
        counts = [usage.get(name) if isinstance(usage, dict) else None for name in _USAGE]
        if not all(isinstance(count, int) for count in counts) and not self._missed_usage:
            self._missed_usage = True
            _log.warning("%s reports no usage: its tokens and cost count as 0, so caps on them do not hold", self.name)
        prompt, sampled = (count if isinstance(count, int) else 0 for count in counts)
        return prompt, sampled

    def _only_model(self) -> str:
        async def ask() -> Mapping[str, Any]:
            async with self._new_client() as client:
                return await self._request(client, "GET", "/models")

        with ThreadPoolExecutor(1) as thread:  # a thread of its own, since an event loop may be running here
            try:
                listed = thread.submit(asyncio.run, ask()).result().get("data")
            except PolicyFault as fault:
                raise InputError(f"the model was not named, and {fault}") from None
        entries = listed if isinstance(listed, list) else []
        names = [str(entry["id"]) for entry in entries if isinstance(entry, dict) and "id" in entry]
        if len(names) != 1:
            offered = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
            raise InputError(f"{self._base} offers {len(names)} models ({offered or 'none'}); name one")
        return names[0]

    async def _request(
        self, client: httpx.AsyncClient, method: str, path: str, body: Mapping[str, JSON] | None = None
    ) -> dict[str, Any]:
        """The decoded answer. Raises PolicyFault, in one sentence, once trying again does not help."""
        url = f"{self._base}{path}"
        trouble, delay_s = "", 0.0
        for attempt in range(self._max_retries + 1):
            if attempt:
                await asyncio.sleep(delay_s)
            delay_s = min(_FIRST_DELAY_S * 2**attempt, _LONGEST_DELAY_S)
            try:
                async with asyncio.timeout(self._timeout_s):
                    reply = await self._exchange(client, method, url, body)
            except (TimeoutError, httpx.ReadTimeout, httpx.WriteTimeout):
                # Not tried again: the server may still be at work on it, and be paid for it.
                raise PolicyFault(f"{url} gave no answer within {self._timeout_s:g} s; raise timeout_s") from None
            except (httpx.TransportError, httpx.DecodingError) as error:
                trouble = self._public(f"{type(error).__name__}: {error}".rstrip(": "))
            else:
                if reply.status not in (408, 409, 429) and reply.status < 500:
                    return self._decoded(reply, url)
                trouble = f"status {reply.status}: {self._public(reply.words)}"
                if reply.asked_s is not None:
                    delay_s = reply.asked_s
                if delay_s > _LONGEST_ASKED_S:
                    raise PolicyFault(f"{url} asks to wait {delay_s:.0f} s ({trouble}); try later or ask for less")
        times = f"{self._max_retries + 1} times" if self._max_retries else "once"
        raise PolicyFault(f"{url} failed {times}, last with {trouble}. Is the server up?")

    async def _exchange(
        self, client: httpx.AsyncClient, method: str, url: str, body: Mapping[str, JSON] | None
    ) -> _Reply:
        headers = {"Accept-Encoding": "identity"}  # what is read is what was sent: no bomb unpacks beyond the limit
        if key := os.environ.get(self._api_key_env, ""):
            headers["Authorization"] = f"Bearer {key}"
        content = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            content = json.dumps(body, allow_nan=False).encode()
        received = bytearray()
        async with client.stream(method, url, content=content, headers=headers) as response:
            async for chunk in response.aiter_bytes():
                received += chunk
                if len(received) > _MOST_BYTES:
                    raise PolicyFault(f"{url} answered more than {_MOST_BYTES >> 20} MiB, which is no chat message")
        return _Reply.read(response.status_code, bytes(received), response.headers.get("retry-after", ""))

    def _decoded(self, reply: _Reply, url: str) -> dict[str, Any]:
        words = self._public(reply.words)
        if reply.status in (401, 403):
            lacks = "is not set" if not os.environ.get(self._api_key_env) else "holds a key it does not take"
            told = f"{url} refused the key (status {reply.status}: {words})"
            raise PolicyFault(f"{told}; the environment variable {self._api_key_env} {lacks}")
        if reply.status == 404:
            raise PolicyFault(f"{url} was not found (status 404: {words}); check the URL and the model {self._named()}")
        if reply.status >= 300:
            raise PolicyFault(f"{url} refused the request (status {reply.status}: {words})")
        if not isinstance(reply.data, dict):
            what = "no JSON object" if reply.is_json else "what is not JSON"
            raise PolicyFault(f"{url} answered {what}: {words}; check that it is an OpenAI-compatible endpoint")
        return reply.data

    def _named(self) -> str:
        return repr(getattr(self, "_model", ""))

    def _public(self, text: str) -> str:
        """Text of the server's, which may quote the key it was sent."""
        key = os.environ.get(self._api_key_env, "")
        return text.replace(key, "***") if key else text

    def _connection(self) -> _Connection:
        loop = asyncio.get_running_loop()
        connection = self._connections.get(loop)
        if connection is None:
            connection = self._connections[loop] = _Connection(self._new_client())
        return connection

    def _new_client(self) -> httpx.AsyncClient:
        timeout = httpx.Timeout(self._timeout_s, connect=min(_CONNECT_S, self._timeout_s), pool=None)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        # Certificates are loaded for https alone: it takes a while, and fails where the machine has none.
        verify = self._base.startswith("https:")
        try:
            return httpx.AsyncClient(timeout=timeout, limits=limits, transport=self._transport, verify=verify)
        except OSError as error:
            told = f"the certificates for {self._base} cannot be loaded ({error})"
            raise PolicyFault(f"{told}; check the environment variables SSL_CERT_FILE and SSL_CERT_DIR") from None


_USAGE = ("prompt_tokens", "completion_tokens")


@dataclass
class _Connection:
    """The client of one event loop, and who is using it."""

    client: httpx.AsyncClient
    sessions: set[str] = field(default_factory=set)
    in_flight: int = 0


class _Reply(NamedTuple):
    """A server's answer: the status it means, the decoded body, its own words for what is wrong, shortened."""

    status: int
    data: Any
    is_json: bool
    words: str
    asked_s: float | None

    @classmethod
    def read(cls, status: int, body: bytes, retry_after: str) -> _Reply:
        text = body.decode("utf-8", "replace")
        try:
            data, is_json = json.loads(text), True
        except (ValueError, RecursionError):
            data, is_json = None, False
        found = data if isinstance(data, dict) else {}
        error = found.get("error") or found.get("message") or found.get("detail")
        if status < 300 and found.get("error") and not found.get("choices"):
            # Some routers answer 200 and put the status of the server behind them into the body.
            code = error.get("code") if isinstance(error, dict) else None
            status = code if isinstance(code, int) and 400 <= code < 600 else 502
        message = (error.get("message") or error) if isinstance(error, dict) else error
        return cls(status, data, is_json, _shortened(str(message or text)) or "no text", _asked_delay(retry_after))


def _asked_delay(retry_after: str) -> float | None:
    """Seconds from a Retry-After header, which holds seconds or a date."""
    try:
        return max(float(retry_after), 0.0)
    except ValueError:
        pass
    try:
        return max(parsedate_to_datetime(retry_after).timestamp() - time.time(), 0.0)
    except ValueError:
        return None


def _read_url(url: str, api_key_env: str) -> tuple[str, str]:
    """Where the paths begin, and the host with its port."""
    try:
        parsed = httpx.URL(url.strip())
    except httpx.InvalidURL as error:
        raise InputError(f"{url!r} is not an endpoint ({error}); give a URL such as http://localhost:8000") from None
    if parsed.userinfo or parsed.query:
        raise InputError(f"the endpoint's URL holds a secret or options; keys go to the variable {api_key_env}")
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise InputError(f"{url!r} is not an endpoint; give a URL such as http://localhost:8000")
    path = parsed.path.rstrip("/").removesuffix("/chat/completions")
    if not any(re.fullmatch(r"v\d\w*", part) for part in path.split("/")):
        path += "/v1"
    host = parsed.netloc.decode()
    return f"{parsed.scheme}://{host}{path}", host


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


def _shortened(text: str, most: int = 200) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[:most]}…"
