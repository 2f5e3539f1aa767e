"""The habit learner: gradients against finite differences, unbiasedness by enumeration, and what it refuses."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from tests.rollouts_by_hand import group, rollout, sample, segment, turn

from banty.credit import Credit, GroupRewards, grpo, rloo
from banty.errors import InputError
from banty.learn.habits import HabitLearner
from banty.models.habits import START_ID, HabitWeights, option_id
from banty.records import Loss, PolicyLoss, SupervisedLoss, TrainingSample, Transform
from banty.train.samples import group_rewards, pack_group

Array = npt.NDArray[np.float64]

POINTS = {"a": ("good", "bad"), "b": ("good", "bad"), "c": ("good", "bad")}
LOGITS = np.array([[0.3, -0.4], [1.1, 0.2], [-0.7, 0.5]])
POLICY, SUPERVISED = PolicyLoss(), SupervisedLoss()
EVERY_LOSS = pytest.mark.parametrize("loss", [POLICY, SUPERVISED], ids=["policy", "supervised"])


def learner_of(logits: Array = LOGITS, learning_rate: float = 1.0, version: int = 0) -> HabitLearner:
    points = dict(itertools.islice(POINTS.items(), len(logits)))
    return HabitLearner(HabitWeights(points, logits.copy(), version), learning_rate)


def batch() -> list[TrainingSample]:
    """Samples of every kind: two temperatures, weights other than 1, shares, untrained stretches, no tokens at all."""
    return [
        sample([0, 1, 4, 0, 6], [0, 1, 1, 0, 1], advantages=[9, 1.5, -0.5, 9, 2.0], weights=[9, 1.0, 2.0, 9, 0.25]),
        sample([0, 2, 3], [0, 1, 1], advantages=[0, -1.25, 0.75], temperature=0.6, rollout_share=0.4),
        sample([0, 5], [0, 1], advantages=[0, 0.5], temperature=2.5, rollout_share=0.6, weights=[0, 3.0]),
        sample([0, 0], [0, 0]),
    ]


def written_again(logits: Array, samples: Sequence[TrainingSample], loss: Loss) -> float:
    """The loss, one token at a time in plain Python, as its description has it."""
    total, weight_of_all = 0.0, 0.0
    for each in samples:
        for place, trained in enumerate(each.mask):
            if not trained:
                continue
            point, option = divmod(int(each.token_ids[place]) - 1, 2)
            scaled = [float(logit) / each.temperature for logit in logits[point]]
            logprob = scaled[option] - math.log(math.fsum(map(math.exp, scaled)))
            signal = float(each.advantages[place]) if isinstance(loss, PolicyLoss) else 1.0
            total -= float(each.weights[place]) * signal * logprob
            weight_of_all += float(each.weights[place])
    return total / weight_of_all


def differences(logits: Array, samples: Sequence[TrainingSample], loss: Loss, step: float = 1e-5) -> Array:
    found = np.zeros_like(logits)
    for place in np.ndindex(*logits.shape):
        nudge = np.zeros_like(logits)
        nudge[place] = step
        up, down = (written_again(logits + sign * nudge, samples, loss) for sign in (1, -1))
        found[place] = (up - down) / (2 * step)
    return found


@EVERY_LOSS
def test_the_gradient_is_that_of_the_loss_written_again(loss: Loss) -> None:
    learner = learner_of()
    metrics = learner.forward_backward(batch(), loss)
    assert metrics["loss"] == pytest.approx(written_again(LOGITS, batch(), loss), rel=1e-12)
    expected = differences(LOGITS, batch(), loss)
    assert np.abs(expected).max() > 0.05
    np.testing.assert_allclose(learner.gradient, expected, atol=1e-9)


@EVERY_LOSS
@pytest.mark.parametrize("temperature", [0.25, 1.0, 3.0])
def test_the_gradient_at_any_temperature(loss: Loss, temperature: float) -> None:
    generator = np.random.default_rng(5)
    ids = [0, *generator.integers(1, 7, size=30).tolist()]
    samples = [
        sample(
            ids,
            [0] + [1] * 30,
            advantages=[0.0, *generator.normal(size=30)],
            weights=[0.0, *generator.uniform(0.1, 3.0, size=30)],
            temperature=temperature,
        )
    ]
    learner = learner_of()
    learner.forward_backward(samples, loss)
    np.testing.assert_allclose(learner.gradient, differences(LOGITS, samples, loss), atol=1e-8)


@EVERY_LOSS
def test_nothing_off_the_mask_matters(loss: Loss) -> None:
    plain = learner_of()
    plain.forward_backward([sample([0, 1, 0, 4], [0, 1, 0, 1], advantages=[0, 1, 0, -2])], loss)
    other = learner_of()
    noisy = sample([6, 1, 5, 4], [0, 1, 0, 1], advantages=[50, 1, -70, -2], weights=[8, 1, 9, 1])
    other.forward_backward([noisy], loss)
    assert other.gradient.tolist() == plain.gradient.tolist()
    assert other.logprobs([noisy])[0][[0, 2]].tolist() == [0.0, 0.0]
    assert not plain.gradient[2].any(), "a point that no trained token names gets no gradient"


@EVERY_LOSS
def test_only_untrained_tokens_change_nothing(loss: Loss) -> None:
    learner = learner_of()
    for samples in ([], [sample([0, 3], [0, 0])], [sample([0, 3], [0, 1], weights=[0, 0])]):
        assert learner.forward_backward(samples, loss) == {"loss": 0.0, "tokens": 0.0}
        assert not learner.gradient.any()


@EVERY_LOSS
def test_the_start_of_a_turn_is_never_a_trained_token(loss: Loss) -> None:
    with pytest.raises(AssertionError, match="never trained"):
        learner_of().forward_backward([sample([START_ID, 1], [1, 1])], loss)


@EVERY_LOSS
def test_the_order_of_samples_does_not_matter(loss: Loss) -> None:
    straight, reverse = learner_of(), learner_of()
    first, second = (learner.forward_backward(samples, loss) for learner, samples in (
        (straight, batch()), (reverse, batch()[::-1])))  # fmt: skip
    assert first == pytest.approx(second)
    np.testing.assert_allclose(straight.gradient, reverse.gradient, atol=1e-15)


@EVERY_LOSS
def test_one_long_sample_is_as_good_as_its_pieces(loss: Loss) -> None:
    """Concatenated, split, or with untrained tokens in between: every trained token counts once."""
    pieces = [sample([0, 1], [0, 1], advantages=[0, 2]), sample([0, 4, 6], [0, 1, 1], advantages=[0, -1, 0.5])]
    whole = [sample([0, 1, 0, 4, 6], [0, 1, 0, 1, 1], advantages=[0, 2, 0, -1, 0.5])]
    padded = [sample([0, 0, 1, 0, 0, 4, 6, 0], [0, 0, 1, 0, 0, 1, 1, 0], advantages=[0, 0, 2, 0, 0, -1, 0.5, 0])]
    gradients = []
    for samples in (pieces, whole, padded):
        learner = learner_of()
        learner.forward_backward(samples, loss)
        gradients.append(learner.gradient)
    np.testing.assert_allclose(gradients[1], gradients[0], atol=1e-15)
    np.testing.assert_allclose(gradients[2], gradients[0], atol=1e-15)


@EVERY_LOSS
def test_a_rollout_whose_history_was_rewritten_weighs_as_much_as_one_that_was_not(loss: Loss) -> None:
    """`rollout_share` is for means over sequences. A mean over tokens that used it would count these four as 2.5."""
    plain = rollout([turn(0, segment([0], [1, 3, 6])), turn(1, segment([0], [2], continues=True))])
    rewritten = rollout([turn(0, segment([0], [1, 3, 6])), turn(1, segment([0, 0], [2], continues=False))])
    other = rollout([turn(0, segment([0], [5]))], trial=1)
    credit = Credit([np.array([1.5, -0.5]), np.array([2.0])], [np.ones(2), np.ones(1)])
    gradients, metrics = [], []
    for first in (plain, rewritten):
        learner = learner_of()
        metrics.append(learner.forward_backward(pack_group(group(first, other), credit), loss))
        gradients.append(learner.gradient)
    assert metrics[0] == pytest.approx(metrics[1])
    assert metrics[0]["tokens"] == 5
    np.testing.assert_allclose(gradients[1], gradients[0], atol=1e-15)


@EVERY_LOSS
def test_denominators_are_global_over_one_call_and_calls_add_up(loss: Loss) -> None:
    """Splitting a batch over calls is another loss: each call is a mean of its own. One call takes the whole batch."""
    together = learner_of()
    tokens = together.forward_backward(batch(), loss)["tokens"]
    apart = learner_of()
    weighted, added = np.zeros_like(LOGITS), np.zeros_like(LOGITS)
    for each in batch():
        alone = learner_of()
        metrics = alone.forward_backward([each], loss)
        weighted += metrics["tokens"] * alone.gradient
        added += alone.gradient
        apart.forward_backward([each], loss)
    np.testing.assert_allclose(weighted / tokens, together.gradient, atol=1e-14)
    np.testing.assert_allclose(apart.gradient, added, atol=1e-14)
    assert not np.allclose(apart.gradient, together.gradient)


def test_cross_entropy_reads_no_advantages_and_any_version() -> None:
    plain, other = learner_of(version=4), learner_of(version=4)
    plain.forward_backward([sample([0, 3], [0, 1])], SUPERVISED)
    other.forward_backward([sample([0, 3], [0, 1], advantages=[0, -7], version=1)], SUPERVISED)
    assert plain.gradient.tolist() == other.gradient.tolist()


@pytest.mark.parametrize("version", [2, 4])
def test_a_stale_sample_is_refused_and_leaves_no_trace(version: int) -> None:
    learner = learner_of(version=3)
    fresh = sample([0, 1], [0, 1], version=3)
    with pytest.raises(InputError, match=f"version {version}, the learner is at 3"):
        learner.forward_backward([fresh, sample([0, 3], [0, 1], version=version)], POLICY)
    assert not learner.gradient.any()
    learner.optim_step()
    with pytest.raises(InputError, match="version 3, the learner is at 4"):
        learner.forward_backward([fresh], POLICY)


@EVERY_LOSS
@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_samples_without_a_gradient_are_refused(loss: Loss, temperature: float) -> None:
    learner = learner_of()
    with pytest.raises(InputError, match="temperature"):
        learner.forward_backward([sample([0, 1], [0, 1], temperature=temperature)], loss)
    assert not learner.gradient.any()


@pytest.mark.parametrize("loss", [PolicyLoss(kl=0.1), PolicyLoss(correction="mask"), PolicyLoss(aggregation="mean")])  # type: ignore[arg-type]
def test_a_loss_it_cannot_compute_is_refused(loss: Loss) -> None:
    with pytest.raises(InputError, match=r"kl 0|token, sequence, turn, constant"):
        learner_of().forward_backward(batch(), loss)


def test_there_are_no_features() -> None:
    with pytest.raises(InputError, match="hidden states"):
        learner_of().features([sample([0, 1], [0, 1])], [0], [[1]])


@pytest.mark.parametrize("rate", [0.0, -1.0, math.nan, math.inf])
def test_a_learning_rate_that_cannot_work_is_refused(rate: float) -> None:
    with pytest.raises(InputError, match="learning_rate"):
        learner_of(learning_rate=rate)


def test_a_step_is_plain_descent_and_clears_the_gradient() -> None:
    learner = learner_of(learning_rate=0.5, version=9)
    before = learner.publish()
    learner.forward_backward(batch()[:1], SUPERVISED)
    learner.forward_backward(batch()[1:], SUPERVISED)
    gradient = learner.gradient.copy()
    metrics = learner.optim_step()
    after = learner.publish()
    assert metrics["grad_norm"] == pytest.approx(math.sqrt(float((gradient**2).sum())))
    np.testing.assert_allclose(after.logits, LOGITS - 0.5 * gradient, atol=1e-15)
    assert (before.version, after.version) == (9, 10)
    assert before.logits.tolist() == LOGITS.tolist(), "weights that were published stay as they were"
    assert not learner.gradient.any()
    assert learner.optim_step()["grad_norm"] == 0.0
    assert learner.publish().logits.tolist() == after.logits.tolist()


def test_descent_lowers_the_loss_and_credit_moves_the_right_option() -> None:
    learner = learner_of(learning_rate=0.1)
    samples = [sample([0, 2], [0, 1], advantages=[0, 1.0]), sample([0, 3], [0, 1], advantages=[0, -1.0])]
    before = learner.forward_backward(samples, POLICY)["loss"]
    learner.optim_step()
    current = [dataclasses.replace(each, version=1) for each in samples]
    assert learner.forward_backward(current, POLICY)["loss"] < before
    change = np.exp(learner.publish().logprobs()) - np.exp(HabitWeights(POINTS, LOGITS).logprobs())
    assert change[0, 1] > 0 > change[1, 0]
    assert not change[2].any()


def test_logprobs_are_the_tempered_ones_on_the_mask() -> None:
    learner = learner_of()
    found = learner.logprobs(batch())
    for each, values in zip(batch(), found, strict=True):
        assert values.dtype == np.float32
        table = HabitWeights(POINTS, LOGITS).logprobs(each.temperature)
        expected = [
            table[(token - 1) // 2, (token - 1) % 2] if trained else 0.0
            for token, trained in zip(each.token_ids.tolist(), each.mask.tolist(), strict=True)
        ]
        np.testing.assert_allclose(values, expected, atol=1e-6)


def test_save_and_load_bring_everything_back_and_drop_what_was_accumulated(tmp_path: Path) -> None:
    learner = learner_of(learning_rate=0.3)
    learner.forward_backward(batch(), SUPERVISED)
    learner.optim_step()
    learner.save(tmp_path)
    other = learner_of(np.zeros((3, 2)), learning_rate=5.0)
    other.forward_backward(batch(), SUPERVISED)
    other.load(tmp_path)
    assert other.publish().logits.tobytes() == learner.publish().logits.tobytes()
    assert (other.publish().version, other.learning_rate) == (1, 0.3)
    assert not other.gradient.any()


@pytest.mark.parametrize("text", [None, "", "{", "{}", "[]", '{"learning_rate": "fast"}', '{"learning_rate": null}'])
def test_a_damaged_optimizer_state_is_refused_and_changes_nothing(tmp_path: Path, text: str | None) -> None:
    learner_of(np.zeros((3, 2))).save(tmp_path)
    state = tmp_path / "optimizer.json"
    state.unlink()
    if text is not None:
        state.write_text(text)
    learner = learner_of()
    with pytest.raises(InputError, match=r"optimizer\.json"):
        learner.load(tmp_path)
    assert learner.publish().logits.tolist() == LOGITS.tolist()


def test_weights_of_other_habits_are_refused(tmp_path: Path) -> None:
    HabitLearner(HabitWeights.with_lapses({"x": ("y", "z")}, 0.5), 1.0).save(tmp_path)
    assert json.loads((tmp_path / "optimizer.json").read_text())["learning_rate"] == 1.0
    with pytest.raises(InputError, match="x"):
        learner_of().load(tmp_path)


# A problem small enough to write out: two decisions, every outcome of a group enumerated with its probability.

Reward = Callable[[tuple[int, ...]], float]
TABLE: dict[tuple[int, ...], float] = {(0, 0): 1.0, (0, 1): 0.25, (1, 0): -0.5, (1, 1): 0.7}
PAIR = LOGITS[:2]


def both(table: Array) -> dict[tuple[int, ...], float]:
    """Episodes that take both decisions, by their options, with their probability."""
    return {(i, j): math.exp(table[0, i] + table[1, j]) for i in range(2) for j in range(2)}


def second_if_disciplined(table: Array) -> dict[tuple[int, ...], float]:
    """Episodes that end after a lapse in the first decision."""
    return {(1,): math.exp(table[0, 1]), **{(0, j): math.exp(table[0, 0] + table[1, j]) for j in range(2)}}


Episodes = Callable[[Array], dict[tuple[int, ...], float]]


def gradient_of_expected_reward(episodes: Episodes, reward: Reward, temperature: float) -> Array:
    def expected(logits: Array) -> float:
        chances = episodes(HabitWeights(POINTS, logits).logprobs(temperature))
        assert math.fsum(chances.values()) == pytest.approx(1.0)
        return math.fsum(chance * reward(options) for options, chance in chances.items())

    found = np.zeros_like(PAIR)
    for place in np.ndindex(*PAIR.shape):
        nudge = np.zeros_like(PAIR)
        nudge[place] = 1e-5
        found[place] = (expected(PAIR + nudge) - expected(PAIR - nudge)) / 2e-5
    return found


def expected_gradient(
    episodes: Episodes,
    reward: Reward,
    estimator: Callable[[GroupRewards], Credit],
    num_rollouts: int,
    temperature: float,
    *,
    summed: bool = False,
) -> Array:
    """The mean, over all groups that can come up, of what the learner accumulates (times its tokens, if `summed`)."""
    chances = episodes(HabitWeights(POINTS, PAIR).logprobs(temperature))
    drawn = Transform(temperature=temperature)
    found = np.zeros_like(PAIR)
    for members in itertools.product(chances, repeat=num_rollouts):
        rollouts = [
            rollout(
                [
                    turn(place, segment([START_ID], [option_id(place, option)], continues=place > 0, transform=drawn))
                    for place, option in enumerate(options)
                ],
                reward=reward(options),
                trial=trial,
            )
            for trial, options in enumerate(members)
        ]
        made = group(*rollouts)
        learner = learner_of(PAIR)
        metrics = learner.forward_backward(pack_group(made, estimator(group_rewards(made))), POLICY)
        chance = math.prod(chances[options] for options in members)
        found += chance * learner.gradient * (metrics["tokens"] if summed else 1.0)
    return found


@pytest.mark.parametrize("num_rollouts", [2, 3])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_leave_one_out_credit_is_unbiased(num_rollouts: int, temperature: float) -> None:
    """Two tokens a rollout: the expected gradient is minus half that of the expected reward, exactly."""
    truth = gradient_of_expected_reward(both, TABLE.__getitem__, temperature)
    assert np.abs(truth).max() > 0.05
    found = expected_gradient(both, TABLE.__getitem__, rloo, num_rollouts, temperature)
    np.testing.assert_allclose(found, -truth / 2, atol=1e-7)


@pytest.mark.parametrize("num_rollouts", [2, 3])
def test_with_ragged_rollouts_the_sum_over_tokens_is_unbiased(num_rollouts: int) -> None:
    """The mean over tokens is not: how many tokens a batch has goes with how its episodes end."""

    def reward(options: tuple[int, ...]) -> float:
        return TABLE[(*options, 0)[:2]]

    truth = gradient_of_expected_reward(second_if_disciplined, reward, 1.0)
    found = expected_gradient(second_if_disciplined, reward, rloo, num_rollouts, 1.0, summed=True)
    np.testing.assert_allclose(found, -num_rollouts * truth, atol=1e-7)


def test_the_enumeration_can_tell_a_biased_estimator() -> None:
    """Dividing by the group's deviation changes the direction; leaving nobody out changes the length."""

    def centred(rewards: GroupRewards) -> Credit:
        credit = rloo(rewards)
        num = len(rewards.outcomes)
        return Credit([turns * (num - 1) / num for turns in credit.advantages], credit.weights)

    truth = gradient_of_expected_reward(both, TABLE.__getitem__, 1.0)
    np.testing.assert_allclose(expected_gradient(both, TABLE.__getitem__, centred, 3, 1.0), -truth / 3, atol=1e-7)
    normalised = expected_gradient(both, TABLE.__getitem__, grpo, 3, 1.0)
    cosine = -float((normalised * truth).sum()) / float(np.linalg.norm(normalised) * np.linalg.norm(truth))
    assert 0.5 < cosine < 0.9999
