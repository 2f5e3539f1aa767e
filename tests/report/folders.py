"""Run folders written by hand: as much or as little of one as a test asks for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from tests import rollouts_by_hand as by_hand
from tests.evals.toy_desk import GuessingTasks

from banty.evals import Card, EvalPlan, make_card
from banty.evals.audit import AUDIT_FILE, FORMAT
from banty.records import Rollout, SamplingParams
from banty.rollout import Store
from banty.runs import RunFolder
from banty.runs.folder import write_json

RL = {
    "kind": "rl",
    "env": {"name": "hand/made", "options": {}, "split": "train"},
    "policy": {"type": "model", "start": "models/nano", "dtype": "float32"},
    "train": {"steps": 4},
}
SFT = {
    "kind": "sft",
    "env": None,
    "policy": {"type": "model", "start": "models/nano"},
    "train": {"steps": 0, "epochs": 2, "batch_size": 8},
}
BEFORE = [[0, 0], [0, 1], [1, 1], [0, 0]]
AFTER = [[1, 1], [1, 1], [1, 1], [0, 1]]


def rollouts(successes: Sequence[Sequence[int | None]]) -> list[Rollout]:
    """One scored rollout for each 0 and 1, an errored one for each None."""
    return [
        by_hand.rollout(
            [by_hand.turn(0)], bool(value), of=by_hand.task(index), trial=trial, components={"ended": float(value)}
        )
        if value is not None
        else by_hand.rollout([by_hand.turn(0)], of=by_hand.task(index), trial=trial, cause="simulator")
        for index, trials in enumerate(successes)
        for trial, value in enumerate(trials)
    ]


def card_of(told: Sequence[Rollout], policy: str, temperature: float = 1.0, num_trials: int = 2) -> Card:
    plan = EvalPlan(num_trials=num_trials, params=SamplingParams(temperature=temperature))
    identity = plan.identity(GuessingTasks(), policy) | {"env": "hand/made", "num_tasks": None}
    baselines = {"do-nothing": rollouts([[0], [0], [0], [0]])}
    return make_card(identity, told, baselines, 2.5)


def add_eval(folder: Path, told: Sequence[Rollout], card: Card | None, kind: str = "eval") -> Path:
    """An evaluation's folder; without a card it is one that has not ended."""
    recipe = {"kind": kind, "env": "hand/made", "policy": "nano", "num_tasks": 4, "num_trials": 2}
    RunFolder.create(folder, recipe)
    Store(folder / "rollouts").write("shard-000000", told)
    if card is not None:
        write_json(folder / "card.json", card.data)
    return folder


def audit_json(card: Card, allowed: bool = True, split: str = "train") -> dict[str, Any]:
    """An audit as it lies beside a card, in as few words as will do."""
    verdict = "may be called held-out: they share nothing that was looked for"
    return {
        "format": FORMAT,
        "may_be_called_held_out": allowed,
        "sentence": f"A result {verdict if allowed else 'must not be called held-out: they share tasks (3 of 4)'}.",
        "train": {"name": f"hand/made {split}", "num_tasks": 9, "env": "hand/made", "split": split},
        "test": {"tasks_sha256": card.data["identity"]["tasks_sha256"]},
        "overlaps": [{"measure": "text", "level": "none" if allowed else "overlapping"}],
        "overlapping_tasks": [] if allowed else ["1", "2", "3"],
    }


def add_both(run: Path, name: str = "") -> None:
    """Evaluations before and after, with their cards and audits."""
    suffix = f"-{name}" if name else ""
    for when, successes in (("before", BEFORE), ("after", AFTER)):
        told = rollouts(successes)
        card = card_of(told, f"nano {when}")
        folder = add_eval(run / f"eval-{when}{suffix}", told, card)
        write_json(folder / AUDIT_FILE, audit_json(card))


def add_steps(run: Path, count: int, kind: str = "rl") -> None:
    log = RunFolder.open(run).metrics
    for step in range(count):
        timed = {"time/train_s": 10.0, "time/step_s": 30.0, "train/loss": 0.5 - 0.1 * step, "train/grad_norm": 1.0}
        if kind == "rl":
            timed |= {"rollout/success": 0.25 * step, "rollout/turns": 5.0, "rollout/episodes": 16}
            timed |= {"tokens/sampled": 300, "tokens/prompt": 900, "time/sample_s": 15.0, "rollout/errored": 0}
        log.write(step, timed)


def new_run(folder: Path, recipe: Mapping[str, Any] = RL) -> Path:
    RunFolder.create(folder, recipe)
    return folder


def whole_run(folder: Path) -> Path:
    """A finished run: four steps, both evaluations."""
    new_run(folder)
    add_steps(folder, 4)
    add_both(folder)
    write_json(folder / "engine.json", {"threads": 2, "dtype": "float32", "device": "cpu", "torch": "2"})
    write_json(folder / "result.json", {})
    manifest = json.loads((folder / "manifest.json").read_text())
    write_json(folder / "manifest.json", {**manifest, "num_cpus": 4})
    return folder


def pictures(page: str) -> list[ElementTree.Element]:
    """Every SVG of a page, parsed as XML."""
    parts = page.split("<svg")[1:]
    return [ElementTree.fromstring("<svg" + part.split("</svg>")[0] + "</svg>") for part in parts]
