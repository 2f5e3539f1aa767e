"""The line of many runs: small, and enough to make every interval again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.sweeps.by_hand import as_it_is, planned, stored, sweep_of

from banty.stats import seed_interval
from banty.sweeps import Results, draw, runs_line, steps_to

SUCCESS = np.array([[0.2, 0.5, 0.9], [0.2, 0.8, 0.7], [0.2, 0.3, 0.4]])


def a_line(arm: str, digest: str, success: np.ndarray = SUCCESS, *, keep: bool = True) -> dict[str, object]:
    note = {"arm": arm, "seed": 0, "digest": digest, "start": "", "frozen": "c0ffee"}
    averages = {"turns": success[:, 1:] * 10}
    return runs_line(note, success, averages, tasks="t", num_tasks=4, target=0.8, keep=keep, more={"seconds": 1.0})


def test_what_is_kept_of_runs() -> None:
    line = a_line("rloo", "d")
    assert line["runs"] == {"final": [9000, 7000, 4000]}
    spreads = line["of_runs"]
    assert isinstance(spreads, dict)
    assert spreads["auc"]["mean"] == pytest.approx(0.6)
    assert spreads["steps"] == {"mean": 2.0, "sd": 1.0, "quantiles": [1.1, 1.5, 2.0, 2.5, 2.9]}
    assert line["reached"] == pytest.approx(2 / 3)
    assert line["before"] == {"success": pytest.approx(0.2), "num_tasks": 4, "num_unscored": 0, "tasks": "t"}
    curve = line["curve"]
    assert isinstance(curve, dict)
    assert curve["success"] == [0.2, pytest.approx(0.53333), pytest.approx(0.66667)]
    assert curve["turns"] == [pytest.approx(5.33333), pytest.approx(6.66667)]
    assert "runs" not in a_line("rloo", "d", keep=False)


def test_the_target_never_reached_is_one_step_more_than_there_are() -> None:
    assert steps_to(SUCCESS, 0.8).tolist() == [2.0, 1.0, 3.0]
    assert steps_to(SUCCESS, 0.2).tolist() == [0.0, 0.0, 0.0]


def test_the_table_counts_runs_and_pairs_them(tmp_path: Path) -> None:
    arms = [planned("rloo", [0]), planned("grpo", [0], estimator="grpo")]
    arms = [type(arm)(arm.name, arm.seeds, {**arm.recipe, "desk": {"runs": 3, "keep": "runs"}}) for arm in arms]
    for arm, shift in zip(arms, (0.0, -0.1), strict=True):
        success = SUCCESS + [0.0, 0.0, shift] + np.array([[0.0], [0.001], [0.0]]) * (shift != 0.0)
        Results(tmp_path, arm.name).put(json.loads(json.dumps(a_line(arm.name, arm.digest, success))), arm.recipe)
    results = {arm.name: Results(tmp_path, arm.name) for arm in arms}
    rows = draw(sweep_of(*arms), arms, results, as_it_is).rows[""]
    assert [(row.num_seeds, row.num_wanted) for row in rows] == [(3, 3), (3, 3)]
    assert rows[0].after == seed_interval([0.9, 0.7, 0.4], bounds=(0.0, 1.0))
    versus = rows[1].comparison
    assert versus is not None
    assert versus.test.startswith("paired")
    assert versus.difference.n == 3
    assert versus.difference.estimate == pytest.approx(-0.1 + 0.001 / 3)


def test_a_cell_of_one_run_counts_once(tmp_path: Path) -> None:
    arm = planned("rloo", [0, 1])
    results = {"rloo": stored(tmp_path, arm, {0: 0.5, 1: 0.6})}
    (row,) = draw(sweep_of(arm), [arm], results, as_it_is).rows[""]
    assert (row.num_seeds, row.num_wanted) == (2, 2)
