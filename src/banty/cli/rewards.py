"""The reward file a recipe names, with its Python tiers, and the copy a run keeps of it."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

from banty.envs.userfiles import import_file
from banty.errors import InputError
from banty.rubrics import Predicate, RewardFile, packaged, read_reward_file, with_functions
from banty.train.recipe import RLRecipe
from banty.train.rewards import FIRST


def rewards_of(recipe: RLRecipe, allow_code: bool) -> RewardFile | None:
    """The reward file, ready to label with; None where the recipe names none. Raises InputError naming what is
    wrong."""
    if not recipe.rewards.file:
        return None
    return with_functions(
        read_reward_file(recipe.rewards.file), functools.partial(load_predicate, allow_code=allow_code)
    )


def load_predicate(place: str, allow_code: bool) -> Predicate:
    """The function `FILE.py:NAME`. The file is run only with `allow_code`."""
    path, _, name = place.rpartition(":")
    if not allow_code:
        raise InputError(f"{place} is Python code; add --allow-code to run it")
    if not Path(path).is_file():
        raise InputError(f"no file {path}, which the reward file takes a tier from")
    found: Predicate | None = getattr(import_file(path), name, None)
    if not callable(found):
        raise InputError(f"{path} defines no function {name}; a tier is a function of (rollout, turn, call)")
    return found


def with_whole_file(recipe: RLRecipe) -> RLRecipe:
    """The recipe with the reward file's path made absolute: a stored run finds it from any folder."""
    file = recipe.rewards.file
    if not file or file in packaged():
        return recipe
    read_reward_file(file)  # a misspelt name is told as it was written
    return _with_file(recipe, Path(file).expanduser().resolve())


def with_kept_file(recipe: RLRecipe, folder: Path) -> RLRecipe:
    """The recipe with the copy of the reward file that the run in `folder` began with, if it has one."""
    kept = folder / FIRST
    return _with_file(recipe, kept.resolve()) if recipe.rewards.file and kept.is_file() else recipe


def _with_file(recipe: RLRecipe, file: Path) -> RLRecipe:
    return dataclasses.replace(recipe, rewards=dataclasses.replace(recipe.rewards, file=str(file)))
