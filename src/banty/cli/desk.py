"""A cell of an experiment that is trained on decision trees, and the trees it is trained on."""

from __future__ import annotations

import fcntl
import functools
import time
from pathlib import Path

from banty import __version__
from banty.cli.choices import expert_of
from banty.cli.rewards import rewards_of
from banty.cli.training import starting_weights, tasksets_of
from banty.desk import Desk, Setting, choose_trees, desk_of, load_desk, save_desk, simulate
from banty.errors import StoreError
from banty.records import Taskset, derive, sha256_json
from banty.rubrics import Labeller, RewardFile, packaged, read_reward_file
from banty.runs import commit_of
from banty.sweeps import CellRun, runs_line
from banty.train.recipe import DeskBlock, RLRecipe

_NOTHING = "outcome"
_LOOKED_AT = 8
_DIGITS = 16


def run_on_desk(recipe: RLRecipe, block: DeskBlock, cell: CellRun, allow_code: bool) -> dict[str, object]:
    """Train the runs of a cell: its result. The trees are kept in `desks` beside the sweeps' folders, and shared."""
    taskset = tasksets_of(recipe, allow_code)[""]
    files, name = reward_files(recipe, allow_code)
    desk = kept_desk(recipe, block, taskset, files, cell.folder.parents[2] / "desks")
    began = time.perf_counter()
    start = starting_weights(recipe.policy, expert_of(taskset)).logits
    seeds = [derive(recipe.train.seed, "run", number) for number in range(block.runs)]
    curves = simulate(desk, setting_of(recipe, name), start, seeds)
    return runs_line(
        cell.note,
        curves.success,
        {"turns": curves.turns, "rms": curves.rms, "dead": curves.dead},
        tasks=sha256_json([*desk.tasks, recipe.train.max_turns])[:_DIGITS],
        num_tasks=len(desk.tasks),
        target=block.target,
        keep=block.keep == "runs",
        more={
            "commit": commit_of(),
            "banty": __version__,
            "num_looked_at": desk.num_looked_at,
            "num_leaves": desk.num_leaves,
            "lapses": dict(zip(desk.points, curves.lapses.mean(axis=0).round(5).tolist(), strict=True)),
            "tier_mean": {tier: round(value, 4) for tier, value in curves.tier_mean.items()},
            "tier_share": {tier: round(value, 4) for tier, value in curves.tier_share.items()},
            "seconds": round(time.perf_counter() - began, 2),
        },
    )


def setting_of(recipe: RLRecipe, rewards: str) -> Setting:
    """What the desk needs to know of a recipe, whose turn rewards are in its tables under the name `rewards`."""
    train = recipe.train
    return Setting(
        rewards=rewards,
        credit=recipe.credit,
        learning_rate=recipe.optimizer.learning_rate,
        steps=train.steps,
        tasks_per_step=train.tasks_per_step,
        rollouts_per_task=train.rollouts_per_task,
        aggregation=recipe.loss.aggregation,
        constant_tokens=recipe.loss.constant_tokens,
        reward_scale=tuple(recipe.rewards.scale_at(step) for step in range(train.steps)),
    )


def reward_files(recipe: RLRecipe, allow_code: bool) -> tuple[dict[str, RewardFile], str]:
    """The packaged reward files and the recipe's own, by the names their values have in the tables; and its name."""
    files = {name: read_reward_file(name) for name in packaged()}
    own = rewards_of(recipe, allow_code)
    if own is None or recipe.rewards.file in files:
        return files, recipe.rewards.file or _NOTHING
    return {**files, own.sha256: own}, own.sha256


def kept_desk(recipe: RLRecipe, block: DeskBlock, taskset: Taskset, files: dict[str, RewardFile], folder: Path) -> Desk:
    """The tables of a recipe's tasks, from `folder` or played through once and put there; another process waits."""
    identity = {
        "banty": __version__,
        "env": recipe.env.name,
        "tasks": taskset.fingerprint(recipe.env.split, _LOOKED_AT),
        "split": recipe.env.split,
        "max_turns": recipe.train.max_turns,
        "num_tasks": block.num_tasks,
        "max_leaves": block.max_leaves,
        "rewards": {name: file.sha256 for name, file in files.items()},
    }
    place = folder / f"{sha256_json(identity)[:_DIGITS]}.npz"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = place.with_suffix(".lock").open("w")
    except OSError as error:
        raise StoreError(f"could not write into {folder}: {error.strerror or error}") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if place.is_file():
            return _loaded(place)
        labellers = {name: Labeller(taskset, file) for name, file in files.items()}
        trees, num_looked_at = choose_trees(
            taskset,
            recipe.env.split,
            block.num_tasks,
            labellers,
            max_turns=recipe.train.max_turns,
            max_leaves=block.max_leaves,
        )
        desk = desk_of(trees, tuple(expert_of(taskset).points), num_looked_at)
        save_desk(desk, place)
        return desk


@functools.lru_cache(maxsize=2)
def _loaded(place: Path) -> Desk:
    """The tables of a file, once a process: its name says all that is in it."""
    return load_desk(place)
