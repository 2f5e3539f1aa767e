"""Finding the rollouts that a folder holds."""

from __future__ import annotations

from pathlib import Path

from banty.errors import InputError
from banty.records import Rollout
from banty.rollout.store import Store


def stored_rollouts(folder: Path) -> list[Rollout]:
    """All rollouts below a run, an evaluation or a store; of several tries at one the last."""
    if not folder.is_dir():
        what = "it is a file" if folder.exists() else "there is no such folder"
        raise InputError(f"{folder} holds no rollouts: {what}; name the folder of a run, an evaluation or a store")
    stores = [place for place in (folder / "rollouts", folder) if Store(place).parts() and _holds_parts(place)]
    if not stores:
        inside = sorted(place.parent for place in folder.glob("*/rollouts"))
        found = f"there are rollouts in {', '.join(map(str, inside))}"
        raise InputError(f"{folder} holds no rollouts; {found if inside else 'name a run that has finished a step'}")
    latest = {rollout.rollout_id: rollout for rollout in Store(stores[0]).read()}
    return sorted(latest.values(), key=lambda rollout: (rollout.group_id, rollout.task.index, rollout.rollout_id))


def _holds_parts(folder: Path) -> bool:
    return any((folder / part / "rollouts.parquet").is_file() for part in Store(folder).parts())
