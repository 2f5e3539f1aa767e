"""How what goes wrong in an episode becomes the fault that its status names."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

from banty.errors import BudgetExhausted, EpisodeFault

Result = TypeVar("Result")
Raised = TypeVar("Raised", bound=BaseException)
_log = logging.getLogger(__name__)


class Truncated(Exception):
    """A cap ends the episode, which is scored as it stands; `cause` names the cap."""

    def __init__(self, cause: str, detail: str) -> None:
        super().__init__(detail)
        self.cause = cause


async def faulting(awaited: Coroutine[Any, Any, Result], fault: type[EpisodeFault], what: str) -> Result:
    """What `awaited` returns. Any exception of it is raised as a `fault` that says `what` failed.

    A fault keeps its own kind, also inside a task group's exception; exhausted budgets and reached caps pass through.
    """
    try:
        return await awaited
    except (EpisodeFault, BudgetExhausted, Truncated):
        raise
    except Exception as error:
        spent = _find(BudgetExhausted, error)
        if spent is not None and _find(EpisodeFault, error) is None:
            raise spent from None
        raise as_fault(error, fault, what) from error


def guarded(function: Callable[[], Result], fault: type[EpisodeFault], what: str) -> Result:
    """What `function()` returns, with every exception raised as a `fault`; nothing passes through."""
    try:
        return function()
    except EpisodeFault:
        raise
    except Exception as error:
        raise as_fault(error, fault, what) from error


def as_fault(error: Exception, fault: type[EpisodeFault], what: str) -> EpisodeFault:
    """The fault an exception stands for: the one found in it, or a `fault` that tells what it says."""
    if found := _find(EpisodeFault, error):
        return found
    _log.debug("%s failed", what, exc_info=error)
    return fault(f"{what} failed: {'; '.join(f'{type(leaf).__name__}: {leaf}' for leaf in _leaves(error))}")


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """The error itself, or those of a task group's several."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _find(kind: type[Raised], error: BaseException) -> Raised | None:
    return next((leaf for leaf in _leaves(error) if isinstance(leaf, kind)), None)


def expect(given: object, kind: type[Result]) -> Result:
    if not isinstance(given, kind):
        raise TypeError(f"got {type(given).__name__}, not {kind.__name__}")
    return given
