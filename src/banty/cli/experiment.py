"""An experiment as `banty sweep` works with it: arms resolved to recipes, results, cells as training runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from banty.cli.desk import run_on_desk
from banty.cli.local import start_sha256
from banty.cli.rewards import with_kept_file
from banty.cli.training import (
    Recipe,
    check_recipe,
    recipe_json,
    recipe_of,
    run_training,
    tasksets_of,
    with_whole_options,
)
from banty.errors import InputError
from banty.models.packaged import place_of
from banty.records import sha256_json
from banty.rubrics import read_reward_file
from banty.runs import read_recipe, with_values
from banty.sweeps import (
    CellRun,
    PlannedArm,
    Results,
    State,
    Sweep,
    SweepTable,
    Tell,
    draw,
    frozen_commit,
    read_sweep,
    result_line,
)
from banty.train.recipe import RLRecipe
from banty.train.rl import StepReport

_SET_BY_SWEEPS = {
    ("train", "seed"): "an arm's seeds are its `seeds`",
    ("policy", "threads"): "a cell uses one thread; --jobs says how many cells run at once",
}
_DIGITS = 16


class Standing(NamedTuple):
    """A cell, how it stands, and whether a run of it was begun."""

    cell: CellRun
    state: State
    begun: bool


@dataclass(frozen=True)
class Work:
    """What a worker needs to run a cell."""

    cell: CellRun
    recipe: Recipe
    metrics: tuple[str, ...]
    baselines: bool
    allow_code: bool


@dataclass(frozen=True)
class Experiment:
    """A sweep with its arms resolved and its results read. `frozen` is the commit that its files stand in."""

    file: Path
    sweep: Sweep
    recipes: Mapping[str, Recipe]
    arms: Sequence[PlannedArm]
    results: Mapping[str, Results]
    runs: Path
    data: Path
    frozen: str | None

    @classmethod
    def read(cls, file: Path, runs: Path, data: Path) -> Experiment:
        """Raises InputError, naming the arm, for what no recipe can be made of, and for results that are damaged."""
        sweep = read_sweep(file)
        recipes = {name: _recipe_of(sweep, name, file) for name in sweep.arms}
        arms = [
            PlannedArm(name, sweep.seeds_of(name), recipe_json(recipe), _start_of(recipe), sweep.arms[name].exploratory)
            for name, recipe in recipes.items()
        ]
        runs, data = runs / sweep.name, data / sweep.name
        results = {name: Results(data, name) for name in recipes}
        return cls(file, sweep, recipes, arms, results, runs, data, frozen_commit([file, Path(sweep.recipe)]))

    def read_again(self) -> Experiment:
        """The same with the results that are on disk now."""
        return dataclasses.replace(self, results={name: Results(self.data, name) for name in self.results})

    def check(self, allow_code: bool) -> None:
        """Raises InputError, naming the arm, for a recipe that its tasks, policy and data cannot serve."""
        for name, recipe in self.recipes.items():
            try:
                whole = with_whole_options(recipe)
                check_recipe(whole, tasksets_of(whole, allow_code), allow_code=allow_code)
            except InputError as error:
                raise InputError(f"{self.file}: arms.{name}: {error}") from error

    def standings(self, chosen: Mapping[str, Sequence[int]]) -> list[Standing]:
        """How the chosen cells stand, seed by seed: whenever a sweep is stopped, its arms have about the same seeds."""
        found = []
        for arm in self.arms:
            states = self.results[arm.name].states(arm, _resolved)
            for seed in chosen.get(arm.name, ()):
                folder = self.runs / arm.name / f"seed-{seed}"
                cell = CellRun(arm.name, seed, folder, arm.digest, arm.start, self.frozen)
                found.append(Standing(cell, states[seed], states[seed] != "finished" and cell.begun))
        return sorted(found, key=lambda each: each.cell.seed)

    def work_on(self, cell: CellRun, allow_code: bool) -> Work:
        tables = with_values(recipe_json(self.recipes[cell.arm]), {"train.seed": cell.seed})
        return Work(cell, recipe_of(tables, str(self.file)), self._metrics, self.sweep.keep_runs, allow_code)

    def table(self) -> SweepTable:
        return draw(self.sweep, self.arms, self.results, _resolved)

    @property
    def _metrics(self) -> tuple[str, ...]:
        rewarded = all(isinstance(recipe, RLRecipe) for recipe in self.recipes.values())
        return self.sweep.metrics or ("rollout/success" if rewarded else "train/loss",)


def run_cell(work: Work, tell: Tell) -> dict[str, Any]:
    """Carry a cell through to its end from wherever it stands: its result. `tell` gets steps done and steps in all.

    A cell on a desk is a matter of seconds, and leaves no run behind.
    """
    recipe = with_whole_options(work.recipe)
    if isinstance(recipe, RLRecipe) and recipe.desk is not None:
        return run_on_desk(recipe, recipe.desk, work.cell, work.allow_code)
    run = work.cell.open(recipe_json(recipe))
    if not (run.path / "result.json").exists():
        tasksets = tasksets_of(recipe, work.allow_code)
        if isinstance(recipe, RLRecipe):
            recipe = with_kept_file(recipe, run.path)
        prepared = check_recipe(recipe, tasksets, allow_code=work.allow_code)

        def watch(report: StepReport) -> None:
            tell((report.step + 1, report.num_steps))

        run_training(
            recipe,
            run,
            tasksets,
            prepared,
            quiet=True,
            baselines=work.baselines,
            watch=watch,
            allow_code=work.allow_code,
        )
    return result_line(run, work.metrics)


def _recipe_of(sweep: Sweep, name: str, file: Path) -> Recipe:
    """The recipe of an arm, whatever its seed. Raises InputError naming the arm."""
    where = f"{file}: arms.{name}"
    arm = sweep.arms[name]
    changes = with_values(with_values({}, sweep.set), arm.set)
    for (block, key), instead in _SET_BY_SWEEPS.items():
        if isinstance(changes.get(block), dict) and key in changes[block]:
            raise InputError(f"{where} sets {block}.{key}; {instead}")
    tables = read_recipe(sweep.recipe)
    try:
        tables = with_values(tables, changes)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    recipe = recipe_of(tables, where)
    recipe = dataclasses.replace(recipe, policy=dataclasses.replace(recipe.policy, threads=1))
    if recipe.env is None:
        raise InputError(f"{where}: {sweep.recipe} has no [env] to be measured in, and a sweep compares success")
    return recipe


def _resolved(stored: Mapping[str, Any]) -> Mapping[str, Any]:
    return recipe_json(recipe_of(stored, "a stored recipe"))


def _start_of(recipe: Recipe) -> str:
    """A digest of what a recipe names and does not hold: the weights it starts from and the reward file; "" where it
    names none or they are not here."""
    return "+".join(part for part in (_weights_of(recipe), _rewards_of(recipe)) if part)


def _rewards_of(recipe: Recipe) -> str:
    if not isinstance(recipe, RLRecipe) or not recipe.rewards.file:
        return ""
    try:
        return read_reward_file(recipe.rewards.file).sha256[:_DIGITS]
    except InputError:
        return ""  # whoever runs the arm is told, with its name


def _weights_of(recipe: Recipe) -> str:
    policy = recipe.policy
    if policy.type == "model":
        digest = start_sha256(place_of(policy.start)) if policy.start else ""
        return digest[:_DIGITS] + digest[64 : 64 + _DIGITS]  # of an adapter the base's as well
    habits = Path(policy.start) / "habits.json"
    return sha256_json(habits.read_text())[:_DIGITS] if policy.start and habits.is_file() else ""
