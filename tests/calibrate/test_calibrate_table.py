"""Presence, phi and its intervals: fixture F9, other formulas, simulation, and what is said where nothing varies."""

from __future__ import annotations

import numpy as np
import pytest

from banty.calibrate.table import Evidence, evidence_of, halves, joined, table_of
from banty.stats import phi_coefficient

F9_OUTCOMES = [1, 1, 0, 0, 1, 0, 0, 0]
F9_TASKS = ["a"] * 4 + ["b"] * 4
F9_PRESENCE = {
    "gold": ([1, 1, 0, 0, 1, 0, 1, 0], 1.0, 0.2, 0.774597, 0.801784),
    "soft": ([1, 0, 0, 1, 0, 1, 1, 0], 1 / 3, 0.6, -0.258199, -0.267261),
    "write": ([0, 0, 1, 0, 0, 1, 0, 0], 0.0, 0.4, -0.447214, -0.462910),
    "error": ([0, 0, 1, 1, 0, 0, 1, 0], 0.0, 0.6, -0.6, -0.714286),
    "read": ([1] * 8, 1.0, 1.0, None, None),
}


def present(columns: dict[str, list[int]], outcomes: list[int], tasks: list[str]) -> Evidence:
    labels = [[tier for tier, there in columns.items() if there[i]] for i in range(len(outcomes))]
    tokens = [[1.0] * len(names) for names in labels]
    return evidence_of(tuple(columns), labels, tokens, [bool(one) for one in outcomes], tasks)


def f9() -> Evidence:
    return present({tier: row[0] for tier, row in F9_PRESENCE.items()}, F9_OUTCOMES, F9_TASKS)


@pytest.mark.parametrize("tier", F9_PRESENCE)
def test_fixture_f9(tier: str) -> None:
    _, in_passes, in_fails, pooled, within = F9_PRESENCE[tier]
    row = {one.tier: one for one in table_of(f9())}[tier]
    assert (row.in_passes, row.in_fails) == pytest.approx((in_passes, in_fails))
    assert row.gap == pytest.approx(in_passes - in_fails)
    for found, expected in ((row.pooled.estimate, pooled), (row.within.estimate, within)):
        assert found is None if expected is None else found == pytest.approx(expected, abs=2e-5)
    assert (row.passes, row.fails) == (3, 5)


def test_the_phi_check_of_f9_and_the_room_of_statistics_agree() -> None:
    x, y = [1, 1, 1, 0, 0, 0, 0, 0], [1, 1, 0, 1, 0, 0, 0, 0]
    (row,) = table_of(present({"gold": x}, y, ["a"] * 8))
    assert row.pooled.estimate == pytest.approx(0.466667, abs=1e-6)
    assert row.pooled.estimate == pytest.approx(phi_coefficient(x, y))
    assert row.within.estimate == pytest.approx(row.pooled.estimate)  # one task: its mean is everybody's
    assert row.pooled.low is None  # and one task says nothing of other tasks


def test_counts_places_and_tokens() -> None:
    labels = [["read", "gold", "read"], ["message", "read"], ["message"]]
    tokens = [[5.0, 7.0, 3.0], [2.0, 1.0], [2.0]]
    found = evidence_of(("gold", "read", "message"), labels, tokens, [True, False, False], ["a", "a", "b"])
    gold, read, message = table_of(found)
    assert (gold.turns, read.turns, message.turns) == (1, 3, 2)
    assert read.share_in_passes == pytest.approx(2 / 3)
    assert (gold.first, read.first, message.first) == (1.0, 0.5, 0.0)
    assert (gold.tokens, read.tokens, message.tokens) == pytest.approx((0.35, 0.45, 0.2))
    assert (read.present, read.absent) == (2, 1)


def test_pooling_calls_good_what_only_marks_easy_tasks() -> None:
    """Two tasks, one easy where everybody says hello, one hard where nobody does: within a task it says nothing."""
    outcomes = [1, 1, 1, 0, 1, 0, 0, 0]
    hello = [1, 1, 0, 1, 0, 0, 0, 1]
    (row,) = table_of(present({"message": hello}, outcomes, F9_TASKS))
    assert row.pooled.estimate is not None
    assert row.within.estimate is not None
    assert row.pooled.estimate > row.within.estimate + 0.2


def test_a_count_correlates_where_presence_cannot() -> None:
    labels = [["read"] * n for n in (1, 2, 3, 4)]
    found = evidence_of(("read",), labels, [[1.0] * len(one) for one in labels], [True, True, False, False], ["a"] * 4)
    (row,) = table_of(found)
    assert row.within.estimate is None
    assert row.count_within == pytest.approx(np.corrcoef([1, 2, 3, 4], [1, 1, 0, 0])[0, 1])


def test_the_order_of_rollouts_does_not_matter_and_the_seed_does() -> None:
    found = _simulated(40, 4, 0.3, np.random.default_rng(5))
    order = np.random.default_rng(1).permutation(len(found.outcomes))
    shuffled = Evidence(
        found.tiers,
        found.counts[order],
        found.first[order],
        found.tokens[order],
        found.outcomes[order],
        tuple(found.tasks[i] for i in order),
        found.weights[order],
    )
    (first,), (second,), (third,) = table_of(found), table_of(shuffled), table_of(found, seed=1)
    assert (first.within.low, first.within.high) == pytest.approx((second.within.low, second.within.high), abs=1e-12)
    assert first.within.low != third.within.low
    assert first.within.estimate == third.within.estimate


