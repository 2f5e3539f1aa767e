"""`banty eval` and `banty compare`: measure a policy, and two results against each other."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from banty.cli.choices import Chosen
from banty.cli.progress import Meter
from banty.cli.running import run_async
from banty.errors import InputError
from banty.evals import Card, EvalPlan, evaluate, make_card, run_baselines
from banty.records import Rollout, Taskset
from banty.rollout import Cast, Store
from banty.runs.folder import RunFolder, manifest, write_json


def run_eval(
    plan: EvalPlan,
    taskset: Taskset,
    chosen: Chosen,
    cast: Cast,
    folder: Path,
    *,
    resume: bool,
    baselines: bool,
    options: Mapping[str, Any],
    kept: str = "",
    quiet: bool = False,
) -> Card:
    """Evaluate into `folder`: rollouts in shards, then `card.json`. Raises InputError for a folder that is taken."""
    identity = plan.identity(taskset, chosen.policy.name, cast.roles)
    _claim(folder, {"kind": "eval", "options": dict(options), **identity}, resume)
    size = plan.num_tasks or taskset.splits[plan.split]
    kept = kept or f"finished episodes are kept; go on with the same command and --out {folder} --resume"
    started = time.perf_counter()
    succeeded = scored = 0

    with Meter(f"eval {taskset.env}", size * plan.num_trials, "episodes", quiet) as meter:

        def on_finished(rollout: Rollout) -> None:
            nonlocal succeeded, scored
            scored += rollout.scored
            succeeded += bool(rollout.outcome.success)
            meter.advance(f"success {succeeded / scored:.2f}" if scored else "")

        work = evaluate(plan, taskset, cast, Store(folder / "rollouts"), on_finished)
        rollouts = run_async(work, kept)
    wall_s = time.perf_counter() - started
    played = run_async(run_baselines(plan, taskset), kept) if baselines else {}
    card = make_card(identity, rollouts, played, wall_s, chosen.decode)
    write_json(folder / "card.json", card.data)
    return card


def _claim(folder: Path, wanted: Mapping[str, Any], resume: bool) -> None:
    """Make the folder this evaluation's own, or check that it is."""
    if not (folder / "manifest.json").exists():
        RunFolder.create(folder, wanted)
        return
    if not resume:
        raise InputError(f"{folder} already holds a run; name another --out, or add --resume to go on with it")
    found = RunFolder.open(folder).read_json("recipe.json")
    differs = [key for key in wanted if found.get(key) != wanted[key]]
    if differs:
        raise InputError(
            f"{folder} holds another evaluation: {', '.join(f'{key} is {found.get(key)!r}' for key in differs[:3])}; "
            f"asked for is {', '.join(repr(wanted[key]) for key in differs[:3])}"
        )


def eval_plan_json(plan: EvalPlan, taskset: Taskset, cast: Cast) -> dict[str, object]:
    """What `--dry-run` prints: the evaluation's identity and size."""
    size = plan.num_tasks or taskset.splits[plan.split]
    return {
        **plan.identity(taskset, cast.agent.name, cast.roles),
        "num_episodes": size * plan.num_trials,
        "manifest": manifest(),
    }
