"""The shape all of this room takes: ragged trials, missing scores, aligned pairs."""

from __future__ import annotations

import numpy as np
import pytest

from banty.errors import InputError
from banty.stats import paired_differences, task_means, variance_over_tasks


def test_a_task_without_a_scored_trial_is_missing_and_not_zero() -> None:
    means = task_means([[1, 0], [], [None], [float("nan"), 1], [0]])
    np.testing.assert_array_equal(means, [0.5, np.nan, np.nan, 1.0, 0.0])


def test_arrays_and_booleans_are_taken() -> None:
    np.testing.assert_array_equal(task_means(np.array([[True, False], [True, True]])), [0.5, 1.0])
    np.testing.assert_array_equal(task_means([np.array([1.0]), np.array([])]), [1.0, np.nan])
    assert task_means([]).shape == (0,)


def test_differences_keep_their_place() -> None:
    differences = paired_differences([[1, 1], [0], [], [1, 0]], [[0], [None], [1], [1, 1, 1, 0]])
    np.testing.assert_array_equal(differences, [1.0, np.nan, np.nan, -0.25])


def test_differences_need_the_same_tasks() -> None:
    with pytest.raises(InputError, match="2 tasks and baseline 1"):
        paired_differences([[1], [0]], [[1]])


def test_variance_is_unbiased_and_unknown_without_spread() -> None:
    assert variance_over_tasks([0.0, 0.5, None, 1.0]) == pytest.approx(0.25)
    assert variance_over_tasks([0.5]) is None
    assert variance_over_tasks([]) is None
    assert variance_over_tasks([0.1 + 0.2, 0.3, 0.3]) is None
