"""The block of a recipe: defaults, and one sentence for whatever cannot work."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any, get_args

import numpy as np
import pytest
from tests.credit.by_hand import assert_ragged, group_of

from banty.credit import ESTIMATORS, CreditSpec, GroupRewards, estimator_of, gigpo, gtpo, hybrid, mt_grpo, unbiased
from banty.credit.mtgrpo import Variant
from banty.credit.normalise import normalise
from banty.errors import InputError

GROUP = group_of([[1, 0.5, 0], [0, 0], [-1, 2, 0]], [1, 0, 0], anchors=[["a", "b", "c"], ["a", "d"], ["a", "b", "e"]])


def refusal(**options: Any) -> str:
    with pytest.raises(InputError) as caught:
        estimator_of(CreditSpec(**options))
    return str(caught.value)


def test_every_estimator_of_the_specification_is_there_and_rloo_on_the_outcome_is_the_default() -> None:
    wanted = "rloo grpo dr_grpo mt_grpo gtpo hybrid gigpo gdpo unbiased"
    assert set(ESTIMATORS) == set(wanted.split())
    assert (CreditSpec().estimator, CreditSpec().total, CreditSpec().scale) == ("rloo", False, "none")


def test_the_defaults_are_the_published_ones() -> None:
    defaults = {name: CreditSpec(estimator=name).options() for name in ESTIMATORS}
    assert defaults["grpo"] == {"std": True, "ddof": 1, "epsilon": 1e-6, "total": False}
    assert (defaults["mt_grpo"]["variant"], defaults["mt_grpo"]["last_turn"]) == ("go", False)
    assert (defaults["gtpo"]["gamma"], defaults["gtpo"]["compare"]) == (0.9, "position")
    assert (defaults["hybrid"]["gamma"], defaults["hybrid"]["outcome_weight"]) == (0.9, 0.3)
    assert (defaults["gigpo"]["gamma"], defaults["gigpo"]["state_weight"], defaults["gigpo"]["std"]) == (0.95, 1, False)
    assert defaults["unbiased"] == {"ended": "outcome"}


def test_options_reach_their_estimator() -> None:
    """Each option away from its default, through the recipe and by hand."""

    def rough(values: Any) -> Any:
        return normalise(values, ddof=0, epsilon=0.1)

    deviation: dict[str, Any] = {"ddof": 0, "epsilon": 0.1}
    by_hand: list[tuple[dict[str, Any], Any]] = [
        ({"estimator": "mt_grpo", "variant": "additive", "outcome_weight": 0.5, "turn_weight": 2.0, **deviation},
         mt_grpo(GROUP, rough, variant="additive", outcome_weight=0.5, turn_weight=2.0)),
        ({"estimator": "gtpo", "gamma": 0.5, "compare": "pooled", **deviation},
         gtpo(GROUP, rough, gamma=0.5, compare="pooled")),
        ({"estimator": "hybrid", "gamma": 0.5, "outcome_weight": 0.8, **deviation},
         hybrid(GROUP, rough, gamma=0.5, outcome_weight=0.8)),
        ({"estimator": "gigpo", "gamma": 0.5, "state_weight": 3.0, "std": True, **deviation},
         gigpo(GROUP, rough, gamma=0.5, state_weight=3.0)),
        ({"estimator": "unbiased", "ended": "left_out"}, unbiased(GROUP, ended="left_out")),
    ]  # fmt: skip
    for options, wanted in by_hand:
        (found,) = estimator_of(CreditSpec(**options))([GROUP])
        assert_ragged(found.advantages, [one.tolist() for one in wanted.advantages], 0.0)
        (plain,) = estimator_of(CreditSpec(estimator=options["estimator"]))([GROUP])
        assert any(not np.array_equal(a, b) for a, b in zip(found.advantages, plain.advantages, strict=True))


def test_an_unknown_estimator_is_told_which_there_are() -> None:
    assert "'gae'; known are rloo, grpo" in refusal(estimator="gae")


@pytest.mark.parametrize(
    ("options", "heeded"),
    [
        ({"estimator": "rloo", "gamma": 0.9}, "total"),
        ({"estimator": "unbiased", "gamma": 0.9}, "ended"),
        ({"estimator": "unbiased", "std": True}, "ended"),
        ({"estimator": "dr_grpo", "std": True}, "total"),
        ({"estimator": "gtpo", "outcome_weight": 0.3}, "compare, ddof, epsilon, gamma, std"),
        ({"estimator": "grpo", "variant": "go"}, "ddof, epsilon, std, total"),
        ({"estimator": "mt_grpo", "total": True}, "variant"),
        ({"estimator": "gdpo", "last_turn": True}, "turn_weight"),
    ],
)
def test_an_option_the_estimator_does_not_heed_is_refused_with_those_it_does(
    options: dict[str, Any], heeded: str
) -> None:
    told = refusal(**options)
    (name,) = set(options) - {"estimator"}
    assert f"credit.{name} is {options[name]!r}" in told
    assert f"{options['estimator']} does not heed it; leave it out" in told
    assert heeded in told


@pytest.mark.parametrize(
    ("variant", "options"),
    [
        (None, {"outcome_weight": 0.5}),
        ("go", {"outcome_weight": 0.5}),
        ("two_stage", {"outcome_weight": 0.5}),
        ("two_stage", {"last_turn": True}),
        ("additive", {"last_turn": True}),
    ],
)
def test_an_option_that_a_variant_leaves_out_is_refused(variant: Any, options: dict[str, Any]) -> None:
    """The formula of the variant has no such term: the same advantages would come out whatever it is."""
    told = refusal(estimator="mt_grpo", variant=variant, **options)
    assert f"the variant {variant or 'go'!r} of mt_grpo does not heed it" in told


@pytest.mark.parametrize("variant", get_args(Variant))
def test_an_option_that_a_variant_takes_changes_its_advantages(variant: Variant) -> None:
    (plain,) = estimator_of(CreditSpec(estimator="mt_grpo", variant=variant))([GROUP])
    for options in ({"outcome_weight": 0.5}, {"turn_weight": 0.5}, {"last_turn": True}):
        spec = CreditSpec(estimator="mt_grpo", variant=variant, **options)
        with contextlib.suppress(InputError):
            (found,) = estimator_of(spec)([GROUP])
            assert any(not np.array_equal(a, b) for a, b in zip(found.advantages, plain.advantages, strict=True))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"estimator": "mt_grpo", "variant": "gone"}, "credit.variant is 'gone'; it takes one of go, two_stage"),
        ({"estimator": "gtpo", "compare": "batch"}, "credit.compare is 'batch'; it takes one of position, pooled"),
        ({"estimator": "unbiased", "ended": "zero"}, "credit.ended is 'zero'; it takes one of outcome, left_out"),
        ({"scale": "group"}, "credit.scale is 'group'; it takes one of none, batch, others"),
        ({"estimator": "grpo", "ddof": 2}, "credit.ddof is 2; it takes 1"),
        ({"estimator": "grpo", "std": False, "ddof": 1}, "with credit.std = false leave them out"),
        ({"estimator": "grpo", "std": False, "epsilon": 1e-3}, "with credit.std = false leave them out"),
        ({"estimator": "gtpo", "gamma": 1.5}, "credit.gamma is 1.5; it takes a number from 0 to 1"),
        ({"estimator": "gtpo", "gamma": -0.1}, "it takes a number from 0 to 1"),
        ({"estimator": "gtpo", "gamma": float("nan")}, "it takes a number from 0 to 1"),
        ({"estimator": "grpo", "epsilon": 0.0}, "credit.epsilon is 0.0; it takes a number above 0"),
        ({"estimator": "grpo", "epsilon": -1e-6}, "it takes a number above 0"),
        ({"estimator": "grpo", "epsilon": float("nan")}, "it takes a number above 0"),
        ({"estimator": "hybrid", "outcome_weight": -1.0}, "it takes a number from 0 to 1000"),
        ({"estimator": "gdpo", "turn_weight": float("inf")}, "it takes a number from 0 to 1000"),
        ({"estimator": "gigpo", "state_weight": -0.5}, "it takes a number from 0 to 1000"),
        ({"rms": 1.0}, "set credit.scale to batch or others with it"),
        ({"scale": "batch", "rms": 0.0}, "it takes a finite number above 0"),
        ({"scale": "others", "rms": float("inf")}, "it takes a finite number above 0"),
    ],
)
def test_a_value_that_cannot_work_is_refused_with_what_can(options: dict[str, Any], said: str) -> None:
    assert said in refusal(**options)


def test_the_smallest_epsilon_leaves_a_group_of_equals_at_0() -> None:
    group = GroupRewards(np.full(3, 0.1), [np.zeros(1)] * 3)
    (credit,) = estimator_of(CreditSpec(estimator="grpo", epsilon=1e-300))([group])
    assert not any(one.any() for one in credit.advantages)


def test_which_are_unbiased() -> None:
    found = {name: CreditSpec(estimator=name).is_unbiased for name in ESTIMATORS}
    assert [name for name, is_so in found.items() if is_so] == ["rloo", "unbiased"]
    for scale, is_so in (("none", True), ("others", True), ("batch", False)):
        assert CreditSpec(estimator="unbiased", scale=scale).is_unbiased is is_so  # type: ignore[arg-type]
    assert CreditSpec(estimator="rloo", total=True).is_unbiased


def test_gigpo_alone_needs_states() -> None:
    assert [name for name in ESTIMATORS if CreditSpec(estimator=name).needs_anchors] == ["gigpo"]


def test_every_option_belongs_to_some_estimator() -> None:
    fields = {one.name for one in dataclasses.fields(CreditSpec)} - {"estimator", "scale", "rms"}
    assert fields == {name for entry in ESTIMATORS.values() for name in entry.options}
