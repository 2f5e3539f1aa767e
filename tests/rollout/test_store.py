"""Rollouts come back as they were written, and a part is there whole or not at all."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.rollout.make_store_v1 import FOLDER, rollouts
from tests.rollout.puppets import Chatter, Stage, Voice, assert_freed, assert_nothing_pending, task

from banty.errors import InputError, StoreError
from banty.records import (
    CallFault,
    CallResult,
    Message,
    Outcome,
    Rollout,
    Segment,
    Task,
    ToolCall,
    ToolSchema,
    Transform,
    Turn,
)
from banty.rollout import SCHEMA_VERSION, Cast, Store, collect, plan_groups


def query(sql: str) -> list[Any]:
    with duckdb.connect() as connection:
        rows: list[Any] = connection.execute(sql).fetchall()
        return rows


# Round trips.

TEXT = st.text(max_size=12)
COUNT = st.integers(0, 2**31 - 1)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
JSON_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)
OBJECT = st.dictionaries(TEXT, JSON_VALUE, max_size=2)
EFFECT = st.sampled_from(["read", "write", "terminal"])
FAULT_KIND = st.sampled_from(
    ["malformed", "truncated", "unknown_tool", "unknown_parameter", "missing_parameter", "bad_value"]
)


def some(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(strategy, max_size=2).map(tuple)


MESSAGE = st.builds(
    Message,
    st.sampled_from(["system", "user", "assistant", "tool"]),
    TEXT,
    some(st.builds(ToolCall, TEXT, OBJECT, TEXT)),
    some(st.builds(CallFault, FAULT_KIND, TEXT, COUNT, COUNT, TEXT, TEXT)),
    TEXT,
    TEXT,
)
SCHEMA = st.builds(ToolSchema, TEXT, TEXT, OBJECT, EFFECT)
CALL = st.builds(CallResult, TEXT, OBJECT, TEXT, EFFECT | st.just("none"), TEXT, TEXT, TEXT)


@st.composite
def segments(draw: st.DrawFn) -> Segment:
    sampled = draw(st.lists(COUNT, max_size=4))
    logprob = st.floats(max_value=0.0, allow_nan=False, allow_infinity=False, width=32)
    logprobs = draw(st.lists(logprob, min_size=len(sampled), max_size=len(sampled)))
    transform = draw(st.builds(Transform, NUMBER, NUMBER, COUNT, NUMBER, TEXT))
    return Segment(draw(some(COUNT)), sampled, logprobs, draw(st.booleans()), transform)


TURN = st.builds(
    Turn,
    index=COUNT,
    actor=TEXT,
    message=MESSAGE,
    trainable=st.booleans(),
    observation=some(MESSAGE),
    calls=some(CALL),
    request=some(MESSAGE),
    segment=st.none() | segments(),
    policy=TEXT,
    version=COUNT,
    finish=st.sampled_from(["stop", "length"]),
    prompt_tokens=COUNT,
    sampled_tokens=COUNT,
    cost_usd=NUMBER,
    policy_s=NUMBER,
    env_s=NUMBER,
    state_before=TEXT,
    state_after=TEXT,
    reward=st.none() | NUMBER,
)
OUTCOME = st.builds(
    Outcome,
    st.none() | st.booleans(),
    st.none() | NUMBER,
    st.dictionaries(TEXT, st.none() | NUMBER, max_size=2),
    TEXT,
)
ROLLOUT = st.builds(
    Rollout,
    rollout_id=TEXT,
    task=st.builds(Task, TEXT, TEXT, COUNT, st.integers(0, 2**63 - 1), OBJECT),
    status=st.sampled_from(["completed", "truncated", "errored"]),
    cause=st.sampled_from(["", "turns", "budget", "judge", "deadline"]),
    detail=TEXT,
    outcome=OUTCOME,
    opening=some(MESSAGE),
    tools=some(SCHEMA),
    turns=some(TURN).map(
        lambda turns: tuple(dataclasses.replace(turn, index=place) for place, turn in enumerate(turns))
    ),
    group_id=TEXT,
    trial=COUNT,
    seed=st.integers(0, 2**63 - 1),
    policy=TEXT,
    version=COUNT,
    root_id=TEXT,
    parent_id=TEXT,
    depth=COUNT,
    call_index=COUNT,
    duration_s=NUMBER,
)


@given(st.lists(ROLLOUT, max_size=3, unique_by=lambda rollout: rollout.rollout_id))
@settings(max_examples=15, deadline=None)
def test_rollouts_come_back_equal(written: list[Rollout]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        store.write("part", written)
        assert list(store.read()) == written


def test_what_sequences_a_policy_gives_does_not_matter(tmp_path: Path) -> None:
    """Lists, as engines give, and tuples make equal segments; both come back equal."""
    listed, tupled = Segment([1, 2], [3], [-0.5], True), Segment((1, 2), (3,), (-0.5,), True)
    assert listed == tupled
    assert hash(listed) == hash(tupled)
    turn = Turn(0, "agent", Message("assistant"), segment=listed)
    rollout = Rollout("r", task(), "completed", turns=(turn,))
    store = Store(tmp_path)
    store.write("part", [rollout])
    assert list(store.read()) == [rollout]


def test_task_data_is_not_stored(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with_data = Task("desk", "test", 1, 2, {"level": 3}, data={"gold": "secret"})
    store.write("part", [Rollout("r", with_data, "completed")])
    (rollout,) = store.read()
    assert rollout.task.data is None
    assert rollout.task == with_data
    assert rollout.task.pin == with_data.pin


def test_the_tasks_of_root_rollouts_are_read_by_themselves(tmp_path: Path) -> None:
    store = Store(tmp_path)
    every = rollouts()
    store.write("one", every)
    store.write("two", every)
    wanted = {rollout.task.id: rollout.task for rollout in every if rollout.depth == 0}
    assert len(wanted) < len(every)
    found = store.tasks()
    assert {task.id: task for task in found} == wanted
    assert [dict(task.public) for task in found] == [dict(wanted[task.id].public) for task in found]
    (tmp_path / "two" / "rollouts.parquet").write_bytes(b"half")
    with pytest.raises(StoreError, match="could not read"):
        store.tasks()


def test_parts_are_read_in_order_of_their_names_or_as_asked(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name in ("step-000002", "step-000001"):
        store.write(name, [Rollout(name, task(), "completed")])
    assert store.parts() == ["step-000001", "step-000002"]
    assert [rollout.rollout_id for rollout in store.read()] == ["step-000001", "step-000002"]
    assert [rollout.rollout_id for rollout in store.read(["step-000002"])] == ["step-000002"]


def test_a_part_is_replaced(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name in ("old", "new"):
        store.write("part", [Rollout(name, task(), "completed")])
    assert [rollout.rollout_id for rollout in store.read()] == ["new"]
    assert_only(tmp_path, "part")


def test_half_a_surrogate_pair_does_not_end_a_run(tmp_path: Path) -> None:
    r"""UTF-8 cannot hold what a model wrote as "\ud83d". JSON columns keep it, text columns show it."""
    half = "\ud83d"
    call = ToolCall("find", {"title": half})
    result = CallResult("find", {"title": half}, f"no book {half}", "read", "tool")
    turn = Turn(0, "agent", Message("assistant", half, (call,)), observation=(Message("tool", half),), calls=(result,))
    rollout = Rollout("r", task(), "completed", turns=(turn,))
    store = Store(tmp_path)
    store.write("part", [rollout])
    (again,) = store.read()
    assert again.turns[0].message == turn.message
    assert again.turns[0].observation == turn.observation
    assert again.turns[0].calls[0].arguments == {"title": half}
    assert again.turns[0].calls[0].output == r"no book \ud83d"


# Versions.


def test_every_table_says_its_version_in_metadata_and_column(tmp_path: Path) -> None:
    Store(tmp_path).write("part", rollouts())
    for name in ("rollouts", "turns", "segments"):
        table = pq.read_table(tmp_path / "part" / f"{name}.parquet")
        assert table.num_rows > 0
        assert table.schema.metadata[b"banty.schema_version"] == str(SCHEMA_VERSION).encode()
        assert table.schema.metadata[b"banty.table"] == name.encode()
        assert set(table.column("schema_version").to_pylist()) == {SCHEMA_VERSION}


def test_version_1_is_still_read() -> None:
    assert sorted(path.name for path in FOLDER.rglob("*.parquet")) == [
        "rollouts.parquet",
        "segments.parquet",
        "turns.parquet",
    ]
    assert list(Store(FOLDER).read()) == rollouts()


def rewritten(table: pa.Table, version: int, path: Path) -> None:
    """The table as a Banty of another schema version would have written it."""
    if "schema_version" in table.column_names:
        column = pa.array([version] * table.num_rows, pa.int32())
        table = table.set_column(table.column_names.index("schema_version"), "schema_version", column)
    pq.write_table(table.replace_schema_metadata({"banty.schema_version": str(version)}), path)


@pytest.mark.parametrize("num_rollouts", [0, 3])
@pytest.mark.parametrize("others", [True, False])
def test_a_newer_version_says_what_to_do(tmp_path: Path, num_rollouts: int, others: bool) -> None:
    """Also with no rows, and when the newer version has other tables."""
    Store(tmp_path).write("part", rollouts()[:num_rollouts])
    for path in (tmp_path / "part").iterdir():
        rewritten(pq.read_table(path), 2, path)
        if not others and path.name != "rollouts.parquet":
            path.rename(path.with_name(f"new-{path.name}"))
    with pytest.raises(StoreError, match="newer") as caught:
        list(Store(tmp_path).read())
    assert "schema 2" in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_part_that_another_tool_has_copied_is_read_by_its_column(tmp_path: Path) -> None:
    Store(tmp_path).write("part", rollouts())
    for path in list((tmp_path / "part").iterdir()):
        query(f"copy (from '{path}') to '{path}.copy' (format parquet)")
        path.with_name(f"{path.name}.copy").rename(path)
    assert not (pq.read_schema(tmp_path / "part" / "turns.parquet").metadata or {}).get(b"banty.schema_version")
    assert list(Store(tmp_path).read()) == rollouts()


# What is no store.


def no_store_files(folder: Path) -> None:
    (folder / "README.md").write_text("hello")


def no_store_folders(folder: Path) -> None:
    (folder / "docs").mkdir()


def no_store_foreign_parquet(folder: Path) -> None:
    (folder / "part").mkdir()
    pq.write_table(pa.table({"a": [1, 2]}), folder / "part" / "rollouts.parquet")


def no_store_no_parquet(folder: Path) -> None:
    (folder / "part").mkdir()
    (folder / "part" / "rollouts.parquet").write_text("id,status\n1,completed\n")


def no_store_table_missing(folder: Path) -> None:
    Store(folder).write("part", rollouts())
    (folder / "part" / "turns.parquet").unlink()


def no_store_cut_short(folder: Path) -> None:
    Store(folder).write("part", rollouts())
    path = folder / "part" / "turns.parquet"
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    "make",
    [
        no_store_files,
        no_store_folders,
        no_store_foreign_parquet,
        no_store_no_parquet,
        no_store_table_missing,
        no_store_cut_short,
    ],
)
def test_what_is_no_store_is_said_to_be_none(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path)
    with pytest.raises(StoreError) as caught:
        list(Store(tmp_path).read())
    assert str(tmp_path) in str(caught.value)


def test_a_store_that_nothing_was_written_to_yet_is_empty(tmp_path: Path) -> None:
    assert list(Store(tmp_path / "later").read()) == []
    assert Store(tmp_path / "later").parts() == []
    assert not (tmp_path / "later").exists()
    assert list(Store(tmp_path).read()) == []


def test_a_file_in_the_stores_place(tmp_path: Path) -> None:
    path = tmp_path / "store"
    path.write_text("")
    with pytest.raises(StoreError, match="store"):
        Store(path).write("part", rollouts())
    with pytest.raises(StoreError, match="store"):
        list(Store(path).read())


def test_a_part_that_is_not_there(tmp_path: Path) -> None:
    Store(tmp_path).write("part", rollouts())
    with pytest.raises(StoreError, match="other"):
        list(Store(tmp_path).read(["other"]))


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "../up", "{tmp}/absolute"])
def test_names_that_no_part_may_have(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="part"):
        # Inside the temporary folder whatever happens: a store without this check would replace the folder it names.
        Store(tmp_path / "store").write(name.format(tmp=tmp_path), rollouts())
    assert list(tmp_path.iterdir()) == []


# Read by others.


def test_duckdb_reads_the_files(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write("part-000", rollouts())
    store.write("part-001", [Rollout("r", task(), "completed")])
    counts = query(f"select status, count(*) from '{tmp_path}/*/rollouts.parquet' group by all order by all")
    assert counts == [("completed", 2), ("errored", 1), ("truncated", 1)]
    scored = query(f"select avg(reward), count(success) from '{tmp_path}/*/rollouts.parquet'")
    assert scored == [(0.375, 2)], "what is unscored counts neither as a failure nor as 0"
    joined = query(
        f"""select r.split, t.actor, len(t.calls), t.calls[1].name, len(s.sampled_ids)
        from '{tmp_path}/*/rollouts.parquet' r
        join '{tmp_path}/*/turns.parquet' t using (rollout_id)
        left join '{tmp_path}/*/segments.parquet' s using (rollout_id, turn_index) order by t.turn_index"""
    )
    assert joined == [
        ("test", "agent", 2, "find", 2),
        ("test", "user", 0, None, None),
        ("test", "agent", 0, None, 2),
    ]


def test_pandas_reads_the_files(tmp_path: Path) -> None:
    Store(tmp_path).write("part", rollouts())
    frame = pd.read_parquet(tmp_path / "part" / "rollouts.parquet")
    assert list(frame["status"]) == ["completed", "truncated", "errored"]
    assert frame["reward"].isna().tolist() == [False, False, True]
    assert frame["success"].tolist() == [True, False, None]
    turns = pd.read_parquet(tmp_path / "part" / "turns.parquet")
    assert turns["num_errors"].tolist() == [1, 0, 0]
    assert json.loads(turns["message_json"][1])["content"] == "Danke 🙂"
    assert list(pd.read_parquet(tmp_path / "part" / "segments.parquet")["sampled_ids"][0]) == [4, 5]


# Full disks and other endings.


def assert_only(folder: Path, *parts: str) -> None:
    """Nothing but these parts, whole, is in a store: no temporary file, no half part."""
    assert sorted(entry.name for entry in folder.iterdir()) == sorted(parts)
    for part in parts:
        names = sorted(entry.name for entry in (folder / part).iterdir())
        assert names == ["rollouts.parquet", "segments.parquet", "turns.parquet"]


def failing_at(number: int, error: BaseException) -> Callable[..., None]:
    """`write_table` that fails in the middle of the table of this number, 0 for the first."""
    written = 0

    def write_table(table: pa.Table, file: Any, **options: Any) -> None:
        nonlocal written
        if written == number:
            file.write(b"PAR1 and not much more")
            raise error
        written += 1
        pq_write_table(table, file, **options)

    return write_table


pq_write_table = pq.write_table
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("part", ["part-001", "part-000"])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, part: str) -> None:
    """In the middle of each table, of a new part and of one that replaces another."""
    store = Store(tmp_path)
    store.write("part-000", rollouts())
    monkeypatch.setattr(pq, "write_table", failing_at(number, FULL))
    with pytest.raises(StoreError, match="No space left on device") as caught:
        store.write(part, [Rollout("new", task(), "completed")])
    assert "1 finished parts are kept" in str(caught.value)
    assert isinstance(caught.value, OSError)
    assert list(store.read()) == rollouts()
    assert_only(tmp_path, "part-000")


def test_a_full_disk_before_anything_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pq, "write_table", failing_at(0, FULL))
    with pytest.raises(StoreError, match="No space left"):
        Store(tmp_path / "store").write("part", rollouts())
    assert_only(tmp_path / "store")


REALLY_FULL = """
import random, resource, signal, sys
from banty.errors import StoreError
from banty.records import Rollout, Task
from banty.rollout import Store

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = Store(sys.argv[1])
noise = [
    Rollout(str(n), Task("stage", "test", n, 0), "completed", detail=random.randbytes(500).hex())
    for n in range(300)
]
store.write("part-000", noise[:3])
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
for name in ("part-001", "part-000"):
    try:
        store.write(name, noise)
    except StoreError as error:
        print(error)
