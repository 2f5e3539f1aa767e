"""Running the asynchronous work of a command to its end, or to a Ctrl-C that says what is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from banty.errors import BantyError

Result = TypeVar("Result")


class Interrupted(BantyError):
    """A person stopped the command; the message says what is kept and how to go on."""


def run_async(work: Coroutine[Any, Any, Result], kept: str) -> Result:
    """What `work` returns. On Ctrl-C it is cancelled, which ends every live episode, and Interrupted says `kept`."""
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; {kept}") from None
