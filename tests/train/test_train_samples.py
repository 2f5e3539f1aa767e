"""From rollouts to training samples: what was sampled is what is trained, and nothing counts twice."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.rollouts_by_hand import group, rollout, segment, turn

from banty.credit import Credit, rloo
from banty.errors import InputError
from banty.records import Group, Message, Outcome, Rollout, Segment, TrainingSample, Transform, Turn
from banty.train.samples import check_finite, group_rewards, pack_group

# The example of the records: system S, user U, end-of-turn E, two turns A and B, a tool result T.
S0, S1, U0, A0, A1, E, T0, T1, B0 = range(9)
FIRST = segment([S0, S1, U0], [A0, A1, E], logprobs=[-0.1, -0.2, -0.3])
SECOND = segment([T0, T1], [B0, E], continues=True, logprobs=[-0.4, -0.5])
EXAMPLE = rollout([turn(0, FIRST), turn(1, SECOND)])


def credit_of(*advantages: Sequence[float], weights: Sequence[Sequence[float]] | None = None) -> Credit:
    given = [np.array(each, dtype=np.float64) for each in advantages]
    ones = [np.ones(len(each)) for each in advantages]
    return Credit(given, ones if weights is None else [np.array(each, dtype=np.float64) for each in weights])


def pack(made: Rollout, advantages: Sequence[float]) -> list[TrainingSample]:
    return pack_group(group(made), credit_of(advantages))


def test_the_worked_example_of_the_records() -> None:
    (sample,) = pack_group(group(EXAMPLE), credit_of([2.0, -3.0], weights=[[0.5, 0.25]]))
    assert sample.token_ids.tolist() == [S0, S1, U0, A0, A1, E, T0, T1, B0, E]
    assert sample.mask.tolist() == [False] * 3 + [True] * 3 + [False] * 2 + [True] * 2
    assert sample.turn_ids.tolist() == [-1, -1, -1, 0, 0, 0, -1, -1, 1, 1]
    assert sample.advantages.tolist() == [0, 0, 0, 2, 2, 2, 0, 0, -3, -3]
    assert sample.weights.tolist() == [0, 0, 0, 0.5, 0.5, 0.5, 0, 0, 0.25, 0.25]
    np.testing.assert_allclose(sample.sampler_logprobs, [0, 0, 0, -0.1, -0.2, -0.3, 0, 0, -0.4, -0.5], rtol=1e-6)
    assert (sample.rollout_share, sample.temperature, sample.version) == (1.0, 1.0, 0)
    assert sample.rollout_id == EXAMPLE.rollout_id
    dtypes = [getattr(sample, name).dtype for name in ("token_ids", "mask", "turn_ids", "advantages", "weights")]
    assert dtypes == [np.int32, np.bool_, np.int32, np.float32, np.float32]


def test_rewritten_history_begins_a_new_sample_with_its_share_of_the_rollout() -> None:
    rewritten = segment([S0, U0, T0], [B0, E])
    last = segment([T1], [A0], continues=True)
    samples = pack(rollout([turn(0, FIRST), turn(1, rewritten), turn(2, last)]), [1.0, 2.0, 3.0])
    assert [sample.token_ids.tolist() for sample in samples] == [
        [S0, S1, U0, A0, A1, E],
        [S0, U0, T0, B0, E, T1, A0],
    ]
    assert [sample.turn_ids.tolist() for sample in samples] == [[-1] * 3 + [0] * 3, [-1] * 3 + [1, 1, -1, 2]]
    assert samples[1].advantages.tolist() == [0, 0, 0, 2, 2, 0, 3]
    assert [sample.rollout_share for sample in samples] == [0.5, 0.5]


def test_shares_go_by_trained_tokens() -> None:
    samples = pack(rollout([turn(0, FIRST), turn(1, segment([S0], [B0]))]), [1.0, 1.0])
    assert [sample.rollout_share for sample in samples] == [0.75, 0.25]
    # A mean over each sequence, times its share, is the mean over the whole rollout's trained tokens.
    losses = [np.arange(3) + 1.0, np.array([10.0])]
    shared = sum(sample.rollout_share * float(each.mean()) for sample, each in zip(samples, losses, strict=True))
    assert shared == pytest.approx(float(np.concatenate(losses).mean()))


def test_a_stretch_without_trained_tokens_gives_no_sample_and_takes_no_share() -> None:
    silent = turn(1, segment([S0], []))
    samples = pack(rollout([turn(0, FIRST), silent]), [1.0, 1.0])
    assert [sample.rollout_share for sample in samples] == [1.0]
    assert pack(rollout([turn(0, segment([S0], [])), silent]), [1.0, 1.0]) == []
    assert pack(rollout([]), []) == []


def test_prompts_of_silent_turns_stay_in_the_sequence() -> None:
    (sample,) = pack(rollout([turn(0, FIRST), turn(1, segment([T0], [], continues=True)), turn(2, SECOND)]), [1, 2, 3])
    assert sample.token_ids.tolist() == [S0, S1, U0, A0, A1, E, T0, T0, T1, B0, E]
    assert sample.turn_ids.tolist()[-2:] == [2, 2]


SEGMENTS = st.lists(
    st.tuples(
        st.lists(st.integers(0, 99), max_size=4), st.lists(st.integers(100, 199), max_size=4), st.booleans(),
        st.floats(-2, 2, width=32),
    ),
    min_size=1,
    max_size=6,
)  # fmt: skip


@settings(derandomize=True, deadline=None)
@given(SEGMENTS)
def test_no_sampled_token_is_lost_repeated_or_given_to_another_turn(
    turns: list[tuple[list[int], list[int], bool, float]],
) -> None:
    made = rollout([turn(i, segment(p, s, continues=c)) for i, (p, s, c, _) in enumerate(turns)])
    samples = pack(made, [advantage for *_, advantage in turns])
    trained = [
        (int(place), int(token), float(advantage))
        for sample in samples
        for place, token, advantage in zip(
            sample.turn_ids[sample.mask], sample.token_ids[sample.mask], sample.advantages[sample.mask], strict=True
        )
    ]
    assert trained == [(i, token, advantage) for i, (_, s, _, advantage) in enumerate(turns) for token in s]
    for sample in samples:
        assert (sample.turn_ids[~sample.mask] == -1).all()
        for off in (sample.advantages, sample.weights, sample.sampler_logprobs):
            assert not off[~sample.mask].any()
        assert sample.mask.any()
    if samples:
        assert sum(sample.rollout_share for sample in samples) == pytest.approx(1.0)
        weight = sum(sample.rollout_share * float(sample.weights[sample.mask].mean()) for sample in samples)
        assert weight == pytest.approx(1.0), "as sequences, the samples of a rollout weigh as much as one"


def test_credit_reaches_every_token_of_every_member() -> None:
    members = [rollout([turn(0, FIRST), turn(1, SECOND)], trial == 0, trial=trial) for trial in range(3)]
    made = group(*members)
    samples = pack_group(made, rloo(group_rewards(made)))
    assert [sample.rollout_id for sample in samples] == [member.rollout_id for member in members]
    for sample, advantage in zip(samples, (1.0, -0.5, -0.5), strict=True):
        assert sample.advantages[sample.mask].tolist() == [advantage] * 5
        assert sample.weights[sample.mask].tolist() == [1.0] * 5


# Rewards.


def test_the_outcome_is_the_reward_where_there_is_one_and_the_success_otherwise() -> None:
    made = group(rollout([], True), rollout([], False), rollout([], True, reward=0.25), rollout([], False, reward=0.0))
    assert group_rewards(made).outcomes.tolist() == [1.0, 0.0, 0.25, 0.0]


def test_turn_rewards_are_those_of_trainable_turns() -> None:
    user = turn(1, actor="user", trainable=False, reward=9.0)
    made = group(rollout([turn(0, FIRST, reward=0.5), user, turn(2, SECOND)]), rollout([turn(0, FIRST, reward=-1.0)]))
    assert [turns.tolist() for turns in group_rewards(made).turn_rewards] == [[0.5, 0.0], [-1.0]]


def test_an_errored_member_is_left_out_alone() -> None:
    won, lost = rollout([turn(0, FIRST)], True), rollout([turn(0, FIRST)], False, trial=1)
    broken = rollout([turn(0, FIRST)], cause="infrastructure", trial=2)
    capped = rollout([turn(0, FIRST)], False, trial=3, status="truncated", cause="turns")
    unscored = dataclasses.replace(rollout([turn(0, FIRST)], trial=4), outcome=Outcome(None))
    made = Group(won.task, (won, broken, lost, unscored, capped))
    assert group_rewards(made).outcomes.tolist() == [1.0, 0.0, 0.0]
    samples = pack_group(made, rloo(group_rewards(made)))
    assert [sample.rollout_id for sample in samples] == [won.rollout_id, lost.rollout_id, capped.rollout_id]
    assert [float(sample.advantages.max()) for sample in samples] == [1.0, 0.0, 0.0]


def test_an_errored_member_without_ids_stops_nobody() -> None:
    broken = rollout([turn(0, None)], cause="infrastructure", trial=1)
    assert len(pack_group(group(EXAMPLE, broken), credit_of([1.0, 1.0]))) == 1


def test_a_group_of_nothing_but_errors_gives_nothing() -> None:
    made = group(rollout([turn(0, FIRST)], cause="deadline"))
    assert pack_group(made, rloo(group_rewards(made))) == []


def test_credit_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shorter|longer"):
        pack_group(group(EXAMPLE), credit_of([1.0, 1.0], [1.0, 1.0]))


# What cannot be trained on.


@pytest.mark.parametrize(
    "transform", [Transform(top_p=0.9), Transform(top_k=5), Transform(min_p=0.1), Transform(mask_id="json")]
)
def test_a_transform_no_learner_can_replay_is_refused(transform: Transform) -> None:
    made = rollout([turn(0, FIRST), turn(1, dataclasses.replace(SECOND, transform=transform))])
    with pytest.raises(InputError, match=r"turn 1 of hand/made:test:0:0#0 .*top_p=1, top_k=0, min_p=0 and no grammar"):
        pack(made, [1.0, 1.0])


def test_a_turn_without_ids_is_refused() -> None:
    with pytest.raises(InputError, match=r"turn 1 of hand/made:test:0:0#0 has no token ids: by hand shows none"):
        pack(rollout([turn(0, FIRST), turn(1, None)]), [1.0, 1.0])


def test_any_temperature_is_carried_along() -> None:
    transform = Transform(temperature=0.7)
    turns = [turn(i, dataclasses.replace(each, transform=transform)) for i, each in enumerate((FIRST, SECOND))]
    assert [sample.temperature for sample in pack(rollout(turns), [1.0, 1.0])] == [0.7]


def test_two_temperatures_in_one_sequence_are_refused() -> None:
    cooler = dataclasses.replace(SECOND, transform=Transform(temperature=0.5))
    with pytest.raises(InputError, match=r"temperatures 0\.5, 1\.0"):
        pack(rollout([turn(0, FIRST), turn(1, cooler)]), [1.0, 1.0])
    apart = dataclasses.replace(cooler, continues=False)
    samples = pack(rollout([turn(0, FIRST), turn(1, apart)]), [1.0, 1.0])
    assert [sample.temperature for sample in samples] == [1.0, 0.5]


def test_a_sample_is_as_stale_as_its_oldest_turn() -> None:
    (sample,) = pack(rollout([turn(0, FIRST, version=3), turn(1, SECOND, version=4)]), [1.0, 1.0])
    assert sample.version == 3


def _asked(index: int, tokens: Segment) -> Turn:
    return dataclasses.replace(turn(index, tokens, actor="user"), message=Message("assistant", "asked"))


def test_turns_of_two_actors_are_two_sequences() -> None:
    """A trained user simulator has a session, and so a prefix, of its own beside the agent's."""
    agent = [segment([S0], [A0]), segment([T0], [A1], continues=True)]
    user = [segment([U0], [B0]), segment([T1], [E], continues=True)]
    turns = [turn(0, agent[0]), _asked(1, user[0]), turn(2, agent[1]), _asked(3, user[1])]
    samples = pack(rollout(turns), [1.0, 2.0, 3.0, 4.0])
    assert [sample.token_ids.tolist() for sample in samples] == [[S0, A0, T0, A1], [U0, B0, T1, E]]
    assert [sample.advantages.tolist() for sample in samples] == [[0, 1, 0, 3], [0, 2, 0, 4]]
    assert [sample.turn_ids.tolist() for sample in samples] == [[-1, 0, -1, 2], [-1, 1, -1, 3]]