print([rollout.rollout_id for rollout in store.read()])
"""


def test_a_really_full_disk(tmp_path: Path) -> None:
    """The kernel itself refuses a file beyond 30 kB."""
    done = subprocess.run(
        [sys.executable, "-c", REALLY_FULL, tmp_path], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    first, second, kept = done.stdout.splitlines()
    assert "part-001" in first
    assert "part-000" in second
    assert "File too large" in first
    assert kept == "['0', '1', '2']"
    assert_only(tmp_path, "part-000")


def test_a_failed_swap_puts_the_earlier_part_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    store.write("part", rollouts())
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if (self / "rollouts.parquet").exists() and self.name == "new":
            raise FULL
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(StoreError):
        store.write("part", [Rollout("new", task(), "completed")])
    monkeypatch.undo()
    assert list(store.read()) == rollouts()
    assert_only(tmp_path, "part")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError(), pa.ArrowInvalid("a bug")])
def test_any_other_ending_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    store = Store(tmp_path)
    store.write("part-000", rollouts())
    monkeypatch.setattr(pq, "write_table", failing_at(1, error))
    with pytest.raises(type(error)):
        store.write("part-001", rollouts())
    assert_only(tmp_path, "part-000")


def test_nobody_sees_a_part_before_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a reader nor DuckDB's `STORE/*/rollouts.parquet`, at any moment of the writing."""
    store = Store(tmp_path)
    store.write("part-000", rollouts())
    looks = 0

    def write_table(table: pa.Table, file: Any, **options: Any) -> None:
        nonlocal looks
        file.write(b"PAR1 and not much more")
        file.flush()
        looks += 1
        assert store.parts() == ["part-000"]
        assert list(store.read()) == rollouts()
        for name in ("rollouts", "turns", "segments"):
            query(f"select * from '{tmp_path}/*/{name}.parquet'")
        file.seek(0)
        pq_write_table(table, file, **options)

    monkeypatch.setattr(pq, "write_table", write_table)
    store.write("part-001", [])
    assert looks == 3
    assert store.parts() == ["part-000", "part-001"]


