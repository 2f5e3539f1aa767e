"""How far `banty plan` is off: predictions for six recipes, written down first, then a few steps of each.

    PYTHONPATH=. python benchmarks/plan_error.py predict     # writes docs/results/data/plan.json; commit it
    PYTHONPATH=. python benchmarks/plan_error.py run         # runs what was predicted, and prints the errors

Each recipe is `recipes/demo.toml` with something changed. A prediction and a run are processes of their own, on two
threads: left to measure for themselves, they may settle on different numbers. A run does `--steps` steps; its step time
is the median of all but the first, which builds kernels, beside the range; its memory the process's peak. An error is
(predicted - real) / real.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from banty.runs import read_metrics, write_text

ROOT = Path(__file__).parents[1]
PREDICTIONS = ROOT / "docs" / "results" / "data" / "plan.json"
RECIPES: dict[str, list[str]] = {
    "the demo": [],
    "twice the tasks": ["train.tasks_per_step=16"],
    "16 a task, 32 at once": ["train.rollouts_per_task=16", "train.tasks_per_step=4", "train.concurrency=32"],
    "float32": ["policy.dtype=float32"],
    "an adapter": ["policy.lora_rank=16"],
    "trainer's logprobs, two epochs": ["train.old_logprobs=trainer", "train.epochs=2"],
}
QUICK = ["eval.num_tasks=2", "eval.num_trials=1", "eval.also={}", "policy.threads=2"]


def banty(*words: str) -> str:
    command = [sys.executable, "-c", "from banty.cli import main; main()", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout


def predicted(changes: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(banty("plan", "recipes/demo.toml", *changes, *QUICK, "--json"))
    return found


def real(changes: list[str], steps: int) -> dict[str, Any]:
    """What a run of `steps` steps took, from its metrics."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        banty("train", "recipes/demo.toml", *changes, *QUICK, f"train.steps={steps}", "--out", str(run), "--json")
        rows = read_metrics(run / "metrics.jsonl")[1:]
    seconds = [row["time/step_s"] + row["time/last_checkpoint_s"] for row in rows]
    return {
        "step_s": statistics.median(seconds),
        "least_s": min(seconds),
        "most_s": max(seconds),
        "sampled_tokens": statistics.median(row["tokens/sampled"] for row in rows),
        "memory_bytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,  # of the largest so far
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["predict", "run", "one"])
    parser.add_argument("name", nargs="?", default="")
    parser.add_argument("--steps", type=int, default=6)
    args = parser.parse_args()
    if args.what == "predict":
        found = {name: predicted(changes) for name, changes in RECIPES.items()}
        PREDICTIONS.parent.mkdir(parents=True, exist_ok=True)
        write_text(PREDICTIONS, json.dumps(found, indent=2) + "\n")
        print(f"{len(found)} predictions in {PREDICTIONS.relative_to(ROOT)}; commit them, then run")
        return
    if args.what == "one":  # a process of its own, so that its peak memory is its child's
        print(json.dumps(real(RECIPES[args.name], args.steps)))
        return
    told = json.loads(PREDICTIONS.read_text())
    worst: dict[str, float] = {}
    print(f"n = {args.steps - 1} steps each")
    print(f"{'recipe':32} {'step s: planned':>15} {'real (range)':>22} {'error':>6} {'tokens':>7} {'memory':>7}")
    for name in RECIPES:
        command = [sys.executable, __file__, "one", name, "--steps", str(args.steps)]
        found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout)
        errors = {key: told[name][key] / found[key] - 1 for key in ("step_s", "sampled_tokens", "memory_bytes")}
        worst = {key: max(worst.get(key, 0.0), abs(error)) for key, error in errors.items()}
        spread = f"{found['step_s']:.2f} ({found['least_s']:.2f} - {found['most_s']:.2f})"
        each = " ".join(f"{error:+7.0%}" for error in errors.values())
        print(f"{name:32} {told[name]['step_s']:15.2f} {spread:>22} {each}", flush=True)
    print("worst " + ", ".join(f"{key} {error:.0%}" for key, error in worst.items()))


if __name__ == "__main__":
    main()
