"""Measure a built nano and write its card: `README.md` and `nano.json` beside the weights.

    python -m recipes.nano.measure runs/nano/nano
    python -m recipes.nano.measure runs/nano/nano --tasks 100 --trials 8 --threads 1

Held-out customers in the training templates, then in templates of their own; sampled at temperature 1 and greedy.
Success, pass@k and pass^k, and each habit by itself, all with 95 % intervals clustered by task.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from banty.cli.show import interval
from banty.envs.airline.tasks import GeneratedTasks
from banty.evals import Card, EvalPlan, evaluate, make_card
from banty.models.loading import load_model
from banty.policies.token import TokenPolicy
from banty.records import Limits, SamplingParams
from banty.rollout import Cast

HERE = Path(__file__).parent
MAX_TURNS, MAX_TOKENS = 16, 80


@dataclass(frozen=True)
class Setting:
    """One row of the card."""

    name: str
    phrasing: Any
    temperature: float
    num_trials: int


def settings(num_trials: int) -> list[Setting]:
    return [
        Setting("held-out customers, sampled", "train", 1.0, num_trials),
        Setting("held-out customers, greedy", "train", 0.0, 1),
        Setting("held-out customers and phrasings, sampled", "own", 1.0, num_trials),
    ]


def measure(folder: Path, setting: Setting, num_tasks: int, split: str = "test") -> Card:
    """The card of nano in one setting."""
    policy = TokenPolicy.of(load_model(folder, dtype="bfloat16"), name="nano", max_tokens=MAX_TOKENS)
    taskset = GeneratedTasks("mini", phrasing=setting.phrasing)
    plan = EvalPlan(
        split=split,
        num_tasks=num_tasks,
        num_trials=setting.num_trials,
        seed=1,
        params=SamplingParams(temperature=setting.temperature),
        limits=Limits(max_turns=MAX_TURNS),
    )
    began = time.perf_counter()
    rollouts = asyncio.run(evaluate(plan, taskset, Cast(policy)))
    wall_s = time.perf_counter() - began
    return make_card(plan.identity(taskset, policy.name), rollouts, {}, wall_s, None, taskset.habits())


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def shown(data: Any) -> str:
    """An interval as the terminal shows it; a dash for a k nobody measured."""
    return interval(data) if data else "-"


def results_text(cards: dict[str, Card]) -> str:
    """The tables of the model card."""
    lines = ["| `airline/mini`, test | pass@1 | pass@8 | pass^4 | n |", "|---|---|---|---|---|"]
    for name, card in cards.items():
        data = card.data
        size = f"{len(data['tasks'])} x {data['identity']['num_trials']}"
        row = [name, shown(data["success"]), shown(data["pass_at"].get("8")), shown(data["pass_hat"].get("4")), size]
        lines.append(f"| {' | '.join(row)} |")
    first = next(iter(cards.values())).data
    lines += ["", "| habit | episodes that show it, of those where it can | episodes |", "|---|---|---|"]
    for row in first["habits"].values():
        lines.append(f"| {row['lapse']} | {shown(row)} | {row['lapses']} of {row['chances']} |")
    means = {name: "-" if value is None else f"{value:.3g}" for name, value in first["behaviour"].items()}
    lines += [
        "",
        f"{means['turns_per_episode']} turns and {means['calls_per_episode']} calls an episode; a share of "
        f"{means['call_error_share']} of the calls errs, {means['capped_share']} of the episodes reach the cap of "
        f"{MAX_TURNS} turns.",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tasks", type=int, default=100)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cards = {setting.name: measure(args.folder, setting, args.tasks) for setting in settings(args.trials)}
    record = args.folder / "nano.json"
    notes = json.loads(record.read_text()) if record.exists() else {}
    notes["weights_sha256"] = sha256(args.folder / "model.safetensors")
    notes["tokenizer_sha256"] = sha256(args.folder / "tokenizer.json")
    notes["measured"] = {
        name: {key: card.data[key] for key in ("success", "pass_at", "pass_hat", "habits", "behaviour", "num_episodes")}
        for name, card in cards.items()
    }
    record.write_text(json.dumps(notes, indent=2) + "\n")
    text = (HERE / "card.md").read_text(encoding="utf-8")
    build = ", ".join(f"{name} {value}" for name, value in notes.get("build", {}).items())
    for name, value in (
        ("RESULTS", results_text(cards)),
        ("BUILD", build),
        ("SHA256", notes["weights_sha256"]),
        ("SECONDS", f"{notes.get('seconds', 0) / 60:.0f}"),
        ("MACHINE", notes.get("machine", "unknown")),
    ):
        text = text.replace(f"{{{{{name}}}}}", value)
    (args.folder / "README.md").write_text(text, encoding="utf-8")
    print(results_text(cards))


if __name__ == "__main__":
    main()
