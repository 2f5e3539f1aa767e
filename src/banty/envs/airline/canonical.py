"""When two databases are the same to tau2-bench: by its hash, or, much faster, by the records that were touched."""

from __future__ import annotations

import hashlib
import json

from banty.envs.airline.data import to_json
from banty.envs.state import State
from banty.errors import InputError

_encode = json.JSONEncoder(sort_keys=True, default=str).encode


def tau2_hash(state: State) -> str:
    """The reference's hash of the whole database: sha256 over its JSON with sorted keys. Reads all of it (60 ms).

    The order of a list counts, and so does the type of a number: 250 and 250.0 differ.
    """
    return hashlib.sha256(_encode(to_json(state)).encode()).hexdigest()


def same_database(state_a: State, state_b: State) -> bool:
    """True exactly when `tau2_hash` is equal; costs only the records that either state has touched."""
    if state_a.world is not state_b.world:
        raise InputError("these states are over two worlds; compare the tau2_hash of each")
    for place in {*state_a.touched(), *state_b.touched()}:
        one, other = state_a.get(*place), state_b.get(*place)
        if one is not other and _encode(one) != _encode(other):
            return False
    return True
