"""Recursive rollouts: children inherit their root's advantage, with weights that keep a tree counted once
(specs/rlm.md 5.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from banty.credit.types import Credit, FloatArray


@dataclass(frozen=True)
class TreeNode:
    """A descendant of a root rollout. `parent` is its place among the root (0) and the nodes (1, 2, ...), `turn` the
    turn of the parent that asked for it, and `tokens` the trained tokens of each of its own turns."""

    parent: int
    turn: int
    tokens: FloatArray


@dataclass(frozen=True)
class TreeCredit:
    """Of each root its own credit, then that of its nodes in order: `advantages[g][n]` and `weights[g][n]` per turn."""

    advantages: Sequence[Sequence[FloatArray]]
    weights: Sequence[Sequence[FloatArray]]


def inherit(
    roots: Credit,
    root_tokens: Sequence[FloatArray],
    nodes: Sequence[Sequence[TreeNode]],
    *,
    level_normalise: bool = False,
) -> TreeCredit:
    """Credit for whole trees from that of their roots.

    A node has the advantage of the root's turn that it descends from, which for an estimator of outcomes is the root's.
    Its weight is the product over its ancestors of one over their number of children, divided by its own trained
    tokens: with a loss summed over tokens and divided by the number of roots (`constant`), this is S(y) = L(y) + mean
    over children of S(child). A root with children has twice the mass of one without, and one more per level; with
    `level_normalise` it is divided by the tree's levels. All nodes of a tree are needed: leaving out those that failed
    selects on the outcome.
    """
    advantages: list[list[FloatArray]] = []
    weights: list[list[FloatArray]] = []
    for own, own_weights, tokens, below in zip(roots.advantages, roots.weights, root_tokens, nodes, strict=True):
        assert all(node.parent <= place for place, node in enumerate(below)), "parents come before their children"
        found, root_turn, level = [own], [-1], [1]
        share = [1.0]
        children = np.bincount([node.parent for node in below], minlength=len(below) + 1)
        for node in below:
            turn = node.turn if node.parent == 0 else root_turn[node.parent]
            root_turn.append(turn)
            level.append(level[node.parent] + 1)
            share.append(share[node.parent] / children[node.parent])
            found.append(np.full(len(node.tokens), own[turn]))
        mass = 1.0 / max(level) if level_normalise else 1.0
        sizes = [float(tokens.sum()), *(float(node.tokens.sum()) for node in below)]
        shapes = [own_weights, *(np.ones(len(node.tokens)) for node in below)]
        weights.append(
            [shape * (mass * part / max(size, 1.0)) for shape, part, size in zip(shapes, share, sizes, strict=True)]
        )
        advantages.append(found)
    return TreeCredit(advantages, weights)
