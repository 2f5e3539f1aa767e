"""Recursive rollouts: fixtures F3 and F4 of specs/rlm.md 5.5 through `inherit` and the real aggregation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from tests.credit.by_hand import assert_ragged

from banty.credit import Credit, TreeCredit, TreeNode, grpo, inherit
from banty.credit.types import GroupRewards
from banty.learn.aggregate import coefficients
from banty.records import Aggregation, TrainingSample


def node(parent: int, turn: int, *tokens: float) -> TreeNode:
    return TreeNode(parent, turn, np.array(tokens))


def flat(advantages: Sequence[float], lengths: Sequence[int]) -> Credit:
    each = [np.full(length, value) for value, length in zip(advantages, lengths, strict=True)]
    return Credit(each, [np.ones(length) for length in lengths])


def samples_of(
    credit: TreeCredit, tokens: Sequence[Sequence[Sequence[int]]], *, weighed: bool = True
) -> list[TrainingSample]:
    """A sample per node, with an untrained token before each turn. A tree counts as one rollout: its root's share is
    1 and that of the others 0."""
    samples = []
    for tree, (advantages, weights) in enumerate(zip(credit.advantages, credit.weights, strict=True)):
        for place, counts in enumerate(tokens[tree]):
            mask = np.concatenate([[False] + [True] * count for count in counts])
            turn_ids = np.concatenate([[-1] + [turn] * count for turn, count in enumerate(counts)])
            per_turn = weights[place] if weighed else np.ones(len(counts))
            samples.append(
                TrainingSample(
                    rollout_id=f"{tree}.{place}",
                    token_ids=np.zeros(len(mask), dtype=np.int32),
                    mask=mask,
                    turn_ids=turn_ids.astype(np.int32),
                    sampler_logprobs=np.zeros(len(mask), dtype=np.float32),
                    advantages=np.append(advantages[place], 0.0)[turn_ids].astype(np.float32),
                    weights=np.append(per_turn, 0.0)[turn_ids].astype(np.float32),
                    rollout_share=1.0 if place == 0 else 0.0,
                    num_turns=len(counts),
                )
            )
    return samples


def objective(samples: Sequence[TrainingSample], aggregation: Aggregation) -> float:
    """J of the fixture, where every ratio is 1: coefficient times advantage over all tokens."""
    shares = coefficients(samples, aggregation)
    return float(sum((share * one.advantages).sum() for share, one in zip(shares, samples, strict=True)))


# F3: per tree, per node (root first), the trained tokens of each turn.
F3 = [[[40, 60], [30, 30, 40], [20]], [[50], [100], [100], [50, 50], [40, 40, 20]]]


def tree_f3(level_normalise: bool = False) -> TreeCredit:
    roots = [np.array(tree[0], dtype=np.float64) for tree in F3]
    below = [[node(0, 0, *counts) for counts in tree[1:]] for tree in F3]
    return inherit(flat([1.0, -1.0], [2, 1]), roots, below, level_normalise=level_normalise)


def test_f3_the_weight_of_each_token() -> None:
    samples = samples_of(tree_f3(), F3)
    shares = coefficients(samples, "constant")
    per_token = [np.unique(share[one.mask]) for share, one in zip(shares, samples, strict=True)]
    assert [len(values) for values in per_token] == [1] * 8
    wanted = [0.005, 0.0025, 0.0125, 0.01, 0.00125, 0.00125, 0.00125, 0.00125]
    np.testing.assert_allclose([values[0] for values in per_token], wanted, rtol=1e-6)
    masses = [float(share.sum()) for share in shares]
    assert sum(masses[:3]) == pytest.approx(sum(masses[3:]), rel=1e-6), "both trees weigh the same"


def test_f3_the_objective_under_three_reductions() -> None:
    assert objective(samples_of(tree_f3(), F3), "constant") == pytest.approx(0.0, abs=1e-7)
    unweighed = samples_of(tree_f3(), F3, weighed=False)
    assert sum(int(one.mask.sum()) for one in unweighed) == 670
    assert objective(unweighed, "token") == pytest.approx(-0.343284, abs=1e-6)
    turns = [[[count]] for tree in F3 for counts in tree for count in counts]
    signs = [1.0] * 6 + [-1.0] * 8
    each = TreeCredit([[np.array([sign])] for sign in signs], [[np.ones(1)]] * 14)
    assert objective(samples_of(each, turns), "sequence") == pytest.approx(-0.142857, abs=1e-6)


def test_f3_by_level_each_tree_has_the_mass_of_one_rollout() -> None:
    samples = samples_of(tree_f3(level_normalise=True), F3)
    masses = [float(share.sum()) for share in coefficients(samples, "constant")]
    assert sum(masses[:3]) == pytest.approx(0.5, rel=1e-6)
    assert sum(masses[3:]) == pytest.approx(0.5, rel=1e-6)


# F4: y has children a and b, a has three of its own; node values are what each token's advantage is set to.
F4_TOKENS = [[3, 2], [4], [5, 1], [7], [2], [1, 1]]
F4_VALUES = [0.9, 0.6, -0.3, 0.3, 0.0, 0.6]


def tree_f4(level_normalise: bool = False) -> TreeCredit:
    below = [node(0, 1, 4), node(0, 0, 5, 1), node(1, 0, 7), node(1, 0, 2), node(1, 0, 1, 1)]
    found = inherit(flat([1.0], [2]), [np.array([3.0, 2.0])], [below], level_normalise=level_normalise)
    values = [np.full(len(counts), value) for counts, value in zip(F4_TOKENS, F4_VALUES, strict=True)]
    return TreeCredit([values], found.weights)


def test_f4_the_recursion() -> None:
    samples = samples_of(tree_f4(), [F4_TOKENS])
    masses = [float(share.sum()) for share in coefficients(samples, "constant")]
    np.testing.assert_allclose(masses, [1, 1 / 2, 1 / 2, 1 / 6, 1 / 6, 1 / 6], rtol=1e-6)
    assert objective(samples, "constant") == pytest.approx(1.2, rel=1e-6)
    shares = coefficients(samples, "constant")
    of_a = sum(float((shares[place] * samples[place].advantages).sum()) for place in (1, 3, 4, 5))
    assert of_a == pytest.approx(0.9 / 2, rel=1e-6), "S(a) = 0.9, of which y takes half"


def test_f4_by_level_three_levels_share_one_mass() -> None:
    samples = samples_of(tree_f4(level_normalise=True), [F4_TOKENS])
    masses = [float(share.sum()) for share in coefficients(samples, "constant")]
    np.testing.assert_allclose(masses, [1 / 3, 1 / 6, 1 / 6, 1 / 18, 1 / 18, 1 / 18], rtol=1e-6)
    assert objective(samples, "constant") == pytest.approx(0.4, rel=1e-6)


def test_a_tree_without_children_is_a_rollout() -> None:
    for level_normalise in (False, True):
        found = inherit(flat([2.0], [2]), [np.array([3.0, 5.0])], [[]], level_normalise=level_normalise)
        assert_ragged(found.advantages[0], [[2.0, 2.0]], 0.0)
        assert_ragged(found.weights[0], [[1 / 8, 1 / 8]], 1e-15)


def test_children_inherit_the_turn_that_asked_for_them() -> None:
    """With an estimator of turns the root's turns differ, and so do what descends from them."""
    roots = Credit([np.array([0.5, -2.0])], [np.ones(2)])
    below = [node(0, 1, 1), node(0, 0, 1, 1), node(1, 0, 1), node(2, 1, 1)]
    found = inherit(roots, [np.array([1.0, 1.0])], [below])
    assert_ragged(found.advantages[0], [[0.5, -2.0], [-2.0], [0.5, 0.5], [-2.0], [0.5]], 0.0)


