"""JSON over HTTP to a server somebody else runs: patient, bounded, and quiet about keys."""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import httpx

from banty.errors import InputError, PolicyFault
from banty.records import JSON

_FIRST_DELAY_S = 0.5
_LONGEST_DELAY_S = 30.0
_LONGEST_ASKED_S = 60.0
_ASK_LESS = "ask for less at once (--concurrency)"
_CONNECT_S = 10.0
_MOST_BYTES = 16 * 1024 * 1024
_MOST_WORDS = 200


class JsonService:
    """The JSON service at a URL; `/v1` is added to one that names no version.

    Connections belong to an event loop and are closed when its last session is released, or by `aclose`. The key in
    the environment variable `api_key_env` is read for each request, kept nowhere, and blotted out of error texts.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key_env: str,
        timeout_s: float,
        max_retries: int,
        timeout_tries: int = 1,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", api_key_env):
            raise InputError("api_key_env takes the name of an environment variable, such as BANTY_API_KEY, not a key")
        if timeout_s <= 0 or max_retries < 0 or timeout_tries < 1:
            given = f"timeout_s is {timeout_s}, max_retries {max_retries} and timeout_tries {timeout_tries}"
            raise InputError(f"{given}; they cannot be that low")
        self.base, self.host = _read_url(url, api_key_env)
        self._api_key_env = api_key_env
        self._timeout_s = timeout_s
        self._max_retries = max_retries
        self._timeout_tries = timeout_tries
        self._transport = transport
        self._connections: WeakKeyDictionary[asyncio.AbstractEventLoop, _Connection] = WeakKeyDictionary()

    async def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, JSON] | None = None,
        session: str = "",
        max_retries: int | None = None,
    ) -> dict[str, Any]:
        """The object the server answers. Raises PolicyFault, in one sentence, once trying again does not help.

        408, 409, 429, 5xx and broken connections are tried again after doubling delays, or after as long as the server
        asks for, a minute in all. A request that was sent and not answered in time is tried `timeout_tries` times in
        all, once unless said otherwise: the server may still be at work on it.
        """
        connection = self._connection()
        if session:
            connection.sessions.add(session)
        connection.in_flight += 1
        try:
            retries = self._max_retries if max_retries is None else min(max_retries, self._max_retries)
            return await self._tried(connection.client, method, f"{self.base}{path}", body, retries)
        finally:
            connection.in_flight -= 1

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

    def public(self, text: str) -> str:
        """Text of the server's that files can hold, on one line, shortened, without the key in case it quotes that."""
        key = self._key()
        text = in_pairs(text)
        text = " ".join((text.replace(key, "***") if key else text).split())
        return text if len(text) <= _MOST_WORDS else f"{text[:_MOST_WORDS]}…"

    async def _tried(
        self, client: httpx.AsyncClient, method: str, url: str, body: Mapping[str, JSON] | None, retries: int
    ) -> dict[str, Any]:
        trouble, delay_s, waited_s, timeouts = "", 0.0, 0.0, 0
        for attempt in range(retries + 1):
            if attempt:
                await asyncio.sleep(delay_s)
                waited_s += delay_s
            delay_s = min(_FIRST_DELAY_S * 2**attempt, _LONGEST_DELAY_S)
            try:
                async with asyncio.timeout(self._timeout_s):
                    reply = await self._exchange(client, method, url, body)
            except (TimeoutError, httpx.ReadTimeout, httpx.WriteTimeout):
                timeouts += 1
                trouble = f"no answer within {self._timeout_s:g} s"
                if timeouts < self._timeout_tries:
                    continue
                times = f", {timeouts} times" if timeouts > 1 else ""
                raise PolicyFault(f"{url} gave {trouble}{times}; {_ASK_LESS}, or raise timeout_s") from None
            except (httpx.TransportError, httpx.DecodingError) as error:
                trouble = self.public(f"{type(error).__name__}: {error}".rstrip(": "))
                continue
            if reply.status not in (408, 409, 429) and reply.status < 500:
                return self._accepted(reply, url)
            trouble = f"status {reply.status}: {self.public(reply.words)}"
            delay_s = delay_s if reply.asked_s is None else reply.asked_s
            if reply.asked_s is not None and waited_s + delay_s > _LONGEST_ASKED_S:
                after = f" after {waited_s:.0f} s" if waited_s else ""
                raise PolicyFault(f"{url} asks to wait {delay_s:.0f} s{after} ({trouble}); try later, or {_ASK_LESS}")
        times = f"{retries + 1} times" if retries else "once"
        mend = f"Try later, or {_ASK_LESS}" if trouble.startswith("status 429") else "Is the server up?"
        raise PolicyFault(f"{url} failed {times}, last with {trouble}. {mend}")

    async def _exchange(
        self, client: httpx.AsyncClient, method: str, url: str, body: Mapping[str, JSON] | None
    ) -> _Reply:
        headers = {"Accept-Encoding": "identity"}  # what is counted is what was sent, nothing unpacks beyond it
        if key := self._key():
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
                    raise PolicyFault(f"{url} answered more than the {_MOST_BYTES >> 20} MiB that are read")
        return _Reply.read(response.status_code, bytes(received), response.headers.get("retry-after", ""))

    def _accepted(self, reply: _Reply, url: str) -> dict[str, Any]:
        told = f"status {reply.status}: {self.public(reply.words)}"
        if reply.status in (401, 403):
            lacks = "holds a key that it does not take" if self._key() else "is not set"
            raise PolicyFault(f"{url} refused the key ({told}); the environment variable {self._api_key_env} {lacks}")
        if reply.status == 404:
            raise PolicyFault(f"{url} was not found ({told}); check the URL and the model's name")
        if reply.status >= 300:
            raise PolicyFault(f"{url} refused the request ({told})")
        if not isinstance(reply.data, dict):
            what = "no JSON object" if reply.is_json else "what is not JSON"
            raise PolicyFault(f"{url} answered {what} ({told}); check that it is an OpenAI-compatible endpoint")
        return reply.data

    def _key(self) -> str:
        key = os.environ.get(self._api_key_env, "").strip()
        if key and not re.fullmatch(r"[!-~]+", key):
            raise PolicyFault(f"the environment variable {self._api_key_env} holds characters that no key has")
        return key

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
        verify = self.base.startswith("https:")
        try:
            return httpx.AsyncClient(timeout=timeout, limits=limits, transport=self._transport, verify=verify)
        except OSError as error:
            told = f"the certificates for {self.base} cannot be loaded ({error})"
            raise PolicyFault(f"{told}; check the environment variables SSL_CERT_FILE and SSL_CERT_DIR") from None


@dataclass
class _Connection:
    """The client of one event loop, and who is using it."""

    client: httpx.AsyncClient
    sessions: set[str] = field(default_factory=set)
    in_flight: int = 0


class _Reply(NamedTuple):
    """A server's answer: the status it means, the decoded body, and its own words for what is wrong."""

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
        return cls(status, data, is_json, str(message or text) or "no text", _asked_delay(retry_after))


def in_pairs(text: str) -> str:
    """Halves of surrogate pairs, which JSON can say and no file can hold, replaced by the replacement character."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _asked_delay(retry_after: str) -> float | None:
    """Seconds, from a Retry-After header that holds seconds or a date."""
    try:
        return float(retry_after) if float(retry_after) >= 0.0 else None
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
        raise InputError(f"the endpoint's URL holds a secret or options; a key goes into the variable {api_key_env}")
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise InputError(f"{url!r} is not an endpoint; give a URL such as http://localhost:8000")
    path = parsed.path.rstrip("/").removesuffix("/chat/completions")
    if not any(re.fullmatch(r"v\d\w*", part) for part in path.split("/")):
        path += "/v1"
    host = parsed.netloc.decode()
    return f"{parsed.scheme}://{host}{path}", host
