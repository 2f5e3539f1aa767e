"""Results of experiments, written by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from banty.sweeps import Arm, PlannedArm, Results, Sweep

RECIPE: dict[str, Any] = {"kind": "rl", "train": {"steps": 3, "estimator": "rloo", "seed": 0}, "eval": {"also": {}}}


def as_it_is(recipe: Mapping[str, Any]) -> Mapping[str, Any]:
    return recipe


def planned(name: str, seeds: Sequence[int], exploratory: bool = False, **train: Any) -> PlannedArm:
    recipe = {**RECIPE, "train": {**RECIPE["train"], **train}}
    return PlannedArm(name, tuple(seeds), recipe, exploratory=exploratory)


def measured(success: float, tasks: str = "t", num_unscored: int = 0) -> dict[str, Any]:
    return {"success": success, "tasks": tasks, "num_unscored": num_unscored}


def line(arm: PlannedArm, seed: int, after: float, before: float = 0.25, **more: Any) -> dict[str, Any]:
    given = {"arm": arm.name, "seed": seed, "recipe": arm.digest, "start": "", "frozen": "c0ffee"}
    return {**given, "before": measured(before), "after": measured(after), **more}


def sweep_of(*arms: PlannedArm) -> Sweep:
    """A sweep whose baseline is the first arm."""
    return Sweep(
        name="by-hand",
        recipe="recipe.toml",
        seeds=arms[0].seeds,
        baseline=arms[0].name,
        arms={arm.name: Arm(seeds=arm.seeds, exploratory=arm.exploratory) for arm in arms},
    )


def stored(folder: Path, arm: PlannedArm, afters: Mapping[int, float]) -> Results:
    results = Results(folder, arm.name)
    for seed, after in afters.items():
        results.put(line(arm, seed, after), arm.recipe)
    return results
