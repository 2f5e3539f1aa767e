"""What `banty calibrate` finds in a folder: rollouts, how their turns are labelled, the reward file and the credit."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from banty.calibrate import Scoring
from banty.cli.choices import credit_of
from banty.cli.labelling import labelling_of, recipe_of
from banty.cli.rewards import load_predicate
from banty.credit import CreditSpec, GroupRewards
from banty.errors import InputError
from banty.interop import GOLDEN
from banty.records import Group
from banty.rollout import group_rollouts, stored_rollouts
from banty.rubrics import RewardFile, read_reward_file, with_functions
from banty.runs import from_mapping
from banty.train.recipe import RewardsBlock, TrainBlock
from banty.train.rewards import FOLDER
from banty.train.rl import shaped_rewards
from banty.train.samples import check_finite, group_rewards

DEFAULT_REWARDS = "irc"
DEFAULT_CREDIT = CreditSpec(estimator="hybrid")


@dataclass(frozen=True)
class Stored:
    """A folder's groups and how to score them. `rewards` is the reward file in force; `notes` are for a person."""

    groups: Sequence[Group]
    scoring: Scoring
    rewards: RewardFile
    credit: CreditSpec
    history: Sequence[Mapping[str, Any]]
    notes: tuple[str, ...]


def read_stored(folder: Path, rewards: str, credit: str, allow_code: bool) -> Stored:
    """What is in `folder`. Raises InputError for one without rollouts, for a damaged golden.json, and for whatever of
    the options cannot work."""
    groups = group_rollouts(stored_rollouts(folder))
    if not groups:
        raise InputError(f"{folder} holds no rollouts; its store is empty. Name a run that has finished a step")
    check_finite(groups)
    recipe, home = recipe_of(folder)
    block = recipe.get("rewards")
    weight = from_mapping(RewardsBlock, block, "recipe.json").weight if isinstance(block, dict) else 1.0
    rewards_in = _rewards_in(recipe)
    file = with_functions(
        read_reward_file(rewards or _in_force(home)), functools.partial(load_predicate, allow_code=allow_code)
    )
    spec, notes = _credit(recipe, credit)
    labelling = labelling_of(folder, allow_code)
    notes += [labelling.note] if labelling.note else []
    if labelling.golden is not None:
        missing = sorted({group.task.id for group in groups} - set(labelling.golden))
        notes += [f"{GOLDEN} names no calls for {len(missing)} tasks, such as {missing[0]}"] if missing else []
    scoring = Scoring(labelling.labels, rewards_in, weight)
    if all(len(group.scored) < 2 for group in groups):
        notes.append(
            "every task was tried once: correlations within tasks and advantages compare several rollouts of one task"
        )
    return Stored(groups, scoring, file, spec, read_history(home), tuple(notes))


def _rewards_in(recipe: Mapping[str, Any]) -> Callable[[Group], GroupRewards]:
    """What estimators are given of a group: as the run trained on it, if it is one of training."""
    if recipe.get("kind") != "rl":
        return group_rewards
    block = from_mapping(TrainBlock, recipe.get("train", {}), "recipe.json")
    return lambda group: shaped_rewards(group, block)


def read_history(folder: Path) -> list[dict[str, Any]]:
    """What a run decided by itself, in order; empty where it decided nothing."""
    path = folder / FOLDER / "history.jsonl"
    if not path.is_file():
        return []
    try:
        return [dict(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path} is damaged: {error}") from error


def _in_force(home: Path) -> str | Path:
    """The last reward file a run has used; the packaged calibrated one where it used none."""
    files = sorted(path for path in (home / FOLDER).glob("*.toml") if path.stem.isdigit())
    return files[-1] if files else DEFAULT_REWARDS


def _credit(recipe: Mapping[str, Any], wanted: str) -> tuple[CreditSpec, list[str]]:
    of_run = recipe.get("credit")
    if wanted:
        spec = credit_of(wanted)
    elif isinstance(of_run, dict):
        spec = from_mapping(CreditSpec, {name: value for name, value in of_run.items() if value is not None}, "credit")
        spec.check()
    else:
        spec = DEFAULT_CREDIT
    notes = []
    if not spec.heeds_turns:
        notes.append(
            f"{spec.estimator} heeds the outcome alone, so that no reward file changes an advantage; see what would "
            "happen under another with --credit hybrid"
        )
    return spec, notes


def with_settings(spec: Any, **given: Any) -> Any:
    """A dataclass with those of the settings that were given."""
    return dataclasses.replace(spec, **{name: value for name, value in given.items() if value is not None})
