"""Values move on evidence alone: the worked figures, supports, intervals, pins, frozen tiers, and where to stop."""

from __future__ import annotations

import dataclasses

import pytest
from tests.calibrate.test_calibrate_table import f9

from banty.calibrate.propose import (
    Proposal,
    Rules,
    applied,
    finished,
    pinned,
    propose,
    stepped,
    stop_rules,
    target_of,
)
from banty.calibrate.table import TierRow, table_of
from banty.errors import InputError
from banty.rubrics import RewardFile, diff_of, read_reward_file, write_reward_file
from banty.stats import Interval

ONCE = Rules(beta=1.0)


def row(
    tier: str,
    phi: float | None,
    ends: tuple[float, float] | None = None,
    *,
    passes: float = 100,
    fails: float = 100,
    present: float = 100,
    absent: float = 100,
) -> TierRow:
    low, high = ends or (None, None)
    found = Interval(phi, low, high, 0.95, 50, "by hand")
    return TierRow(tier, passes, fails, present, absent, 0.5, 0.5, 0.5, 200, 0.0, 0.1, found, found, None)


def naive() -> RewardFile:
    return read_reward_file("naive-dense")


def one(rows: TierRow, rules: Rules = ONCE, file: RewardFile | None = None) -> Proposal:
    (found,) = propose([rows], file or naive(), rules)
    return found


def test_algorithm_1_on_fixture_f9() -> None:
    """alpha rho above delta, 0 below it, and 0 where the correlation is not defined."""
    rows = {found.tier: found.within.estimate for found in table_of(f9())}
    targets = {tier: target_of(rho, Rules(alpha=0.5, delta=0.3)) for tier, rho in rows.items()}
    assert targets == pytest.approx(
        {"gold": 0.400892, "soft": 0.0, "write": -0.231455, "error": -0.357143, "read": 0.0}, abs=2e-5
    )


def test_the_published_figures_come_close_to_the_published_values() -> None:
    """Specs/irc.md 2.3: with alpha = 1 / 0.704 state changes land at -0.086."""
    rules = Rules(alpha=1 / 0.704, beta=1.0, delta=0.05)
    assert one(row("write", -0.0605, (-0.09, -0.03)), rules).proposed == pytest.approx(-0.086, abs=1e-3)
    assert one(row("read", 0.001, (-0.02, 0.03)), rules).proposed == 0.0


def test_a_step_goes_part_of_the_way_and_stays_in_range() -> None:
    found = one(row("error", -0.6, (-0.7, -0.5)), Rules(beta=0.5))
    assert (found.decision, found.target) == ("moved", -0.6)
    assert found.proposed == pytest.approx(-0.35)
    assert stepped(0.5, 40.0, Rules(alpha=50.0)) == 1.0
    assert stepped(-0.5, -40.0, Rules()) == -1.0


def test_an_interval_within_delta_draws_to_zero_and_a_wide_one_draws_nowhere() -> None:
    near = one(row("read", 0.01, (-0.03, 0.04)))
    assert (near.decision, near.proposed) == ("moved", 0.0)
    wide = one(row("read", 0.1, (-0.1, 0.3)))
    assert (wide.decision, wide.proposed) == ("refused", 0.3)
    assert "about 201 tasks instead of 50" in wide.reason  # four times as many halve the interval
    assert one(row("read", 0.03, (0.01, 0.05))).proposed == 0.0  # sure, and small


@pytest.mark.parametrize(
    ("short", "words"),
    [
        ({"passes": 12}, "12 of 30 passing rollouts (about 168 more rollouts like these)"),
        ({"fails": 29}, "29 of 30 failing rollouts"),
        ({"present": 5}, "5 of 20 rollouts with it (about 600 more rollouts like these)"),
        ({"absent": 0}, "0 of 20 rollouts without it (it is in every rollout"),
    ],
)
def test_nothing_moves_without_support(short: dict[str, float], words: str) -> None:
    found = one(row("read", 0.4, (0.3, 0.5), **short))
    assert (found.decision, found.proposed) == ("refused", 0.3)
    assert words in found.reason


def test_a_tier_that_is_always_there_is_kept_unless_it_is_taken_for_zero() -> None:
    always = row("read", None, present=200, absent=0)
    assert one(always).decision == "refused"
    zeroed = one(always, Rules(beta=1.0, constant="zero"))
    assert (zeroed.decision, zeroed.proposed) == ("moved", 0.0)
    assert one(row("read", None)).decision == "refused"  # varies, but never within one task


