"""How many cores a run uses: chosen by the clock, safe where it is a near thing, and nothing left behind."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from tests.tiny import FAMILIES, Family, tiny_model

from banty.models import threads
from banty.models.loading import LanguageModel
from banty.models.slots import Grid, Stream
from banty.models.threads import Pace, measured_threads
from banty.policies.engine import LocalEngine, TokenRequest
from banty.records import SamplingParams

ON_CPU = cast(LanguageModel, SimpleNamespace(device=torch.device("cpu")))


@pytest.fixture(autouse=True)
def setting() -> Iterator[int]:
    """Torch's own number of threads, which has to be the same after each test."""
    before = torch.get_num_threads()
    yield before
    after = torch.get_num_threads()
    torch.set_num_threads(before)
    assert after == before


def cores(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(count)))


def timed(monkeypatch: pytest.MonkeyPatch, seconds: Mapping[int, float]) -> list[int]:
    """Passes that take so long with so many threads; which were timed."""
    asked: list[int] = []

    def pass_s(model: LanguageModel, count: int) -> float:
        torch.set_num_threads(count)
        asked.append(count)
        return seconds[count]

    monkeypatch.setattr(threads, "_pass_s", pass_s)
    return asked


def test_one_core_is_one_thread_and_nothing_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    cores(monkeypatch, 1)
    asked = timed(monkeypatch, {})
    assert measured_threads(ON_CPU) == 1
    assert asked == []


@pytest.mark.parametrize(
    ("alone", "together", "chosen"), [(1.0, 0.5, 4), (1.0, 0.89, 4), (1.0, 0.91, 1), (1.0, 1.0, 1), (0.002, 3.0, 1)]
)
def test_more_threads_have_to_win_by_a_tenth(
    alone: float, together: float, chosen: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cores(monkeypatch, 4)
    asked = timed(monkeypatch, {1: alone, 4: together})
    assert measured_threads(ON_CPU) == chosen
    assert sorted(asked) == [1, 4]


def test_a_measurement_that_fails_leaves_the_setting_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    cores(monkeypatch, 3)
    timed(monkeypatch, {1: 1.0})
    with pytest.raises(KeyError):
        measured_threads(ON_CPU)


@pytest.mark.parametrize(("count", "chosen"), [(6, 6), (1, 1), (None, 1)])
def test_where_there_is_no_affinity_the_machines_cores_count(
    count: int | None, chosen: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: count)
    timed(monkeypatch, {1: 1.0, 6: 0.2})
    assert measured_threads(ON_CPU) == chosen


def test_a_model_that_is_not_on_the_cpu_keeps_the_setting(monkeypatch: pytest.MonkeyPatch, setting: int) -> None:
    cores(monkeypatch, 8)
    asked = timed(monkeypatch, {})
    assert measured_threads(cast(LanguageModel, SimpleNamespace(device=torch.device("cuda")))) == setting
    assert asked == []


def test_a_pass_gives_every_row_a_token_with_the_threads_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock says 100 s for the first pass, which builds kernels, and 1 to 7 s for those that count."""
    model = tiny_model("qwen3")
    seen: list[tuple[int, int]] = []
    spans = (100.0, 7.0, 1.0, 4.0, 2.0, 3.0)
    now = 0.0

    def hidden_states(mixer: Any, ids: torch.Tensor, layers: Sequence[int]) -> None:
        nonlocal now
        assert not layers
        assert not torch.is_grad_enabled()
        assert mixer.positions.tolist() == [0] * 32
        now += spans[len(seen)]
        seen.append((len(ids), torch.get_num_threads()))

    for kind in (Stream, Grid):
        monkeypatch.setattr(kind, "hidden_states", hidden_states)
    monkeypatch.setattr(threads, "time", SimpleNamespace(perf_counter=lambda: now))
    before = torch.get_num_threads()
    try:
        assert threads._pass_s(model, 2) == 3.0
    finally:
        torch.set_num_threads(before)
    assert seen == [(32, 2)] * 6


@pytest.mark.parametrize("family", FAMILIES)
def test_a_real_pass_takes_time_and_changes_nothing(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(family)
    before = {name: value.detach().clone() for name, value in model.module.named_parameters()}
    assert 0.0 < threads._pass_s(model, 1) < 10.0
    assert all(torch.equal(value, before[name]) for name, value in model.module.named_parameters())
    cores(monkeypatch, 1)
    assert measured_threads(model) == 1


def test_pace_is_lost_after_several_passes_far_slower_than_those_of_their_size() -> None:
    pace = Pace()
    for _ in range(Pace._enough):
        assert not pace.is_lost(64, 0.01)
        assert not pace.is_lost(4096, 0.5)
    assert [pace.is_lost(64, 0.1) for _ in range(Pace.patience)] == [False] * (Pace.patience - 1) + [True]
    assert not pace.is_lost(64, 0.012), "what runs at its pace again has not lost it"
    assert [pace.is_lost(64, 0.1) for _ in range(Pace.patience - 1)] == [False] * (Pace.patience - 1)
    assert not pace.is_lost(4096, 0.6), "slow for its size, not slower than another"


def test_slowness_is_not_learnt_as_what_is_usual() -> None:
    pace = Pace()
    for _ in range(Pace._enough):
        pace.is_lost(64, 0.01)
    lost = []
    for _ in range(Pace.patience):
        lost += [pace.is_lost(64, 1.0), pace.is_lost(999, 1.0)]
    assert lost[-2:] == [True, True], "a size never seen before neither ends the streak nor is learnt while it lasts"
    assert not pace._usual[999]


def test_pace_says_nothing_before_it_knows_what_is_usual() -> None:
    pace = Pace()
    assert not any(pace.is_lost(64, seconds) for seconds in [0.01, *[5.0] * (Pace._enough - 1)])


def test_an_engine_that_lost_its_pace_goes_down_to_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    clock = iter(range(10_000_000))

    async def answers(tokens: int) -> None:
        request = TokenRequest("one", (1, 2, 3), frozenset(), SamplingParams(), tokens)
        await engine.generate(request)
        await engine.release("one")

    engine = LocalEngine(tiny_model("qwen3"))
    monkeypatch.setattr("banty.policies.engine.time.perf_counter", lambda: next(clock))
    asyncio.run(answers(20))
    assert asked == []
    clock = iter(range(0, 10_000_000_000, 1000))
    asyncio.run(answers(20))
    assert set(asked) == {1}
