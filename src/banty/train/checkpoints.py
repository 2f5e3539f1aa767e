"""Where a training run stands, on disk: a learner's state and the loop's place, whole or not there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from banty.errors import InputError, StoreError
from banty.records import Learner
from banty.runs import RunFolder

SCHEMA_VERSION = 1
_PLACE = "loop.json"
_KEPT = 2


def save_checkpoint(run: RunFolder, learner: Learner, step: int, place: Mapping[str, int]) -> None:
    """Keep the state after `step`, and `place`: what the loop needs to know to go on from there."""
    folder = run.path / "checkpoints"
    draft, target = folder / f".step-{step:06d}.tmp", folder / f"step-{step:06d}"
    try:
        for stale in (draft, target):
            shutil.rmtree(stale, ignore_errors=True)
        draft.mkdir(parents=True)
        learner.save(draft)
        content = {"schema_version": SCHEMA_VERSION, "next_step": step + 1, **place}
        (draft / _PLACE).write_text(json.dumps(content) + "\n")
        draft.rename(target)
    except OSError as error:
        raise StoreError(f"could not write the checkpoint {target}: {error.strerror or error}") from error
    for old in checkpoints_of(run)[:-_KEPT]:
        shutil.rmtree(old, ignore_errors=True)


def restore(run: RunFolder, learner: Learner, place: Mapping[str, int]) -> tuple[int, dict[str, int]]:
    """Load the newest checkpoint into `learner`: the step to do next and the loop's place, or 0 and `place` as given.

    Raises InputError for a checkpoint that a newer Banty wrote, or that is damaged.
    """
    found = checkpoints_of(run)
    if not found:
        return 0, dict(place)
    stored = found[-1] / _PLACE
    try:
        content = json.loads(stored.read_text())
        version, step = int(content["schema_version"]), int(content["next_step"])
        kept = {name: int(content[name]) for name in place}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{stored} does not say where the run stood: {type(error).__name__} {error}") from error
    if version != SCHEMA_VERSION:
        raise InputError(
            f"{stored} is of schema {version}, and this Banty reads {SCHEMA_VERSION}; go on with the one that wrote it"
        )
    learner.load(found[-1])
    return step, kept


def checkpoints_of(run: RunFolder) -> list[Path]:
    """Checkpoints by step; the longer number is the later one."""
    found = [path for path in (run.path / "checkpoints").glob("step-*") if path.name.removeprefix("step-").isdigit()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))