def test_one_task_alone_moves_nothing() -> None:
    assert one(row("read", 0.5)).decision == "refused"
    assert "more tasks" in one(row("read", 0.5)).reason


def test_pins_and_frozen_tiers_stay() -> None:
    file = pinned(naive(), ["read"])
    assert one(row("read", 0.5, (0.4, 0.6)), file=file).decision == "pinned"
    assert one(row("noop", 0.5, (0.4, 0.6))).decision == "frozen"
    gold = one(row("gold", 0.2, (0.1, 0.3)), file=read_reward_file("outcome"))
    assert (gold.decision, gold.proposed) == ("frozen", 1.0)
    assert one(row("gold", -0.9, (-1.0, -0.8))).proposed == 1.0
    never = one(row("gold", None, present=0), file=read_reward_file("outcome"))
    assert (never.decision, never.proposed) == ("frozen", 0.0)
    half = dataclasses.replace(naive().tiers["gold"], value=0.5, pinned=False)
    found = one(row("gold_read", 0.2, (0.1, 0.3)), file=dataclasses.replace(naive(), tiers={"gold_read": half}))
    assert (found.decision, found.proposed) == ("frozen", 0.5)  # a golden tier of another name is no unit
    with pytest.raises(InputError, match="no tier 'reed' to pin; naive-dense has gold, soft"):
        pinned(naive(), ["reed"])


def test_a_move_against_the_intended_sign_says_so() -> None:
    assert "against its intended sign, -1" in one(row("error", 0.5, (0.4, 0.6))).reason
    assert "against" not in one(row("error", -0.5, (-0.6, -0.4))).reason


def test_held_out_tasks_are_shown_beside() -> None:
    (found,) = propose([row("read", 0.4, (0.3, 0.5))], naive(), ONCE, [row("read", -0.2, (-0.3, -0.1))])
    assert found.held_out is not None
    assert found.held_out.estimate == -0.2
    assert found.proposed == pytest.approx(0.4)


def test_the_next_version_names_its_parent(tmp_path: object) -> None:
    file = naive()
    proposals = propose([row("read", 0.01, (-0.02, 0.03)), row("error", -0.6, (-0.7, -0.5))], file, ONCE)
    changed = applied(file, proposals, "round 1")
    assert (changed.version, changed.parent, changed.note) == (2, file.sha256, "round 1")
    assert {line.split(":")[0] for line in diff_of(file, changed)} >= {"tiers.read.value", "tiers.error.value"}
    path = write_reward_file(f"{tmp_path}/next.toml", changed)
    assert read_reward_file(path).tiers == changed.tiers
    assert applied(file, propose([row("read", 0.1, (-0.1, 0.3))], file, ONCE)) is file


def test_where_to_stop() -> None:
    still = propose([row("gold", 0.5, (0.4, 0.6))], naive(), ONCE)
    assert finished(stop_rules([], 0.5, 0.4, still, 2, Rules()))
    assert finished(stop_rules([], 0.5, 0.5, still, 2, Rules()))  # nothing moved: nothing can grow
    assert not finished(stop_rules(["read"], 0.5, 0.4, still, 2, Rules()))
    assert not finished(stop_rules([], 0.2, 0.1, still, 2, Rules()))
    assert not finished(stop_rules([], None, None, still, 2, Rules()))
    moved = propose([row("read", 0.9, (0.8, 0.95))], naive(), ONCE)
    assert not finished(stop_rules([], 0.5, 0.4, moved, 2, Rules()))
    assert not finished(stop_rules([], 0.5, 0.6, moved, 2, Rules(settled=1.0)))  # moved, and follows the outcome less
    assert finished(stop_rules(["read"], None, None, moved, 5, Rules()))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"alpha": -1.0}, "alpha is -1.0; it takes a number from 0 to 100"),
        ({"delta": 1.5}, "delta is 1.5"),
        ({"beta": float("nan")}, "beta is nan"),
        ({"passes": 0}, "passes is 0; it takes at least 1"),
        ({"level": 0.2}, "level is 0.2"),
        ({"resamples": 3}, "resamples is 3"),
        ({"constant": "drop"}, "constant is 'drop'; it takes keep or zero"),
    ],
)
def test_rules_that_cannot_work_are_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        dataclasses.replace(Rules(), **change).check()  # type: ignore[arg-type]
