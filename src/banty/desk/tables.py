"""The leaves of many tasks' trees as arrays, and on disk."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from banty.desk.trees import Leaf
from banty.errors import InputError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int32]
_FORMAT = 1
_ARRAYS = (
    "roots",
    "node_point",
    "node_child",
    "leaf_task",
    "success",
    "lengths",
    "options",
    "turns",
    "tiers",
    "anchors",
)


@dataclass(frozen=True)
class Desk:
    """T tasks with M decision nodes and L episodes of at most K turns and D decisions.

    `roots` [T] are nodes. A node asks for `node_point` [M] and goes on to `node_child` [M, 2], discipline first: to a
    node, or to ~leaf. Of an episode: `leaf_task`, `success` and `lengths` (in turns) [L]; `options` [L, D], 2 x point +
    option or -1 past the end, and `turns` [L, D], the turn each was drawn in; `rewards[name]` [L, K]; `tiers` [L, K],
    places in `tier_names`, and `anchors` [L, K], equal where states are, both -1 past the end.
    """

    tasks: tuple[str, ...]
    points: tuple[str, ...]
    tier_names: tuple[str, ...]
    roots: Ints
    node_point: Ints
    node_child: Ints
    leaf_task: Ints
    success: Floats
    lengths: Ints
    options: Ints
    turns: Ints
    tiers: Ints
    anchors: Ints
    rewards: Mapping[str, Floats]
    num_looked_at: int = 0

    @property
    def num_leaves(self) -> int:
        return len(self.leaf_task)

    @cached_property
    def tokens(self) -> Floats:
        """How many decisions each turn of an episode has, [L, K]."""
        found = np.zeros(self.tiers.shape)
        leaf, place = np.nonzero(self.options >= 0)
        np.add.at(found, (leaf, self.turns[leaf, place]), 1.0)
        return found

    @cached_property
    def counts(self) -> Floats:
        """How often an episode takes each option, [L, 2 x points]."""
        found = np.zeros((self.num_leaves, 2 * len(self.points)))
        leaf, place = np.nonzero(self.options >= 0)
        np.add.at(found, (leaf, self.options[leaf, place]), 1.0)
        return found


def desk_of(trees: Mapping[str, Sequence[Leaf]], points: Sequence[str], num_looked_at: int = 0) -> Desk:
    """The tables of tasks by their id. Every task needs a decision."""
    leaves = [leaf for tree in trees.values() for leaf in tree]
    longest = max(leaf.num_turns for leaf in leaves)
    deepest = max(len(leaf.decisions) for leaf in leaves)
    tier_names = tuple(sorted({tier for leaf in leaves for tier in leaf.tiers}))
    anchors: dict[tuple[str, str], int] = {}
    names = list(trees)
    shape = (len(leaves), longest)
    options, turns = np.full((len(leaves), deepest), -1), np.zeros((len(leaves), deepest))
    tiers, states = np.full(shape, -1), np.full(shape, -1)
    rewards = {name: np.zeros(shape) for name in leaves[0].rewards}
    roots, point, child = _nodes(trees)
    owners = [name for name, tree in trees.items() for _ in tree]
    for place, (leaf, owner) in enumerate(zip(leaves, owners, strict=True)):
        for nth, (turn, where, option) in enumerate(leaf.decisions):
            options[place, nth], turns[place, nth] = 2 * where + option, turn
        for name, values in leaf.rewards.items():
            rewards[name][place, : leaf.num_turns] = values
        if leaf.tiers:
            tiers[place, : leaf.num_turns] = [tier_names.index(tier) for tier in leaf.tiers]
        states[place, : leaf.num_turns] = [
            anchors.setdefault((owner, anchor), len(anchors)) if anchor else -1 for anchor in leaf.anchors
        ]
    return Desk(
        tuple(names),
        tuple(points),
        tier_names,
        roots,
        point,
        child,
        np.array([names.index(owner) for owner in owners], dtype=np.int32),
        np.array([leaf.success for leaf in leaves], dtype=np.float64),
        np.array([leaf.num_turns for leaf in leaves], dtype=np.int32),
        options.astype(np.int32),
        turns.astype(np.int32),
        tiers.astype(np.int32),
        states.astype(np.int32),
        rewards,
        num_looked_at,
    )


def _nodes(trees: Mapping[str, Sequence[Leaf]]) -> tuple[Ints, Ints, Ints]:
    """Roots, points and children of the trees that the leaves' decisions make."""
    roots: list[int] = []
    points: list[int] = []
    children: list[list[int]] = []
    number = 0
    for name, tree in trees.items():
        if not tree[0].decisions:
            raise InputError(f"{name} asks for no decision, so a habit policy has nothing to learn there; leave it out")
        made: dict[tuple[int, ...], int] = {}
        for leaf in tree:
            for depth, (_, point, _) in enumerate(leaf.decisions):
                prefix = leaf.options[:depth]
                if prefix in made:
                    continue
                made[prefix] = len(points)
                if prefix:
                    children[made[prefix[:-1]]][prefix[-1]] = made[prefix]
                points.append(point)
                children.append([0, 0])
            children[made[leaf.options[:-1]]][leaf.options[-1]] = ~number
            number += 1
        roots.append(made[()])
    return tuple(np.array(each, dtype=np.int32) for each in (roots, points, children))  # type: ignore[return-value]


def save_desk(desk: Desk, file: Path) -> None:
    """Write the tables as one compressed file, whole or not at all."""
    about = {
        "format": _FORMAT,
        "tasks": desk.tasks,
        "points": desk.points,
        "tier_names": desk.tier_names,
        "rewards": list(desk.rewards),
        "num_looked_at": desk.num_looked_at,
    }
    arrays: dict[str, Any] = {name: _small(getattr(desk, name)) for name in _ARRAYS}
    arrays |= {f"reward_{place}": values for place, values in enumerate(desk.rewards.values())}
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial.npz")
    np.savez_compressed(partial, about=np.array(json.dumps(about)), **arrays)
    partial.replace(file)


def load_desk(file: Path) -> Desk:
    """Raises InputError for a file that does not hold the tables of a desk."""
    try:
        with np.load(file, allow_pickle=False) as data:
            about = json.loads(str(data["about"]))
            if about["format"] != _FORMAT:
                raise ValueError(f"format {about['format']}; this Banty reads {_FORMAT}")
            arrays = {name: data[name].astype(np.int32) for name in _ARRAYS}
            rewards = {name: data[f"reward_{place}"] for place, name in enumerate(about["rewards"])}
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise InputError(f"{file} holds no decision trees: {error}; remove it, and it is made again") from error
    arrays["success"] = arrays["success"].astype(np.float64)
    return Desk(
        tuple(about["tasks"]),
        tuple(about["points"]),
        tuple(about["tier_names"]),
        rewards=rewards,
        num_looked_at=about["num_looked_at"],
        **arrays,
    )


def _small(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The values in the smallest integers that hold them."""
    whole = values.astype(np.int32)
    return whole.astype(np.result_type(np.min_scalar_type(whole.min()), np.min_scalar_type(whole.max())))
