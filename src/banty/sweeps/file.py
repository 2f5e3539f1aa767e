"""The file of an experiment: one recipe, what each arm changes in it, and the training seeds."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from banty.errors import InputError
from banty.runs import from_mapping, read_recipe

_NAME = re.compile("[A-Za-z0-9][A-Za-z0-9_-]*")
MOST_SEEDS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One of the things compared: what it sets in the recipe, and its seeds where they are not the sweep's.

    An `exploratory` arm was thought of after the others were seen; it is shown and gets no verdict.
    """

    set: Mapping[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = ()
    exploratory: bool = False


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """An experiment. `set` is what all arms set, `baseline` the arm that the others are compared with, and `metrics`
    those whose curves are kept. Without `keep_runs` a cell's run folder is removed once its result is written."""

    recipe: str
    seeds: tuple[int, ...]
    arms: Mapping[str, Arm]
    name: str = ""
    question: str = ""
    set: Mapping[str, Any] = field(default_factory=dict)
    baseline: str = ""
    metrics: tuple[str, ...] = ()
    keep_runs: bool = True

    def check(self, where: str) -> None:
        """Raises InputError, beginning with `where`, for what contradicts itself or cannot work."""
        if not self.arms:
            raise InputError(f"{where}: it has no arms; add a table such as [arms.rloo]")
        for name in (self.name, *self.arms):
            if not _NAME.fullmatch(name):
                raise InputError(f"{where}: {name!r} names a folder; write it in letters, digits, - and _")
        if self.baseline not in self.arms:
            raise InputError(f"{where}: baseline is {self.baseline!r}; the arms are {', '.join(self.arms)}")
        if self.arms[self.baseline].exploratory:
            raise InputError(f"{where}: the baseline {self.baseline!r} is exploratory; compare with an arm that is not")
        for place, seeds in (("seeds", self.seeds), *((f"arms.{name}.seeds", arm.seeds) for name, arm in self._own())):
            _check_seeds(seeds, f"{where}: {place}")

    def seeds_of(self, arm: str) -> tuple[int, ...]:
        return self.arms[arm].seeds or self.seeds

    def _own(self) -> list[tuple[str, Arm]]:
        return [(name, arm) for name, arm in self.arms.items() if arm.seeds]


def read_sweep(path: str | Path) -> Sweep:
    """The experiment in a TOML file, its recipe found and its seeds sorted.

    Raises InputError naming the file, the key, what is allowed and the closest known key.
    """
    file, where = Path(path), str(path)
    data = read_recipe(file)
    _seed_lists(data, where, "seeds")
    arms = data.get("arms")
    for name, arm in arms.items() if isinstance(arms, dict) else ():
        if isinstance(arm, dict):
            _seed_lists(arm, where, f"arms.{name}.seeds")
    sweep = from_mapping(Sweep, data, where)
    sweep = dataclasses.replace(
        sweep,
        name=sweep.name or file.stem,
        baseline=sweep.baseline or next(iter(sweep.arms), ""),
        recipe=os.path.normpath(file.parent / sweep.recipe),
    )
    sweep.check(where)
    return sweep


def _seed_lists(table: dict[str, Any], where: str, key: str) -> None:
    """Write a number of seeds as the list it stands for."""
    given = table.get("seeds")
    if given is None:
        return
    number = isinstance(given, int) and not isinstance(given, bool)
    if number and 1 <= given <= MOST_SEEDS:
        table["seeds"] = list(range(given))
    elif number or not isinstance(given, list) or not given:
        raise InputError(
            f"{where}: {key} is {given!r}; it takes how many, from 1 on, or a list of seeds such as [3, 5]"
        )
    else:
        table["seeds"] = sorted(given) if all(isinstance(seed, int) for seed in given) else given


def _check_seeds(seeds: tuple[int, ...], where: str) -> None:
    wrong = [seed for seed in seeds if not 0 <= seed < 2**63]
    if wrong:
        raise InputError(f"{where} has {wrong[0]}; a seed is a whole number from 0 to 2^63 - 1")
    if len(set(seeds)) < len(seeds):
        raise InputError(f"{where} names a seed twice; each is one cell")


def ranges(seeds: Iterable[int]) -> str:
    """Seeds as a person writes them: `0-4, 7`."""
    spans: list[list[int]] = []
    for seed in sorted(seeds):
        if spans and seed == spans[-1][1] + 1:
            spans[-1][1] = seed
        else:
            spans.append([seed, seed])
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in spans)
