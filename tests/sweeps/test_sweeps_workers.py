"""Workers: they stay, they fail alone, and they end with whoever started them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.sweeps.puppets import work

from banty.sweeps import Event, work_through

ROOT = Path(__file__).parents[2]


def outcomes(items: Sequence[Any], jobs: int = 1) -> list[tuple[str, Any]]:
    events = [event for event in work_through(work, items, jobs) if event.kind != "note"]
    return [(kind, value) for _, kind, value in sorted(events)]


def test_every_item_is_done_once_and_speaks_while_it_is() -> None:
    events = list(work_through(work, [5, 6, 7], 2))
    assert sorted(event for event in events if event.kind == "note") == [
        Event(place, "note", ("told", place + 5)) for place in range(3)
    ]
    assert sorted(event for event in events if event.kind == "done") == [
        Event(place, "done", place + 5) for place in range(3)
    ]
    assert list(work_through(work, [], 2)) == []


def test_a_worker_stays_and_has_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    (_, first), (_, second), threads = outcomes(["pid", "pid", "threads"])
    assert first == second != os.getpid()
    assert threads == ("done", "1")
    assert os.environ["OMP_NUM_THREADS"] == "7", "the process that asks keeps its own"


def test_what_raises_or_dies_fails_alone() -> None:
    found = outcomes(["input error", "bug", "killed", "exits", "killed", "interrupted", 9])
    bug = found.pop(1)
    assert found == [
        ("failed", "this is no input"),
        ("failed", "its process was ended by SIGKILL; is there enough memory?"),
        ("failed", "its process ended with status 3"),
        ("failed", "its process was ended by SIGKILL; is there enough memory?"),
        ("done", "went on"),
        ("done", 9),
    ]
    assert bug[0] == "failed"
    assert bug[1].startswith("IndexError: list index out of range (line ")
    assert bug[1].endswith("puppets.py)")


def _gone(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
        return state.stdout.strip()[:1] in ("", "Z")
    return True


def _wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 30
    while not _gone(pid):
        assert time.monotonic() < deadline, "the worker is still there"
        time.sleep(0.02)


def test_leaving_early_ends_the_workers(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    with contextlib.closing(work_through(work, [("write and wait", str(file))], 1)) as events:
        assert next(events) == Event(0, "note", "waiting")
    _wait_until_gone(int(file.read_text()))


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    script = (
        "from banty.sweeps import work_through\n"
        "from tests.sweeps.puppets import work\n"
        f"for event in work_through(work, [('write and wait', {str(file)!r})], 1): print(event.value, flush=True)\n"
    )
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path}
    with subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "waiting\n"
        parent.kill()
    _wait_until_gone(int(file.read_text()))
