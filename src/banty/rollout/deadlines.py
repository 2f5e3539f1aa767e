"""Awaiting with a limit that holds even when the awaited code does not cooperate."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from banty.errors import DeadlineFault

Result = TypeVar("Result")

_GRACE_S = 1.0
_LEAST_WAIT_S = 0.01
_log = logging.getLogger(__name__)


async def within(
    coroutine: Coroutine[Any, Any, Result], limit_s: float, what: str, excused: Callable[[], float] = lambda: 0.0
) -> Result:
    """What `coroutine` returns, or DeadlineFault after `limit_s` seconds, those that `excused` counts left out.

    Code that swallows its cancellation is given a second to end and is then left behind, so that one that never ends
    costs its own episode only. When the caller is cancelled, so is the coroutine; one that cancels itself has failed.
    """
    if limit_s <= 0:
        coroutine.close()
        raise DeadlineFault(f"no time was left for {what}")
    now = asyncio.get_running_loop().time
    end = now() + limit_s - excused()
    task = asyncio.ensure_future(coroutine)
    try:
        while not task.done() and (left := end + excused() - now()) > 0:
            await _done_or_late(task, max(left, _LEAST_WAIT_S))
    except asyncio.CancelledError:
        await _abandon(task, what)
        raise
    if not task.done():
        await _abandon(task, what)
        raise DeadlineFault(f"{what} did not finish within {limit_s:.3g} s")
    if task.cancelled():
        raise RuntimeError(f"{what} was cancelled from within")
    return task.result()


async def _done_or_late(task: asyncio.Future[Any], timeout_s: float) -> None:
    """What `asyncio.wait` does for several, for one, and so in less time: it is called twice a turn."""
    loop = asyncio.get_running_loop()
    woken: asyncio.Future[None] = loop.create_future()

    def wake(_: object = None) -> None:
        if not woken.done():
            woken.set_result(None)

    task.add_done_callback(wake)
    timer = loop.call_later(timeout_s, wake)
    try:
        await woken
    finally:
        timer.cancel()
        task.remove_done_callback(wake)


async def _abandon(task: asyncio.Future[Any], what: str) -> None:
    task.add_done_callback(_retrieve)
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=_GRACE_S)
    if not done:
        _log.warning("%s ignores its cancellation and is left behind", what)
        task.cancel()  # once more, for code that has since begun to wait for something else


def _retrieve(task: asyncio.Future[Any]) -> None:
    # Asked for only so that asyncio does not report an exception nobody fetched.
    if not task.cancelled():
        task.exception()
