"""Calibration while training: recent rollouts weigh more, moves are asked for twice, small ones are not made."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from tests.calibrate.tiers_by_hand import groups, scoring

from banty.calibrate import CalibrateBlock, Decided, Evidence, Gate, scored_turns, table_of
from banty.errors import InputError
from banty.rubrics import read_reward_file

NAIVE = read_reward_file("naive-dense")
BLOCK = CalibrateBlock(every=2, window=4.0, patience=2, resamples=200)


def evidence(seed: int) -> Evidence:
    return scored_turns(groups(10, 8, seed), NAIVE, scoring())[1]


def run(gate: Gate, steps: range) -> list[Decided]:
    found = []
    for step in steps:
        gate.observe(step, evidence(step))
        if (decided := gate.decide(step)) is not None:
            found.append(decided)
    return found


def test_a_move_is_made_when_it_is_asked_for_a_second_time() -> None:
    gate = Gate(BLOCK, NAIVE, seed=0)
    first, second, third = run(gate, range(6))
    assert (first.step, second.step, third.step) == (1, 3, 5)
    assert first.moved == ()
    assert first.tiers["error"]["asked"] == -1
    assert "asked for 1 of 2 times" in str(first.tiers["error"]["reason"])
    assert second.moved == ("error",)
    assert second.file.tiers["error"].value == pytest.approx(second.tiers["error"]["value"])
    assert second.file.version == 2
    assert "error" in third.moved  # goes on in the same direction at once
    assert third.file.parent == second.file.sha256


def test_patience_of_one_moves_at_once_and_hysteresis_stops_small_moves() -> None:
    assert run(Gate(dataclasses.replace(BLOCK, patience=1), NAIVE, 0), range(2))[0].moved == ("error",)
    still = run(Gate(dataclasses.replace(BLOCK, patience=1, hysteresis=0.9), NAIVE, 0), range(4))
    assert [one.moved for one in still] == [(), ()]
    assert "within the hysteresis" in str(still[0].tiers["error"]["reason"])


def test_a_change_of_mind_begins_to_count_anew() -> None:
    gate = Gate(BLOCK, NAIVE, 0)
    gate.asked = {"error": 5}
    gate.observe(1, evidence(1))
    decided = gate.decide(1)
    assert decided is not None
    assert decided.moved == ()
    assert gate.asked["error"] == -1


def test_old_rollouts_fade() -> None:
    """What errors meant five windows ago weighs nothing; what they mean now decides."""
    gate = Gate(BLOCK, NAIVE, 0)
    gate.observe(0, evidence(0))
    turned = evidence(1)
    turned = dataclasses.replace(turned, outcomes=1.0 - turned.outcomes)
    for step in range(16, 20):
        gate.observe(step, turned)
    decided = gate.decide(19)
    assert decided is not None
    assert decided.tiers["error"]["rho"] > 0.5
    gate.observe(20, turned)
    assert [step for step, _ in gate.recent] == [16, 17, 18, 19, 20]


def test_weights_are_exponential_in_age() -> None:
    gate = Gate(dataclasses.replace(BLOCK, every=1), NAIVE, 0)
    gate.observe(0, evidence(0))
    gate.observe(4, evidence(1))
    decided = gate.decide(4)
    assert decided is not None
    faded = evidence(0)
    faded = dataclasses.replace(faded, weights=faded.weights * np.exp(-1.0))
    passes = faded.passes + evidence(1).passes
    (row,) = [row for row in gate._rows(4) if row.tier == "error"]
    assert row.passes == pytest.approx(passes)
    assert row.within.estimate == decided.tiers["error"]["rho"]
    assert row.within.estimate != table_of(evidence(1))[3].within.estimate


def test_a_gate_that_is_restored_goes_on_the_same() -> None:
    whole = Gate(BLOCK, NAIVE, seed=7)
    expected = [one.to_json() for one in run(whole, range(8))]
    first = Gate(BLOCK, NAIVE, seed=7)
    begun = run(first, range(4))
    line = json.loads(json.dumps(begun[-1].to_json()))
    second = Gate(BLOCK, NAIVE, seed=7)
    second.restore(line, begun[-1].file)
    for step in range(4):
        second.observe(step, evidence(step))
    assert [one.to_json() for one in [*begun, *run(second, range(4, 8))]] == expected
    assert second.file == whole.file


def test_nothing_is_decided_between_decisions() -> None:
    gate = Gate(BLOCK, NAIVE, 0)
    gate.observe(0, evidence(0))
    assert gate.decide(0) is None
    assert gate.file is NAIVE


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"every": -1}, "calibrate.every is -1; it takes at least 0"),
        ({"every": 2, "window": 0.5}, "calibrate.window is 0.5; it takes at least 1"),
        ({"every": 2, "patience": 0}, "calibrate.patience is 0"),
        ({"every": 2, "beta": 1.5}, "calibrate.beta is 1.5; it takes a number from 0 to 1"),
        ({"every": 2, "window": float("inf")}, "calibrate.window is inf"),
        ({"beta": 0.2}, "calibrate.beta is 0.2, and calibrate.every is 0"),
    ],
)
def test_blocks_that_cannot_work_are_refused(change: dict[str, float], words: str) -> None:
    with pytest.raises(InputError, match=words):
        CalibrateBlock(**change).check()  # type: ignore[arg-type]
