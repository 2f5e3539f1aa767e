"""In which order live episodes are answered: as they come, or in rounds that depend on their ids alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

Result = TypeVar("Result")
Key = tuple[str, str, int]


class Order(Protocol):
    """The gate every policy call passes. A holder of a slot is live until it leaves.

    In an `exact` order a holder makes one call at a time.
    """

    exact: bool

    def enter(self, slots: int = 1) -> None: ...

    def leave(self) -> None: ...

    async def call(self, key: Key, answer: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """What `answer()` returns, started when it is this key's time."""


class FreeOrder:
    """Every call starts at once."""

    exact = False

    def enter(self, slots: int = 1) -> None:
        """Nobody is counted."""

    def leave(self) -> None:
        """Nobody is counted."""

    async def call(self, key: Key, answer: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        return await answer()


class ExactOrder:
    """Rounds: calls wait until every live episode waits, then all start together, sorted by key.

    Which calls share a round, and their order in it, depends on the episodes' ids and contents only, never on how long
    a tool or a thread took. That makes the batches of an engine, and so every float it computes, repeatable.
    """

    exact = True

    def __init__(self) -> None:
        self._live = 0
        self._waiting: dict[Key, tuple[Callable[[], Coroutine[Any, Any, Any]], asyncio.Future[Any]]] = {}
        self._answering: dict[Key, asyncio.Task[Any]] = {}
        self._rounds: set[asyncio.Task[None]] = set()

    def enter(self, slots: int = 1) -> None:
        self._live += slots

    def leave(self) -> None:
        self._live -= 1
        self._release()

    async def call(self, key: Key, answer: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        assert key not in self._waiting, f"{key} asks twice at once"
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting[key] = (answer, future)
        self._release()
        try:
            return await future
        except asyncio.CancelledError:
            self._waiting.pop(key, None)  # before its round: the slot is given up by `leave`
            if answering := self._answering.get(key):  # in its round: nothing of it goes on behind the caller's back
                answering.cancel()
                await asyncio.wait({answering})
            raise

    def _release(self) -> None:
        if self._waiting and len(self._waiting) >= self._live:
            calls = {key: self._waiting[key] for key in sorted(self._waiting)}
            self._waiting = {}
            served = asyncio.get_running_loop().create_task(self._serve(calls))
            self._rounds.add(served)
            served.add_done_callback(self._rounds.discard)

    async def _serve(
        self, calls: dict[Key, tuple[Callable[[], Coroutine[Any, Any, Any]], asyncio.Future[Any]]]
    ) -> None:
        started: list[tuple[asyncio.Task[Any], asyncio.Future[Any]]] = []
        for key, (answer, future) in calls.items():
            if not future.cancelled():
                self._answering[key] = asyncio.get_running_loop().create_task(answer())
                started.append((self._answering[key], future))
        if started:
            await asyncio.wait([task for task, _ in started])
        for key in calls:
            self._answering.pop(key, None)
        for task, future in started:
            if future.done():
                continue
            if task.cancelled():
                future.cancel()
            elif (error := task.exception()) is not None:
                future.set_exception(error)
            else:
                future.set_result(task.result())
