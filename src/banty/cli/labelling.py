"""How the turns stored in a folder are labelled: whose golden calls they are compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from banty.cli.inspection import taskset_of_run
from banty.evals.diagnosis import Reference
from banty.interop import GOLDEN, KIND, read_golden
from banty.records import Rollout, ToolCall
from banty.rubrics import GoldenCalls, Labeller, Matching, RewardFile, TurnLabel, label_rollout
from banty.runs import RunFolder

Label = Callable[[Rollout], tuple[TurnLabel, ...]]


class Labelling(NamedTuple):
    """`labels` makes of a reward file what labels rollouts; `reference` is what a diagnosis compares their calls with.
    `golden` are the calls of golden.json, None where golden calls come from a taskset or from nowhere; `note` says the
    latter."""

    labels: Callable[[RewardFile], Label]
    reference: Reference
    golden: Mapping[str, tuple[ToolCall, ...]] | None = None
    note: str = ""


def recipe_of(folder: Path) -> tuple[Mapping[str, Any], Path]:
    """The recipe that belongs to a folder, and where it lies: for a store inside a run, the run. Empty for none."""
    for home in (folder, folder.resolve().parent):
        if (home / "recipe.json").is_file() and (home / "manifest.json").is_file():
            return RunFolder.open(home).read_json("recipe.json"), home
    return {}, folder


def labelling_of(folder: Path, allow_code: bool) -> Labelling:
    """Golden calls are those of golden.json in the folder, else those of the taskset its recipe names; an import
    without golden.json, and a bare store, have none.

    Raises InputError for a golden.json that is damaged and for tasks that cannot be made here.
    """
    recipe, home = recipe_of(folder)
    file = next((place / GOLDEN for place in (folder, home) if (place / GOLDEN).is_file()), None)
    if file is not None:
        golden = read_golden(file, "")
        return Labelling(
            lambda given: lambda rollout: label_rollout(rollout, golden.get(rollout.task.id), given),
            Reference(lambda task: golden.get(task.id)),
            golden,
        )
    if recipe and recipe.get("kind") != KIND:
        taskset = taskset_of_run(home, allow_code)
        return Labelling(
            lambda given: Labeller(taskset, given), Reference(GoldenCalls(taskset), Matching(tools=taskset.matching()))
        )
    return Labelling(
        lambda given: lambda rollout: label_rollout(rollout, None, given),
        Reference(lambda task: None),
        note=f"nobody knows the golden calls: there is no {GOLDEN}, so tiers that need them never come up",
    )
