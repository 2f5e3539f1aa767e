"""Samples into micro-batches of a token budget, and a micro-batch as the tensors a pass over it needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from banty.errors import InputError
from banty.learn.losses import TrainedTokens
from banty.models.packed import Packed
from banty.records import TrainingSample


def micro_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Which samples go together so that no group has more than `budget` tokens; first fit, longest first.

    Raises InputError for a sample longer than the budget.
    """
    groups: list[list[int]] = []
    room: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: (-lengths[place], place)):
        length = lengths[place]
        if length > budget:
            raise InputError(
                f"a training sample has {length} tokens, and a micro-batch takes {budget}; raise "
                "learner.micro_batch_tokens, or shorten episodes (train.max_tokens, train.max_turns)"
            )
        group = next((group for group, left in enumerate(room) if left >= length), None)
        if group is None:
            groups.append([])
            room.append(budget)
            group = len(groups) - 1
        groups[group].append(place)
        room[group] -= length
    return [sorted(group) for group in groups]


@dataclass
class MicroBatch:
    """Samples packed one after another.

    `predicting` are the places in the stream whose hidden state gives a trained token, `targets` those tokens' ids.
    """

    ids: Tensor
    mixer: Packed
    predicting: Tensor
    targets: Tensor
    temperatures: Tensor


def pack(samples: Sequence[TrainingSample], device: torch.device) -> MicroBatch:
    """The stream of `samples`; their first token is never trained, since nothing predicts it."""
    lengths = [len(sample.token_ids) for sample in samples]
    starts = np.cumsum([0, *lengths[:-1]])
    trained = [np.flatnonzero(sample.mask) for sample in samples]
    for sample, places in zip(samples, trained, strict=True):
        if len(places) and places[0] == 0:
            raise InputError(
                f"the first token of a sample of {sample.rollout_id} is marked as trained; none came before"
            )
    predicting = np.concatenate([start + places - 1 for start, places in zip(starts, trained, strict=True)])
    ids = np.concatenate([sample.token_ids for sample in samples])
    temperatures = np.repeat([sample.temperature for sample in samples], [len(places) for places in trained])
    return MicroBatch(
        ids=torch.as_tensor(ids.astype(np.int64), device=device),
        mixer=Packed(lengths, device),
        predicting=torch.as_tensor(predicting, device=device),
        targets=torch.as_tensor(ids[predicting + 1].astype(np.int64), device=device),
        temperatures=torch.as_tensor(temperatures, dtype=torch.float32, device=device),
    )


def trained_tokens(
    samples: Sequence[TrainingSample], coefficients: Sequence[npt.NDArray[np.float64]], logprobs: Tensor
) -> TrainedTokens:
    """What the loss needs to know of each trained token, in the order of `logprobs`."""
    device = logprobs.device

    def flat(rows: Sequence[npt.NDArray[Any]]) -> Tensor:
        picked = [row[sample.mask] for sample, row in zip(samples, rows, strict=True)]
        return torch.as_tensor(np.concatenate(picked), dtype=logprobs.dtype, device=device)

    def optional(name: str) -> Tensor | None:
        rows = [getattr(sample, name) for sample in samples]
        return None if rows[0] is None else flat(rows)

    counts = [int(sample.mask.sum()) for sample in samples]
    owners = np.repeat(np.arange(len(samples)), counts)
    turns = np.concatenate([sample.turn_ids[sample.mask] for sample in samples]).astype(np.int64)
    pairs = owners * (int(turns.max(initial=0)) + 1) + turns
    _, turn_index = np.unique(pairs, return_inverse=True)
    return TrainedTokens(
        logprobs=logprobs,
        sampler_logprobs=flat([sample.sampler_logprobs for sample in samples]),
        advantages=flat([sample.advantages for sample in samples]),
        coefficients=flat(coefficients),
        sample_index=torch.as_tensor(owners, device=device),
        turn_index=torch.as_tensor(turn_index, device=device),
        old_logprobs=optional("old_logprobs"),
        ref_logprobs=optional("ref_logprobs"),
    )
