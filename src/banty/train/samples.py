"""From scored rollouts and their credit to what an optimizer eats."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from banty.credit import Credit, GroupRewards
from banty.errors import InputError
from banty.records import Group, Rollout, Segment, TrainingSample, Turn, sha256_json


def group_rewards(group: Group, shaping: Callable[[Rollout], float] | None = None) -> GroupRewards:
    """The rewards of a group's scored members: the outcome, and what turns earned (0 where nothing was given).

    `shaping` is added to the outcome.
    """
    outcomes = [outcome_of(rollout) + (shaping(rollout) if shaping else 0.0) for rollout in group.scored]
    trainable = [[turn for turn in rollout.turns if turn.trainable] for rollout in group.scored]
    return GroupRewards(
        np.array(outcomes, dtype=np.float64),
        [np.array([turn.reward or 0.0 for turn in turns], dtype=np.float64) for turns in trainable],
        anchors=[anchors_of(rollout) for rollout in group.scored],
        tokens=[np.array([turn.sampled_tokens for turn in turns], dtype=np.float64) for turns in trainable],
    )


def anchors_of(rollout: Rollout) -> list[str]:
    """The state each trainable turn was taken in, by what can be compared between rollouts: the environment's hash and
    what the agent had just been told. Texts of whole conversations hardly ever repeat (specs/irc.md 1.12). Empty where
    the environment keeps no state, save for the first turn, before which all of a group were told the same."""
    found = []
    told = rollout.opening
    for turn in rollout.turns:
        if turn.trainable:
            known = turn.state_before or turn is rollout.turns[0]
            words = sha256_json([[message.role, message.content] for message in told])
            found.append(f"{turn.state_before}|{words}" if known else "")
        if turn.actor == "agent":
            told = turn.observation
    return found


def outcome_of(rollout: Rollout) -> float:
    """What a scored rollout earned at its end: the outcome's reward, or 1 for a success where it has none."""
    assert rollout.outcome.success is not None, "only scored rollouts are trained on"
    return float(rollout.outcome.success) if rollout.outcome.reward is None else rollout.outcome.reward


def check_finite(groups: Iterable[Group]) -> None:
    """Raises InputError for an outcome whose reward is no finite number, of which no advantage can be made."""
    for rollout in (rollout for group in groups for rollout in group.scored):
        if not math.isfinite(reward := outcome_of(rollout)):
            raise InputError(
                f"the outcome of {rollout.rollout_id} has the reward {reward}; it takes a finite number, or "
                "none, which counts a success as 1 and a failure as 0"
            )


def overlong_penalty(num_tokens: int, most: int, buffer: int, factor: float) -> float:
    """What is added to the reward of an episode of `num_tokens` sampled tokens: 0 up to `most - buffer`, then linearly
    down to `-factor` at `most` (DAPO, 2025, eq. 13)."""
    if not buffer:
        return 0.0
    return -factor * min(max(num_tokens - (most - buffer), 0) / buffer, 1.0)


def pack_group(group: Group, credit: Credit) -> list[TrainingSample]:
    """The training samples of a group's scored members.

    A rollout gives one sample, or several where its prompt stopped extending what came before; its samples then share
    its weight by their trained tokens. Raises InputError for tokens sampled under a transform no learner can replay.
    """
    samples: list[TrainingSample] = []
    for rollout, advantages, weights in zip(group.scored, credit.advantages, credit.weights, strict=True):
        trainable = [turn for turn in rollout.turns if turn.trainable]
        samples += pack_rollout(rollout, trainable, advantages.tolist(), weights.tolist())
    return samples


def pack_rollout(
    rollout: Rollout, turns: Sequence[Turn], advantages: Sequence[float], weights: Sequence[float]
) -> list[TrainingSample]:
    """The training samples of a rollout's `turns`, with an advantage and a weight each; see `pack_group`."""
    stretches: list[list[int]] = []
    unfinished: dict[str, list[int]] = {}  # by actor: each has a session, and so a prefix, of its own
    for place, turn in enumerate(turns):
        segment = turn.segment
        if segment is None:
            raise InputError(
                f"turn {turn.index} of {rollout.rollout_id} has no token ids: {turn.policy} shows none, and text is "
                "never tokenised again to train on"
            )
        if not segment.transform.replayable:
            raise InputError(
                f"turn {turn.index} of {rollout.rollout_id} was sampled under {segment.transform}; training replays "
                "temperature only. Sample with top_p=1, top_k=0, min_p=0 and no grammar"
            )
        if turn.actor not in unfinished or not segment.continues:
            unfinished[turn.actor] = []
            stretches.append(unfinished[turn.actor])
        unfinished[turn.actor].append(place)
    num_trained = [sum(len(_segment(turns[place]).sampled_ids) for place in stretch) for stretch in stretches]
    total = sum(num_trained)
    num_turns = sum(bool(_segment(turn).sampled_ids) for turn in turns)
    return [
        dataclasses.replace(
            _pack_stretch(rollout, turns, stretch, advantages, weights),
            rollout_share=trained / total,
            num_turns=num_turns,
        )
        for stretch, trained in zip(stretches, num_trained, strict=True)
        if trained
    ]


def _segment(turn: Turn) -> Segment:
    assert turn.segment is not None, "turns without token ids were refused before"
    return turn.segment


def _pack_stretch(
    rollout: Rollout,
    turns: Sequence[Turn],
    stretch: Sequence[int],
    advantages: Sequence[float],
    weights: Sequence[float],
) -> TrainingSample:
    ids: list[int] = []
    trained: list[bool] = []
    turn_ids: list[int] = []
    logprobs: list[float] = []
    for place in stretch:
        segment = _segment(turns[place])
        num_prompt, num_sampled = len(segment.prompt_ids), len(segment.sampled_ids)
        ids += [*segment.prompt_ids, *segment.sampled_ids]
        trained += [False] * num_prompt + [True] * num_sampled
        turn_ids += [-1] * num_prompt + [place] * num_sampled
        logprobs += [0.0] * num_prompt + list(segment.sampler_logprobs)
    temperatures = {_segment(turns[place]).transform.temperature for place in stretch}
    if len(temperatures) > 1:
        raise InputError(
            f"{rollout.rollout_id} was sampled at temperatures {', '.join(map(str, sorted(temperatures)))} within one "
            "conversation; a training sample has one"
        )
    per_turn_advantage = np.array([*advantages, 0.0], dtype=np.float32)  # index -1, untrained, reads 0
    per_turn_weight = np.array([*weights, 0.0], dtype=np.float32)
    return TrainingSample(
        rollout_id=rollout.rollout_id,
        token_ids=np.array(ids, dtype=np.int32),
        mask=np.array(trained, dtype=np.bool_),
        turn_ids=np.array(turn_ids, dtype=np.int32),
        sampler_logprobs=np.array(logprobs, dtype=np.float32),
        advantages=per_turn_advantage[turn_ids],
        weights=per_turn_weight[turn_ids],
        temperature=temperatures.pop(),
        version=min(turns[place].version for place in stretch),  # as stale as its oldest turn
    )
