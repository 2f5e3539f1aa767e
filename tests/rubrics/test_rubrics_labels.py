"""What turns are, tier by tier, on rollouts made by hand; what they earn; several calls, caps, credit given once."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from tests.rubrics.by_hand import DENSE, call, golden, labels, rollout, tiers

from banty.errors import InputError
from banty.records import CallFault, CallResult, GoldenCall, Message, Rollout, Turn
from banty.rubrics import LOOSE, Matching, RewardFile, Tier, label_rollout, read_reward_file, rewarded

IRC = read_reward_file("irc")


def with_tiers(**changes: Tier) -> RewardFile:
    return dataclasses.replace(DENSE, tiers={**DENSE.tiers, **changes})


# One tier each.


def test_every_tier_by_hand() -> None:
    found = labels(
        "Hello.",
        call("look", id="A"),
        call("find", name="pen", colour="red"),
        call("find", name="cup"),
        call("find", name="cup"),
        call("look", error="tool", id="?"),
        call("put", id="A", n=1),
        call("move", id="B"),
        "Bye.",
        wanted=[golden("look", id="A"), golden("find", name="pen", colour="blue"), golden("put", id="A", n=1)],
    )
    assert tiers(found) == ["message", "gold", "soft", "read", "duplicate", "error", "gold", "write", "message"]
    assert [label.reward for label in found] == [0.0, 1.0, 0.75, 0.3, -0.2, -0.1, 1.0, 0.1, 0.0]
    assert [label.calls[0].golden for label in found if label.calls] == [0, 1, None, None, None, 2, None]
    assert found[2].score == 0.75
    assert [label.why for label in found][:3] == ["no call", "is golden call 1", "is golden call 2 in part"]


def test_the_calibrated_file_pays_nothing_for_reads_and_takes_for_writes() -> None:
    found = labels(call("find", name="cup"), call("move", id="B"), wanted=[golden("look", id="A")], file=IRC)
    assert [label.reward for label in found] == [0.0, -0.1]


def test_a_failed_golden_call_is_an_error_and_its_retry_is_gold() -> None:
    found = labels(call("put", error="tool", id="A"), call("put", id="A"), wanted=[golden("put", id="A")])
    assert tiers(found) == ["error", "gold"]


def test_a_call_that_nobody_could_read_is_an_error() -> None:
    broken = CallResult("", {}, "Error: no JSON", "none", "malformed", "s0", "s0")
    assert tiers(labels(broken)) == ["error"]


def test_calls_that_were_never_run_have_no_tier() -> None:
    """The episode ended before the environment answered."""
    asked = Message("assistant", "", faults=(CallFault("truncated", "cut"),))
    cut = dataclasses.replace(rollout("x"), turns=(Turn(0, "agent", asked, True),))
    (label,) = label_rollout(cut, (), DENSE)
    assert (label.tier, label.reward, label.why) == ("", 0.0, "its calls were never run")


def test_a_write_that_changed_nothing_is_no_state_change() -> None:
    same = call("put", states=("s0", "s0"), id="A")
    assert tiers(labels(same)) == ["read"]
    assert tiers(labels(call("put", states=("", ""), id="A"))) == ["write"], "without hashes the effect tells"
    assert tiers(labels(call("look", states=("", ""), id="A"))) == ["read"]
    assert tiers(labels(call("look", states=("s0", "s1"), id="A"))) == ["write"], "a read that changed something"


def test_the_end_of_an_episode_is_a_state_change() -> None:
    assert tiers(labels(call("submit", answer=3), wanted=[golden("submit", answer=4)])) == ["write"]
    assert tiers(labels(call("submit", answer=4), wanted=[golden("submit", answer=4)])) == ["gold"]


# Duplicates.


@pytest.mark.parametrize(
    ("first", "second", "tier"),
    [
        (call("look", id="A"), call("look", id="A"), "duplicate"),
        (call("look", id="A"), call("look", id="B"), "read"),
        (call("look", id="A"), call("look", states=("s1", "s1"), id="A"), "read"),  # something changed since
        (call("put", id="A"), call("put", states=("s1", "s2"), id="A"), "duplicate"),
        (call("look", error="tool", id="A"), call("look", id="A"), "read"),  # a retry that worked
        (call("look", error="tool", id="A"), call("look", error="tool", id="A"), "error"),
    ],
)
def test_what_is_a_duplicate(first: CallResult, second: CallResult, tier: str) -> None:
    assert tiers(labels(first, second, wanted=None))[1] == tier


def test_a_file_may_call_a_repeated_failure_a_duplicate() -> None:
    order = ["duplicate", *(name for name in DENSE.tiers if name != "duplicate")]
    file = dataclasses.replace(DENSE, tiers={name: DENSE.tiers[name] for name in order})
    failed = call("look", error="tool", id="A")
    assert tiers(labels(failed, failed, wanted=None, file=file)) == ["error", "duplicate"]


# Golden calls.


def test_a_golden_call_is_credited_once() -> None:
    found = labels(call("look", id="A"), call("look", id="A"), wanted=[golden("look", id="A")])
    assert tiers(found) == ["gold", "duplicate"]
    twice = [golden("look", id="A"), golden("look", id="A")]
    assert tiers(labels(call("look", id="A"), call("look", id="A"), wanted=twice)) == ["gold", "gold"]


def test_a_golden_call_may_name_the_arguments_that_count() -> None:
    wanted = [GoldenCall("put", {"id": "A", "n": 1}, compared=("id",))]
    assert tiers(labels(call("put", id="A", n=2), wanted=wanted)) == ["gold"]
    assert tiers(labels(call("put", id="B", n=1), wanted=wanted)) == ["write"]


def test_without_once_a_golden_call_can_be_farmed() -> None:
    file = with_tiers(gold=Tier(1.0, "golden"))
    found = labels(call("look", id="A"), call("look", id="A"), wanted=[golden("look", id="A")], file=file)
    assert tiers(found) == ["gold", "gold"]


def test_the_exact_call_takes_the_golden_one_from_an_earlier_one_like_it() -> None:
    wanted = [golden("find", name="pen", colour="blue")]
    found = labels(call("find", name="pen", colour="red"), call("find", name="pen", colour="blue"), wanted=wanted)
    assert tiers(found) == ["read", "gold"]


def test_a_write_is_given_partial_credit_only_if_the_file_says_so() -> None:
    wrong, wanted = call("put", id="A", n=2), [golden("put", id="A", n=1)]
    assert tiers(labels(wrong, wanted=wanted)) == ["write"]
    (soft,) = labels(wrong, wanted=wanted, file=dataclasses.replace(DENSE, soft_writes=True))
    assert (soft.tier, soft.reward) == ("soft", 0.75)
    ending = labels(call("submit", answer=3, unit="m"), wanted=[golden("submit", answer=4, unit="m")])
    assert tiers(ending) == ["write"]
    farmed = dataclasses.replace(with_tiers(soft=Tier(1.0, "golden_part")), soft_writes=False)
    assert tiers(labels(wrong, wanted=wanted, file=farmed)) == ["write"]


def test_the_comparator_is_the_files() -> None:
    wanted = [golden("look", id=7)]
    assert tiers(labels(call("look", id="007"), wanted=wanted)) == ["read"]
    loose = dataclasses.replace(DENSE, matching=LOOSE)
    assert tiers(labels(call("look", id="007"), wanted=wanted, file=loose)) == ["gold"]


def test_without_golden_calls_the_golden_tiers_never_come_up() -> None:
    """Any environment whose tools declare effects is labelled."""
    turns = (call("look", id="A"), call("put", id="A"), "Done.")
    assert tiers(labels(*turns, wanted=None, success=True)) == ["read", "write", "message"]
    assert tiers(labels(*turns, wanted=[golden("look", id="A")], success=True)) == ["gold", "write", "message"]


def test_a_right_ending_that_changes_nothing_is_a_noop() -> None:
    turns: tuple[Any, ...] = ("Which one?", call("look", id="A"), "That is not possible.")
    wanted = [golden("look", id="A")]
    assert tiers(labels(*turns, wanted=wanted, success=True)) == ["message", "gold", "noop"]
    assert tiers(labels(*turns, wanted=(), success=True)) == ["message", "read", "noop"]
    assert tiers(labels(*turns, wanted=wanted, success=False))[-1] == "message", "it was not right"
    assert tiers(labels(*turns, wanted=None, success=True))[-1] == "message", "nobody knows"
    assert tiers(labels(*turns, wanted=[golden("put", id="A")], success=True))[-1] == "message", "a write was due"
    undone = (call("put", id="A"), call("move", states=("s1", "s0"), id="A"), "Done.")
    assert tiers(labels(*undone, wanted=(), success=True))[-1] == "message", "something was written"
    unknown = [golden("tool_of_another_version", id="A")]
    assert tiers(labels(*turns, wanted=unknown, success=True))[-1] == "message", "it may write"


# What a file can say.


def test_scope_leaves_a_tier_to_calls_that_read_or_write() -> None:
    file = dataclasses.replace(
        DENSE,
        tiers={
            "gold_write": Tier(2.0, "golden", once=True, scope="write"),
            "gold_read": Tier(0.5, "golden", once=True, scope="read"),
            **{name: tier for name, tier in DENSE.tiers.items() if name != "gold"},
        },
    )
    wanted = [golden("look", id="A"), golden("put", id="A")]
    found = labels(call("look", id="A"), call("put", id="A"), wanted=wanted, file=file)
    assert [(label.tier, label.reward) for label in found] == [("gold_read", 0.5), ("gold_write", 2.0)]


def test_a_cap_is_how_often_a_tier_pays() -> None:
    file = with_tiers(read=Tier(0.3, "read", cap=2))
    found = labels(*(call("look", id=name) for name in "ABC"), wanted=(), file=file)
    assert tiers(found) == ["read"] * 3
    assert [label.reward for label in found] == [0.3, 0.3, 0.0]
    assert found[-1].why == "changed nothing; its cap is reached"


def test_once_pays_for_equal_calls_once() -> None:
    file = dataclasses.replace(
        DENSE,
        tiers={"first": Tier(0.5, "read", once=True), "again": Tier(-0.5, "read"), "message": DENSE.tiers["message"]},
    )
    found = labels(call("look", id="A"), call("look", id="B"), call("look", id="A"), file=file)
    assert tiers(found) == ["first", "first", "again"]


def test_a_turn_no_tier_is_for_earns_nothing() -> None:
    file = RewardFile("few", 1, {"gold": Tier(1.0, "golden")})
    found = labels(call("look", id="A"), "Hello.", wanted=(), file=file)
    assert [(label.tier, label.reward) for label in found] == [("", 0.0), ("", 0.0)]


BAD_WRITE, FAILED, GOOD, LOOK = (
    call("move", id="B"),
    call("find", error="tool"),
    call("put", id="A"),
    call("look", id="C"),
)


@pytest.mark.parametrize(
    ("calls", "worst", "best", "summed"),
    [
        ([GOOD, LOOK], ("gold", 1.0), ("gold", 1.0), 1.3),
        ([LOOK, GOOD], ("gold", 1.0), ("gold", 1.0), 1.3),
        ([GOOD, BAD_WRITE], ("write", 0.1), ("gold", 1.0), 1.1),
        ([GOOD, FAILED], ("error", -0.1), ("gold", 1.0), 0.9),
        ([FAILED, BAD_WRITE, LOOK], ("write", 0.1), ("read", 0.3), 0.3),
        ([LOOK, LOOK], ("read", 0.3), ("read", 0.3), 0.1),
    ],
)
def test_several_calls_in_a_turn(
    calls: list[CallResult], worst: tuple[str, float], best: tuple[str, float], summed: float
) -> None:
    wanted = [golden("put", id="A")]
    for how, expected in (("worst", worst), ("best", best)):
        (label,) = labels(calls, wanted=wanted, file=dataclasses.replace(DENSE, several_calls=how))  # type: ignore[arg-type]
        assert (label.tier, round(label.reward, 9)) == expected
    (label,) = labels(calls, wanted=wanted, file=dataclasses.replace(DENSE, several_calls="sum"))
    assert label.reward == pytest.approx(summed)
    assert label.tier == worst[0]


def test_tiers_depend_on_no_value() -> None:
    """Calibration moves values; a turn that changed its tier with them would be another turn in every table."""
    turns = (
        [GOOD, BAD_WRITE],
        [LOOK, FAILED],
        call("find", name="pen", colour="red"),
        "Hello.",
        LOOK,
        call("look", states=("s1", "s1"), id="A"),
    )
    wanted = [golden("put", id="A"), golden("find", name="pen", colour="blue")]
    upside_down = dataclasses.replace(
        DENSE, tiers={name: dataclasses.replace(tier, value=-tier.value) for name, tier in DENSE.tiers.items()}
    )
    files = [DENSE, IRC, read_reward_file("outcome"), upside_down]
    found = [tiers(labels(*turns, wanted=wanted, file=file)) for file in files]
    assert found == [["write", "error", "soft", "message", "duplicate", "read"]] * 4
    assert {label.reward for label in labels(*turns, wanted=wanted, file=files[2])} == {0.0}


# Tiers in Python.


def slow(made: Rollout, turn: Turn, asked: CallResult | None) -> float:
    return 0.5 if asked is not None and turn.index > 0 else 0.0


def python_file(function: Any, **settings: Any) -> RewardFile:
    place = "tiers.py:slow"
    return dataclasses.replace(
        DENSE, tiers={"slow": Tier(-1.0, place, **settings), **DENSE.tiers}, functions={place: function}
    )


def test_a_tier_in_python_is_asked_of_every_call_and_of_turns_without() -> None:
    asked: list[tuple[int, str | None]] = []

    def remember(made: Rollout, turn: Turn, result: CallResult | None) -> bool:
        asked.append((turn.index, None if result is None else result.name))
        return False

    found = labels("Hello.", [GOOD, LOOK], wanted=(), file=python_file(remember))
    assert tiers(found) == ["message", "write"]
    assert asked == [(0, None), (1, "put"), (1, "look")]


def test_a_tier_in_python_pays_by_what_it_says() -> None:
    found = labels(LOOK, LOOK, wanted=(), file=python_file(slow))
    assert [(label.tier, label.reward) for label in found] == [("read", 0.3), ("slow", -0.5)]
    assert labels(LOOK, LOOK, wanted=(), file=python_file(slow, scope="write"))[1].tier == "duplicate"


def test_what_is_wrong_with_a_tier_in_python_is_said() -> None:
    with pytest.raises(InputError, match=r"tiers.py:slow is Python code; add --allow-code"):
        labels(LOOK, file=dataclasses.replace(python_file(slow), functions={}))
    with pytest.raises(InputError, match=r"tiers.py:slow gave 2.0; it gives true or false, or a number from 0 to 1"):
        labels(LOOK, file=python_file(lambda *given: 2.0))
    with pytest.raises(InputError, match=r"tiers.py:slow gave nan"):
        labels(LOOK, file=python_file(lambda *given: float("nan")))
    with pytest.raises(InputError, match=r"tiers.py:slow failed at turn 0 of .*: ZeroDivisionError"):
        labels(LOOK, file=python_file(lambda *given: 1 / 0))


# Into the record.


def test_rewards_go_to_trainable_turns_in_order() -> None:
    made = rollout("Hello.", call("look", id="A"), call("find", name="x"))
    user = Turn(7, "user", Message("assistant", "yes"))
    mixed = dataclasses.replace(made, turns=(made.turns[0], user, *made.turns[1:]))
    found = label_rollout(mixed, [golden("look", id="A")], DENSE)
    assert tiers(found) == ["message", "gold", "read"]
    paid = rewarded(mixed, found, 0.5)
    assert [turn.reward for turn in paid.turns] == [0.0, None, 0.5, 0.15]
    assert [turn.reward for turn in mixed.turns] == [None] * 4


def test_a_trained_simulator_gets_no_tier() -> None:
    made = rollout("Hello.", "Bye.")
    user = Turn(2, "user", Message("assistant", "yes"), trainable=True)
    found = label_rollout(dataclasses.replace(made, turns=(made.turns[0], user, made.turns[1])), None, DENSE)
    assert tiers(found) == ["message", "", "message"]
    assert found[1].why == "a turn of another role"


def test_an_empty_rollout_has_no_labels() -> None:
    assert labels(wanted=[golden("look", id="A")]) == ()


def test_no_label_depends_on_matching_rules_of_other_tools() -> None:
    odd = dataclasses.replace(DENSE, matching=Matching(tools={}))
    assert labels(LOOK, file=odd) == labels(LOOK)


# Found by review.


def test_reading_again_is_no_duplicate_after_a_change_that_no_hash_shows() -> None:
    """Imported logs have no hashes: what worked in between may have changed what is read."""
    look = call("look", states=("", ""), id="A")
    put = call("put", states=("", ""), id="A", n=1)
    assert tiers(labels(look, put, look)) == ["read", "write", "read"]
    assert tiers(labels(look, call("find", states=("", ""), name="x"), look)) == ["read", "read", "duplicate"]
    refused = dataclasses.replace(put, error="tool")
    assert tiers(labels(look, refused, look)) == ["read", "error", "duplicate"]
    unknown = dataclasses.replace(put, effect="unknown")
    assert tiers(labels(look, unknown, look)) == ["read", "", "read"]


def test_a_stray_write_made_again_does_not_hide_behind_a_good_call() -> None:
    """Its tier is duplicate, and it changed the state once more."""
    again = call("move", states=("s1", "s2"), id="B")
    found = labels(call("move", id="B"), [call("look", id="A"), again], wanted=[golden("look", id="A")])
    assert tiers(found) == ["write", "duplicate"]
    harmless = call("move", states=("s1", "s1"), id="B")
    found = labels(call("move", id="B"), [call("look", id="A"), harmless], wanted=[golden("look", id="A")])
    assert tiers(found) == ["write", "gold"]


def test_a_failed_call_that_changed_the_state_leaves_no_quiet_end() -> None:
    half_done = call("put", error="tool", states=("s0", "s1"), id="A")
    assert tiers(labels(half_done, "Bye.", success=True)) == ["error", "message"]
    refused = call("put", error="tool", states=("s0", "s0"), id="A")
    assert tiers(labels(refused, "Bye.", success=True)) == ["error", "noop"]
