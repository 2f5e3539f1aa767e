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
from banty.models.tree import LEAST_SAVED, common_length, order, token_tree
from banty.records import TrainingSample

STREAM_BUCKET, TRAINED_BUCKET = 512, 256
"""Streams and trained tokens are padded to multiples of these: kernels are built once a shape, and building them costs
more than the padding."""


def micro_batches(
    sequences: Sequence[npt.NDArray[np.integer]], budget: int, least_saved: int = LEAST_SAVED
) -> list[list[int]]:
    """Which sequences go together so that none of the groups' trees has more than `budget` tokens. Those that begin
    alike are neighbours.

    Raises InputError for a sequence longer than the budget.
    """
    groups: list[list[int]] = []
    room = 0
    for place in order(sequences):
        length = len(sequences[place])
        if length > budget:
            raise InputError(
                f"a training sample has {length} tokens, and a micro-batch takes {budget}; raise "
                "learner.micro_batch_tokens, or shorten episodes (train.max_tokens, train.max_turns)"
            )
        saved = common_length(sequences[groups[-1][-1]], sequences[place]) if groups else 0
        # At most: behind a shorter beginning that more of them share, the rest of this one may not be worth a branch.
        more = length - max(saved - least_saved + 1, 0)
        if more > room:
            groups.append([])
            more, room = length, budget
        groups[-1].append(place)
        room -= more
    return [sorted(group) for group in groups]


@dataclass
class MicroBatch:
    """Samples merged into one stream, in which what several begin with stands once.

    `predicting` are the places in the stream whose hidden state gives a trained token, `targets` those tokens' ids;
    behind the first `num_trained` they are padding, so that shapes repeat from batch to batch. The samples one by one
    have `num_flat` tokens; `num_pairs` of the stream's see each other.
    """

    ids: Tensor
    mixer: Packed
    predicting: Tensor
    targets: Tensor
    temperatures: Tensor
    num_trained: int
    num_flat: int
    num_pairs: int

    @property
    def num_tokens(self) -> int:
        return len(self.ids) - self.mixer.num_padding


def pack(samples: Sequence[TrainingSample], device: torch.device, least_saved: int = LEAST_SAVED) -> MicroBatch:
    """The stream of `samples`; their first token is never trained, since nothing predicts it."""
    trained = [np.flatnonzero(sample.mask) for sample in samples]
    for sample, places in zip(samples, trained, strict=True):
        if len(places) and places[0] == 0:
            raise InputError(
                f"the first token of a sample of {sample.rollout_id} is marked as trained; none came before"
            )
    tree = token_tree([sample.token_ids for sample in samples], least_saved)
    predicting = np.concatenate([places[one - 1] for places, one in zip(tree.places, trained, strict=True)])
    targets = np.concatenate([sample.token_ids[one] for sample, one in zip(samples, trained, strict=True)])
    temperatures = np.repeat([sample.temperature for sample in samples], [len(places) for places in trained])

    def padded(values: npt.NDArray[Any], bucket: int, fill: int = 0) -> Tensor:
        return torch.as_tensor(np.pad(values, (0, -len(values) % bucket), constant_values=fill), device=device)

    stream = padded(tree.ids, STREAM_BUCKET)
    return MicroBatch(
        ids=stream,
        mixer=Packed(tree, device, len(stream) - len(tree.ids)),
        predicting=padded(predicting, TRAINED_BUCKET),
        targets=padded(targets.astype(np.int64), TRAINED_BUCKET),
        temperatures=padded(temperatures.astype(np.float32), TRAINED_BUCKET, 1),
        num_trained=len(targets),
        num_flat=tree.num_flat,
        num_pairs=int((tree.untils - np.arange(len(tree.ids))).sum()),
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
