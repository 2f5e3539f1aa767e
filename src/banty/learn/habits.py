"""The learner of the habit policy: exact gradients of a few numbers, in numpy."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from banty.errors import InputError
from banty.learn.aggregate import coefficients
from banty.models.habits import HabitWeights
from banty.records import Loss, PolicyLoss, TrainingSample, canonical_json

_STATE_FILE = "optimizer.json"


class HabitLearner:
    """Plain gradient descent on the logits.

    There is no ratio to clip: one update is made per batch of the current version, and samples of another version are
    refused. So of a `PolicyLoss` only the aggregation acts, and a correction or a KL term is refused.
    """

    def __init__(self, weights: HabitWeights, learning_rate: float) -> None:
        if not 0.0 < learning_rate < np.inf:
            raise InputError(f"learning_rate is {learning_rate}; it takes a finite number above 0")
        self.weights = weights
        self.learning_rate = learning_rate
        self._gradient = np.zeros_like(weights.logits)

    def forward_backward(self, samples: Sequence[TrainingSample], loss: Loss) -> Mapping[str, float]:
        loss.check()
        if isinstance(loss, PolicyLoss) and (loss.correction != "none" or loss.kl):
            raise InputError("the habit learner is its own sampler and keeps no reference: correction 'none' and kl 0")
        value, tokens = 0.0, 0.0
        gradient = np.zeros_like(self._gradient)
        factors = coefficients(samples, loss.aggregation, loss.constant_tokens)
        for sample, factor in zip(samples, factors, strict=True):
            if isinstance(loss, PolicyLoss) and sample.version != self.weights.version:
                raise InputError(
                    f"rollout {sample.rollout_id} was sampled by version {sample.version}, the learner is at "
                    f"{self.weights.version}; the habit learner trains on its own current samples only"
                )
            if not sample.temperature > 0.0:
                raise InputError(
                    f"rollout {sample.rollout_id} was sampled at temperature {sample.temperature:g}, under which "
                    "logprobs have no gradient; train on samples drawn at one above 0"
                )
            logprobs = self.weights.logprobs(sample.temperature)
            points, options = _options(sample)
            coefficient = factor[sample.mask]
            if isinstance(loss, PolicyLoss):
                coefficient = coefficient * sample.advantages[sample.mask]
            tokens += float(sample.weights[sample.mask].sum())
            value -= float(coefficient @ logprobs[points, options])
            # d(-logprob of the option taken) / d logits = (probabilities - onehot) / temperature, in its point's row.
            step = np.exp(logprobs)[points]
            step[np.arange(len(points)), options] -= 1.0
            np.add.at(gradient, points, coefficient[:, None] * step / sample.temperature)
        self._gradient += gradient
        return {"loss": value, "tokens": tokens}

    def optim_step(self) -> Mapping[str, float]:
        norm = float(np.linalg.norm(self._gradient))
        logits = self.weights.logits - self.learning_rate * self._gradient
        self.weights = replace(self.weights, logits=logits, version=self.weights.version + 1)
        self._gradient = np.zeros_like(logits)
        return {"grad_norm": norm}

    @property
    def gradient(self) -> npt.NDArray[np.float64]:
        """What has been accumulated since the last step, [num_points, 2]."""
        return self._gradient

    def logprobs(
        self, samples: Sequence[TrainingSample], *, reference: bool = False
    ) -> Sequence[npt.NDArray[np.float32]]:
        if reference:
            raise InputError("the habit learner keeps no reference weights")
        found = []
        for sample in samples:
            values = np.zeros(len(sample.token_ids), dtype=np.float32)
            values[sample.mask] = self.weights.logprobs(sample.temperature)[_options(sample)]
            found.append(values)
        return found

    def features(
        self, samples: Sequence[TrainingSample], layers: Sequence[int], positions: Sequence[Sequence[int]]
    ) -> Sequence[npt.NDArray[np.float32]]:
        raise InputError("the habit policy has no hidden states")

    def publish(self) -> HabitWeights:
        return self.weights

    def save(self, folder: Path) -> None:
        self.weights.save(folder)
        (folder / _STATE_FILE).write_text(canonical_json({"learning_rate": self.learning_rate}) + "\n")

    def load(self, folder: Path) -> None:
        weights = HabitWeights.load(folder)
        if list(weights.points) != list(self.weights.points):
            raise InputError(
                f"{folder} holds habits {list(weights.points)}, this learner has {list(self.weights.points)}"
            )
        state = folder / _STATE_FILE
        try:
            learning_rate = float(json.loads(state.read_text())["learning_rate"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{state} does not hold the state of a habit learner: {error}") from error
        self.weights = weights
        self.learning_rate = learning_rate
        self._gradient = np.zeros_like(weights.logits)


def _options(sample: TrainingSample) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Decision point and option of each trained token."""
    ids = sample.token_ids[sample.mask].astype(np.int64) - 1
    assert (ids >= 0).all(), "the id that starts a turn is never trained on"
    return ids // 2, ids % 2
