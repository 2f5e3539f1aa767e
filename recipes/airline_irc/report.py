"""The tables of docs/results/airline_irc.md, from whatever cells exist; missing ones are named.

    python -m recipes.airline_irc.report --runs runs/airline-irc --base BASE   # once, where the run folders are
    python -m recipes.airline_irc.report                                     # from the committed results alone

The first also measures what needs rollouts: which way each tier was pushed, and how often each habit lapses at the end.
BASE is the evaluation of the base model that the page names.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recipes.pages import table, with_tables

from banty.evals import read_card
from banty.runs import write_text
from banty.stats import compare_over_seeds, seed_interval
from banty.sweeps import read_sweep

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
PAGE = ROOT / "docs" / "results" / "airline_irc.md"
DATA = ROOT / "docs" / "results" / "data" / "airline-irc"
CALIBRATED = str(HERE / "calibrated.toml")
SCORED = {
    "base, naive-dense, mt_grpo": ("base", "naive-dense", "mt_grpo"),
    "base, naive-dense, hybrid": ("base", "naive-dense", "hybrid"),
    "base, calibrated, hybrid": ("base", CALIBRATED, "hybrid"),
    "after naive-mt-grpo, its own": ("naive-mt-grpo", "naive-dense", "mt_grpo"),
    "after calibrated-hybrid, its own": ("calibrated-hybrid", CALIBRATED, "hybrid"),
}
"""Whose rollouts, under which rewards and estimator: of an arm, those of its first seed's last evaluation."""
Line = Mapping[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, help="Folder of the sweep's runs.")
    parser.add_argument("--base", type=Path, help="Folder of the base model's evaluation.")
    args = parser.parse_args()
    sweep = read_sweep(HERE / "main.toml")
    measured = DATA / "measured.json"
    if args.runs and args.base:
        found = {"directions": _directions(args.runs, args.base), "habits": _habits(args.runs, list(sweep.arms))}
        write_text(measured, json.dumps(found, indent=1) + "\n")
    more = json.loads(measured.read_text()) if measured.exists() else {"directions": {}, "habits": {}}
    lines = {arm: _lines(arm) for arm in sweep.arms}
    tables = {
        "results": _results(sweep, lines),
        "pass4": _results(sweep, lines, "4"),
        "curves": _curves(lines),
        "directions": _direction_table(more["directions"]),
        "habits": _habit_table(more["habits"]),
    }
    PAGE.write_text(with_tables(PAGE.read_text(), tables))
    print(f"tables of {PAGE.relative_to(ROOT)}")


def _lines(arm: str) -> dict[int, Line]:
    file = DATA / f"{arm}.jsonl"
    found = [json.loads(row) for row in file.read_text().splitlines()] if file.exists() else []
    return {line["seed"]: line for line in found if "failed" not in line}


def _results(sweep: Any, lines: Mapping[str, Mapping[int, Line]], power: str = "") -> str:
    """Success after training, or pass^`power`: mean over seeds, and the paired difference from the baseline."""

    def values(arm: str, when: str = "after") -> dict[int, float]:
        cells = lines[arm].items()
        return {seed: line[when]["pass_hat"][power] if power else line[when]["success"] for seed, line in cells}

    base = values(sweep.baseline)
    rows, missing = [], []
    for arm in sweep.arms:
        after = values(arm)
        lost = [seed for seed in sweep.seeds_of(arm) if seed not in after]
        missing += [f"{arm} {', '.join(map(str, lost))}"] if lost else []
        shared = sorted(after.keys() & base.keys())
        versus = (
            compare_over_seeds([after[seed] for seed in shared], [base[seed] for seed in shared], paired=True)
            if arm != sweep.baseline and shared
            else None
        )
        exploratory = sweep.arms[arm].exploratory
        mde = None if versus is None else versus.mde
        rows.append(
            (
                arm,
                f"{len(after)}",
                _interval(seed_interval(list(values(arm, "before").values()), bounds=(0.0, 1.0))),
                _interval(seed_interval(list(after.values()), bounds=(0.0, 1.0))),
                "-" if versus is None else _interval(versus.difference, signed=True),
                "-" if mde is None else f"{mde:.3f}",
                "baseline" if versus is None else "exploratory" if exploratory else versus.verdict,
            )
        )
    head = ("arm", "seeds", "before", "after", f"minus {sweep.baseline}", "MDE", "verdict")
    note = f"\n\nMissing cells: {'; '.join(missing)}." if missing else ""
    return table(head, rows) + note


