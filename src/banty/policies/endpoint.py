"""Any OpenAI-compatible chat endpoint as a policy."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx

from banty.chat import parse
from banty.errors import InputError, PolicyFault
from banty.policies.openai_form import message_from_openai, messages_to_openai
from banty.records import Capability, Completion, SampleRequest, SamplingParams

ToolCalls = Literal["native", "hermes", "qwen_xml"]

_RETRIED = (408, 409, 429, 500, 502, 503, 504)
_FIRST_DELAY_S = 0.5
_LONGEST_DELAY_S = 30.0
_MOST_BYTES = 16 * 1024 * 1024


class ChatEndpoint:
    """A policy behind `URL/v1/chat/completions`.

    With `tool_calls="native"` the server parses calls; with `hermes` or `qwen_xml` it returns text that Banty parses.
    `api_key_env` names the environment variable that holds the key: the key itself is read for each request and kept
    nowhere. Overload and connection errors are tried again with doubling delays, or as long as the server asks for;
    what is left over is a PolicyFault in one sentence. `price_per_million` is dollars for prompt and sampled tokens.
    """

    capabilities: frozenset[Capability] = frozenset()

    def __init__(
        self,
        url: str,
        model: str = "",
        *,
        api_key_env: str = "OPENAI_API_KEY",
        tool_calls: ToolCalls = "native",
        timeout_s: float = 110.0,
        max_retries: int = 4,
        price_per_million: tuple[float, float] = (0.0, 0.0),
        extra: Mapping[str, Any] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise InputError(f"{url!r} is not an endpoint; give a URL such as http://localhost:8000")
        if parts.username or parts.password:
            raise InputError(f"the endpoint's URL holds a secret; put it in the environment variable {api_key_env}")
        base = url.rstrip("/")
        self._base = base if base.endswith("/v1") else f"{base}/v1"
        self._host = parts.netloc
        self._model = model
        self._api_key_env = api_key_env
        self._tool_calls = tool_calls
        self._timeout_s = timeout_s
        self._max_retries = max_retries
        self._prices = price_per_million
        self._extra = dict(extra or {})
        self._transport = transport
        self._clients: dict[asyncio.AbstractEventLoop, httpx.AsyncClient] = {}

    def __repr__(self) -> str:
        return f"ChatEndpoint({self._base!r}, model={self._model!r})"

    @property
    def name(self) -> str:
        return f"{self._model or 'the only model'}@{self._host}"

    async def sample(self, request: SampleRequest) -> Completion:
        body = {
            "model": await self._model_name(),
            "messages": messages_to_openai(request.messages),
            **_params(request.params),
            **self._extra,
        }
        if request.tools:
            body["tools"] = [tool.to_openai() for tool in request.tools]
        answer = await self._request("POST", "/chat/completions", body)
        return self._completion(answer, request)

    async def release(self, session: str) -> None:
        """The endpoint keeps no session that could be freed."""

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

    async def _model_name(self) -> str:
        if not self._model:
            listed = await self._request("GET", "/models")
            names = [str(entry.get("id")) for entry in listed.get("data", []) if isinstance(entry, dict)]
            if len(names) != 1:
                offered = ", ".join(names[:10]) or "none"
                raise PolicyFault(f"{self._base} offers {len(names)} models ({offered}); name one as URL#MODEL")
            self._model = names[0]
        return self._model

    def _completion(self, answer: Mapping[str, Any], request: SampleRequest) -> Completion:
        choices = answer.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            raise PolicyFault(f"{self._base} answered without choices: {_shortened(json.dumps(answer))}")
        said = choices[0].get("message")
        if not isinstance(said, dict):
            raise PolicyFault(f"{self._base} answered a choice without a message: {_shortened(json.dumps(choices[0]))}")
        cut = choices[0].get("finish_reason") == "length"
        if self._tool_calls == "native":
            message = message_from_openai(said, request.tools, cut)
        else:
            text = said.get("content")
            message = parse(text if isinstance(text, str) else "", request.tools, self._tool_calls)
        if not (message.content.strip() or message.calls or message.faults or cut):
            raise PolicyFault(f"{self._base} answered with neither text nor a call")
        usage = answer.get("usage")
        prompt, sampled = _usage(usage if isinstance(usage, dict) else {})
        return Completion(
            message=message,
            finish="length" if cut else "stop",
            prompt_tokens=prompt,
            sampled_tokens=sampled,
            cost_usd=(prompt * self._prices[0] + sampled * self._prices[1]) / 1e6,
        )

    async def _request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The decoded answer. Raises PolicyFault once trying again does not help."""
        url = f"{self._base}{path}"
        trouble = ""
        for attempt in range(self._max_retries + 1):
            delay_s = min(_FIRST_DELAY_S * 2**attempt, _LONGEST_DELAY_S)
            try:
                response = await self._client().request(method, url, json=body, headers=self._headers())
            except (httpx.TransportError, httpx.DecodingError) as error:
                trouble = f"{type(error).__name__}: {error}".rstrip(": ")
            else:
                if response.status_code not in _RETRIED:
                    return self._decoded(response, url)
                trouble = f"status {response.status_code}: {_server_words(response)}"
                delay_s = _asked_delay(response, delay_s)
            if attempt < self._max_retries:
                await asyncio.sleep(delay_s)
        raise PolicyFault(f"{url} failed {self._max_retries + 1} times, last with {trouble}. Is the server up?")

    def _decoded(self, response: httpx.Response, url: str) -> dict[str, Any]:
        status = response.status_code
        if status in (401, 403):
            raise PolicyFault(f"{url} refused the key (status {status}); set the variable {self._api_key_env}")
        if status == 404:
            words = _server_words(response)
            raise PolicyFault(f"{url} was not found (status 404: {words}); check the URL and the model's name")
        if status >= 400:
            raise PolicyFault(f"{url} refused the request (status {status}): {_server_words(response)}")
        if len(response.content) > _MOST_BYTES:
            raise PolicyFault(f"{url} answered {len(response.content)} bytes; at most {_MOST_BYTES} are read")
        try:
            answer = response.json()
        except ValueError:
            raise PolicyFault(f"{url} answered what is not JSON: {_shortened(response.text)}") from None
        if not isinstance(answer, dict):
            raise PolicyFault(f"{url} answered no JSON object: {_shortened(response.text)}")
        return answer

    def _client(self) -> httpx.AsyncClient:
        # A client belongs to the event loop it was first used in, and every asyncio.run is a new one.
        loop = asyncio.get_running_loop()
        for old in [known for known in self._clients if known.is_closed()]:
            del self._clients[old]
        client = self._clients.get(loop)
        if client is None:
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
            client = httpx.AsyncClient(timeout=self._timeout_s, limits=limits, transport=self._transport)
            self._clients[loop] = client
        return client

    def _headers(self) -> dict[str, str]:
        key = os.environ.get(self._api_key_env, "")
        return {"Authorization": f"Bearer {key}"} if key else {}


