"""Cutting what is to be computed into passes of few shapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

WIDTH_BUCKET = 16


@dataclass(frozen=True)
class Job:
    """Tokens to compute in a slot, and the job's place among those it came with."""

    slot: int
    ids: Sequence[int]
    place: int


def filled(jobs: Sequence[Job], most: int) -> tuple[list[Job], list[Job]]:
    """The first `most` tokens of jobs, the last of which may be cut, and what is left."""
    taken: list[Job] = []
    for number, job in enumerate(jobs):
        if len(job.ids) > most:
            rest = replace(job, ids=job.ids[most:])
            return [*taken, *([replace(job, ids=job.ids[:most])] if most else [])], [rest, *jobs[number + 1 :]]
        taken.append(job)
        most -= len(job.ids)
    return taken, []


def alike(jobs: Sequence[Job], most: int) -> tuple[list[Job], list[Job]]:
    """A batch of the longest jobs, as many as fit into `most` tokens at the longest's width, and what is left."""
    ordered = sorted(jobs, key=lambda job: (-len(job.ids), job.place))
    width = min(width_bucket(len(ordered[0].ids)), most)
    num_rows = max(most // width, 1)
    batch = [replace(job, ids=job.ids[:width]) for job in ordered[:num_rows]]
    cut = [replace(job, ids=job.ids[width:]) for job in ordered[:num_rows] if len(job.ids) > width]
    return batch, [*ordered[num_rows:], *cut]


def row_bucket(count: int) -> int:
    """Powers of two up to 16, multiples of 8 up to 64 and of 32 beyond: few shapes, and few rows for nothing."""
    step = 8 if count <= 64 else 32
    return 1 << max(count - 1, 0).bit_length() if count <= 16 else -(-count // step) * step


def width_bucket(count: int) -> int:
    return -(-count // WIDTH_BUCKET) * WIDTH_BUCKET
