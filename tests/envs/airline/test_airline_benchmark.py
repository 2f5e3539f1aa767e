"""The airline benchmark's own functions, on few tasks and without looking at the time."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
from benchmarks import airline as benchmark


@pytest.fixture(scope="module")
def golden(tau2_folder: Path) -> benchmark.Golden:
    return benchmark.load(tau2_folder, num_tasks=8)


def test_the_golden_calls_are_those_of_the_published_tasks(tau2_folder: Path) -> None:
    whole = benchmark.load(tau2_folder)
    assert (len(whole.tasks), whole.num_calls) == (50, 142), "every golden call succeeds on the published database"
    assert whole.mix["get_reservation_details"] == 57
    assert sum(whole.mix.values()) == whole.num_calls


def test_every_way_plays_every_call(golden: benchmark.Golden) -> None:
    rates = benchmark.calls_per_s(golden, rounds=1, repetitions=2)
    assert rates.keys() == benchmark.WAYS.keys()
    assert all(len(each) == 2 and min(each) > 0 for each in rates.values())
    assert set(benchmark.shares_us(golden, rounds=1)) == {"reset", "parse and check", "tool and its text", "state hash"}


def test_a_reset_is_a_fresh_episode(golden: benchmark.Golden) -> None:
    assert len(benchmark.resets_us(golden, rounds=2)) == 2 * len(golden.tasks)
    assert 0 < benchmark.reset_kb(golden, num_live=20) < 10, "nothing of the database is copied"


def test_both_graders_call_the_golden_way_right(golden: benchmark.Golden, tau2_folder: Path) -> None:
    semantic = benchmark.load(tau2_folder, "semantic", num_tasks=8)
    for graded in (golden, semantic):
        assert benchmark.grading_ms(graded, repetitions=1).keys() == {task.data.task.id for task in graded.tasks}


def test_the_report_holds_every_figure(
    golden: benchmark.Golden, tau2_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = benchmark.Plain({"rows": list(range(10))})
    assert plain.grade()
    benchmark.report(golden, golden, plain, argparse.Namespace(rounds=1, repetitions=1, live=2))
    told = capsys.readouterr().out
    for name in (*benchmark.WAYS, "reset, plain", "memory of a reset, banty", "grading, plain", "grading by semantic"):
        assert name in told


def test_without_the_data_it_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["airline.py", "--data", str(tmp_path)])
    with pytest.raises(SystemExit, match="needs tau2-bench's airline data; give --data FOLDER"):
        benchmark.main()
