"""Draws keyed by what they are for, never by their place in a stream.

An episode that asks one more question, or takes its turns in another order, still gets the same draw for the same
(seed, purpose, turn). Python's own `hash` is never used: it changes from process to process.
"""

from __future__ import annotations

import hashlib
from operator import index

import numpy as np


def derive(seed: int, *key: str | int) -> int:
    """A 63-bit seed that depends on `seed` and `key` only, the same on every machine and Python version."""
    digest = hashlib.blake2b(digest_size=8)
    # `ascii` and plain types: what `repr` shows of a character or of numpy's integers depends on the version.
    plain = [str(part) if isinstance(part, str) else index(part) for part in key]
    digest.update(ascii((int(seed), *plain)).encode())
    return int.from_bytes(digest.digest(), "big") >> 1


def generator(seed: int, purpose: str, turn: int = 0) -> np.random.Generator:
    """A fresh generator for one purpose at one turn of the episode with this seed."""
    return np.random.Generator(np.random.PCG64(derive(seed, purpose, turn)))


def bucket(text: str, num_buckets: int) -> int:
    """The bucket, from 0, that `text` always falls into; splits are made with it."""
    return derive(0, "bucket", text) % num_buckets
