"""The audit of a training run's tasks against those it is evaluated on, kept beside each result card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from banty.errors import BantyError
from banty.evals import Card
from banty.evals.audit import (
    AUDIT_FILE,
    Audit,
    AuditedTask,
    TaskSet,
    audit,
    refusal,
    tasks_of_split,
    tasks_of_store,
    together,
)
from banty.records import TaskContent, Taskset
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
        """Keep the audit of the evaluation `name` in its folder. What cannot be audited is written down as that, with
        the reason: a run does not end because of it, and its result may not be called held-out."""
        sha256 = str(card.data["identity"]["tasks_sha256"])
        if _is_of(folder / AUDIT_FILE, sha256):
            return
        try:
            data = self._audit(name, card, sha256).to_json()
        except BantyError as error:
            data = refusal(str(error), {"tasks_sha256": sha256})
        write_json(folder / AUDIT_FILE, data)

    def _audit(self, name: str, card: Card, sha256: str) -> Audit:
        if (name, sha256) not in self._found:
            identity = card.data["identity"]
            about = {"kind": "evaluation", "tasks_sha256": sha256}
            taskset = self._tasksets[name]
            test = tasks_of_split(taskset, identity["split"], identity["num_tasks"], identity["seed"], about=about)
            self._found[name, sha256] = audit(self._training, test)
        return self._found[name, sha256]

    @cached_property
    def _training(self) -> TaskSet:
        recipe = self._recipe
        return self._sampled(recipe) if isinstance(recipe, RLRecipe) else self._imitated(recipe)

    def _sampled(self, recipe: RLRecipe) -> TaskSet:
        """The most that the run samples: its steps take tasks in the split's order, so many a round."""
        block = recipe.train
        most = block.steps * block.tasks_per_step * block.sampling_rounds
        about = {"kind": "training", "method": "rl", "options": dict(recipe.env.options)}
        return tasks_of_split(self._tasksets[""], recipe.env.split, most, block.seed, about=about)

    def _imitated(self, recipe: SFTRecipe) -> TaskSet:
        parts = [
            tasks_of_store(folder, _recipe_of(folder), self._allow_code) for folder in map(Path, recipe.data.rollouts)
        ]
        parts += [_traces(Path(file)) for file in recipe.data.traces]
        return together(parts, {"kind": "training", "method": "sft"})


def _recipe_of(folder: Path) -> Mapping[str, object]:
    """The recipe beside stored rollouts, or above the store; empty where there is none."""
    for place in (folder, folder.parent):
        if (place / "recipe.json").is_file() and (place / "manifest.json").is_file():
            found: Mapping[str, object] = RunFolder.open(place).read_json("recipe.json")
            return found
    return {}


def _traces(file: Path) -> TaskSet:
    """Conversations of a file, which name no tasks: what their users say is compared."""
    tasks = []
    for trace in read_traces(file):
        messages = [*trace.opening, *(message for _, observed in trace.turns for message in observed)]
        said = "\n".join(message.content for message in messages if message.role == "user")
        tasks.append(AuditedTask(trace.name, TaskContent(text=said)))
    return TaskSet(f"the traces {file.name}", tasks, {"kind": "traces", "file": str(file)})


def _is_of(file: Path, sha256: str) -> bool:
    """Whether an audit of these test tasks is there already."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return bool(found["test"]["tasks_sha256"] == sha256 and found["train"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return False
