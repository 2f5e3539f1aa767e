"""Work shared out to processes that stay: each takes one item after another, and one that dies costs its item only."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar

from banty.errors import BantyError

Item = TypeVar("Item")
Tell: TypeAlias = Callable[[Any], None]

ONE_THREAD = {
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"),
    "TOKENIZERS_PARALLELISM": "false",
}
"""The libraries read these when they are loaded, so they are set before a worker begins."""

_GRACE_S = 5.0


class Event(NamedTuple):
    """What a worker says of the item at `place`: a note, or that it is done or has failed. `value` is what was told,
    what the work returned, or the reason."""

    place: int
    kind: Literal["note", "done", "failed"]
    value: Any


@dataclass
class _Worker:
    process: SpawnProcess
    connection: Connection
    place: int


def work_through(work: Callable[[Item, Tell], Any], items: Sequence[Item], jobs: int) -> Generator[Event]:
    """Have `work(item, tell)` done for every item in `jobs` processes of one thread each; what they say, as it comes.

    `work` is a function of a module and items are picklable: the processes are spawned, and import what they need once.
    When the iteration ends early, by Ctrl-C or otherwise, the processes are ended at once; when this process is killed,
    they end themselves.
    """
    left, live = deque(range(len(items))), list[_Worker]()
    try:
        while left or live:
            while left and len(live) < jobs:
                live.append(_start(work, left.popleft()))
                _give(live[-1], items)
            heard = wait([worker.connection for worker in live])
            for worker in [each for each in live if each.connection in heard]:
                try:
                    kind, value = worker.connection.recv()
                except (EOFError, OSError):
                    live.remove(worker)
                    yield Event(worker.place, "failed", _death(worker))
                    continue
                yield Event(worker.place, kind, value)
                if kind == "note":
                    continue
                if left:
                    worker.place = left.popleft()
                    _give(worker, items)
                else:
                    live.remove(worker)
                    _end(worker)
    finally:
        for worker in live:
            worker.process.terminate()
        for worker in live:
            _end(worker)


def _start(work: Callable[[Any, Tell], Any], place: int) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, work), daemon=True)
    # A worker inherits the mask: Ctrl-C is for this process alone, which then ends the workers.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with _environment(ONE_THREAD):
            process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    theirs.close()  # so that the worker's death is the end of the file
    return _Worker(process, ours, place)


def _give(worker: _Worker, items: Sequence[Any]) -> None:
    with contextlib.suppress(OSError):  # it has died, which the next look at its connection tells
        worker.connection.send(items[worker.place])


def _end(worker: _Worker) -> None:
    worker.connection.close()
    worker.process.join(_GRACE_S)
    if worker.process.is_alive():
        worker.process.kill()
        worker.process.join()


def _death(worker: _Worker) -> str:
    _end(worker)
    code = worker.process.exitcode
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        memory = "; is there enough memory?" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{memory}"
    return f"its process ended with status {code}"


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve(connection: Connection, work: Callable[[Any, Tell], Any]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            item = connection.recv()
        except EOFError:
            return
        try:
            answer = ("done", work(item, lambda value: connection.send(("note", value))))
        except Exception as error:  # noqa: BLE001 - whatever it is, the item has failed and the next one is not
            answer = ("failed", _reason(error))
        connection.send(answer)


def _end_with_parent() -> None:
    """A killed parent's worker would go on beside the worker of the next one, in the same folder."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker has a parent"
    parent.join()
    os._exit(1)


def _reason(error: Exception) -> str:
    if isinstance(error, BantyError):
        return str(error)
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" (line {trace.tb_lineno} of {trace.tb_frame.f_code.co_filename})" if trace is not None else ""
    return f"{type(error).__name__}: {error}{place}"