def test_weights_count_rollouts() -> None:
    """A rollout of weight 2 is two rollouts, and one of weight 0 is none."""
    found = f9()
    doubled = joined([found.rows(np.arange(8) < 4), found.rows(np.arange(8) >= 4)], [2.0, 1.0])
    spelled = joined([found.rows(np.arange(8) < 4), found.rows(np.arange(8) < 4), found.rows(np.arange(8) >= 4)])
    for one, other in zip(table_of(doubled), table_of(spelled), strict=True):
        assert one.within.estimate == pytest.approx(other.within.estimate)
        assert one.pooled.estimate == pytest.approx(other.pooled.estimate)
        assert (one.passes, one.present) == (other.passes, other.present)
    alone = table_of(joined([found.rows(np.arange(8) < 4), found.rows(np.arange(8) >= 4)], [1.0, 0.0]))
    assert alone[0].within.estimate == pytest.approx(table_of(found.rows(np.arange(8) < 4))[0].within.estimate)


def test_nothing_varies_nothing_is_claimed() -> None:
    always = table_of(present({"read": [1] * 8, "gold": [0] * 8}, F9_OUTCOMES, F9_TASKS))
    assert [row.pooled.estimate for row in always] == [None, None]
    for row in table_of(present({"gold": [1, 0, 1, 0]}, [1, 1, 1, 1], ["a", "a", "b", "b"])):
        assert (row.pooled.estimate, row.within.estimate, row.in_fails) == (None, None, None)
    (same,) = table_of(present({"gold": [1, 0, 1, 0]}, [1, 0, 1, 0], ["a", "a", "b", "b"]))
    assert same.within.estimate == pytest.approx(1.0)
    assert same.within.low is None  # tasks that are all alike say nothing of how tasks differ
    (none,) = table_of(present({"gold": []}, [], []))
    assert none.pooled.estimate is None
    assert none.in_passes is None


def _simulated(num_tasks: int, trials: int, phi: float, generator: np.random.Generator) -> Evidence:
    """Presence and outcome with a known correlation inside every task, whose rates of both differ from task to task."""
    rate = generator.uniform(0.3, 0.7, size=num_tasks)
    rows: list[tuple[int, int, str]] = []
    for task, p in enumerate(rate.tolist()):
        joint = p * p + phi * p * (1 - p)  # both: equal rates, so every phi up to 1 can be had
        cells = [joint, p - joint, p - joint, 1 - 2 * p + joint]
        drawn = generator.choice(4, size=trials, p=cells).tolist()
        rows += [(int(cell in (0, 1)), int(cell in (0, 2)), f"task-{task}") for cell in drawn]
    presence, outcomes, tasks = (list(column) for column in zip(*rows, strict=True))
    return present({"gold": presence}, outcomes, tasks)


def test_a_known_phi_is_found() -> None:
    for phi in (-0.3, 0.0, 0.5):
        (row,) = table_of(_simulated(2000, 8, phi, np.random.default_rng(3)), num_resamples=200)
        assert row.within.estimate == pytest.approx(phi, abs=0.03)


def test_the_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """400 data sets of 40 tasks: 95 % intervals hold the truth in about 95 % of them (two standard errors are 2 %)."""
    generator = np.random.default_rng(11)
    truth = table_of(_simulated(20_000, 4, 0.3, generator), num_resamples=100)[0].within.estimate
    assert truth is not None
    held = 0
    for _ in range(400):
        (row,) = table_of(_simulated(40, 4, 0.3, generator), num_resamples=400)
        held += not row.within.excludes(truth)
    assert 0.91 <= held / 400 <= 0.98


def test_half_of_the_tasks_are_held_out() -> None:
    tasks = [f"t{i}" for i in range(7) for _ in range(3)]
    rank = [hash_ for i in (4, 1, 6, 0, 3, 5, 2) for hash_ in [i] * 3]
    kept = halves(tasks, rank)
    assert {task for task, first in zip(tasks, kept, strict=True) if first} == {"t3", "t1", "t6", "t4"}
    assert kept.sum() == 12


@pytest.mark.parametrize(("num_tasks", "silent", "given"), [(2, 0, False), (5, 0, False), (4, 40, False), (6, 0, True)])
def test_no_interval_of_fewer_tasks_than_can_carry_its_level(num_tasks: int, silent: int, given: bool) -> None:
    """Of a tier that means nothing, two tasks lie on one side of 0 every second time; silent tasks tell nothing."""
    generator = np.random.default_rng(3)
    drawn = [(generator.random(40) < 0.5, generator.random(40) < 0.5, f"t{at}") for at in range(num_tasks)]
    drawn += [(np.ones(4, dtype=bool), np.ones(4, dtype=bool), f"silent {at}") for at in range(silent)]
    presence = [int(each) for x, _, _ in drawn for each in x]
    outcomes = [int(each) for _, y, _ in drawn for each in y]
    tasks = [name for x, _, name in drawn for _ in x]
    (row,) = table_of(present({"read": presence}, outcomes, tasks), num_resamples=400)
    assert row.within.estimate is not None
    assert (row.within.low is not None) == given
    assert (row.pooled.low is not None) == (given or num_tasks + silent >= 6)
    if not given:
        assert f"{num_tasks} of {num_tasks + silent} tasks tell anything, and 95 % takes 6" in row.within.method


def test_what_means_nothing_seldom_has_an_interval_without_zero_however_few_the_tasks() -> None:
    generator = np.random.default_rng(4)
    for num_tasks in (2, 4, 6):
        wrong = 0
        for seed in range(60):
            x, y = ((generator.random(60 * num_tasks) < 0.5).astype(int).tolist() for _ in range(2))
            names = [f"t{at // 60}" for at in range(60 * num_tasks)]
            (row,) = table_of(present({"read": x}, y, names), seed=seed, num_resamples=200)
            wrong += row.within.low is not None and row.within.excludes(0.0)
        assert wrong <= 9, f"{wrong} of 60 with {num_tasks} tasks"