KILLED = """
import os, sys
import pyarrow.parquet as pq
from banty.rollout import Store

writer, written = pq.write_table, []

def write_table(table, file, **options):
    if written:
        file.write(b"PAR1 and not much more")
        file.flush()
        os._exit(9)
    written.append(1)
    writer(table, file, **options)

pq.write_table = write_table
Store(sys.argv[1]).write("part-001", [])
"""


def test_a_killed_writer_leaves_no_part(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write("part-000", rollouts())
    assert subprocess.run([sys.executable, "-c", KILLED, tmp_path], timeout=60, check=False).returncode == 9
    assert store.parts() == ["part-000"]
    assert list(store.read()) == rollouts()
    for name in ("rollouts", "turns", "segments"):
        query(f"select * from '{tmp_path}/*/{name}.parquet'")
    store.write("part-001", rollouts()[2:])
    assert len(list(store.read())) == 4
    assert_only(tmp_path, "part-000", "part-001")


@pytest.mark.parametrize("exact", [True, False])
def test_a_collection_that_writes_to_a_full_disk_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exact: bool
) -> None:
    store = Store(tmp_path)

    def on_finished(tree: tuple[Rollout, ...]) -> None:
        if len(store.parts()) == 2:
            monkeypatch.setattr(pq, "write_table", failing_at(1, FULL))
        store.write(f"part-{tree[0].task.index:03d}", tree)

    async def run() -> None:
        stage = Stage(lambda task: Chatter(2))
        cast = Cast(Voice())
        specs = plan_groups([task(index) for index in range(10)], 1, seed=0)
        with pytest.raises(StoreError, match="No space left"):
            await collect(specs, stage, cast, concurrency=3, exact=exact, on_finished=on_finished)
        assert_freed(stage, cast)
        assert_nothing_pending()

    async def guarded() -> None:
        async with asyncio.timeout(3):
            await run()

    asyncio.run(guarded())
    assert_only(tmp_path, "part-000", "part-001")
    assert [rollout.status for rollout in store.read()] == ["completed", "completed"]