def _params(params: SamplingParams) -> dict[str, Any]:
    """Sampling options: the common ones always said, the uncommon ones only where they differ from doing nothing."""
    body: dict[str, Any] = {"temperature": params.temperature, "top_p": params.top_p}
    if params.max_tokens is not None:
        body["max_tokens"] = params.max_tokens
    if params.seed is not None:
        body["seed"] = params.seed % 2**31
    if params.top_k:
        body["top_k"] = params.top_k
    if params.min_p:
        body["min_p"] = params.min_p
    return body


def _usage(usage: Mapping[str, Any]) -> tuple[int, int]:
    counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
    prompt, sampled = (count if isinstance(count, int) else 0 for count in counts)
    return prompt, sampled


def _asked_delay(response: httpx.Response, otherwise_s: float) -> float:
    try:
        return min(float(response.headers["retry-after"]), _LONGEST_DELAY_S)
    except (KeyError, ValueError):
        return otherwise_s


def _server_words(response: httpx.Response) -> str:
    """The server's own error text, shortened."""
    try:
        error = response.json().get("error")
    except (ValueError, AttributeError):
        return _shortened(response.text)
    message = error.get("message") if isinstance(error, dict) else error
    return _shortened(str(message or response.text))


def _shortened(text: str, most: int = 200) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[:most]}…"
