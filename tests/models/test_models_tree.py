"""Sequences merged into a tree, against what each sequence is by itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from banty.models.tree import TokenTree, token_tree

few_ids = st.lists(st.integers(0, 2), min_size=1, max_size=14)


def tree_of(*sequences: list[int], least_saved: int = 1) -> TokenTree:
    return token_tree([np.array(one) for one in sequences], least_saved)


@given(st.lists(few_ids, min_size=1, max_size=8), st.sampled_from([1, 3, 8, 64]))
def test_each_sequence_sees_itself_alone(sequences: list[list[int]], least_saved: int) -> None:
    tree = tree_of(*sequences, least_saved=least_saved)
    untils, positions = tree.untils, tree.positions
    for sequence, places in zip(sequences, tree.places, strict=True):
        assert tree.ids[places].tolist() == sequence
        assert positions[places].tolist() == list(range(len(sequence)))
        for count, place in enumerate(places, start=1):
            seen = [key for key in range(len(tree.ids)) if key <= place < untils[key]]
            assert seen == places[:count].tolist()


@given(st.lists(few_ids, min_size=1, max_size=8))
def test_each_distinct_beginning_stands_once(sequences: list[list[int]]) -> None:
    distinct = {tuple(one[:length]) for one in sequences for length in range(1, len(one) + 1)}
    assert len(tree_of(*sequences).ids) == len(distinct)


@given(st.lists(few_ids, min_size=1, max_size=8), st.integers(1, 30))
def test_a_branch_saves_what_it_has_to(sequences: list[list[int]], least_saved: int) -> None:
    tree = tree_of(*sequences, least_saved=least_saved)
    for node in tree.nodes:
        users = sum(node.start in places for places in tree.places)
        assert users == 1 or (users - 1) * node.length >= least_saved


def test_a_tree_by_hand() -> None:
    tree = tree_of([1, 2, 3, 4], [1, 2, 5], [9], [1, 2, 3, 6])
    assert tree.ids.tolist() == [1, 2, 3, 4, 6, 5, 9]
    assert [(node.start, node.stop, node.until, node.parent, node.before) for node in tree.nodes] == [
        (0, 2, 6, -1, 0),
        (2, 3, 5, 0, 2),
        (3, 4, 4, 1, 3),
        (4, 5, 5, 1, 3),
        (5, 6, 6, 0, 2),
        (6, 7, 7, -1, 0),
    ]
    assert tree.num_flat == 12


@pytest.mark.parametrize("count", [1, 5])
def test_the_same_sequence_many_times_stands_once(count: int) -> None:
    tree = tree_of(*[[4, 5, 6]] * count)
    assert tree.ids.tolist() == [4, 5, 6]
    assert [places.tolist() for places in tree.places] == [[0, 1, 2]] * count