def _curves(lines: Mapping[str, Mapping[int, Line]]) -> str:
    """Success while training, mean over seeds of four steps each."""
    rows = []
    for arm, cells in lines.items():
        curves = [line["curve"]["rollout/success"] for line in cells.values()]
        if curves:
            mean = [sum(values) / len(values) for values in zip(*curves, strict=True)]
            fours = [mean[first : first + 4] for first in range(0, len(mean), 4)]
            rows.append((arm, *(f"{sum(four) / len(four):.2f}" for four in fours)))
    most = max((len(row) for row in rows), default=1) - 1
    return table(("arm", *(f"steps {4 * part + 1}-{4 * part + 4}" for part in range(most))), rows)


def _directions(runs: Path, base: Path) -> dict[str, Any]:
    found = {}
    for name, (whose, rewards, estimator) in SCORED.items():
        folder = base if whose == "base" else runs / whose / "seed-0" / "eval-after"
        command = [sys.executable, "-c", "from banty.cli import main; main()", "calibrate", str(folder)]
        command += ["--rewards", rewards, "--credit", estimator, "--json"]
        told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        keys = ("tier", "intended", "turns", "own", "outcome", "mean", "flip", "dead", "share", "mismatch")
        found[name] = {
            "tiers": [{key: row[key] for key in keys} for row in told["before"]["directions"]],
            "metrics": told["before"]["metrics"],
        }
    return found


def _direction_table(directions: Mapping[str, Any]) -> str:
    rows = []
    for name, found in directions.items():
        for row in found["tiers"]:
            if not row["turns"]:
                continue
            meant = {1: "+", 0: "none", -1: "-"}[row["intended"]]
            mean = row["mean"]
            rows.append(
                (
                    name,
                    row["tier"],
                    str(row["turns"]),
                    f"{row['own']:+.2f}" if row["own"] is not None else "-",
                    f"{row['outcome']:+.2f}" if row["outcome"] is not None else "-",
                    f"{mean['estimate']:+.2f} [{mean['low']:+.2f}, {mean['high']:+.2f}]"
                    if mean["low"] is not None
                    else "-",
                    meant,
                    "**yes**" if row["mismatch"] else "no",
                    f"{row['share']:.2f}",
                )
            )
    head = (
        "rollouts, rewards, estimator",
        "tier",
        "turns",
        "A^I",
        "A^O",
        "mean advantage",
        "meant",
        "mismatch",
        "share",
    )
    return table(head, rows)


def _habits(runs: Path, arms: Sequence[str]) -> dict[str, dict[str, float]]:
    """By arm, each habit's rate in all seeds' last evaluations, and before training."""
    found: dict[str, dict[str, float]] = {}
    for arm in arms:
        folders = sorted((runs / arm).glob("seed-*"))
        for name, when in (("before", "eval-before"), (arm, "eval-after")):
            cards = [read_card(folder / when).data["habits"] for folder in folders if (folder / when).is_dir()]
            if cards:
                rates = {habit: [card[habit]["estimate"] for card in cards] for habit in cards[0]}
                found[name] = {habit: sum(given) / len(given) for habit, given in rates.items() if None not in given}
    return found


def _habit_table(habits: Mapping[str, Mapping[str, float]]) -> str:
    names = list(next(iter(habits.values()), {}))
    return table(
        ("", *names), [(arm, *(f"{rates.get(name, 0.0):.2f}" for name in names)) for arm, rates in habits.items()]
    )


def _interval(interval: Any, signed: bool = False) -> str:
    form = "+.3f" if signed else ".3f"
    if interval.estimate is None:
        return "-"
    ends = "" if interval.low is None else f" [{interval.low:{form}}, {interval.high:{form}}]"
    return f"{interval.estimate:{form}}{ends}"


if __name__ == "__main__":
    main()
