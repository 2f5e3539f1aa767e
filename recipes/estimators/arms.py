"""Writes the experiments of the estimator study: dev.toml, in which every arm tries every learning rate on tasks and
seeds of its own; from its results main.toml, in which every arm has the rate that was best there; and matched.toml, in
which all have one small rate, as language models do.

    python -m recipes.estimators.arms dev
    banty sweep recipes/estimators/dev.toml --data runs/data
    python -m recipes.estimators.arms main --data runs/data
    banty sweep recipes/estimators/main.toml
    banty sweep recipes/estimators/matched.toml
    python -m recipes.estimators.report

The best rate is the one with the highest mean success over all steps (`auc`), as frozen here before either was run.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RATES = (0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2)
REWARDS = {"outcome": "", "naive": "naive-dense", "irc": "irc"}
ESTIMATORS: Mapping[str, Mapping[str, Any]] = {
    "rloo": {"estimator": "rloo"},
    "grpo": {"estimator": "grpo"},
    "dr_grpo": {"estimator": "dr_grpo"},
    "mt_grpo": {"estimator": "mt_grpo"},
    "gtpo": {"estimator": "gtpo"},
    "gtpo_pooled": {"estimator": "gtpo", "compare": "pooled"},
    "hybrid": {"estimator": "hybrid"},
    "gigpo": {"estimator": "gigpo"},
    "gdpo": {"estimator": "gdpo"},
    "unbiased": {"estimator": "unbiased"},
}
EXPLORATORY: Mapping[str, Mapping[str, Any]] = {
    "mt_additive": {"estimator": "mt_grpo", "variant": "additive"},
    "mt_two_stage": {"estimator": "mt_grpo", "variant": "two_stage"},
    "unbiased_left_out": {"estimator": "unbiased", "ended": "left_out"},
}
TOTALLED = ("rloo", "grpo", "dr_grpo")
"""They see the outcome alone, so with turn rewards they are given their sum."""


def arms() -> dict[str, tuple[dict[str, Any], bool]]:
    """What each arm sets, and whether it is exploratory."""
    found = {}
    for rewards, file in REWARDS.items():
        for name, credit in {**ESTIMATORS, **(EXPLORATORY if file else {})}.items():
            sets = {f"credit.{key}": value for key, value in credit.items()}
            if file:
                sets["rewards.file"] = file
            if file and name in TOTALLED:
                sets["credit.total"] = True
            found[f"{name}-{rewards}"] = (sets, name in EXPLORATORY)
    return found


def dev() -> str:
    lines = [
        "# Learning rates for main.toml: every arm with every rate, on dev tasks and seeds. Written by arms.py.",
        "",
        'recipe = "desk.toml"',
        'name = "estimators-dev"',
        'question = "Which learning rate learns fastest, for each estimator under each reward?"',
        "seeds = [1000]",
        "",
        "[set]",
        'env.split = "dev"',
        "desk.num_tasks = 8",
        "desk.max_leaves = 1200",
        "desk.runs = 200",
        'desk.keep = "summary"',
    ]
    for name, (sets, _) in arms().items():
        for rate in RATES:
            lines += _arm(f"{name}-{_digits(rate)}", {**sets, "optimizer.learning_rate": rate}, exploratory=False)
    return "\n".join(lines) + "\n"


def main_sweep(data: Path) -> tuple[str, dict[str, Any]]:
    """The main experiment, and the dev results that it was made of."""
    lines = [
        "# Every estimator under outcome, naive dense and calibrated rewards, each at the learning rate that dev.toml",
        "# found. Written by arms.py.",
        "",
        'recipe = "desk.toml"',
        'name = "estimators"',
        'question = "On the habit policy, which estimator learns fastest and ends highest, and do dense rewards help?"',
        "seeds = 1            # of 1,000 runs, which share their draws between arms",
        'baseline = "rloo-outcome"',
    ]
    tried: dict[str, Any] = {}
    for name, (sets, exploratory) in arms().items():
        tried[name] = {rate: _dev_result(data, f"{name}-{_digits(rate)}") for rate in RATES}
        best = max(RATES, key=lambda rate: tried[name][rate]["auc"]["mean"])
        lines += _arm(name, {**sets, "optimizer.learning_rate": best}, exploratory)
    return "\n".join(lines) + "\n", tried


def matched() -> str:
    lines = [
        "# Every estimator at one small learning rate: advantages have one scale, so steps have about one length, and",
        "# what differs is where they point. Written by arms.py.",
        "",
        'recipe = "desk.toml"',
        'name = "estimators-matched"',
        'question = "At the same small steps, which estimator points best, and do dense rewards help?"',
        "seeds = 1",
        'baseline = "rloo-outcome"',
        "",
        "[set]",
        f"optimizer.learning_rate = {RATES[0]}",
        'desk.keep = "summary"',
    ]
    for name, (sets, exploratory) in arms().items():
        lines += _arm(name, sets, exploratory)
    return "\n".join(lines) + "\n"


def _dev_result(data: Path, arm: str) -> dict[str, Any]:
    (line,) = (data / "estimators-dev" / f"{arm}.jsonl").read_text().splitlines()
    cell = json.loads(line)
    kept = {name: {key: round(cell["of_runs"][name][key], 5) for key in ("mean", "sd")} for name in ("auc", "final")}
    return {**kept, "num_runs": cell["num_runs"], "frozen": cell["frozen"]}


def _arm(name: str, sets: Mapping[str, Any], exploratory: bool) -> list[str]:
    flag = ["exploratory = true"] if exploratory else []
    return ["", f"[arms.{name}]", *flag, *(f"set.{key} = {json.dumps(value)}" for key, value in sets.items())]


def _digits(rate: float) -> str:
    return f"{rate:g}".replace(".", "p")


def write() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("dev", "main"))
    parser.add_argument("--data", type=Path, default=Path("runs/data"), help="where the results of dev.toml are")
    asked = parser.parse_args()
    if asked.what == "dev":
        (HERE / "dev.toml").write_text(dev())
        return
    text, tried = main_sweep(asked.data)
    (HERE / "main.toml").write_text(text)
    (HERE / "matched.toml").write_text(matched())
    (HERE / "rates.json").write_text(json.dumps(tried) + "\n")


if __name__ == "__main__":
    write()