def test_a_node_that_sampled_nothing_is_counted_among_its_siblings() -> None:
    """Leaving it out would select on what happened; its share is simply lost."""
    found = inherit(flat([1.0], [1]), [np.array([2.0])], [[node(0, 0, 0), node(0, 0, 4)]])
    assert_ragged(found.weights[0], [[1 / 2], [1 / 2], [1 / 8]], 1e-15)


def test_roots_alone_are_compared() -> None:
    credit = grpo(GroupRewards(np.array([0.9, 0.6, 0.6, 0.3]), [np.zeros(1)] * 4))
    below = [[node(0, 0, 3)] * count for count in (0, 1, 2, 3)]
    found = inherit(credit, [np.ones(1)] * 4, below)
    for root, tree in zip((1.224740, 0.0, 0.0, -1.224740), found.advantages, strict=True):
        assert_ragged(tree, [[root]] * len(tree))


def test_weights_of_the_root_s_turns_come_through() -> None:
    roots = Credit([np.ones(2)], [np.array([1.0, 0.0])])
    assert_ragged(inherit(roots, [np.array([1.0, 3.0])], [[]]).weights[0], [[0.25, 0.0]], 1e-15)


def test_parents_come_before_their_children() -> None:
    with pytest.raises(AssertionError, match="parents come before"):
        inherit(flat([1.0], [1]), [np.ones(1)], [[node(2, 0, 1), node(0, 0, 1)]])
