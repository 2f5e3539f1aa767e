"""Awaiting with a limit that holds even when the awaited code does not cooperate."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from banty.errors import DeadlineFault

Result = TypeVar("Result")

_GRACE_S = 1.0
_log = logging.getLogger(__name__)


async def within(coroutine: Coroutine[Any, Any, Result], limit_s: float, what: str) -> Result:
    """What `coroutine` returns, or DeadlineFault after `limit_s` seconds.

    Code that swallows its cancellation is given a second to end and is then left behind, so that one that never ends
    costs its own episode only. When the caller is cancelled, so is the coroutine.
    """
    task = asyncio.ensure_future(coroutine)
    try:
        done, _ = await asyncio.wait({task}, timeout=max(limit_s, 0.0))
    except asyncio.CancelledError:
        await _abandon(task, what)
        raise
    if not done:
        await _abandon(task, what)
        raise DeadlineFault(f"{what} did not finish within {limit_s:.3g} s")
    return task.result()


async def _abandon(task: asyncio.Future[Any], what: str) -> None:
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=_GRACE_S)
    if not done:
        _log.warning("%s ignores its cancellation and is left behind", what)
        task.add_done_callback(_retrieve)
    else:
        _retrieve(task)


def _retrieve(task: asyncio.Future[Any]) -> None:
    # Asked for only so that asyncio does not report an exception nobody fetched.
    if not task.cancelled():
        task.exception()
