"""In which order live episodes are answered: as they come, or in one that depends on their ids and answers alone."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from banty.records import Gate

Result = TypeVar("Result")
Key = tuple[str, str, int]


class Order(Protocol):
    """What every policy call passes. A holder of a slot is live until it leaves.

    In an `exact` order a holder makes one call at a time.
    """

    exact: bool

    @property
    def gate(self) -> Gate | None:
        """What an engine that steps many sessions together has to heed, if anything."""

    def enter(self, slots: int = 1) -> None: ...

    def leave(self) -> None: ...

    async def call(self, key: Key, answer: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """What `answer()` returns, started when it is this key's time."""

    def held_s(self, key: Key) -> float:
        """The seconds for which this key's call, since it was started, stood still because others were not parked."""


class FreeOrder:
    """Every call starts at once."""

    exact = False
    gate = None

    def enter(self, slots: int = 1) -> None:
        """Nobody is counted."""

    def leave(self) -> None:
        """Nobody is counted."""

    async def call(self, key: Key, answer: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        return await answer()

    def held_s(self, key: Key) -> float:
        return 0.0


@dataclass(eq=False, slots=True)
class _Call:
    """A call, from when it begins to wait until its result is delivered."""

    answer: Callable[[], Coroutine[Any, Any, Any]]
    result: asyncio.Future[Any]
    context: contextvars.Context | None
    task: asyncio.Task[Any] | None = None
    engine: str = ""
    parked_on: asyncio.Future[Any] | None = None
    parked_since: float = 0.0
    held_s: float = 0.0

    @property
    def is_done(self) -> bool:
        return self.task is not None and self.task.done()

    @property
    def is_parked(self) -> bool:
        # By the futures and not by who still awaits them: an engine that has just delivered may ask for its next turn
        # before the one it delivered to, or a caller that was cancelled, has woken up.
        return self.parked_on is not None and not self.parked_on.done() and not self.result.done()

    @property
    def is_settled(self) -> bool:
        """Done or parked; written out, since it is asked of every live episode at every tick."""
        parked_on, task = self.parked_on, self.task
        if parked_on is not None and not parked_on.done() and not self.result.done():
            return True
        return task is not None and task.done()


_current: contextvars.ContextVar[_Call] = contextvars.ContextVar("the call that a policy is answering")


class ExactOrder:
    """Calls start, and engines tick, only when no live episode is anywhere else; it is the gate of such engines.

    Each live slot is waiting (it has called), parked (its call was started and awaits an engine in `parked`) or
    elsewhere (in its environment, or being answered by a policy that does not park). Waiting calls start together,
    sorted by key, once nobody is elsewhere. Results are delivered together, sorted by key, once every started call is
    done or parked. An engine gets its turn once everybody is parked; engines that hold parked calls take turns in the
    order of their names, and one that is slow to ask is waited for. Without engines that park, these are rounds.

    So which calls start or tick together, and their order, depends on the episodes' ids and contents only, never on
    how long a tool or a thread took. That makes the batches of an engine, and so every float it computes, repeatable.
    """

    exact = True

    def __init__(self) -> None:
        self._live = 0
        self._waiting: dict[Key, _Call] = {}
        self._started: dict[Key, _Call] = {}
        self._straggler: Key | None = None  # of a started call that was not settled when last looked at
        self._asking: dict[str, asyncio.Future[None]] = {}
        self._ticking: str | None = None  # had the last turn and has not asked since
        self._last = ""  # had the last turn
        self._held_s = 0.0
        self._held_since: float | None = time.monotonic()  # None while everybody is parked

    @property
    def gate(self) -> Gate:
        return self

    def enter(self, slots: int = 1) -> None:
        self._live += slots

    def leave(self) -> None:
        self._live -= 1
        self._advance()

    async def call(self, key: Key, answer: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        assert not any(key in calls for calls in (self._waiting, self._started)), f"{key} asks twice at once"
        result: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        context = contextvars.copy_context()
        call = self._waiting[key] = _Call(answer, result, context)
        context.run(_current.set, call)
        self._advance()
        try:
            return await result
        except asyncio.CancelledError:
            try:
                if call.task is not None:  # nothing of it goes on behind the caller's back
                    call.task.cancel()
                    await asyncio.wait({call.task})
            finally:  # the slot is elsewhere until it is given up by `leave`
                for calls in (self._waiting, self._started):
                    if calls.get(key) is call:
                        del calls[key]
                self._advance()
            raise

    def held_s(self, key: Key) -> float:
        call = self._started.get(key)
        if call is None:
            return 0.0
        return call.held_s + (self._total_held_s() - call.parked_since if call.parked_on is not None else 0.0)

    async def parked(self, engine: str, answer: Awaitable[Result]) -> Result:
        """What `answer` gives, which is the very future that the engine sets or that is cancelled with the call.

        A task or a shield around that future would be done later than it, when the next turn may have been given.
        """
        if not asyncio.isfuture(answer):
            raise TypeError(f"{engine} parks a {type(answer).__name__}; only a future shows at once that it is done")
        call = _current.get(None)
        assert call is not None, f"{engine} parks outside of a call"
        assert call.parked_on is None, f"{engine} parks a call that is parked in {call.engine}"
        future: asyncio.Future[Result] = answer
        call.engine, call.parked_on, call.parked_since = engine, future, self._total_held_s()
        self._advance()
        try:
            return await future
        finally:
            call.held_s += self._total_held_s() - call.parked_since
            call.parked_on = None
            self._advance()

    async def turn(self, engine: str) -> None:
        """Return when every live episode is parked and the turn is `engine`'s, which ends the turn it had.

        An engine in which nothing is parked gets its turn when something is, or when nobody is live any more.
        """
        before = self._asking.get(engine)
        assert before is None or before.done(), f"{engine} asks for two turns at once"
        asked = self._asking[engine] = asyncio.get_running_loop().create_future()
        if self._ticking == engine:
            self._ticking = None
        self._advance()
        await asked
        await asyncio.sleep(0)  # else a pump whose ticks never await would keep deadlines and cancellations from all

    def _advance(self) -> None:
        """Do what can be done now; to be called after every change."""
        still = self._all_are_settled()
        if still:
            self._deliver()
            still = self._nobody_is_elsewhere()
        if still and self._waiting:
            self._release()
            still = False
        if still != (self._held_since is None):
            self._held_s = self._total_held_s()
            self._held_since = None if still else time.monotonic()
        if still:
            self._grant()

    def _all_are_settled(self) -> bool:
        # Asked several times a call, so it must not look at every live episode each time: while one straggler is not
        # settled the others do not matter. Calls settle about in the order in which they started, so the last stays
        # one for longest.
        straggler = None if self._straggler is None else self._started.get(self._straggler)
        if straggler is not None and not straggler.is_settled:
            return False
        calls = reversed(self._started.items())
        self._straggler = next((key for key, call in calls if not call.is_settled), None)
        return self._straggler is None

    def _deliver(self) -> None:
        """Hand over the results of calls that are done; what stays started is parked."""
        for key in sorted(key for key, call in self._started.items() if call.is_done):
            call = self._started.pop(key)
            task = call.task
            assert task is not None
            call.task = call.context = None  # both lead back to the call: else only the collector would ever free it
            error = None if task.cancelled() else task.exception()
            if call.result.done():
                continue
            if task.cancelled():
                call.result.cancel()
            elif error is not None:
                call.result.set_exception(error)
            else:
                call.result.set_result(task.result())

    def _nobody_is_elsewhere(self) -> bool:
        if len(self._waiting) + len(self._started) < self._live:
            return False
        # A caller cancelled in the meantime is no longer waiting, although it has yet to learn of it.
        self._waiting = {key: call for key, call in self._waiting.items() if not call.result.done()}
        return len(self._waiting) + len(self._started) >= self._live

    def _release(self) -> None:
        for key in sorted(self._waiting):
            call = self._started[key] = self._waiting.pop(key)
            call.task = asyncio.get_running_loop().create_task(call.answer(), context=call.context)
            call.task.add_done_callback(lambda _: self._advance())

    def _grant(self) -> None:
        if self._live == 0:  # no schedule to keep, and a pump that nobody needs can end
            for asked in self._asking.values():
                if not asked.done():
                    asked.set_result(None)
            self._asking.clear()
            return
        engines = sorted({call.engine for call in self._started.values()})
        if self._ticking in engines:
            return
        engine = next((name for name in engines if name > self._last), engines[0])
        mine = self._asking.get(engine)
        if mine is not None and not mine.done():
            del self._asking[engine]
            self._ticking = self._last = engine
            mine.set_result(None)

    def _total_held_s(self) -> float:
        return self._held_s + (0.0 if self._held_since is None else time.monotonic() - self._held_since)
