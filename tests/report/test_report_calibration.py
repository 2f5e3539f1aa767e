"""The page of a calibration: harmless whatever is in it, whole on odd data, and its figures those of the JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.calibrate.tiers_by_hand import groups, scoring
from tests.report.test_report_page import PLANTED, check_harmless

from banty.calibrate import Rules, calibrate
from banty.credit import CreditSpec
from banty.report import calibration_page
from banty.report.calibration import calibration_headline
from banty.report.wording import interval
from banty.rubrics import read_reward_file


def data(**given: Any) -> dict[str, Any]:
    found = calibrate(
        groups(24, 8), read_reward_file("naive-dense"), scoring(), CreditSpec(estimator="mt_grpo"), **given
    )
    made: dict[str, Any] = json.loads(json.dumps(found.to_json()))
    return made


HISTORY = [
    {"step": 4, "tiers": {"error": {"value": -0.1, "rho": -0.5}, "read": {"value": 0.3, "rho": None}}},
    {"step": 9, "tiers": {"error": {"value": -0.3, "rho": -0.6}, "read": {"value": 0.3, "rho": 0.1}}},
]


def test_the_page_says_what_was_found() -> None:
    found = data()
    page = calibration_page(found, "eval-001", HISTORY, ["a note"])
    shown = check_harmless(page)
    assert "naive-dense, version 1" in shown.text
    assert calibration_headline(found) in shown.text
    assert "a note" in shown.text
    for row in found["tiers"]:
        assert interval(row["within"], 2) in shown.text
    for row in found["before"]["directions"]:
        assert interval(row["mean"]).replace(", ", ",\u00a0") in shown.text
    for one in found["proposals"]:
        assert one["reason"] in shown.text
    for section in ("proposal", "presence", "correlation", "direction", "changes", "criteria", "history", "making"):
        assert f'id="{section}"' in page


def test_what_stands_in_the_data_cannot_act() -> None:
    found = data()
    found["rewards"]["name"] = PLANTED
    found["diff"] = [PLANTED]
    for rows in (found["tiers"], found["proposals"], found["before"]["directions"], found["criteria"]):
        rows[0]["tier"] = PLANTED
    found["proposals"][0]["reason"] = PLANTED
    history = [{**HISTORY[0], "tiers": {PLANTED: {"value": 1.0, "rho": 0.5}}}]
    check_harmless(calibration_page(found, PLANTED, history, [PLANTED]))


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found.clear(),
        lambda found: found.update(tiers=[{}], proposals=[{}], changes={"rms": [None]}, before=None),
        lambda found: found.update(before={"directions": [{"mean": {"estimate": float("inf")}}]}, stop="no"),
        lambda found: found["before"]["directions"][0]["mean"].update(estimate=0.0, low=None, high=None),
    ],
)
def test_a_page_comes_out_of_whatever_is_there(change: Any) -> None:
    found = data()
    change(found)
    check_harmless(calibration_page(found, "x", [{}, {"step": "no", "tiers": 3}]))


def test_no_history_and_no_held_out_tasks_leave_no_gap() -> None:
    page = calibration_page(data(hold_out=False, rules=Rules(present=10_000)), "x")
    assert 'id="history"' not in page
    assert "nothing changes" in page
    assert 'class="others"' not in page
