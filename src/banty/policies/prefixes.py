"""Which beginnings several prompts share, and the slots that keep them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from banty.policies.passes import row_bucket

if TYPE_CHECKING:
    from banty.models.slots import Slots

Ids = tuple[int, ...]
LEAST_SHARED = 16
"""Beginnings shared by fewer tokens than this are not worth a copy."""
MOST_PREFIXES = 64


class StoredPrefixes:
    """Beginnings of prompts in `slots` of their own, the longest unused of which makes room for a new one."""

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self._stored: dict[Ids, int] = {}  # by use, the latest last

    def copy(self, ids: Ids, target: Slots, slot: int) -> Ids:
        """Copy the longest stored beginning of `ids`, if any; what was copied."""
        fitting = [one for one in self._stored if len(one) < len(ids) and one == ids[: len(one)]]
        if not fitting:
            return ()
        best = max(fitting, key=len)
        self._stored[best] = self._stored.pop(best)
        target.copy(self.slots, self._stored[best], slot)
        return best

    def store(self, prompts: Sequence[Ids]) -> Iterator[list[tuple[int, Ids]]]:
        """Make room for the beginnings these prompts share. Gives slots with the ids to compute in them, those that
        build on each other one after another: each has to be computed before the next is asked for."""
        wanted = [ids for ids in shared_prefixes(prompts, LEAST_SHARED) if ids not in self._stored]
        while wanted:
            ready = [ids for ids in wanted if not any(ids != other and ids[: len(other)] == other for other in wanted)]
            ready = ready[: MOST_PREFIXES // 2]
            wanted = [ids for ids in wanted if ids not in ready]
            jobs: list[tuple[int, Ids]] = []
            for ids in ready:
                slot = self._free_slot({filling for filling, _ in jobs})
                self.slots.reserve(row_bucket(slot + 1), 0)
                self.slots.clear(slot)
                known = self.copy(ids, self.slots, slot)
                self._stored[ids] = slot
                jobs.append((slot, ids[len(known) :]))
            yield jobs

    def _free_slot(self, filling: set[int]) -> int:
        """A slot for one more prefix: the next, or that of the one longest unused; none of those about to be filled."""
        if len(self._stored) < MOST_PREFIXES:
            return len(self._stored)
        return self._stored.pop(next(ids for ids, slot in self._stored.items() if slot not in filling))


def shared_prefixes(prompts: Sequence[Ids], least: int) -> list[Ids]:
    """The beginnings that at least two prompts share and that are `least` tokens or more beyond a shorter shared one.

    Shorter ones come first. None is a whole prompt: of every prompt a last token is left to compute.
    """
    found: list[Ids] = []
    waiting = [(sorted(prompts), 0)]
    while waiting:
        group, depth = waiting.pop()
        if len(group) < 2:
            continue
        common = common_length(group[0], group[-1])  # sorted: what the first and the last share, all share
        length = min(common, min(map(len, group)) - 1)
        if length - depth >= least:
            found.append(group[0][:length])
            depth = length
        branches: dict[int, list[Ids]] = {}
        for ids in group:
            if len(ids) > common:
                branches.setdefault(ids[common], []).append(ids)
        waiting += [(branch, depth) for branch in branches.values()]
    return sorted(set(found), key=lambda ids: (len(ids), ids))


def common_length(one: Sequence[int], other: Sequence[int]) -> int:
    """How many leading ids are the same."""
    for place, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return place
    return min(len(one), len(other))
