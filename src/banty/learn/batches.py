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

LEAST_SHARED = 16
"""A common beginning shorter than this is not worth computing apart."""
STREAM_BUCKET, TRAINED_BUCKET = 512, 256
"""Streams and trained tokens are padded to multiples of these: kernels are built once a shape, and building them costs
more than the padding."""


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
    """Samples packed one after another, behind the tokens that all of them begin with.

    `predicting` are the places in the stream whose hidden state gives a trained token, `targets` those tokens' ids;
    behind the first `num_trained` they are padding, so that shapes repeat from batch to batch.
    """

    ids: Tensor
    mixer: Packed
    predicting: Tensor
    targets: Tensor
    temperatures: Tensor
    num_trained: int

    @property
    def num_tokens(self) -> int:
        return len(self.ids) - self.mixer.num_padding


def pack(samples: Sequence[TrainingSample], device: torch.device, hidden_size: int) -> MicroBatch:
    """The stream of `samples`; their first token is never trained, since nothing predicts it."""
    trained = [np.flatnonzero(sample.mask) for sample in samples]
    for sample, places in zip(samples, trained, strict=True):
        if len(places) and places[0] == 0:
            raise InputError(
                f"the first token of a sample of {sample.rollout_id} is marked as trained; none came before"
            )
    num_shared = _num_shared(samples, trained)
    if not _pays(num_shared, [len(sample.token_ids) for sample in samples], hidden_size):
        num_shared = 0
    lengths = [len(sample.token_ids) - num_shared for sample in samples]
    starts = np.cumsum([0, *lengths[:-1]])
    ids = np.concatenate([samples[0].token_ids[:num_shared], *(sample.token_ids[num_shared:] for sample in samples)])
    # What is trained first in a sample may be predicted by the last shared token.
    predicting = np.concatenate(
        [np.where(one == num_shared, num_shared, start + one) - 1 for start, one in zip(starts, trained, strict=True)]
    )
    targets = np.concatenate([sample.token_ids[one] for sample, one in zip(samples, trained, strict=True)])
    temperatures = np.repeat([sample.temperature for sample in samples], [len(places) for places in trained])

    def padded(values: npt.NDArray[Any], bucket: int, fill: int = 0) -> Tensor:
        return torch.as_tensor(np.pad(values, (0, -len(values) % bucket), constant_values=fill), device=device)

    stream = padded(ids.astype(np.int64), STREAM_BUCKET)
    return MicroBatch(
        ids=stream,
        mixer=Packed(lengths, device, num_shared, len(stream) - len(ids)),
        predicting=padded(predicting, TRAINED_BUCKET),
        targets=padded(targets.astype(np.int64), TRAINED_BUCKET),
        temperatures=padded(temperatures.astype(np.float32), TRAINED_BUCKET, 1),
        num_trained=len(targets),
    )


def _num_shared(samples: Sequence[TrainingSample], trained: Sequence[npt.NDArray[np.int64]]) -> int:
    """How many tokens all samples begin with, none of them trained and none a sample's last; 0 where it is few."""
    if len(samples) < 2:
        return 0
    first = samples[0].token_ids
    shared = min(len(sample.token_ids) for sample in samples) - 1
    shared = min([shared, *(int(places[0]) for places in trained if len(places))])
    for sample in samples[1:]:
        different = np.flatnonzero(sample.token_ids[:shared] != first[:shared])
        shared = int(different[0]) if len(different) else shared
    return shared


def _pays(num_shared: int, lengths: Sequence[int], hidden_size: int) -> bool:
    """Whether a layer is computed with fewer operations when the shared tokens are computed once.

    What is saved are the linear maps of the shared tokens, some 24 times hidden_size^2 each. Behind a shared beginning
    a sample's own tokens attend under a mask, to all of each other, where alone half the pairs are skipped:
    (own^2 - shared^2) / 2 pairs more, 4 times hidden_size each.
    """
    if num_shared < LEAST_SHARED:
        return False
    own = [length - num_shared for length in lengths]
    more_pairs = sum(one**2 - num_shared**2 for one in own) / 2
    return 24 * hidden_size**2 * num_shared * (len(own) - 1) > 4 * hidden_size * more_pairs


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
