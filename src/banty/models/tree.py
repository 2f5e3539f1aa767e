"""Sequences that begin alike as a tree, in which each shared token stands once. Numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LEAST_SAVED = 64
"""A beginning is shared where that saves so many tokens; below, the smaller products cost more than the tokens."""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Node:
    """Tokens `start` to `stop` of the stream, behind those of `parent` (its place among the nodes, -1 for none) and
    their parents. What descends from it follows it in the stream, up to `until`; `before` tokens precede it in its
    sequences."""

    start: int
    stop: int
    until: int
    parent: int
    before: int

    @property
    def length(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class TokenTree:
    """Sequences merged where they begin alike.

    `ids` [N] is the stream, `nodes` its parts in order, each before those that descend from it. `places[i]` says where
    in the stream the tokens of sequence i are.
    """

    ids: Ints
    nodes: tuple[Node, ...]
    places: tuple[Ints, ...]

    @property
    def positions(self) -> Ints:
        """Each token's place in its sequences, [N]."""
        return np.concatenate([node.before + np.arange(node.length) for node in self.nodes])

    @property
    def untils(self) -> Ints:
        """Token k is seen by the tokens q with k <= q < untils[k], and by no others, [N]."""
        found = np.empty(len(self.ids), dtype=np.int64)
        for node in self.nodes:
            found[node.start : node.stop] = node.until
        return found

    @property
    def num_flat(self) -> int:
        """How many tokens the sequences have one by one."""
        return sum(map(len, self.places))


def token_tree(sequences: Sequence[npt.NDArray[np.integer]], least_saved: int = LEAST_SAVED) -> TokenTree:
    """The tree of `sequences`, none of them empty; it branches where sharing saves `least_saved` tokens or more."""
    rows = [np.asarray(one, dtype=np.int64) for one in sequences]
    nodes: list[Node] = []
    pieces: list[Ints] = []
    places: list[list[Ints]] = [[] for _ in rows]
    length = 0

    def add(members: Sequence[int], begin: int, end: int, parent: int) -> int:
        """A node of the tokens `begin` to `end` that `members` have in common; its place."""
        nonlocal length
        nodes.append(Node(length, length + end - begin, 0, parent, begin))
        pieces.append(rows[members[0]][begin:end])
        for member in members:
            places[member].append(np.arange(length, length + end - begin))
        length += end - begin
        return len(nodes) - 1

    # Members are in the order of their ids, so what the first and the last have in common all have. What is taken last
    # is done next: descendants come right behind their node.
    waiting: list[tuple[list[int], int, int]] = [(order(rows), 0, -1)]
    while waiting:
        members, begin, parent = waiting.pop()
        shortest = min(len(rows[member]) for member in members)
        common = common_length(rows[members[0]][:shortest], rows[members[-1]][:shortest])
        if len(members) == 1:
            common = shortest
        if len(members) == 1 or (common - begin) * (len(members) - 1) >= least_saved:
            if common > begin:
                parent = add(members, begin, common, parent)
            begin = common
        branches: dict[int, list[int]] = {}
        for member in members:
            if len(rows[member]) > common:
                branches.setdefault(int(rows[member][common]), []).append(member)
            elif begin < common:  # it ends here, and its last tokens were not worth sharing
                branches.setdefault(-1 - member, []).append(member)
        waiting += [(branch, begin, parent) for branch in reversed(branches.values())]
    return TokenTree(
        np.concatenate(pieces), tuple(_with_untils(nodes)), tuple(np.concatenate(parts) for parts in places)
    )


def order(sequences: Sequence[npt.NDArray[np.integer]]) -> list[int]:
    """The sequences by their ids, so that those that begin alike are neighbours."""
    return sorted(range(len(sequences)), key=lambda place: (sequences[place].astype(">u4").tobytes(), place))


def common_length(one: npt.NDArray[np.integer], other: npt.NDArray[np.integer]) -> int:
    """How many leading ids are the same."""
    shorter = min(len(one), len(other))
    different = np.flatnonzero(one[:shorter] != other[:shorter])
    return int(different[0]) if len(different) else shorter


def _with_untils(nodes: Sequence[Node]) -> list[Node]:
    """The nodes with the end of their last descendant."""
    untils = [node.stop for node in nodes]
    for place in reversed(range(len(nodes))):  # children come behind their parents
        parent = nodes[place].parent
        if parent >= 0:
            untils[parent] = max(untils[parent], untils[place])
    return [
        Node(node.start, node.stop, until, node.parent, node.before) for node, until in zip(nodes, untils, strict=True)
    ]
