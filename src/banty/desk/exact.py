"""Sums over all episodes: success, and its gradient, without sampling."""

from __future__ import annotations

import numpy as np

from banty.desk.tables import Desk, Floats


def log_probabilities(logits: Floats) -> Floats:
    """Log-probabilities of the options, [..., points, 2]."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


class Exact:
    """A weighted sum over a desk's episodes as a function of the logits: by default the mean success of its tasks.

    Episodes that take the same options equally often, in whatever order, have one probability and are summed first.
    """

    def __init__(self, desk: Desk, values: Floats | None = None) -> None:
        value = (desk.success if values is None else values) / len(desk.tasks)
        self._counts, place = np.unique(desk.counts, axis=0, return_inverse=True)
        self._values = np.bincount(place.ravel(), value)
        keep = self._values != 0.0
        self._counts, self._values = self._counts[keep], self._values[keep]

    def __call__(self, logits: Floats) -> Floats:
        """The sum at each of [..., points, 2] logits."""
        flat = log_probabilities(logits).reshape(*logits.shape[:-2], -1)
        return np.asarray(np.exp(flat @ self._counts.T) @ self._values)

    def gradient(self, logits: Floats) -> Floats:
        """Its gradient in the logits, [points, 2]."""
        logprobs = log_probabilities(logits)
        weighted = np.exp(self._counts @ logprobs.ravel()) * self._values
        taken = (weighted @ self._counts).reshape(logits.shape)
        return np.asarray(taken - np.exp(logprobs) * taken.sum(axis=-1, keepdims=True))
