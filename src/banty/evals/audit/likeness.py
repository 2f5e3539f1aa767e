"""How alike texts are: for each of many, the most similar of many others, without a loop over pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import sparse, special

from banty.evals.audit.tasks import Side

BLOCK = 128
MOST_NULL = 1000
QUANTILE = 0.99
OF_ONE_CUSTOMER = 0.9
"""The same for two tasks of one customer: those are few, and a pair is rarely the best of many."""
NEARLY_THE_SAME = 0.85
"""The word Jaccard of an instruction in which little but a name was changed."""
SURE = 0.01
"""A count that chance alone would reach or pass more rarely than this is no accident."""

Bags = Sequence[frozenset[str]]


class Best(NamedTuple):
    """For each query the place of the most similar text, and how similar it is; -1 and 0 where there is none."""

    places: np.ndarray
    scores: np.ndarray


class Likeness(NamedTuple):
    """The best matches of test tasks in training, and those of training tasks among their own unrelated ones.

    `close` marks the test tasks whose best match is above the threshold of either measure, `chance` is how often
    training tasks are that close to unrelated ones, and `p_value` how likely so many would be if test were as far from
    training as training is from itself. None where training has no unrelated tasks. `telling` is False where even a
    test set that is close throughout would not show: too few tasks. `of_one_customer` is the word Jaccard above which
    two tasks of one customer are alike, and `nearly_the_same` that from which two instructions are one.
    """

    jaccard: Best
    containment: Best
    null_jaccard: np.ndarray
    null_containment: np.ndarray
    thresholds: tuple[float, float] | None
    close: np.ndarray
    chance: float | None
    p_value: float | None
    telling: bool
    of_one_customer: float | None
    nearly_the_same: float


def jaccard(shared: np.ndarray, query: np.ndarray, corpus: np.ndarray) -> np.ndarray:
    """The share of two sets' members that both have."""
    return np.asarray(shared / np.maximum(query + corpus - shared, 1.0))


def containment(shared: np.ndarray, query: np.ndarray, corpus: np.ndarray) -> np.ndarray:
    """The share of the query's members that the other has too."""
    return np.asarray(shared / np.maximum(query, 1.0))


def best_matches(
    queries: Bags,
    corpus: Bags,
    measure: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray],
    left_out: Sequence[Sequence[int]] | None = None,
) -> Best:
    """For each query the most similar set of the corpus, by sparse products of blocks; among equals the first.

    `left_out` names, for each query, the places of the corpus that do not count.
    """
    vocabulary = {member: place for place, member in enumerate({member: None for bag in corpus for member in bag})}
    columns = _counts(corpus, vocabulary).T.tocsr()
    corpus_sizes = np.array([len(bag) for bag in corpus], dtype=np.float32)
    places, scores = np.full(len(queries), -1), np.zeros(len(queries))
    if not len(corpus):
        return Best(places, scores)
    for start in range(0, len(queries), BLOCK):
        block = queries[start : start + BLOCK]
        shared = (_counts(block, vocabulary) @ columns).toarray()
        sizes = np.array([[len(bag)] for bag in block], dtype=np.float32)
        found = measure(shared, sizes, corpus_sizes[None, :])
        if left_out is not None:
            for row, gone in enumerate(left_out[start : start + BLOCK]):
                found[row, list(gone)] = -1.0
        best = found.argmax(axis=1)
        top = found[np.arange(len(block)), best]
        places[start : start + len(block)] = np.where(top > 0, best, -1)
        scores[start : start + len(block)] = np.maximum(top, 0.0)
    return Best(places, scores)


def likeness(train: Side, test: Side) -> Likeness:
    """How near the test tasks' texts come to training's, against how near unrelated training tasks come to each other.

    Both are best matches in the same training tasks, so that neither has more chances than the other. Unrelated means
    another task and no customer in common. Of more than a thousand training tasks a thousand are looked at for this,
    evenly spaced.
    """
    chosen = np.unique(np.linspace(0, len(train) - 1, min(len(train), MOST_NULL)).astype(int)).tolist()
    related = _related(train, chosen)
    found = (
        best_matches(test.words, train.words, jaccard),
        best_matches(test.shingles, train.shingles, containment),
    )
    usable = [row for row, gone in enumerate(related) if len(gone) < len(train) and train.words[chosen[row]]]
    null = (
        best_matches([train.words[place] for place in chosen], train.words, jaccard, related).scores[usable],
        best_matches([train.shingles[place] for place in chosen], train.shingles, containment, related).scores[usable],
    )
    if not usable:
        nothing = np.zeros(len(test), dtype=bool)
        return Likeness(*found, *null, None, nothing, None, None, False, None, NEARLY_THE_SAME)
    thresholds = (_threshold(null[0]), _threshold(null[1]))
    close = _above((found[0].scores, found[1].scores), thresholds)
    chance = min((2 + int(_above(null, thresholds).sum())) / (len(usable) + 1), 1.0)
    return Likeness(
        *found,
        *null,
        thresholds,
        close,
        chance,
        p_value=tail(int(close.sum()), len(test), chance),
        telling=tail(len(test), len(test), chance) < SURE,
        of_one_customer=float(np.quantile(null[0], OF_ONE_CUSTOMER, method="higher")),
        # Where unrelated tasks come near each other, only half the way from there to the same words says anything.
        nearly_the_same=max(NEARLY_THE_SAME, (1.0 + float(null[0].max())) / 2),
    )


def tail(count: int, of: int, chance: float) -> float:
    """The chance of at least `count` among `of` independent tries."""
    return 1.0 if count <= 0 else float(special.bdtrc(count - 1, of, chance))


def _related(train: Side, chosen: Sequence[int]) -> list[list[int]]:
    """For each of these training tasks the places of itself and of those with a customer in common."""
    by_customer: dict[str, list[int]] = {}
    for place, customers in enumerate(train.customers):
        for customer in customers or ():
            by_customer.setdefault(customer, []).append(place)
    return [
        sorted({place, *(other for one in train.customers[place] or () for other in by_customer[one])})
        for place in chosen
    ]


def _threshold(null: np.ndarray) -> float:
    """The 99th percentile by nearest rank: below a hundred tasks, the highest there is."""
    return float(np.quantile(null, QUANTILE, method="higher"))


def _above(scores: tuple[np.ndarray, np.ndarray], thresholds: tuple[float, float]) -> np.ndarray:
    slack = 1e-6  # scores are single precision
    return (scores[0] > thresholds[0] + slack) | (scores[1] > thresholds[1] + slack)


def _counts(bags: Bags, vocabulary: dict[str, int]) -> sparse.csr_matrix:
    """One row a bag, with a 1 for each of its members that the vocabulary has."""
    columns = [[vocabulary[member] for member in bag if member in vocabulary] for bag in bags]
    ends = np.cumsum([0, *map(len, columns)])
    flat = np.array([place for row in columns for place in row], dtype=np.int32)
    shape = (len(bags), max(len(vocabulary), 1))
    return sparse.csr_matrix((np.ones(len(flat), dtype=np.float32), flat, ends), shape=shape)
