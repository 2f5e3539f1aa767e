"""Which beginnings several prompts share."""

from __future__ import annotations

from collections.abc import Sequence

Ids = tuple[int, ...]


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
