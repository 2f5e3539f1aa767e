"""Equality of arguments, strict and as published, and partial scores: fixture F9 of specs/irc.md, hazards included."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banty.records import GoldenCall, ToolCall, ToolMatching
from banty.rubrics import LOOSE, STRICT, Matching, deep_equal, match_score
from banty.rubrics.matching import Match, arguments_of, assign, best_of, wanted_of

RECORDS = [{"id": 1, "on": "monday"}, {"id": 2, "on": "friday"}]


@pytest.mark.parametrize(
    ("a", "b", "strict", "loose"),
    [
        ({"a": 1, "b": "2"}, {"b": 2, "a": "1"}, False, True),
        ({"a": 1, "b": "2"}, {"b": "2", "a": 1}, True, True),
        ({"a": 1, "n": ""}, {"a": 1}, False, True),
        ({"a": 1, "n": {"m": None, "k": []}}, {"a": 1}, False, True),
        ({"a": 1, "n": 0}, {"a": 1}, False, False),
        ({"a": 1, "n": False}, {"a": 1}, False, False),
        (RECORDS, RECORDS[::-1], False, True),
        ([1, 2], [2, 1], False, False),
        (["a", {"b": 1}], [{"b": 1}, "a"], False, False),
        ("007", 7, False, True),  # a hazard: ids are not numbers
        (True, 1, False, True),  # a hazard: in Python they are equal
        (True, "1", False, True),
        (False, 0, False, True),
        (25, 25.0, True, True),
        ("25.0", "25", False, True),
        ("1e3", 1000, False, True),
        ("12345678901234567890", "12345678901234567891", False, False),
        ("nan", float("nan"), False, False),
        ("1_000", 1000, False, False),
        (None, "", False, False),
        ("Anna", "anna", False, False),
    ],
)
def test_equality_strict_and_as_published(a: Any, b: Any, strict: bool, loose: bool) -> None:
    for one, other in ((a, b), (b, a)):
        assert deep_equal(one, other) is strict
        assert deep_equal(one, other, LOOSE) is loose


def test_each_option_is_loose_in_its_own_way() -> None:
    options = (Matching(numbers=True), Matching(empty=True), Matching(records_in_order=False))
    pairs: list[tuple[Any, Any]] = [("7", 7), ({"a": ""}, {}), (RECORDS, RECORDS[::-1])]
    found = [[deep_equal(a, b, option) for a, b in pairs] for option in options]
    assert found == [[True, False, False], [False, True, False], [False, False, True]]


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(JSONS, JSONS)
def test_what_is_equal_strictly_is_equal_loosely(a: Any, b: Any) -> None:
    assert deep_equal(a, a)
    assert deep_equal(a, a, LOOSE)
    if deep_equal(a, b):
        assert deep_equal(a, b, LOOSE)


def test_rules_of_single_tools_go_by_key_at_any_depth() -> None:
    rules = ToolMatching(ignore=("note",), as_set=("tags",), text=("name",), numbers=("count",))
    matching = Matching(tools={"put": rules})
    a = {"items": [{"tags": ["x", "y"], "name": "Blue Pen", "count": "3", "note": "!"}], "tags": [2, 1, 1]}
    b = {"items": [{"tags": ["y", "x"], "name": "bluepen", "count": 3}], "tags": [1, 1, 2]}
    assert deep_equal(a, b, matching, "put")
    assert not deep_equal(a, b, matching, "take")
    assert not deep_equal(a, b, matching)
    assert not deep_equal({"tags": [1, 1, 2]}, {"tags": [1, 2, 2]}, matching, "put"), "how often counts"
    assert not deep_equal({"name": "1"}, {"name": 1}, matching, "put")


GOLDEN = ToolCall(
    "update_reservation_flights", {"reservation_id": "ZFA04Y", "cabin": "economy", "payment_id": "credit_card_1"}
)


@pytest.mark.parametrize(
    ("changes", "score"),
    [
        ({}, 1.0),
        ({"payment_id": "gift_card_2"}, 0.833333),
        ({"payment_id": "gift_card_2", "cabin": "business"}, 0.666667),
        ({"payment_id": "gift_card_2", "cabin": "business", "reservation_id": "XXXXXX"}, 0.0),
        ({"extra": 1}, 0.99),
    ],
)
def test_the_score_of_a_call(changes: dict[str, Any], score: float) -> None:
    called = ToolCall(GOLDEN.name, {**GOLDEN.arguments, **changes})
    assert match_score(called, GOLDEN) == pytest.approx(score, abs=2e-6)


def test_the_score_of_other_calls() -> None:
    assert match_score(ToolCall("cancel_reservation", GOLDEN.arguments), GOLDEN) == 0.0
    assert match_score(ToolCall("list", {}), ToolCall("list", {})) == 1.0
    assert match_score(ToolCall("list", {"a": 1}), ToolCall("list", {})) == 0.0
    assert match_score(ToolCall(GOLDEN.name, {"cabin": "economy"}), GOLDEN) == pytest.approx(2 / 3)
    quiet = Matching(tools={"hand_over": ToolMatching(ignore=("summary",))})
    assert match_score(ToolCall("hand_over", {"summary": "a"}), ToolCall("hand_over", {"summary": "b"}), quiet) == 1.0


def test_of_a_golden_call_only_the_compared_arguments_count() -> None:
    golden = GoldenCall("f", {"a": 1, "b": 2}, compared=("a", "c"))
    for arguments, score in [
        ({"a": 1}, 1.0),
        ({"a": 1, "b": 3, "d": 4}, 1.0),
        ({"a": 1, "c": 5}, 0.99),  # an argument that counts, and that the golden call has not
        ({"a": 2, "b": 2}, 0.0),
        ({"b": 2}, 0.0),
    ]:
        call = ToolCall("f", arguments)
        assert match_score(call, golden) == score, arguments
        made = ("f", arguments_of("f", arguments, STRICT))
        assert assign([made], [wanted_of(golden, STRICT)], lambda name: True) == [Match(0, score) if score else None]
        assert best_of(made, [wanted_of(golden, STRICT)]) == (Match(0, score) if score else None)
    anything = GoldenCall("f", {"a": 1})
    assert match_score(ToolCall("f", {"b": 7}), anything) == 1.0, "with nothing to compare the name is enough"
    assert match_score(ToolCall("g", {"a": 1}), anything) == 0.0
    loose = Matching(numbers=True)
    assert match_score(ToolCall("f", {"a": "1", "b": 9}), golden, loose) == 1.0


def given_of(calls: list[tuple[str, dict[str, Any]]], golden: list[tuple[str, dict[str, Any]]]) -> list[Match | None]:
    made = [(name, arguments_of(name, arguments, STRICT)) for name, arguments in calls]
    wanted = [wanted_of(ToolCall(name, arguments), STRICT) for name, arguments in golden]
    return assign(made, wanted, lambda name: True)


def test_each_golden_call_is_given_once_and_exact_matches_come_first() -> None:
    exact, near, far = {"a": 1, "b": 2}, {"a": 1, "b": 3}, {"a": 0, "b": 0}
    assert given_of([("f", exact), ("f", exact)], [("f", exact)]) == [Match(0, 1.0), None]
    assert given_of([("f", exact), ("f", exact)], [("f", exact), ("f", exact)]) == [Match(0, 1.0), Match(1, 1.0)]
    # The earlier call is like the golden one; the later is it.
    assert given_of([("f", near), ("f", exact)], [("f", exact)]) == [None, Match(0, 1.0)]
    assert given_of([("f", far), ("g", exact)], [("f", exact)]) == [None, None]
    assert given_of([("f", near), ("f", near)], [("f", exact)]) == [Match(0, 0.75), None], "the earlier of two alike"
    assert given_of([], [("f", exact)]) == []
    assert given_of([("f", exact)], []) == [None]


def test_what_is_left_is_given_so_that_scores_add_up_to_the_most() -> None:
    """Greedily the first call would take its best (0.83), and leave the second with nothing."""
    golden = [("f", {"a": 1, "b": 1, "c": 1}), ("f", {"a": 1, "b": 5, "c": 5})]
    calls = [("f", {"a": 1, "b": 1, "c": 0}), ("f", {"a": 0, "b": 1, "c": 0})]
    found = [match for match in given_of(calls, golden) if match is not None]
    assert [match.golden for match in found] == [1, 0]
    assert [match.score for match in found] == pytest.approx([2 / 3, 2 / 3])


@pytest.mark.parametrize(("one", "other"), [("1e999", "2e999"), ("1" * 5000, "2" * 5000)])
def test_texts_that_spell_no_number_a_machine_can_hold_stay_texts(one: str, other: str) -> None:
    assert not deep_equal({"id": one}, {"id": other}, LOOSE)
    assert deep_equal({"id": one}, {"id": one}, LOOSE)
