"""What a run logged about credit and rewards, as curves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from banty.report.source import Source
from banty.report.training import charts_of


def source_of(*rows: dict[str, Any]) -> Source:
    return Source(Path("run"), "rl", {}, {}, tuple({"step": step, **row} for step, row in enumerate(rows)))


def titles(*rows: dict[str, Any]) -> list[str]:
    return [chart.title for chart in charts_of(source_of(*rows))]


def test_credit_is_shown_with_a_line_for_every_tier_that_had_a_share() -> None:
    row = {"credit/dead_turns": 0.2, "credit/corr": 0.8, "credit/share_gold": 0.6, "credit/share_read": 0.4}
    charts = charts_of(source_of(row, {**row, "credit/share_soft": 0.0}))
    assert [chart.title for chart in charts] == [
        "Correlation of advantage and outcome",
        "Share of turns without an advantage",
        "Share of the gradient, by tier",
    ]
    assert [key.text for key in charts[-1].legend] == ["gold", "read"]


def test_a_push_that_never_moves_and_a_reward_file_that_never_changes_are_no_charts() -> None:
    rows = [{"credit/push": 0.0, "rewards/version": 1, "rewards/value_gold": 1.0}] * 3
    assert titles(*rows) == []
    moved = [*rows, {"credit/push": 0.3, "rewards/version": 2, "rewards/value_gold": 0.5}]
    assert titles(*moved) == ["Push on length", "Value of a turn, by tier"]
