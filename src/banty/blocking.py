"""Running code that may block, so that a hang costs its episode and nothing else."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


async def run_blocking(function: Callable[[], Result]) -> Result:
    """What `function` returns, computed on a daemon thread of its own.

    A thread cannot be killed: when the awaiting episode is cancelled, the thread is left behind and its result is
    dropped. A pool would be exhausted by the first few hangs and joined at exit, so there is none.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()

    def settle(result: Result | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def work() -> None:
        result: Result | None = None
        error: BaseException | None = None
        try:
            result = function()
        except BaseException as caught:  # noqa: BLE001 - handed to the awaiting side, whatever it is
            # StopIteration cannot be raised into a future, and SystemExit would end the event loop with every episode.
            harmless = isinstance(caught, Exception) and not isinstance(caught, StopIteration)
            error = caught if harmless else RuntimeError(f"a tool raised {caught!r}")
        try:
            loop.call_soon_threadsafe(settle, result, error)
        except RuntimeError:
            return  # the loop is closed: the episode ended long ago and nobody waits for this result

    threading.Thread(target=work, name="banty-tool", daemon=True).start()
    return await future
