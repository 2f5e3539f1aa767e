"""The learner's logprobs of a stored rollout, on weights that a run's folder still has."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from banty.cli.choices import expert_of, is_model, policy_of
from banty.cli.inspection import taskset_of_run
from banty.cli.local import ENGINE_FILE, open_model, weights_sha256
from banty.cli.training import starting_weights
from banty.errors import InputError
from banty.learn.habits import HabitLearner
from banty.models.habits import HabitWeights
from banty.policies.habits import HabitPolicy
from banty.records import Learner, Rollout
from banty.runs import RunFolder, from_mapping
from banty.train.checkpoints import checkpoints_of
from banty.train.recipe import RLRecipe
from banty.train.samples import pack_rollout

HABITS = "habits.json"


class Scores(NamedTuple):
    """The learner's logprobs of each turn's sampled tokens, by turn index, and on which weights they are."""

    logprobs: Mapping[int, list[float]]
    note: str


def scores_of(folder: Path, rollout: Rollout, *, allow_code: bool = False) -> Scores:
    """Computed on the weights that sampled `rollout` where they are kept, and on the newest there are where not.

    Raises InputError where there are none, or where the rollout is not one that a learner can score.
    """
    turns = [turn for turn in rollout.turns if turn.trainable]
    samples = pack_rollout(rollout, turns, [0.0] * len(turns), [1.0] * len(turns))
    if not samples:
        raise InputError(f"{rollout.rollout_id} has no sampled tokens")
    learner, note = _learner_of(folder, rollout, max(len(sample.token_ids) for sample in samples), allow_code)
    found: dict[int, list[float]] = {turn.index: [] for turn in turns}
    for sample, row in zip(samples, learner.logprobs(samples), strict=True):
        for place, turn in enumerate(turns):
            found[turn.index] += [float(value) for value in row[sample.turn_ids == place]]
    return Scores(found, note)


def _learner_of(folder: Path, rollout: Rollout, longest: int, allow_code: bool) -> tuple[Learner, str]:
    run = training_run_of(folder)
    if run is None:
        return _of_evaluation(folder, rollout, longest, allow_code)
    recipe = recipe_of_run(run)
    if recipe.policy.type == "habits":
        return _of_habit_run(run, recipe, rollout, allow_code)
    return _of_model_run(run, recipe, rollout, longest)


def training_run_of(folder: Path) -> Path | None:
    """The training run that `folder` is, or whose evaluation it is."""
    whole = folder.resolve()
    for place in (folder, whole.parent) if whole.name.startswith("eval-") else (folder,):
        if (place / "manifest.json").is_file() and RunFolder.open(place).read_json("recipe.json").get("kind") == "rl":
            return place
    return None


def recipe_of_run(run: Path) -> RLRecipe:
    """The recipe a training run was started with. Raises InputError for one this Banty cannot read."""
    data = dict(RunFolder.open(run).read_json("recipe.json"))
    data.pop("kind", None)
    return from_mapping(RLRecipe, data, str(run / "recipe.json"))


def _of_habit_run(run: Path, recipe: RLRecipe, rollout: Rollout, allow_code: bool) -> tuple[Learner, str]:
    kept = {
        str(place.relative_to(run)): HabitWeights.load(place)
        for place in (*checkpoints_of(RunFolder(run)), run / "weights")
        if (place / HABITS).is_file()
    }
    same = [name for name, weights in kept.items() if weights.version == rollout.version]
    if not same and not rollout.version:
        expert = expert_of(taskset_of_run(run, allow_code))
        return HabitLearner(starting_weights(recipe.policy, expert), 1.0), _sampled_by(0, "where the run started")
    if not kept:
        raise InputError(f"{run} has no weights yet, and no checkpoint")
    name = (same or list(kept))[-1]
    return HabitLearner(kept[name], 1.0), _note(rollout, kept[name].version, name)


def _of_model_run(run: Path, recipe: RLRecipe, rollout: Rollout, longest: int) -> tuple[Learner, str]:
    from banty.learn.learner import TorchLearner
    from banty.models.loading import load_model

    block = dataclasses.replace(recipe.policy, device=_device(recipe.policy.device))
    budget = max(recipe.learner.micro_batch_tokens, longest)
    versions = {place: _version_of(place) for place in checkpoints_of(RunFolder(run))}
    same = [place for place, version in versions.items() if version == rollout.version]
    if not same and rollout.version and not versions:
        if not is_model(run / "weights"):
            raise InputError(f"{run} has no weights yet, and no checkpoint")
        model = load_model(run / "weights", dtype=block.dtype, device=block.device)
        learner = TorchLearner(model, recipe.optimizer, micro_batch_tokens=budget)
        return learner, _sampled_earlier(rollout, "the final weights")
    learner = TorchLearner(open_model(block), recipe.optimizer, micro_batch_tokens=budget)
    if not same and not rollout.version:
        return learner, _sampled_by(0, "where the run started")
    place = (same or list(versions))[-1]
    learner.load(place)
    return learner, _note(rollout, learner.version, str(place.relative_to(run)))


def _of_evaluation(folder: Path, rollout: Rollout, longest: int, allow_code: bool) -> tuple[Learner, str]:
    """On the weights that an evaluation names, if they are still the ones it measured."""
    run = RunFolder.open(folder)
    recipe = run.read_json("recipe.json")
    policy, details = str(recipe.get("policy", "")), recipe.get("policy_details") or {}
    if policy == "habits" or policy.startswith("habits:"):
        chosen = policy_of(policy, taskset_of_run(folder, allow_code)).policy
        assert isinstance(chosen, HabitPolicy), "these names are the habit policy's"
        return HabitLearner(chosen.weights, 1.0), f"Trainer logprobs are on the weights that {policy} stands for."
    if not (folder / ENGINE_FILE).is_file():
        raise InputError(f"{folder} does not say where the weights of {policy or 'its policy'} are")
    engine = run.read_json(ENGINE_FILE)
    place = Path(str(engine.get("model", "")))
    if place.exists() and weights_sha256(place) != details.get("weights_sha256", ""):
        raise InputError(f"the weights in {place} are not those that {folder} measured; bring them back")
    from banty.learn.learner import TorchLearner
    from banty.models.loading import load_model
    from banty.records import OptimizerSpec

    device = _device(str(engine.get("device", "cpu")))
    model = load_model(str(place), dtype=str(engine.get("dtype", "float32")), device=device)
    learner = TorchLearner(model, OptimizerSpec(), micro_batch_tokens=max(longest, 1))
    return learner, f"Trainer logprobs are on {place}, whose answers these are."


def _device(asked: str) -> str:
    import torch

    return asked if torch.cuda.is_available() else "cpu"


def _version_of(checkpoint: Path) -> Any:
    try:
        return json.loads((checkpoint / "learner.json").read_text())["version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{checkpoint} does not hold the state of a learner: {error}") from error


def _note(rollout: Rollout, version: int, name: str) -> str:
    if version == rollout.version:
        return _sampled_by(version, name)
    return _sampled_earlier(rollout, f"version {version} ({name})")


def _sampled_earlier(rollout: Rollout, newer: str) -> str:
    return (
        f"Trainer logprobs are on {newer}. Version {rollout.version}, which sampled this rollout, is not kept, so "
        "drift is also what training changed between the two."
    )


def _sampled_by(version: int, where: str) -> str:
    return f"Trainer logprobs are on version {version}, which sampled this rollout ({where})."