def test_half_a_surrogate_pair_in_a_tool_result_stops_nobody() -> None:
    turns = [
        dataclasses.replace(turn(0), observation=(Message("tool", "a \ud800 b"),)),
        turn(1),
    ]
    rewards = group_rewards(group(rollout(turns), rollout(turns, trial=1)))
    assert rewards.anchors[0] == rewards.anchors[1]


def test_a_state_that_nobody_knows_is_like_no_other() -> None:
    """Without hashes, two turns that were told the same may be taken in different states; openings are the same."""
    told = dataclasses.replace(turn(0), observation=(Message("tool", "done"),))
    (first, second) = group_rewards(group(rollout([told, turn(1)]), rollout([told, turn(1)], trial=1))).anchors
    assert first == second
    assert (bool(first[0]), first[1]) == (True, "")
    kept = [dataclasses.replace(each, state_before="s") for each in (told, turn(1))]
    (first, second) = group_rewards(group(rollout(kept), rollout(kept, trial=1))).anchors
    assert first == second
    assert all(first)


@pytest.mark.parametrize("reward", [float("nan"), float("inf"), float("-inf")])
def test_a_reward_that_is_no_number_is_refused_by_name(reward: float) -> None:
    with pytest.raises(InputError, match=rf"hand/made.*#0 has the reward {reward}; it takes a finite number"):
        check_finite([group(rollout([turn(0)], reward=reward))])
    check_finite([group(rollout([turn(0)]), rollout([turn(0)], cause="judge", trial=1))])
