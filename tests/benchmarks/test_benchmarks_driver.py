"""The driver's benchmark on a few episodes: it measures what it says, and all its ways play the same episodes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from benchmarks import driver_overhead
from benchmarks.driver_overhead import NUM_TURNS, TOKENS, TRIALS, WAYS, alternate, batched, free

from banty.records import Rollout
from banty.rollout import Store

LATENCY_S = 0.004


def test_every_way_plays_every_turn_once_a_repetition() -> None:
    found = alternate(driver_overhead.plan(2 * TRIALS), 4, 0.0, repetitions=2)
    assert list(found) == list(WAYS)
    assert [len(runs) for runs in found.values()] == [2] * len(WAYS)
    assert {run.num_turns for runs in found.values() for run in runs} == {2 * TRIALS * NUM_TURNS}


@pytest.mark.parametrize("name", ["exact order", "exact order, uneven answers", "free-running"])
def test_the_drivers_ways_record_whole_episodes(name: str) -> None:
    rollouts = WAYS[name](driver_overhead.plan(TRIALS), 4, 0.0).rollouts
    assert len(rollouts) == TRIALS
    for rollout in rollouts:
        assert [call.name for turn in rollout.turns for call in turn.calls] == ["look"] * 5 + ["finish"]
        assert rollout.outcome.success


def test_the_ideal_is_the_sum_of_the_waits() -> None:
    """Sixteen episodes, four at a time, are four rounds of six answers; three at a time, six rounds."""
    specs = driver_overhead.plan(2 * TRIALS)
    for way in (WAYS["exact order"], WAYS["free-running"], WAYS["free-running, no driver"]):
        assert way(specs, 4, LATENCY_S).ideal_s == pytest.approx(4 * NUM_TURNS * LATENCY_S)
    assert free(specs, 3, LATENCY_S).ideal_s == pytest.approx(6 * NUM_TURNS * LATENCY_S)


def test_a_batch_engine_blocks_for_its_ideal_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks: list[float] = []
    monkeypatch.setattr(driver_overhead, "block_until", ticks.append)
    for uneven in (False, True):
        ticks.clear()
        run = batched(driver_overhead.plan(TRIALS), TRIALS, LATENCY_S, uneven=uneven)
        assert len(ticks) * LATENCY_S / TOKENS == pytest.approx(run.ideal_s)


def test_uneven_answers_share_ticks_in_the_same_way_every_time() -> None:
    specs = driver_overhead.plan(TRIALS)
    runs = [batched(specs, TRIALS, LATENCY_S, uneven=True) for _ in range(3)]
    assert len({run.ideal_s for run in runs}) == 1
    ticks = runs[0].ideal_s / LATENCY_S * TOKENS
    assert NUM_TURNS * TOKENS // 2 < ticks < NUM_TURNS * TOKENS * 3 // 2


def test_what_follows_sampling_is_measured_on_whole_rollouts(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[list[Rollout]] = []

    class Watched(Store):
        def write(self, part: str, rollouts: list[Rollout]) -> Path:  # type: ignore[override]
            path = super().write(part, rollouts)
            written.append(list(self.read([part])))
            return path

    monkeypatch.setattr(driver_overhead, "Store", Watched)
    rollouts = free(driver_overhead.plan(TRIALS), TRIALS, 0.0).rollouts
    found = driver_overhead.after_sampling(rollouts, 2)
    assert [len(spent) for spent in found.values()] == [2, 2]
    assert all(each > 0 for spent in found.values() for each in spent)
    assert [[one.rollout_id for one in part] for part in written] == [[one.rollout_id for one in rollouts]] * 2
    assert all(turn.segment is not None for part in written for one in part for turn in one.turns)


def test_an_episode_that_fails_stops_the_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(self: driver_overhead.Endpoint, request: object) -> None:
        await asyncio.sleep(0)
        raise RuntimeError("no such host")

    monkeypatch.setattr(driver_overhead.Endpoint, "sample", broken)
    with pytest.raises(AssertionError, match="an episode failed"):
        free(driver_overhead.plan(TRIALS), TRIALS, 0.0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--episodes", "12"], "a multiple of 8"),
        (["--latencies", "0"], "seconds above 0"),
        (["--repetitions", "0"], "at least 1"),
    ],
)
def test_wrong_settings_are_refused(
    arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["driver_overhead.py", *arguments])
    with pytest.raises(SystemExit):
        driver_overhead.main()
    assert words in capsys.readouterr().err


def test_the_command_prints_a_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ["--latencies", "0.002", "--episodes", "8", "--concurrency", "8", "--repetitions", "1"]
    monkeypatch.setattr("sys.argv", ["driver_overhead.py", *settings])
    driver_overhead.main()
    shown = capsys.readouterr().out
    assert "8 episodes of 6 turns, 8 live, 40 tokens an answer, n = 1" in shown
    for name in (*WAYS, "group, credit, pack", "store"):
        assert f"\n{name} " in shown
