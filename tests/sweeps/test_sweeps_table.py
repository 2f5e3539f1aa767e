"""The table against arithmetic by hand, and what it says of cells that are not there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from scipy import stats
from tests.sweeps.by_hand import as_it_is, line, measured, planned, stored, sweep_of

from banty.errors import InputError
from banty.sweeps import PlannedArm, Results, SweepTable, draw, failure_line

SEEDS = range(5)
BASE = dict(enumerate([0.50, 0.60, 0.70, 0.80, 0.90]))
BETTER = dict(enumerate([0.60, 0.80, 0.80, 1.00, 1.00]))


def drawn(folder: Path, *arms: tuple[PlannedArm, Mapping[int, float]]) -> SweepTable:
    results = {arm.name: stored(folder, arm, afters) for arm, afters in arms}
    return draw(sweep_of(*(arm for arm, _ in arms)), [arm for arm, _ in arms], results, as_it_is)


def test_means_and_intervals_are_those_of_students_t(tmp_path: Path) -> None:
    (row,) = drawn(tmp_path, (planned("a", SEEDS), BASE)).rows[""]
    # mean 0.7, variance 0.1 / 4, standard error sqrt(0.025 / 5), t of 4 degrees of freedom 2.776445
    assert row.after.estimate == pytest.approx(0.7)
    assert (row.after.low, row.after.high) == pytest.approx((0.7 - 0.196324, 0.7 + 0.196324), abs=1e-6)
    assert row.gain.estimate == pytest.approx(0.45), "before, all had 0.25"
    assert (row.gain.low, row.gain.high) == pytest.approx((0.45 - 0.196324, 0.45 + 0.196324), abs=1e-6)
    assert row.cells == ("a", "5 of 5", "0.700 [0.504, 0.896]", "0.450 [0.254, 0.646]", "-", "-", "baseline")


def test_arms_are_compared_in_pairs_of_seeds(tmp_path: Path) -> None:
    _, row = drawn(tmp_path, (planned("a", SEEDS), BASE), (planned("b", SEEDS), BETTER)).rows[""]
    # differences 0.1, 0.2, 0.1, 0.2, 0.1: mean 0.14, variance 0.012 / 4, standard error sqrt(0.003 / 5)
    error, reach = 0.0006**0.5, 2.776445 * 0.0006**0.5
    assert row.comparison is not None
    difference = row.comparison.difference
    assert difference.estimate == pytest.approx(0.14)
    assert difference.n == 5
    assert (difference.low, difference.high) == pytest.approx((0.14 - reach, 0.14 + reach), abs=1e-6)
    assert row.comparison.mde is not None
    power = 1.0 - stats.nct.cdf(2.776445, 4, row.comparison.mde / error)
    assert power == pytest.approx(0.8, abs=1e-5)
    assert row.verdict == "higher"
    assert row.cells[-3:] == ("0.140 [0.072, 0.208]", f"{row.comparison.mde:.3f}", "higher")


def test_the_verdict_has_a_direction_and_small_differences_are_not_resolved(tmp_path: Path) -> None:
    lower = {seed: 2 * BASE[seed] - value for seed, value in BETTER.items()}
    noise = dict(enumerate([0.6, 0.5, 0.8, 0.7, 0.9]))
    table = drawn(
        tmp_path, (planned("a", SEEDS), BASE), (planned("lower", SEEDS), lower), (planned("noise", SEEDS), noise)
    )
    assert [row.verdict for row in table.rows[""]] == ["baseline", "lower", "not resolved"]


def test_fewer_than_five_seeds_and_exploratory_arms_get_no_verdict(tmp_path: Path) -> None:
    few = {seed: BETTER[seed] for seed in range(4)}
    table = drawn(
        tmp_path,
        (planned("a", SEEDS), BASE),
        (planned("few", range(4)), few),
        (planned("later", SEEDS, exploratory=True), BETTER),
        (planned("none", SEEDS), {}),
    )
    _, few_row, later, none = table.rows[""]
    assert (few_row.verdict, later.verdict, none.verdict) == ("no verdict", "exploratory", "no verdict")
    assert few_row.comparison is not None
    assert few_row.comparison.difference.low is not None
    assert later.comparison is not None
    assert none.cells == ("none", "0 of 5", "no estimate", "no estimate", "-", "-", "no verdict")
    assert "missing: none, seeds 0-4" in table.notes


def test_missing_cells_are_named_and_a_verdict_without_them_is_so_far(tmp_path: Path) -> None:
    seeds = range(8)
    base = dict(enumerate([*BASE.values(), 0.4, 0.5]))
    table = drawn(tmp_path, (planned("a", seeds), base), (planned("b", seeds), BETTER))
    row = table.rows[""][1]
    assert (row.cells[1], row.verdict) == ("5 of 8", "higher, so far")
    assert list(table.notes) == ["missing: a, seed 7", "missing: b, seeds 5-7"]


def test_pairs_are_counted_where_an_arm_has_more_seeds_than_partners(tmp_path: Path) -> None:
    more = {**BETTER, 5: 0.9, 6: 0.8}
    row = drawn(tmp_path, (planned("a", SEEDS), BASE), (planned("b", range(7)), more)).rows[""][1]
    assert (row.cells[1], row.cells[4]) == ("7 of 7", "0.140 [0.072, 0.208] (5 pairs)")


def test_arms_without_a_shared_seed_are_compared_by_welch(tmp_path: Path) -> None:
    others = {seed + 10: value for seed, value in BETTER.items()}
    row = drawn(tmp_path, (planned("a", SEEDS), BASE), (planned("b", list(others)), others)).rows[""][1]
    expected = stats.ttest_ind(list(others.values()), list(BASE.values()), equal_var=False).confidence_interval(0.95)
    assert row.comparison is not None
    difference = row.comparison.difference
    assert (difference.low, difference.high) == pytest.approx((expected.low, expected.high))


def test_what_is_wrong_with_cells_is_named(tmp_path: Path) -> None:
    arm, old = planned("a", range(6)), planned("a", range(6), steps=99)
    results = Results(tmp_path, "a")
    note = {"arm": "a", "seed": 1, "digest": arm.digest, "start": "", "frozen": None}
    for each in (
        line(arm, 0, 0.5),
        failure_line(note, "no memory"),
        line(old, 2, 0.9),
        line(arm, 3, 0.6, frozen=None),
        {**line(arm, 4, 0.7), "after": measured(0.7, num_unscored=2)},
        line(arm, 77, 1.0),
    ):
        results.put(each, old.recipe if each["recipe"] == old.digest else arm.recipe)
    table = draw(sweep_of(arm), [arm], {"a": results}, as_it_is)
    (row,) = table.rows[""]
    assert row.num_seeds == 3
    assert row.after.estimate == pytest.approx(0.6), "neither the stale cell counts nor one that nobody asked for"
    assert list(table.notes) == [
        "missing: a, seed 5",
        "missing: a, seed 2; what is there is stale, from another recipe or other weights",
        "failed: a, seed 1: no memory",
        "not frozen by a commit when begun: a, seed 3",
        "with episodes that could not be scored: a, seed 4",
        "not counted, for the file does not name them: a, seed 77",
    ]


def test_arms_measured_on_different_tasks_are_not_compared(tmp_path: Path) -> None:
    a, b = planned("a", SEEDS), planned("b", SEEDS)
    results = {"a": stored(tmp_path, a, BASE), "b": stored(tmp_path, b, BETTER)}
    for seed in SEEDS:
        other = {"before": measured(0.2, "other"), "after": measured(0.9, "other")}
        results["b"].put({**line(b, seed, 0.9), **other}, b.recipe)
    row = draw(sweep_of(a, b), [a, b], results, as_it_is).rows[""][1]
    assert (row.comparison, row.verdict) == (None, "not comparable: other tasks")
    results["b"].put(line(b, 0, 0.9), b.recipe)
    with pytest.raises(InputError, match="the results of b were measured on different tasks"):
        draw(sweep_of(a, b), [a, b], results, as_it_is)


def test_further_evaluations_have_tables_of_their_own(tmp_path: Path) -> None:
    a = planned("a", SEEDS)
    a = PlannedArm("a", a.seeds, {**a.recipe, "eval": {"also": {"hard": {}}}})
    b = planned("b", SEEDS)
    results = {"a": Results(tmp_path, "a"), "b": stored(tmp_path, b, BETTER)}
    for seed in SEEDS:
        beside = {"before": measured(0.1), "after": measured(0.1 + seed / 10)}
        results["a"].put(line(a, seed, 0.9, also={"hard": beside}), a.recipe)
    table = draw(sweep_of(a, b), [a, b], results, as_it_is)
    assert {name: [row.arm for row in rows] for name, rows in table.rows.items()} == {"": ["a", "b"], "hard": ["a"]}
    assert table.rows["hard"][0].gain.estimate == pytest.approx(0.2)
    assert "\n## hard\n" in table.to_markdown()


def test_markdown_and_json_hold_the_same_and_escape_reasons(tmp_path: Path) -> None:
    arm = planned("a", SEEDS)
    results = stored(tmp_path, arm, BASE)
    note = {"arm": "a", "seed": 0, "digest": arm.digest, "start": "", "frozen": None}
    results.put(failure_line(note, "a | <script>\nb"), arm.recipe)
    table = draw(sweep_of(arm), [arm], {"a": results}, as_it_is)
    text = table.to_markdown()
    assert "| arm | seeds | after | gain | minus a | MDE | verdict |\n| --- |" in text
    assert "| a | 4 of 5 | 0.750 [" in text
    assert "* failed: a, seed 0: a \\| &lt;script> b\n" in text
    (row,) = table.to_json()["evaluations"][""]
    assert (row["num_seeds"], row["num_wanted"], row["after"]["estimate"]) == (4, 5, pytest.approx(0.75))
