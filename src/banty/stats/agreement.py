"""How far two columns of numbers agree: a judge with a verifier, a reward with an outcome."""

from __future__ import annotations

import numpy as np

from banty.stats.trials import Values, all_equal, check_binary, paired_values


def pearson_correlation(first: Values, second: Values) -> float | None:
    """Linear correlation of the pairs in which both have a score; 0/1 against numbers gives the point-biserial one.

    None when it is not defined: fewer than two pairs, or a side without any variation.

    Raises:
        InputError: the lengths differ.
    """
    left, right = paired_values(first, second)
    if left.size < 2:
        return None
    # Scaled before comparing and before squaring: the answer does not depend on units, and 1e200 must not overflow.
    left, right = (side / (np.abs(side).max() or 1.0) for side in (left, right))
    if all_equal(left) or all_equal(right):
        return None
    left, right = left - left.mean(), right - right.mean()
    correlation = (left @ right) / np.sqrt((left @ left) * (right @ right))
    return float(np.clip(correlation, -1.0, 1.0))


def phi_coefficient(first: Values, second: Values) -> float | None:
    """Correlation of two columns of 0/1 over the pairs in which both have a score.

    With n11 pairs of two ones and so on, (n11 n00 - n10 n01) / sqrt((n11+n10) (n01+n00) (n11+n01) (n10+n00)).
    None when it is not defined: no pair, or a side that is all ones or all zeros. Its largest value is below 1 when
    the two sides have different shares of ones.

    Raises:
        InputError: the lengths differ, or a value is not 0 or 1.
    """
    left, right = paired_values(first, second)
    for side in (left, right):
        check_binary(side, "use pearson_correlation for other numbers")
    num_pairs, num_left, num_right = left.size, int(left.sum()), int(right.sum())
    num_both = int(left @ right)
    # Python integers: a product of four counts passes 2**63 at some hundred thousand pairs.
    spread = num_left * (num_pairs - num_left) * num_right * (num_pairs - num_right)
    if spread == 0:
        return None
    return float((num_pairs * num_both - num_left * num_right) / spread**0.5)
