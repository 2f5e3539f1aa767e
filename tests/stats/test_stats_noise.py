"""The parts of an evaluation's noise: worked by hand, and found again in simulations whose parts are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from banty.stats import detectable_effect, evaluation_noise, replicate_noise, resolution


def test_the_parts_by_hand() -> None:
    noise = evaluation_noise([[1, 1], [1, 0], [0, 0], [None, 1]])
    # means 1, 1/2, 0, 1; variances within 0, 1/2, 0 and, of the last, their mean 1/6
    assert noise.num_tasks == 4
    assert noise.num_repeated == 3
    assert noise.trial_variance == pytest.approx(1 / 6)
    between = np.var([1, 0.5, 0, 1], ddof=1)
    of_means = [0, 0.25, 0, 1 / 6]
    assert noise.error == pytest.approx(math.sqrt(between / 4))
    assert noise.trial_error == pytest.approx(math.sqrt(sum(of_means)) / 4)
    assert noise.task_variance == pytest.approx(between - sum(of_means) / 4)
    assert noise.error is not None
    assert noise.trial_error is not None
    assert noise.task_error is not None
    assert noise.task_error**2 + noise.trial_error**2 == pytest.approx(noise.error**2)


def test_what_the_data_do_not_say_is_none() -> None:
    once = evaluation_noise([[1], [0], [1]])
    assert once.error is not None
    assert (once.trial_variance, once.trial_error, once.task_error) == (None, None, None)
    equal = evaluation_noise([[1, 0], [0, 1]])
    assert equal.error is None
    assert equal.trial_error == pytest.approx(math.sqrt(0.5) / 2)
    nothing = evaluation_noise([[None], []])
    assert nothing.num_tasks == 0
    assert resolution(nothing) == (None, None, None)


def test_draws_that_seem_to_be_more_than_the_whole_leave_nothing_to_the_tasks() -> None:
    noise = evaluation_noise([[1, 0], [0, 1], [1, 0], [1, 1]])
    assert noise.task_error == 0.0
    assert noise.task_variance == 0.0
    sees = resolution(noise)
    assert sees.paired is not None
    assert sees.unpaired is not None
    assert sees.fixed is not None


def test_what_it_resolves() -> None:
    noise = evaluation_noise([[1, 1], [1, 0], [0, 0], [0, 0], [1, 1], [0, 1]])
    sees = resolution(noise)
    assert noise.error is not None
    assert noise.trial_error is not None
    assert sees.fixed == pytest.approx(detectable_effect(noise.error, 5))
    assert sees.unpaired == pytest.approx(detectable_effect(math.sqrt(2) * noise.error, 10))
    assert sees.paired == pytest.approx(detectable_effect(math.sqrt(2) * noise.trial_error, 5))


def test_parts_are_found_again() -> None:
    """Rates of tasks uniform on [0, 1]: their variance is 1/12, that of a trial within its task 1/6."""
    generator = np.random.default_rng(0)
    found = []
    for _ in range(200):
        rates = generator.random(200)
        found.append(evaluation_noise((generator.random((200, 4)) < rates[:, None]).astype(float)))
    assert np.mean([one.trial_variance for one in found if one.trial_variance is not None]) == pytest.approx(
        1 / 6, rel=0.02
    )
    assert np.mean([one.task_variance for one in found if one.task_variance is not None]) == pytest.approx(
        1 / 12, rel=0.03
    )


def test_reruns_vary_as_the_trial_error_says() -> None:
    generator = np.random.default_rng(1)
    rates = generator.random(50)
    runs = [(generator.random((50, 4)) < rates[:, None]).astype(float) for _ in range(400)]
    spread = np.std([run.mean() for run in runs], ddof=1)
    said = np.mean([evaluation_noise(run).trial_error or 0.0 for run in runs])
    assert said == pytest.approx(spread, rel=0.1)


def test_replicates_by_hand() -> None:
    replicates = [[[1, 1], [1, 0]], [[0, 0], [1, 0]], [[1, 0], [1, 1]]]
    found = replicate_noise(replicates)
    errors = [evaluation_noise(one).trial_error for one in replicates]
    drawn = math.sqrt(sum((error or 0.0) ** 2 for error in errors) / 3)
    deviation = float(np.std([0.75, 0.25, 0.75], ddof=1))
    assert found.num_replicates == 3
    assert found.deviation == pytest.approx(deviation)
    assert found.drawn == pytest.approx(drawn)
    assert found.excess == pytest.approx(math.sqrt(max(0.0, deviation**2 - drawn**2)))
    assert found.p_value == pytest.approx(stats.chi2.sf(2 * deviation**2 / drawn**2, 2))


def test_one_replicate_has_no_spread_and_equal_ones_none() -> None:
    assert replicate_noise([[[1, 0], [0, 0]]]).deviation is None
    equal = replicate_noise([[[1, 0], [0, 0]], [[0, 1], [0, 0]]])
    assert equal.deviation == 0.0
    assert equal.excess == 0.0
    unknown = replicate_noise([[[1], [0]], [[1], [1]]])
    assert unknown.drawn is None
    assert unknown.p_value is None


def test_a_task_missing_from_one_replicate_moves_nothing() -> None:
    easy, hard = [1, 1], [0, 1]
    found = replicate_noise([[easy, hard, [1, 1]], [easy, hard, []]])
    assert (found.num_tasks, found.deviation) == (2, 0.0)
    assert replicate_noise([[[1, 0], []], [[], [1, 0]]]).deviation is None, "nothing was scored in both"


def test_checkpoints_that_differ_are_not_taken_for_draws() -> None:
    """Each of them does the same every time, so there is no noise of draws, however far apart they lie."""
    always, never = [[1, 1], [1, 1], [0, 0]], [[0, 0], [1, 1], [0, 0]]
    noise = evaluation_noise(always, never)
    assert (noise.trial_variance, noise.trial_error) == (0.0, 0.0)
    assert noise.error == pytest.approx(np.std([0.5, 1.0, 0.0], ddof=1) / math.sqrt(3))
    pooled = evaluation_noise([[*a, *b] for a, b in zip(always, never, strict=True)])
    assert pooled.trial_variance is not None
    assert pooled.trial_variance > 0.0
    alone = evaluation_noise([[1, 0], [0, 0], [1, 1]])
    twice = evaluation_noise([[1, 0], [0, 0], [1, 1]], [[1, 0], [0, 0], [1, 1]])
    assert alone.trial_error is not None
    assert twice.trial_error == pytest.approx(alone.trial_error / math.sqrt(2))
