"""`banty eval` and `banty compare`: measure a policy, and two results against each other."""

from __future__ import annotations

import shlex
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from banty.cli.choices import Chosen
from banty.cli.local import ENGINE_FILE, machine_of, note_pace
from banty.cli.progress import Meter
from banty.cli.running import run_async
from banty.cli.users import User
from banty.errors import BantyError, InputError
from banty.evals import Card, EvalPlan, evaluate, latest_roots, make_card, num_done, run_baselines
from banty.perf import PhaseMeter
from banty.records import Rollout, Taskset
from banty.rollout import Cast, Store, waited_s
from banty.runs import read_metrics
from banty.runs.folder import RunFolder, manifest, write_json

USER_FILE = "user.json"


class NothingScored(BantyError):
    """An evaluation ended without one scored episode; what happened is stored."""


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
    source: str = "",
    kept: str = "",
    quiet: bool = False,
    title: str = "",
    user: User | None = None,
    out: Path | None = None,
) -> Card:
    """Evaluate into `folder`: rollouts in shards, then `card.json`. `out` is what a person names to go on, if another.

    Raises InputError for a folder that is taken, and NothingScored, with the card written, where no episode was scored.
    """
    identity = identity_of(plan, taskset, chosen, cast, user)
    claim(folder, recipe_of(identity, options, source), resume)
    engine = chosen.engine or (user.engine if user else {})
    if engine:
        write_json(folder / ENGINE_FILE, engine)
    go_on = f"--out {shlex.quote(str(out or folder))} --resume"
    kept = kept or f"finished episodes are kept; go on with the same command and {go_on}"
    used = PhaseMeter((chosen.policy,), machine_of(folder))
    started = time.perf_counter()
    succeeded = scored = errored = 0

    store = Store(folder / "rollouts")
    finished = latest_roots(store)
    done = num_done(finished)
    with Meter(f"eval {title or taskset.env}", plan.num_episodes(taskset), "episodes", quiet) as meter:

        def on_finished(rollout: Rollout) -> None:
            nonlocal succeeded, scored, errored, done
            done += 1
            scored += rollout.scored
            errored += not rollout.scored
            succeeded += bool(rollout.outcome.success)
            told = (f"success {succeeded / scored:.2f}" if scored else "", f"{errored} errored" if errored else "")
            meter.advance(", ".join(part for part in told if part), done)

        work = evaluate(plan, taskset, cast, store, on_finished, finished)
        try:
            rollouts = run_async(work, kept)
        finally:
            notes = _note_user(folder, user)
    wall_s = time.perf_counter() - started
    _note_phases(folder, used, [one for one in rollouts if one is not finished.get(one.rollout_id)], wall_s)
    if engine:
        for policy in (chosen.policy, user.policy.policy if user and user.policy else None):
            note_pace(folder, policy, "the evaluation")
    played = run_async(run_baselines(plan, taskset), kept) if baselines else {}
    expert = taskset.expert()
    words = {point: options[1] for point, options in expert.points.items()} if expert else {}
    card = make_card(identity, rollouts, played, wall_s, chosen.decode, taskset.habits(), words, notes)
    write_json(folder / "card.json", card.data)
    if not any(rollout.scored for rollout in rollouts):
        first = rollouts[0]
        raise NothingScored(
            f"none of {len(rollouts)} episodes could be scored; the first is {first.status} ({first.cause}: "
            f"{first.detail}). Mend that and add {go_on}"
        )
    return card


def unscored_words(card: Card, out: Path) -> str:
    """What episodes that were not scored do to the figures, and how to play them again; empty where all were scored."""
    missing = card.data["num_episodes"] - card.data["num_scored"]
    if not missing:
        return ""
    told = [f"{missing} of {card.data['num_episodes']} episodes are not scored"]
    if bare := sum(all(value is None for value in trials) for trials in card.successes):
        told.append(f"tasks left out because no episode of theirs is: {bare} of {len(card.successes)}")
    if 0 < len(card.data["pass_hat"]) < card.data["identity"]["num_trials"]:
        told.append(f"pass^k ends at k = {len(card.data['pass_hat'])}, the fewest scored episodes of any other task")
    return f"{'; '.join(told)}. The same command with --out {shlex.quote(str(out))} --resume plays them again"


def _note_phases(folder: Path, used: PhaseMeter, played: Sequence[Rollout], wall_s: float) -> None:
    """One line of metrics for what this sitting played; an evaluation that was gone on with has several."""
    if not played:
        return
    log = RunFolder.open(folder).metrics
    sittings = read_metrics(log.path) if log.path.exists() else []
    num_done = sittings[-1]["step"] + 1 if sittings else 0
    seconds = {"step": wall_s, "sample": wall_s, **waited_s(played)}
    log.write(num_done, {"rollout/episodes": len(played), **used.metrics(seconds)})


def _note_user(folder: Path, user: User | None) -> dict[str, Any]:
    """What the simulated user's answers showed, in this sitting and those before; kept in the folder."""
    told = user.notes() if user else {}
    if not told:
        return {}
    file = folder / USER_FILE
    before = RunFolder.open(folder).read_json(USER_FILE) if file.is_file() else {}
    again = Counter(before.get("asked_again", {})) + Counter(told["asked_again"])
    notes = {"served": sorted({*before.get("served", ()), *told["served"]}), "asked_again": dict(again)}
    write_json(file, notes)
    return notes


def identity_of(
    plan: EvalPlan, taskset: Taskset, chosen: Chosen, cast: Cast, user: User | None = None
) -> dict[str, Any]:
    return plan.identity(
        taskset,
        chosen.policy.name,
        cast.roles,
        details=chosen.details,
        role_params=cast.role_params,
        role_details=user.role_details if user else None,
    )


def recipe_of(identity: Mapping[str, Any], options: Mapping[str, Any], source: str = "") -> dict[str, Any]:
    """What an evaluation's folder says it holds; `source` is the file of a user's own environment."""
    return {"kind": "eval", "options": dict(options), **({"source": source} if source else {}), **identity}


def claim(folder: Path, wanted: Mapping[str, Any], resume: bool) -> None:
    """Make the folder this evaluation's own, or check that it is."""
    if not resume:
        RunFolder.create(folder, wanted)
        return
    found = RunFolder.open(folder).read_json("recipe.json")
    differs = [key for key in wanted if found.get(key) != wanted[key]]
    if differs:
        raise InputError(
            f"{folder} holds another evaluation: {', '.join(f'{key} is {found.get(key)!r}' for key in differs[:3])}; "
            f"asked for is {', '.join(repr(wanted[key]) for key in differs[:3])}"
        )


def eval_plan_json(
    plan: EvalPlan, taskset: Taskset, chosen: Chosen, cast: Cast, user: User | None = None
) -> dict[str, object]:
    """What `--dry-run` prints: the evaluation's identity and size."""
    return {
        **identity_of(plan, taskset, chosen, cast, user),
        "num_episodes": plan.num_episodes(taskset),
        "manifest": manifest(),
    }
