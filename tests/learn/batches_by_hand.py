"""Training samples made by hand, for learners of language models."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from banty.records import TrainingSample


def sample(
    rollout_id: str,
    turns: Sequence[tuple[int, int]],
    *,
    seed: int = 0,
    advantages: Sequence[float] = (),
    vocabulary: int = 300,
) -> TrainingSample:
    """Turns of (unsampled, sampled) token counts, with random ids, and normal draws for advantages not given."""
    rng = np.random.default_rng([*map(ord, rollout_id)])
    mask, turn_ids, each = [], [], []
    for turn, (unsampled, sampled) in enumerate(turns):
        advantage = advantages[turn] if advantages else float(rng.normal())
        mask += [False] * unsampled + [True] * sampled
        turn_ids += [-1] * unsampled + [turn] * sampled
        each += [0.0] * unsampled + [advantage] * sampled
    size = len(mask)
    return TrainingSample(
        rollout_id=rollout_id,
        token_ids=rng.integers(0, 300, size).astype(np.int32),
        mask=np.array(mask),
        turn_ids=np.array(turn_ids, dtype=np.int32),
        sampler_logprobs=np.where(mask, rng.normal(-5.0, 0.5, size), 0.0).astype(np.float32),
        advantages=np.array(each, dtype=np.float32),
        weights=np.array(mask, dtype=np.float32),
        num_turns=sum(sampled > 0 for _, sampled in turns),
    )


def batch() -> list[TrainingSample]:
    """Ragged samples: one, two and three turns, one of a single trained token, one that is not at temperature 1."""
    return [
        sample("a", [(20, 5), (7, 9)]),
        sample("b", [(3, 1)]),
        sample("c", [(40, 12), (3, 3), (11, 20)]),
        dataclasses.replace(sample("d", [(5, 30)]), temperature=0.7),
        sample("e", [(64, 16)]),
    ]
