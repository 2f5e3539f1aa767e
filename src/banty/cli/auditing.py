"""The audit of a training run's tasks against those it is evaluated on, kept beside each result card."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from banty.envs.airline.matching import AIRLINE_MATCHING
from banty.errors import BantyError, InputError
from banty.evals import Card
from banty.evals.audit import (
    AUDIT_FILE,
    Audit,
    TaskSet,
    audit,
    refusal,
    spoken_task,
    tasks_of_card,
    tasks_of_split,
    tasks_of_store,
    together,
)
from banty.evals.users import table
from banty.records import Taskset
from banty.runs import RunFolder
from banty.runs.folder import write_json
from banty.train.recipe import RLRecipe, SFTRecipe
from banty.train.traces import read_traces


class RunAuditor:
    """Audits what a recipe trains on against its evaluations, each of them once a process."""

    def __init__(self, recipe: RLRecipe | SFTRecipe, tasksets: Mapping[str, Taskset], allow_code: bool = False) -> None:
        self._recipe = recipe
        self._tasksets = tasksets
        self._allow_code = allow_code
        self._found: dict[tuple[str, str], Audit] = {}

    def write(self, name: str, card: Card, folder: Path) -> None:
        """Keep the audit of the evaluation `name` in its folder, in place of one from before the run was gone on with.
        What cannot be audited is written down as that, with the reason: a run does not end because of it, and its
        result may not be called held-out."""
        sha256 = str(card.data["identity"]["tasks_sha256"])
        try:
            data = self._audit(name, card, sha256).to_json()
        except BantyError as error:
            data = refusal(str(error), {"tasks_sha256": sha256})
        write_json(folder / AUDIT_FILE, data)

    def _audit(self, name: str, card: Card, sha256: str) -> Audit:
        if (name, sha256) not in self._found:
            test = tasks_of_card(card, self._tasksets[name], {"kind": "evaluation"})
            self._found[name, sha256] = audit(self._training, test)
        return self._found[name, sha256]

    @cached_property
    def _training(self) -> TaskSet:
        recipe = self._recipe
        own = self._sampled(recipe) if isinstance(recipe, RLRecipe) else _imitated(_data_of(recipe), self._allow_code)
        return _after(own, recipe.policy.start, self._allow_code)

    def _sampled(self, recipe: RLRecipe) -> TaskSet:
        """The most that the run samples: its steps take tasks in the split's order, so many a round."""
        block = recipe.train
        most = block.steps * block.tasks_per_step * block.sampling_rounds
        about = {"kind": "training", "method": "rl", "options": dict(recipe.env.options)}
        return tasks_of_split(self._tasksets[""], recipe.env.split, most, block.seed, about=about)


def tasks_of_run(folder: Path, allow_code: bool) -> TaskSet:
    """All that a training run's weights have been trained on: its own tasks, and those of the run it started from.

    Raises InputError where that cannot be told.
    """
    recipe = RunFolder.open(folder).read_json("recipe.json")
    if recipe.get("kind") == "sft":
        own = _imitated(table(recipe.get("data")), allow_code)
    else:
        own = tasks_of_store(folder, recipe, allow_code)
    return _after(own, str(table(recipe.get("policy")).get("start") or ""), allow_code)


def _after(own: TaskSet, start: str, allow_code: bool) -> TaskSet:
    """A run's own tasks, and those of the run whose weights it started from, if they are a run's."""
    earlier = run_of_weights(Path(start)) if start else None
    if earlier is None:
        return own
    return together([own, tasks_of_run(earlier, allow_code)], {"kind": "training", "started_from": str(earlier)})


def run_of_weights(weights: Path) -> Path | None:
    """The training run that made these weights, or None where they are not in the folder of one."""
    whole = weights.expanduser().resolve()
    for place in (whole, *list(whole.parents)[:2]):
        if (place / "manifest.json").is_file() and (place / "recipe.json").is_file():
            kind = RunFolder.open(place).read_json("recipe.json").get("kind")
            return place if kind in ("rl", "sft") else None
    return None


def _data_of(recipe: SFTRecipe) -> Mapping[str, object]:
    return {"rollouts": recipe.data.rollouts, "traces": recipe.data.traces}


def _imitated(data: Mapping[str, Any], allow_code: bool) -> TaskSet:
    """The tasks of the stored rollouts and the files of traces that a fine-tuning imitates."""
    folders, files = (list(map(Path, data.get(name) or ())) for name in ("rollouts", "traces"))
    parts = [tasks_of_store(folder, _recipe_of(folder), allow_code) for folder in folders]
    parts += [_traces(file) for file in files]
    if not parts:
        raise InputError("the recipe names neither rollouts nor traces")
    return together(parts, {"kind": "training", "method": "sft"})


def _recipe_of(folder: Path) -> Mapping[str, object]:
    """The recipe beside stored rollouts, or above the store; empty where there is none."""
    for place in (folder, folder.parent):
        if (place / "recipe.json").is_file() and (place / "manifest.json").is_file():
            found: Mapping[str, object] = RunFolder.open(place).read_json("recipe.json")
            return found
    return {}


def _traces(file: Path) -> TaskSet:
    """Conversations of a file, which name no tasks: what their users say and what is done for them is compared."""
    tasks = []
    for trace in read_traces(file):
        replies = (message for turn, observed in trace.turns for message in (turn, *observed))
        tasks.append(spoken_task(trace.name, [*trace.opening, *replies]))
    return TaskSet(f"the traces {file.name}", tasks, {"kind": "traces", "file": str(file)}, AIRLINE_MATCHING)
