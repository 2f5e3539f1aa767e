"""A step played through by ticks, by hand."""

from __future__ import annotations

import pytest
from tests.perf.test_perf_shape import QWEN3_4B

from banty.errors import InputError
from banty.perf import DEVICES, EpisodeShape, UnitCosts, Workload, shape_of
from banty.perf.plan import assumed_costs, memory_bytes, sampling

COSTS = UnitCosts(decode=((1, 1.0), (3, 2.0)), prefill_pass_s=10.0, prefill_token_s=0.5, train_token_s=0.1, turn_s=0.25)
SHORT = EpisodeShape(prompt=20, shared=12, turns=((2, 4), (1, 0)))
LONG = EpisodeShape(prompt=20, shared=12, turns=((5, 0),))


def test_costs_between_what_was_measured_are_interpolated() -> None:
    assert [COSTS.decode_s(rows) for rows in (1, 2, 3, 9)] == [1.0, 1.5, 2.0, 5.0], "beyond, as it rose last"


def test_two_episodes_of_a_group_by_hand() -> None:
    """Ticks: both, both (one turn ends), both (the short one ends), the long one alone twice."""
    found = sampling([SHORT, LONG], concurrency=2, group_size=2, costs=COSTS)
    assert (found.decode_passes, found.sampled_tokens) == (5, 8)
    assert found.decode_s == pytest.approx(3 * 1.5 + 2 * 1.0)
    assert found.prefill_tokens == 20 + 1 + 4, "a group's prompt once, its last token each, what was observed"
    assert found.prefill_s == pytest.approx(2 * 10.0 + 0.5 * 25)
    assert found.turns_s == pytest.approx(3 * 0.25)
    assert found.seconds == pytest.approx(found.decode_s + found.prefill_s + found.turns_s)


def test_episodes_that_find_no_room_wait() -> None:
    found = sampling([LONG, LONG], concurrency=1, group_size=1, costs=COSTS)
    assert (found.decode_passes, found.decode_s) == (10, 10.0)
    assert found.prefill_tokens == 20 + 8, "the beginning that all share is there already"


def test_what_a_step_trains() -> None:
    whole = Workload((SHORT, LONG), num_groups=2, group_size=2, concurrency=4)
    assert len(whole.step) == 4
    assert whole.trained_tokens == 12 + 2 * (27 - 12) + 2 * (25 - 12)
    assert Workload((SHORT, LONG), 2, 2, 4, distinct=0.5).trained_tokens == 12 + 28
    assert (SHORT.sampled, SHORT.length) == (3, 27)
    with pytest.raises(InputError, match="lengths"):
        Workload((), 1, 1, 1)


def test_a_bigger_batch_on_another_machine_costs_more_and_less_a_row() -> None:
    shape = shape_of(QWEN3_4B)
    episode = EpisodeShape(prompt=5500, shared=5000, turns=((166, 60),) * 12)
    work = Workload((episode,), 16, 8, 128)
    costs = assumed_costs(DEVICES["h200"], shape, work, whole=False, recompute=True)
    assert costs.decode_s(1) < costs.decode_s(128) < 128 * costs.decode_s(1)
    slower = assumed_costs(DEVICES["a100"], shape, work, whole=False, recompute=True)
    assert slower.train_token_s > costs.train_token_s
    whole = assumed_costs(DEVICES["h200"], shape, work, whole=True, recompute=True)
    assert whole.train_token_s > costs.train_token_s


def test_memory_by_hand() -> None:
    shape = shape_of(QWEN3_4B)
    work = Workload((EpisodeShape(100, 100, ((50, 0),)),), 2, 2, concurrency=3)
    options = {"micro_batch_tokens": 10_000, "recompute": False}
    adapter = memory_bytes(shape, work, state_bytes=16 * 1000, **options)  # type: ignore[arg-type]
    assert adapter > shape.weight_bytes + 3 * 150 * 147_456
    full = memory_bytes(shape, work, state_bytes=16 * shape.num_weights, **options)  # type: ignore[arg-type]
    assert full - adapter == 16 * (shape.num_weights - 1000)
